/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_RANDOM_H
#define CFS_BASE_RANDOM_H

#include "base/defs.h"
#include "base/hash.h"

/* Seeded generator (splitmix64): the same seed gives the same sequence everywhere. Not for
 * secrets. True entropy comes from env_entropy(). */
struct random {
    uint64_t state;
};

static inline void random_init(struct random *random, uint64_t seed)
{
    random->state = seed;
}
static inline uint64_t random_u64(struct random *random)
{
    random->state += 0x9e3779b97f4a7c15ull;
    return hash_u64(random->state);
}
/* Uniform in [0, bound); bound > 0. */
static inline uint64_t random_below(struct random *random, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)random_u64(random) * bound) >> 64);
}
static inline bool random_chance(struct random *random, uint64_t numerator, uint64_t denominator)
{
    return random_below(random, denominator) < numerator;
}

#endif
