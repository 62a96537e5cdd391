/* SPDX-License-Identifier: MIT */
/* Exclusive ranges of a file's blocks, within one group.
 *
 * One queue per inode, in order of arrival, of locks held and locks awaited. A lock is granted once
 * no earlier one in the queue overlaps it; so there is no starvation, overlapping changes happen in
 * the order of their arrival, and disjoint ones do not meet. Queues are as long as a file has
 * changes in flight in one group, which the number of requests in flight bounds. */
#include "data/data_internal.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/plant.h"

struct data_lock_queue {
    struct htable_node node; /* data_group.locks */
    uint64_t ino;
    struct list locks;
};

static struct data_lock_queue *queue_of(struct data_group *dg, uint64_t ino)
{
    uint64_t hash = hash_u64(ino);
    struct htable_node *node;
    for (node = htable_first(&dg->locks, hash); node; node = htable_next(node)) {
        struct data_lock_queue *queue = container_of(node, struct data_lock_queue, node);
        if (queue->ino == ino)
            return queue;
    }
    struct data_lock_queue *queue = mem_zalloc(sizeof *queue);
    queue->ino = ino;
    list_init(&queue->locks);
    htable_insert(&dg->locks, &queue->node, hash);
    return queue;
}

/* Does no earlier lock of the queue overlap it? */
static bool is_clear(const struct data_lock *lock)
{
    const struct data_lock *earlier;
    list_for_each (earlier, &lock->queue->locks, link) {
        if (earlier == lock)
            return true;
        if (earlier->first < lock->end && lock->first < earlier->end && !PLANT(DATA_LOCK_IGNORED))
            return false;
    }
    WRONG("a lock is in its own queue");
}

void data_lock_take(struct data_group *dg, struct data_lock *lock, uint64_t ino, uint64_t first,
                    uint64_t end)
{
    assert(first < end);
    lock->queue = queue_of(dg, ino);
    lock->first = first;
    lock->end = end;
    waitq_init(&lock->wait);
    list_init(&lock->link);
    list_push_back(&lock->queue->locks, &lock->link);
    lock->granted = is_clear(lock);
    while (!lock->granted)
        (void)waitq_wait(&lock->wait, 0); /* whoever holds it gives it back: no deadline */
}

void data_lock_give(struct data_group *dg, struct data_lock *lock)
{
    struct data_lock_queue *queue = lock->queue;
    assert(lock->granted);
    assert(waitq_empty(&lock->wait));
    list_remove(&lock->link);
    if (list_empty(&queue->locks)) {
        htable_remove(&dg->locks, &queue->node);
        mem_free(queue);
        return;
    }
    struct data_lock *other;
    list_for_each (other, &queue->locks, link) {
        if (!other->granted && other->first < lock->end && lock->first < other->end &&
            is_clear(other)) {
            other->granted = true;
            waitq_wake_one(&other->wait);
        }
    }
}
