/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_CLEANER_H
#define CFS_STORE_CLEANER_H

/* Getting the space of half-dead segments back: see cleaner.c. Included by store_internal.h. */

struct cleaner {
    store_move_fn move;
    void *context;
    struct waitq wake;
    bool wanted;
    bool emptying;        /* segments, so that writers can be made to wait for what it gains */
    uint32_t victim_live; /* blocks, when its emptying began */
    int64_t credit;       /* blocks gained and not yet written to */
};

void cleaner_fiber(void *arg);
void cleaner_kick(struct store *store);
/* Has the cleaner gained enough for another write? (Pace only; see segment_floor for space.) */
bool cleaner_admits(const struct store *store);
void cleaner_charge(struct store *store, uint64_t blocks);
/* Blocks of the victim have been dealt with. */
void cleaner_earn(struct store *store, uint32_t blocks);
/* Leave time to others, according to how little is free. */
may_yield void cleaner_pause(struct store *store);
/* Move all extents of a closed data segment elsewhere. It stays in use if that fails for some of
 * them (stuck). 0; errors of writing: no space, fenced. */
may_yield must_check int segment_empty(struct store *store, uint32_t index);

#endif
