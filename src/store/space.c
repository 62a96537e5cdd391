/* SPDX-License-Identifier: MIT */
/* Space: how much is left, and who has to wait for more.
 *
 * Two questions are kept apart. *Room*: would what is live, plus this, still fit once everything
 * dead has been cleaned away? If not, -ERR_NO_SPACE at once. *Free segments*: is there an empty
 * segment now? If not but there is room, wait for checkpoint and cleaner, which are told.
 *
 * SP1  Room leaves out the floor of user writes (segment.c), in which is what journal and nodes may
 *      come to need, and what they hold now; a quarter of the tree more, since segments of nodes
 *      are not emptied at once (node_clean.c).
 * SP2  A writer that frees (a delete) is never refused for space; it waits only for memory and for
 *      the journal, which both follow the merge (room).
 * SP3  Journal and memtable at most fill once more while what they held before is being merged: in
 *      all, twice their limits. (segment.c counts on it, S7.)
 * SP4  If a merge fails for want of space all the same, the memtable has a third share, for those
 *      who free: what they empty, the next attempt can use.
 * SP5  Data is space as soon as its owner has let go of it, rows after the next checkpoint. So a
 *      refusal asks for one.
 */
#include "store/store_internal.h"

#define WAIT_NS    (250 * NS_PER_MS)
#define PAY_NS     (40 * NS_PER_MS) /* for what the cleaner gains: pace only (cleaner.c, CL4) */
#define GIVE_UP_NS (3 * NS_PER_S)   /* well below the time after which a client asks again */
#define SHRINK_NS  (1 * NS_PER_S)

int64_t space_left(const struct store *store)
{
    /* Segment 0, the journal's present and possible segments, the floor. */
    int64_t kept =
        1 + (int64_t)segment_floor(store, URGENCY_USER) + store->segments_by_state[SEGMENT_JOURNAL];
    int64_t nodes =
        (int64_t)div_up(store->live_nodes + store->tree_blocks / 4, store->segment_blocks) + 1;
    int64_t segments = (int64_t)store->segment_count - kept - nodes;
    /* Some of each segment cannot be filled, and the cleaner needs something to gain (its cost). */
    int64_t blocks = segments * (int64_t)store->segment_blocks * 4 / 5;
    return blocks - (int64_t)store->live_data;
}

void store_space(const struct store *store, struct store_space *ret_space)
{
    int64_t left = space_left(store);
    uint64_t size = (uint64_t)store->segment_count * store->segment_blocks * STORE_BLOCK_BYTES;
    uint64_t journal = (uint64_t)store->segments_by_state[SEGMENT_JOURNAL] * store->segment_blocks *
                       STORE_BLOCK_BYTES;
    *ret_space = (struct store_space){
        .size_bytes = size,
        .used_bytes = (store->live_data + store->live_nodes) * STORE_BLOCK_BYTES + journal,
        .free_bytes = left > 0 ? (uint64_t)left * STORE_BLOCK_BYTES : 0,
        .data_bytes = store->live_data * STORE_BLOCK_BYTES};
}

/* How much of its share the active memtable, or the journal since the last freeze, may have used
 * while the frozen memtable is being merged: it grows as the merge goes on, so that a writer waits
 * for the next leaf and never for the whole merge. The last eighth is for the time of the flushes
 * at its end. */
static uint64_t room(const struct store *store, uint64_t whole)
{
    const struct checkpoint *checkpoint = &store->checkpoint;
    if (!store->frozen || checkpoint->sealing || checkpoint->failing)
        return whole;
    uint64_t merged = MIN(checkpoint->merged_rows, store->frozen->count);
    return whole / 2 + whole * 3 / 8 * merged / (store->frozen->count + 1);
}

bool space_memory_full(const struct store *store, bool freeing)
{
    const struct checkpoint *checkpoint = &store->checkpoint;
    uint64_t rows_max = room(store, checkpoint->memtable_bytes_max);
    if (checkpoint->failing && freeing)
        rows_max *= 2; /* SP4 */
    if (store->frozen && store->active->bytes > rows_max)
        return true;
    if (store->frozen &&
        store->journal.bytes_since_checkpoint > room(store, checkpoint->journal_bytes_max))
        return true;
    uint64_t in_flight_max = MAX(store->options.memory_bytes / 8, 2 * MIB);
    return store->extents.in_flight + store->journal.pending_bytes > MIN(in_flight_max, 64 * MIB);
}

void space_shrink(struct store *store)
{
    const struct checkpoint *checkpoint = &store->checkpoint;
    if (store->active->deletions > 0 && env_now_ns() > checkpoint->ended_ns + SHRINK_NS)
        checkpoint_kick(store);
}

/* Is there place for bytes in open or free segments, without the reserve? Rows alone come out of
 * the nodes' headroom, which must be there, and not only after cleaning. */
static bool segment_ready(const struct store *store, uint64_t bytes)
{
    if (bytes == 0)
        return store->segments_free >=
               segment_journal_headroom(store) + segment_node_headroom(store);
    uint32_t index = store->extents.segment[STREAM_USER];
    uint64_t blocks = div_up(bytes, STORE_BLOCK_BYTES);
    uint64_t open = index ? store->segment_blocks - store->segments[index].frontier : 0;
    return store->segments_free > segment_floor(store, URGENCY_USER) ||
           blocks + 2 * STORE_EXTENT_BLOCKS_MAX <= open;
}

int store_reserve(struct store *store, uint64_t bytes, bool freeing)
{
    uint64_t blocks = div_up(bytes, STORE_BLOCK_BYTES);
    uint64_t give_up = env_now_ns() + GIVE_UP_NS, pay_until = env_now_ns() + PAY_NS;
    for (;;) {
        if (store->fenced)
            return -ERR_FENCED;
        bool fits = freeing || space_left(store) >= (int64_t)blocks;
        if (!fits) {
            space_shrink(store);
            return -ERR_NO_SPACE;
        }
        bool ready = freeing || segment_ready(store, bytes);
        bool paid = freeing || bytes == 0 || cleaner_admits(store) || env_now_ns() > pay_until;
        if (ready && paid && !space_memory_full(store, freeing)) {
            if (!freeing)
                cleaner_charge(store, blocks);
            return 0;
        }
        if (!ready || !paid) {
            if (!ready)
                extents_make_way(store, blocks);
            cleaner_kick(store);
            if (!ready && env_now_ns() > give_up)
                return -ERR_NO_SPACE;
        } else {
            extents_push(store);
            store->journal.written_goal = store->journal.next_lsn - 1;
            if (store->active->bytes > store->checkpoint.memtable_bytes_max ||
                store->journal.bytes_since_checkpoint > journal_limit(store))
                checkpoint_kick(store);
        }
        journal_kick(store);
        (void)!waitq_wait(&store->space, env_now_ns() + (paid ? WAIT_NS : PAY_NS));
    }
}
