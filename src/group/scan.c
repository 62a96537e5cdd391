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
 * only as far as the last chunk's as_of (apply_limit). */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "group/group_internal.h"

enum { SCAN_RETRIES_MAX = 500 };

struct scan {
    struct group *group;
    struct member *member;
    uint32_t epoch;
    uint32_t number;
    struct store_iter *iter;
    struct buf *data;
    uint32_t from_bytes;
    uint8_t from[STORE_KEY_MAX + 1];
    uint8_t end[5];
    uint8_t tail[GROUP_INSTALL_TAIL_MAX];
    uint8_t pairs[GROUP_INSTALL_TAIL_MAX - 2 * (STORE_KEY_MAX + 4)];
};

static bool still_wanted(const struct scan *scan)
{
    return scan->group->epoch == scan->epoch && scan->group->role == ROLE_PRIMARY &&
           scan->member->scan == scan->number;
}

/* Add one pair, with its data. 1: added; 0: the chunk is full; negative: error. */
static int add_pair(struct scan *scan, struct writer *pairs, struct slice key, struct slice value)
{
    struct group *group = scan->group;
    struct store_extent extent;
    bool has_data = group_ops(group)->extent_of(group_context(group), key, value, &extent);
    uint32_t data_bytes = has_data ? extent.blocks * STORE_BLOCK_BYTES : 0;
    size_t need = sizeof(struct install_pair) + key.bytes + value.bytes;
    if (need > writer_left(pairs) || scan->data->bytes + data_bytes > GROUP_INSTALL_DATA_MAX)
        return 0;
    const struct install_pair pair = {(uint16_t)key.bytes, (uint16_t)value.bytes, data_bytes};
    writer_put(pairs, &pair, sizeof pair);
    writer_put(pairs, key.data, key.bytes);
    writer_put(pairs, value.data, value.bytes);
    assert(writer_ok(pairs));
    if (!has_data)
        return 1;
    int result = group_ops(group)->read(group_context(group), key, value,
                                        scan->data->data + scan->data->bytes);
    scan->data->bytes += data_bytes;
    return result < 0 ? result : 1;
}

struct chunk {
    uint64_t as_of;
    uint32_t pair_count;
    uint32_t tail_bytes;
    bool last;
    uint32_t to_bytes;
    uint8_t to[STORE_KEY_MAX + 1];
};

static int build(struct scan *scan, struct chunk *chunk)
{
    struct writer pairs;
    struct slice key, value;
    int result;
    const struct slice end = slice_of(scan->end, sizeof scan->end);
    writer_init(&pairs, scan->pairs, sizeof scan->pairs);
    *chunk = (struct chunk){0};
    scan->data->bytes = 0;
    do {
        chunk->as_of = scan->group->applied_seq;
        store_iter_seek(scan->iter, slice_of(scan->from, scan->from_bytes));
        result = store_iter_next(scan->iter, end, &key, &value);
    } while (result >= 0 && chunk->as_of != scan->group->applied_seq);
    for (; result == 1; result = store_iter_next(scan->iter, end, &key, &value)) {
        uint8_t kept[STORE_KEY_MAX];
        uint32_t kept_bytes = key.bytes;
        memcpy(kept, key.data, key.bytes); /* add_pair may yield */
        result = add_pair(scan, &pairs, key, value);
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
    writer_init(&tail, scan->tail, sizeof scan->tail);
    writer_u16(&tail, (uint16_t)scan->from_bytes);
    writer_put(&tail, scan->from, scan->from_bytes);
    writer_u16(&tail, (uint16_t)chunk->to_bytes);
    writer_put(&tail, chunk->to, chunk->to_bytes);
    writer_put(&tail, scan->pairs, writer_bytes(&pairs));
    assert(writer_ok(&tail));
    chunk->tail_bytes = (uint32_t)writer_bytes(&tail);
    return 0;
}

static int send_chunk(struct scan *scan, const struct chunk *chunk)
{
    const struct wire_install_req body = {
        .as_of_seq = chunk->as_of, .pair_count = chunk->pair_count, .last = chunk->last};
    int result = -ERR_GAP;
    for (uint32_t i = 0; i < SCAN_RETRIES_MAX && result == -ERR_GAP && still_wanted(scan); i++) {
        struct rpc_call call = {
            .type = RPC_INSTALL,
            .group = scan->group->id,
            .epoch = scan->epoch,
            .body = &body,
            .tail = {slice_of(scan->tail, chunk->tail_bytes)},
            .payload = {scan->data, 0, scan->data->bytes},
            .deadline_ns = env_now_ns() + 10 * NS_PER_S,
        };
        struct net_addr addr = scan->member->addr;
        result = rpc_call(scan->group->host->rpc, &addr, &call);
        rpc_call_fini(&call);
        if (result == -ERR_GAP)
            fiber_sleep(GROUP_RETRY_NS); /* the records before it are on their way */
    }
    return result;
}

static int run(struct scan *scan)
{
    struct chunk chunk;
    do {
        int result = build(scan, &chunk);
        if (result == 0 && still_wanted(scan))
            result = send_chunk(scan, &chunk);
        if (result < 0)
            return result;
        if (!still_wanted(scan))
            return -ERR_CANCELED;
        memcpy(scan->from, chunk.to, chunk.to_bytes);
        scan->from_bytes = chunk.to_bytes;
    } while (!chunk.last);
    return 0;
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
    store_iter_free(scan->iter);
    buf_put(scan->data);
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
    scan->data = buf_new(GROUP_INSTALL_DATA_MAX);
    be32_store(scan->from, group->id);
    scan->from[4] = SCAN_FIRST_TABLE;
    scan->from_bytes = 5;
    be32_store(scan->end, group->id);
    scan->end[4] = SCAN_END_TABLE;
    member->scan = scan->number;
    fiber_spawn("group-scan", scan_fiber, scan);
}
