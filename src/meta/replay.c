/* SPDX-License-Identifier: MIT */
/* Exactly once.
 *
 * A session numbers the requests of each of its slots from 1 and has one at a time in a slot. What
 * a request did is a REQUEST row (session, slot) in the same record as its changes, so it is known
 * wherever the changes are. Memory holds, per slot, the number seen last and whether it runs.
 *
 * When a row has to be read: the request says that it may be a repetition (META_RETRY), or memory
 * has seen its number or a later one (the first try overtaken by its repetition). A request that
 * failed changed nothing and leaves no row: its repetition is simply executed. */
#include "meta/replay.h"

#include "base/hash.h"
#include "base/mem.h"

struct meta_replay {
    struct htable_node node; /* in mg->replays */
    uint64_t session;
    uint64_t seq; /* the newest that has come in */
    uint32_t slot;
    bool running;
    struct waitq wait;
};

static struct meta_replay *replay_take(struct meta_group *mg, uint64_t session, uint32_t slot)
{
    uint64_t hash = hash_u64(session + slot);
    struct htable_node *node;
    for (node = htable_first(&mg->replays, hash); node; node = htable_next(node)) {
        struct meta_replay *replay = container_of(node, struct meta_replay, node);
        if (replay->session == session && replay->slot == slot)
            return replay;
    }
    struct meta_replay *replay = mem_zalloc(sizeof *replay);
    replay->session = session;
    replay->slot = slot;
    waitq_init(&replay->wait);
    htable_insert(&mg->replays, &replay->node, hash);
    return replay;
}

/* What the table says: 1 done, 0 not done, -ERR_CANCELED. */
static int look_up(struct meta_group *mg, const struct wire_meta_req *req, uint64_t *seen_seq,
                   struct disk_request *ret_done)
{
    struct meta_key key;
    struct disk_request row;
    key_request(&key, mg->id, req->session, req->slot);
    int result = group_get(mg->group, key_slice(&key), &row, sizeof row, seen_seq);
    if (result == -ENOENT)
        return 0;
    if (result < 0)
        return result;
    if (result != sizeof row)
        return -ERR_CORRUPT_DISK;
    if (row.slot_seq > req->slot_seq)
        return -ERR_CANCELED;
    if (row.slot_seq < req->slot_seq)
        return 0;
    *ret_done = row;
    return 1;
}

int meta_replay_begin(struct meta_group *mg, const struct wire_meta_req *req, uint64_t deadline_ns,
                      uint64_t *seen_seq, struct disk_request *ret_done,
                      struct meta_replay **ret_replay)
{
    struct meta_replay *replay = replay_take(mg, req->session, req->slot);
    while (replay->running) {
        int result = waitq_wait(&replay->wait, deadline_ns);
        if (mg->dead)
            return -ERR_NOT_PRIMARY;
        if (result < 0)
            return -ERR_BUSY;
    }
    bool look = (req->flags & META_RETRY) || replay->seq >= req->slot_seq;
    replay->running = true;
    replay->seq = MAX(replay->seq, req->slot_seq);
    int result = look ? look_up(mg, req, seen_seq, ret_done) : 0;
    if (result == 0)
        *ret_replay = replay;
    else
        meta_replay_end(replay);
    return result;
}

void meta_replay_end(struct meta_replay *replay)
{
    assert(replay->running);
    replay->running = false;
    waitq_wake_all(&replay->wait);
}

void meta_replay_wake_all(struct meta_group *mg)
{
    struct htable_node *node;
    assert(mg->dead);
    for (node = htable_walk(&mg->replays, NULL); node; node = htable_walk(&mg->replays, node))
        waitq_wake_all(&container_of(node, struct meta_replay, node)->wait);
}

void meta_replay_forget(struct meta_group *mg)
{
    struct htable_node *node;
    while ((node = htable_walk(&mg->replays, NULL))) {
        struct meta_replay *replay = container_of(node, struct meta_replay, node);
        assert(!replay->running && waitq_empty(&replay->wait));
        htable_remove(&mg->replays, node);
        mem_free(replay);
    }
    htable_fini(&mg->replays);
}
