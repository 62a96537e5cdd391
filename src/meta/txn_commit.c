/* SPDX-License-Identifier: MIT */
/* The end of a transaction: prepare, decide, finish (theory in txn.c). */
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"
#include "meta/peer.h"
#include "meta/txn.h"

enum { SETTLED_PER_RECORD = 32, FINISH_BACKOFF_MAX_MS = 2000 };

/* A decision that participants are being told. A fiber of its own does that. */
struct meta_decided {
    struct list link; /* in mg->settled, once all have answered */
    struct meta_group *mg;
    struct wire_txn_id id;
    uint64_t seq; /* of the decision; 0: applied long ago */
    bool commit;
    uint32_t group_count;
    uint32_t groups[META_PARTS_MAX];
};

static void write_inodes(struct meta_txn *txn)
{
    for (uint32_t i = 0; i < txn->inode_count; i++) {
        struct txn_inode *inode = &txn->inodes[i];
        if (!inode->dirty)
            continue;
        struct meta_key key;
        key_of_ino(&key, inode->group, META_TABLE_INODE, inode->ino);
        txn_put(txn, key_slice(&key), slice_of(&inode->row, sizeof inode->row));
        inode->dirty = false;
    }
}

static int prepare_parts(struct meta_txn *txn)
{
    for (uint32_t i = 0; i < txn->part_count; i++) {
        const struct txn_part *part = &txn->parts[i];
        struct slice changes = slice_of(part->batch.bytes, part->batch.used);
        int result = peer_prepare(txn->mg->service, part->group, &txn->id, changes);
        if (result < 0 && !PLANT(META_DECIDES_UNPREPARED))
            return result;
    }
    return 0;
}

/* Rows of decisions that everybody knows go with whatever is written next. */
static void remove_settled(struct meta_group *mg, struct store_batch *batch)
{
    for (uint32_t i = 0; i < SETTLED_PER_RECORD; i++) {
        struct list *link = list_pop_front(&mg->settled);
        if (!link)
            break;
        struct meta_decided *decided = list_entry(link, struct meta_decided, link);
        struct meta_key key;
        key_txn(&key, mg->id, META_TABLE_DECIDED, &decided->id);
        store_batch_del(batch, key_slice(&key));
        mg->settled_count--;
        mem_free(decided);
    }
}

static void settle(struct meta_decided *decided)
{
    struct meta_group *mg = decided->mg;
    if (mg->dead || !decided->commit) {
        mem_free(decided);
    } else {
        list_push_back(&mg->settled, &decided->link);
        if (++mg->settled_count > SETTLED_PER_RECORD) { /* nobody writes: do it now */
            struct store_batch batch;
            uint64_t seq;
            store_batch_init(&batch);
            remove_settled(mg, &batch);
            int result = meta_append(mg, &batch, &seq);
            store_batch_fini(&batch);
            if (result < 0)
                log_debug("meta-settled", "group=%u error=%s", mg->id, error_name(result));
        }
    }
    meta_group_put(mg);
}

/* Tell all; who was not reached stays in groups[]. The first error, or 0. */
static int finish_all(struct meta_decided *decided)
{
    uint32_t count = decided->group_count;
    int first = 0;
    decided->group_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t group = decided->groups[i];
        int result = peer_finish(decided->mg->service, group, &decided->id, decided->commit);
        if (result >= 0)
            continue;
        decided->groups[decided->group_count++] = group;
        first = first ? first : result;
    }
    return first;
}

static void finish_fiber(void *arg)
{
    struct meta_decided *decided = arg;
    struct meta_group *mg = decided->mg;
    uint64_t backoff_ms = 10;
    bool durable = !decided->commit;
    /* A decision is the next primary's to tell; an abort is ours, nobody else knows the locks. */
    while (!mg->dead || !decided->commit) {
        int result = 0;
        if (!durable) { /* T5 */
            result = meta_wait(mg, decided->seq);
            if (result == 0 && !PLANT(META_DECISION_UNFLUSHED))
                result = group_flush(mg->group);
            durable = result == 0;
        }
        if (result == 0)
            result = finish_all(decided);
        if (result == 0 || !decided->commit)
            break; /* who was not reached hears of an abort when it asks */
        fiber_sleep(backoff_ms * NS_PER_MS);
        backoff_ms = MIN(2 * backoff_ms, (uint64_t)FINISH_BACKOFF_MAX_MS);
    }
    settle(decided);
}

static void spawn_finish(struct meta_group *mg, const struct meta_decided *what)
{
    assert(what->group_count > 0);
    struct meta_decided *decided = mem_alloc(sizeof *decided);
    *decided = *what;
    decided->mg = meta_group_get(mg);
    list_init(&decided->link);
    fiber_spawn("meta-finish", finish_fiber, decided);
}

void txn_resume(struct meta_group *mg, const struct wire_txn_id *id, const uint32_t *groups,
                uint32_t group_count)
{
    assert(group_count <= META_PARTS_MAX);
    struct meta_decided decided = {.id = *id, .commit = true, .group_count = group_count};
    for (uint32_t i = 0; i < group_count; i++)
        decided.groups[i] = groups[i];
    spawn_finish(mg, &decided);
}

void txn_forget_settled(struct meta_group *mg)
{
    struct list *link;
    while ((link = list_pop_front(&mg->settled)))
        mem_free(list_entry(link, struct meta_decided, link));
    mg->settled_count = 0;
}

static void put_decided(struct meta_txn *txn, const struct meta_decided *decided)
{
    uint8_t value[sizeof(struct disk_decided) + sizeof decided->groups];
    struct disk_decided head = {.group_count = decided->group_count};
    size_t groups_bytes = decided->group_count * sizeof decided->groups[0];
    memcpy(value, &head, sizeof head);
    memcpy(value + sizeof head, decided->groups, groups_bytes);
    struct meta_key key;
    key_txn(&key, txn->mg->id, META_TABLE_DECIDED, &txn->id);
    store_batch_put(&txn->batch, key_slice(&key), slice_of(value, sizeof head + groups_bytes));
}

/* All participants, or those that have something to write. */
static void list_parts(const struct meta_txn *txn, bool only_writers, struct meta_decided *decided)
{
    for (uint32_t i = 0; i < txn->part_count; i++) {
        if (!only_writers || txn->parts[i].batch.count > 0)
            decided->groups[decided->group_count++] = txn->parts[i].group;
    }
}

int txn_commit(struct meta_txn *txn)
{
    struct meta_group *mg = txn->mg;
    struct meta_decided writers = {.id = txn->id, .commit = true};
    uint64_t seq;
    assert(!txn->decided);
    write_inodes(txn);
    int result = prepare_parts(txn);
    if (result < 0)
        return result;
    list_parts(txn, true, &writers);
    if (writers.group_count > 0)
        put_decided(txn, &writers);
    if (mg->settled_count > 0)
        remove_settled(mg, &txn->batch);
    result = meta_append(mg, &txn->batch, &seq);
    if (result < 0)
        return result;
    assert(seq > txn->seen_seq);
    txn->seen_seq = seq;
    txn->decided = true;
    if (txn->part_count > 0) { /* readers, too, so that they unlock */
        struct meta_decided all = {.id = txn->id, .commit = true, .seq = seq};
        list_parts(txn, false, &all);
        spawn_finish(mg, &all);
    }
    return 0;
}

void txn_end(struct meta_txn *txn)
{
    list_remove(&txn->link);
    meta_locks_release(&txn->locks);
    if (txn->part_count > 0 && !txn->decided) {
        struct meta_decided aborted = {.id = txn->id};
        list_parts(txn, false, &aborted);
        spawn_finish(txn->mg, &aborted);
    }
    for (uint32_t i = 0; i < txn->part_count; i++)
        store_batch_fini(&txn->parts[i].batch);
    store_batch_fini(&txn->batch);
}

int txn_outcome(struct meta_group *mg, const struct wire_txn_id *id, uint32_t *ret_outcome)
{
    const struct meta_txn *txn;
    list_for_each (txn, &mg->running, link) {
        if (!txn->decided && txn->id.number == id->number && txn->id.epoch == id->epoch) {
            *ret_outcome = 2;
            return 0;
        }
    }
    struct meta_key key;
    uint8_t value[sizeof(struct disk_decided) + META_PARTS_MAX * sizeof(uint32_t)];
    uint64_t seen_seq = 0;
    key_txn(&key, mg->id, META_TABLE_DECIDED, id);
    int found = group_get(mg->group, key_slice(&key), value, sizeof value, &seen_seq);
    if (found < 0 && found != -ENOENT)
        return found;
    int result = meta_wait(mg, seen_seq);
    if (result == 0 && found >= 0)
        result = group_flush(mg->group); /* T5: before anybody acts on it */
    if (result == 0)
        *ret_outcome = found >= 0 || PLANT(META_PRESUMES_COMMIT);
    return result;
}
