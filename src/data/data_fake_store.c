/* SPDX-License-Identifier: MIT */
#include "data/data_fake_store.h"

#include "base/mem.h"

static void maybe_yield(struct store *store)
{
    while (random_chance(&store->random, FAKE_YIELD_PERCENT, 100))
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
    assert(from.bytes == DATA_KEY_BYTES || from.bytes == 0);
    if (from.bytes)
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
    if (!data_key_is(key))
        return;
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

int store_scrub(struct store *store, uint64_t rate_bytes_per_s, store_scrub_fn fn, void *context)
{
    for (uint32_t i = 0; i < store->row_count; i++) {
        struct fake_row row = store->rows[i];
        struct slice key = slice_of(row.key, DATA_KEY_BYTES);
        struct data_row parsed;
        if (!data_key_is(key))
            continue;
        int result = data_row_parse(key, slice_of(row.value, row.value_bytes), &parsed);
        assert(result == 0);
        result =
            fn(context, key, parsed.extent, store->device + parsed.extent.block * DATA_BLOCK_BYTES);
        assert(result == 0);
    }
    return 0;
}

bool store_scrub_interrupted(struct store *store)
{
    return false;
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
        if (!data_key_is(slice_of(row->key, DATA_KEY_BYTES)))
            continue;
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

/* Extents that no record names after all. */
void fake_store_forget(struct store *store, const struct store_extent *extents, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        memset(store->owner + extents[i].block, FAKE_FREE, extents[i].blocks);
}

struct store *fake_store_new(uint64_t seed)
{
    struct store *store = mem_zalloc(sizeof *store);
    store->rows = mem_alloc(FAKE_ROWS_MAX * sizeof store->rows[0]);
    store->device = mem_zalloc((size_t)FAKE_BLOCKS * DATA_BLOCK_BYTES);
    random_init(&store->random, seed);
    return store;
}
