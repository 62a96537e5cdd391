/* SPDX-License-Identifier: MIT */
/* Transactions over rows of one or several groups.
 *
 * Problem. A verb reads some rows, decides, and writes some rows; others do the same at the same
 * time, the rows may lie in several groups, and any node may die at any moment. Either all of it
 * has happened or nothing, and nobody may see half of it.
 *
 * Picture. One group: lock, read, append one record, unlock, wait for the record to commit, reply.
 * Several groups, seen from the coordinator (the primary of the group that was asked):
 *
 *     TXN_LOCK key  -> participant: lock, read, value back          (as often as needed)
 *     TXN_PREPARE   -> participant: record "PREPARED row", durable; readers wait from now on
 *     one record here: own changes + what the request did + DECIDED row        <- the decision
 *     durable here; TXN_FINISH -> participant: changes, no PREPARED row, unlock
 *     all have answered: the DECIDED row is removed with some later record
 *
 * State of a participant's share:
 *     (none) --lock--> LOCKED --prepare--> PREPARED --finish--> (none)
 *                        | finish(abort)        | 1 s: asks the coordinator's group (TXN_STATUS)
 *                        | 6 s                  |
 *                        | by the map another process coordinates now: at once
 *                        v                      v
 *                      (none)            finish, as it was decided; unknown: abort
 *
 * Invariants.
 * T1. Rows are written only under a lock on them, on the inode they belong to, or when new.
 * T2. All locks are held when the first PREPARE is sent (growing phase over). So a share that has
 *     only read may be forgotten after that, and a new primary re-locks only keys to be written.
 * T3. PREPARE is refused unless the share still holds all its locks.
 * T4. The decision is one record of the coordinator's log. Whoever has that log knows the outcome:
 *     no DECIDED row and not running in memory means aborted, for ever (presumed abort).
 * T5. A prepared record is durable before the decision is made, the decision before anybody acts on
 *     it, and what the participants did about it before the decision is forgotten: the order
 *     survives a power loss of the whole cluster.
 * T6. Readers wait on keys of PREPARED shares. The decision is visible at the coordinator only
 *     when all participants have prepared, so whoever has seen its new state waits for the rest.
 * T7. Locks of one group are released when its record has been appended: later records come after
 *     it in the log, and replies wait for their records.
 * T8. What was read before a loss of primacy is never appended after it (meta_group.dead).
 *
 * Crash cases. Participant's primary dies: LOCKED is forgotten and PREPARE refused by the next one;
 * PREPARED is a row, its keys are locked again before the next one serves. Coordinator dies before
 * the decision: shares ask and hear "unknown"; after it: the next one finds the row and tells them.
 *
 * Limits. META_PARTS_MAX groups; the changes in one group fit a row (STORE_VALUE_MAX). Deadlocks
 * are not detected: a lock that is not to be had soon aborts, and the verb runs again.
 *
 * Not here. Rows as structs (txn_rows.c), commit (txn_commit.c), the other side (participant.c),
 * who runs verbs again (op.c). */
#include "meta/txn.h"

#include "meta/peer.h"

void txn_begin(struct meta_txn *txn, struct meta_group *mg, uint64_t deadline_ns)
{
    txn->mg = mg;
    list_init(&txn->link);
    txn->id = (struct wire_txn_id){0};
    meta_locks_init(&txn->locks, mg);
    store_batch_init(&txn->batch);
    txn->seen_seq = 0;
    txn->deadline_ns = deadline_ns;
    txn->part_count = 0;
    txn->inode_count = 0;
    txn->dentry_count = 0;
    txn->orphan_count = 0;
    txn->decided = false;
}

/* Its own lock deadline: soon, so that a deadlock costs little. */
static uint64_t lock_deadline(const struct meta_txn *txn)
{
    return MIN(txn->deadline_ns, env_now_ns() + META_LOCK_PATIENCE_NS);
}

static struct txn_part *find_part(struct meta_txn *txn, uint32_t group)
{
    for (uint32_t i = 0; i < txn->part_count; i++) {
        if (txn->parts[i].group == group)
            return &txn->parts[i];
    }
    return NULL;
}

static void name_txn(struct meta_txn *txn)
{
    struct meta_group *mg = txn->mg;
    txn->id = (struct wire_txn_id){
        .group = mg->id,
        .epoch = group_epoch(mg->group),
        .number = ++mg->txn_number,
    };
    list_push_back(&mg->running, &txn->link);
}

static int remote_lock_get(struct meta_txn *txn, struct slice key, void *value, uint32_t capacity)
{
    uint32_t group = key_group(key);
    if (!find_part(txn, group)) {
        assert(txn->part_count < META_PARTS_MAX);
        if (txn->part_count == 0)
            name_txn(txn);
        struct txn_part *part = &txn->parts[txn->part_count++];
        part->group = group;
        store_batch_init(&part->batch);
    }
    return peer_lock_get(txn->mg->service, &txn->id, key, value, capacity);
}

int txn_lock_get(struct meta_txn *txn, struct slice key, void *value, uint32_t capacity)
{
    assert(!txn->decided);
    if (key_group(key) != txn->mg->id)
        return remote_lock_get(txn, key, value, capacity);
    int result = meta_lock_take(&txn->locks, key, lock_deadline(txn));
    return result < 0 ? result : group_get(txn->mg->group, key, value, capacity, &txn->seen_seq);
}

int txn_get(struct meta_txn *txn, struct slice key, void *value, uint32_t capacity)
{
    assert(key_group(key) == txn->mg->id);
    return group_get(txn->mg->group, key, value, capacity, &txn->seen_seq);
}

static struct store_batch *batch_of(struct meta_txn *txn, struct slice key)
{
    assert(!txn->decided);
    if (key_group(key) == txn->mg->id)
        return &txn->batch;
    struct txn_part *part = find_part(txn, key_group(key));
    assert(part); /* T1 */
    return &part->batch;
}

void txn_put(struct meta_txn *txn, struct slice key, struct slice value)
{
    store_batch_put(batch_of(txn, key), key, value);
}

void txn_del(struct meta_txn *txn, struct slice key)
{
    store_batch_del(batch_of(txn, key), key);
}
