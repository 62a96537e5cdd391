/* SPDX-License-Identifier: MIT */
/* CREATE, MKNOD, SYMLINK, MKDIR: a new inode and its name. */
#include <sys/stat.h>

#include "meta/op.h"

/* Name, inode and directory; the name must be free. */
static int add_new(struct meta_op *op, struct meta_txn *txn, uint32_t mode,
                   struct txn_inode **ret_inode)
{
    struct txn_dentry *dentry;
    struct txn_inode *dir, *inode;
    int result = op_lock_name(op, txn, &dentry, &dir);
    if (result < 0 && result != -EACCES)
        return result;
    if (dentry->row.ino != 0)
        return -EEXIST;
    if (result == 0)
        result = op_make_inode(op, txn, dir, mode, &inode);
    if (result < 0)
        return result;
    txn_dentry_set(txn, dentry, inode->ino, mode);
    op_touch_dir(op, dir, 1, S_ISDIR(mode) ? 1 : 0);
    *ret_inode = inode;
    return 0;
}

/* CREATE of a name that is there: open it. */
static int open_existing(struct meta_op *op, struct meta_txn *txn, const struct txn_dentry *dentry)
{
    struct txn_inode *inode;
    if (op->req->flags & META_CREATE_EXCL)
        return -EEXIST;
    if (S_ISDIR(dentry->row.mode))
        return -EISDIR;
    uint32_t group;
    int result = meta_group_of_ino(op->service, dentry->row.ino, &group);
    if (result < 0)
        return result;
    /* Not ours to register, or not the last link of the path: let the caller look it up. */
    if (group != op->mg->id || S_ISLNK(dentry->row.mode))
        return -ESTALE;
    result = txn_inode(txn, dentry->row.ino, &inode);
    if (result < 0)
        return result;
    op_reply_attr(op, inode->ino, &inode->row);
    return 0;
}

int op_create(struct meta_op *op, struct meta_txn *txn)
{
    struct txn_dentry *dentry;
    struct txn_inode *inode;
    uint32_t mode = S_IFREG | (op->req->mode & 07777);
    int result = txn_dentry(txn, op->req->ino, op->name, &dentry);
    if (result < 0)
        return result;
    if (dentry->row.ino != 0) {
        result = open_existing(op, txn, dentry);
    } else {
        result = add_new(op, txn, mode, &inode);
        if (result == 0)
            op_reply_attr(op, inode->ino, &inode->row);
    }
    if (result == 0 && (op->req->flags & META_OPEN))
        op->rep.open_id = op_register_open(op, op->rep.attr.ino);
    return result;
}

int op_mknod(struct meta_op *op, struct meta_txn *txn)
{
    uint32_t type = op->req->mode & S_IFMT;
    struct txn_inode *inode;
    if (type == 0)
        type = S_IFREG;
    if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR &&
        type != S_IFBLK)
        return -EINVAL;
    bool device = type == S_IFCHR || type == S_IFBLK;
    if (device && !op->cred.checked && op->cred.uid != 0)
        return -EPERM;
    int result = add_new(op, txn, type | (op->req->mode & 07777), &inode);
    if (result < 0)
        return result;
    inode->row.rdev = device ? op->req->rdev : 0;
    op_reply_attr(op, inode->ino, &inode->row);
    return 0;
}

int op_symlink(struct meta_op *op, struct meta_txn *txn)
{
    struct txn_inode *inode;
    if (op->value.bytes == 0)
        return -ENOENT;
    if (op->value.bytes > META_SYMLINK_MAX)
        return -ENAMETOOLONG;
    if (memchr(op->value.data, 0, op->value.bytes))
        return -EINVAL;
    int result = add_new(op, txn, S_IFLNK | 0777, &inode);
    if (result < 0)
        return result;
    inode->row.size = op->value.bytes;
    op_inline_store(txn, inode, op->value.data, op->value.bytes);
    op_reply_attr(op, inode->ino, &inode->row);
    return 0;
}

int op_mkdir(struct meta_op *op, struct meta_txn *txn)
{
    struct txn_inode *inode;
    int result = add_new(op, txn, S_IFDIR | (op->req->mode & 07777), &inode);
    if (result == 0)
        op_reply_attr(op, inode->ino, &inode->row);
    return result;
}
