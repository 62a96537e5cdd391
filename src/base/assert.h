/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_ASSERT_H
#define CFS_BASE_ASSERT_H

#include "base/defs.h"

/* Assertions for our own bugs, on in every build (ADR-0006). Bytes from disk, wire or user are
 * never asserted: they are validated in format/ and refused with an error. */

no_return void assert_fail(const char *expression, const char *file, int line,
                           const char *function);

#undef assert
#define assert(expression)                                                                         \
    (__builtin_expect(!!(expression), 1) ? (void)0                                                 \
                                         : assert_fail(#expression, __FILE__, __LINE__, __func__))

/* A place that cannot be reached. */
#define WRONG(why) assert_fail("unreachable: " why, __FILE__, __LINE__, __func__)

/* Costly checks: debug builds and the simulator only. */
#ifdef CFS_SLOW_CHECKS
#define assert_slow(expression) assert(expression)
#else
#define assert_slow(expression) ((void)sizeof(expression))
#endif

#endif
