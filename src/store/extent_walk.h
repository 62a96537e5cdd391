/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_EXTENT_WALK_H
#define CFS_STORE_EXTENT_WALK_H

/* Live extents in physical order, a window at a time: for those who read a lot of them (cleaner,
 * scrub). A window is worth one read: extents of one segment within 1 MiB, with dead blocks between
 * them only where reading on costs less than another request. */

#include "store/store.h"

enum {
    EXTENT_WINDOW_BLOCKS = 256,
    EXTENT_WINDOW_ITEMS = 256,
    EXTENT_WINDOW_OWNERS = 16 << 10,
};

struct extent_item {
    struct store_extent extent;
    uint32_t owner_at;
    uint32_t owner_bytes;
};
struct extent_window {
    uint64_t block;
    uint32_t blocks;
    uint32_t count;
    uint32_t owner_bytes;
    struct extent_item items[EXTENT_WINDOW_ITEMS];
    uint8_t owners[EXTENT_WINDOW_OWNERS];
};

struct extent_walk {
    struct store *store;
    struct store_iter *iter;
    uint64_t end_block;
    bool row_held; /* read from iter, not yet in a window */
    struct store_extent row;
    struct slice row_owner; /* valid until iter is used again */
};

/* All extents that begin in [from_block, end_block). */
void extent_walk_init(struct extent_walk *walk, struct store *store, uint64_t from_block,
                      uint64_t end_block);
void extent_walk_fini(struct extent_walk *walk);
/* The next extents. 1, 0: none are left, or an error as store_get. What is in the window may have
 * been moved or freed since. */
may_yield must_check int extent_walk_next(struct extent_walk *walk, struct extent_window *window);

static inline struct slice extent_owner(const struct extent_window *window, uint32_t index)
{
    return slice_of(window->owners + window->items[index].owner_at,
                    window->items[index].owner_bytes);
}

#endif
