/* SPDX-License-Identifier: MIT */
/* The primary copies its table to a joining member, in key order, under foreground traffic.
 *
 * A chunk is built from the live table, which changes meanwhile: it shows at least everything up
 * to as_of (what was applied when building began) and perhaps some later records. That is enough,
 * because records are physical and repeatable: the member applies everything up to as_of first,
 * then replaces the chunk's range, and applies what comes later again, in order, before it is
 * counted as in sync. The first pair must be as of as_of exactly: a row that reaches across the
 * border to the chunk before (which then has been made by a later record, so the member has it)
 * could be cut in two unseen, and the part before the border would be missing. Records later than
 * as_of must wait on the member until the chunk is in, or the chunk would undo them: it applies
 * only as far as the last chunk's as_of (apply_limit).
 *
 * Several chunks are under way, so that reading here, the network and writing there happen at the
 * same time; the member takes them one after the other, in the order of their keys (install.c). A
 * scan always has one; what it has beyond that is counted for all scans of the node, because each
 * holds a MiB here and one there. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "group/group_internal.h"

enum {
    SCAN_RETRIES_MAX = 500,
    SCAN_CHUNKS_MAX = 4,      /* of one scan under way */
    SCAN_CHUNKS_MORE_MAX = 16 /* of all scans, beyond each one's first */
};

struct scan {
    struct group *group;
    struct member *member;
    uint32_t epoch;
    uint32_t number;
    uint32_t under_way; /* chunks */
    int error;          /* of the first chunk that failed */
    struct waitq landed;
    struct store_iter *iter;
    uint32_t from_bytes;
    uint8_t from[STORE_KEY_MAX + 1];
    uint8_t end[5];
    uint8_t pairs[GROUP_INSTALL_TAIL_MAX - 2 * (STORE_KEY_MAX + 4)];
};

struct chunk {
    struct scan *scan;
    uint64_t as_of;
    uint32_t pair_count;
    bool last;
    struct buf *data;
    uint32_t to_bytes;
    uint8_t to[STORE_KEY_MAX + 1];
    uint32_t tail_bytes;
    uint8_t tail[GROUP_INSTALL_TAIL_MAX];
};

static bool still_wanted(const struct scan *scan)
{
    return scan->group->epoch == scan->epoch && scan->group->role == ROLE_PRIMARY &&
           scan->member->scan == scan->number;
}

/* Add one pair, with its data. 1: added; 0: the chunk is full; negative: error. */
static int add_pair(struct chunk *chunk, struct writer *pairs, struct slice key, struct slice value)
{
    struct group *group = chunk->scan->group;
    struct buf *data = chunk->data;
    struct store_extent extent;
    bool has_data = group_ops(group)->extent_of(group_context(group), key, value, &extent);
    uint32_t data_bytes = has_data ? extent.blocks * STORE_BLOCK_BYTES : 0;
    size_t need = sizeof(struct install_pair) + key.bytes + value.bytes;
    if (need > writer_left(pairs) || data->bytes + data_bytes > GROUP_INSTALL_DATA_MAX)
        return 0;
    const struct install_pair pair = {(uint16_t)key.bytes, (uint16_t)value.bytes, data_bytes};
    writer_put(pairs, &pair, sizeof pair);
    writer_put(pairs, key.data, key.bytes);
    writer_put(pairs, value.data, value.bytes);
    assert(writer_ok(pairs));
    if (!has_data)
        return 1;
    int result = group_ops(group)->read(group_context(group), key, value, data->data + data->bytes);
    data->bytes += data_bytes;
    return result < 0 ? result : 1;
}

static int build(struct scan *scan, struct chunk *chunk)
{
    assert(chunk->scan == scan && chunk->data->bytes == 0);
    struct writer pairs;
    struct slice key, value;
    int result;
    const struct slice end = slice_of(scan->end, sizeof scan->end);
    writer_init(&pairs, scan->pairs, sizeof scan->pairs);
    do {
        chunk->as_of = scan->group->applied_seq;
        store_iter_seek(scan->iter, slice_of(scan->from, scan->from_bytes));
        result = store_iter_next(scan->iter, end, &key, &value);
    } while (result >= 0 && chunk->as_of != scan->group->applied_seq);
    for (; result == 1; result = store_iter_next(scan->iter, end, &key, &value)) {
        uint8_t kept[STORE_KEY_MAX];
        uint32_t kept_bytes = key.bytes;
        memcpy(kept, key.data, key.bytes); /* add_pair may yield */
        result = add_pair(chunk, &pairs, key, value);
        if (result <= 0)
            break;
        chunk->pair_count++;
        memcpy(chunk->to, kept, kept_bytes);
        chunk->to[kept_bytes] = 0;
        chunk->to_bytes = kept_bytes + 1;
    }
    if (result < 0)
        return result;
    chunk->last = chunk->pair_count == 0;
    if (chunk->last) {
        memcpy(chunk->to, scan->end, sizeof scan->end);
        chunk->to_bytes = sizeof scan->end;
    }
    struct writer tail;
    writer_init(&tail, chunk->tail, sizeof chunk->tail);
    writer_u16(&tail, (uint16_t)scan->from_bytes);
    writer_put(&tail, scan->from, scan->from_bytes);
    writer_u16(&tail, (uint16_t)chunk->to_bytes);
    writer_put(&tail, chunk->to, chunk->to_bytes);
    writer_put(&tail, scan->pairs, writer_bytes(&pairs));
    assert(writer_ok(&tail));
    chunk->tail_bytes = (uint32_t)writer_bytes(&tail);
    return 0;
}

static int send_chunk(const struct chunk *chunk)
{
    const struct scan *scan = chunk->scan;
    const struct wire_install_req body = {
        .as_of_seq = chunk->as_of, .pair_count = chunk->pair_count, .last = chunk->last};
    int result = -ERR_GAP;
    for (uint32_t i = 0; i < SCAN_RETRIES_MAX && result == -ERR_GAP && still_wanted(scan); i++) {
        struct rpc_call call = {
            .type = RPC_INSTALL,
            .group = scan->group->id,
            .epoch = scan->epoch,
            .body = &body,
            .tail = {slice_of(chunk->tail, chunk->tail_bytes)},
            .payload = {chunk->data, 0, chunk->data->bytes},
            .deadline_ns = env_now_ns() + 10 * NS_PER_S,
        };
        struct net_addr addr = scan->member->addr;
        result = rpc_call(scan->group->host->rpc, &addr, &call);
        rpc_call_fini(&call);
        if (result == -ERR_GAP)
            fiber_sleep(GROUP_RETRY_NS); /* records or chunks before it are on their way */
    }
    return result;
}

/* May the scan have one more chunk under way? */
static bool may_begin(const struct scan *scan)
{
    return scan->under_way == 0 || (scan->under_way < SCAN_CHUNKS_MAX &&
                                    scan->group->host->scan_chunks_more < SCAN_CHUNKS_MORE_MAX);
}

static struct chunk *chunk_begin(struct scan *scan)
{
    struct chunk *chunk = mem_alloc(sizeof *chunk);
    chunk->scan = scan;
    chunk->pair_count = 0;
    chunk->last = false;
    chunk->data = buf_new(GROUP_INSTALL_DATA_MAX);
    chunk->data->bytes = 0;
    scan->group->host->scan_chunks_more += scan->under_way > 0;
    scan->under_way++;
    return chunk;
}

static void chunk_end(struct chunk *chunk, int result)
{
    struct scan *scan = chunk->scan;
    assert(scan->under_way > 0);
    scan->under_way--;
    if (scan->under_way > 0) {
        assert(scan->group->host->scan_chunks_more > 0);
        scan->group->host->scan_chunks_more--;
    }
    if (scan->error == 0)
        scan->error = result;
    waitq_wake_all(&scan->landed);
    buf_put(chunk->data);
    mem_free(chunk);
}

static void chunk_fiber(void *arg)
{
    struct chunk *chunk = arg;
    chunk_end(chunk, send_chunk(chunk));
}

/* Build the next chunk and let it go. 1: there are more; 0: it was the last; or an error. */
static int step(struct scan *scan)
{
    struct chunk *chunk = chunk_begin(scan);
    int result = build(scan, chunk);
    bool more = !chunk->last;
    if (result < 0 || !still_wanted(scan)) {
        chunk_end(chunk, result < 0 ? result : -ERR_CANCELED);
        return scan->error;
    }
    memcpy(scan->from, chunk->to, chunk->to_bytes);
    scan->from_bytes = chunk->to_bytes;
    fiber_spawn("group-chunk", chunk_fiber, chunk);
    return more;
}

static int run(struct scan *scan)
{
    int more = 1;
    while (more > 0 && scan->error == 0) {
        if (may_begin(scan))
            more = step(scan);
        else
            (void)waitq_wait(&scan->landed, 0); /* every chunk ends by its own deadline */
    }
    while (scan->under_way > 0)
        (void)waitq_wait(&scan->landed, 0);
    return scan->error;
}

static void scan_fiber(void *arg)
{
    struct scan *scan = arg;
    struct group *group = scan->group;
    int result = still_wanted(scan) ? run(scan) : -ERR_CANCELED;
    if (still_wanted(scan)) {
        scan->member->scan = 0;
        if (result == 0) {
            member_promote(scan->member);
        } else {
            scan->member->reconciled = false; /* the member notices the silence and asks again */
            log_warn("group-scan", "group=%u node=%u error=%s effect=\"starts over\"", group->id,
                     scan->member->node, error_name(result));
        }
    }
    assert(scan->under_way == 0);
    store_iter_free(scan->iter);
    mem_free(scan);
}

void member_scan_start(struct member *member)
{
    struct group *group = member->group;
    struct scan *scan = mem_alloc(sizeof *scan);
    scan->group = group;
    scan->member = member;
    scan->epoch = group->epoch;
    scan->number = ++group->scan_number;
    scan->iter = store_iter_new(host_store(group->host));
    scan->under_way = 0;
    scan->error = 0;
    waitq_init(&scan->landed);
    be32_store(scan->from, group->id);
    scan->from[4] = SCAN_FIRST_TABLE;
    scan->from_bytes = 5;
    be32_store(scan->end, group->id);
    scan->end[4] = SCAN_END_TABLE;
    member->scan = scan->number;
    fiber_spawn("group-scan", scan_fiber, scan);
}
