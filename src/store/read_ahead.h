/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_READ_AHEAD_H
#define CFS_STORE_READ_AHEAD_H

/* Leaves that a merge is about to come to, read into the cache in advance: see read_ahead.c. */

#include "store/store_internal.h"

enum { AHEAD_NODES = 8 };

struct read_ahead;
struct ahead_slot {
    struct read_ahead *ahead;
    struct disk_pointer pointer; /* block[0] 0: unused */
};
struct read_ahead {
    struct store *store;
    uint32_t running; /* fibers */
    struct waitq ended;
    struct ahead_slot slots[AHEAD_NODES];
};

void read_ahead_init(struct read_ahead *ahead, struct store *store);
/* Begin to read the leaf, if it is not in memory. False: enough are on their way or waiting to be
 * used; ask again later. */
bool read_ahead_start(struct read_ahead *ahead, const struct disk_pointer *pointer);
/* The merge has come to this node: was it read in advance? Makes room for the next. */
bool read_ahead_take(struct read_ahead *ahead, const struct disk_pointer *pointer);
/* Wait until nothing is being read any more. */
may_yield void read_ahead_fini(struct read_ahead *ahead);

#endif
