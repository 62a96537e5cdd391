/* SPDX-License-Identifier: MIT */
/* Owner and oracle: see owner.h.
 *
 * An object is a row: inline bytes, or up to two extents (two after a piece was cut out of the
 * middle). All bytes follow from the stamp, which no other write ever had. So a state is told by
 * stamps, and no two operations leave the same state, unless they changed nothing.
 *
 * O1  Each operation appends exactly one record; history->lsn says which. So "a prefix of the
 *     journal" is "the state after some operation".
 * O2  What the cleaner moves changes no state: addresses are not part of it.
 */
#include "owner.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "machine.h"

/* ---- oracle ---- */

struct history *history_new(void)
{
    return mem_zalloc(sizeof(struct history));
}

void history_copy(struct history *to, const struct history *from, uint32_t ops)
{
    assert(ops <= from->ops);
    to->ops = ops;
    to->stamp_last = from->stamp_last;
    memcpy(to->lsn, from->lsn, (ops + 1) * sizeof *to->lsn);
    memcpy(to->seq, from->seq, (ops + 1) * sizeof *to->seq);
    to->lsn[ops] = 0; /* an earlier operation may have left the same state: O1 holds from here on */
    memcpy(to->states, from->states, (ops + 1) * sizeof *to->states);
}

int32_t history_find(const struct history *history, const struct state *state, uint32_t from,
                     uint32_t to)
{
    assert(to <= history->ops);
    for (uint32_t op = to + 1; op > from; op--)
        if (memcmp(&history->states[op - 1], state, sizeof *state) == 0)
            return (int32_t)op - 1;
    return -1;
}

static struct state *history_step(struct history *history, uint64_t lsn)
{
    assert(history->ops < HISTORY_MAX && lsn > history->lsn[history->ops]);
    uint32_t op = ++history->ops;
    history->states[op] = history->states[op - 1];
    history->seq[op] = history->seq[op - 1];
    history->lsn[op] = lsn;
    return &history->states[op];
}

void history_roll_back(struct history *history, uint32_t ops, uint64_t lsn)
{
    assert(history->ops < HISTORY_MAX && ops <= history->ops);
    uint32_t op = ++history->ops;
    history->states[op] = history->states[ops];
    history->seq[op] = history->seq[ops];
    history->lsn[op] = lsn;
}

static struct object_state state_of(const struct row *row)
{
    return (struct object_state){.stamp = row->stamp,
                                 .blocks = row->blocks,
                                 .cut_from = row->cut_from,
                                 .cut_to = row->cut_to};
}

struct mark owner_mark(void *context)
{
    struct owner *owner = context;
    const struct history *history = owner->history;
    if (owner->store && owner->in_step)
        while (owner->promised >= 0 && (uint32_t)owner->promised < history->ops &&
               history->lsn[owner->promised + 1] <= owner->store->journal.flushed_lsn)
            owner->promised++;
    return (struct mark){owner->promised, history->ops};
}

void owner_trouble(struct owner *owner, const char *what, const char *format, ...)
{
    if (owner->trouble)
        return;
    owner->trouble = what;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(owner->detail, sizeof owner->detail, format, arguments);
    va_end(arguments);
}

/* ---- contents ---- */

static uint64_t word_of(uint32_t stamp, uint32_t block, uint32_t at)
{
    return hash_u64(((uint64_t)stamp << 32) + ((uint64_t)block << 12) + at);
}

static void fill_block(uint8_t *data, uint32_t stamp, uint32_t block)
{
    for (uint32_t at = 0; at < STORE_BLOCK_BYTES; at += 8) {
        uint64_t word = word_of(stamp, block, at / SECTOR_BYTES * SECTOR_BYTES) + at;
        memcpy(data + at, &word, 8);
    }
}

/* First and last word of each sector. */
static bool block_right(const uint8_t *data, uint32_t stamp, uint32_t block)
{
    for (uint32_t at = 0; at < STORE_BLOCK_BYTES; at += SECTOR_BYTES) {
        uint64_t first, last, word = word_of(stamp, block, at);
        memcpy(&first, data + at, 8);
        memcpy(&last, data + at + SECTOR_BYTES - 8, 8);
        if (first != word + at || last != word + at + SECTOR_BYTES - 8)
            return false;
    }
    return true;
}

static void fill_pad(struct row *row, uint32_t pad_max)
{
    row->pad_bytes = (uint32_t)(hash_u64(row->stamp) % pad_max);
    for (uint32_t i = 0; i < row->pad_bytes; i++)
        row->pad[i] = (uint8_t)(row->stamp * 31 + i);
}

static struct slice row_slice(const struct row *row)
{
    return slice_of(row, ROW_BYTES_MIN + row->pad_bytes);
}

static struct slice row_key(uint8_t table, uint32_t index, uint8_t key[9])
{
    be32_store(key, GROUP);
    key[4] = table;
    be32_store(key + 5, index);
    return slice_of(key, 9);
}

static struct slice object_key(uint32_t object, uint8_t key[9])
{
    return row_key(OBJECT_TABLE, object, key);
}

static bool parts_right(const struct row *row)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < row->parts; i++) {
        if (at == row->cut_from)
            at = row->cut_to;
        if (row->part[i].first != at || row->part[i].blocks == 0)
            return false;
        at += row->part[i].blocks;
    }
    if (at == row->cut_from)
        at = row->cut_to;
    return at == row->blocks;
}

static bool row_right(const struct owner *owner, const struct row *row, uint32_t bytes,
                      uint32_t object)
{
    if (bytes < ROW_BYTES_MIN || row->pad_bytes > PAD_MAX ||
        bytes != ROW_BYTES_MIN + row->pad_bytes || row->object != object || row->parts > 2 ||
        row->stamp == 0 || row->blocks > STORE_EXTENT_BLOCKS_MAX)
        return false;
    if (row->pad_bytes != hash_u64(row->stamp) % owner->pad_max)
        return false;
    for (uint32_t i = 0; i < row->pad_bytes; i++)
        if (row->pad[i] != (uint8_t)(row->stamp * 31 + i))
            return false;
    return parts_right(row);
}

/* ---- its part in the store ---- */

static void batch_drop(struct store_batch *batch, const struct row *row)
{
    for (uint32_t i = 0; row->stamp && i < row->parts; i++)
        store_batch_extent_del(batch,
                               (struct store_extent){row->part[i].block, row->part[i].blocks, 0});
}

static void batch_set(struct store_batch *batch, const struct row *row)
{
    uint8_t key[9];
    struct slice name = object_key(row->object, key);
    store_batch_put(batch, name, row_slice(row));
    for (uint32_t i = 0; i < row->parts; i++)
        store_batch_extent_add(
            batch, (struct store_extent){row->part[i].block, row->part[i].blocks, 0}, name);
}

static int row_get(struct owner *owner, uint32_t object, struct row *row)
{
    uint8_t key[9];
    int bytes = store_get(owner->store, object_key(object, key), row, sizeof *row);
    if (bytes == -ENOENT) {
        row->stamp = 0;
        row->parts = 0;
        return 0;
    }
    if (bytes < 0)
        return bytes;
    return row_right(owner, row, (uint32_t)bytes, object) ? 0 : -ERR_CORRUPT_DATA;
}

static void replay_record(void *context, const struct store_log_record *record)
{
    struct owner *owner = context;
    struct pending *slot = &owner->window[record->seq % WINDOW];
    if (record->group != GROUP || record->payload.bytes > sizeof slot->row) {
        owner_trouble(owner, "foreign log record", "seq %llu", (unsigned long long)record->seq);
        return;
    }
    slot->seq = (uint32_t)record->seq;
    memcpy(&slot->row, record->payload.data, record->payload.bytes);
    if (!row_right(owner, &slot->row, record->payload.bytes, slot->row.object % OBJECTS_MAX))
        owner_trouble(owner, "log record differs", "seq %u", slot->seq);
}

static void replay_truncate(void *context, uint32_t group, uint64_t seq)
{
    struct owner *owner = context;
    for (uint32_t i = 0; i < WINDOW; i++)
        if (owner->window[i].seq > seq)
            owner->window[i].seq = 0;
}

static void apply(struct owner *owner, struct pending *slot)
{
    struct store_batch batch;
    store_batch_init(&batch);
    struct row *row = &owner->rows[slot->row.object];
    batch_drop(&batch, row);
    batch_set(&batch, &slot->row);
    uint64_t lsn = store_apply(owner->store, GROUP, slot->seq, &batch);
    store_batch_fini(&batch);
    *row = slot->row;
    if (!owner->store->recovering) {
        struct state *state = history_step(owner->history, lsn);
        state->objects[row->object] = state_of(row);
        state->pending[slot->seq % WINDOW] = (struct pending_state){0};
    }
    slot->seq = 0;
}

static int replay_apply(void *context, uint32_t group, uint64_t seq)
{
    struct owner *owner = context;
    struct pending *slot = &owner->window[seq % WINDOW];
    if (slot->seq != seq) {
        owner_trouble(owner, "record to apply was not replayed", "seq %llu",
                      (unsigned long long)seq);
        return -ERR_CORRUPT_DISK;
    }
    int result = row_get(owner, slot->row.object, &owner->rows[slot->row.object]);
    if (result == 0)
        apply(owner, slot);
    return result;
}

static uint64_t log_append(struct owner *owner, const struct pending *slot)
{
    struct store_extent extents[2];
    for (uint32_t i = 0; i < slot->row.parts; i++)
        extents[i] = (struct store_extent){slot->row.part[i].block, slot->row.part[i].blocks, 0};
    const struct store_log_record record = {.group = GROUP,
                                            .epoch = 1,
                                            .seq = slot->seq,
                                            .payload = row_slice(&slot->row),
                                            .extents = extents,
                                            .extent_count = slot->row.parts};
    return store_log_append(owner->store, &record);
}

/* The prepared record with the lowest seq above after; NULL: none. */
static struct pending *oldest(struct owner *owner, uint32_t after)
{
    struct pending *found = NULL;
    for (uint32_t i = 0; i < WINDOW; i++) {
        struct pending *slot = &owner->window[i];
        if (slot->seq > after && (!found || slot->seq < found->seq))
            found = slot;
    }
    return found;
}

static void relog(void *context)
{
    struct pending *slot = NULL;
    while ((slot = oldest(context, slot ? slot->seq : 0)) != NULL)
        (void)log_append(context, slot);
}

static const struct store_log_ops log_ops = {.replay_record = replay_record,
                                             .replay_truncate = replay_truncate,
                                             .replay_apply = replay_apply,
                                             .relog = relog};

static int mover(void *context, struct slice key, struct store_extent from, struct store_extent to,
                 const void *data, struct store_batch *batch)
{
    struct owner *owner = context;
    uint32_t object = key.bytes == 9 ? be32_load((const uint8_t *)key.data + 5) : OBJECTS_MAX;
    if (object >= OBJECTS_MAX)
        return -ENOENT;
    struct row *row = &owner->rows[object];
    for (uint32_t i = 0; row->stamp && i < row->parts; i++) {
        struct part *part = &row->part[i];
        if (part->block != from.block || part->blocks != from.blocks)
            continue;
        for (uint32_t b = 0; b < part->blocks; b++)
            if (!block_right((const uint8_t *)data + b * STORE_BLOCK_BYTES, row->stamp,
                             part->first + b))
                owner_trouble(owner, "cleaner read wrong data", "object %u block %u", object, b);
        part->block = to.block;
        store_batch_put(batch, key, row_slice(row));
        store_batch_extent_del(batch, from);
        store_batch_extent_add(batch, to, key);
        return 0;
    }
    return -ENOENT;
}

int owner_open(struct owner *owner, struct disk *disk, bool read_only)
{
    memset(owner->window, 0, sizeof owner->window);
    owner->store = NULL;
    const struct store_options options = {
        .memory_bytes = 16 * MIB, .log_ops = &log_ops, .context = owner, .read_only = read_only};
    int result = store_open(disk, &options, &owner->store);
    if (result < 0) {
        owner->store = NULL;
        return result;
    }
    for (uint32_t i = 0; i < OBJECTS_MAX; i++)
        if (row_get(owner, i, &owner->rows[i]) < 0)
            owner_trouble(owner, "row is unreadable or differs", "object %u", i);
    store_set_mover(owner->store, mover, owner);
    return 0;
}

/* ---- operations ---- */

static uint32_t some_object(struct owner *owner)
{
    return (uint32_t)random_below(&owner->random, owner->objects);
}

static bool write_blocks(struct owner *owner, struct row *row, uint32_t blocks)
{
    struct store_extent extent;
    struct buf *buf = buf_new(blocks * STORE_BLOCK_BYTES);
    for (uint32_t i = 0; i < blocks; i++)
        fill_block(buf->data + i * STORE_BLOCK_BYTES, row->stamp, i);
    int result =
        store_extent_write(owner->store, (struct buf_slice){buf, 0, buf->size}, blocks, &extent);
    buf_put(buf);
    if (result < 0)
        return false;
    row->blocks = (uint8_t)blocks;
    row->parts = 1;
    row->part[0] = (struct part){extent.block, blocks, 0};
    return true;
}

/* A new value for object. False: no space. Does not yield. */
static bool row_make(struct owner *owner, uint32_t object, uint32_t blocks, struct row *row)
{
    memset(row, 0, ROW_BYTES_MIN);
    row->object = object;
    row->stamp = ++owner->history->stamp_last;
    fill_pad(row, owner->pad_max);
    return blocks == 0 || write_blocks(owner, row, blocks);
}

static uint32_t some_blocks(struct owner *owner)
{
    if (owner->blocks_max == 0 || random_chance(&owner->random, 1, 4))
        return 0;
    return 1 + (uint32_t)random_below(&owner->random, owner->blocks_max);
}

bool owner_commit(struct owner *owner)
{
    uint32_t changes = 1 + (uint32_t)random_below(&owner->random, owner->changes_max);
    struct row row;
    struct object_state after[OBJECTS_MAX];
    bool touched[OBJECTS_MAX] = {0};
    if (store_reserve(owner->store, (uint64_t)changes * owner->blocks_max * STORE_BLOCK_BYTES,
                      false) < 0)
        return false;
    struct store_batch batch;
    store_batch_init(&batch);
    for (uint32_t i = 0; i < changes; i++) {
        uint32_t object = some_object(owner);
        struct row *old = &owner->rows[object];
        uint8_t key[9];
        if (random_chance(&owner->random, 1, 6)) {
            batch_drop(&batch, old);
            store_batch_del(&batch, object_key(object, key));
            old->stamp = 0;
        } else if (row_make(owner, object, some_blocks(owner), &row)) {
            batch_drop(&batch, old);
            batch_set(&batch, &row);
            *old = row;
        }
        after[object] = old->stamp ? state_of(old) : (struct object_state){0};
        touched[object] = true;
    }
    struct state *state = history_step(owner->history, store_commit(owner->store, &batch));
    for (uint32_t i = 0; i < OBJECTS_MAX; i++)
        if (touched[i])
            state->objects[i] = after[i];
    store_batch_fini(&batch);
    return true;
}

bool owner_append(struct owner *owner)
{
    struct history *history = owner->history;
    uint32_t blocks = some_blocks(owner), seq = history->seq[history->ops] + 1;
    struct pending *slot = &owner->window[seq % WINDOW];
    if (slot->seq)
        return false;
    if (store_reserve(owner->store, (uint64_t)blocks * STORE_BLOCK_BYTES, false) < 0 ||
        !row_make(owner, some_object(owner), blocks, &slot->row))
        return false;
    slot->seq = seq;
    struct state *state = history_step(history, log_append(owner, slot));
    history->seq[history->ops] = seq;
    state->pending[seq % WINDOW] =
        (struct pending_state){seq, slot->row.stamp, slot->row.object, slot->row.blocks};
    return true;
}

void owner_apply(struct owner *owner)
{
    struct pending *slot = oldest(owner, 0);
    if (slot)
        apply(owner, slot);
}

void owner_truncate(struct owner *owner)
{
    struct history *history = owner->history;
    uint32_t seq = history->seq[history->ops];
    if (seq == 0 || owner->window[seq % WINDOW].seq != seq)
        return;
    owner->window[seq % WINDOW].seq = 0;
    struct state *state = history_step(history, store_log_truncate(owner->store, GROUP, seq - 1));
    state->pending[seq % WINDOW] = (struct pending_state){0};
    history->seq[history->ops] = seq - 1;
}

bool owner_cut(struct owner *owner)
{
    if (store_reserve(owner->store, 0, true) < 0)
        return false;
    struct row *row = &owner->rows[some_object(owner)];
    if (row->stamp == 0 || row->parts != 1 || row->blocks < 3 || row->cut_to > 0)
        return false;
    struct store_batch batch;
    store_batch_init(&batch);
    batch_drop(&batch, row); /* B2: all of it, then what stays */
    row->cut_from = (uint8_t)(1 + random_below(&owner->random, row->blocks - 2u));
    row->cut_to = (uint8_t)(row->cut_from + 1 +
                            random_below(&owner->random, row->blocks - row->cut_from - 1u));
    uint64_t block = row->part[0].block;
    row->part[0].blocks = row->cut_from;
    row->part[1] =
        (struct part){block + row->cut_to, (uint32_t)row->blocks - row->cut_to, row->cut_to};
    row->parts = 2;
    batch_set(&batch, row);
    struct state *state = history_step(owner->history, store_commit(owner->store, &batch));
    state->objects[row->object] = state_of(row);
    store_batch_fini(&batch);
    return true;
}

void owner_delete(struct owner *owner)
{
    if (store_reserve(owner->store, 0, true) < 0)
        return;
    uint32_t object = some_object(owner);
    struct store_batch batch;
    uint8_t key[9];
    store_batch_init(&batch);
    batch_drop(&batch, &owner->rows[object]);
    store_batch_del(&batch, object_key(object, key));
    struct state *state = history_step(owner->history, store_commit(owner->store, &batch));
    state->objects[object] = (struct object_state){0};
    owner->rows[object].stamp = 0;
    store_batch_fini(&batch);
}

void owner_bulk(struct owner *owner)
{
    static const uint8_t value[BULK_BYTES];
    if (store_reserve(owner->store, 0, true) < 0)
        return;
    uint32_t first = (uint32_t)random_below(&owner->random, BULK_RUNS) * BULK_ROWS;
    struct store_batch batch;
    uint8_t key[9];
    store_batch_init(&batch);
    for (uint32_t i = 0; i < BULK_ROWS; i++)
        store_batch_put(&batch, row_key(BULK_TABLE, first + i, key), slice_of(value, sizeof value));
    (void)history_step(owner->history, store_commit(owner->store, &batch));
    store_batch_fini(&batch);
}

void owner_wait_durable(struct owner *owner)
{
    uint32_t ops = owner->history->ops;
    uint64_t lsn = owner->history->lsn[ops];
    int result = store_wait_durable(owner->store, lsn);
    if (result < 0)
        owner_trouble(owner, "wait for durability failed", "%s", error_name(result));
    else
        owner->promised = MAX(owner->promised, (int32_t)ops);
}

void owner_wait_written(struct owner *owner)
{
    int result = store_wait_written(owner->store, owner->history->lsn[owner->history->ops]);
    if (result < 0)
        owner_trouble(owner, "wait for the write failed", "%s", error_name(result));
}

/* ---- reading it all ---- */

static void read_parts(struct owner *owner, const struct row *row, const char *whose)
{
    uint8_t *data =
        mem_alloc_aligned(STORE_EXTENT_BLOCKS_MAX * STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
    for (uint32_t i = 0; i < row->parts; i++) {
        struct store_extent extent = {row->part[i].block, row->part[i].blocks, 0};
        int result = store_extent_read(owner->store, extent, 0, extent.blocks, data);
        if (result < 0)
            owner_trouble(owner, "extent cannot be read", "%s of object %u", whose, row->object);
        for (uint32_t b = 0; result == 0 && b < extent.blocks; b++)
            if (!block_right(data + b * STORE_BLOCK_BYTES, row->stamp, row->part[i].first + b))
                owner_trouble(owner, "data differs", "%s of object %u, device block %llu", whose,
                              row->object, (unsigned long long)extent.block + b);
    }
    mem_free(data);
}

void owner_read(struct owner *owner, struct state *ret_state)
{
    memset(ret_state, 0, sizeof *ret_state);
    for (uint32_t i = 0; i < OBJECTS_MAX; i++) {
        const struct row *row = &owner->rows[i];
        if (row->stamp == 0)
            continue;
        ret_state->objects[i] = state_of(row);
        read_parts(owner, row, "row");
    }
    for (uint32_t i = 0; i < WINDOW; i++) {
        const struct pending *slot = &owner->window[i];
        if (slot->seq == 0)
            continue;
        ret_state->pending[i] =
            (struct pending_state){slot->seq, slot->row.stamp, slot->row.object, slot->row.blocks};
        read_parts(owner, &slot->row, "log record");
    }
}

static void accounts_of_segments(struct owner *owner)
{
    const struct store *store = owner->store;
    uint64_t nodes = 0, data = 0;
    for (uint32_t i = 1; i < store->segment_count; i++) {
        const struct segment *segment = &store->segments[i];
        nodes += segment->state == SEGMENT_NODE ? segment->live : 0;
        data += segment->state == SEGMENT_DATA ? segment->live : 0;
        bool used = segment->live || segment->pinned || segment->fresh || segment->open;
        if (segment->state == SEGMENT_NODE && !used)
            owner_trouble(owner, "node segment leaks", "segment %u", i);
        if (segment->state == SEGMENT_DATA && !used && !segment->listed)
            owner_trouble(owner, "data segment leaks", "segment %u", i);
        if (segment->state == SEGMENT_FREE && used)
            owner_trouble(owner, "free segment is in use", "segment %u", i);
    }
    if (nodes != store->live_nodes || data != store->live_data)
        owner_trouble(owner, "sums of segments differ", "nodes %llu/%llu data %llu/%llu",
                      (unsigned long long)nodes, (unsigned long long)store->live_nodes,
                      (unsigned long long)data, (unsigned long long)store->live_data);
    uint32_t chain = store->journal.chain_count + (store->journal.next_segment != SEGMENT_NONE);
    if (!store->options.read_only && chain != store->segments_by_state[SEGMENT_JOURNAL])
        owner_trouble(owner, "journal segments differ", "%u in the chain, %u in all", chain,
                      store->segments_by_state[SEGMENT_JOURNAL]);
}

static void told(void *context, const char *what, const char *where)
{
    owner_trouble(context, what, "%s", where);
}

void owner_accounts(struct owner *owner)
{
    struct store *store = owner->store;
    uint64_t live = 0, pinned = 0, pins = 0;
    for (uint32_t i = 0; i < OBJECTS_MAX; i++)
        for (uint32_t p = 0; owner->rows[i].stamp && p < owner->rows[i].parts; p++)
            live += owner->rows[i].part[p].blocks;
    for (uint32_t i = 0; i < WINDOW; i++)
        pinned += owner->window[i].seq ? owner->window[i].row.blocks : 0u;
    for (uint32_t i = 1; i < store->segment_count; i++)
        pins += store->segments[i].pinned;
    if (live != store->live_data)
        owner_trouble(owner, "live data differs", "%llu blocks in rows, %llu counted",
                      (unsigned long long)live, (unsigned long long)store->live_data);
    if (pinned != pins)
        owner_trouble(owner, "pinned blocks differ", "%llu in records, %llu counted",
                      (unsigned long long)pinned, (unsigned long long)pins);
    accounts_of_segments(owner);
    int result = store_check_report(store, told, owner);
    if (result < 0)
        owner_trouble(owner, "store_check failed", "%s", error_name(result));
}
