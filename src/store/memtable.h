/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_MEMTABLE_H
#define CFS_STORE_MEMTABLE_H

/* Sorted table of recent changes in memory: a skip list in an arena. Rows are never removed, so a
 * row pointer stays valid (and its successor reachable) as long as the table lives. A delete is a
 * row with a tombstone. Nothing here yields. */

#include "base/bytes.h"

enum { MEMTABLE_HEIGHT = 12 };

struct memtable_row {
    uint8_t *value; /* in the arena; NULL: tombstone */
    uint32_t value_bytes;
    uint32_t value_room; /* so that an update of no greater size needs no new place */
    uint16_t key_bytes;
    uint16_t height;
    uint32_t zero;
    uint64_t head[2]; /* the key's first 16 bytes as numbers: most comparisons end here */
    struct memtable_row *next[]; /* height of them, then the key */
};

struct memtable_chunk {
    struct memtable_chunk *older;
    uint32_t used;
    uint32_t room;
    uint8_t bytes[];
};

/* Chunks that no table uses: the next one takes them, so that changes need no malloc. At most as
 * much as the tables had at once. */
struct memtable_pool {
    struct memtable_chunk *spare;
    uint64_t bytes;
};
void memtable_pool_fini(struct memtable_pool *pool);

struct memtable {
    struct memtable_pool *pool;
    struct memtable_row *head[MEMTABLE_HEIGHT];
    struct memtable_chunk *chunk;
    uint64_t bytes; /* what the budget counts: arena in use, and what is in late will take */
    uint64_t count; /* rows; grows with each new key, so it also tells whether rows were added */
    uint64_t deletions; /* tombstones put, ever */
    uint64_t random;    /* for heights */
    uint8_t *late;      /* what was put and is not sorted in yet (M5) */
    uint32_t late_used;
    uint32_t late_counted; /* of bytes */
};

/* Zeroed pool; it must outlive the table. */
struct memtable *memtable_new(struct memtable_pool *pool);
void memtable_free(struct memtable *table); /* NULL is fine */
/* value.data NULL: a tombstone. Key and value are copied. Costs little: see memtable_settle. */
void memtable_put(struct memtable *table, struct slice key, struct slice value);
/* Sort in what has been put. Who looks at the table does it first: memtable_find and memtable_seek
 * by themselves, those who read bytes, count or a row's successor by this call. Best called before
 * that, while the device is at work. */
void memtable_settle(struct memtable *table);
/* The row of key, or NULL. */
const struct memtable_row *memtable_find(struct memtable *table, struct slice key);
/* First row with key >= from (or > from, if after). NULL: none. */
const struct memtable_row *memtable_seek(struct memtable *table, struct slice from, bool after);

static inline struct slice memtable_key(const struct memtable_row *row)
{
    return slice_of((const uint8_t *)row + sizeof *row + row->height * sizeof(void *),
                    row->key_bytes);
}
static inline const struct memtable_row *memtable_next(const struct memtable_row *row)
{
    return row->next[0];
}

#endif
