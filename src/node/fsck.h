/* SPDX-License-Identifier: MIT */
#ifndef CFS_NODE_FSCK_H
#define CFS_NODE_FSCK_H

/* The offline check of a cluster by the disks of its nodes. */

#include "group/fsck.h"

enum { NODE_FSCK_DISKS_MAX = 1024 };

struct node_fsck_options {
    const char *const *disks; /* paths; no node runs on them */
    uint32_t disk_count;
    uint64_t memory_bytes; /* for all; at least node_fsck_memory_min(disk_count) */
    uint64_t table_bytes;  /* of these, for the table of inodes; 0: a quarter */
    bool read_data;        /* also verify the checksums of all data */
    fsck_found_fn fn;      /* told of each finding */
    void *context;
};

uint64_t node_fsck_memory_min(uint32_t disk_count);

/* Open all disks without changing a byte; check each store by itself; find the newest map; choose
 * and compare the members of each group; check the namespace over the newest ones. What is wrong is
 * told of and counted. Memory: memory_bytes and what each journal holds since its checkpoint (at
 * most 256 MiB a disk); it is not given back. */
may_yield void node_fsck(const struct node_fsck_options *options, struct fsck_counts *ret_counts);

#endif
