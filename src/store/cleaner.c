/* SPDX-License-Identifier: MIT */
/* Cleaner: turn half-dead data segments into free ones, and tell the device about free ones.
 *
 * When few segments are free, the closed data segment with the fewest live blocks is emptied
 * (clean_segment.c): its backpointer rows name the owner of each extent; the extent is read,
 * written to the cleaner's own open segment, and the owner (store_move_fn) swaps the address in its
 * value, in one commit. The emptied segment is freed by segment_reclaim, as any other.
 *
 * Pace. Free segments are a scale, from what users may not touch upwards:
 *
 *   floor USER           + half of the band        floor CLEANING
 *   | users pay for space |  cleaner hurries more  | no cleaning
 *
 * In the upper half the cleaner pauses between windows, less and less. In the lower half it does
 * not, and a write has to be *paid for*: emptying a segment of N blocks of which L live gains N -
 * L, and these are handed to the writers piece by piece as the L are moved. So writers are slowed
 * down to what the cleaner gains, a millisecond at a time, and do not run into a wall until a whole
 * segment is done.
 *
 * Cost. The dearest load is one that overwrites at random: no segment is a better victim than
 * others that are as old. If a share U of the segments with data lives, a victim is V full when its
 * turn comes, U = (1 - V) / -ln V, and each byte written costs 1 / (1 - V) bytes of writing. A
 * fifth of the space is never offered (space_left): with 90 % of the rest in use U is 0.74, V 0.53,
 * and 2.1 bytes are written (2.4 if it were a sixth). So it matters that few segments are free or
 * open (segment.c): they do not count as space in which dead blocks can wait. cleaner_test measures
 * it.
 *
 * CL1  A move is committed in the same step in which the owner checked that its value still refers
 *      to the old place (no yield in between), so a concurrent change is never undone.
 * CL2  Extents that the owner does not know any more, or finds damaged, are left where they are;
 *      a segment that cannot be emptied is marked stuck until something in it is freed.
 * CL3  The cleaner may use segments that users may not (segment_floor), and always gains more than
 *      it uses: segments more than 15/16 live are not cleaned.
 * CL4  Payment is a matter of pace, not of space: who has waited PAY_NS for it goes on without.
 */
#include "store/store_internal.h"

#define IDLE_NS    (1 * NS_PER_S)
#define DISCARD_NS (20 * NS_PER_MS)
#define PAUSE_NS   (8 * NS_PER_MS) /* between windows when there is no hurry */

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

/* Emptied segments are as good as free: the journal is about to prove it. */
static uint32_t supply(const struct store *store)
{
    return store->segments_free + store->dying_count;
}

static bool pressed(const struct store *store)
{
    return supply(store) < segment_floor(store, URGENCY_CLEANING);
}

/* ---- pace ---- */

static uint32_t band_middle(const struct store *store)
{
    return (segment_floor(store, URGENCY_USER) + segment_floor(store, URGENCY_CLEANING)) / 2;
}

static bool paying(const struct store *store)
{
    return store->cleaner.emptying && supply(store) <= band_middle(store);
}

bool cleaner_admits(const struct store *store)
{
    return !paying(store) || store->cleaner.credit >= 0;
}

void cleaner_charge(struct store *store, uint64_t blocks)
{
    if (paying(store))
        store->cleaner.credit -= (int64_t)blocks;
}

void cleaner_earn(struct store *store, uint32_t blocks)
{
    struct cleaner *cleaner = &store->cleaner;
    assert(cleaner->victim_live > 0);
    int64_t gain = (int64_t)store->segment_blocks - cleaner->victim_live;
    cleaner->credit += blocks * gain / cleaner->victim_live;
    cleaner->credit = MIN(cleaner->credit, (int64_t)store->segment_blocks);
    if (cleaner->credit >= 0 && !waitq_empty(&store->space))
        waitq_wake_all(&store->space);
}

void cleaner_pause(struct store *store)
{
    uint32_t middle = band_middle(store), top = segment_floor(store, URGENCY_CLEANING);
    uint32_t free = MIN(supply(store), top);
    if (free <= middle)
        fiber_yield();
    else
        fiber_sleep(PAUSE_NS * (free - middle) / (top - middle));
}

/* Before the next victim takes space, this one's must be proven free: what the cleaner has borrowed
 * is the journal's and the nodes' (S7). Waiting for space makes the journal hurry. */
static void wait_for_proof(struct store *store)
{
    uint32_t enough = segment_floor(store, URGENCY_MEMBER);
    for (uint32_t i = 0; i < 100 && store->dying_count > 0 && store->segments_free < enough &&
                         !store->stopping && !store->fenced;
         i++)
        (void)!waitq_wait(&store->space, env_now_ns() + 10 * NS_PER_MS);
}

/* ---- work ---- */

static uint32_t choose(const struct store *store)
{
    uint32_t best = SEGMENT_NONE, least = store->segment_blocks / 16 * 15;
    for (uint32_t i = 1; i < store->segment_count; i++) {
        const struct segment *segment = &store->segments[i];
        if (segment->state != SEGMENT_DATA || segment->open || segment->stuck ||
            segment->pinned > 0 || segment->fresh > 0 || segment->users > 0 || segment->live == 0 ||
            segment->live >= least)
            continue;
        best = i;
        least = segment->live;
    }
    return best;
}

static int clean_one(struct store *store, uint32_t victim)
{
    struct cleaner *cleaner = &store->cleaner;
    cleaner->victim_live = store->segments[victim].live;
    cleaner->emptying = true;
    int result = segment_empty(store, victim);
    wait_for_proof(store);
    return result;
}

/* Give one free segment's space back to the device. Zones are emptied before they are written, the
 * journal's too; elsewhere it is left some that are written (S6). */
static bool discard_one(struct store *store)
{
    bool zoned = disk_info(store->disk)->zone_bytes > 0;
    uint32_t keep = zoned ? 0 : segment_journal_headroom(store);
    if (store->segments_free <= segment_floor(store, URGENCY_USER) + 1)
        return false;
    for (uint32_t i = 1; i < store->segment_count; i++) {
        struct segment *segment = &store->segments[i];
        if (segment->state != SEGMENT_FREE || !segment->dirty)
            continue;
        if (keep > 0) {
            keep--;
            continue;
        }
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
        if (victim != SEGMENT_NONE && clean_one(store, victim) >= 0)
            continue;
        if (store->cleaner.emptying) { /* nobody would earn what writers wait for */
            store->cleaner.emptying = false;
            waitq_wake_all(&store->space);
        }
        if (!store->fenced && pressed(store) && node_clean_wanted(store))
            checkpoint_kick(store);
        if (!store->fenced && pressed(store))
            space_shrink(store);
        bool more = !store->fenced && discard_one(store);
        if (!store->stopping && !store->cleaner.wanted)
            (void)!waitq_wait(&store->cleaner.wake, env_now_ns() + (more ? DISCARD_NS : IDLE_NS));
    }
    store->fibers--;
    waitq_wake_all(&store->stopped);
}
