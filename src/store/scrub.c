/* SPDX-License-Identifier: MIT */
/* Scrub: read all that lives on the device, so that what rots is found while another copy is good.
 *
 * First the superblock and the journal, as a recovery would (scrub_recovery.c). Then the nodes of
 * the tree, both copies, against the checksum in the pointer; a bad one is written anew from the
 * good one. A branch (the nodes below one of level 1) is read at a time, by address. Then all live
 * extents by address, whole windows at a time; their checksums are the owner's, who looks at each
 * and has bad ones repaired by its group.
 *
 * SC1  A branch is read from one version of the tree, which is held as long: what is freed is not
 *      reused under the scrub. Between branches the place is a key, so no version is held for long.
 * SC2  An extent may move or die between the look at its row and the reading: the owner compares.
 * SC3  The rate counts what is read. Nobody waits for the scrub but store_close, which it lets go.
 * SC4  Every now and then the place is kept in a row, with no wait for it, so that after a restart
 *      the scrub goes on near where it was: at most a 64th of all, or 1 GiB, is read again. The end
 *      of the scrub deletes the row.
 *
 * Not read, and not in the total: data of prepared records, which are nobody's yet (a member of a
 * group applies them within moments of their commitment, or drops them); older superblocks and what
 * else is dead.
 */
#include "store/scrub.h"

#include <stdlib.h>

void scrub_pace(struct scrub *scrub, uint64_t bytes)
{
    struct store *store = scrub->store;
    store->scrubbing.done_bytes += bytes;
    if (scrub->rate == 0) {
        fiber_yield();
        return;
    }
    scrub->next_ns = MAX(scrub->next_ns, env_now_ns()) + bytes * NS_PER_S / scrub->rate;
    while (!store->stopping && env_now_ns() < scrub->next_ns)
        (void)!waitq_wait(&store->scrubbing.wake, scrub->next_ns);
}

/* ---- the place (SC4) ---- */

static uint64_t total_bytes(const struct store *store)
{
    return (store->live_data + store->live_nodes) * STORE_BLOCK_BYTES +
           store->journal.bytes_since_checkpoint + DISK_SUPER_SLOTS * DISK_SUPER_BYTES;
}

static struct slice place_key(void)
{
    static const uint8_t key[5] = {0, 0, 0, STORE_GROUP_LOCAL, SCRUB_TABLE};
    return slice_of(key, sizeof key);
}

/* The row, checked, with the key's bytes behind it in key. False: there is none. */
static bool place_get(struct store *store, struct disk_scrub_place *ret_place, uint8_t *key)
{
    uint8_t value[sizeof *ret_place + NODE_KEY_MAX];
    struct disk_scrub_place place;
    int bytes = store_get(store, place_key(), value, sizeof value);
    if (bytes < (int)sizeof place)
        return false; /* or it cannot be read: the scrub begins anew */
    memcpy(&place, value, sizeof place);
    if (place.key_bytes != (uint32_t)bytes - sizeof place ||
        place.block > segment_block(store, store->segment_count))
        return false;
    memcpy(key, value + sizeof place, place.key_bytes);
    *ret_place = place;
    return true;
}

static void place_load(struct scrub *scrub)
{
    struct disk_scrub_place place;
    if (scrub->store->options.read_only || !place_get(scrub->store, &place, scrub->upper))
        return;
    scrub->store->scrubbing.done_bytes = place.done_bytes;
    scrub->kept_bytes = place.done_bytes;
    scrub->upper_bytes = place.key_bytes;
    scrub->block = place.block;
}

static void place_keep(struct scrub *scrub)
{
    struct store *store = scrub->store;
    uint64_t done = store->scrubbing.done_bytes;
    uint64_t every = MAX(MIN(total_bytes(store) / 64, (uint64_t)GIB), (uint64_t)MIB);
    if (done < scrub->kept_bytes + every || store->options.read_only || store->fenced ||
        space_memory_full(store, false))
        return;
    uint8_t value[sizeof(struct disk_scrub_place) + NODE_KEY_MAX];
    const struct disk_scrub_place place = {
        .done_bytes = done, .block = scrub->block, .key_bytes = scrub->upper_bytes};
    memcpy(value, &place, sizeof place);
    memcpy(value + sizeof place, scrub->upper, scrub->upper_bytes);
    struct store_batch batch;
    store_batch_init(&batch);
    store_batch_put(&batch, place_key(), slice_of(value, sizeof place + scrub->upper_bytes));
    (void)store_commit(store, &batch);
    store_batch_fini(&batch);
    scrub->kept_bytes = done;
}

static void place_drop(struct scrub *scrub)
{
    struct store_batch batch;
    if (scrub->kept_bytes == 0)
        return;
    store_batch_init(&batch);
    store_batch_del(&batch, place_key());
    (void)store_commit(scrub->store, &batch);
    store_batch_fini(&batch);
}

bool store_scrub_interrupted(struct store *store)
{
    struct disk_scrub_place place;
    uint8_t key[NODE_KEY_MAX];
    return place_get(store, &place, key);
}

/* ---- tree ---- */

static void scrub_copies(struct scrub *scrub, const struct disk_pointer *pointer, uint8_t *bytes)
{
    (void)!copies_verify(scrub->store, pointer, bytes); /* counted and logged there */
    scrub_pace(scrub, 2ull * pointer->bytes);
}

static int by_block(const void *a, const void *b)
{
    const struct disk_pointer *left = a, *right = b;
    return left->block[0] < right->block[0] ? -1 : left->block[0] > right->block[0];
}

static void scrub_children(struct scrub *scrub, struct cache_node *node)
{
    uint32_t count = node_count(node->bytes);
    struct disk_pointer *children = mem_alloc(count * sizeof *children);
    for (uint32_t i = 0; i < count; i++)
        node_pointer(node->bytes, i, &children[i]);
    cache_put(scrub->store, node);
    qsort(children, count, sizeof *children, by_block);
    for (uint32_t i = 0; i < count && !scrub->store->stopping; i++)
        if (children[i].bytes == DISK_TREE_NODE_BYTES)
            scrub_copies(scrub, &children[i], scrub->node);
    mem_free(children);
}

/* The nodes that lead to from, and all leaves beside the one that covers it. Sets upper. */
static void scrub_branch(struct scrub *scrub, const struct tree *tree, struct slice from)
{
    struct store *store = scrub->store;
    struct disk_pointer pointer = tree->root;
    uint8_t upper[NODE_KEY_MAX];
    uint32_t upper_bytes = 0;
    for (uint32_t level = tree->root_level;; level--) {
        struct cache_node *node;
        scrub_copies(scrub, &pointer, scrub->node);
        if (level == 0 || cache_get(store, &pointer, level, &node) < 0)
            break; /* lost: what is below cannot be found */
        uint32_t index = node_child(node->bytes, from);
        if (level == 1) {
            scrub_children(scrub, node);
            break;
        }
        if (index + 1 < node_count(node->bytes))
            upper_bytes = node_key(node->bytes, index + 1, upper);
        node_pointer(node->bytes, index, &pointer);
        cache_put(store, node);
    }
    memcpy(scrub->upper, upper, upper_bytes); /* from may lie in scrub->upper */
    scrub->upper_bytes = upper_bytes;
}

static void scrub_table(struct scrub *scrub)
{
    struct disk_pointer table = scrub->store->super.segments;
    if (table.block[0] == 0)
        return;
    uint8_t *bytes = mem_alloc_aligned(table.bytes, STORE_BLOCK_BYTES);
    scrub_copies(scrub, &table, bytes);
    mem_free(bytes);
}

static void scrub_tree(struct scrub *scrub)
{
    struct store *store = scrub->store;
    bool first = true;
    do {
        struct tree *tree = tree_hold(store);
        if (first)
            scrub_table(scrub); /* it goes with the tree that it came with */
        first = false;
        scrub->upper_bytes = tree->root.block[0] ? scrub->upper_bytes : 0;
        if (tree->root.block[0])
            scrub_branch(scrub, tree, slice_of(scrub->upper, scrub->upper_bytes));
        tree_release(store, tree);
        if (scrub->upper_bytes > 0)
            place_keep(scrub);
    } while (scrub->upper_bytes > 0 && !store->stopping && !store->fenced);
}

/* ---- data ---- */

/* What cannot be read is handed over as zeroes: its checksum will not match. */
static void read_window(struct scrub *scrub)
{
    struct extent_window *window = &scrub->window;
    struct store *store = scrub->store;
    const struct store_extent all = {window->block, window->blocks, 0};
    if (store_extent_read(store, all, 0, all.blocks, scrub->buf->data) == 0)
        return;
    for (uint32_t i = 0; i < window->count; i++) {
        struct store_extent extent = window->items[i].extent;
        uint8_t *data = scrub->buf->data + (extent.block - window->block) * STORE_BLOCK_BYTES;
        if (store_extent_read(store, extent, 0, extent.blocks, data) < 0)
            memset(data, 0, (size_t)extent.blocks * STORE_BLOCK_BYTES);
    }
}

static int scrub_data(struct scrub *scrub)
{
    struct store *store = scrub->store;
    struct extent_window *window = &scrub->window;
    struct extent_walk walk;
    int result;
    extent_walk_init(&walk, store, scrub->block, segment_block(store, store->segment_count));
    while ((result = extent_walk_next(&walk, window)) > 0 && !store->stopping) {
        uint64_t live = 0;
        read_window(scrub);
        for (uint32_t i = 0; i < window->count && result >= 0 && !store->stopping; i++) {
            struct store_extent extent = window->items[i].extent;
            live += extent.blocks;
            result =
                scrub->fn(scrub->context, extent_owner(window, i), extent,
                          scrub->buf->data + (extent.block - window->block) * STORE_BLOCK_BYTES);
        }
        scrub_pace(scrub, live * STORE_BLOCK_BYTES);
        if (result < 0 || store->stopping)
            break;
        scrub->block = window->block + window->blocks;
        place_keep(scrub);
    }
    extent_walk_fini(&walk);
    return MIN(result, 0);
}

int store_scrub(struct store *store, uint64_t rate_bytes_per_s, store_scrub_fn fn, void *context)
{
    if (store->scrubbing.running)
        return -ERR_BUSY;
    struct scrub *scrub = mem_zalloc(sizeof *scrub);
    scrub->store = store;
    scrub->rate = rate_bytes_per_s;
    scrub->fn = fn;
    scrub->context = context;
    scrub->node = mem_alloc_aligned(DISK_TREE_NODE_BYTES, STORE_BLOCK_BYTES);
    scrub->buf = buf_new(EXTENT_WINDOW_BLOCKS * STORE_BLOCK_BYTES);
    store->scrubbing.running = true;
    store->scrubbing.done_bytes = 0;
    place_load(scrub);
    scrub_recovery(scrub);
    if (scrub->block == 0)
        scrub_tree(scrub);
    int result = store->stopping || store->fenced ? 0 : scrub_data(scrub);
    if (result == 0 && !store->stopping && !store->fenced)
        place_drop(scrub);
    buf_put(scrub->buf);
    mem_free(scrub->node);
    mem_free(scrub);
    store->scrubbing.running = false;
    waitq_wake_all(&store->stopped);
    return result;
}

void store_scrub_progress(const struct store *store, uint64_t *ret_done, uint64_t *ret_total)
{
    *ret_done = store->scrubbing.running ? store->scrubbing.done_bytes : 0;
    *ret_total = store->scrubbing.running ? total_bytes(store) : 0;
    *ret_done = MIN(*ret_done, *ret_total);
}
