/* SPDX-License-Identifier: MIT */
/* Extended attributes: rows of their own under the inode's lock. */
#include <sys/stat.h>

#include "meta/op.h"

static bool begins(struct slice name, const char *prefix)
{
    size_t bytes = strlen(prefix);
    return name.bytes > bytes && memcmp(name.data, prefix, bytes) == 0;
}

/* Namespaces that mean something here. ACLs (system.) would have to be obeyed. */
static int check_namespace(const struct meta_op *op, const struct disk_inode *row, bool writing)
{
    if (begins(op->name, "trusted."))
        return op->cred.checked || op->cred.uid == 0 ? 0 : writing ? -EPERM : -ENODATA;
    if (begins(op->name, "security."))
        return writing && !op->cred.checked && op->cred.uid != 0 ? -EPERM : 0;
    if (!begins(op->name, "user."))
        return -EOPNOTSUPP;
    if (!S_ISREG(row->mode) && !S_ISDIR(row->mode))
        return writing ? -EPERM : -ENODATA;
    return cred_access(&op->cred, row, writing ? CRED_WRITE : CRED_READ);
}

int op_getxattr(struct meta_op *op)
{
    struct disk_inode row;
    struct meta_key key;
    int result = op_inode(op, op->req->ino, &row);
    if (result == 0)
        result = check_namespace(op, &row, false);
    if (result < 0)
        return result;
    key_xattr(&key, op->mg->id, op->req->ino, op->name);
    void *room = peer_bytes_add(&op->tail, META_XATTR_VALUE_MAX);
    result = op_get(op, key_slice(&key), room, META_XATTR_VALUE_MAX);
    op->tail.bytes = result > 0 ? (uint32_t)result : 0;
    if (result == -ENOENT)
        return -ENODATA;
    return MIN(result, 0);
}

int op_listxattr(struct meta_op *op)
{
    struct disk_inode row;
    struct meta_key from, end;
    struct slice key, value;
    int result = op_inode(op, op->req->ino, &row);
    if (result < 0 || row.xattr_count == 0)
        return result;
    struct group_iter *iter = group_iter_new(op->mg->group);
    key_of_ino(&from, op->mg->id, META_TABLE_XATTR, op->req->ino);
    key_of_ino(&end, op->mg->id, META_TABLE_XATTR, op->req->ino + 1);
    group_iter_seek(iter, key_slice(&from));
    while ((result = group_iter_next(iter, key_slice(&end), &key, &value, &op->seen_seq)) > 0) {
        uint32_t bytes = key.bytes - from.bytes;
        if (key.bytes <= from.bytes || bytes > META_XATTR_NAME_MAX) {
            result = -ERR_CORRUPT_DISK;
            break;
        }
        uint8_t *place = peer_bytes_add(&op->tail, bytes + 1);
        memcpy(place, (const uint8_t *)key.data + from.bytes, bytes);
        place[bytes] = 0;
    }
    group_iter_free(iter);
    return result;
}

/* The inode under lock, and whether it has the attribute (1) or not (0). */
static int find(struct meta_op *op, struct meta_txn *txn, struct meta_key *key,
                struct txn_inode **ret_inode)
{
    uint8_t value[META_XATTR_VALUE_MAX];
    int result = txn_inode(txn, op->req->ino, ret_inode);
    if (result == 0)
        result = check_namespace(op, &(*ret_inode)->row, true);
    if (result < 0)
        return result;
    key_xattr(key, op->mg->id, op->req->ino, op->name);
    result = txn_get(txn, key_slice(key), value, sizeof value);
    if (result == -ENOENT)
        return 0;
    return result < 0 ? result : 1;
}

int op_setxattr(struct meta_op *op, struct meta_txn *txn)
{
    struct txn_inode *inode;
    struct meta_key key;
    uint32_t flags = op->req->flags;
    if (op->value.bytes > META_XATTR_VALUE_MAX)
        return -E2BIG;
    int found = find(op, txn, &key, &inode);
    if (found < 0)
        return found;
    if (found && (flags & META_XATTR_CREATE))
        return -EEXIST;
    if (!found && (flags & META_XATTR_REPLACE))
        return -ENODATA;
    if (!found && inode->row.xattr_count >= META_XATTR_COUNT_MAX)
        return -ENOSPC;
    txn_put(txn, key_slice(&key), op->value);
    inode->row.xattr_count += !found;
    op_touch(op, inode);
    return 0;
}

int op_removexattr(struct meta_op *op, struct meta_txn *txn)
{
    struct txn_inode *inode;
    struct meta_key key;
    int found = find(op, txn, &key, &inode);
    if (found < 0)
        return found;
    if (!found)
        return -ENODATA;
    txn_del(txn, key_slice(&key));
    assert(inode->row.xattr_count > 0);
    inode->row.xattr_count--;
    op_touch(op, inode);
    return 0;
}
