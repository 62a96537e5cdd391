/* SPDX-License-Identifier: MIT */
/* TRUNCATE, GROW, INLINE_READ, INLINE_WRITE: the size of files, and the data of small ones.
 *
 * A file starts inline. It moves to objects, for good, when it is to become larger than
 * META_INLINE_MAX: under the inode's lock its bytes are written to object 0, then one record clears
 * the flag and deletes the inline row. If that record never comes, the object is overwritten by
 * the next move: the whole of META_INLINE_MAX is written each time, so nothing old shows. What was
 * fsynced while it was inline must outlive the death of all nodes, and the client does not know
 * that there are data in that group now: so they are durable before the record is made. The same
 * with a truncation: a file whose new size outlived the death of all nodes, and not that its data
 * were cut, would show them when it grows. */
#include <sys/stat.h>

#include "data/data.h"
#include "meta/op.h"

static int check_file(const struct disk_inode *row)
{
    if (S_ISDIR(row->mode))
        return -EISDIR;
    return S_ISREG(row->mode) ? 0 : -EINVAL;
}

/* In order of execution: the inode is locked, and another primary has a greater epoch. */
static uint64_t next_order(struct meta_op *op)
{
    return (uint64_t)group_epoch(op->mg->group) << 32 | ++op->mg->truncations;
}

int op_spill(struct meta_op *op, struct meta_txn *txn, struct txn_inode *inode)
{
    const struct meta_service *service = op->service;
    assert(inode->row.flags & ATTR_INLINE);
    if (inode->row.size > 0) {
        struct buf *buf = buf_new(META_INLINE_MAX);
        const struct data_request write = {
            .type = RPC_OBJ_WRITE,
            .ino = inode->ino,
            .bytes = META_INLINE_MAX,
            .order = next_order(op),
            .durable = true,
        };
        int result = op_inline_load(txn, inode, buf->data);
        if (result == 0)
            result = data_call(service->rpc, service->map, &write,
                               (struct buf_slice){buf, 0, META_INLINE_MAX},
                               env_now_ns() + META_DATA_PATIENCE_NS);
        buf_put(buf);
        if (result == -ERR_CANCELED)
            return -ERR_NOT_PRIMARY; /* who is it now has been there */
        if (result < 0)
            return result;
        op_inline_store(txn, inode, NULL, 0);
    }
    inode->row.flags &= ~(uint32_t)ATTR_INLINE; /* M6 */
    inode->dirty = true;
    return 0;
}

/* Inline before and after. */
static int resize_inline(struct meta_txn *txn, struct txn_inode *inode, uint64_t size)
{
    uint8_t data[META_INLINE_MAX];
    assert(size <= META_INLINE_MAX);
    int result = op_inline_load(txn, inode, data);
    if (result < 0)
        return result;
    op_inline_store(txn, inode, data, (uint32_t)size);
    inode->row.size = size;
    return 0;
}

int op_resize(struct meta_op *op, struct meta_txn *txn, struct txn_inode *inode, uint64_t size)
{
    const struct meta_service *service = op->service;
    int result = 0;
    if (size > META_FILE_SIZE_MAX)
        return -EFBIG;
    if ((inode->row.flags & ATTR_INLINE) && size > META_INLINE_MAX)
        result = op_spill(op, txn, inode);
    if (result < 0)
        return result;
    if (inode->row.flags & ATTR_INLINE)
        return size == inode->row.size ? 0 : resize_inline(txn, inode, size);
    if (size < inode->row.size) {
        const struct data_truncation truncation = {
            .ino = inode->ino,
            .from_offset = size,
            .size = inode->row.size,
            .order = next_order(op),
            .change = inode->row.change + 1, /* op_touch follows */
            .durable = true,
        };
        inode->row.truncated = truncation.change;
        result = data_truncate_file(service->rpc, service->map, &truncation,
                                    env_now_ns() + META_DATA_PATIENCE_NS);
    }
    if (result == 0)
        inode->row.size = size;
    return result;
}

int op_truncate(struct meta_op *op, struct meta_txn *txn)
{
    struct txn_inode *inode;
    int result = txn_inode(txn, op->req->ino, &inode);
    if (result == 0)
        result = check_file(&inode->row);
    if (result == 0)
        result = cred_access(&op->cred, &inode->row, CRED_WRITE);
    if (result == 0)
        result = op_resize(op, txn, inode, op->req->size);
    if (result < 0)
        return result;
    inode->row.mtime_ns = op->now_ns;
    op_touch(op, inode);
    op_reply_attr(op, inode->ino, &inode->row);
    return 0;
}

int op_grow(struct meta_op *op, struct meta_txn *txn)
{
    struct txn_inode *inode;
    int result = txn_inode(txn, op->req->ino, &inode);
    if (result == 0)
        result = check_file(&inode->row);
    if (result < 0)
        return result;
    if (op->req->change && op->req->change < inode->row.truncated)
        return -ERR_TRUNCATED;
    uint64_t size = op->req->size;
    if (op->req->flags & META_APPEND)
        size = size > META_FILE_SIZE_MAX ? size : inode->row.size + size;
    if (size > inode->row.size)
        result = op_resize(op, txn, inode, size);
    else if (size > META_INLINE_MAX && (inode->row.flags & ATTR_INLINE))
        result = op_spill(op, txn, inode);
    if (result < 0)
        return result;
    if (op->req->mtime_ns != 0)
        inode->row.mtime_ns = op->req->mtime_ns;
    op_touch(op, inode);
    op_reply_attr(op, inode->ino, &inode->row);
    return 0;
}

int op_inline_read(struct meta_op *op)
{
    struct disk_inode row;
    int result = op_inode(op, op->req->ino, &row);
    if (result == 0)
        result = check_file(&row);
    if (result == 0)
        result = op_reply_inline(op, op->req->ino, &row);
    if (result == 0)
        op_reply_attr(op, op->req->ino, &row);
    return result;
}

int op_inline_write(struct meta_op *op, struct meta_txn *txn)
{
    bool append = op->req->flags & META_APPEND;
    uint64_t offset = append ? 0 : op->req->offset;
    uint8_t data[META_INLINE_MAX];
    struct txn_inode *inode;
    if (offset > META_INLINE_MAX || offset + op->value.bytes > META_INLINE_MAX)
        return append ? -ERR_NOT_INLINE : -EFBIG;
    int result = txn_inode(txn, op->req->ino, &inode);
    if (result == 0)
        result = check_file(&inode->row);
    if (result == 0 && !(inode->row.flags & ATTR_INLINE))
        result = -ERR_NOT_INLINE;
    if (result == 0 && append)
        offset = inode->row.size;
    if (result == 0 && offset + op->value.bytes > META_INLINE_MAX)
        result = -ERR_NOT_INLINE;
    if (result == 0)
        result = op_inline_load(txn, inode, data);
    if (result < 0)
        return result;
    uint64_t bytes = op->value.bytes;
    bool keeps_size = op->req->flags & META_KEEP_SIZE;
    if (keeps_size)
        bytes = offset < inode->row.size ? MIN(bytes, inode->row.size - offset) : 0;
    if (bytes > 0)
        memcpy(data + offset, op->value.data, bytes);
    if (!keeps_size)
        inode->row.size = MAX(inode->row.size, offset + bytes);
    op_inline_store(txn, inode, data, (uint32_t)inode->row.size);
    inode->row.mtime_ns = op->now_ns;
    op_touch(op, inode);
    op_reply_attr(op, inode->ino, &inode->row);
    return 0;
}
