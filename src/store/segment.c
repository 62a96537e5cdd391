/* SPDX-License-Identifier: MIT */
/* Segments: the device's space, 16 to 64 MiB at a time.
 *
 *            segment_take                      last reference provably gone
 *   FREE ------------------> JOURNAL / NODE / DATA -------------------------> FREE
 *    ^  \_____ DISCARDING (cleaner) _____/
 *
 * A segment may be written again only when nothing that recovery could find, and nobody who is
 * reading, still refers to its old contents:
 *
 * S1  JOURNAL: freed by journal_trim, after a superblock that starts behind it is durable.
 * S2  NODE: freed by tree_collect, after a superblock whose tree does not use it is durable and
 *     the readers of all older trees have left.
 * S3  DATA: freed by segment_reclaim when it is closed, no row (live), no prepared record
 *     (pinned), no unclaimed extent (fresh) and no I/O (users) refers to it, and the record that
 *     let go of it last is *proven*: durable, and known to be durable to a later recovery, which
 *     otherwise would distrust older records that refer to the blocks and read them to verify.
 * S4  live is exact: it counts the blocks of backpointer rows (DATA) or of tree nodes of all trees
 *     in use (NODE). store_check compares.
 * S5  A checkpoint's segment table says for data what was live when it froze, for nodes what is
 *     when it ends. A segment that held data then, or since, and was freed (S3), may be of its
 *     nodes: the table says NODE, and recovery passes over what the records say of data there. By
 *     the end of them nothing of it is left.
 *
 * S6  The journal takes what has been written before, where there is any, and the cleaner leaves it
 *     as many such segments as it may need: to overwrite blocks that a file has makes them durable
 *     two to three times as fast as to give the file new ones, since no metadata has to follow.
 *
 * Each purpose leaves free segments to those more urgent (segment_floor), so that the journal,
 * checkpoints, deletes and the cleaner go on when the store is full for users:
 *
 * S7  Who writes data leaves what journal and nodes may come to need until the next two checkpoints
 *     have ended (the headrooms), and two more, which the cleaner may borrow: one that it fills,
 *     one that it has emptied and that is not proven free yet.
 *
 * What is kept free, being filled or waiting for its proof is not there for dead blocks to wait in,
 * so victims are fuller. It is a number of segments, not a share: the band in which the cleaner
 * works (URGENCY_CLEANING) need not be wider than it takes to pace writers, and small disks have
 * small segments (store_format).
 */
#include "store/store_internal.h"

#include "base/log.h"
#include "base/plant.h"

static void set_state(struct store *store, uint32_t index, enum segment_state state)
{
    struct segment *segment = &store->segments[index];
    assert(store->segments_by_state[segment->state] > 0);
    store->segments_by_state[segment->state]--;
    store->segments_by_state[state]++;
    segment->state = (uint8_t)state;
    store->segments_free = store->segments_by_state[SEGMENT_FREE];
}

void segment_init(struct store *store, uint32_t count, uint32_t blocks)
{
    assert(count >= 8 && blocks >= 64);
    store->segment_count = count;
    store->segment_blocks = blocks;
    store->segments = mem_zalloc(count * sizeof *store->segments);
    store->dying = mem_alloc(count * sizeof *store->dying);
    store->segments_by_state[SEGMENT_FREE] = count;
    store->segments_free = count;
    set_state(store, 0, SEGMENT_SUPER);
}

uint32_t segment_journal_headroom(const struct store *store)
{
    uint64_t segment_bytes = (uint64_t)store->segment_blocks * STORE_BLOCK_BYTES;
    uint32_t most = (uint32_t)div_up(2 * journal_limit(store), segment_bytes) + 2;
    uint32_t now = store->segments_by_state[SEGMENT_JOURNAL];
    return most > now ? most - now : 0;
}

/* A merge writes at most the tree anew and what the memtable adds, all of it twice; some leaves may
 * be filled by four fifths only. What the frozen and the active memtable add is then part of the
 * tree that a later merge writes anew. */
uint32_t segment_node_headroom(const struct store *store)
{
    uint64_t growth = 8 * store->checkpoint.memtable_bytes_max / STORE_BLOCK_BYTES;
    uint64_t most = 2 * store->tree_blocks + growth;
    return (uint32_t)div_up(most > store->live_nodes ? most - store->live_nodes : 0,
                            store->segment_blocks);
}

uint32_t segment_floor(const struct store *store, enum segment_urgency urgency)
{
    uint32_t headroom = segment_journal_headroom(store) + segment_node_headroom(store);
    uint32_t member = headroom + 2; /* S7 */
    uint32_t user = member + 1;     /* what several writers have been admitted to */
    switch (urgency) {
    case URGENCY_JOURNAL:
        return 0;
    case URGENCY_NODE:
        return 1;
    case URGENCY_CLEANER:
        return 2;
    case URGENCY_MEMBER:
        return member;
    case URGENCY_USER:
        return user;
    case URGENCY_CLEANING:
        return user + MAX(4u, MIN(store->segment_count / 64, 16u));
    }
    WRONG("urgency");
}

/* The next free segment. written: that the device has blocks for already. */
static uint32_t find_free(const struct store *store, bool written)
{
    for (uint32_t step = 0; step < store->segment_count; step++) {
        uint32_t index = (store->segment_cursor + step) % store->segment_count;
        const struct segment *segment = &store->segments[index];
        if (segment->state == SEGMENT_FREE && (segment->dirty || !written))
            return index;
    }
    return SEGMENT_NONE;
}

uint32_t segment_take(struct store *store, enum segment_state state, enum segment_urgency urgency)
{
    uint32_t index = SEGMENT_NONE;
    if (store->segments_free <= segment_floor(store, urgency))
        return SEGMENT_NONE;
    if (state == SEGMENT_JOURNAL)
        index = find_free(store, true); /* S6 */
    if (index == SEGMENT_NONE)
        index = find_free(store, false);
    if (index == SEGMENT_NONE)
        return SEGMENT_NONE;
    struct segment *segment = &store->segments[index];
    assert(segment->live == 0 && segment->pinned == 0 && segment->users == 0);
    set_state(store, index, state);
    segment->open = state != SEGMENT_DISCARDING;
    segment->frontier = 0;
    segment->stuck = false;
    segment->dirty = true;
    store->segment_cursor = index + 1;
    return index;
}

void segment_claim(struct store *store, uint32_t index, enum segment_state state)
{
    assert(store->recovering && index > 0 && index < store->segment_count);
    set_state(store, index, state);
    store->segments[index].dirty = true;
}

void segment_lend(struct store *store, uint32_t index, bool out)
{
    assert(store->segments[index].state == (out ? SEGMENT_FREE : SEGMENT_DISCARDING));
    set_state(store, index, out ? SEGMENT_DISCARDING : SEGMENT_FREE);
}

void segment_free(struct store *store, uint32_t index)
{
    struct segment *segment = &store->segments[index];
    assert(index > 0 && segment->state != SEGMENT_FREE && segment->state != SEGMENT_SUPER);
    assert(segment->live == 0 && segment->pinned == 0 && segment->fresh == 0);
    assert(segment->users == 0 && segment->garbage == 0);
    set_state(store, index, SEGMENT_FREE);
    segment->open = false;
    segment->frontier = 0;
    segment->dead_lsn = 0;
    waitq_wake_all(&store->space);
}

static bool reclaimable(const struct store *store, const struct segment *segment)
{
    return segment->state == SEGMENT_DATA && !segment->open && segment->live == 0 &&
           segment->pinned == 0 && segment->fresh == 0;
}

void segment_consider(struct store *store, uint32_t index)
{
    struct segment *segment = &store->segments[index];
    if (store->recovering || !reclaimable(store, segment) || segment->listed)
        return;
    segment->listed = true;
    assert(store->dying_count < store->segment_count);
    store->dying[store->dying_count++] = index;
    segment_reclaim(store);
    if (segment->listed)
        journal_kick(store); /* so that the proof comes about even when nothing else happens */
}

void segment_free_dead(struct store *store, uint64_t proven_lsn)
{
    assert(store->recovering);
    for (uint32_t i = 1; i < store->segment_count; i++)
        if (reclaimable(store, &store->segments[i]) && store->segments[i].dead_lsn <= proven_lsn)
            segment_free(store, i);
}

void segment_reclaim(struct store *store)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < store->dying_count; i++) {
        uint32_t index = store->dying[i];
        struct segment *segment = &store->segments[index];
        assert(segment->listed);
        bool dead = reclaimable(store, segment);
        uint64_t safe_lsn =
            PLANT(STORE_REUSE_UNPROVEN) ? store->journal.flushed_lsn : store->journal.proven_lsn;
        if (dead && (segment->users > 0 || segment->dead_lsn > safe_lsn)) {
            store->dying[kept++] = index;
            continue;
        }
        segment->listed = false;
        if (dead)
            segment_free(store, index);
    }
    store->dying_count = kept;
}

uint64_t segment_awaited_lsn(const struct store *store)
{
    uint64_t lsn = 0;
    for (uint32_t i = 0; i < store->dying_count; i++)
        lsn = MAX(lsn, store->segments[store->dying[i]].dead_lsn);
    return lsn > store->journal.proven_lsn ? lsn : 0;
}

bool segment_was_data(const struct store *store, uint32_t index)
{
    return store->recovering && store->segments[index].state == SEGMENT_NODE &&
           !PLANT(STORE_NODE_MISTAKEN);
}

void segment_live_add(struct store *store, uint64_t block, uint32_t blocks)
{
    uint32_t index = segment_of(store, block);
    struct segment *segment = &store->segments[index];
    if (segment_was_data(store, index))
        return;
    if (store->recovering && segment->state == SEGMENT_FREE)
        segment_claim(store, index, SEGMENT_DATA); /* opened after the checkpoint, never resumed */
    assert(segment->state == SEGMENT_DATA || store->recovering);
    segment->live += blocks;
    store->live_data += blocks;
    assert(segment->live <= store->segment_blocks || store->recovering);
}

void segment_live_del(struct store *store, uint64_t block, uint32_t blocks, uint64_t lsn)
{
    uint32_t index = segment_of(store, block);
    struct segment *segment = &store->segments[index];
    if (segment_was_data(store, index))
        return;
    uint32_t live = segment->state == SEGMENT_NODE ? 0 : segment->live;
    if (live < blocks) {
        /* Owners that break B1, or a damaged journal. Space would leak or be lost: say so, stay
         * safe. */
        log_error("store-live-underflow", "segment=%u live=%u blocks=%u", index, live, blocks);
        blocks = live;
    }
    if (PLANT(STORE_LIVE_UNCOUNTED))
        return;
    segment->live -= blocks;
    store->live_data -= blocks;
    segment->dead_lsn = lsn;
    segment->stuck = false;
    segment_consider(store, index);
}
