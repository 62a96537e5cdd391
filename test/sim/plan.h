/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_PLAN_H
#define CFS_TEST_SIM_PLAN_H

/* What a seed stands for. A plan can be narrowed (fewer kinds of faults, fewer operations) to find
 * out what a failure needs. */

#include <stdbool.h>
#include <stdint.h>

enum { PLAN_CLIENTS_MAX = 4 };

/* name, chance in 16 that a plan has it, what it does */
#define FAULT_TABLE(X)                                                                             \
    X(CRASH, 12, "a process dies and is started again")                                            \
    X(POWER, 8, "a host loses power, and what its disk had not flushed")                           \
    X(PAUSE, 6, "a process stops for a while")                                                     \
    X(CUT, 8, "a host is cut off from all others")                                                 \
    X(CUT_SOME, 6, "a host is cut off from some others")                                           \
    X(RESET, 8, "connections of a host break")                                                     \
    X(SLOW_NET, 6, "messages are slow, some very")                                                 \
    X(SLOW_DISK, 6, "a disk is slow")                                                              \
    X(CLIENT, 6, "a client's host dies")

enum fault_kind {
#define X(name, chance, text) FAULT_##name,
    FAULT_TABLE(X)
#undef X
        FAULT_KINDS
};

enum load_kind { LOAD_NAMES, LOAD_KINDS };

struct plan {
    uint64_t seed;
    uint32_t nodes;
    uint32_t copies;
    uint32_t clients;
    uint32_t faults;   /* bits of enum fault_kind */
    uint32_t loads;    /* bits of enum load_kind */
    uint32_t ops;      /* of each client and load */
    uint32_t episodes; /* of damage */
    uint64_t think_ns; /* at most, between operations of a client */
};

void plan_make(uint64_t seed, struct plan *ret_plan);
void plan_print(const struct plan *plan);
const char *fault_name(enum fault_kind kind);

#endif
