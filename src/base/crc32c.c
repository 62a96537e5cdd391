/* SPDX-License-Identifier: MIT */
#include "base/crc32c.h"

#include <isa-l/crc.h>

uint32_t crc32c(uint32_t seed, const void *bytes, size_t count)
{
    /* ISA-L takes the register itself and a non-const pointer, which it does not write through;
     * its length is an int, so long runs go in pieces. */
    uint32_t state = ~seed;
    const uint8_t *cursor = bytes;
    while (count > 0) {
        size_t piece = MIN(count, (size_t)(1u << 30));
        state = crc32_iscsi((unsigned char *)(uintptr_t)cursor, (int)piece, state);
        cursor += piece;
        count -= piece;
    }
    return ~state;
}
