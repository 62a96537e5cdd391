/* SPDX-License-Identifier: MIT */
/* Waiting for the journal: who is told when a record is written or durable.
 *
 * Waiters are kept in order of LSN, so that a completion takes them from the front. Waiting also
 * is the demand that makes the journal write or flush at the end of the turn (journal.c).
 */
#include "store/store_internal.h"

#include "base/plant.h"

static void insert(struct list *waiters, struct store_waiter *waiter)
{
    struct list *before = waiters->prev;
    while (before != waiters && list_entry(before, struct store_waiter, link)->lsn > waiter->lsn)
        before = before->prev;
    list_add_between(&waiter->link, before, before->next);
}

static void complete(struct list *waiters, uint64_t lsn, int result)
{
    while (!list_empty(waiters)) {
        struct store_waiter *waiter = list_first(waiters, struct store_waiter, link);
        if (waiter->lsn > lsn)
            return;
        list_remove(&waiter->link);
        waiter->fn(waiter, result);
    }
}

void journal_wake(struct store *store)
{
    struct journal *journal = &store->journal;
    complete(&journal->written_waiters, journal->written_lsn, 0);
    complete(&journal->durable_waiters, journal->flushed_lsn, 0);
    if (store->fenced)
        journal_fail(store, -ERR_FENCED);
}

void journal_fail(struct store *store, int error)
{
    assert(error < 0);
    complete(&store->journal.written_waiters, UINT64_MAX, error);
    complete(&store->journal.durable_waiters, UINT64_MAX, error);
}

static void demand(struct store *store, struct list *waiters, struct store_waiter *waiter)
{
    struct journal *journal = &store->journal;
    assert(waiter->lsn < journal->next_lsn);
    insert(waiters, waiter);
    journal->written_goal = MAX(journal->written_goal, waiter->lsn);
    journal_kick(store);
}

void store_notify_written(struct store *store, struct store_waiter *waiter, uint64_t lsn)
{
    /* Even when it is written already, fn is not called from inside this call: the hook does. */
    waiter->lsn = lsn;
    demand(store, &store->journal.written_waiters, waiter);
}

struct fiber_waiter {
    struct store_waiter base;
    struct waitq queue;
    bool done;
    int result;
};

static void fiber_waiter_done(struct store_waiter *base, int result)
{
    struct fiber_waiter *waiter = container_of(base, struct fiber_waiter, base);
    waiter->done = true;
    waiter->result = result;
    waitq_wake_all(&waiter->queue);
}

static int wait_for(struct store *store, struct list *waiters, uint64_t lsn, uint64_t reached)
{
    if (lsn <= reached)
        return 0;
    if (store->fenced)
        return -ERR_FENCED;
    struct fiber_waiter waiter = {.base = {.lsn = lsn, .fn = fiber_waiter_done}};
    waitq_init(&waiter.queue);
    demand(store, waiters, &waiter.base);
    while (!waiter.done)
        (void)!waitq_wait(&waiter.queue, 0);
    return waiter.result;
}

int store_wait_written(struct store *store, uint64_t lsn)
{
    return wait_for(store, &store->journal.written_waiters, lsn, store->journal.written_lsn);
}

int store_wait_durable(struct store *store, uint64_t lsn)
{
    if (PLANT(STORE_FLUSH_SKIPPED))
        return store_wait_written(store, lsn);
    return wait_for(store, &store->journal.durable_waiters, lsn, store->journal.flushed_lsn);
}
