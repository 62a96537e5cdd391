/* SPDX-License-Identifier: MIT */
/* Merge: one pass over tree and frozen memtable, left to right, that writes a new tree.
 *
 * The old tree is walked top down. A subtree in whose range nothing changed is *reused*: only its
 * pointer goes into the new parent. Everything else flows through one builder per level:
 *
 *   old leaf + changes -> builder[0] -> nodes -> pointers -> builder[1] -> nodes -> ... -> root
 *
 * TM1  Before a subtree of level L is reused, builders 0..L are flushed: keys stay in order.
 * TM2  A builder holding less than a third of a node is not flushed for a reuse: the next subtree
 *      is opened instead and flows through. So small nodes cannot pile up, and a deleted range
 *      shrinks the tree. Cost: one more node read and written per changed run and level.
 * TM3  Recursion is as deep as the tree: at most DISK_TREE_LEVEL_MAX.
 * TM4  A node that cannot be read in either copy stays in the tree, so that its range goes on
 *      saying -ERR_CORRUPT_DISK rather than "not found"; changes for it are put back into the
 *      active memtable and journaled again.
 * TM5  Nothing here is visible before publish; on error, checkpoint.c undoes the accounting.
 * TM6  Of what is written, one stage (both copies of 8 nodes) is on its way while the next one is
 *      filled; of what is read, a few leaves (read_ahead.c). More would keep the journal waiting.
 */
#include "store/store_internal.h"

#include "base/crc32c.h"
#include "base/log.h"
#include "store/read_ahead.h"
#include "store/zone.h"

enum { STAGE_NODES = 8, AHEAD_PERCENT = 12 };
#define AHEAD_PAUSE_NS (2 * NS_PER_MS)

struct merge;
struct stage_copy {
    struct disk_io io;
    struct merge *merge;
};
struct merge {
    struct store *store;
    struct tree *tree;
    const struct memtable_row *row; /* next change */
    uint64_t rows;                  /* changes before it */
    uint32_t forced;                /* next forced key */
    bool warm;                      /* the leaf being merged was in the cache */
    bool have_last;
    uint32_t last_bytes;
    uint8_t last[NODE_KEY_MAX]; /* of the leaf written last, if nothing was reused since */
    uint8_t *stage;             /* nodes that lie one after the other, not yet written */
    uint32_t staged;
    struct disk_pointer stage_at;
    uint8_t *stage_before; /* being written, or unused */
    struct stage_copy copies[2];
    uint32_t copies_left; /* on their way */
    int copies_result;
    struct waitq copied;
    struct read_ahead ahead;
    struct store_batch carried; /* TM4 */
    struct node_builder builders[DISK_TREE_LEVEL_MAX + 2];
};

/* Would node_space begin a new segment? */
static bool segment_ends(const struct store *store, uint32_t blocks)
{
    uint32_t index = store->node_segment;
    return index == SEGMENT_NONE ||
           store->segments[index].frontier + blocks > store->segment_blocks / 2;
}

int node_space(struct store *store, uint32_t bytes, struct disk_pointer *ret_pointer)
{
    uint32_t blocks = bytes / STORE_BLOCK_BYTES, half = store->segment_blocks / 2;
    assert(bytes % STORE_BLOCK_BYTES == 0 && blocks > 0 && blocks <= half);
    uint32_t index = store->node_segment;
    if (segment_ends(store, blocks)) {
        uint32_t next = segment_take(store, SEGMENT_NODE, URGENCY_NODE);
        if (next == SEGMENT_NONE)
            return -ERR_NO_SPACE;
        store->node_segment = next;
        if (index != SEGMENT_NONE) {
            store->segments[index].open = false;
            zone_seal(store, index);
            if (store->segments[index].live == 0)
                segment_free(store, index);
        }
        index = next;
    }
    struct segment *segment = &store->segments[index];
    uint64_t block = segment_block(store, index) + segment->frontier;
    *ret_pointer = (struct disk_pointer){.block = {block, block + half}, .bytes = bytes};
    segment->frontier += blocks;
    segment->live += 2 * blocks;
    store->live_nodes += 2 * blocks;
    struct node_log *log = &store->checkpoint.written;
    if (log->count == log->room) {
        log->room = MAX(2 * log->room, 256u);
        log->items = mem_realloc(log->items, log->room * sizeof *log->items);
    }
    log->items[log->count++] = (struct tree_garbage){block, blocks, 0};
    return 0;
}

/* Writers may go as far as the merge has come (space.c). */
static void progress(struct merge *merge)
{
    struct store *store = merge->store;
    struct checkpoint *checkpoint = &store->checkpoint;
    checkpoint->merged_rows = MAX(checkpoint->merged_rows, merge->rows);
    if (!waitq_empty(&store->space) && !space_memory_full(store, false))
        waitq_wake_all(&store->space);
}

/* A merge that is far ahead of the writers leaves the device to others, unless somebody waits for
 * its end. */
static void pace(const struct merge *merge)
{
    const struct store *store = merge->store;
    const struct checkpoint *checkpoint = &store->checkpoint;
    uint64_t memtable = 100 * store->active->bytes / checkpoint->memtable_bytes_max;
    uint64_t journal = 100 * store->journal.bytes_since_checkpoint / checkpoint->journal_bytes_max;
    uint64_t merged = 100 * merge->rows / (store->frozen->count + 1);
    bool wanted = store->stopping || store->fenced || !waitq_empty(&checkpoint->done) ||
                  !waitq_empty(&store->space) ||
                  store->segments_free < segment_floor(store, URGENCY_CLEANING);
    if (!wanted && merged > MAX(memtable, journal) + AHEAD_PERCENT)
        fiber_sleep(AHEAD_PAUSE_NS);
}

static void copy_done(struct disk_io *io)
{
    struct merge *merge = container_of(io, struct stage_copy, io)->merge;
    assert(merge->copies_left > 0);
    if (io->result < 0) {
        merge->copies_result = io->result;
        store_fence(merge->store, "tree node write", io->result);
    }
    merge->copies_left--;
    waitq_wake_all(&merge->copied);
}

/* Until the stage on its way is written. */
static int stage_wait(struct merge *merge)
{
    while (merge->copies_left > 0)
        (void)!waitq_wait(&merge->copied, 0);
    return merge->copies_result;
}

/* Send the stage off, when the one before has arrived. */
static int stage_write(struct merge *merge)
{
    struct store *store = merge->store;
    uint32_t bytes = merge->staged * DISK_TREE_NODE_BYTES;
    int result = stage_wait(merge);
    merge->staged = 0;
    if (bytes == 0 || result < 0)
        return result;
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct stage_copy *place = &merge->copies[copy];
        *place =
            (struct stage_copy){.io = {.op = DISK_WRITE,
                                       .stream = DISK_METADATA,
                                       .offset = merge->stage_at.block[copy] * STORE_BLOCK_BYTES,
                                       .data = merge->stage,
                                       .bytes = bytes,
                                       .done = copy_done},
                                .merge = merge};
        merge->copies_left++;
        disk_submit(store->disk, &place->io);
    }
    uint8_t *filled = merge->stage;
    merge->stage = merge->stage_before;
    merge->stage_before = filled;
    store->health.node_bytes += 2ull * bytes;
    pace(merge);
    return 0;
}

static int builder_add(struct merge *merge, uint32_t level, struct slice key, struct slice value);

/* The shortest key above the leaf before and not above first. */
static struct slice separator(const struct merge *merge, uint32_t level, struct slice first)
{
    if (level > 0 || !merge->have_last)
        return first;
    const uint8_t *a = merge->last, *b = first.data;
    uint32_t common = 0;
    while (common < merge->last_bytes && common < first.bytes && a[common] == b[common])
        common++;
    assert(common < first.bytes);
    return slice_of(first.data, common + 1);
}

static int emit(struct merge *merge, uint32_t level, bool final)
{
    struct store *store = merge->store;
    struct node_builder *builder = &merge->builders[level];
    struct disk_pointer pointer;
    uint32_t count = node_builder_cut(builder, final);
    int result = 0;
    if (segment_ends(store, NODE_BLOCKS)) /* node_space seals it: all it got must be written */
        result = stage_write(merge);
    if (result == 0)
        result = node_space(store, DISK_TREE_NODE_BYTES, &pointer);
    if (result < 0)
        return result;
    bool adjoins = merge->staged > 0 && merge->staged < STAGE_NODES &&
                   pointer.block[0] == merge->stage_at.block[0] + merge->staged * NODE_BLOCKS;
    if (merge->staged > 0 && !adjoins)
        result = stage_write(merge);
    if (result < 0)
        return result;
    if (merge->staged == 0)
        merge->stage_at = pointer;
    uint8_t *node = merge->stage + merge->staged * DISK_TREE_NODE_BYTES;
    uint8_t key[NODE_KEY_MAX];
    struct slice first = separator(merge, level, node_builder_key(builder, 0));
    memcpy(key, first.data, first.bytes);
    if (level == 0) {
        struct slice last = node_builder_key(builder, count - 1);
        memcpy(merge->last, last.data, last.bytes);
        merge->last_bytes = last.bytes;
        merge->have_last = true;
    }
    node_builder_take(builder, count, level, store->store_id, store->super.sequence, node);
    pointer.crc = crc32c(0, node, DISK_TREE_NODE_BYTES);
    merge->staged++;
    if (level > 0 || merge->warm)
        cache_insert(store, &pointer, node);
    return builder_add(merge, level + 1, slice_of(key, first.bytes),
                       slice_of(&pointer, sizeof pointer));
}

static int builder_add(struct merge *merge, uint32_t level, struct slice key, struct slice value)
{
    assert(level <= DISK_TREE_LEVEL_MAX);
    node_builder_add(&merge->builders[level], key, value);
    return node_builder_ripe(&merge->builders[level]) ? emit(merge, level, false) : 0;
}

static int flush_level(struct merge *merge, uint32_t level)
{
    int result = 0;
    while (result == 0 && merge->builders[level].count > 0)
        result = emit(merge, level, true);
    return result;
}

static bool small_rest(const struct merge *merge, uint32_t level)
{
    for (uint32_t i = 0; i <= level; i++) {
        const struct node_builder *builder = &merge->builders[i];
        if (builder->count > 0 &&
            node_builder_size(builder, builder->count) < DISK_TREE_NODE_BYTES / 3)
            return true;
    }
    return false;
}

static bool below(struct slice key, struct slice upper)
{
    return upper.bytes == 0 || slice_compare(key, upper) < 0;
}

static struct slice forced_key(const struct forced *forced, uint32_t index)
{
    return slice_of(forced->keys[index].bytes, forced->keys[index].count);
}

static bool touched(const struct merge *merge, struct slice upper)
{
    const struct forced *forced = &merge->store->checkpoint.forced;
    if (merge->row && below(memtable_key(merge->row), upper))
        return true;
    return merge->forced < forced->count && below(forced_key(forced, merge->forced), upper);
}

/* The range up to upper has been dealt with. */
static void pass_forced(struct merge *merge, struct slice upper)
{
    const struct forced *forced = &merge->store->checkpoint.forced;
    while (merge->forced < forced->count && below(forced_key(forced, merge->forced), upper))
        merge->forced++;
}

static int reuse(struct merge *merge, uint32_t level, struct slice key,
                 const struct disk_pointer *pointer)
{
    int result = 0;
    for (uint32_t i = 0; i <= level && result == 0; i++)
        result = flush_level(merge, i);
    merge->have_last = false;
    return result < 0 ? result
                      : builder_add(merge, level + 1, key, slice_of(pointer, sizeof *pointer));
}

static int add_row(struct merge *merge)
{
    const struct memtable_row *row = merge->row;
    merge->row = memtable_next(row);
    merge->rows++;
    if (!row->value)
        return 0;
    return builder_add(merge, 0, memtable_key(row), slice_of(row->value, row->value_bytes));
}

static int merge_leaf(struct merge *merge, const void *leaf, struct slice upper)
{
    uint8_t bytes[NODE_KEY_MAX];
    int result = 0;
    for (uint32_t i = 0; i < node_count(leaf) && result == 0; i++) {
        struct slice key = slice_of(bytes, node_key(leaf, i, bytes));
        int order = 1;
        while (merge->row && result == 0 &&
               (order = slice_compare(memtable_key(merge->row), key)) < 0)
            result = add_row(merge);
        if (result == 0 && merge->row && order == 0)
            result = add_row(merge);
        else if (result == 0)
            result = builder_add(merge, 0, key, node_value(leaf, i));
    }
    while (result == 0 && merge->row && below(memtable_key(merge->row), upper))
        result = add_row(merge);
    pass_forced(merge, upper);
    progress(merge);
    journal_first(merge->store);
    return result;
}

static int keep_lost(struct merge *merge, uint32_t level, struct slice key, struct slice upper,
                     const struct disk_pointer *pointer)
{
    for (; merge->row && below(memtable_key(merge->row), upper);
         merge->row = memtable_next(merge->row), merge->rows++) {
        struct slice changed = memtable_key(merge->row);
        if (merge->row->value)
            store_batch_put(&merge->carried, changed,
                            slice_of(merge->row->value, merge->row->value_bytes));
        else
            store_batch_del(&merge->carried, changed);
    }
    pass_forced(merge, upper);
    return reuse(merge, level, key, pointer);
}

/* Read leaves in advance: from child *next on of a node right above them, those with changes. */
static void look_ahead(struct merge *merge, const void *node, uint32_t *next, struct slice upper)
{
    uint8_t from[NODE_KEY_MAX], to[NODE_KEY_MAX];
    for (uint32_t count = node_count(node); *next < count; (*next)++) {
        struct slice key = slice_of(from, node_key(node, *next, from)), end = upper;
        if (*next + 1 < count)
            end = slice_of(to, node_key(node, *next + 1, to));
        const struct memtable_row *row = memtable_seek(merge->store->frozen, key, false);
        struct disk_pointer leaf;
        node_pointer(node, *next, &leaf);
        if (row && below(memtable_key(row), end) && !read_ahead_start(&merge->ahead, &leaf))
            return;
    }
}

static int visit(struct merge *merge, uint32_t level, struct slice key, struct slice upper,
                 const struct disk_pointer *pointer)
{
    struct store *store = merge->store;
    assert(level <= merge->tree->root_level);
    if (!touched(merge, upper) && !small_rest(merge, level))
        return reuse(merge, level, key, pointer);
    bool warm = !read_ahead_take(&merge->ahead, pointer) && cache_has(store, pointer);
    struct cache_node *node;
    int result = cache_get(store, pointer, level, &node);
    if (result == -ERR_CORRUPT_DISK)
        return keep_lost(merge, level, key, upper, pointer);
    if (result < 0)
        return result;
    tree_garbage_add(store, merge->tree, pointer->block[0], NODE_BLOCKS);
    if (level == 0) {
        merge->warm = warm;
        result = merge_leaf(merge, node->bytes, upper);
    }
    uint8_t from[NODE_KEY_MAX], to[NODE_KEY_MAX];
    uint32_t count = level > 0 ? node_count(node->bytes) : 0, next = 1;
    for (uint32_t i = 0; i < count && result == 0; i++) {
        struct disk_pointer child;
        next = MAX(next, i + 1);
        if (level == 1)
            look_ahead(merge, node->bytes, &next, upper);
        node_pointer(node->bytes, i, &child);
        struct slice child_key = slice_of(from, node_key(node->bytes, i, from));
        struct slice child_upper = upper;
        if (i + 1 < count)
            child_upper = slice_of(to, node_key(node->bytes, i + 1, to));
        result = visit(merge, level - 1, child_key, child_upper, &child);
    }
    cache_retire(store, node);
    return result;
}

/* Close all builders, bottom up, until one node is left. */
static int finish(struct merge *merge, struct disk_pointer *ret_root, uint32_t *ret_level)
{
    *ret_root = (struct disk_pointer){0};
    *ret_level = 0;
    for (uint32_t level = 0; level <= DISK_TREE_LEVEL_MAX; level++) {
        struct node_builder *builder = &merge->builders[level];
        bool above = false;
        for (uint32_t i = level + 1; i <= DISK_TREE_LEVEL_MAX; i++)
            above |= merge->builders[i].count > 0;
        if (builder->count == 1 && level > 0 && !above) {
            memcpy(ret_root,
                   builder->bytes + builder->entries[0].at + builder->entries[0].key_bytes,
                   sizeof *ret_root);
            *ret_level = level - 1;
            break;
        }
        int result = flush_level(merge, level);
        if (result < 0)
            return result;
    }
    return stage_write(merge);
}

/* Commit what was carried over, except where there is something newer, journaled behind P. */
static void commit_carried(struct merge *merge)
{
    struct store *store = merge->store;
    struct store_batch batch;
    store_batch_init(&batch);
    struct slice bytes = slice_of(merge->carried.bytes, merge->carried.used), key, value;
    uint32_t cursor = 0;
    while (store_batch_next(bytes, &cursor, &key, &value) > 0) {
        if (memtable_find(store->active, key))
            continue;
        if (value.data)
            store_batch_put(&batch, key, value);
        else
            store_batch_del(&batch, key);
    }
    if (batch.count > 0) {
        uint64_t lsn = store_commit(store, &batch);
        store->checkpoint.must_flush_lsn = MAX(store->checkpoint.must_flush_lsn, lsn);
    }
    store_batch_fini(&batch);
}

int tree_merge(struct store *store, struct tree *tree, struct disk_pointer *ret_root,
               uint32_t *ret_level)
{
    assert(store->frozen && tree->readers > 0);
    struct merge *merge = mem_zalloc(sizeof *merge);
    merge->store = store;
    merge->tree = tree;
    merge->row = memtable_seek(store->frozen, slice_of("", 0), false);
    merge->stage = mem_alloc_aligned(STAGE_NODES * DISK_TREE_NODE_BYTES, STORE_BLOCK_BYTES);
    merge->stage_before = mem_alloc_aligned(STAGE_NODES * DISK_TREE_NODE_BYTES, STORE_BLOCK_BYTES);
    waitq_init(&merge->copied);
    read_ahead_init(&merge->ahead, store);
    store_batch_init(&merge->carried);
    int result = 0;
    if (tree->root.block[0])
        result = visit(merge, tree->root_level, slice_of("", 0), slice_of("", 0), &tree->root);
    while (result == 0 && merge->row) /* no tree yet */
        result = add_row(merge);
    if (result == 0)
        result = finish(merge, ret_root, ret_level);
    if (result < 0)
        (void)!stage_write(merge); /* what has been handed out is written, in order: ZN4 */
    int written = stage_wait(merge);
    result = result < 0 ? result : written;
    read_ahead_fini(&merge->ahead);
    if (result == 0)
        commit_carried(merge);
    for (uint32_t i = 0; i < ARRAY_COUNT(merge->builders); i++)
        node_builder_fini(&merge->builders[i]);
    store_batch_fini(&merge->carried);
    mem_free(merge->stage);
    mem_free(merge->stage_before);
    mem_free(merge);
    return result;
}
