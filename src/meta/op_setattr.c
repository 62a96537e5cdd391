/* SPDX-License-Identifier: MIT */
#include <sys/stat.h>

#include "meta/op.h"

enum {
    SET_TIMES = META_SET_ATIME | META_SET_MTIME,
    SET_TIMES_NOW = META_SET_ATIME_NOW | META_SET_MTIME_NOW,
};

static int set_mode(struct meta_op *op, struct disk_inode *row)
{
    uint32_t mode = op->req->mode & 07777;
    if (!cred_owns(&op->cred, row))
        return -EPERM;
    if (!op->cred.checked && op->cred.uid != 0 && !cred_in_group(&op->cred, row->gid))
        mode &= ~(uint32_t)S_ISGID;
    row->mode = (row->mode & S_IFMT) | mode;
    return 0;
}

/* Who may give a file away, and to which group. */
static int check_owner(const struct meta_op *op, const struct disk_inode *row)
{
    const struct wire_meta_req *req = op->req;
    if (op->cred.checked || op->cred.uid == 0)
        return 0;
    if (op->cred.uid != row->uid)
        return -EPERM;
    if ((req->valid & META_SET_UID) && req->uid2 != row->uid)
        return -EPERM;
    if ((req->valid & META_SET_GID) && req->gid2 != row->gid &&
        !cred_in_group(&op->cred, req->gid2))
        return -EPERM;
    return 0;
}

static int set_owner(struct meta_op *op, struct disk_inode *row)
{
    const struct wire_meta_req *req = op->req;
    int result = check_owner(op, row);
    if (result < 0)
        return result;
    if (req->valid & META_SET_UID)
        row->uid = req->uid2;
    if (req->valid & META_SET_GID)
        row->gid = req->gid2;
    if (!S_ISDIR(row->mode) && !(req->valid & META_SET_MODE)) {
        row->mode &= ~(uint32_t)S_ISUID; /* a new owner does not inherit privileges */
        if (row->mode & S_IXGRP)
            row->mode &= ~(uint32_t)S_ISGID;
    }
    return 0;
}

static int set_times(struct meta_op *op, struct disk_inode *row)
{
    const struct wire_meta_req *req = op->req;
    if (!cred_owns(&op->cred, row)) {
        if (req->valid & SET_TIMES)
            return -EPERM;
        int result = cred_access(&op->cred, row, CRED_WRITE);
        if (result < 0)
            return result;
    }
    if (req->valid & META_SET_ATIME)
        row->atime_ns = req->atime_ns;
    if (req->valid & META_SET_ATIME_NOW)
        row->atime_ns = op->now_ns;
    if (req->valid & META_SET_MTIME)
        row->mtime_ns = req->mtime_ns;
    if (req->valid & META_SET_MTIME_NOW)
        row->mtime_ns = op->now_ns;
    return 0;
}

static int set_size(struct meta_op *op, struct meta_txn *txn, struct txn_inode *inode)
{
    if (S_ISDIR(inode->row.mode))
        return -EISDIR;
    if (!S_ISREG(inode->row.mode))
        return -EINVAL;
    int result = cred_access(&op->cred, &inode->row, CRED_WRITE);
    if (result == 0)
        result = op_resize(op, txn, inode, op->req->size);
    if (result == 0)
        inode->row.mtime_ns = op->now_ns;
    return result;
}

int op_setattr(struct meta_op *op, struct meta_txn *txn)
{
    uint32_t valid = op->req->valid;
    struct txn_inode *inode;
    int result = txn_inode(txn, op->req->ino, &inode);
    if (result < 0)
        return result;
    struct disk_inode row = inode->row; /* all checks come before the size: it has effects */
    if (valid & (META_SET_UID | META_SET_GID))
        result = set_owner(op, &row);
    if (result == 0 && (valid & META_SET_MODE))
        result = set_mode(op, &row);
    if (result == 0 && (valid & (SET_TIMES | SET_TIMES_NOW)))
        result = set_times(op, &row);
    if (result == 0 && (valid & META_SET_SIZE))
        result = set_size(op, txn, inode);
    if (result < 0)
        return result;
    inode->row.mode = row.mode;
    inode->row.uid = row.uid;
    inode->row.gid = row.gid;
    inode->row.atime_ns = row.atime_ns;
    if (valid & (META_SET_MTIME | META_SET_MTIME_NOW))
        inode->row.mtime_ns = row.mtime_ns;
    op_touch(op, inode);
    op_reply_attr(op, inode->ino, &inode->row);
    return 0;
}
