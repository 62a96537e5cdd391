/* SPDX-License-Identifier: MIT */
/* Cleaner: turn half-dead data segments into free ones, and tell the device about free ones.
 *
 * When few segments are free, the closed data segment with the fewest live blocks is emptied: its
 * backpointer rows name the owner of each extent; the extent is read, written to the cleaner's own
 * open segment, and the owner (store_move_fn) swaps the address in its value, in one commit. The
 * emptied segment is freed by segment_reclaim, as any other.
 *
 * CL1  A move is committed in the same step in which the owner checked that its value still refers
 *      to the old place (no yield in between), so a concurrent change is never undone.
 * CL2  Extents that the owner does not know any more, or finds damaged, are left where they are;
 *      a segment that cannot be emptied is marked stuck until something in it is freed.
 * CL3  The cleaner may use segments that users may not (segment_floor), and always gains more than
 *      it uses: segments more than 15/16 live are not cleaned.
 */
#include "store/store_internal.h"

#include "base/log.h"

#define IDLE_NS    (1 * NS_PER_S)
#define DISCARD_NS (20 * NS_PER_MS)

void store_set_mover(struct store *store, store_move_fn move, void *context)
{
    store->cleaner.move = move;
    store->cleaner.context = context;
}

void cleaner_kick(struct store *store)
{
    store->cleaner.wanted = true;
    waitq_wake_all(&store->cleaner.wake);
}

static bool pressed(const struct store *store)
{
    return store->segments_free < segment_floor(store, URGENCY_CLEANING);
}

/* Emptied segments become free when the journal has proven it. Until then, emptying more would use
 * up the free ones. Waiting for space makes the journal hurry. */
static void wait_for_proof(struct store *store)
{
    for (uint32_t i = 0; i < 100 && store->dying_count > 0 && !store->stopping && !store->fenced;
         i++)
        (void)!waitq_wait(&store->space, env_now_ns() + 10 * NS_PER_MS);
}

static uint32_t choose(const struct store *store)
{
    uint32_t best = SEGMENT_NONE, least = store->segment_blocks / 16 * 15;
    for (uint32_t i = 1; i < store->segment_count; i++) {
        const struct segment *segment = &store->segments[i];
        if (segment->state != SEGMENT_DATA || segment->open || segment->stuck ||
            segment->pinned > 0 || segment->fresh > 0 || segment->live == 0 ||
            segment->live >= least)
            continue;
        best = i;
        least = segment->live;
    }
    return best;
}

/* 1: moved, 0: left where it is, or an error that ends this round. */
static int move_extent(struct store *store, struct slice owner, struct store_extent from)
{
    struct buf *buf = buf_new(from.blocks * STORE_BLOCK_BYTES);
    struct store_extent to;
    int result = store_extent_read(store, from, 0, from.blocks, buf->data);
    if (result == 0) {
        struct buf_slice data = {buf, 0, from.blocks * STORE_BLOCK_BYTES};
        result = extents_write(store, STREAM_CLEANER, data, from.blocks, &to);
        if (result < 0) {
            buf_put(buf);
            return result;
        }
        struct store_batch batch;
        store_batch_init(&batch);
        result = store->cleaner.move(store->cleaner.context, owner, from, to, buf->data, &batch);
        if (result == 0) {
            (void)store_commit(store, &batch);
            store->health.cleaned_bytes += from.blocks * STORE_BLOCK_BYTES;
        } else {
            struct extent_fresh *fresh = fresh_find(store, to);
            if (fresh)
                fresh_drop(store, fresh);
        }
        store_batch_fini(&batch);
    }
    buf_put(buf);
    return result == 0 ? 1 : 0;
}

static int empty_segment(struct store *store, uint32_t index)
{
    uint8_t from[BACKPOINTER_KEY_BYTES], to[BACKPOINTER_KEY_BYTES], owner[STORE_KEY_MAX];
    backpointer_key(from, segment_block(store, index));
    backpointer_key(to, segment_block(store, index + 1));
    struct store_iter *iter = store_iter_new(store);
    store_iter_seek(iter, slice_of(from, sizeof from));
    struct slice key, value;
    int result = 0;
    while (!store->stopping && store->segments[index].live > 0 &&
           (result = store_iter_next(iter, slice_of(to, sizeof to), &key, &value)) > 0) {
        struct disk_backpointer head;
        if (key.bytes != BACKPOINTER_KEY_BYTES || value.bytes < sizeof head ||
            value.bytes > sizeof head + sizeof owner)
            continue;
        memcpy(&head, value.data, sizeof head);
        struct store_extent extent = {be64_load((const uint8_t *)key.data + 5), head.blocks, 0};
        if (extent.blocks == 0 || extent.blocks > STORE_EXTENT_BLOCKS_MAX)
            continue;
        uint32_t owner_bytes = value.bytes - (uint32_t)sizeof head;
        memcpy(owner, (const uint8_t *)value.data + sizeof head, owner_bytes);
        result = move_extent(store, slice_of(owner, owner_bytes), extent);
        if (result < 0)
            break;
        fiber_yield();
        if (store->segments_free > segment_floor(store, URGENCY_USER) + 1)
            fiber_sleep(1 * NS_PER_MS);
        while (store->extents.in_flight > 8 * MIB && !store->fenced)
            (void)!waitq_wait(&store->space, env_now_ns() + 10 * NS_PER_MS);
    }
    store_iter_free(iter);
    if (result >= 0 && store->segments[index].live > 0)
        store->segments[index].stuck = true;
    return result;
}

/* Give one free segment's space back to the device. */
static bool discard_one(struct store *store)
{
    if (store->segments_free <= segment_floor(store, URGENCY_USER) + 1)
        return false;
    for (uint32_t i = 1; i < store->segment_count; i++) {
        struct segment *segment = &store->segments[i];
        if (segment->state != SEGMENT_FREE || !segment->dirty)
            continue;
        segment_lend(store, i, true);
        uint64_t bytes = (uint64_t)store->segment_blocks * STORE_BLOCK_BYTES;
        /* Only a hint to the device: if it fails, nothing is lost. */
        (void)!disk_discard(store->disk, i * bytes, bytes);
        segment_lend(store, i, false);
        segment->dirty = false;
        waitq_wake_all(&store->space);
        return true;
    }
    return false;
}

void cleaner_fiber(void *arg)
{
    struct store *store = arg;
    while (!store->stopping) {
        store->cleaner.wanted = false;
        fresh_expire(store);
        uint32_t victim = SEGMENT_NONE;
        if (!store->fenced && store->cleaner.move && pressed(store))
            victim = choose(store);
        if (victim != SEGMENT_NONE && empty_segment(store, victim) >= 0) {
            wait_for_proof(store);
            continue;
        }
        if (!store->fenced && pressed(store) && node_clean_wanted(store))
            checkpoint_kick(store);
        bool more = !store->fenced && discard_one(store);
        if (!store->stopping && !store->cleaner.wanted)
            (void)!waitq_wait(&store->cleaner.wake, env_now_ns() + (more ? DISCARD_NS : IDLE_NS));
    }
    store->fibers--;
    waitq_wake_all(&store->stopped);
}
