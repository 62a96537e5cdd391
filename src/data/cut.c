/* SPDX-License-Identifier: MIT */
/* OBJ_TRUNCATE and OBJ_PUNCH: blocks that are covered go, edges become zeroes.
 *
 * A record clears at most CUT_ROWS_MAX rows, so that applying one stays short; the removal of much
 * is a sequence of records and not atomic: whoever asked for it asks again if it was cut short, and
 * a punch then goes on where it was (replay.c). Its progress: the position up to which whole blocks
 * are cut, then PUNCHED_BLOCKS, PUNCHED_HEAD, DATA_PROGRESS_DONE.
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
 * truncation are refused from then on, here and by GROW. The writer may ask whether a part that had
 * been accepted would be refused now (OBJ_ASK, behind the same lock): if so, the truncation came
 * after it. (Not by another primary that takes over in between: it does not know.) */
#include "data/data_internal.h"

#include "base/crc32c.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/plant.h"

enum { CUT_ROWS_MAX = 512, EDGE_ATTEMPTS = 20 };
#define EDGE_PAUSE_NS  (20 * NS_PER_MS)
#define PUNCHED_BLOCKS DATA_POSITION_END
#define PUNCHED_HEAD   (DATA_POSITION_END + 1)

/* Part of a block that is to become zeroes, and the progress that this is. */
struct edge {
    uint64_t position;
    uint32_t from;
    uint32_t to;
    uint64_t progress;
};

static void io_set(struct data_io *io, const struct data_change *change, uint64_t first)
{
    io->group = change->dg->id;
    io->ino = change->ino;
    io->first = first;
    io->blocks = 1;
    io->data = NULL;
}

/* Nothing to change. Of a request that must not happen twice this is remembered, too. */
static int pass(struct data_change *change, uint64_t first, uint64_t end, uint64_t progress)
{
    return change->request.session ? data_append_cut(change, first, end, progress) : 0;
}

/* Zero it, unless it is a hole. */
static int zero_part(struct data_change *change, struct data_io *io, const struct edge *edge)
{
    assert(edge->from < edge->to && edge->to <= DATA_BLOCK_BYTES);
    io_set(io, change, edge->position);
    struct buf *buf = buf_new(DATA_BLOCK_BYTES);
    io->data = buf->data;
    int result = data_read(change->service, io);
    if (result == 0 && data_io_used(io) == 0) {
        result = pass(change, edge->position, edge->position + 1, edge->progress); /* a hole */
    } else if (result == 0) {
        memset(buf->data + edge->from, 0, edge->to - edge->from);
        uint32_t crc = crc32c(0, buf->data, DATA_BLOCK_BYTES);
        const struct buf_slice block = {buf, 0, DATA_BLOCK_BYTES};
        result = data_append_write(change, edge->position, block, &crc, edge->progress);
    }
    buf_put(buf);
    return result;
}

/* The same on a full store: what was cut just before becomes usable in a moment. */
static int zero_edge(struct data_change *change, struct data_io *io, const struct edge *edge)
{
    for (uint32_t attempt = 1;; attempt++) {
        int result = zero_part(change, io, edge);
        if (result != -ERR_NO_SPACE || attempt == EDGE_ATTEMPTS)
            return result;
        fiber_sleep(EDGE_PAUSE_NS);
    }
}

/* progress: when it has reached the end. */
static int cut_blocks(struct data_change *change, struct data_io *io, uint64_t first, uint64_t end,
                      uint64_t progress)
{
    while (first < end) {
        uint64_t reached;
        io_set(io, change, first);
        int rows = data_look_cut(change->service, io, end, CUT_ROWS_MAX, &reached);
        if (rows < 0)
            return rows;
        if (rows == 0)
            return pass(change, first, end, progress);
        int result = data_append_cut(change, first, reached, reached == end ? progress : reached);
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
    if (result != 0)
        return MIN(result, 0);
    if (cut_is_done(service, request->header->group, body)) {
        data_change_end(&change);
        return 0;
    }
    struct data_io *io = data_io_take(service);
    const struct edge rest = {first, edge, DATA_BLOCK_BYTES, DATA_PROGRESS_DONE};
    result = cut_blocks(&change, io, first + (edge != 0), DATA_POSITION_END, DATA_PROGRESS_DONE);
    if (result == 0 && edge != 0 && !PLANT(DATA_EDGE_KEPT))
        result = zero_edge(&change, io, &rest);
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
    const struct edge only = {first, from, to, DATA_PROGRESS_DONE};
    const struct edge head = {first, from, DATA_BLOCK_BYTES,
                              to ? PUNCHED_HEAD : DATA_PROGRESS_DONE};
    const struct edge tail = {last, 0, to, DATA_PROGRESS_DONE};
    uint64_t done = change->request.progress;
    int result = 0;
    if (first == last)
        return zero_edge(change, io, &only);
    if (done < PUNCHED_BLOCKS)
        result = cut_blocks(change, io, MAX(first + (from != 0), done), last,
                            from || to ? PUNCHED_BLOCKS : DATA_PROGRESS_DONE);
    if (result == 0 && from != 0 && done < PUNCHED_HEAD)
        result = zero_edge(change, io, &head);
    if (result == 0 && to != 0)
        result = zero_edge(change, io, &tail);
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
    if (result != 0)
        return MIN(result, 0);
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
