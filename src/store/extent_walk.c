/* SPDX-License-Identifier: MIT */
#include "store/extent_walk.h"

#include "store/store_internal.h"

enum { GAP_BLOCKS = 32 };

void extent_walk_init(struct extent_walk *walk, struct store *store, uint64_t from_block,
                      uint64_t end_block)
{
    uint8_t from[BACKPOINTER_KEY_BYTES];
    assert(from_block <= end_block);
    *walk = (struct extent_walk){.store = store, .end_block = end_block};
    walk->iter = store_iter_new(store);
    backpointer_key(from, from_block);
    store_iter_seek(walk->iter, slice_of(from, sizeof from));
}

void extent_walk_fini(struct extent_walk *walk)
{
    store_iter_free(walk->iter);
    walk->iter = NULL;
}

static bool row_valid(const struct extent_walk *walk)
{
    uint64_t segment_blocks = walk->store->segment_blocks;
    uint64_t segment = walk->row.block / segment_blocks;
    return walk->row_owner.bytes <= STORE_KEY_MAX && segment > 0 &&
           segment < walk->store->segment_count &&
           (walk->row.block + walk->row.blocks - 1) / segment_blocks == segment;
}

/* Have a row in hand. 1, 0: no more, or an error. */
static int hold_row(struct extent_walk *walk)
{
    struct slice key, value;
    uint8_t end[BACKPOINTER_KEY_BYTES];
    int result = 1;
    backpointer_key(end, walk->end_block);
    while (!walk->row_held && result > 0) {
        result = store_iter_next(walk->iter, slice_of(end, sizeof end), &key, &value);
        /* What is malformed is store_check's to tell. */
        walk->row_held = result > 0 &&
                         backpointer_parse(key, value, &walk->row, &walk->row_owner) &&
                         row_valid(walk);
    }
    return result;
}

static bool fits(const struct extent_walk *walk, const struct extent_window *window)
{
    const struct store_extent *extent = &walk->row;
    uint64_t end = window->block + window->blocks;
    uint64_t segment_blocks = walk->store->segment_blocks;
    return window->count < EXTENT_WINDOW_ITEMS &&
           window->owner_bytes + walk->row_owner.bytes <= EXTENT_WINDOW_OWNERS &&
           extent->block >= end && extent->block - end <= GAP_BLOCKS &&
           extent->block + extent->blocks - window->block <= EXTENT_WINDOW_BLOCKS &&
           extent->block / segment_blocks == window->block / segment_blocks;
}

int extent_walk_next(struct extent_walk *walk, struct extent_window *window)
{
    int result;
    window->count = 0;
    window->blocks = 0;
    window->owner_bytes = 0;
    while ((result = hold_row(walk)) > 0) {
        if (window->count == 0)
            window->block = walk->row.block;
        if (!fits(walk, window))
            break;
        struct extent_item *item = &window->items[window->count++];
        *item = (struct extent_item){walk->row, window->owner_bytes, walk->row_owner.bytes};
        memcpy(window->owners + item->owner_at, walk->row_owner.data, item->owner_bytes);
        window->owner_bytes += item->owner_bytes;
        window->blocks = (uint32_t)(item->extent.block + item->extent.blocks - window->block);
        walk->row_held = false;
    }
    if (result < 0)
        return result;
    return window->count > 0;
}
