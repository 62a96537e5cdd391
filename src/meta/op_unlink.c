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
    int result = op_lock_name(op, txn, &dentry, &dir);
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

/* A name that may be taken away: of a directory, or of anything else. */
struct victim {
    struct txn_dentry *dentry;
    struct txn_inode *dir;
    struct txn_inode *inode;
};

static int find_victim(struct meta_op *op, struct meta_txn *txn, bool directory,
                       struct victim *ret_victim)
{
    struct victim victim;
    int result = op_lock_name(op, txn, &victim.dentry, &victim.dir);
    if (result < 0 && result != -EACCES)
        return result;
    if (victim.dentry->row.ino == 0)
        return -ENOENT;
    if (result == 0 && S_ISDIR(victim.dentry->row.mode) != directory)
        result = directory ? -ENOTDIR : -EISDIR;
    if (result == 0)
        result = txn_inode(txn, victim.dentry->row.ino, &victim.inode);
    if (result == 0)
        result = cred_delete(&op->cred, &victim.dir->row, &victim.inode->row);
    if (result == 0)
        *ret_victim = victim;
    return result;
}

int op_unlink(struct meta_op *op, struct meta_txn *txn)
{
    struct victim victim;
    int result = find_victim(op, txn, false, &victim);
    if (result < 0)
        return result;
    struct txn_inode *inode = victim.inode;
    if (inode->row.nlink == 0)
        return -ERR_CORRUPT_DISK;
    txn_dentry_remove(txn, victim.dentry);
    op_touch_dir(op, victim.dir, PLANT(META_UNLINK_UNCOUNTED) ? 0 : -1, 0);
    inode->row.nlink--;
    op_touch(op, inode);
    if (inode->row.nlink == 0)
        txn_inode_drop(txn, inode);
    return 0;
}

int op_rmdir(struct meta_op *op, struct meta_txn *txn)
{
    struct victim victim;
    int result = find_victim(op, txn, true, &victim);
    if (result < 0)
        return result;
    struct txn_inode *inode = victim.inode;
    if (inode->row.entries > 0 && !PLANT(META_RMDIR_FULL))
        return -ENOTEMPTY;
    txn_dentry_remove(txn, victim.dentry);
    op_touch_dir(op, victim.dir, -1, -1);
    op_touch(op, inode);
    txn_inode_drop(txn, inode);
    return 0;
}
