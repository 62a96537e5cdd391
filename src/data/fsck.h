/* SPDX-License-Identifier: MIT */
#ifndef CFS_DATA_FSCK_H
#define CFS_DATA_FSCK_H

/* Offline check of data groups (group/fsck.h). */

#include "group/fsck.h"

/* A run of blocks of a file, in file order within one inode and group. */
struct data_fsck_run {
    uint64_t ino;
    uint64_t first; /* block of the file */
    uint64_t end;
};
typedef void (*data_fsck_fn)(void *context, const struct data_fsck_run *run);

/* Walk the rows of the newest member of a data group and hand each run to fn. Malformed, misplaced
 * and overlapping rows are told of if tell, and counted. */
may_yield void data_fsck_runs(struct fsck *fsck, uint32_t group, bool tell, data_fsck_fn fn,
                              void *context);

/* One store by itself, node's: every block that it counts as data is one that a row refers to;
 * with fsck->read_data, all data matches its checksums. */
may_yield void data_fsck_store(struct fsck *fsck, struct store *store, uint32_t node);

#endif
