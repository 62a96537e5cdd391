/* SPDX-License-Identifier: MIT */
/* The tree: lookup in an immutable copy-on-write B+tree, and the life of its versions.
 *
 *   store.trees:  oldest ... newest     each {root, readers, garbage}
 *
 * A checkpoint makes a new version that shares most nodes with the one before. Readers hold the
 * version they started with for the length of one call, never longer.
 *
 * T1  A version's nodes stay on the device while it, or any older one, has readers.
 * T2  garbage of a version = nodes its successor does not use; let go only after the successor's
 *     superblock is durable (it is pushed to store.trees only then).
 * T3  A lookup touches root_level + 1 nodes, each checked by the CRC in the pointer to it.
 */
#include "store/store_internal.h"

struct tree *tree_new(const struct disk_pointer *root, uint32_t root_level)
{
    struct tree *tree = mem_zalloc(sizeof *tree);
    list_init(&tree->link);
    tree->root = *root;
    tree->root_level = root_level;
    return tree;
}

struct tree *tree_hold(struct store *store)
{
    struct tree *tree = store_tree(store);
    tree->readers++;
    return tree;
}

void tree_release(struct store *store, struct tree *tree)
{
    assert(tree->readers > 0);
    tree->readers--;
    if (tree->readers == 0 && store->trees.next != store->trees.prev)
        tree_collect(store);
}

void tree_garbage_add(struct store *store, struct tree *tree, uint64_t block, uint32_t blocks)
{
    store->segments[segment_of(store, block)].garbage += 2 * blocks;
    if (tree->garbage_count == tree->garbage_room) {
        tree->garbage_room = MAX(2 * tree->garbage_room, 256u);
        tree->garbage = mem_realloc(tree->garbage, tree->garbage_room * sizeof *tree->garbage);
    }
    tree->garbage[tree->garbage_count++] = (struct tree_garbage){block, blocks, 0};
}

void tree_collect(struct store *store)
{
    while (store->trees.next != store->trees.prev) {
        struct tree *oldest = list_first(&store->trees, struct tree, link);
        if (oldest->readers > 0)
            return;
        for (uint32_t i = 0; i < oldest->garbage_count; i++) {
            uint32_t index = segment_of(store, oldest->garbage[i].block);
            struct segment *segment = &store->segments[index];
            uint32_t blocks = 2 * oldest->garbage[i].blocks;
            assert(segment->live >= blocks && segment->garbage >= blocks);
            segment->live -= blocks;
            segment->garbage -= blocks;
            store->live_nodes -= blocks;
            if (segment->live == 0 && !segment->open)
                segment_free(store, index);
        }
        list_remove(&oldest->link);
        mem_free(oldest->garbage);
        mem_free(oldest);
    }
}

int tree_leaf(struct store *store, const struct tree *tree, struct slice key,
              struct cache_node **ret_leaf, uint8_t *upper, uint32_t *ret_upper_bytes)
{
    assert(tree->readers > 0);
    if (ret_upper_bytes)
        *ret_upper_bytes = 0;
    *ret_leaf = NULL;
    if (tree->root.block[0] == 0)
        return 0;
    struct disk_pointer pointer = tree->root;
    for (uint32_t level = tree->root_level;; level--) {
        struct cache_node *node;
        int result = cache_get(store, &pointer, level, &node);
        if (result < 0)
            return result;
        if (level == 0) {
            *ret_leaf = node;
            return 0;
        }
        uint32_t index = node_child(node->bytes, key);
        if (ret_upper_bytes && index + 1 < node_count(node->bytes))
            *ret_upper_bytes = node_key(node->bytes, index + 1, upper);
        node_pointer(node->bytes, index, &pointer);
        cache_put(store, node);
    }
}

int tree_contains(struct store *store, const struct tree *tree, struct slice key, uint32_t level,
                  uint64_t block)
{
    if (tree->root.block[0] == 0 || level > tree->root_level)
        return 0;
    struct disk_pointer pointer = tree->root;
    for (uint32_t at = tree->root_level; at > level; at--) {
        struct cache_node *node;
        int result = cache_get(store, &pointer, at, &node);
        if (result < 0)
            return result;
        node_pointer(node->bytes, node_child(node->bytes, key), &pointer);
        cache_put(store, node);
    }
    return pointer.block[0] == block;
}

/* Row in a memtable: its length, -ENOENT (tombstone), -ERANGE; 1 row was found. */
static bool memtable_get(struct memtable *table, struct slice key, void *value, uint32_t capacity,
                         int *ret_result)
{
    const struct memtable_row *row = table ? memtable_find(table, key) : NULL;
    if (!row)
        return false;
    if (!row->value) {
        *ret_result = -ENOENT;
    } else if (row->value_bytes > capacity) {
        *ret_result = -ERANGE;
    } else {
        if (row->value_bytes)
            memcpy(value, row->value, row->value_bytes);
        *ret_result = (int)row->value_bytes;
    }
    return true;
}

static int leaf_get(const void *leaf, struct slice key, void *value, uint32_t capacity)
{
    bool equal;
    uint32_t index = node_lower_bound(leaf, key, &equal);
    if (!equal)
        return -ENOENT;
    struct slice found = node_value(leaf, index);
    if (found.bytes > capacity)
        return -ERANGE;
    if (found.bytes)
        memcpy(value, found.data, found.bytes);
    return (int)found.bytes;
}

int store_get(struct store *store, struct slice key, void *value, uint32_t capacity)
{
    assert(key.bytes <= STORE_KEY_MAX);
    int result;
    if (memtable_get(store->active, key, value, capacity, &result) ||
        memtable_get(store->frozen, key, value, capacity, &result))
        return result;
    struct tree *tree = tree_hold(store);
    struct cache_node *leaf;
    result = tree_leaf(store, tree, key, &leaf, NULL, NULL);
    if (result == 0 && !leaf)
        result = -ENOENT;
    if (result == 0) {
        result = leaf_get(leaf->bytes, key, value, capacity);
        cache_put(store, leaf);
    }
    tree_release(store, tree);
    return result;
}
