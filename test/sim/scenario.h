/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_SCENARIO_H
#define CFS_TEST_SIM_SCENARIO_H

/* What a seed stands for. A scenario can be narrowed (fewer kinds of faults, fewer operations) to
 * find out what a failure needs. */

#include <stdbool.h>
#include <stdint.h>

enum { SCENARIO_CLIENTS_MAX = 4 };

/* name, chance in 16 that a scenario has it, what it does. New ones go last: kept seeds keep their
 * meaning. */
#define FAULT_TABLE(X)                                                                             \
    X(CRASH, 12, "a process dies and is started again")                                            \
    X(POWER, 8, "a host loses power, and what its disk had not flushed")                           \
    X(PAUSE, 6, "a process stops for a while")                                                     \
    X(CUT, 8, "a host is cut off from all others")                                                 \
    X(CUT_SOME, 6, "a host is cut off from some others")                                           \
    X(RESET, 8, "connections of a host break")                                                     \
    X(SLOW_NET, 6, "messages are slow, some very")                                                 \
    X(SLOW_DISK, 6, "a disk is slow")                                                              \
    X(CLIENT, 6, "a client's host dies")                                                           \
    X(JOIN, 3, "a new node")                                                                       \
    X(DRAIN, 3, "a node is drained and removed")                                                   \
    X(LOST, 3, "a node is lost for good and removed")                                              \
    X(CUT_ONE_WAY, 4, "a host hears others, who do not hear it, or the other way round")           \
    X(SWIZZLE, 4, "paths of a host are cut one after the other, and heal in another order")        \
    X(SLOW_NODE, 4, "a host computes slowly")                                                      \
    X(CLOCK, 4, "a wall clock jumps; a process comes back on a host whose clock is fast or slow")  \
    X(DISK_ERRORS, 4, "reads and writes of a disk fail")                                           \
    X(DISK_LIES, 4, "a disk loses and misplaces writes and bits rot; its node is then replaced")   \
    X(BLACKOUT, 0, "all nodes die at once")                                                        \
    X(MEMORY, 4, "a process comes back with the least memory that a node may have")                \
    X(CUT_CLIENT, 6, "a client and a host do not hear each other, or one not the other")

enum fault_kind {
#define X(name, chance, text) FAULT_##name,
    FAULT_TABLE(X)
#undef X
        FAULT_KINDS
};

enum load_kind {
    LOAD_NAMES,
    LOAD_FILES,
    LOAD_APPEND,
    LOAD_SCRATCH,
    LOAD_DURABLE,
    LOAD_FILL,
    LOAD_ENTRIES,
    LOAD_KINDS
};

struct scenario {
    uint64_t seed;
    uint32_t nodes;
    uint32_t copies;
    uint32_t clients;
    uint32_t faults;   /* bits of enum fault_kind */
    uint32_t loads;    /* bits of enum load_kind */
    uint32_t ops;      /* of each client and load */
    uint32_t episodes; /* of damage */
    bool blackouts;    /* only what is fsynced must survive */
    bool small;        /* disks, which LOAD_FILL fills */
    uint64_t think_ns; /* at most, between operations of a client */
};

void scenario_make(uint64_t seed, struct scenario *ret_scenario);
/* The same on disks that get full. */
void scenario_make_small(struct scenario *scenario);
void scenario_print(const struct scenario *scenario);
/* " --faults A,B --loads c,d" */
void scenario_print_lists(const struct scenario *scenario);
/* Names with commas between them, or "none", to bits. False: no such name. */
bool scenario_parse_list(const char *list, bool faults, uint32_t *ret_bits);
const char *fault_name(enum fault_kind kind);

#endif
