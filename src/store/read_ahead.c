/* SPDX-License-Identifier: MIT */
/* Read-ahead of a merge.
 *
 * Problem: writers go no faster than the merge (space.c), and the merge waits for one leaf after
 * the other. On a busy machine each of these reads takes milliseconds, most of them spent in
 * queues: so the writers' pauses are the device's latency times the leaves until it is their turn.
 *
 * The merge knows from the frozen memtable and the parent node which leaves come next. Up to
 * AHEAD_NODES of them are read at the same time, each by a fiber of its own, into the cache.
 *
 * RA1  At most AHEAD_NODES leaves are on their way or wait to be used: far fewer than the smallest
 *      cache holds. One that is evicted before it is used is read again; nothing depends on it.
 * RA2  An error is not looked at here: who comes to the leaf reads it again, and finds it.
 * RA3  Whether a leaf was in memory for the readers' sake is asked before it is read in advance
 *      (cache.c, C3): read_ahead_take says which ones are not.
 */
#include "store/read_ahead.h"

void read_ahead_init(struct read_ahead *ahead, struct store *store)
{
    *ahead = (struct read_ahead){.store = store};
    waitq_init(&ahead->ended);
    for (uint32_t i = 0; i < AHEAD_NODES; i++)
        ahead->slots[i].ahead = ahead;
}

static void read_leaf(void *arg)
{
    struct ahead_slot *slot = arg;
    struct read_ahead *ahead = slot->ahead;
    struct disk_pointer pointer = slot->pointer; /* the slot may be used anew meanwhile */
    struct cache_node *node;
    if (cache_get(ahead->store, &pointer, 0, &node) == 0)
        cache_put(ahead->store, node);
    assert(ahead->running > 0);
    ahead->running--;
    waitq_wake_all(&ahead->ended);
}

bool read_ahead_start(struct read_ahead *ahead, const struct disk_pointer *pointer)
{
    if (cache_has(ahead->store, pointer))
        return true;
    if (ahead->running >= AHEAD_NODES)
        return false;
    for (uint32_t i = 0; i < AHEAD_NODES; i++) {
        struct ahead_slot *slot = &ahead->slots[i];
        if (slot->pointer.block[0] != 0)
            continue;
        slot->pointer = *pointer;
        ahead->running++;
        fiber_spawn("store-read-ahead", read_leaf, slot);
        return true;
    }
    return false;
}

bool read_ahead_take(struct read_ahead *ahead, const struct disk_pointer *pointer)
{
    for (uint32_t i = 0; i < AHEAD_NODES; i++) {
        struct disk_pointer *mine = &ahead->slots[i].pointer;
        if (mine->block[0] != pointer->block[0] || mine->crc != pointer->crc)
            continue;
        *mine = (struct disk_pointer){0};
        return true;
    }
    return false;
}

void read_ahead_fini(struct read_ahead *ahead)
{
    while (ahead->running > 0)
        (void)!waitq_wait(&ahead->ended, 0);
}
