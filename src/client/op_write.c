/* SPDX-License-Identifier: MIT */
/* write: into the inode while the file is small, else pieces of objects in parallel, and with
 * them the new size (I5, I6, I7 in client.c). */
#include "client/client_internal.h"

#include <fcntl.h>
#include <string.h>

#include "base/assert.h"
#include "base/plant.h"

/* 0, or -ERR_NOT_INLINE. */
static int write_inline(struct client_inode *inode, uint64_t offset, struct slice data,
                        uint32_t flags)
{
    assert(offset + data.bytes <= META_INLINE_MAX);
    struct meta_call meta = {
        .type = RPC_INLINE_WRITE,
        .req = {.ino = inode->ino, .offset = offset, .flags = flags},
        .value = data,
    };
    struct wire_attr attr;
    return meta_call_attr(inode->client, NULL, &meta, &attr);
}

struct write_piece {
    struct gather *gather;
    struct client_inode *inode;
    struct split_piece piece;
    uint64_t change;
    struct buf_slice data;
};

static void write_piece_fiber(void *arg)
{
    struct write_piece *write = arg;
    gather_done(write->gather,
                client_write_piece(write->inode, &write->piece, write->change, write->data));
}

struct write_size {
    struct gather *gather;
    struct client_inode *inode;
    uint64_t size;
    uint64_t change;
    int result;
};

static void write_size_fiber(void *arg)
{
    struct write_size *size = arg;
    size->result = client_inode_grow(size->inode, size->size, size->change);
    gather_done(size->gather, size->result);
}

/* What the inode has to learn of a write. */
enum write_news {
    WRITE_TIME, /* that it was modified; in a while */
    WRITE_SIZE, /* that its size may be greater, and the time */
    WRITE_TOLD, /* both are known there */
};

/* A new size goes along with the data; but after a write has failed, the next ones first see
 * whether the data finds room, so that a full cluster leaves no file longer than what is in it (but
 * for the first). -ERR_TRUNCATED: somebody truncated the file meanwhile, and some parts came before
 * that, others after it (I8); *ret_grown: the new size came before. */
static int write_objects(struct client_inode *inode, uint64_t offset, struct buf_slice data,
                         enum write_news news, uint64_t change, bool *ret_grown)
{
    bool grows = news == WRITE_SIZE;
    struct split_piece pieces[SPLIT_PIECES_MAX];
    struct write_piece writes[SPLIT_PIECES_MAX];
    struct gather gather;
    uint32_t count = split_range(offset, data.bytes, pieces);
    uint64_t end = offset + data.bytes;
    struct write_size size = {&gather, inode, end, change, -ECANCELED};
    assert(count > 0);
    gather_init(&gather);
    bool grows_along = grows && env_now_ns() >= inode->client->careful_until_ns;
    gather.pending = count + (grows_along ? 1 : 0);
    if (grows_along)
        fiber_spawn("client-grow", write_size_fiber, &size);
    for (uint32_t i = 0; i < count; i++) {
        writes[i] = (struct write_piece){
            .gather = &gather,
            .inode = inode,
            .piece = pieces[i],
            .change = change,
            .data = {data.buf, data.offset + (uint32_t)(pieces[i].file_offset - offset),
                     pieces[i].bytes},
        };
        if (i > 0)
            fiber_spawn("client-write", write_piece_fiber, &writes[i]);
    }
    write_piece_fiber(&writes[0]);
    int result = gather_wait(&gather);
    *ret_grown = size.result == 0;
    if (result < 0 && result != -ERR_TRUNCATED)
        inode->client->careful_until_ns = env_now_ns() + CLIENT_CAREFUL_NS;
    if (result == 0 && grows && !grows_along)
        result = client_inode_grow(inode, end, change);
    if (news == WRITE_TIME)
        client_inode_lazy_mtime(inode, (int64_t)env_wall_ns());
    return result;
}

/* Move the file out of the inode before a write that does not fit there (I5). */
static int spill(struct client_inode *inode, uint64_t size)
{
    fiber_mutex_lock(&inode->meta_lock);
    int result = client_inode_inline(inode) ? client_inode_grow(inode, size, 0) : 0;
    fiber_mutex_unlock(&inode->meta_lock);
    if (result == 0 && client_inode_inline(inode))
        result = -ERR_CORRUPT_WIRE; /* the server says it grew, and did not */
    return result;
}

static int write_once(struct client_inode *inode, uint64_t offset, struct buf_slice data,
                      bool *ret_grown)
{
    uint64_t end = offset + data.bytes;
    if (client_inode_inline(inode)) {
        if (end <= META_INLINE_MAX) {
            int result =
                write_inline(inode, offset, slice_of(buf_slice_data(&data), data.bytes), 0);
            if (result != -ERR_NOT_INLINE)
                return result;
            result = client_inode_refresh(inode);
            if (result == 0 && client_inode_inline(inode))
                result = -ERR_CORRUPT_WIRE; /* the server contradicts itself */
            if (result < 0)
                return result;
        } else {
            int result = spill(inode, end);
            if (result < 0)
                return result;
        }
    }
    bool grows = end > inode->attr.size || !client_inode_fresh(inode); /* I6 */
    grows = grows && !PLANT(CLIENT_SIZE_UNSENT);
    return write_objects(inode, offset, data, grows ? WRITE_SIZE : WRITE_TIME, inode->attr.change,
                         ret_grown);
}

static int write_inode(struct client_inode *inode, uint64_t offset, struct buf_slice data,
                       bool *ret_grown)
{
    int result;
    do {
        result = client_inode_outlived(inode) ? client_inode_refresh(inode) : 0;
        if (result == 0)
            result = write_once(inode, offset, data, ret_grown);
    } while (result == 0 && client_inode_outlived(inode)); /* objects that nobody looks at (I5) */
    return result;
}

int client_write(struct client_file *file, uint64_t offset, struct buf_slice data)
{
    if (data.bytes > CLIENT_IO_MAX)
        return -EINVAL;
    if (offset > META_FILE_SIZE_MAX || data.bytes > META_FILE_SIZE_MAX - offset)
        return -EFBIG;
    if (data.bytes == 0)
        return 0;
    struct client_inode *inode = client_inode_get(file->inode);
    int result;
    bool grown = false;
    struct buf_slice left = data;
    while ((result = write_inode(inode, offset, left, &grown)) == -ERR_TRUNCATED) {
        /* A change of ours is newer than any truncation, also one that was begun and given up. */
        result = client_inode_grow(inode, 0, 0);
        if (result < 0)
            break;
        /* Others may have seen the new size: it is not set again. The write came before the
         * truncation, and what that has taken is gone. */
        if (grown)
            left.bytes = (uint32_t)MIN(left.bytes, MAX(inode->attr.size, offset) - offset);
        if (left.bytes == 0)
            break;
    }
    if (result == 0)
        inode->client->stats.write_bytes += data.bytes;
    client_inode_put(inode);
    return result;
}

/* ---- append ------------------------------------------------------------------------------ */

/* The end is taken first, then written: two clients never get the same place. If we fail in
 * between, the place stays zeroes. If the file is truncated in between, another place is taken. */
static int append_inode(struct client_inode *inode, struct buf_slice data)
{
    struct slice bytes = slice_of(buf_slice_data(&data), data.bytes);
    if (client_inode_inline(inode) && data.bytes <= META_INLINE_MAX) {
        int result = write_inline(inode, 0, bytes, META_APPEND);
        if (result != -ERR_NOT_INLINE)
            return result;
    }
    struct meta_call meta = {
        .type = RPC_GROW,
        .req =
            {
                .ino = inode->ino,
                .size = data.bytes,
                .mtime_ns = (int64_t)env_wall_ns(),
                .flags = META_APPEND,
            },
    };
    struct wire_attr attr;
    int result = meta_call_attr(inode->client, NULL, &meta, &attr);
    if (result == 0 && attr.size < data.bytes)
        result = -ERR_CORRUPT_WIRE;
    if (result < 0)
        return result;
    uint64_t offset = attr.size - data.bytes;
    if (attr.flags & ATTR_INLINE) /* it was cut short after the first try */
        return write_inline(inode, offset, bytes, 0);
    bool grown;
    return write_objects(inode, offset, data, WRITE_TOLD, attr.change, &grown);
}

int client_append(struct client_file *file, struct buf_slice data)
{
    if (data.bytes > CLIENT_IO_MAX)
        return -EINVAL;
    if (data.bytes == 0)
        return 0;
    struct client_inode *inode = client_inode_get(file->inode);
    int result;
    do
        result = append_inode(inode, data);
    while (result == -ERR_TRUNCATED);
    if (result == 0)
        inode->client->stats.write_bytes += data.bytes;
    client_inode_put(inode);
    return result;
}

/* ---- fallocate --------------------------------------------------------------------------- */

static int punch_inline(struct client_inode *inode, uint64_t offset, uint64_t end)
{
    static const uint8_t zeroes[META_INLINE_MAX];
    uint64_t stop = MIN(end, (uint64_t)META_INLINE_MAX);
    return write_inline(inode, offset, slice_of(zeroes, stop - offset), META_KEEP_SIZE);
}

static int punch(struct client_inode *inode, uint64_t offset, uint64_t end)
{
    /* I4: another client may have made it longer. */
    int result = client_inode_fresh(inode) ? 0 : client_inode_refresh(inode);
    if (result == 0 && client_inode_inline(inode)) {
        result = offset < META_INLINE_MAX ? punch_inline(inode, offset, end) : 0;
        if (result != -ERR_NOT_INLINE)
            return result;
        result = client_inode_refresh(inode);
    }
    end = MIN(end, inode->attr.size);
    while (result == 0 && offset < end) {
        uint64_t stop = MIN(round_down(offset, OBJECT_BYTES) + OBJECT_BYTES, end);
        struct split_piece piece = {
            .index = (uint32_t)(offset / OBJECT_BYTES),
            .offset = (uint32_t)(offset % OBJECT_BYTES),
            .bytes = (uint32_t)(stop - offset),
        };
        result = client_punch_piece(inode, &piece);
        offset = stop;
    }
    if (result == 0)
        client_inode_lazy_mtime(inode, (int64_t)env_wall_ns());
    return result;
}

int client_fallocate(struct client_file *file, uint32_t mode, uint64_t offset, uint64_t bytes)
{
    if (bytes == 0)
        return -EINVAL;
    if (offset > META_FILE_SIZE_MAX || bytes > META_FILE_SIZE_MAX - offset)
        return -EFBIG;
    struct client_inode *inode = client_inode_get(file->inode);
    int result = -EOPNOTSUPP;
    if (mode == 0)
        result = client_inode_grow(inode, offset + bytes, 0);
    else if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
        result = punch(inode, offset, offset + bytes);
    client_inode_put(inode);
    return result;
}
