/* SPDX-License-Identifier: MIT */
/* Memtable: where changes live between the journal and the tree.
 *
 * Problem: a commit must cost about a microsecond and no malloc; a checkpoint must read the
 * changes in key order while new ones come in; readers must find the newest value of a key.
 * Answer: a skip list whose rows and values come from an arena that is dropped as a whole. The
 * store has one active table and at most one frozen table that a checkpoint is merging.
 *
 * M1  Rows are sorted strictly by key and never removed.
 * M2  A row's value changes in place only while the table is active; a frozen one is immutable.
 * M3  A row's head orders as its key does, as far as it goes, so a search compares numbers in the
 *     line that it has to load anyway and looks at the key itself only when they are equal.
 * M4  bytes counts all that the arena has handed out, so replacing a value by a larger one counts
 *     again: the table's budget bounds real memory, not live data.
 * M5  What is put goes to a buffer first, and from there into the list in the same order before
 *     anybody looks. To find its place was half of a commit's time, all of it spent in waiting for
 *     memory. So it is left for when the device is at work (journal.c), and done for many together.
 */
#include "store/memtable.h"

#include "base/hash.h"
#include "base/mem.h"

enum { CHUNK_BYTES = 256 << 10, ARENA_ALIGN = 8, LATE_BYTES = 64 << 10, TOGETHER = 16 };

/* In the buffer: this, key, value, rounded up. */
struct late {
    uint32_t key_bytes;
    uint32_t value_bytes; /* TOMBSTONE: there is none */
};
#define TOMBSTONE UINT32_MAX

void memtable_pool_fini(struct memtable_pool *pool)
{
    while (pool->spare) {
        struct memtable_chunk *chunk = pool->spare;
        pool->spare = chunk->older;
        mem_free(chunk);
    }
    pool->bytes = 0;
}

struct memtable *memtable_new(struct memtable_pool *pool)
{
    struct memtable *table = mem_zalloc(sizeof *table);
    table->pool = pool;
    table->random = 1;
    table->late = mem_alloc(LATE_BYTES);
    return table;
}

void memtable_free(struct memtable *table)
{
    if (!table)
        return;
    struct memtable_chunk *older;
    for (struct memtable_chunk *chunk = table->chunk; chunk; chunk = older) {
        older = chunk->older;
        chunk->older = table->pool->spare;
        table->pool->spare = chunk;
        table->pool->bytes += chunk->room;
    }
    mem_free(table->late);
    mem_free(table);
}

static void *arena_take(struct memtable *table, uint32_t bytes)
{
    bytes = (uint32_t)round_up(bytes, ARENA_ALIGN);
    assert(bytes <= CHUNK_BYTES / 4);
    struct memtable_chunk *chunk = table->chunk;
    if (!chunk || chunk->room - chunk->used < bytes) {
        chunk = table->pool->spare;
        if (chunk) {
            table->pool->spare = chunk->older;
            table->pool->bytes -= chunk->room;
        } else {
            chunk = mem_alloc(sizeof *chunk + CHUNK_BYTES);
        }
        chunk->older = table->chunk;
        chunk->used = 0;
        chunk->room = CHUNK_BYTES;
        table->chunk = chunk;
    }
    void *place = chunk->bytes + chunk->used;
    chunk->used += bytes;
    table->bytes += bytes;
    return place;
}

/* One level in four rises: 1.33 pointers per row. */
static uint16_t random_height(struct memtable *table)
{
    uint64_t bits = hash_u64(table->random++);
    uint16_t height = 1;
    while (height < MEMTABLE_HEIGHT && (bits & 3) == 0) {
        height++;
        bits >>= 2;
    }
    return height;
}

struct probe {
    struct slice key;
    uint64_t head[2];
};

static void head_of(struct slice key, uint64_t head[2])
{
    uint8_t first[16] = {0};
    if (key.bytes)
        memcpy(first, key.data, MIN(key.bytes, (uint32_t)sizeof first));
    head[0] = be64_load(first);
    head[1] = be64_load(first + 8);
}

static int compare(const struct memtable_row *row, const struct probe *probe)
{
    for (uint32_t i = 0; i < 2; i++)
        if (row->head[i] != probe->head[i])
            return row->head[i] < probe->head[i] ? -1 : 1;
    return slice_compare(memtable_key(row), probe->key);
}

/* A search is one cache miss after the other. What comes next if the row at this level is too high,
 * the one below it, is on its way while it is compared. */
static void prefetch(struct memtable_row *const *links, int level)
{
    if (level > 0)
        __builtin_prefetch(links[level - 1]);
}

/* Fill path with, per level, the link that leads to the first row not before key. */
static struct memtable_row *descend(struct memtable *table, const struct probe *probe,
                                    struct memtable_row **path[MEMTABLE_HEIGHT])
{
    struct memtable_row **links = table->head;
    struct memtable_row *row = NULL, *tested = NULL;
    for (int level = MEMTABLE_HEIGHT - 1; level >= 0; level--) {
        while ((row = links[level]) != NULL && row != tested) {
            prefetch(links, level);
            if (compare(row, probe) >= 0)
                break;
            links = row->next;
        }
        tested = row;
        path[level] = &links[level];
    }
    return row;
}

static void set_value(struct memtable *table, struct memtable_row *row, struct slice value)
{
    if (!value.data) {
        row->value = NULL;
        row->value_bytes = 0;
        row->value_room = 0;
        return;
    }
    if (!row->value || row->value_room < value.bytes) {
        row->value = arena_take(table, MAX(value.bytes, 1u));
        row->value_room = value.bytes;
    }
    if (value.bytes)
        memcpy(row->value, value.data, value.bytes);
    row->value_bytes = value.bytes;
}

static void sort_in(struct memtable *table, struct slice key, struct slice value)
{
    struct memtable_row **path[MEMTABLE_HEIGHT];
    struct probe probe = {.key = key};
    head_of(key, probe.head);
    struct memtable_row *row = descend(table, &probe, path);
    if (row && slice_equal(memtable_key(row), key)) {
        set_value(table, row, value);
        return;
    }
    uint16_t height = random_height(table);
    row = arena_take(table, (uint32_t)(sizeof *row + height * sizeof(void *)) + key.bytes);
    *row = (struct memtable_row){
        .key_bytes = (uint16_t)key.bytes, .height = height, .head = {probe.head[0], probe.head[1]}};
    if (key.bytes)
        memcpy((uint8_t *)row + sizeof *row + height * sizeof(void *), key.data, key.bytes);
    set_value(table, row, value);
    for (uint16_t level = 0; level < height; level++) {
        row->next[level] = *path[level];
        *path[level] = row;
    }
    table->count++;
}

/* A change in the buffer. */
struct change_view {
    struct slice key;
    struct slice value;
};

static void late_next(const struct memtable *table, uint32_t *at, struct change_view *ret_change)
{
    struct late late;
    memcpy(&late, table->late + *at, sizeof late);
    const uint8_t *key = table->late + *at + sizeof late;
    bool dead = late.value_bytes == TOMBSTONE;
    uint32_t value_bytes = dead ? 0 : late.value_bytes;
    ret_change->key = slice_of(key, late.key_bytes);
    ret_change->value = slice_of(dead ? NULL : key + late.key_bytes, value_bytes);
    *at += (uint32_t)round_up(sizeof late + late.key_bytes + value_bytes, ARENA_ALIGN);
}

/* A search that goes on when the row that it asked for has come. */
struct walk {
    struct probe probe;
    struct memtable_row *const *links;
    const struct memtable_row *tested;
    int level;
};

/* False: it has arrived. */
static bool walk_step(struct walk *walk)
{
    struct memtable_row *row = walk->links[walk->level];
    if (row && row != walk->tested && compare(row, &walk->probe) < 0) {
        walk->links = row->next;
    } else {
        walk->tested = row;
        if (walk->level-- == 0)
            return false;
    }
    row = walk->links[walk->level];
    if (row) {
        __builtin_prefetch(row->head);
        __builtin_prefetch(&row->next[walk->level]);
    }
    return true;
}

/* Have in the processor's cache what the searches for these keys will meet: each waits for memory
 * at every step, so they wait together. */
static void warm(struct memtable *table, const struct change_view *changes, uint32_t count)
{
    struct walk walks[TOGETHER];
    uint32_t left = count;
    for (uint32_t i = 0; i < count; i++) {
        walks[i] = (struct walk){
            .probe.key = changes[i].key, .links = table->head, .level = MEMTABLE_HEIGHT - 1};
        head_of(changes[i].key, walks[i].probe.head);
    }
    while (left > 0) {
        for (uint32_t i = 0; i < count; i++) {
            if (walks[i].level >= 0)
                left -= !walk_step(&walks[i]);
        }
    }
}

void memtable_settle(struct memtable *table)
{
    struct change_view changes[TOGETHER];
    uint32_t at = 0;
    while (at < table->late_used) {
        uint32_t count = 0;
        while (count < TOGETHER && at < table->late_used)
            late_next(table, &at, &changes[count++]);
        if (count > 1)
            warm(table, changes, count);
        for (uint32_t i = 0; i < count; i++)
            sort_in(table, changes[i].key, changes[i].value);
    }
    assert(at == table->late_used && table->bytes >= table->late_counted);
    table->bytes -= table->late_counted;
    table->late_used = 0;
    table->late_counted = 0;
}

void memtable_put(struct memtable *table, struct slice key, struct slice value)
{
    const struct late late = {key.bytes, value.data ? value.bytes : TOMBSTONE};
    uint32_t bytes = (uint32_t)round_up(sizeof late + key.bytes + value.bytes, ARENA_ALIGN);
    assert(key.bytes <= UINT16_MAX && bytes <= LATE_BYTES && (value.data || value.bytes == 0));
    if (LATE_BYTES - table->late_used < bytes)
        memtable_settle(table);
    uint8_t *place = table->late + table->late_used;
    memcpy(place, &late, sizeof late);
    if (key.bytes)
        memcpy(place + sizeof late, key.data, key.bytes);
    if (value.bytes)
        memcpy(place + sizeof late + key.bytes, value.data, value.bytes);
    table->late_used += bytes;
    table->late_counted += bytes + (uint32_t)sizeof(struct memtable_row);
    table->bytes += bytes + sizeof(struct memtable_row);
    table->deletions += value.data == NULL;
}

const struct memtable_row *memtable_seek(struct memtable *table, struct slice from, bool after)
{
    memtable_settle(table);
    struct memtable_row *const *links = table->head;
    struct probe probe = {.key = from};
    head_of(from, probe.head);
    const struct memtable_row *row = NULL, *tested = NULL;
    for (int level = MEMTABLE_HEIGHT - 1; level >= 0; level--) {
        while ((row = links[level]) != NULL && row != tested) {
            prefetch(links, level);
            int order = compare(row, &probe);
            if (order > 0 || (order == 0 && !after))
                break;
            links = row->next;
        }
        tested = row;
    }
    return row;
}

const struct memtable_row *memtable_find(struct memtable *table, struct slice key)
{
    const struct memtable_row *row = memtable_seek(table, key, false);
    return row && slice_equal(memtable_key(row), key) ? row : NULL;
}
