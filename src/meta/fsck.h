/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_FSCK_H
#define CFS_META_FSCK_H

/* Offline check of the namespace (group/fsck.h), over the newest member of each group. */

#include "group/fsck.h"

/* First settle, in memory, the transactions over several groups that were under way: committed if
 * the coordinator's group says so, undone otherwise, as the cluster would. Then check all names,
 * inodes and data against each other. Memory: fsck->memory_bytes, whatever the number of inodes;
 * with more than fit, all rows are read several times. */
may_yield void meta_fsck(struct fsck *fsck);

/* As much of the path of an inode as its parents tell: "/a/b", ".../b", "inode 1f3". */
may_yield void meta_fsck_path(struct fsck *fsck, uint64_t ino, char *text, uint32_t bytes);

#endif
