/* SPDX-License-Identifier: MIT */
/* The store: one log-structured table, with data extents, on one device.
 *
 * Problem: keep an ordered table larger than memory and the data it refers to, so that a change is
 * one sequential write, a crash at any moment loses only a suffix of what was not flushed, reads
 * never wait for writers, and the space of what was deleted comes back for ever.
 *
 *        commit / apply                 get / iterate
 *             |                               |
 *   journal <-+-> memtable: active, frozen ---+--- tree (immutable nodes, cached)
 *             |              | checkpoint             ^
 *             |              +------- merge ----------+
 *   extents: open data segments <- writes, cleaner
 *
 * One reactor owns it. The modules: segment (space), journal + scan + recover, memtable, node +
 * tree + tree_merge + cache, iter, extent, prepared, batch, checkpoint, cleaner, superblock, check.
 *
 *  I1  State = newest superblock's tree + all journal records behind its LSN. Nothing else.
 *  I2  Everything written goes to space that state does not refer to (segment.c, S1-S3).
 *  I3  A change is visible in memory before it is written, and may be lost until durable; changes
 *      are lost only as a suffix of LSNs.
 *  I4  A device error on write or flush makes the store read-only (fenced): what the device kept
 *      is unknown, so nothing may be acknowledged any more.
 *
 * Limits: one device of at least 8 segments; keys and values as in store.h; a journal record
 * (batch or log record) of at most half a segment or 1 MiB.
 */
#include "store/store_internal.h"

#include "base/log.h"

void store_fence(struct store *store, const char *what, int error)
{
    if (!store->fenced)
        log_error("store-fenced", "what=%s error=%s", what, error_name(error));
    store->fenced = true;
    store->health.fenced = true;
    waitq_wake_all(&store->space);
    waitq_wake_all(&store->checkpoint.done);
    waitq_wake_all(&store->checkpoint.wake);
    journal_kick(store); /* tells the waiters */
}

/* ---- open and close ---- */

static struct store *store_new(struct disk *disk, const struct store_options *options,
                               const struct disk_superblock *super)
{
    struct store *store = mem_zalloc(sizeof *store);
    store->disk = disk;
    store->options = *options;
    if (store->options.flush_interval_ns == 0)
        store->options.flush_interval_ns = 100 * NS_PER_MS;
    store->super = *super;
    store->store_id = super->store_id;
    store->identity = (struct store_identity){
        .cluster = super->cluster, .store = super->store, .node = super->node};
    waitq_init(&store->space);
    waitq_init(&store->stopped);
    waitq_init(&store->cleaner.wake);
    waitq_init(&store->scrubbing.wake);
    list_init(&store->trees);
    store->active = memtable_new(&store->memtable_pool);
    segment_init(store, super->segment_count, super->segment_blocks);
    cache_init(store, options->memory_bytes / 2);
    checkpoint_init(store);
    store->checkpoint.rows = mem_zalloc(super->segment_count * sizeof *store->checkpoint.rows);
    journal_init(store);
    extents_init(store);
    struct tree *tree = tree_new(&super->root, super->root_level);
    list_push_back(&store->trees, &tree->link);
    return store;
}

static void store_free(struct store *store)
{
    journal_fini(store);
    extents_fini(store);
    cache_fini(store);
    struct list *link;
    while ((link = list_pop_front(&store->trees)) != NULL) {
        struct tree *tree = list_entry(link, struct tree, link);
        assert(tree->readers == 0);
        mem_free(tree->garbage);
        mem_free(tree);
    }
    memtable_free(store->active);
    memtable_free(store->frozen);
    memtable_pool_fini(&store->memtable_pool);
    mem_free(store->checkpoint.rows);
    mem_free(store->checkpoint.written.items);
    mem_free(store->checkpoint.forced.keys);
    mem_free(store->segments);
    mem_free(store->dying);
    mem_free(store);
}

static void start_fibers(struct store *store)
{
    store->fibers = 2;
    fiber_spawn("store-checkpoint", checkpoint_fiber, store);
    fiber_spawn("store-cleaner", cleaner_fiber, store);
}

static void stop_fibers(struct store *store)
{
    store->stopping = true;
    waitq_wake_all(&store->checkpoint.wake);
    waitq_wake_all(&store->cleaner.wake);
    waitq_wake_all(&store->space);
    waitq_wake_all(&store->scrubbing.wake);
    while (store->fibers > 0 || store->scrubbing.running)
        (void)!waitq_wait(&store->stopped, 0);
    /* Let what is in flight come back, and the turn hook run. */
    timer_cancel(&store->journal.lazy_timer);
    timer_cancel(&store->journal.flush_timer);
    while (store->journal.writing || store->journal.flushing || store->seals > 0 ||
           !list_empty(&store->extents.writes) || !list_empty(&store->journal.hook.link)) {
        extents_push(store);
        fiber_sleep(50 * NS_PER_US);
        timer_cancel(&store->journal.lazy_timer);
        timer_cancel(&store->journal.flush_timer);
    }
}

/* R4: an entry behind all that was recovered, durable. */
static int first_entry(struct store *store)
{
    const struct disk_record record = {.type = DISK_RECORD_NOOP};
    uint64_t lsn = journal_append(store, &record, slice_of(NULL, 0), NULL, 0);
    return store_wait_durable(store, lsn);
}

int store_open(struct disk *disk, const struct store_options *options, struct store **ret_store)
{
    struct disk_superblock super;
    assert(options->memory_bytes >= 16 * MIB && options->log_ops);
    assert(options->read_only || !disk_info(disk)->read_only);
    int result = superblock_read(disk, &super);
    if (result < 0)
        return result;
    struct store *store = store_new(disk, options, &super);
    *ret_store = store;
    result = recover(store);
    if (result < 0) {
        log_error("store-open-failed", "error=%s", error_name(result));
        *ret_store = NULL;
        store_free(store);
        return result;
    }
    if (options->read_only)
        return 0;
    start_fibers(store);
    if (store->recover_checkpoint) {
        /* R5. The segment this entry goes to is not in any chain until then. */
        result = checkpoint_now(store);
    }
    if (result == 0)
        result = first_entry(store);
    if (result < 0) {
        stop_fibers(store);
        *ret_store = NULL;
        store_free(store);
        return result;
    }
    if (store->active->bytes > store->checkpoint.memtable_bytes_max)
        checkpoint_kick(store);
    return 0;
}

const struct store_identity *store_identity(const struct store *store)
{
    return &store->identity;
}

int store_close(struct store *store)
{
    int result = store->options.read_only ? 0 : checkpoint_now(store);
    if (result == -ERR_NO_SPACE) /* the journal has everything */
        result = store_wait_durable(store, store->journal.next_lsn - 1);
    stop_fibers(store);
    store_free(store);
    return result;
}

/* ---- changes ---- */

/* What the record must say of an extent: its checksum, if it is one just written. */
static struct disk_record_extent record_extent(struct store *store, struct store_extent extent,
                                               const struct prepared *older, uint64_t *data_seq)
{
    struct disk_record_extent out = {.block = extent.block, .blocks = (uint16_t)extent.blocks};
    const struct extent_fresh *fresh = fresh_find(store, extent);
    if (fresh) {
        out.blocks = (uint16_t)fresh->blocks;
        out.crc = fresh->crc;
        out.flags = DISK_EXTENT_CRC;
        *data_seq = MAX(*data_seq, fresh->data_seq);
        return out;
    }
    *data_seq = store->extents.next_seq - 1; /* it may still be on its way: wait for all */
    for (uint32_t i = 0; older && i < older->extent_count; i++)
        if (older->extents[i].block == extent.block)
            return older->extents[i];
    return out;
}

uint64_t store_commit(struct store *store, const struct store_batch *batch)
{
    struct disk_record_extent few[16], *extents = few;
    struct slice bytes = slice_of(batch->bytes, batch->used);
    struct change change;
    if (store->recovering) {
        assert(store->options.read_only);
        int applied = batch_apply(store, bytes, store->journal.next_lsn - 1);
        assert(applied == 0);
        return store->journal.next_lsn - 1;
    }
    uint32_t cursor = 0, count = 0;
    uint64_t data_seq = 0;
    if (batch->count > ARRAY_COUNT(few))
        extents = mem_alloc(batch->count * sizeof *extents);
    while (batch_next(bytes, &cursor, &change) > 0)
        if (change.op == DISK_CHANGE_EXTENT_ADD && fresh_find(store, change.extent))
            extents[count++] = record_extent(store, change.extent, NULL, &data_seq);
    assert(count <= UINT16_MAX);
    const struct disk_record record = {
        .type = DISK_RECORD_BATCH, .extent_count = (uint16_t)count, .payload_bytes = bytes.bytes};
    uint64_t lsn = journal_append(store, &record, bytes, extents, data_seq);
    int result = batch_apply(store, bytes, lsn);
    assert(result == 0);
    if (extents != few)
        mem_free(extents);
    if (store->active->bytes > store->checkpoint.memtable_bytes_max)
        checkpoint_kick(store);
    return lsn;
}

uint64_t store_log_append(struct store *store, const struct store_log_record *record)
{
    uint32_t count = record->extent_count;
    struct disk_record_extent few[16], *extents = few;
    assert(record->group != STORE_GROUP_LOCAL && record->seq > 0 && count <= UINT16_MAX);
    if (count > ARRAY_COUNT(few))
        extents = mem_alloc(count * sizeof *extents);
    const struct prepared *older = prepared_find(store, record->group, record->seq);
    uint64_t data_seq = 0;
    for (uint32_t i = 0; i < count; i++)
        extents[i] = record_extent(store, record->extents[i], older, &data_seq);
    const struct disk_record head = {.type = DISK_RECORD_LOG,
                                     .extent_count = (uint16_t)count,
                                     .payload_bytes = record->payload.bytes,
                                     .group = record->group,
                                     .epoch = record->epoch,
                                     .seq = record->seq};
    uint64_t lsn = journal_append(store, &head, record->payload, extents, data_seq);
    prepared_add(store, record->group, record->seq, extents, count, lsn);
    for (uint32_t i = 0; i < count; i++) {
        struct extent_fresh *fresh = fresh_find(store, record->extents[i]);
        if (fresh)
            fresh_drop(store, fresh);
    }
    if (extents != few)
        mem_free(extents);
    return lsn;
}

uint64_t store_log_truncate(struct store *store, uint32_t group, uint64_t seq)
{
    const struct disk_record record = {.type = DISK_RECORD_TRUNCATE, .group = group, .seq = seq};
    uint64_t lsn = journal_append(store, &record, slice_of(NULL, 0), NULL, 0);
    prepared_truncate(store, group, seq, lsn);
    return lsn;
}

uint64_t store_apply(struct store *store, uint32_t group, uint64_t seq,
                     const struct store_batch *batch)
{
    uint64_t lsn;
    if (store->recovering) {
        lsn = store->journal.next_lsn - 1;
    } else {
        const struct disk_record record = {.type = DISK_RECORD_APPLY, .group = group, .seq = seq};
        lsn = journal_append(store, &record, slice_of(NULL, 0), NULL, 0);
    }
    int result = batch_apply(store, slice_of(batch->bytes, batch->used), lsn);
    assert(result == 0);
    prepared_drop(store, group, seq, lsn);
    if (!store->recovering && store->active->bytes > store->checkpoint.memtable_bytes_max)
        checkpoint_kick(store);
    return lsn;
}

void store_health(const struct store *store, struct store_health *ret_health)
{
    *ret_health = store->health;
    ret_health->memory_bytes = store->cache.count * DISK_TREE_NODE_BYTES + store->active->bytes +
                               (store->frozen ? store->frozen->bytes : 0) +
                               store->memtable_pool.bytes + store->extents.in_flight +
                               store->journal.pending_bytes;
}
