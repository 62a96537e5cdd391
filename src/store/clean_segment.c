/* SPDX-License-Identifier: MIT */
/* Emptying one data segment: what lives in it goes to the cleaner's own open segment.
 *
 *   backpointer rows, in order --> window: extents within 1 MiB --> one read --> a move for each
 *
 * There are two windows: one is being read while the extents of the other are moved, so neither
 * the device nor the reactor waits for the other. Dead blocks between two live extents are read
 * along unless there are many; a read costs less than another request.
 *
 * CS1  The segment is held (users) from the first read to the last, so that it cannot be given to
 *      others under us, and nothing in it is still on its way to the device (chosen that way).
 * CS2  A row may be gone or stand for something else by the time its extent is moved: the owner
 *      decides (cleaner.c, CL1).
 * CS3  A read that fails, or a bad sector in it, costs only the extents it hits: the window is read
 *      again extent by extent.
 */
#include "store/store_internal.h"

enum {
    WINDOW_BLOCKS = 256,
    GAP_BLOCKS = 32,
    ITEMS_MAX = 256,
    OWNERS_BYTES = 16 << 10,
    YIELD_MOVES = 16, /* about 100 us */
    IN_FLIGHT_MAX = 8 << 20,
};

struct window_item {
    struct store_extent extent;
    uint32_t owner_at;
    uint32_t owner_bytes;
};
struct window {
    struct disk_io io;
    struct waitq done;
    bool reading;
    uint64_t block;
    uint32_t blocks;
    uint32_t count;
    uint32_t owner_bytes;
    struct buf *buf;
    struct window_item items[ITEMS_MAX];
    uint8_t owners[OWNERS_BYTES];
};
struct emptying {
    struct store *store;
    uint32_t index;
    uint8_t end[BACKPOINTER_KEY_BYTES];
    struct store_iter *iter;
    struct store_batch batch;
    bool row_held; /* read from iter, not yet in a window */
    struct store_extent row;
    struct slice row_owner; /* valid until iter is used again */
    struct window windows[2];
};

/* Have a row in hand. 1, 0: no more, or an error. */
static int next_row(struct emptying *emptying)
{
    struct slice key, value;
    int result = 1;
    while (!emptying->row_held && result > 0) {
        result = store_iter_next(emptying->iter, slice_of(emptying->end, sizeof emptying->end),
                                 &key, &value);
        if (result > 0 && backpointer_parse(key, value, &emptying->row, &emptying->row_owner) &&
            emptying->row_owner.bytes <= STORE_KEY_MAX)
            emptying->row_held = true;
    }
    return result;
}

static bool fits(const struct window *window, const struct store_extent *extent,
                 uint32_t owner_bytes)
{
    uint64_t end = window->block + window->blocks;
    return window->count < ITEMS_MAX && window->owner_bytes + owner_bytes <= OWNERS_BYTES &&
           extent->block >= end && extent->block - end <= GAP_BLOCKS &&
           extent->block + extent->blocks - window->block <= WINDOW_BLOCKS;
}

static void read_done(struct disk_io *io)
{
    struct window *window = container_of(io, struct window, io);
    window->reading = false;
    waitq_wake_all(&window->done);
}

/* Fill the window with the next extents and begin to read them. 1, 0: none are left, or an
 * error. */
static int window_begin(struct emptying *emptying, struct window *window)
{
    struct store *store = emptying->store;
    assert(!window->reading && !window->buf);
    window->count = 0;
    window->owner_bytes = 0;
    int result;
    while ((result = next_row(emptying)) > 0) {
        if (window->count == 0) {
            window->block = emptying->row.block;
            window->blocks = 0;
        }
        if (!fits(window, &emptying->row, emptying->row_owner.bytes))
            break;
        struct window_item *item = &window->items[window->count++];
        *item = (struct window_item){emptying->row, window->owner_bytes, emptying->row_owner.bytes};
        memcpy(window->owners + item->owner_at, emptying->row_owner.data, item->owner_bytes);
        window->owner_bytes += item->owner_bytes;
        window->blocks = (uint32_t)(item->extent.block + item->extent.blocks - window->block);
        emptying->row_held = false;
    }
    if (result < 0 || window->count == 0)
        return MIN(result, 0);
    window->buf = buf_new(window->blocks * STORE_BLOCK_BYTES);
    window->io = (struct disk_io){.op = DISK_READ,
                                  .offset = window->block * STORE_BLOCK_BYTES,
                                  .data = window->buf->data,
                                  .bytes = window->blocks * STORE_BLOCK_BYTES,
                                  .done = read_done};
    window->reading = true;
    disk_submit(store->disk, &window->io);
    return 1;
}

/* 0, also if the extent stays where it is, or an error that ends the round. */
static int move_extent(struct emptying *emptying, struct window *window,
                       const struct window_item *item)
{
    struct store *store = emptying->store;
    struct store_extent from = item->extent, to;
    struct slice owner = slice_of(window->owners + item->owner_at, item->owner_bytes);
    struct buf_slice data = {window->buf,
                             (uint32_t)(from.block - window->block) * STORE_BLOCK_BYTES,
                             from.blocks * STORE_BLOCK_BYTES};
    if (window->io.result < 0 &&
        store_extent_read(store, from, 0, from.blocks, buf_slice_data(&data)) < 0)
        return 0;
    int result = extents_write(store, STREAM_CLEANER, data, from.blocks, &to);
    if (result < 0)
        return result;
    store_batch_reset(&emptying->batch);
    result = store->cleaner.move(store->cleaner.context, owner, from, to, buf_slice_data(&data),
                                 &emptying->batch);
    if (result == 0) {
        (void)store_commit(store, &emptying->batch);
        store->health.cleaned_bytes += from.blocks * STORE_BLOCK_BYTES;
    } else {
        struct extent_fresh *fresh = fresh_find(store, to);
        if (fresh)
            fresh_drop(store, fresh);
    }
    return 0;
}

static int window_move(struct emptying *emptying, struct window *window)
{
    struct store *store = emptying->store;
    int result = 0;
    while (window->reading)
        (void)!waitq_wait(&window->done, 0);
    for (uint32_t i = 0; i < window->count && result == 0 && !store->stopping; i++) {
        result = move_extent(emptying, window, &window->items[i]);
        cleaner_earn(store, window->items[i].extent.blocks);
        if (i % YIELD_MOVES == YIELD_MOVES - 1)
            fiber_yield();
    }
    while (result == 0 && !store->fenced && !store->stopping &&
           (store->extents.in_flight > IN_FLIGHT_MAX || space_memory_full(store)))
        (void)!waitq_wait(&store->space, env_now_ns() + 10 * NS_PER_MS);
    return result;
}

static void window_end(struct window *window)
{
    while (window->reading)
        (void)!waitq_wait(&window->done, 0);
    buf_put(window->buf);
    window->buf = NULL;
}

static int move_all(struct emptying *emptying)
{
    struct store *store = emptying->store;
    uint32_t turn = 0;
    int result = window_begin(emptying, &emptying->windows[0]);
    while (result > 0 && !store->stopping && store->segments[emptying->index].live > 0) {
        struct window *window = &emptying->windows[turn], *next = &emptying->windows[turn ^ 1];
        int more = window_begin(emptying, next);
        result = window_move(emptying, window);
        window_end(window);
        if (result == 0)
            result = more;
        turn ^= 1;
        cleaner_pause(store);
    }
    for (uint32_t i = 0; i < ARRAY_COUNT(emptying->windows); i++)
        window_end(&emptying->windows[i]);
    return MIN(result, 0);
}

int segment_empty(struct store *store, uint32_t index)
{
    uint8_t from[BACKPOINTER_KEY_BYTES];
    struct segment *segment = &store->segments[index];
    struct emptying *emptying = mem_zalloc(sizeof *emptying);
    assert(segment->state == SEGMENT_DATA && !segment->open && segment->users == 0);
    emptying->store = store;
    emptying->index = index;
    for (uint32_t i = 0; i < ARRAY_COUNT(emptying->windows); i++)
        waitq_init(&emptying->windows[i].done);
    store_batch_init(&emptying->batch);
    backpointer_key(from, segment_block(store, index));
    backpointer_key(emptying->end, segment_block(store, index + 1));
    emptying->iter = store_iter_new(store);
    store_iter_seek(emptying->iter, slice_of(from, sizeof from));
    segment->users++;
    int result = move_all(emptying);
    segment->users--;
    if (result == 0 && segment->live > 0 && !store->stopping)
        segment->stuck = true;
    segment_consider(store, index);
    segment_reclaim(store);
    store_iter_free(emptying->iter);
    store_batch_fini(&emptying->batch);
    mem_free(emptying);
    return result;
}
