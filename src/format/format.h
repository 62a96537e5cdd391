/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_FORMAT_H
#define CFS_FORMAT_FORMAT_H

/* Rules for every struct that leaves the process: fixed width, little-endian, naturally aligned,
 * explicit padding that is zero, sizes asserted with FORMAT_SIZE. Used in place; lengths are
 * checked once. */

#include <stddef.h>
#include <stdint.h>

#define FORMAT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has a fixed size")
#define FORMAT_OFFSET(type, field, bytes)                                                          \
    _Static_assert(offsetof(type, field) == (bytes), #type "." #field " has a fixed place")

struct format_uuid {
    uint8_t bytes[16];
};

#endif
