/* SPDX-License-Identifier: MIT */
#include "data/data_fake.h"

#include "base/crc32c.h"
#include "base/mem.h"

static void maybe_yield(struct group_host *host)
{
    while (random_chance(&host->random, FAKE_YIELD_PERCENT, 100))
        fiber_yield();
}

/* ---- group ----------------------------------------------------------------------------------- */

struct record {
    struct list link;
    uint64_t seq;
    uint32_t payload_bytes;
    uint32_t extent_count;
    uint8_t payload[2048];
    struct store_extent extents[DATA_WRITE_BLOCKS_MAX];
};

struct store *group_host_store(struct group_host *host)
{
    return host->store;
}
struct store *group_store(const struct group *group)
{
    return group->host->store;
}
uint32_t group_id(const struct group *group)
{
    return FAKE_GROUP;
}
uint32_t group_epoch(const struct group *group)
{
    return group->host->epoch;
}
int group_find_serving(struct group_host *host, uint32_t group, uint32_t epoch, bool for_write,
                       struct group **ret_group)
{
    if (!host->primary || group != FAKE_GROUP)
        return -ERR_NOT_PRIMARY;
    if (epoch != 0 && epoch != host->epoch)
        return -ERR_WRONG_EPOCH;
    *ret_group = &host->group;
    return 0;
}
struct group *group_find(struct group_host *host, uint32_t group)
{
    return group == FAKE_GROUP ? &host->group : NULL;
}
uint32_t group_peers(const struct group *group, struct net_addr *peers, uint32_t max)
{
    memset(peers, 0, sizeof *peers);
    return 1;
}

static void record_add(struct group_host *host, const struct group_append *append, uint64_t seq)
{
    struct record *record = mem_zalloc(sizeof *record);
    assert(append->payload.bytes <= sizeof record->payload);
    record->seq = seq;
    record->payload_bytes = append->payload.bytes;
    memcpy(record->payload, append->payload.data, append->payload.bytes);
    if (host->primary && append->extent_count > 0) {
        record->extent_count = append->extent_count;
        memcpy(record->extents, append->extents, append->extent_count * sizeof append->extents[0]);
    }
    struct buf_slice data = append->data;
    while (!host->primary && data.bytes > 0) { /* a member places the data as it likes */
        struct buf_slice part = data;
        part.bytes = MIN(data.bytes, host->extent_blocks_max * DATA_BLOCK_BYTES);
        int result = store_extent_write(host->store, part, part.bytes / DATA_BLOCK_BYTES,
                                        &record->extents[record->extent_count++]);
        assert(result == 0);
        data.offset += part.bytes;
        data.bytes -= part.bytes;
    }
    list_push_back(&host->records, &record->link);
    waitq_wake_all(&host->appended);
}

int group_append(struct group *group, const struct group_append *append, uint64_t *ret_seq)
{
    static uint64_t seq;
    struct group_host *host = group->host;
    if (host->fails_in > 0 && --host->fails_in == 0)
        return -ERR_NOT_PRIMARY;
    if (host->forget && random_chance(&host->random, 1, 20)) {
        host->forget(host->store, append->extents, append->extent_count);
        return -ERR_BUSY;
    }
    *ret_seq = ++seq;
    record_add(host, append, seq);
    record_add(host->other, append, seq);
    return 0;
}
int group_wait_space(struct group *group, bool data)
{
    maybe_yield(group->host);
    return group->host->primary ? 0 : -ERR_NOT_PRIMARY;
}

int group_wait_room(struct group *group)
{
    maybe_yield(group->host);
    int result = store_reserve(group->host->other->store, 2 * DATA_IO_MAX, false);
    return result == -ERR_NO_SPACE ? 0 : result; /* a member takes some more than that */
}
int group_wait(struct group *group, uint64_t seq)
{
    while (group->applied_seq < seq)
        (void)waitq_wait(&group->applied, 0);
    return 0;
}
int group_flush(struct group *group)
{
    return 0;
}

static void apply_fiber(void *arg)
{
    struct group_host *host = arg;
    for (;;) {
        while (list_empty(&host->records))
            (void)waitq_wait(&host->appended, 0);
        maybe_yield(host);
        struct record *record = list_entry(list_pop_front(&host->records), struct record, link);
        const struct store_log_record log = {
            .group = FAKE_GROUP,
            .epoch = FAKE_EPOCH,
            .seq = record->seq,
            .payload = slice_of(record->payload, record->payload_bytes),
            .extents = record->extents,
            .extent_count = record->extent_count,
        };
        struct store_batch batch;
        store_batch_init(&batch);
        int result = data_content_ops.apply(host->service, &host->group, &log, &batch);
        assert(result == 0);
        (void)store_commit(host->store, &batch);
        store_batch_fini(&batch);
        host->group.applied_seq = record->seq;
        waitq_wake_all(&host->group.applied);
        mem_free(record);
    }
}

/* ---- rpc ------------------------------------------------------------------------------------- */

void rpc_register(struct rpc *rpc, enum rpc_type type, rpc_handler_fn handler, void *service)
{
    rpc->handlers[type] = handler;
}
void rpc_reply(struct rpc_request *request, int status, const void *body, struct slice tail,
               struct buf_slice payload)
{
    struct fake_reply *reply = (struct fake_reply *)(void *)request->msg;
    reply->status = status;
    reply->bytes = payload.bytes;
    if (payload.bytes && reply->data)
        memcpy(reply->data, buf_slice_data(&payload), payload.bytes);
    assert(tail.bytes <= sizeof reply->crcs);
    if (tail.bytes)
        memcpy(reply->crcs, tail.data, tail.bytes);
    reply->crc_count = tail.bytes / 4;
    assert(status >= 0 || !body);
}
void rpc_reply_status(struct rpc_request *request, int status)
{
    rpc_reply(request, status, NULL, (struct slice){0}, (struct buf_slice){0});
}

int fake_serve(struct group_host *host, enum rpc_type type, const struct wire_obj_req *body,
               struct slice bytes, struct fake_reply *reply)
{
    struct wire_header header = {.type = (uint16_t)type, .group = FAKE_GROUP, .epoch = host->epoch};
    uint32_t crcs[DATA_WRITE_BLOCKS_MAX];
    uint32_t count = 0;
    struct rpc_request request = {
        .rpc = host->rpc,
        .header = &header,
        .body = body,
        .msg = (struct msg *)(void *)reply,
    };
    struct buf *buf = NULL;
    if (bytes.bytes) {
        buf = buf_new(bytes.bytes);
        memcpy(buf->data, bytes.data, bytes.bytes);
        request.payload = (struct buf_slice){buf, 0, bytes.bytes};
    }
    for (uint32_t at = 0; at < bytes.bytes;) {
        uint32_t part =
            MIN(DATA_BLOCK_BYTES - (body->offset + at) % DATA_BLOCK_BYTES, bytes.bytes - at);
        crcs[count++] = crc32c(0, (const uint8_t *)bytes.data + at, part);
        at += part;
    }
    request.tail = slice_of(crcs, count * 4);
    reply->status = 1;
    host->rpc->handlers[type](host->service, &request);
    assert(reply->status <= 0); /* answered before the handler returns */
    buf_put(buf);
    return reply->status;
}

int rpc_call(struct rpc *rpc, const struct net_addr *to, struct rpc_call *call)
{
    struct wire_obj_req body;
    struct fake_reply reply;
    memcpy(&body, call->body, sizeof body);
    struct msg *msg = mem_zalloc(sizeof *msg);
    msg->payload = buf_new(MAX(body.bytes, 1u));
    reply.data = msg->payload->data;
    call->status = fake_serve(rpc->peer, call->type, &body, (struct slice){0}, &reply);
    msg->payload_bytes = call->status < 0 ? 0 : reply.bytes;
    call->reply = msg;
    return call->status;
}
void rpc_call_fini(struct rpc_call *call)
{
    buf_put(call->reply->payload);
    mem_free(call->reply);
}

/* ---- the pair -------------------------------------------------------------------------------- */

void fake_pair_init(struct group_host hosts[2], struct rpc rpcs[2], struct store *stores[2],
                    uint64_t seed)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct group_host *host = &hosts[i];
        memset(host, 0, sizeof *host);
        memset(&rpcs[i], 0, sizeof rpcs[i]);
        random_init(&host->random, seed + 10 + i);
        host->store = stores[i];
        host->extent_blocks_max = i == 0 ? STORE_EXTENT_BLOCKS_MAX : 11;
        host->group.host = host;
        waitq_init(&host->group.applied);
        host->other = &hosts[1 - i];
        host->primary = i == 0;
        host->epoch = FAKE_EPOCH;
        list_init(&host->records);
        waitq_init(&host->appended);
        host->rpc = &rpcs[i];
        rpcs[i].peer = &hosts[1 - i];
        host->service = data_service_new();
        data_service_start(host->service, host->rpc, host);
        fiber_spawn("fake-apply", apply_fiber, host);
    }
}
