/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_HASH_H
#define CFS_BASE_HASH_H

#include "base/defs.h"

/* Stable 64-bit hash (XXH3-64): may be stored and sent. */
uint64_t hash_bytes(const void *bytes, size_t count, uint64_t seed);

/* Mix one word (splitmix64 finaliser): cheap, stable, a bijection. */
static inline uint64_t hash_u64(uint64_t value)
{
    value ^= value >> 30;
    value *= 0xbf58476d1ce4e5b9ull;
    value ^= value >> 27;
    value *= 0x94d049bb133111ebull;
    return value ^ (value >> 31);
}

#endif
