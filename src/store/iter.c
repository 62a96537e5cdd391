/* SPDX-License-Identifier: MIT */
/* Iterator: three sorted sources (active memtable, frozen memtable, tree) merged on the fly.
 *
 * The iterator's place is a key, not a pointer: everything else is a cursor that can be found
 * again. When the store exchanges memtables or tree (store.version), all cursors are dropped and
 * found again from the key. Between calls it holds no tree version, only a pin on one leaf.
 *
 * IT1  The next key is >= place (> place if after). Keys are handed out in strictly rising order.
 * IT2  Newer sources win: active before frozen before tree. A tombstone hides the key.
 * IT3  All reading that may yield (a leaf) is done before the three heads are compared; if the
 *      version changed meanwhile, start over.
 */
#include "store/store_internal.h"

struct iter_cursor {
    struct memtable *table;
    const struct memtable_row *row;
    uint64_t count; /* rows in the table when row was found */
    bool valid;
};

struct store_iter {
    struct store *store;
    uint64_t version;
    struct iter_cursor cursors[2];
    struct cache_node *leaf;
    uint32_t index; /* in leaf */
    uint32_t leaf_key_bytes;
    bool tree_done;
    bool after; /* place has been handed out */
    uint32_t place_bytes;
    uint32_t upper_bytes;
    uint8_t place[STORE_KEY_MAX];
    uint8_t upper[NODE_KEY_MAX]; /* of leaf, exclusive; the next leaf begins there */
    uint8_t leaf_key[NODE_KEY_MAX];
    uint8_t value[DISK_TREE_NODE_BYTES / 4];
};
_Static_assert((int)STORE_KEY_MAX == (int)NODE_KEY_MAX, "keys of the tree are keys of the store");

struct store_iter *store_iter_new(struct store *store)
{
    struct store_iter *iter = mem_zalloc(sizeof *iter);
    iter->store = store;
    return iter;
}

static void forget(struct store_iter *iter)
{
    if (iter->leaf)
        cache_put(iter->store, iter->leaf);
    iter->leaf = NULL;
    iter->tree_done = false;
    iter->cursors[0].valid = false;
    iter->cursors[1].valid = false;
}

void store_iter_free(struct store_iter *iter)
{
    if (!iter)
        return;
    forget(iter);
    mem_free(iter);
}

void store_iter_seek(struct store_iter *iter, struct slice from)
{
    assert(from.bytes <= STORE_KEY_MAX);
    forget(iter);
    if (from.bytes)
        memcpy(iter->place, from.data, from.bytes);
    iter->place_bytes = from.bytes;
    iter->after = false;
}

static struct slice place_of(const struct store_iter *iter)
{
    return slice_of(iter->place, iter->place_bytes);
}

/* Have leaf and index at the tree's next key, or tree_done. */
static int tree_head(struct store_iter *iter)
{
    struct store *store = iter->store;
    bool fresh = iter->leaf == NULL;
    while (!iter->tree_done && (!iter->leaf || iter->index >= node_count(iter->leaf->bytes))) {
        uint8_t from_bytes[NODE_KEY_MAX];
        struct slice from = place_of(iter);
        if (iter->leaf) {
            cache_put(store, iter->leaf);
            iter->leaf = NULL;
            if (iter->upper_bytes == 0) {
                iter->tree_done = true;
                return 0;
            }
            memcpy(from_bytes, iter->upper, iter->upper_bytes);
            from = slice_of(from_bytes, iter->upper_bytes);
        }
        struct tree *tree = tree_hold(store);
        int result = tree_leaf(store, tree, from, &iter->leaf, iter->upper, &iter->upper_bytes);
        tree_release(store, tree);
        if (result < 0) {
            iter->leaf = NULL;
            return result;
        }
        if (!iter->leaf) {
            iter->tree_done = true;
            return 0;
        }
        bool equal;
        iter->index = node_lower_bound(iter->leaf->bytes, place_of(iter), &equal);
        if (equal && iter->after)
            iter->index++;
        fresh = true;
    }
    if (!iter->tree_done && fresh)
        iter->leaf_key_bytes = node_key(iter->leaf->bytes, iter->index, iter->leaf_key);
    return 0;
}

static const struct memtable_row *memtable_head(struct store_iter *iter, uint32_t which)
{
    struct iter_cursor *cursor = &iter->cursors[which];
    cursor->table = which == 0 ? iter->store->active : iter->store->frozen;
    if (!cursor->table)
        return NULL;
    memtable_settle(cursor->table);
    if (!cursor->valid || cursor->count != cursor->table->count) {
        cursor->row = memtable_seek(cursor->table, place_of(iter), iter->after);
        cursor->count = cursor->table->count;
        cursor->valid = true;
    }
    return cursor->row;
}

/* Copy the head that wins to place and value, and step all sources that stand on its key.
 * 1: handed out; 0: at or behind end; -EAGAIN: it was a tombstone. */
static int merge_heads(struct store_iter *iter, struct slice end, struct slice *ret_value)
{
    const struct memtable_row *rows[2] = {memtable_head(iter, 0), memtable_head(iter, 1)};
    struct slice keys[3], best = {NULL, 0};
    bool found = false;
    for (uint32_t i = 0; i < 3; i++) {
        keys[i] = slice_of(NULL, 0);
        if (i < 2 && rows[i])
            keys[i] = memtable_key(rows[i]);
        else if (i == 2 && !iter->tree_done)
            keys[i] = slice_of(iter->leaf_key, iter->leaf_key_bytes);
        else
            continue;
        if (!found || slice_compare(keys[i], best) < 0)
            best = keys[i];
        found = true;
    }
    if (!found || (end.bytes && slice_compare(best, end) >= 0))
        return 0;
    bool on[3];
    for (uint32_t i = 0; i < 3; i++)
        on[i] = keys[i].data && slice_equal(keys[i], best);
    struct slice value = {NULL, 0};
    if (on[0] || on[1]) {
        const struct memtable_row *row = on[0] ? rows[0] : rows[1];
        value = slice_of(row->value, row->value_bytes);
    } else {
        value = node_value(iter->leaf->bytes, iter->index);
    }
    if (value.bytes)
        memcpy(iter->value, value.data, value.bytes);
    memmove(iter->place, best.data, best.bytes);
    iter->place_bytes = best.bytes;
    iter->after = true;
    for (uint32_t i = 0; i < 2; i++)
        if (on[i])
            iter->cursors[i].row = memtable_next(rows[i]);
    if (on[2]) {
        iter->index++;
        if (iter->index < node_count(iter->leaf->bytes))
            iter->leaf_key_bytes = node_key(iter->leaf->bytes, iter->index, iter->leaf_key);
    }
    *ret_value = slice_of(iter->value, value.bytes);
    return value.data ? 1 : -EAGAIN;
}

int store_iter_next(struct store_iter *iter, struct slice end, struct slice *ret_key,
                    struct slice *ret_value)
{
    struct store *store = iter->store;
    for (;;) {
        if (iter->version != store->version) {
            forget(iter);
            iter->version = store->version;
        }
        int result = tree_head(iter);
        if (iter->version != store->version)
            continue;
        if (result < 0)
            return result;
        result = merge_heads(iter, end, ret_value);
        if (result == -EAGAIN)
            continue;
        if (result == 1)
            *ret_key = place_of(iter);
        return result;
    }
}
