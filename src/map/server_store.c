/* SPDX-License-Identifier: MIT */
#include "map/server_internal.h"

#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"

/* Raft's persistent state as rows of the local group:
 *
 *     0000 table 1                   term and vote          struct disk_raft_state
 *     0000 table 2                   head of the snapshot   struct disk_raft_snapshot
 *     0000 table 3 <area and chunk, 4 bytes>  bytes of the snapshot
 *     0000 table 4 <index, 8 bytes>  log entry              struct wire_raft_entry, data
 *
 * Each step's changes are one store_commit, hence atomic and durable in the order of the steps. But
 * a snapshot is larger than one commit may be: its bytes go before, in commits of their own, to the
 * area that the present head does not name. A crash in between leaves that one as it is. */

enum {
    ROW_STATE = 1,
    ROW_SNAPSHOT = 2,
    ROW_CHUNK = 3,
    ROW_ENTRY = 4,
    CHUNK_BYTES = 4096,
    PART_CHUNKS = 64, /* in one commit */
    AREA_SHIFT = 31,
    KEY_MAX = 14,
};

struct row_key {
    uint8_t bytes[KEY_MAX];
    uint32_t count;
};

static struct slice row_key(struct row_key *key, uint8_t row, uint32_t id_bytes, uint64_t id)
{
    be32_store(key->bytes, STORE_GROUP_LOCAL);
    key->bytes[4] = SERVER_STORE_TABLE;
    key->bytes[5] = row;
    if (id_bytes == 4)
        be32_store(key->bytes + 6, (uint32_t)id);
    else if (id_bytes == 8)
        be64_store(key->bytes + 6, id);
    key->count = 6 + id_bytes;
    assert(key->count <= KEY_MAX);
    return slice_of(key->bytes, key->count);
}

/* ---- writing -------------------------------------------------------------------------------- */

void server_snapshot_set(struct map_server *server, const void *bytes, uint32_t count)
{
    buf_put(server->snapshot);
    server->snapshot = NULL;
    server->snapshot_bytes = count;
    if (count > 0) {
        server->snapshot = buf_new(count);
        memcpy(server->snapshot->data, bytes, count);
    }
}

static void put_state(const struct map_server *server, struct store_batch *batch)
{
    struct row_key key;
    struct disk_raft_state state = {.term = raft_term(server->raft),
                                    .vote = raft_vote(server->raft)};
    store_batch_put(batch, row_key(&key, ROW_STATE, 0, 0), slice_of(&state, sizeof state));
}

static struct slice chunk_key(struct row_key *key, uint32_t area, uint32_t chunk)
{
    assert(area <= 1 && chunk < (uint32_t)1 << AREA_SHIFT);
    return row_key(key, ROW_CHUNK, 4, area << AREA_SHIFT | chunk);
}

static uint32_t chunk_count(const struct map_server *server)
{
    return (uint32_t)div_up(server->snapshot_bytes, CHUNK_BYTES);
}

/* The snapshot's bytes, where nobody looks for them yet. */
static void commit_chunks(struct map_server *server)
{
    struct store_batch batch;
    uint32_t chunks = chunk_count(server);
    server->snapshot_area = 1 - server->snapshot_area;
    store_batch_init(&batch);
    for (uint32_t i = 0; i < chunks; i++) {
        struct row_key key;
        uint32_t offset = i * CHUNK_BYTES;
        uint32_t bytes = MIN((uint32_t)CHUNK_BYTES, server->snapshot_bytes - offset);
        store_batch_put(&batch, chunk_key(&key, server->snapshot_area, i),
                        slice_of(server->snapshot->data + offset, bytes));
        if (batch.count == PART_CHUNKS || i + 1 == chunks) {
            (void)store_commit(server->store, &batch); /* the head's lsn is behind it */
            store_batch_reset(&batch);
        }
    }
    store_batch_fini(&batch);
}

static void put_snapshot(struct map_server *server, struct store_batch *batch)
{
    struct row_key key;
    struct disk_raft_snapshot head = {
        .index = raft_snapshot_index(server->raft),
        .term = raft_snapshot_term(server->raft),
        .bytes = server->snapshot_bytes,
        .chunk_count = chunk_count(server),
        .area = server->snapshot_area,
        .config = *raft_snapshot_config(server->raft),
    };
    store_batch_put(batch, row_key(&key, ROW_SNAPSHOT, 0, 0), slice_of(&head, sizeof head));
    for (; server->stored_first <= MIN(head.index, server->stored_last); server->stored_first++)
        store_batch_del(batch, row_key(&key, ROW_ENTRY, 8, server->stored_first));
    server->stored_first = MAX(server->stored_first, head.index + 1);
    server->stored_last = MAX(server->stored_last, head.index);
}

static void put_log(struct map_server *server, struct store_batch *batch)
{
    const struct raft_update *update = server->update;
    struct row_key key;
    uint8_t value[sizeof(struct wire_raft_entry) + RAFT_ENTRY_BYTES_MAX];
    _Static_assert(sizeof value <= STORE_VALUE_MAX, "an entry is one value");
    for (uint64_t i = update->log_first; i <= update->log_last; i++) {
        struct raft_entry entry;
        raft_entry(server->raft, i, &entry);
        struct wire_raft_entry head = {
            .term = entry.term, .type = entry.type, .bytes = entry.data.bytes};
        memcpy(value, &head, sizeof head);
        if (head.bytes > 0)
            memcpy(value + sizeof head, entry.data.data, head.bytes);
        store_batch_put(batch, row_key(&key, ROW_ENTRY, 8, i),
                        slice_of(value, sizeof head + head.bytes));
    }
    for (uint64_t i = update->log_last + 1; i <= server->stored_last; i++)
        store_batch_del(batch, row_key(&key, ROW_ENTRY, 8, i));
    server->stored_last = update->log_last;
}

void server_persist(struct map_server *server)
{
    const struct raft_update *update = server->update;
    assert(update->persist_seq > server->persist_seq);
    struct store_batch batch;
    if (update->persist & RAFT_PERSIST_SNAPSHOT)
        commit_chunks(server);
    store_batch_init(&batch);
    if (update->persist & RAFT_PERSIST_STATE)
        put_state(server, &batch);
    if (update->persist & RAFT_PERSIST_SNAPSHOT)
        put_snapshot(server, &batch);
    if (update->persist & RAFT_PERSIST_LOG)
        put_log(server, &batch);
    server->persist_lsn = store_commit(server->store, &batch);
    server->persist_seq = update->persist_seq;
    store_batch_fini(&batch);
    waitq_wake_all(&server->persist_wake);
}

/* Wait for writes to be durable, many at a time, and tell the machine (S2). */
void server_persist_fiber(void *arg)
{
    struct map_server *server = arg;
    uint64_t reported = 0;
    for (;;) {
        if (server->persist_seq == reported) {
            (void)waitq_wait(&server->persist_wake, 0); /* idle until there is something */
            continue;
        }
        uint64_t seq = server->persist_seq;
        int result = store_wait_durable(server->store, server->persist_lsn);
        if (result < 0) {
            log_error("map-persist", "node=%u error=%s effect=\"leaves the map group\"",
                      server->options.node, error_name(result));
            server_fail(server);
            return;
        }
        reported = seq;
        struct raft_event event = {.type = RAFT_EVENT_PERSISTED, .persist_seq = seq};
        server_step(server, &event);
    }
}

/* ---- reading -------------------------------------------------------------------------------- */

static int load_state(struct map_server *server)
{
    struct row_key key;
    struct disk_raft_state state;
    int bytes = store_get(server->store, row_key(&key, ROW_STATE, 0, 0), &state, sizeof state);
    if (bytes == -ENOENT)
        return 0;
    if (bytes < 0)
        return bytes;
    if (bytes != sizeof state)
        return -ERR_CORRUPT_DISK;
    raft_restore_state(server->raft, state.term, state.vote);
    return 0;
}

static int load_chunks(struct map_server *server, const struct disk_raft_snapshot *head)
{
    struct row_key key;
    uint64_t room = (uint64_t)head->chunk_count * CHUNK_BYTES;
    if (head->bytes > BUF_SIZE_MAX || room < head->bytes || room - head->bytes >= CHUNK_BYTES)
        return -ERR_CORRUPT_DISK;
    if (head->bytes == 0)
        return 0;
    uint8_t *bytes = mem_alloc(room);
    int result = 0;
    for (uint32_t i = 0; i < head->chunk_count && result >= 0; i++) {
        uint32_t want = MIN((uint32_t)CHUNK_BYTES, head->bytes - i * CHUNK_BYTES);
        result = store_get(server->store, chunk_key(&key, head->area, i), bytes + i * CHUNK_BYTES,
                           CHUNK_BYTES);
        if (result >= 0 && (uint32_t)result != want)
            result = -ERR_CORRUPT_DISK;
    }
    if (result >= 0)
        result = map_view_new(bytes, head->bytes, &server->view);
    if (result >= 0)
        server_snapshot_set(server, bytes, head->bytes);
    mem_free(bytes);
    return result < 0 ? -ERR_CORRUPT_DISK : 0;
}

static int load_snapshot(struct map_server *server)
{
    struct row_key key;
    struct disk_raft_snapshot head;
    int bytes = store_get(server->store, row_key(&key, ROW_SNAPSHOT, 0, 0), &head, sizeof head);
    if (bytes == -ENOENT)
        return 0;
    if (bytes < 0)
        return bytes;
    if (bytes != sizeof head || head.index == 0 || head.term == 0 || head.area > 1 ||
        head.term > raft_term(server->raft) || !raft_config_valid(&head.config))
        return -ERR_CORRUPT_DISK;
    int result = load_chunks(server, &head);
    if (result < 0)
        return result;
    raft_restore_snapshot(server->raft, head.index, head.term, &head.config);
    server->snapshot_area = head.area;
    server->applied = head.index;
    return 0;
}

static int load_entry(struct map_server *server, struct slice key, struct slice value)
{
    struct reader reader;
    struct wire_raft_entry head;
    if (key.bytes != 14)
        return -ERR_CORRUPT_DISK;
    uint64_t index = be64_load((const uint8_t *)key.data + 6);
    reader_init(&reader, value.data, value.bytes);
    reader_copy(&reader, &head, sizeof head);
    if (!reader_ok(&reader) || reader_left(&reader) != head.bytes)
        return -ERR_CORRUPT_DISK;
    return raft_restore_entry(server->raft, index, head.term, head.type,
                              slice_of(reader_take(&reader, head.bytes), head.bytes));
}

static int load_log(struct map_server *server)
{
    struct row_key from;
    struct row_key end;
    struct slice key;
    struct slice value;
    struct store_iter *iter = store_iter_new(server->store);
    store_iter_seek(iter, row_key(&from, ROW_ENTRY, 8, 0));
    struct slice end_key = row_key(&end, ROW_ENTRY + 1, 0, 0);
    int result;
    while ((result = store_iter_next(iter, end_key, &key, &value)) == 1) {
        result = load_entry(server, key, value);
        if (result < 0)
            break;
    }
    store_iter_free(iter);
    return result;
}

int server_load(struct map_server *server)
{
    int result = load_state(server);
    if (result == 0)
        result = load_snapshot(server);
    if (result == 0)
        result = load_log(server);
    if (result < 0) {
        log_error("map-load",
                  "node=%u error=%s why=\"stored state of the map group is not readable\" "
                  "effect=\"this node does not start\"",
                  server->options.node, error_name(result));
        return result;
    }
    server->stored_first = raft_snapshot_index(server->raft) + 1;
    server->stored_last = raft_last_index(server->raft);
    return 0;
}

bool map_server_is_stored(struct store *store)
{
    struct row_key key;
    struct disk_raft_state state;
    return store_get(store, row_key(&key, ROW_STATE, 0, 0), &state, sizeof state) >= 0;
}
