/* SPDX-License-Identifier: MIT */
/* Locks (see txn.c for what they are for).
 *
 * A lock exists in the table while it is held. Waiters stand in one of a few queues, chosen by the
 * key's hash, and look again when any lock of that queue was released. */
#include "meta/lock.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/plant.h"

struct meta_lock {
    struct htable_node node;
    struct list link;
    struct meta_locks *owner;
    uint32_t key_bytes;
    uint8_t key[];
};

static uint64_t hash_of(struct slice key)
{
    return hash_bytes(key.data, key.bytes, 0);
}

static struct waitq *queue_of(struct meta_group *mg, uint64_t hash)
{
    return &mg->lock_queues[hash % META_LOCK_QUEUES];
}

static struct meta_lock *find(const struct meta_group *mg, struct slice key, uint64_t hash)
{
    struct htable_node *node;
    for (node = htable_first(&mg->locks, hash); node; node = htable_next(node)) {
        struct meta_lock *lock = container_of(node, struct meta_lock, node);
        if (slice_equal(slice_of(lock->key, lock->key_bytes), key))
            return lock;
    }
    return NULL;
}

void meta_locks_init(struct meta_locks *locks, struct meta_group *mg)
{
    locks->mg = mg;
    list_init(&locks->held);
    locks->prepared = false;
}

static void insert(struct meta_locks *locks, struct slice key, uint64_t hash)
{
    struct meta_lock *lock = mem_alloc(sizeof *lock + key.bytes);
    lock->owner = locks;
    lock->key_bytes = key.bytes;
    memcpy(lock->key, key.data, key.bytes);
    list_push_back(&locks->held, &lock->link);
    htable_insert(&locks->mg->locks, &lock->node, hash);
}

int meta_lock_take(struct meta_locks *locks, struct slice key, uint64_t deadline_ns)
{
    struct meta_group *mg = locks->mg;
    uint64_t hash = hash_of(key);
    assert(!locks->prepared && key_group(key) == mg->id);
    for (;;) {
        if (mg->dead)
            return -ERR_NOT_PRIMARY;
        const struct meta_lock *lock = PLANT(META_LOCK_IGNORED) ? NULL : find(mg, key, hash);
        if (!lock) {
            insert(locks, key, hash);
            return 0;
        }
        if (lock->owner == locks)
            return 0;
        if (waitq_wait(queue_of(mg, hash), deadline_ns) < 0 && !mg->dead)
            return -ERR_TXN_ABORTED;
    }
}

bool meta_lock_held(const struct meta_locks *locks, struct slice key)
{
    const struct meta_lock *lock = find(locks->mg, key, hash_of(key));
    return lock && lock->owner == locks;
}

void meta_locks_prepared(struct meta_locks *locks)
{
    assert(!locks->prepared && !list_empty(&locks->held));
    locks->prepared = true;
    locks->mg->prepared_count++;
}

void meta_locks_release(struct meta_locks *locks)
{
    struct meta_group *mg = locks->mg;
    struct list *link;
    while ((link = list_pop_front(&locks->held))) {
        struct meta_lock *lock = list_entry(link, struct meta_lock, link);
        struct waitq *queue = queue_of(mg, lock->node.hash);
        assert(lock->owner == locks);
        htable_remove(&mg->locks, &lock->node);
        mem_free(lock);
        waitq_wake_all(queue);
    }
    if (locks->prepared) {
        assert(mg->prepared_count > 0);
        mg->prepared_count--;
        locks->prepared = false;
    }
}

int meta_lock_wait(struct meta_group *mg, struct slice key, bool any, uint64_t deadline_ns)
{
    if (mg->prepared_count == 0 && !any)
        return mg->dead ? -ERR_NOT_PRIMARY : 0;
    uint64_t hash = hash_of(key);
    for (;;) {
        if (mg->dead)
            return -ERR_NOT_PRIMARY;
        const struct meta_lock *lock = find(mg, key, hash);
        if (!lock || (!any && !lock->owner->prepared))
            return 0;
        if (waitq_wait(queue_of(mg, hash), deadline_ns) < 0 && !mg->dead)
            return -ERR_BUSY;
    }
}

void meta_lock_wake_all(struct meta_group *mg)
{
    assert(mg->dead);
    for (uint32_t i = 0; i < META_LOCK_QUEUES; i++)
        waitq_wake_all(&mg->lock_queues[i]);
}
