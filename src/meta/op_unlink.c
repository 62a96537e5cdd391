/* SPDX-License-Identifier: MIT */
/* LINK, UNLINK, RMDIR: names of inodes that exist. */
#include <sys/stat.h>

#include "meta/op.h"

#include "base/plant.h"

int op_link(struct meta_op *op, struct meta_txn *txn)
{
    struct txn_dentry *dentry;
    struct txn_inode *dir, *inode;
    if (op->req->ino2 == 0)
        return -ERR_CORRUPT_WIRE;
    int result = txn_dentry(txn, op->req->ino, op->name, &dentry);
    if (result == 0)
        result = op_lock_dir(op, txn, op->req->ino, &dir);
    if (result < 0 && result != -EACCES)
        return result;
    if (dentry->row.ino != 0)
        return -EEXIST;
    if (result == 0)
        result = txn_inode(txn, op->req->ino2, &inode);
    if (result < 0)
        return result;
    if (S_ISDIR(inode->row.mode))
        return -EPERM;
    if (inode->row.nlink == 0)
        return -ENOENT;
    if (inode->row.nlink >= META_LINK_MAX)
        return -EMLINK;
    txn_dentry_set(txn, dentry, inode->ino, inode->row.mode);
    op_touch_dir(op, dir, 1, 0);
    inode->row.nlink++;
    op_touch(op, inode);
    op_reply_attr(op, inode->ino, &inode->row);
    return 0;
}

int op_unlink(struct meta_op *op, struct meta_txn *txn)
{
    struct txn_dentry *dentry;
    struct txn_inode *dir, *inode;
    int result = txn_dentry(txn, op->req->ino, op->name, &dentry);
    if (result == 0)
        result = op_lock_dir(op, txn, op->req->ino, &dir);
    if (result < 0 && result != -EACCES)
        return result;
    if (dentry->row.ino == 0)
        return -ENOENT;
    if (result == 0 && S_ISDIR(dentry->row.mode))
        result = -EISDIR;
    if (result == 0)
        result = txn_inode(txn, dentry->row.ino, &inode);
    if (result == 0)
        result = cred_delete(&op->cred, &dir->row, &inode->row);
    if (result < 0)
        return result;
    if (inode->row.nlink == 0)
        return -ERR_CORRUPT_DISK;
    txn_dentry_remove(txn, dentry);
    op_touch_dir(op, dir, PLANT(META_UNLINK_UNCOUNTED) ? 0 : -1, 0);
    inode->row.nlink--;
    op_touch(op, inode);
    if (inode->row.nlink == 0)
        txn_inode_drop(txn, inode);
    return 0;
}

int op_rmdir(struct meta_op *op, struct meta_txn *txn)
{
    struct txn_dentry *dentry;
    struct txn_inode *dir, *inode;
    int result = txn_dentry(txn, op->req->ino, op->name, &dentry);
    if (result == 0)
        result = op_lock_dir(op, txn, op->req->ino, &dir);
    if (result < 0 && result != -EACCES)
        return result;
    if (dentry->row.ino == 0)
        return -ENOENT;
    if (result == 0 && !S_ISDIR(dentry->row.mode))
        result = -ENOTDIR;
    if (result == 0)
        result = txn_inode(txn, dentry->row.ino, &inode);
    if (result == 0)
        result = cred_delete(&op->cred, &dir->row, &inode->row);
    if (result < 0)
        return result;
    if (inode->row.entries > 0 && !PLANT(META_RMDIR_FULL))
        return -ENOTEMPTY;
    txn_dentry_remove(txn, dentry);
    op_touch_dir(op, dir, -1, -1);
    op_touch(op, inode);
    txn_inode_drop(txn, inode);
    return 0;
}
