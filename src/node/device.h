/* SPDX-License-Identifier: MIT */
#ifndef CFS_NODE_DEVICE_H
#define CFS_NODE_DEVICE_H

/* One device by itself, offline and read only: what `claudefs device check` and `dump` show. */

#include "store/store.h"

struct node_device_options {
    const char *path;      /* no node runs on it */
    uint64_t memory_bytes; /* NODE_MEMORY_MIN (node.h) or more; the journal's replay comes on top */
    bool no_data;          /* check: leave out the checksums of data */
    bool rows;             /* dump: every row of the table too */
    bool journal_lost;     /* out: the journal was damaged, what it held is not included */
};

struct node_device_counts {
    uint64_t extents;
    uint64_t data_bytes; /* read and compared */
};

/* Verify the store on the device: tree, accounts, backpointers, and of each data extent that its
 * owner's row names it and that its checksums hold. Nothing is written; the journal is replayed
 * into memory (at most 256 MiB). Each finding goes to fn.
 * 0, -ERR_CORRUPT_DISK (there were findings), or what kept it from being opened: -EBUSY (a node
 * runs on it), -ERR_NOT_FORMATTED, -EIO, ... */
may_yield must_check int node_device_check(struct node_device_options *options, store_finding_fn fn,
                                           void *context, struct node_device_counts *ret_counts);

/* Tell what is on it, line by line: superblocks, journal, segments, and the rows if asked. What can
 * be read of a store that cannot be opened is told before the error is returned. */
may_yield must_check int node_device_dump(struct node_device_options *options, store_line_fn fn,
                                          void *context);

#endif
