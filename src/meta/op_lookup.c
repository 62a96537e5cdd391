/* SPDX-License-Identifier: MIT */
#include <sys/stat.h>

#include "meta/op.h"

enum { LOOKUP_TRIES = 8 };

/* The directory has to be looked at: for permission, or to say what kind of failure this is. */
static int check_dir(struct meta_op *op)
{
    struct disk_inode dir;
    int result = op_inode(op, op->req->ino, &dir);
    if (result < 0)
        return result;
    if (!S_ISDIR(dir.mode))
        return -ENOTDIR;
    return cred_access(&op->cred, &dir, CRED_EXEC);
}

static int look_up(struct meta_op *op, struct disk_dentry *ret_dentry)
{
    struct meta_key key;
    key_dentry(&key, op->mg->id, op->req->ino, op->name);
    int result = op_get(op, key_slice(&key), ret_dentry, sizeof *ret_dentry);
    if (result == -ENOENT) {
        result = check_dir(op);
        return result < 0 ? result : -ENOENT;
    }
    if (result < 0)
        return result;
    return result == sizeof *ret_dentry && ret_dentry->ino != 0 ? 0 : -ERR_CORRUPT_DISK;
}

int op_lookup(struct meta_op *op)
{
    int result = op->cred.checked ? 0 : check_dir(op);
    for (uint32_t i = 0; result == 0 && i < LOOKUP_TRIES; i++) {
        struct disk_dentry dentry;
        struct disk_inode row;
        uint32_t group;
        result = look_up(op, &dentry);
        if (result == 0)
            result = meta_group_of_ino(op->service, dentry.ino, &group);
        if (result < 0)
            return result;
        if (group != op->mg->id) {
            op->rep.attr.ino = dentry.ino;
            op->rep.attr.mode = dentry.mode;
            return 0;
        }
        result = op_inode(op, dentry.ino, &row);
        if (result == -ESTALE) { /* removed between the two reads: the name is gone, too */
            result = 0;
            continue;
        }
        if (result < 0)
            return result;
        if ((op->req->flags & META_WANT_DATA) && (row.flags & ATTR_INLINE))
            result = op_reply_inline(op, dentry.ino, &row);
        if (result == -ERR_NOT_INLINE)
            result = 0;
        if (result == 0)
            op_reply_attr(op, dentry.ino, &row);
        return result;
    }
    return result < 0 ? result : -ERR_CORRUPT_DISK;
}

int op_getattr(struct meta_op *op)
{
    struct disk_inode row;
    int result = op_inode(op, op->req->ino, &row);
    if (result == 0)
        op_reply_attr(op, op->req->ino, &row);
    return result;
}

int op_readlink(struct meta_op *op)
{
    struct disk_inode row;
    int result = op_inode(op, op->req->ino, &row);
    if (result < 0)
        return result;
    if (!S_ISLNK(row.mode))
        return -EINVAL;
    return op_reply_inline(op, op->req->ino, &row);
}
