/* SPDX-License-Identifier: MIT */
/* OBJ_WRITE.
 *
 * The payload arrives in a buffer of its own and goes from there to the device and to the members:
 * one pass over it for the checksums and no copy, if it begins at a block boundary. A fragment of a
 * block at either end is merged with the block as it is; the lock makes sure that the block as it
 * is stays so until ours has been applied. */
#include "data/data_internal.h"

#include "base/crc32c.h"

/* A write being put together. */
struct put {
    const struct wire_obj_req *request;
    struct buf_slice payload;
    const uint8_t *tail;   /* u32 per fragment */
    uint64_t first;        /* position of the first block touched */
    uint32_t blocks;       /* touched */
    uint32_t head_skip;    /* bytes of the first block before the range */
    uint32_t end_bytes;    /* bytes of the last block within the range, if not all */
    struct buf_slice data; /* the whole blocks; holds a reference */
    uint32_t crcs[DATA_WRITE_BLOCKS_MAX];
};

static int put_init(struct put *put, const struct rpc_request *request)
{
    const struct wire_obj_req *body = request->body;
    bool asks = body->flags & OBJ_ASK;
    if (body->bytes == 0 || body->bytes > DATA_IO_MAX || body->offset >= OBJECT_BYTES ||
        body->bytes > OBJECT_BYTES - body->offset ||
        request->payload.bytes != (asks ? 0 : body->bytes))
        return -EINVAL;
    uint32_t end = body->offset + body->bytes;
    uint32_t first_block = body->offset / DATA_BLOCK_BYTES;
    put->request = body;
    put->payload = request->payload;
    put->tail = request->tail.data;
    put->first = data_position(body->index, first_block);
    put->blocks = (uint32_t)div_up(end, DATA_BLOCK_BYTES) - first_block;
    put->head_skip = body->offset % DATA_BLOCK_BYTES;
    put->end_bytes = end % DATA_BLOCK_BYTES;
    assert(put->blocks <= DATA_WRITE_BLOCKS_MAX);
    return request->tail.bytes == (asks ? 0 : put->blocks * sizeof(uint32_t)) ? 0 : -EINVAL;
}

/* Every fragment against its checksum; those of whole blocks are kept as they are. */
static int verify_payload(struct put *put)
{
    const uint8_t *bytes = buf_slice_data(&put->payload);
    uint32_t left = put->payload.bytes;
    uint32_t room = DATA_BLOCK_BYTES - put->head_skip;
    for (uint32_t i = 0; i < put->blocks; i++) {
        uint32_t count = MIN(left, room);
        memcpy(&put->crcs[i], put->tail + 4 * (size_t)i, sizeof put->crcs[i]);
        if (crc32c(0, bytes, count) != put->crcs[i])
            return -ERR_CORRUPT_DATA;
        bytes += count;
        left -= count;
        room = DATA_BLOCK_BYTES;
    }
    assert(left == 0);
    return 0;
}

/* May the bytes behind the payload in its buffer be used to complete the last block? */
static bool fits_in_place(const struct put *put)
{
    const struct buf *buf = put->payload.buf;
    if (put->head_skip != 0 || put->payload.offset % DATA_BLOCK_BYTES != 0)
        return false;
    return put->end_bytes == 0 ||
           (buf->refs == 1 && put->payload.offset + put->blocks * DATA_BLOCK_BYTES <= buf->size);
}

static void place_payload(struct put *put)
{
    uint32_t bytes = put->blocks * DATA_BLOCK_BYTES;
    if (fits_in_place(put)) {
        struct buf *buf = buf_get(put->payload.buf);
        buf->bytes = MAX(buf->bytes, put->payload.offset + bytes);
        put->data = (struct buf_slice){buf, put->payload.offset, bytes};
        return;
    }
    put->data = (struct buf_slice){buf_new(bytes), 0, bytes};
    memcpy(put->data.buf->data + put->head_skip, buf_slice_data(&put->payload), put->payload.bytes);
}

/* Complete block index with what lies in [0, before) and [after, 4096) of it now. */
static int merge_block(struct data_change *change, struct put *put, uint32_t index, uint32_t before,
                       uint32_t after)
{
    assert(before <= after && after <= DATA_BLOCK_BYTES);
    struct buf *old = buf_new(DATA_BLOCK_BYTES);
    struct data_io *io = data_io_take(change->service);
    io->group = change->dg->id;
    io->ino = change->ino;
    io->first = put->first + index;
    io->blocks = 1;
    io->data = old->data;
    int result = data_read(change->service, io);
    data_io_give(change->service, io);
    if (result == 0) {
        uint8_t *block = buf_slice_data(&put->data) + (size_t)index * DATA_BLOCK_BYTES;
        memcpy(block, old->data, before);
        memcpy(block + after, old->data + after, DATA_BLOCK_BYTES - after);
        put->crcs[index] = crc32c(0, block, DATA_BLOCK_BYTES);
    }
    buf_put(old);
    return result;
}

static int merge_edges(struct data_change *change, struct put *put)
{
    uint32_t last = put->blocks - 1;
    uint32_t after = put->end_bytes ? put->end_bytes : DATA_BLOCK_BYTES;
    int result = 0;
    if (put->head_skip != 0)
        result = merge_block(change, put, 0, put->head_skip, last == 0 ? after : DATA_BLOCK_BYTES);
    if (result == 0 && put->end_bytes != 0 && (last > 0 || put->head_skip == 0))
        result = merge_block(change, put, last, 0, after);
    return result;
}

static int put_blocks(struct data_change *change, struct put *put)
{
    place_payload(put);
    int result = merge_edges(change, put);
    if (result == 0)
        result = data_append_write(change, put->first, put->data, put->crcs, DATA_PROGRESS_DONE);
    buf_put(put->data.buf);
    return result;
}

static int write_object(struct data_service *service, const struct rpc_request *request)
{
    struct put put;
    struct data_change change;
    int result = put_init(&put, request);
    if (result == 0)
        result = data_change_begin(service, request, put.first, put.first + put.blocks, &change);
    if (result != 0)
        return MIN(result, 0);
    /* Refused only here, where no earlier copy of the request is under way any more (R4). */
    bool asks = put.request->flags & OBJ_ASK;
    if (!asks)
        result = verify_payload(&put);
    if (result == 0 && data_is_cut(service, request->header->group, request->body))
        result = -ERR_TRUNCATED;
    if (result == 0 && !asks)
        result = put_blocks(&change, &put);
    data_change_end(&change);
    return result;
}

void data_serve_write(struct data_service *service, struct rpc_request *request)
{
    const struct wire_obj_req *body = request->body;
    const struct wire_obj_write_rep reply = {.obj = {.bytes = body->bytes}};
    int result = write_object(service, request);
    rpc_reply(request, result, result < 0 ? NULL : &reply, (struct slice){0},
              (struct buf_slice){0});
}
