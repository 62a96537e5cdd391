/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_OP_H
#define CFS_META_OP_H

/* A request for a verb, from decoding to reply; and the verbs. */

#include "meta/cred.h"
#include "meta/peer.h"
#include "meta/txn.h"

struct meta_op {
    struct meta_service *service;
    struct meta_group *mg;
    const struct wire_meta_req *req;
    const struct rpc_request *request; /* req is its body */
    struct slice name;
    struct slice name2;
    struct slice value;
    struct meta_cred cred;
    uint64_t seen_seq;
    uint64_t deadline_ns;
    int64_t now_ns; /* wall clock: the times that this attempt sets */
    struct wire_meta_rep rep;
    struct peer_bytes tail;
};

enum meta_verb_flags {
    VERB_NAME = 1,    /* name is a file name */
    VERB_NAME2 = 2,   /* and so is name2 */
    VERB_FREEING = 4, /* works on a full store */
    VERB_ANY_INO = 8, /* ino may belong to any group */
    VERB_XATTR = 16,  /* name is that of an extended attribute */
};

/* A verb reads, or changes within a transaction. What it returns is the status; on 0 the changes
 * left in txn are committed. It may be run again from its start. */
struct meta_verb {
    enum rpc_type type;
    uint32_t flags;
    int (*read)(struct meta_op *op);
    int (*change)(struct meta_op *op, struct meta_txn *txn);
};

/* From the request to the reply (op.c). */
may_yield void meta_serve(struct meta_service *service, const struct meta_verb *verb,
                          struct rpc_request *request);

/* ---- for verbs ---------------------------------------------------------------------------- */

/* Read a row of this group: what has been decided, without locks. Length or -ENOENT. */
may_yield must_check int op_get(struct meta_op *op, struct slice key, void *value,
                                uint32_t capacity);
/* Read an inode of this group. -ESTALE: there is none. */
may_yield must_check int op_inode(struct meta_op *op, uint64_t ino, struct disk_inode *ret_row);
/* The attributes go into the reply. */
void op_reply_attr(struct meta_op *op, uint64_t ino, const struct disk_inode *row);
void meta_attr(uint64_t ino, const struct disk_inode *row, struct wire_attr *ret_attr);
/* The inline data of a file (or target of a symlink), into the tail. -ERR_BUSY: it changes too
 * fast. row is read again if need be. */
may_yield must_check int op_reply_inline(struct meta_op *op, uint64_t ino, struct disk_inode *row);

/* Register an open file of the session that asks. Returns its id. */
uint64_t op_register_open(struct meta_op *op, uint64_t ino);

/* The directory of a changing verb, under lock, checked to be one that still has a name.
 * -ENOTDIR, -ENOENT, -ESTALE; -EACCES without write permission. */
may_yield must_check int op_lock_dir(struct meta_op *op, struct meta_txn *txn, uint64_t ino,
                                     struct txn_inode **ret_dir);
/* The request's name and the directory that it is in, both under lock. Errors of op_lock_dir;
 * -EACCES, with both outputs set: what a caller finds out about the name comes first. */
may_yield must_check int op_lock_name(struct meta_op *op, struct meta_txn *txn,
                                      struct txn_dentry **ret_dentry, struct txn_inode **ret_dir);
/* A name was added to (1), taken from (-1), or changed in (0) a directory; subdirs: how many more
 * or fewer subdirectories it has. */
void op_touch_dir(struct meta_op *op, struct txn_inode *dir, int names, int subdirs);
/* ctime and change. */
void op_touch(const struct meta_op *op, struct txn_inode *inode);
/* A new inode in dir, with owner and times set. */
may_yield must_check int op_make_inode(struct meta_op *op, struct meta_txn *txn,
                                       const struct txn_inode *dir, uint32_t mode,
                                       struct txn_inode **ret_inode);
/* Change the size, with data and times (op_truncate.c). */
may_yield must_check int op_resize(struct meta_op *op, struct meta_txn *txn,
                                   struct txn_inode *inode, uint64_t size);
/* Move inline data to object 0 (op_truncate.c); size stays. */
may_yield must_check int op_spill(struct meta_op *op, struct meta_txn *txn,
                                  struct txn_inode *inode);
/* inode's inline data under its lock into data, which has META_INLINE_MAX bytes; zeroes behind. */
may_yield must_check int op_inline_load(struct meta_txn *txn, const struct txn_inode *inode,
                                        uint8_t *data);
void op_inline_store(struct meta_txn *txn, const struct txn_inode *inode, const uint8_t *data,
                     uint32_t bytes);

int op_lookup(struct meta_op *op);
int op_getattr(struct meta_op *op);
int op_setattr(struct meta_op *op, struct meta_txn *txn);
int op_truncate(struct meta_op *op, struct meta_txn *txn);
int op_create(struct meta_op *op, struct meta_txn *txn);
int op_mknod(struct meta_op *op, struct meta_txn *txn);
int op_mkdir(struct meta_op *op, struct meta_txn *txn);
int op_symlink(struct meta_op *op, struct meta_txn *txn);
int op_readlink(struct meta_op *op);
int op_link(struct meta_op *op, struct meta_txn *txn);
int op_unlink(struct meta_op *op, struct meta_txn *txn);
int op_rmdir(struct meta_op *op, struct meta_txn *txn);
int op_rename(struct meta_op *op, struct meta_txn *txn);
int op_open(struct meta_op *op);
int op_release(struct meta_op *op);
int op_readdir(struct meta_op *op);
int op_getxattr(struct meta_op *op);
int op_setxattr(struct meta_op *op, struct meta_txn *txn);
int op_listxattr(struct meta_op *op);
int op_removexattr(struct meta_op *op, struct meta_txn *txn);
int op_statfs(struct meta_op *op);
int op_inline_read(struct meta_op *op);
int op_inline_write(struct meta_op *op, struct meta_txn *txn);
int op_grow(struct meta_op *op, struct meta_txn *txn);
int op_sync(struct meta_op *op);

#endif
