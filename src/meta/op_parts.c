/* SPDX-License-Identifier: MIT */
/* What several verbs have in common: directories, new inodes, inline data. */
#include <sys/stat.h>

#include "meta/op.h"
#include "meta/open.h"

enum { INLINE_READ_TRIES = 16 };

uint64_t op_register_open(struct meta_op *op, uint64_t ino)
{
    uint64_t session = op->req->session;
    uint64_t id = meta_open_add(op->mg, session, ino, op->req->open_id);
    if (!rpc_session_connected(op->request)) /* its end came before there was anything to end */
        meta_session_closed(op->service, session);
    return id;
}

int op_lock_dir(struct meta_op *op, struct meta_txn *txn, uint64_t ino, struct txn_inode **ret_dir)
{
    struct txn_inode *dir;
    int result = txn_inode(txn, ino, &dir);
    if (result < 0)
        return result;
    if (!S_ISDIR(dir->row.mode))
        return -ENOTDIR;
    if (dir->row.nlink == 0)
        return -ENOENT;
    *ret_dir = dir;
    return cred_access(&op->cred, &dir->row, CRED_WRITE | CRED_EXEC);
}

int op_lock_name(struct meta_op *op, struct meta_txn *txn, struct txn_dentry **ret_dentry,
                 struct txn_inode **ret_dir)
{
    int result = txn_dentry(txn, op->req->ino, op->name, ret_dentry);
    return result < 0 ? result : op_lock_dir(op, txn, op->req->ino, ret_dir);
}

void op_touch(const struct meta_op *op, struct txn_inode *inode)
{
    inode->row.ctime_ns = op->now_ns;
    inode->row.change++;
    inode->dirty = true;
}

void op_touch_dir(struct meta_op *op, struct txn_inode *dir, int names, int subdirs)
{
    assert(S_ISDIR(dir->row.mode));
    assert(names >= 0 || dir->row.entries > 0); /* M1 */
    assert(subdirs >= 0 || dir->row.nlink > 2);
    dir->row.entries += (uint64_t)(int64_t)names;
    dir->row.nlink += (uint32_t)subdirs;
    dir->row.mtime_ns = op->now_ns;
    op_touch(op, dir);
    if (dir->ino == op->req->ino) {
        meta_attr(dir->ino, &dir->row, &op->rep.dir_attr);
        op->rep.dir_attr_valid = 1;
    }
}

int op_make_inode(struct meta_op *op, struct meta_txn *txn, const struct txn_inode *dir,
                  uint32_t mode, struct txn_inode **ret_inode)
{
    uint64_t ino;
    int result = 0;
    if (S_ISDIR(mode))
        ino = meta_ino_guess_dir(txn->mg);
    else
        result = meta_ino_new(txn->mg, ino_slot(dir->ino), &ino);
    struct txn_inode *inode;
    if (result == 0)
        result = txn_inode_new(txn, ino, &inode);
    if (result == -EEXIST)
        return -ERR_TXN_ABORTED; /* the guess was taken; run again with another */
    if (result < 0)
        return result;
    inode->row = (struct disk_inode){
        .change = 1,
        .atime_ns = op->now_ns,
        .mtime_ns = op->now_ns,
        .ctime_ns = op->now_ns,
        .btime_ns = op->now_ns,
        .parent = dir->ino,
        .nlink = S_ISDIR(mode) ? 2 : 1,
        .flags = S_ISREG(mode) ? ATTR_INLINE : 0,
    };
    cred_inherit(&op->cred, &dir->row, mode, &inode->row);
    inode->dirty = true;
    *ret_inode = inode;
    return 0;
}

int op_reply_inline(struct meta_op *op, uint64_t ino, struct disk_inode *row)
{
    struct meta_key key;
    key_of_ino(&key, op->mg->id, META_TABLE_INLINE, ino);
    for (uint32_t i = 0; i < INLINE_READ_TRIES; i++) {
        bool is_link = S_ISLNK(row->mode);
        if (!is_link && !(row->flags & ATTR_INLINE))
            return -ERR_NOT_INLINE;
        op->tail.bytes = 0;
        if (row->size == 0)
            return 0;
        void *room = peer_bytes_add(&op->tail, META_INLINE_MAX);
        int bytes = op_get(op, key_slice(&key), room, META_INLINE_MAX);
        op->tail.bytes = bytes > 0 ? (uint32_t)bytes : 0;
        if (bytes < 0 && bytes != -ENOENT)
            return bytes == -ERANGE ? -ERR_CORRUPT_DISK : bytes;
        if (bytes >= 0 && (uint64_t)bytes == row->size)
            return 0;
        int result = op_inode(op, ino, row); /* it changed between the two reads */
        if (result < 0)
            return result;
    }
    return -ERR_CORRUPT_DISK;
}

int op_inline_load(struct meta_txn *txn, const struct txn_inode *inode, uint8_t *data)
{
    assert(inode->row.flags & ATTR_INLINE);
    memset(data, 0, META_INLINE_MAX);
    if (inode->row.size == 0)
        return 0;
    struct meta_key key;
    key_of_ino(&key, inode->group, META_TABLE_INLINE, inode->ino);
    int bytes = txn_get(txn, key_slice(&key), data, META_INLINE_MAX);
    if (bytes == -ENOENT || bytes == -ERANGE)
        return -ERR_CORRUPT_DISK;
    if (bytes < 0)
        return bytes;
    return (uint64_t)bytes == inode->row.size ? 0 : -ERR_CORRUPT_DISK;
}

void op_inline_store(struct meta_txn *txn, const struct txn_inode *inode, const uint8_t *data,
                     uint32_t bytes)
{
    struct meta_key key;
    assert(bytes <= META_INLINE_MAX);
    key_of_ino(&key, inode->group, META_TABLE_INLINE, inode->ino);
    if (bytes > 0)
        txn_put(txn, key_slice(&key), slice_of(data, bytes));
    else
        txn_del(txn, key_slice(&key));
}
