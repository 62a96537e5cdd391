/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_CRC32C_H
#define CFS_BASE_CRC32C_H

#include "base/defs.h"

/* CRC-32C (Castagnoli, RFC 3720 B.4). Chain by passing the last result as seed; start with 0. */
uint32_t crc32c(uint32_t seed, const void *bytes, size_t count);

#endif
