/* SPDX-License-Identifier: MIT */
/* Scrub: read all that lives on the device, so that what rots is found while another copy is good.
 *
 *   tree nodes   both copies against the checksum in the pointer; a bad one is written anew from
 * the good one. A branch (the nodes below one of level 1) at a time, by address. data         all
 * live extents by address, whole windows at a time; their checksums are the owner's, who looks at
 * each and has bad ones repaired by its group.
 *
 * SC1  A branch is read from one version of the tree, which is held as long: what is freed is not
 *      reused under the scrub. Between branches the place is a key, so no version is held for long.
 * SC2  An extent may move or die between the look at its row and the reading: the owner compares.
 * SC3  The rate counts what is read. Nobody waits for the scrub but store_close, which it lets go.
 *
 * Not read: the journal (replaced within minutes, and checked when it is replayed), superblocks
 * (eight slots, the newest two written anew by each checkpoint), and what is dead.
 */
#include "store/extent_walk.h"
#include "store/store_internal.h"

#include <stdlib.h>

struct scrub {
    struct store *store;
    uint64_t rate;    /* bytes per second; 0: no limit */
    uint64_t next_ns; /* not to read on before */
    store_scrub_fn fn;
    void *context;
    uint8_t *node;
    struct buf *buf;
    struct extent_window window;
    uint32_t upper_bytes; /* of upper: where the next branch begins; 0: there is none */
    uint8_t upper[NODE_KEY_MAX];
};

/* Account for bytes read, and wait as long as they may take. */
static void pace(struct scrub *scrub, uint64_t bytes)
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

/* ---- tree ---- */

static void scrub_copies(struct scrub *scrub, const struct disk_pointer *pointer, uint8_t *bytes)
{
    (void)!copies_verify(scrub->store, pointer, bytes); /* counted and logged there */
    pace(scrub, 2ull * pointer->bytes);
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
    extent_walk_init(&walk, store, 0, segment_block(store, store->segment_count));
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
        pace(scrub, live * STORE_BLOCK_BYTES);
        if (result < 0)
            break;
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
    scrub_tree(scrub);
    int result = scrub_data(scrub);
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
    *ret_total =
        store->scrubbing.running ? (store->live_data + store->live_nodes) * STORE_BLOCK_BYTES : 0;
    *ret_done = MIN(*ret_done, *ret_total);
}
