/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_FSCK_INTERNAL_H
#define CFS_META_FSCK_INTERNAL_H

#include "meta/fsck.h"
#include "meta/key.h"

struct meta_fsck_rows {
    void (*fn)(void *context, struct slice key, struct slice value); /* may yield */
    void *context;
};
/* Hand all rows of the tables first to last of a group's newest member to rows->fn. An error is
 * told. */
may_yield void meta_fsck_rows(struct fsck *fsck, uint32_t group, enum meta_table first,
                              enum meta_table last, const struct meta_fsck_rows *rows);
/* 0, -ENOENT or another error: no (good) row. */
may_yield must_check int meta_fsck_inode(struct fsck *fsck, uint64_t ino,
                                         struct disk_inode *ret_row);
/* fsck_txn.c: end, in memory, what transactions over several groups had begun. */
may_yield void meta_fsck_settle(struct fsck *fsck);

#endif
