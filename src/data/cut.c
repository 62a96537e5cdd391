/* SPDX-License-Identifier: MIT */
/* OBJ_TRUNCATE and OBJ_PUNCH: blocks that are covered go, edges become zeroes.
 *
 * A record clears at most CUT_ROWS_MAX rows, so that applying one stays short; the removal of much
 * is a sequence of records and not atomic: whoever asked for it asks again if it was cut short.
 *
 * A truncation that is repeated may also arrive late: its first copy hung in a connection, or came
 * from a primary of the inode that is one no more, and meanwhile the file was truncated and written
 * again. So the last truncation done is remembered for the DATA_CUTS_MAX inodes that were truncated
 * last, and nothing is done for that one or an older one. Memory is enough: another primary serves
 * in another epoch, in which the late one is refused.
 *
 * A write and a truncation of two clients at once: either comes first. But a write has several
 * parts, pieces of objects and the new size, and if the truncation came between them, what it did
 * not see would show when the file grows again. So parts that know the inode as it was before the
 * truncation are refused from then on, here and by GROW, and the writer begins anew. (Not by
 * another primary that takes over in between: it does not know.) */
#include "data/data_internal.h"

#include "base/crc32c.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/plant.h"

enum { CUT_ROWS_MAX = 512, EDGE_ATTEMPTS = 20 };
#define EDGE_PAUSE_NS (20 * NS_PER_MS)

static void io_set(struct data_io *io, const struct data_change *change, uint64_t first)
{
    io->group = change->dg->id;
    io->ino = change->ino;
    io->first = first;
    io->blocks = 1;
    io->data = NULL;
}

/* Zero the bytes [from, to) of the block at position, unless it is a hole. */
static int zero_part(struct data_change *change, struct data_io *io, uint64_t position,
                     uint32_t from, uint32_t to)
{
    assert(from < to && to <= DATA_BLOCK_BYTES);
    io_set(io, change, position);
    struct buf *buf = buf_new(DATA_BLOCK_BYTES);
    io->data = buf->data;
    int result = data_read(change->service, io);
    if (result == 0 && data_io_used(io) > 0) {
        memset(buf->data + from, 0, to - from);
        uint32_t crc = crc32c(0, buf->data, DATA_BLOCK_BYTES);
        result =
            data_append_write(change, position, (struct buf_slice){buf, 0, DATA_BLOCK_BYTES}, &crc);
    }
    buf_put(buf);
    return result;
}

/* The same on a full store: what was cut just before becomes usable in a moment. */
static int zero_edge(struct data_change *change, struct data_io *io, uint64_t position,
                     uint32_t from, uint32_t to)
{
    for (uint32_t attempt = 1;; attempt++) {
        int result = zero_part(change, io, position, from, to);
        if (result != -ERR_NO_SPACE || attempt == EDGE_ATTEMPTS)
            return result;
        fiber_sleep(EDGE_PAUSE_NS);
    }
}

static int cut_blocks(struct data_change *change, struct data_io *io, uint64_t first, uint64_t end)
{
    while (first < end) {
        uint64_t reached;
        io_set(io, change, first);
        int rows = data_look_cut(change->service, io, end, CUT_ROWS_MAX, &reached);
        if (rows <= 0)
            return rows;
        int result = data_append_cut(change, first, reached);
        if (result < 0)
            return result;
        first = reached;
    }
    return 0;
}

static struct data_cut *cut_find(const struct data_service *service, uint32_t group, uint64_t ino)
{
    struct htable_node *node;
    for (node = htable_first(&service->cuts, hash_u64(ino)); node; node = htable_next(node)) {
        struct data_cut *cut = container_of(node, struct data_cut, node);
        if (cut->ino == ino && cut->group == group)
            return cut;
    }
    return NULL;
}

static bool cut_is_done(const struct data_service *service, uint32_t group,
                        const struct wire_obj_req *body)
{
    const struct data_cut *cut = body->order ? cut_find(service, group, body->ino) : NULL;
    return cut && cut->order >= body->order;
}

bool data_is_cut(const struct data_service *service, uint32_t group,
                 const struct wire_obj_req *body)
{
    const struct data_cut *cut = body->change ? cut_find(service, group, body->ino) : NULL;
    return cut && cut->change > body->change;
}

static void cut_done(struct data_service *service, uint32_t group, const struct wire_obj_req *body)
{
    if (body->order == 0)
        return;
    struct data_cut *cut = cut_find(service, group, body->ino);
    if (!cut && service->cut_count == DATA_CUTS_MAX) {
        cut = list_first(&service->cuts_by_age, struct data_cut, link);
        htable_remove(&service->cuts, &cut->node);
        cut->ino = 0;
    } else if (!cut) {
        cut = mem_zalloc(sizeof *cut);
        list_init(&cut->link);
        service->cut_count++;
    }
    if (cut->ino == 0) {
        cut->ino = body->ino;
        cut->group = group;
        cut->change = 0;
        htable_insert(&service->cuts, &cut->node, hash_u64(cut->ino));
    }
    assert(cut->ino == body->ino);
    cut->order = body->order;
    cut->change = MAX(cut->change, body->change);
    list_remove(&cut->link);
    list_push_back(&service->cuts_by_age, &cut->link);
}

static int truncate_object(struct data_service *service, const struct rpc_request *request)
{
    const struct wire_obj_req *body = request->body;
    if (body->offset > OBJECT_BYTES)
        return -EINVAL;
    uint64_t first = data_position(body->index, body->offset / DATA_BLOCK_BYTES);
    uint32_t edge = body->offset % DATA_BLOCK_BYTES;
    if (first >= DATA_POSITION_END)
        return 0;
    struct data_change change;
    int result = data_change_begin(service, request, first, DATA_POSITION_END, &change);
    if (result < 0)
        return result;
    if (cut_is_done(service, request->header->group, body)) {
        data_change_end(&change);
        return 0;
    }
    struct data_io *io = data_io_take(service);
    result = cut_blocks(&change, io, first + (edge != 0), DATA_POSITION_END);
    if (result == 0 && edge != 0 && !PLANT(DATA_EDGE_KEPT))
        result = zero_edge(&change, io, first, edge, DATA_BLOCK_BYTES);
    data_io_give(service, io);
    if (result == 0)
        cut_done(service, request->header->group, body);
    data_change_end(&change);
    return result;
}

static int punch_range(struct data_change *change, struct data_io *io,
                       const struct wire_obj_req *body)
{
    uint32_t end = body->offset + body->bytes;
    uint32_t from = body->offset % DATA_BLOCK_BYTES;
    uint32_t to = end % DATA_BLOCK_BYTES;
    uint64_t first = data_position(body->index, body->offset / DATA_BLOCK_BYTES);
    uint64_t last = data_position(body->index, end / DATA_BLOCK_BYTES); /* that of the end edge */
    if (first == last)
        return zero_edge(change, io, first, from, to);
    int result = cut_blocks(change, io, first + (from != 0), last);
    if (result == 0 && from != 0)
        result = zero_edge(change, io, first, from, DATA_BLOCK_BYTES);
    if (result == 0 && to != 0)
        result = zero_edge(change, io, last, 0, to);
    return result;
}

static int punch_object(struct data_service *service, const struct rpc_request *request)
{
    const struct wire_obj_req *body = request->body;
    if (body->bytes == 0 || body->offset >= OBJECT_BYTES ||
        body->bytes > OBJECT_BYTES - body->offset)
        return -EINVAL;
    uint64_t first = data_position(body->index, body->offset / DATA_BLOCK_BYTES);
    uint32_t end_block = (uint32_t)div_up(body->offset + body->bytes, DATA_BLOCK_BYTES);
    struct data_change change;
    int result = data_change_begin(service, request, first,
                                   data_position(body->index, 0) + end_block, &change);
    if (result < 0)
        return result;
    struct data_io *io = data_io_take(service);
    result = punch_range(&change, io, body);
    data_io_give(service, io);
    data_change_end(&change);
    return result;
}

static void reply(struct rpc_request *request, int result)
{
    const struct wire_obj_truncate_rep body = {0};
    rpc_reply(request, result, result < 0 ? NULL : &body, (struct slice){0}, (struct buf_slice){0});
}

void data_serve_truncate(struct data_service *service, struct rpc_request *request)
{
    reply(request, truncate_object(service, request));
}

void data_serve_punch(struct data_service *service, struct rpc_request *request)
{
    reply(request, punch_object(service, request));
}
