/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_TXN_H
#define CFS_META_TXN_H

/* Transactions: what every changing verb is written against (theory in txn.c).
 *
 * A transaction belongs to the fiber that began it, lives on its stack, and is ended with txn_end
 * whatever happened. Rows may lie in any group; who holds them is found by their key.
 *
 * Errors of all functions that read: -ERR_TXN_ABORTED (a lock was not to be had: end it and run
 * the verb again), -ERR_NOT_PRIMARY and the like of the coordinator's group, -ERR_STALE_MAP,
 * -ERR_CORRUPT_DISK, -EIO. */

#include "meta/lock.h"

enum { TXN_INODES_MAX = 8, TXN_DENTRIES_MAX = 2, TXN_ORPHANS_MAX = 2 };

/* An inode under lock. Change row, then set dirty. */
struct txn_inode {
    uint64_t ino;
    uint32_t group;
    bool dirty;
    struct disk_inode row;
};

/* A name under lock; row.ino 0: there is none. */
struct txn_dentry {
    uint64_t dir;
    struct slice name; /* the caller's bytes */
    struct meta_key key;
    struct disk_dentry row;
};

/* What the transaction does in another group. */
struct txn_part {
    uint32_t group;
    struct store_batch batch;
};

struct meta_txn {
    struct meta_group *mg; /* coordinator */
    struct list link;      /* in mg->running */
    struct wire_txn_id id; /* given with the first participant */
    struct meta_locks locks;
    struct store_batch batch;
    uint64_t seen_seq; /* of the coordinator's group: what was read depends on it */
    uint64_t deadline_ns;
    uint32_t part_count;
    uint32_t inode_count;
    uint32_t dentry_count;
    uint32_t orphan_count;
    bool decided;
    struct txn_part parts[META_PARTS_MAX];
    struct txn_inode inodes[TXN_INODES_MAX];
    struct txn_dentry dentries[TXN_DENTRIES_MAX];
    uint64_t orphans[TXN_ORPHANS_MAX]; /* of the coordinator's group, for the reaper */
};

void txn_begin(struct meta_txn *txn, struct meta_group *mg, uint64_t deadline_ns);
/* Unlock; abort if it was not committed. */
void txn_end(struct meta_txn *txn);

/* Lock a row and read it into value. Returns its length or -ENOENT. */
may_yield must_check int txn_lock_get(struct meta_txn *txn, struct slice key, void *value,
                                      uint32_t capacity);
/* Read a row of the coordinator's group that a lock held already covers (an inode's lock covers
 * its inline data and extended attributes). */
may_yield must_check int txn_get(struct meta_txn *txn, struct slice key, void *value,
                                 uint32_t capacity);
/* Change a row that is covered by a lock, or new. The group is that of the key; other groups must
 * have been locked in before. */
void txn_put(struct meta_txn *txn, struct slice key, struct slice value);
void txn_del(struct meta_txn *txn, struct slice key);

/* The inode under lock; the same pointer for the same number. -ESTALE: there is none. */
may_yield must_check int txn_inode(struct meta_txn *txn, uint64_t ino,
                                   struct txn_inode **ret_inode);
/* An inode to be made. In another group its absence is checked under lock: -EEXIST. */
may_yield must_check int txn_inode_new(struct meta_txn *txn, uint64_t ino,
                                       struct txn_inode **ret_inode);
/* The name under lock. dir must be in the coordinator's group or any other. */
may_yield must_check int txn_dentry(struct meta_txn *txn, uint64_t dir, struct slice name,
                                    struct txn_dentry **ret_dentry);
void txn_dentry_set(struct meta_txn *txn, struct txn_dentry *dentry, uint64_t ino, uint32_t mode);
void txn_dentry_remove(struct meta_txn *txn, struct txn_dentry *dentry);
/* The last name is gone: delete the inode, or leave it to the reaper of its group. */
void txn_inode_drop(struct meta_txn *txn, struct txn_inode *inode);

/* Nothing to be written? */
bool txn_empty(const struct meta_txn *txn);
/* Make the changes happen, all or none. On 0 the decision is in the coordinator's log at
 * seen_seq: group_wait for it before telling anybody. */
may_yield must_check int txn_commit(struct meta_txn *txn);

/* Outcome of a transaction of this group, for a participant in doubt. 0 and *ret_outcome as in
 * struct wire_txn_status_rep. */
may_yield must_check int txn_outcome(struct meta_group *mg, const struct wire_txn_id *id,
                                     uint32_t *ret_outcome);
/* A decision found in the table by a new primary: tell the participants again. */
void txn_resume(struct meta_group *mg, const struct wire_txn_id *id, const uint32_t *groups,
                uint32_t group_count);
/* Forget all decisions kept in memory (the group has ceased). */
void txn_forget_settled(struct meta_group *mg);

#endif
