/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_CLUSTER_FSCK_H
#define CFS_TEST_SIM_CLUSTER_FSCK_H

#include "cluster.h"
#include "node/fsck.h"

/* Check the disks of all nodes as `claudefs fsck` does, all data too. Nodes may be up, but must be
 * quiet: what they did last has reached their disks. Prints what is wrong and returns how much that
 * is; transactions under way count as wrong, and, if whole, members that lag. Called outside
 * fibers. */
uint32_t cluster_fsck(struct cluster *cluster, bool whole, struct fsck_counts *ret_counts);

#endif
