/* SPDX-License-Identifier: MIT */
#include <sys/stat.h>

#include "meta/op.h"
#include "meta/open.h"

static int open_read(struct meta_op *op, struct disk_inode *row)
{
    uint64_t ino = op->req->ino;
    int result = op_inode(op, ino, row);
    if (result < 0)
        return result;
    if ((op->req->flags & META_WANT_DATA) && (row->flags & ATTR_INLINE)) {
        result = op_reply_inline(op, ino, row);
        if (result == -ERR_NOT_INLINE)
            result = 0;
    }
    return result;
}

/* Register first, then look: an unlink that did not see the registration is seen here, because
 * this waits for whoever holds the inode. */
int op_open(struct meta_op *op)
{
    uint64_t ino = op->req->ino, open_id = 0;
    struct disk_inode row;
    struct meta_key key;
    int result = 0;
    if (op->req->flags & META_OPEN) {
        open_id = op_register_open(op, ino);
        key_of_ino(&key, op->mg->id, META_TABLE_INODE, ino);
        result = meta_lock_wait(op->mg, key_slice(&key), true, op->deadline_ns);
    }
    if (result == 0)
        result = open_read(op, &row);
    if (result < 0) {
        if (open_id && !op->mg->dead)
            meta_open_remove(op->mg, op->req->session, ino, open_id);
        return result;
    }
    op->rep.open_id = open_id;
    op_reply_attr(op, ino, &row);
    return 0;
}

int op_release(struct meta_op *op)
{
    struct wire_release row;
    struct reader reader;
    reader_init(&reader, op->value.data, op->value.bytes);
    if (op->value.bytes == 0 || op->value.bytes % sizeof row != 0)
        return -ERR_CORRUPT_WIRE;
    for (uint32_t left = op->value.bytes / sizeof row; left > 0; left--) {
        reader_copy(&reader, &row, sizeof row);
        meta_open_remove(op->mg, op->req->session, row.ino, row.open_id);
    }
    assert(reader_ok(&reader));
    return 0;
}

int op_sync(struct meta_op *op)
{
    struct disk_inode row;
    /* Waits until the inode's last transaction is decided, and decisions are durable before they
     * are told (T5). */
    int result = op_inode(op, op->req->ino, &row);
    if (result < 0 && result != -ESTALE)
        return result;
    return group_flush(op->mg->group);
}
