/* SPDX-License-Identifier: MIT */
/* Exactly once.
 *
 * A session numbers the requests of each of its slots from 1 and has one at a time in a slot. What
 * a request did is a REQUEST row (session, slot) in the same record as its changes, so it is known
 * wherever the changes are. Memory holds, per slot, the number seen last and whether it runs.
 *
 * When a row has to be read: the request says that it may be a repetition (META_RETRY), or memory
 * has seen its number or a later one (the first try overtaken by its repetition). A request that
 * failed changed nothing and leaves no row: its repetition is simply executed.
 *
 * Rows of a session that has not asked for anything for META_REPLAY_TTL_NS go: it is gone, or has
 * no request left to repeat. A fiber looks for them twice in that time, beginning with the first
 * request, and takes the time when it first saw rows of a session for its last request. */
#include "meta/replay.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/plant.h"

struct meta_replay {
    struct htable_node node; /* in mg->replays */
    uint64_t session;
    uint64_t seq; /* the newest that has come in */
    uint32_t slot;
    bool running;
    struct waitq wait;
};

/* When a session asked last. */
struct meta_caller {
    struct htable_node node; /* in mg->callers */
    uint64_t session;
    uint64_t last_ns;
};

enum { PURGE_ROWS_MAX = 256 }; /* in one record */

static struct meta_caller *caller_take(struct meta_group *mg, uint64_t session, uint64_t now_ns)
{
    struct htable_node *node;
    for (node = htable_first(&mg->callers, hash_u64(session)); node; node = htable_next(node)) {
        struct meta_caller *caller = container_of(node, struct meta_caller, node);
        if (caller->session == session)
            return caller;
    }
    struct meta_caller *caller = mem_zalloc(sizeof *caller);
    caller->session = session;
    caller->last_ns = now_ns;
    htable_insert(&mg->callers, &caller->node, hash_u64(session));
    return caller;
}

/* Add rows of silent sessions to the batch, up to PURGE_ROWS_MAX; from is moved to the last of
 * them. 1: there may be more; 0: that was all. */
static int find_silent(struct meta_group *mg, struct meta_key *from, struct store_batch *batch)
{
    if (mg->dead)
        return -ERR_NOT_PRIMARY;
    struct group_iter *iter = group_iter_new(mg->group);
    uint64_t now_ns = env_now_ns(), seen_seq = 0;
    struct meta_key end;
    struct slice key, value;
    int result = 1;
    key_table_only(&end, mg->id, META_TABLE_REQUEST + 1);
    group_iter_seek(iter, key_slice(from));
    while (batch->count < PURGE_ROWS_MAX &&
           (result = group_iter_next(iter, key_slice(&end), &key, &value, &seen_seq)) > 0) {
        if (key.bytes != META_KEY_PREFIX + 12)
            continue; /* not one of ours: fsck tells */
        uint64_t session = be64_load((const uint8_t *)key.data + META_KEY_PREFIX);
        if (caller_take(mg, session, now_ns)->last_ns + META_REPLAY_TTL_NS >= now_ns)
            continue;
        store_batch_del(batch, key);
        from->bytes = key.bytes;
        memcpy(from->data, key.data, key.bytes);
    }
    group_iter_free(iter);
    return result;
}

/* What memory has of silent sessions. */
static void forget_silent(struct meta_group *mg)
{
    uint64_t now_ns = env_now_ns();
    struct htable_node *node, *next;
    for (node = htable_walk(&mg->replays, NULL); node; node = next) {
        struct meta_replay *replay = container_of(node, struct meta_replay, node);
        next = htable_walk(&mg->replays, node);
        if (!replay->running && waitq_empty(&replay->wait) &&
            caller_take(mg, replay->session, now_ns)->last_ns + META_REPLAY_TTL_NS < now_ns) {
            htable_remove(&mg->replays, node);
            mem_free(replay);
        }
    }
    for (node = htable_walk(&mg->callers, NULL); node; node = next) {
        struct meta_caller *caller = container_of(node, struct meta_caller, node);
        next = htable_walk(&mg->callers, node);
        if (caller->last_ns + META_REPLAY_TTL_NS < now_ns) {
            htable_remove(&mg->callers, node);
            mem_free(caller);
        }
    }
}

static void purge_fiber(void *arg)
{
    struct meta_group *mg = arg;
    struct store_batch batch;
    struct meta_key from;
    store_batch_init(&batch);
    key_table_only(&from, mg->id, META_TABLE_REQUEST);
    int result = 1;
    while (result > 0) {
        uint64_t seq;
        store_batch_reset(&batch);
        result = find_silent(mg, &from, &batch);
        int appended = result >= 0 && batch.count > 0 ? meta_append(mg, &batch, &seq) : 0;
        result = appended < 0 ? appended : result;
    }
    store_batch_fini(&batch);
    mg->purging = false;
    if (!mg->dead) {
        if (result == 0)
            forget_silent(mg);
        timer_arm(&mg->purge_timer, env_now_ns() + META_REPLAY_TTL_NS / 2);
    }
    meta_group_put(mg);
}

void meta_replay_purge(struct timer *timer)
{
    struct meta_group *mg = container_of(timer, struct meta_group, purge_timer);
    mg->purging = true;
    meta_group_get(mg);
    fiber_spawn("meta-purge", purge_fiber, mg);
}

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
    uint64_t now_ns = env_now_ns();
    caller_take(mg, req->session, now_ns)->last_ns = now_ns;
    if (!mg->purge_timer.heap_index && !mg->purging)
        timer_arm(&mg->purge_timer, now_ns + META_REPLAY_TTL_NS / 2);
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
    int result = look && !PLANT(META_RETRY_TWICE) ? look_up(mg, req, seen_seq, ret_done) : 0;
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
    while ((node = htable_walk(&mg->callers, NULL))) {
        htable_remove(&mg->callers, node);
        mem_free(container_of(node, struct meta_caller, node));
    }
    htable_fini(&mg->replays);
    htable_fini(&mg->callers);
}
