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
 * line that it has to load anyway and looks at the key itself only when they are equal. M4  bytes
 * counts all that the arena has handed out, so replacing a value by a larger one counts again: the
 * table's budget bounds real memory, not live data.
 */
#include "store/memtable.h"

#include "base/hash.h"
#include "base/mem.h"

enum { CHUNK_BYTES = 256 << 10, ARENA_ALIGN = 8 };

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

void memtable_put(struct memtable *table, struct slice key, struct slice value)
{
    assert(key.bytes <= UINT16_MAX);
    struct memtable_row **path[MEMTABLE_HEIGHT];
    struct probe probe = {.key = key};
    head_of(key, probe.head);
    table->deletions += value.data == NULL;
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

const struct memtable_row *memtable_seek(const struct memtable *table, struct slice from,
                                         bool after)
{
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

const struct memtable_row *memtable_find(const struct memtable *table, struct slice key)
{
    const struct memtable_row *row = memtable_seek(table, key, false);
    return row && slice_equal(memtable_key(row), key) ? row : NULL;
}
