/* SPDX-License-Identifier: MIT */
#include "cell.h"

#include <string.h>

#include "base/hash.h"

enum { WORDS = CELL_BYTES / 8 };

static uint64_t word_of(uint32_t stamp, uint64_t place, uint32_t index)
{
    if (stamp == CELL_ZERO)
        return 0;
    return (uint64_t)stamp << 32 | (uint32_t)hash_u64(place * WORDS + index + stamp);
}

void cell_fill(void *cell, uint32_t stamp, uint64_t place)
{
    for (uint32_t i = 0; i < WORDS; i++) {
        uint64_t word = word_of(stamp, place, i);
        memcpy((uint8_t *)cell + i * sizeof word, &word, sizeof word);
    }
}

uint32_t cell_stamp(const void *cell, uint64_t place)
{
    uint64_t word;
    memcpy(&word, cell, sizeof word);
    uint32_t stamp = (uint32_t)(word >> 32);
    for (uint32_t i = 0; i < WORDS; i++) {
        memcpy(&word, (const uint8_t *)cell + i * sizeof word, sizeof word);
        if (word != word_of(stamp, place, i))
            return CELL_TORN;
    }
    return stamp;
}
