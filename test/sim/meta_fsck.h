/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_META_FSCK_H
#define CFS_TEST_SIM_META_FSCK_H

#include "cluster.h"

struct meta_fsck {
    uint64_t inodes;
    uint64_t names;
    uint64_t orphans;
    uint64_t open_txns; /* prepared, or decided and not yet forgotten */
    uint64_t prepared;
    uint64_t requests; /* results kept for repetitions */
};

/* Look at all rows of all meta groups, in the stores of their primaries, and compare: names and
 * link counts, entry counts, parents, everything below the root. Every node must be up and quiet.
 * Prints what is wrong; returns how much that is. Called outside fibers. */
uint32_t meta_fsck(struct cluster *cluster, struct meta_fsck *ret_found);

#endif
