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

/* Where a piece of a write is. */
enum write_state {
    PIECE_TO_WRITE, /* also: refused */
    PIECE_WRITTEN,
    PIECE_GONE, /* written, and then cut by another client's truncation; or to be so at once */
};

struct write;
struct write_piece {
    struct write *write;
    struct split_piece piece;
    struct client_placed placed; /* PIECE_WRITTEN: as of when */
    enum write_state state;
};

/* A write to objects, until all of it is done (I8 in client.c). */
struct write {
    struct client_inode *inode;
    struct buf_slice data;
    uint64_t offset;
    uint64_t change; /* of the inode, as this attempt knows it */
    bool settled;    /* the size: this write has set it, or a truncation after it */
    int error;       /* of a piece that may be written or not */
    uint32_t count;
    struct write_piece pieces[SPLIT_PIECES_MAX];
    struct gather gather; /* of this attempt */
};

static void write_init(struct write *write, struct client_inode *inode, uint64_t offset,
                       struct buf_slice data)
{
    struct split_piece pieces[SPLIT_PIECES_MAX];
    *write = (struct write){.inode = inode, .data = data, .offset = offset};
    write->count = split_range(offset, data.bytes, pieces);
    assert(write->count > 0);
    for (uint32_t i = 0; i < write->count; i++)
        write->pieces[i] = (struct write_piece){.write = write, .piece = pieces[i]};
}

static void write_piece_fiber(void *arg)
{
    struct write_piece *piece = arg;
    struct write *write = piece->write;
    const struct buf_slice data = {
        .buf = write->data.buf,
        .offset = write->data.offset + (uint32_t)(piece->piece.file_offset - write->offset),
        .bytes = piece->piece.bytes,
    };
    piece->placed.change = write->change;
    int result = client_write_piece(write->inode, &piece->piece, data, &piece->placed);
    if (result == 0)
        piece->state = PIECE_WRITTEN;
    else if (result != -ERR_TRUNCATED)
        write->error = result;
    gather_done(&write->gather, result);
}

static int write_size(struct write *write)
{
    uint64_t end = write->offset + write->data.bytes;
    int result = client_inode_grow(write->inode, end, write->change);
    write->settled = result == 0;
    return result;
}

static void write_size_fiber(void *arg)
{
    struct write *write = arg;
    gather_done(&write->gather, write_size(write));
}

/* A new size goes along with the data; but after a write has failed, the next ones first see
 * whether the data finds room, so that a full cluster leaves no file longer than what is in it (but
 * for the first). -ERR_TRUNCATED: somebody truncated the file meanwhile, and some parts came before
 * that, others after it. */
static int write_objects(struct write *write, bool grows)
{
    struct client_inode *inode = write->inode;
    bool grows_along = grows && env_now_ns() >= inode->client->careful_until_ns;
    gather_init(&write->gather);
    write->gather.pending = 1; /* this fiber */
    if (grows_along) {
        write->gather.pending++;
        fiber_spawn("client-grow", write_size_fiber, write);
    }
    struct write_piece *mine = NULL;
    for (uint32_t i = 0; i < write->count; i++) {
        struct write_piece *piece = &write->pieces[i];
        if (piece->state != PIECE_TO_WRITE)
            continue;
        write->gather.pending++;
        if (mine)
            fiber_spawn("client-write", write_piece_fiber, piece);
        else
            mine = piece;
    }
    if (mine)
        write_piece_fiber(mine);
    gather_done(&write->gather, 0);
    int result = gather_wait(&write->gather);
    if (write->error)
        result = write->error;
    if (result < 0 && result != -ERR_TRUNCATED)
        inode->client->careful_until_ns = env_now_ns() + CLIENT_CAREFUL_NS;
    if (result == 0 && grows && !grows_along)
        result = write_size(write);
    if (result == 0 && !write->settled)
        client_inode_lazy_mtime(inode, (int64_t)env_wall_ns());
    return result;
}

/* ---- truncated meanwhile ----------------------------------------------------------------- */

/* What has become of the pieces that were written. *ret_cut: one was cut, so the truncation came
 * after it; *ret_beyond: one is there, behind the end. */
static int look_at_pieces(struct write *write, bool *ret_cut, bool *ret_beyond)
{
    *ret_cut = *ret_beyond = false;
    for (uint32_t i = 0; i < write->count; i++) {
        struct write_piece *piece = &write->pieces[i];
        if (piece->state != PIECE_WRITTEN)
            continue;
        int result = client_piece_is_cut(write->inode, &piece->piece, &piece->placed);
        if (result == -ERR_WRONG_EPOCH)
            piece->state = PIECE_TO_WRITE; /* nobody knows */
        else if (result < 0)
            return result;
        else if (result == 1)
            piece->state = PIECE_GONE;
        else
            *ret_beyond |= piece->piece.file_offset + piece->piece.bytes > write->inode->attr.size;
        *ret_cut |= result == 1;
    }
    return 0;
}

/* The write came before the truncation: what that has left of it is written, and nothing else. */
static void write_clip(struct write *write)
{
    uint64_t size = write->inode->attr.size;
    for (uint32_t i = 0; i < write->count; i++) {
        struct split_piece *piece = &write->pieces[i].piece;
        if (write->pieces[i].state != PIECE_TO_WRITE)
            continue;
        if (size <= piece->file_offset)
            write->pieces[i].state = PIECE_GONE;
        else
            piece->bytes = (uint32_t)MIN(piece->bytes, size - piece->file_offset);
    }
}

/* After -ERR_TRUNCATED: which came first, and what is left to do? (I8) */
static int write_overtaken(struct write *write)
{
    bool cut = false, beyond = false;
    /* A change of ours is newer than any truncation, also one that was begun and given up. */
    int result = client_inode_grow(write->inode, 0, 0);
    if (result == 0 && !write->settled)
        result = look_at_pieces(write, &cut, &beyond);
    if (result < 0)
        return result;
    if ((write->settled || (cut && !beyond)) && !PLANT(CLIENT_TRUNCATED_ANEW)) {
        write->settled = true;
        write_clip(write);
        return 0;
    }
    for (uint32_t i = 0; i < write->count; i++) {
        if (write->pieces[i].state == PIECE_GONE)
            write->pieces[i].state = PIECE_TO_WRITE;
    }
    return 0;
}

/* ---- write ------------------------------------------------------------------------------- */

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

/* Into the inode if it fits there. 1: it does not, and the file is not there any more (I5). */
static int write_small(struct client_inode *inode, uint64_t offset, struct buf_slice data)
{
    uint64_t end = offset + data.bytes;
    int result;
    if (!client_inode_inline(inode))
        return 1;
    if (end > META_INLINE_MAX) {
        result = spill(inode, end);
        return result < 0 ? result : 1;
    }
    result = write_inline(inode, offset, slice_of(buf_slice_data(&data), data.bytes), 0);
    if (result != -ERR_NOT_INLINE)
        return result;
    result = client_inode_refresh(inode);
    if (result == 0 && client_inode_inline(inode))
        result = -ERR_CORRUPT_WIRE; /* the server contradicts itself */
    return result < 0 ? result : 1;
}

static int write_large(struct client_inode *inode, uint64_t offset, struct buf_slice data)
{
    struct write write;
    int result;
    write_init(&write, inode, offset, data);
    do {
        bool grows = offset + data.bytes > inode->attr.size || !client_inode_fresh(inode); /* I6 */
        grows = grows && !write.settled && !PLANT(CLIENT_SIZE_UNSENT);
        write.change = inode->attr.change;
        result = write_objects(&write, grows);
        if (result != -ERR_TRUNCATED)
            break;
        result = write_overtaken(&write);
    } while (result == 0 && !client_inode_outlived(inode));
    return result;
}

static int write_inode(struct client_inode *inode, uint64_t offset, struct buf_slice data)
{
    int result;
    do {
        result = client_inode_outlived(inode) ? client_inode_refresh(inode) : 0;
        if (result == 0)
            result = write_small(inode, offset, data);
        if (result == 1)
            result = write_large(inode, offset, data);
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
    int result = write_inode(inode, offset, data);
    if (result == 0)
        inode->client->stats.write_bytes += data.bytes;
    client_inode_put(inode);
    return result;
}

/* ---- append ------------------------------------------------------------------------------ */

/* The end is taken first, then written: two clients never get the same place. If we fail in
 * between, the place stays zeroes. If the file is truncated in between, that came later (I8). */
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
    struct write write;
    write_init(&write, inode, offset, data);
    write.settled = true;
    write.change = attr.change; /* as of when the place was taken */
    while ((result = write_objects(&write, false)) == -ERR_TRUNCATED) {
        result = write_overtaken(&write);
        if (result < 0)
            break;
        write.change = inode->attr.change;
    }
    return result;
}

int client_append(struct client_file *file, struct buf_slice data)
{
    if (data.bytes > CLIENT_IO_MAX)
        return -EINVAL;
    if (data.bytes == 0)
        return 0;
    struct client_inode *inode = client_inode_get(file->inode);
    int result = append_inode(inode, data);
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
