/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_DEFS_H
#define CFS_BASE_DEFS_H

/* Language helpers that every file may use: annotations, sizes, min and max, container_of. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The caller has to look at the result. */
#define must_check __attribute__((warn_unused_result))
/* The function may suspend the calling fiber: re-check shared state after it returns. */
#define may_yield
#define printf_like(fmt_index, args_index) __attribute__((format(printf, fmt_index, args_index)))
#define no_return                          __attribute__((noreturn))

#define KIB (1024ull)
#define MIB (1024ull * KIB)
#define GIB (1024ull * MIB)
#define TIB (1024ull * GIB)

#define NS_PER_US (1000ull)
#define NS_PER_MS (1000ull * NS_PER_US)
#define NS_PER_S  (1000ull * NS_PER_MS)

#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define container_of(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define MIN(a, b)                                                                                  \
    ({                                                                                             \
        __auto_type min_a_ = (a);                                                                  \
        __auto_type min_b_ = (b);                                                                  \
        min_a_ < min_b_ ? min_a_ : min_b_;                                                         \
    })
#define MAX(a, b)                                                                                  \
    ({                                                                                             \
        __auto_type max_a_ = (a);                                                                  \
        __auto_type max_b_ = (b);                                                                  \
        max_a_ > max_b_ ? max_a_ : max_b_;                                                         \
    })

/* Round to a multiple of a power of two. */
static inline uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}
static inline uint64_t round_down(uint64_t value, uint64_t unit)
{
    return value & ~(unit - 1);
}
static inline uint64_t div_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "disk and wire structs are little-endian and used in place");

#endif
