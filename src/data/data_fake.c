/* SPDX-License-Identifier: MIT */
#include "data/data_fake.h"

#include "base/crc32c.h"
#include "base/mem.h"

static void maybe_yield(struct store *store)
{
    while (random_chance(&store->random, store->yield_percent, 100))
        fiber_yield();
}

/* ---- store: batches -------------------------------------------------------------------------- */

enum change_kind { CHANGE_PUT, CHANGE_DEL, CHANGE_ADD, CHANGE_SUB };
struct change {
    enum change_kind kind;
    struct fake_row row;
    struct store_extent extent;
};

void store_batch_init(struct store_batch *batch)
{
    *batch = (struct store_batch){0};
}
void store_batch_fini(struct store_batch *batch)
{
    mem_free(batch->bytes);
}
static struct change *change_new(struct store_batch *batch)
{
    batch->used += (uint32_t)sizeof(struct change);
    batch->bytes = mem_realloc(batch->bytes, batch->used);
    struct change *change = (struct change *)(void *)batch->bytes + batch->count++;
    memset(change, 0, sizeof *change);
    return change;
}
void store_batch_put(struct store_batch *batch, struct slice key, struct slice value)
{
    struct change *change = change_new(batch);
    assert(key.bytes == DATA_KEY_BYTES && value.bytes <= DATA_VALUE_BYTES_MAX);
    change->kind = CHANGE_PUT;
    memcpy(change->row.key, key.data, key.bytes);
    memcpy(change->row.value, value.data, value.bytes);
    change->row.value_bytes = value.bytes;
}
void store_batch_del(struct store_batch *batch, struct slice key)
{
    struct change *change = change_new(batch);
    change->kind = CHANGE_DEL;
    memcpy(change->row.key, key.data, key.bytes);
}
void store_batch_extent_add(struct store_batch *batch, struct store_extent extent,
                            struct slice owner_key)
{
    struct change *change = change_new(batch);
    assert(data_key_is(owner_key));
    change->kind = CHANGE_ADD;
    change->extent = extent;
}
void store_batch_extent_del(struct store_batch *batch, struct store_extent extent)
{
    struct change *change = change_new(batch);
    change->kind = CHANGE_SUB;
    change->extent = extent;
}

/* The first row with key >= the given one. */
static uint32_t row_at_or_behind(const struct store *store, struct slice key)
{
    uint32_t low = 0, high = store->row_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (slice_compare(slice_of(store->rows[middle].key, DATA_KEY_BYTES), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool row_is(const struct store *store, uint32_t at, const uint8_t *key)
{
    return at < store->row_count && memcmp(store->rows[at].key, key, DATA_KEY_BYTES) == 0;
}

static void change_rows(struct store *store, const struct change *change)
{
    uint32_t at = row_at_or_behind(store, slice_of(change->row.key, DATA_KEY_BYTES));
    bool there = row_is(store, at, change->row.key);
    uint32_t behind = store->row_count - at;
    if (change->kind == CHANGE_PUT) {
        if (!there) {
            assert(store->row_count < FAKE_ROWS_MAX);
            memmove(&store->rows[at + 1], &store->rows[at], behind * sizeof store->rows[0]);
            store->row_count++;
        }
        store->rows[at] = change->row;
    } else if (there) {
        memmove(&store->rows[at], &store->rows[at + 1], (behind - 1) * sizeof store->rows[0]);
        store->row_count--;
    }
}

static void change_owner(struct store *store, struct store_extent extent, bool live)
{
    for (uint64_t i = extent.block; i < extent.block + extent.blocks; i++) {
        assert(i < FAKE_BLOCKS);
        assert((store->owner[i] == FAKE_LIVE) != live);
        store->owner[i] = live ? FAKE_LIVE : FAKE_FREE;
    }
}

uint64_t store_commit(struct store *store, const struct store_batch *batch)
{
    const struct change *changes = (const struct change *)(const void *)batch->bytes;
    for (uint32_t i = 0; i < batch->count; i++) {
        if (changes[i].kind == CHANGE_PUT || changes[i].kind == CHANGE_DEL)
            change_rows(store, &changes[i]);
        else
            change_owner(store, changes[i].extent, changes[i].kind == CHANGE_ADD);
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        struct store_extent extent = changes[i].extent;
        for (uint64_t b = extent.block; b < extent.block + extent.blocks; b++) {
            if (store->owner[b] == FAKE_FREE) /* whoever still reads it must notice */
                memset(store->device + b * DATA_BLOCK_BYTES, 0xdd, DATA_BLOCK_BYTES);
        }
    }
    return 1;
}

/* ---- store: reading -------------------------------------------------------------------------- */

struct store_iter {
    struct store *store;
    struct fake_row row;
    uint8_t from[DATA_KEY_BYTES];
    bool behind; /* from itself has been shown */
};
struct store_iter *store_iter_new(struct store *store)
{
    struct store_iter *iter = mem_zalloc(sizeof *iter);
    iter->store = store;
    return iter;
}
void store_iter_free(struct store_iter *iter)
{
    mem_free(iter);
}
void store_iter_seek(struct store_iter *iter, struct slice from)
{
    assert(from.bytes == DATA_KEY_BYTES);
    memcpy(iter->from, from.data, from.bytes);
    iter->behind = false;
}
/* As badly as the contract allows: the next key is chosen at one moment, its value looked up at
 * another, so that a row split in between shows only its rest. */
int store_iter_next(struct store_iter *iter, struct slice end, struct slice *ret_key,
                    struct slice *ret_value)
{
    struct store *store = iter->store;
    for (;;) {
        maybe_yield(store);
        uint32_t at = row_at_or_behind(store, slice_of(iter->from, DATA_KEY_BYTES));
        if (iter->behind && row_is(store, at, iter->from))
            at++;
        if (at == store->row_count ||
            slice_compare(slice_of(store->rows[at].key, DATA_KEY_BYTES), end) >= 0)
            return 0;
        iter->row = store->rows[at];
        maybe_yield(store);
        at = row_at_or_behind(store, slice_of(iter->row.key, DATA_KEY_BYTES));
        if (!row_is(store, at, iter->row.key))
            continue;
        iter->row = store->rows[at];
        break;
    }
    memcpy(iter->from, iter->row.key, DATA_KEY_BYTES);
    iter->behind = true;
    *ret_key = slice_of(iter->row.key, DATA_KEY_BYTES);
    *ret_value = slice_of(iter->row.value, iter->row.value_bytes);
    return 1;
}
int store_get(struct store *store, struct slice key, void *value, uint32_t capacity)
{
    uint32_t at = row_at_or_behind(store, key);
    if (!row_is(store, at, key.data))
        return -ENOENT;
    struct fake_row row = store->rows[at];
    maybe_yield(store); /* an answer may be out of date when it arrives */
    assert(row.value_bytes <= capacity);
    memcpy(value, row.value, row.value_bytes);
    return (int)row.value_bytes;
}

/* ---- store: extents -------------------------------------------------------------------------- */

int store_reserve(struct store *store, uint64_t bytes, bool freeing)
{
    maybe_yield(store);
    return 0;
}

static bool run_is_free(const struct store *store, uint32_t at, uint32_t blocks)
{
    for (uint32_t i = at; i < at + blocks; i++) {
        if (store->owner[i] != FAKE_FREE)
            return false;
    }
    return true;
}

int store_extent_write(struct store *store, struct buf_slice data, uint32_t blocks,
                       struct store_extent *ret_extent)
{
    assert(data.bytes == blocks * DATA_BLOCK_BYTES && blocks <= STORE_EXTENT_BLOCKS_MAX);
    for (uint32_t tries = 0; tries < 2 * FAKE_BLOCKS; tries++) {
        uint32_t at = store->cursor;
        store->cursor = (store->cursor + 1) % (FAKE_BLOCKS - STORE_EXTENT_BLOCKS_MAX);
        if (!run_is_free(store, at, blocks))
            continue;
        memset(store->owner + at, FAKE_FRESH, blocks);
        memcpy(store->device + (size_t)at * DATA_BLOCK_BYTES, buf_slice_data(&data), data.bytes);
        store->cursor = (at + blocks) % (FAKE_BLOCKS - STORE_EXTENT_BLOCKS_MAX);
        *ret_extent = (struct store_extent){at, blocks, 0};
        return 0;
    }
    return -ERR_NO_SPACE;
}
int store_extent_read(struct store *store, struct store_extent extent, uint32_t first,
                      uint32_t count, void *data)
{
    maybe_yield(store);
    assert(first + count <= extent.blocks && extent.block + extent.blocks <= FAKE_BLOCKS);
    memcpy(data, store->device + (extent.block + first) * DATA_BLOCK_BYTES,
           (size_t)count * DATA_BLOCK_BYTES);
    return 0;
}
void store_set_mover(struct store *store, store_move_fn move, void *context)
{
    store->move = move;
    store->move_context = context;
}

void fake_clean_one(struct store *store)
{
    if (store->row_count == 0)
        return;
    struct fake_row row = store->rows[random_below(&store->random, store->row_count)];
    struct slice key = slice_of(row.key, DATA_KEY_BYTES);
    struct data_row parsed;
    int result = data_row_parse(key, slice_of(row.value, row.value_bytes), &parsed);
    assert(result == 0);
    uint32_t bytes = parsed.extent.blocks * DATA_BLOCK_BYTES;
    struct buf *buf = buf_new(bytes);
    memcpy(buf->data, store->device + parsed.extent.block * DATA_BLOCK_BYTES, bytes);
    struct store_extent to;
    struct store_batch batch;
    store_batch_init(&batch);
    result =
        store_extent_write(store, (struct buf_slice){buf, 0, bytes}, parsed.extent.blocks, &to);
    assert(result == 0);
    if (store->move(store->move_context, key, parsed.extent, to, buf->data, &batch) == 0)
        (void)store_commit(store, &batch);
    else
        memset(store->owner + to.block, FAKE_FREE, to.blocks);
    store_batch_fini(&batch);
    buf_put(buf);
}

uint32_t fake_store_check(const struct store *store)
{
    uint32_t live = 0, referred = 0;
    struct data_row before = {0};
    for (uint32_t i = 0; i < FAKE_BLOCKS; i++)
        live += store->owner[i] == FAKE_LIVE;
    for (uint32_t i = 0; i < store->row_count; i++) {
        const struct fake_row *row = &store->rows[i];
        struct data_row now;
        int result = data_row_parse(slice_of(row->key, DATA_KEY_BYTES),
                                    slice_of(row->value, row->value_bytes), &now);
        assert(result == 0);
        assert(i == 0 || before.ino != now.ino || before.end <= now.first); /* D1 */
        for (uint64_t b = now.extent.block; b < now.extent.block + now.extent.blocks; b++)
            assert(store->owner[b] == FAKE_LIVE);
        referred += now.extent.blocks;
        before = now;
    }
    assert(live == referred);
    return live;
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
    return &host->store;
}
struct store *group_store(const struct group *group)
{
    return &group->host->store;
}
uint32_t group_id(const struct group *group)
{
    return FAKE_GROUP;
}
uint32_t group_epoch(const struct group *group)
{
    return FAKE_EPOCH;
}
int group_find_serving(struct group_host *host, uint32_t group, uint32_t epoch, bool for_write,
                       struct group **ret_group)
{
    if (!host->primary || group != FAKE_GROUP)
        return -ERR_NOT_PRIMARY;
    if (epoch != 0 && epoch != FAKE_EPOCH)
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
        part.bytes = MIN(data.bytes, host->store.extent_blocks_max * DATA_BLOCK_BYTES);
        int result = store_extent_write(&host->store, part, part.bytes / DATA_BLOCK_BYTES,
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
    if (random_chance(&host->store.random, 1, 20)) {
        for (uint32_t i = 0; i < append->extent_count; i++)
            memset(host->store.owner + append->extents[i].block, FAKE_FREE,
                   append->extents[i].blocks);
        return -ERR_BUSY;
    }
    *ret_seq = ++seq;
    record_add(host, append, seq);
    record_add(host->other, append, seq);
    return 0;
}
int group_wait_room(struct group *group)
{
    maybe_yield(&group->host->store);
    return 0;
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
        maybe_yield(&host->store);
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
        (void)store_commit(&host->store, &batch);
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
    struct wire_header header = {.type = (uint16_t)type, .group = FAKE_GROUP, .epoch = FAKE_EPOCH};
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

void fake_pair_init(struct group_host hosts[2], struct rpc rpcs[2], uint64_t seed)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct group_host *host = &hosts[i];
        memset(host, 0, sizeof *host);
        memset(&rpcs[i], 0, sizeof rpcs[i]);
        host->store.rows = mem_alloc(FAKE_ROWS_MAX * sizeof host->store.rows[0]);
        host->store.device = mem_zalloc((size_t)FAKE_BLOCKS * DATA_BLOCK_BYTES);
        random_init(&host->store.random, seed + i);
        host->store.yield_percent = 30;
        host->store.extent_blocks_max = i == 0 ? STORE_EXTENT_BLOCKS_MAX : 11;
        host->group.host = host;
        waitq_init(&host->group.applied);
        host->other = &hosts[1 - i];
        host->primary = i == 0;
        list_init(&host->records);
        waitq_init(&host->appended);
        host->rpc = &rpcs[i];
        rpcs[i].peer = &hosts[1 - i];
        host->service = data_service_new();
        data_service_start(host->service, host->rpc, host);
        fiber_spawn("fake-apply", apply_fiber, host);
    }
}
