/* SPDX-License-Identifier: MIT */
/* read: inline bytes at hand, inline bytes asked for, or pieces of objects in parallel. */
#include "client/client_internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/plant.h"

static void data_add(struct client_data *data, struct buf_slice part)
{
    if (part.bytes == 0)
        return;
    assert(data->part_count < CLIENT_PARTS_MAX);
    data->parts[data->part_count++] = part;
    data->bytes += part.bytes;
}

void client_data_fini(struct client_data *data)
{
    for (uint32_t i = 0; i < data->part_count; i++)
        buf_put(data->parts[i].buf);
    data->part_count = 0;
    data->bytes = 0;
}

void client_data_copy(const struct client_data *data, void *out)
{
    uint8_t *place = out;
    for (uint32_t i = 0; i < data->part_count; i++) {
        memcpy(place, buf_slice_data(&data->parts[i]), data->parts[i].bytes);
        place += data->parts[i].bytes;
    }
}

/* The part of bytes (the whole file) that [offset, offset + count) asks for. */
static void data_copy_in(struct client_data *data, const uint8_t *bytes, uint32_t have,
                         uint64_t offset, uint32_t count)
{
    if (offset >= have)
        return;
    uint32_t run = MIN(count, have - (uint32_t)offset);
    struct buf *buf = buf_new(run);
    memcpy(buf->data, bytes + offset, run);
    data_add(data, (struct buf_slice){.buf = buf, .bytes = run});
}

/* 0, or -ERR_NOT_INLINE: the file has moved to objects. */
static int read_inline(struct client_inode *inode, uint64_t offset, uint32_t bytes,
                       struct client_data *data)
{
    struct client *client = inode->client;
    bool current = inode->inline_change == inode->attr.change || PLANT(CLIENT_INLINE_STALE);
    bool cached = inode->inline_data && current &&
                  env_now_ns() < inode->inline_at_ns + client->options.attr_ttl_ns;
    if (cached) {
        data_copy_in(data, inode->inline_data, inode->inline_bytes, offset, bytes);
        return 0;
    }
    struct meta_call meta = {.type = RPC_INLINE_READ, .req.ino = inode->ino};
    uint64_t asked_ns = env_now_ns();
    int result = meta_call(client, NULL, &meta);
    if (result == 0 && (!meta.rep.attr_valid || meta.rep.attr.ino != inode->ino ||
                        meta.tail.bytes > META_INLINE_MAX))
        result = -ERR_CORRUPT_WIRE;
    if (result == 0) {
        client_inode_learn(inode, &meta, asked_ns);
        data_copy_in(data, meta.tail.data, meta.tail.bytes, offset, bytes);
        if (inode->attr.change == meta.rep.attr.change)
            client_inode_inline_put(inode, meta.tail, asked_ns);
    }
    meta_call_fini(&meta);
    return result;
}

struct read_piece {
    struct gather *gather;
    struct client_inode *inode;
    struct split_piece piece;   /* as wanted */
    struct split_piece aligned; /* as asked */
    struct buf_slice payload;
};

static void read_piece_fiber(void *arg)
{
    struct read_piece *read = arg;
    gather_done(read->gather, client_read_piece(read->inode, &read->aligned, &read->payload));
}

/* Add what was wanted of a piece: bytes that came, then zeroes. Takes over the payload. */
static void read_piece_emit(struct client *client, struct read_piece *read,
                            struct client_data *data)
{
    uint32_t skip = read->piece.offset - read->aligned.offset;
    uint32_t have = MAX(read->payload.bytes, skip) - skip;
    uint32_t run = MIN(have, read->piece.bytes);
    uint32_t zeroes = read->piece.bytes - run;
    if (run)
        data_add(data, (struct buf_slice){read->payload.buf, read->payload.offset + skip, run});
    else
        buf_put(read->payload.buf);
    if (zeroes)
        data_add(data, (struct buf_slice){buf_get(client->zeroes), 0, zeroes});
}

static int read_objects(struct client_inode *inode, uint64_t offset, uint32_t bytes,
                        struct client_data *data)
{
    struct split_piece pieces[SPLIT_PIECES_MAX];
    struct read_piece reads[SPLIT_PIECES_MAX];
    struct gather gather;
    uint32_t count = split_range(offset, bytes, pieces);
    assert(count > 0);
    gather_init(&gather);
    gather.pending = count;
    for (uint32_t i = 0; i < count; i++) {
        reads[i] = (struct read_piece){
            .gather = &gather,
            .inode = inode,
            .piece = pieces[i],
            .aligned = split_align(&pieces[i]),
        };
        if (i > 0)
            fiber_spawn("client-read", read_piece_fiber, &reads[i]);
    }
    read_piece_fiber(&reads[0]);
    int result = gather_wait(&gather);
    for (uint32_t i = 0; i < count; i++) {
        if (result == 0)
            read_piece_emit(inode->client, &reads[i], data);
        else
            buf_put(reads[i].payload.buf);
    }
    return result;
}

static int read_inode(struct client_inode *inode, uint64_t offset, uint32_t bytes,
                      struct client_data *data)
{
    uint64_t end = offset + bytes;
    if (client_inode_outlived(inode)) {
        int result = client_inode_refresh(inode);
        if (result < 0)
            return result;
    }
    if (client_inode_inline(inode)) {
        int result = read_inline(inode, offset, bytes, data);
        if (result != -ERR_NOT_INLINE)
            return result;
        result = client_inode_refresh(inode);
        if (result < 0)
            return result;
        if (client_inode_inline(inode))
            return -ERR_CORRUPT_WIRE; /* the server contradicts itself */
    }
    if (!client_inode_fresh(inode)) { /* I4: the file may have become shorter, too */
        int result = client_inode_refresh(inode);
        if (result < 0)
            return result;
    }
    uint64_t stop = MIN(end, inode->attr.size);
    return stop > offset ? read_objects(inode, offset, (uint32_t)(stop - offset), data) : 0;
}

int client_read(struct client_file *file, uint64_t offset, uint32_t bytes,
                struct client_data *ret_data)
{
    if (bytes > CLIENT_IO_MAX)
        return -EINVAL;
    struct client_data data = {0};
    struct client_inode *inode = client_inode_get(file->inode);
    int result = 0;
    if (bytes > 0 && offset < META_FILE_SIZE_MAX)
        result = read_inode(inode, offset, bytes, &data);
    inode->client->stats.read_bytes += data.bytes;
    client_inode_put(inode);
    if (result == 0)
        *ret_data = data;
    return result;
}
