/* SPDX-License-Identifier: MIT */
/* OBJ_ calls from a node that is not a client: by the map, again until the deadline. All of these
 * requests may be executed twice, under the inode's lock, so a lost reply is no problem.
 *
 * What a record of metadata relies on must not be younger than it after the death of all nodes: a
 * file whose new size is known, but not that its data were cut, would show them when it grows. So
 * such a change is made durable first: flushed, in the same life of the group's memory in which it
 * was made. */
#include "data/data_internal.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/plant.h"

#define ATTEMPT_TIMEOUT_NS (5 * NS_PER_S)
#define BACKOFF_MIN_NS     (2 * NS_PER_MS)
#define BACKOFF_MAX_NS     (200 * NS_PER_MS)
enum { CUT_FIBERS_MAX = 8 }; /* groups that are asked at a time */

/* Where a request goes, and what it is. */
struct routed {
    struct rpc *rpc;
    struct map_client *map;
    enum rpc_type type;
    uint32_t group;
    struct wire_obj_req body;
    struct slice tail;
    struct buf_slice payload;
    uint64_t deadline_ns;
    bool durable;
};

static uint64_t sooner(uint64_t deadline_ns, uint64_t other_ns)
{
    return deadline_ns == 0 ? other_ns : MIN(deadline_ns, other_ns);
}

/* One attempt at the primary that the newest map names. *ret_life: how often its group had lost
 * its memory by then (map_format.h). */
static int attempt(const struct routed *routed, uint32_t *ret_life)
{
    const struct map_view *view = map_client_view(routed->map);
    const struct map_group *group = view ? map_view_group(view, routed->group) : NULL;
    const struct map_node *node =
        group && group->primary ? map_view_node(view, group->primary) : NULL;
    if (!node)
        return -ERR_NOT_PRIMARY; /* none at the moment */
    struct net_addr addr;
    map_node_addr(node, &addr);
    *ret_life = group->cold_starts;
    struct rpc_call call = {
        .type = routed->type,
        .group = group->id,
        .epoch = group->epoch,
        .body = &routed->body,
        .tail = {routed->tail},
        .payload = routed->payload,
        .deadline_ns = sooner(routed->deadline_ns, env_now_ns() + ATTEMPT_TIMEOUT_NS),
    };
    int result = rpc_call(routed->rpc, &addr, &call);
    rpc_call_fini(&call);
    return result;
}

static int call_until_done(const struct routed *routed, uint32_t *ret_life)
{
    uint64_t backoff_ns = BACKOFF_MIN_NS;
    for (;;) {
        const struct map_view *view = map_client_view(routed->map);
        uint64_t version = view ? view->header->version : 0;
        int result = attempt(routed, ret_life);
        if (result >= 0)
            return 0;
        enum retry_class class = error_retry_class(result);
        if (class == RETRY_NEVER)
            return result;
        uint64_t now_ns = env_now_ns();
        if (routed->deadline_ns != 0 && now_ns >= routed->deadline_ns)
            return -ERR_TIMED_OUT;
        uint64_t until_ns = sooner(routed->deadline_ns, now_ns + backoff_ns);
        backoff_ns = MIN(backoff_ns * 2, BACKOFF_MAX_NS);
        if (class == RETRY_LATER) {
            fiber_sleep_until(until_ns);
            continue;
        }
        map_client_poke(routed->map);
        if (map_client_wait_newer(routed->map, version, until_ns) == 0)
            backoff_ns = BACKOFF_MIN_NS;
    }
}

static int call_durably(const struct routed *routed)
{
    struct routed sync = *routed;
    uint32_t life = 0, flushed = 0;
    sync.type = RPC_OBJ_SYNC;
    sync.body = (struct wire_obj_req){.ino = routed->body.ino};
    sync.tail = (struct slice){0};
    sync.payload = (struct buf_slice){0};
    do {
        int result = call_until_done(routed, &life);
        if (result == 0)
            result = call_until_done(&sync, &flushed);
        if (result < 0)
            return result;
    } while (flushed != life);
    return 0;
}

static int call(const struct routed *routed)
{
    uint32_t life;
    bool durable = routed->durable && !PLANT(DATA_CUT_VOLATILE);
    return durable ? call_durably(routed) : call_until_done(routed, &life);
}

/* The group of an object, once there is a map. 0 or -ERR_TIMED_OUT. */
static int group_of(struct map_client *map, uint64_t ino, uint32_t index, uint64_t deadline_ns,
                    uint32_t *ret_group)
{
    while (!map_client_view(map)) {
        int result = map_client_wait_newer(map, 0, deadline_ns);
        if (result < 0)
            return result;
    }
    *ret_group = map_view_of_object(map_client_view(map), ino, index)->id;
    return 0;
}

/* The checksums of payload, cut at block boundaries of the object. Returns how many. */
static uint32_t checksum_fragments(uint32_t offset, const struct buf_slice *payload, uint32_t *crcs)
{
    uint32_t count = 0;
    uint32_t at = 0;
    while (at < payload->bytes) {
        uint32_t room = DATA_BLOCK_BYTES - (offset + at) % DATA_BLOCK_BYTES;
        uint32_t bytes = MIN(room, payload->bytes - at);
        assert(count < DATA_WRITE_BLOCKS_MAX);
        crcs[count++] = crc32c(0, buf_slice_data(payload) + at, bytes);
        at += bytes;
    }
    return count;
}

int data_call(struct rpc *rpc, struct map_client *map, const struct data_request *request,
              struct buf_slice payload, uint64_t deadline_ns)
{
    struct routed routed = {
        .rpc = rpc,
        .map = map,
        .type = request->type,
        .body = {.ino = request->ino,
                 .index = request->index,
                 .offset = request->offset,
                 .bytes = request->bytes},
        .payload = payload,
        .deadline_ns = deadline_ns,
        .durable = request->durable,
    };
    if (request->order) { /* replay.c: the inode as a session with one slot */
        routed.body.session = request->ino;
        routed.body.slot = UINT64_MAX;
        routed.body.slot_seq = request->order;
        routed.body.flags = OBJ_RETRY;
    }
    uint32_t crcs[DATA_WRITE_BLOCKS_MAX];
    assert(payload.bytes <= DATA_IO_MAX);
    if (payload.bytes > 0) {
        uint32_t count = checksum_fragments(request->offset, &payload, crcs);
        routed.tail = slice_of(crcs, count * sizeof crcs[0]);
    }
    int result = group_of(map, request->ino, request->index, deadline_ns, &routed.group);
    return result < 0 ? result : call(&routed);
}

/* ---- removing a file's data ------------------------------------------------------------------ */

/* The ids of the groups that hold objects [first, last]; freed by the caller. */
static uint32_t *groups_of(const struct map_view *view, uint64_t ino, uint32_t first, uint32_t last,
                           uint32_t *ret_count)
{
    uint32_t total = view->header->group_count;
    bool all = last - first >= total; /* at least nearly */
    bool *marked = mem_zalloc(total * sizeof *marked);
    uint32_t *groups = mem_alloc(total * sizeof *groups);
    uint32_t count = 0;
    assert(first <= last);
    for (uint32_t i = 0; !all && i <= last - first; i++)
        marked[map_view_of_object(view, ino, first + i) - view->groups] = true;
    for (uint32_t i = 0; i < total; i++) {
        if (marked[i] || (all && view->groups[i].kind == MAP_GROUP_DATA))
            groups[count++] = view->groups[i].id;
    }
    mem_free(marked);
    assert(count > 0);
    *ret_count = count;
    return groups;
}

/* A truncation under way in several groups. */
struct cuts {
    struct routed routed; /* of all, but for the group */
    const uint32_t *groups;
    uint32_t count;
    uint32_t next;
    uint32_t fibers; /* helpers that have not ended */
    int result;
    struct waitq ended;
};

static void cut_some(struct cuts *cuts)
{
    while (cuts->next < cuts->count && cuts->result == 0) {
        struct routed routed = cuts->routed;
        routed.group = cuts->groups[cuts->next++];
        int result = call(&routed);
        if (result < 0)
            cuts->result = result;
    }
}

static void cut_fiber(void *arg)
{
    struct cuts *cuts = arg;
    cut_some(cuts);
    assert(cuts->fibers > 0);
    if (--cuts->fibers == 0)
        waitq_wake_all(&cuts->ended);
}

static void cut_groups(struct cuts *cuts)
{
    waitq_init(&cuts->ended);
    cuts->fibers = MIN(cuts->count, (uint32_t)CUT_FIBERS_MAX) - 1;
    for (uint32_t i = cuts->fibers; i > 0; i--)
        fiber_spawn("data-cut", cut_fiber, cuts);
    cut_some(cuts);
    while (cuts->fibers > 0)
        (void)waitq_wait(&cuts->ended, 0); /* they end by the deadline */
}

int data_truncate_file(struct rpc *rpc, struct map_client *map,
                       const struct data_truncation *truncation, uint64_t deadline_ns)
{
    uint64_t ino = truncation->ino, from_offset = truncation->from_offset;
    if (from_offset >= truncation->size)
        return 0;
    if ((truncation->size - 1) / OBJECT_BYTES > UINT32_MAX)
        return -EFBIG;
    uint32_t first = (uint32_t)(from_offset / OBJECT_BYTES);
    uint32_t last = (uint32_t)((truncation->size - 1) / OBJECT_BYTES);
    struct cuts cuts = {.routed = {
                            .rpc = rpc,
                            .map = map,
                            .type = RPC_OBJ_TRUNCATE,
                            .body = {.ino = ino,
                                     .index = first,
                                     .offset = (uint32_t)(from_offset % OBJECT_BYTES),
                                     .order = truncation->order,
                                     .change = truncation->change},
                            .deadline_ns = deadline_ns,
                            .durable = truncation->durable,
                        }};
    int result = group_of(map, ino, first, deadline_ns, &cuts.routed.group);
    if (result < 0)
        return result;
    uint32_t *groups = groups_of(map_client_view(map), ino, first, last, &cuts.count);
    cuts.groups = groups;
    cut_groups(&cuts);
    mem_free(groups);
    return cuts.result;
}
