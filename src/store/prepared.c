/* SPDX-License-Identifier: MIT */
/* Prepared log records: which extents must stay although no row refers to them yet.
 *
 * From store_log_append (or its replay) to apply, truncation or replacement, a record's blocks are
 * *pinned* in their segments. Only records with extents are kept here.
 *
 * P1  pinned of a segment = blocks of all extents of all records here that lie in it.
 */
#include "store/store_internal.h"

#include "base/hash.h"

static uint64_t hash_of(uint32_t group, uint64_t seq)
{
    return hash_u64(seq ^ (uint64_t)group << 40);
}

struct prepared *prepared_find(struct store *store, uint32_t group, uint64_t seq)
{
    struct htable *table = &store->journal.prepared;
    for (struct htable_node *link = htable_first(table, hash_of(group, seq)); link;
         link = htable_next(link)) {
        struct prepared *prepared = container_of(link, struct prepared, hash);
        if (prepared->group == group && prepared->seq == seq)
            return prepared;
    }
    return NULL;
}

enum { EXTENT_ROOM = 16 }; /* 4 MiB, a whole object: nearly every record */

static struct prepared *prepared_take(struct store *store, uint32_t count)
{
    struct prepared *prepared = store->journal.prepared_spare;
    uint32_t room = MAX(count, (uint32_t)EXTENT_ROOM);
    if (count <= EXTENT_ROOM && prepared)
        store->journal.prepared_spare = prepared->spare_next;
    else
        prepared = mem_alloc(sizeof *prepared + room * sizeof prepared->extents[0]);
    *prepared = (struct prepared){.extent_count = count, .extent_room = room};
    return prepared;
}

static void prepared_give(struct store *store, struct prepared *prepared)
{
    if (prepared->extent_room > EXTENT_ROOM) {
        mem_free(prepared);
        return;
    }
    prepared->spare_next = store->journal.prepared_spare;
    store->journal.prepared_spare = prepared;
}

static void pin(struct store *store, struct prepared *prepared)
{
    for (uint32_t i = 0; i < prepared->extent_count; i++) {
        struct disk_record_extent *extent = &prepared->extents[i];
        uint32_t index = segment_of(store, extent->block);
        if (segment_was_data(store, index))
            extent->blocks = 0;
        if (store->recovering && store->segments[index].state == SEGMENT_FREE)
            segment_claim(store, index, SEGMENT_DATA);
        store->segments[index].pinned += extent->blocks;
    }
}

static void unpin(struct store *store, struct prepared *prepared, uint64_t lsn)
{
    for (uint32_t i = 0; i < prepared->extent_count; i++) {
        const struct disk_record_extent *extent = &prepared->extents[i];
        uint32_t index = segment_of(store, extent->block);
        struct segment *segment = &store->segments[index];
        assert(segment->pinned >= extent->blocks);
        segment->pinned -= extent->blocks;
        segment->dead_lsn = MAX(segment->dead_lsn, lsn);
        segment_consider(store, index);
    }
    prepared_give(store, prepared);
}

void prepared_add(struct store *store, uint32_t group, uint64_t seq,
                  const struct disk_record_extent *extents, uint32_t count, uint64_t lsn)
{
    struct prepared *old = prepared_find(store, group, seq);
    if (old)
        htable_remove(&store->journal.prepared, &old->hash);
    if (count > 0) {
        struct prepared *prepared = prepared_take(store, count);
        prepared->group = group;
        prepared->seq = seq;
        memcpy(prepared->extents, extents, count * sizeof *extents);
        pin(store, prepared);
        htable_insert(&store->journal.prepared, &prepared->hash, hash_of(group, seq));
    }
    if (old)
        unpin(store, old, lsn); /* after pinning the same extents anew */
}

void prepared_drop(struct store *store, uint32_t group, uint64_t seq, uint64_t lsn)
{
    struct prepared *prepared = prepared_find(store, group, seq);
    if (prepared) {
        htable_remove(&store->journal.prepared, &prepared->hash);
        unpin(store, prepared, lsn);
    }
}

void prepared_truncate(struct store *store, uint32_t group, uint64_t seq, uint64_t lsn)
{
    struct htable *table = &store->journal.prepared;
    struct htable_node *link = htable_walk(table, NULL);
    while (link) {
        struct htable_node *next = htable_walk(table, link);
        struct prepared *prepared = container_of(link, struct prepared, hash);
        if (prepared->group == group && prepared->seq > seq) {
            htable_remove(table, link);
            unpin(store, prepared, lsn);
        }
        link = next;
    }
}

void prepared_fini(struct store *store)
{
    struct htable *table = &store->journal.prepared;
    struct htable_node *link = htable_walk(table, NULL);
    while (link) {
        struct htable_node *next = htable_walk(table, link);
        htable_remove(table, link);
        mem_free(container_of(link, struct prepared, hash));
        link = next;
    }
    while (store->journal.prepared_spare) {
        struct prepared *prepared = store->journal.prepared_spare;
        store->journal.prepared_spare = prepared->spare_next;
        mem_free(prepared);
    }
    htable_fini(table);
}
