/* SPDX-License-Identifier: MIT */
/* Emptying one data segment: what lives in it goes to the cleaner's own open segment.
 *
 *   backpointer rows, in order --> window: extents within 1 MiB --> reads --> a move for each
 *
 * While the extents of one window are moved the next ones are being read, WINDOWS - 1 at once: with
 * one, the cleaner was as slow as the time that a device takes for a single read. Of a window only
 * what lives is read, and dead blocks between two live extents if they are few: in a victim that
 * is half dead that is a third less for the device to do.
 *
 * CS1  The segment is held (users) from the first read to the last, so that it cannot be given to
 *      others under us, and nothing in it is still on its way to the device (chosen that way).
 * CS2  A row may be gone or stand for something else by the time its extent is moved: the owner
 *      decides (cleaner.c, CL1).
 * CS3  A read that fails, or a bad sector in it, costs only the extents it hits: the window is read
 *      again extent by extent.
 */
#include "store/extent_walk.h"
#include "store/store_internal.h"

enum {
    YIELD_MOVES = 16, /* about 100 us */
    IN_FLIGHT_MAX = 8 << 20,
    WINDOWS = 4,
    GAP_BLOCKS = 2, /* to read on over them is no slower than another read */
    RUNS_MAX = EXTENT_WINDOW_BLOCKS / (GAP_BLOCKS + 2) + 1,
};

struct window;
struct run_read {
    struct disk_io io;
    struct window *window;
};
struct window {
    struct run_read runs[RUNS_MAX];
    struct waitq done;
    uint32_t reading; /* of them */
    bool failed;      /* one of them */
    struct buf *buf;
    struct extent_window extents;
};
struct emptying {
    struct store *store;
    uint32_t index;
    struct extent_walk walk;
    struct store_batch batch;
    uint32_t begun, ended;          /* windows, ever */
    struct window windows[WINDOWS]; /* those between, by number modulo WINDOWS */
};

static void read_done(struct disk_io *io)
{
    struct window *window = container_of(io, struct run_read, io)->window;
    assert(window->reading > 0);
    window->failed |= io->result < 0;
    if (--window->reading == 0)
        waitq_wake_all(&window->done);
}

/* Begin to read blocks [begin, end) of the window. */
static void run_begin(struct store *store, struct window *window, uint32_t run, uint32_t begin,
                      uint32_t end)
{
    assert(run < RUNS_MAX && begin < end);
    window->runs[run].window = window;
    window->runs[run].io =
        (struct disk_io){.op = DISK_READ,
                         .offset = (window->extents.block + begin) * STORE_BLOCK_BYTES,
                         .data = window->buf->data + begin * STORE_BLOCK_BYTES,
                         .bytes = (end - begin) * STORE_BLOCK_BYTES,
                         .done = read_done};
    window->reading++;
    disk_submit(store->disk, &window->runs[run].io);
}

/* Fill the window with the next extents and begin to read them. 1, 0: none are left, or an
 * error. */
static int window_begin(struct emptying *emptying, struct window *window)
{
    const struct extent_window *extents = &window->extents;
    uint32_t runs = 0, begin = 0, end = 0;
    assert(!window->reading && !window->buf);
    int result = extent_walk_next(&emptying->walk, &window->extents);
    if (result <= 0)
        return result;
    window->buf = buf_new(extents->blocks * STORE_BLOCK_BYTES);
    window->failed = false;
    for (uint32_t i = 0; i < extents->count; i++) {
        const struct store_extent *extent = &extents->items[i].extent;
        uint32_t at = (uint32_t)(extent->block - extents->block);
        if (at > end + GAP_BLOCKS) {
            run_begin(emptying->store, window, runs++, begin, end);
            begin = at;
        }
        end = at + extent->blocks;
    }
    run_begin(emptying->store, window, runs, begin, end);
    return 1;
}

/* 0, also if the extent stays where it is, or an error that ends the round. */
static int move_extent(struct emptying *emptying, struct window *window, uint32_t index)
{
    struct store *store = emptying->store;
    const struct extent_window *extents = &window->extents;
    struct store_extent from = extents->items[index].extent, to;
    struct slice owner = extent_owner(extents, index);
    struct buf_slice data = {window->buf,
                             (uint32_t)(from.block - extents->block) * STORE_BLOCK_BYTES,
                             from.blocks * STORE_BLOCK_BYTES};
    if (window->failed && store_extent_read(store, from, 0, from.blocks, buf_slice_data(&data)) < 0)
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
    while (window->reading > 0)
        (void)!waitq_wait(&window->done, 0);
    const struct extent_window *extents = &window->extents;
    for (uint32_t i = 0; i < extents->count && result == 0 && !store->stopping; i++) {
        result = move_extent(emptying, window, i);
        cleaner_earn(store, extents->items[i].extent.blocks);
        if (i % YIELD_MOVES == YIELD_MOVES - 1)
            fiber_yield();
    }
    while (result == 0 && !store->fenced && !store->stopping &&
           (store->extents.in_flight > IN_FLIGHT_MAX || space_memory_full(store, true)))
        (void)!waitq_wait(&store->space, env_now_ns() + 10 * NS_PER_MS);
    return result;
}

static void window_end(struct window *window)
{
    while (window->reading > 0)
        (void)!waitq_wait(&window->done, 0);
    buf_put(window->buf);
    window->buf = NULL;
}

/* Begin to read as far ahead as there are windows. 1, 0: all has been begun, or an error. */
static int read_ahead(struct emptying *emptying)
{
    int result = 1;
    while (result > 0 && emptying->begun - emptying->ended < WINDOWS) {
        result = window_begin(emptying, &emptying->windows[emptying->begun % WINDOWS]);
        if (result > 0)
            emptying->begun++;
    }
    return result;
}

static int move_all(struct emptying *emptying)
{
    struct store *store = emptying->store;
    int result = 1;
    while (result >= 0 && !store->stopping && store->segments[emptying->index].live > 0) {
        if (result > 0)
            result = read_ahead(emptying);
        if (result < 0 || emptying->begun == emptying->ended)
            break;
        struct window *window = &emptying->windows[emptying->ended++ % WINDOWS];
        int moved = window_move(emptying, window);
        window_end(window);
        if (moved < 0)
            result = moved;
        cleaner_pause(store);
    }
    for (uint32_t i = 0; i < WINDOWS; i++)
        window_end(&emptying->windows[i]);
    return MIN(result, 0);
}

int segment_empty(struct store *store, uint32_t index)
{
    struct segment *segment = &store->segments[index];
    struct emptying *emptying = mem_zalloc(sizeof *emptying);
    assert(segment->state == SEGMENT_DATA && !segment->open && segment->users == 0);
    emptying->store = store;
    emptying->index = index;
    for (uint32_t i = 0; i < ARRAY_COUNT(emptying->windows); i++)
        waitq_init(&emptying->windows[i].done);
    store_batch_init(&emptying->batch);
    extent_walk_init(&emptying->walk, store, segment_block(store, index),
                     segment_block(store, index + 1));
    segment->users++;
    int result = move_all(emptying);
    segment->users--;
    if (result == 0 && segment->live > 0 && !store->stopping)
        segment->stuck = true;
    segment_consider(store, index);
    segment_reclaim(store);
    extent_walk_fini(&emptying->walk);
    store_batch_fini(&emptying->batch);
    mem_free(emptying);
    return result;
}
