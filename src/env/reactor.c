/* SPDX-License-Identifier: MIT */
/* The scheduler: one thread, one run queue, one timer heap.
 *
 * Problem: everything of a node happens on one thread; what is ready runs to its next wait, and
 * what a turn gathered (messages, disk requests) leaves together.
 *
 * Picture of a turn, and the function performing each part:
 *
 *     completions -> timers -> runnable fibers -> turn hooks -> submit and sleep
 *     (backend)      timer_heap_fire  run_fibers   run_hooks     (backend)
 *
 * I1. A fiber made runnable by a completion, timer or fiber runs in the same turn; one that yields
 *     runs in the next. At most TURN_RUNS_MAX fibers run in a turn, so that I/O is not starved.
 * I2. Hooks run after the fibers; what hooks schedule runs in the same pass, as long as it ends.
 * I3. The reactor and its heap are current (thread-local) while anything of it runs; that pair is
 *     the only global state of env.
 *
 * Not here: fiber stacks (fiber.c), timers (timer.c), sleeping in the kernel (linux/), virtual time
 * (sim/). */
#include "env/reactor_internal.h"

enum { TURN_RUNS_MAX = 1024 };

static _Thread_local struct reactor *current;

struct reactor *reactor_current(void)
{
    return current;
}

struct reactor *reactor_self(void)
{
    assert(current);
    return current;
}

struct reactor_scope reactor_enter(struct reactor *reactor)
{
    struct reactor_scope before = {current, mem_heap_set(reactor->heap)};
    current = reactor;
    return before;
}

void reactor_leave(struct reactor_scope before)
{
    assert(current);
    current = before.reactor;
    (void)mem_heap_set(before.heap); /* the reactor's own, known */
}

void reactor_init(struct reactor *reactor, const struct env_backend *backend, struct mem_heap *heap)
{
    *reactor = (struct reactor){.backend = backend, .heap = heap};
    list_init(&reactor->run_queue);
    list_init(&reactor->next_queue);
    list_init(&reactor->hooks);
    list_init(&reactor->fibers);
    list_init(&reactor->pool);
}

void reactor_drop(struct reactor *reactor)
{
    assert(!reactor->running);
    struct list *link;
    while ((link = list_pop_front(&reactor->fibers)) != NULL) {
        struct fiber *fiber = list_entry(link, struct fiber, all_link);
        list_init(&fiber->link); /* its neighbours are gone as well */
        fiber_give(reactor, fiber);
    }
    list_init(&reactor->run_queue);
    list_init(&reactor->next_queue);
    list_init(&reactor->hooks);
    reactor->timers = NULL; /* was in the reactor's heap */
    reactor->timer_count = 0;
    reactor->timer_room = 0;
    reactor->no_yield_depth = 0;
    assert(reactor->fiber_count == 0);
}

void reactor_fini(struct reactor *reactor)
{
    assert(reactor->fiber_count == 0 && !reactor->running);
    struct list *link;
    while ((link = list_pop_front(&reactor->pool)) != NULL)
        fiber_unmap(list_entry(link, struct fiber, link));
    reactor->pool_count = 0;
    mem_free(reactor->timers);
    reactor->timers = NULL;
}

/* ---- turns -------------------------------------------------------------------------------- */

static void run_fibers(struct reactor *reactor)
{
    struct list *link;
    uint32_t runs = 0;
    while (runs++ < TURN_RUNS_MAX && (link = list_pop_front(&reactor->run_queue)) != NULL)
        fiber_run(reactor, list_entry(link, struct fiber, link));
}

static void run_hooks(struct reactor *reactor)
{
    struct list *link;
    while ((link = list_pop_front(&reactor->hooks)) != NULL) {
        struct turn_hook *hook = list_entry(link, struct turn_hook, link);
        hook->fn(hook);
    }
}

static void splice_back(struct list *head, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = head->prev;
    head->prev->next = from->next;
    from->prev->next = head;
    head->prev = from->prev;
    list_init(from);
}

void reactor_turn(struct reactor *reactor)
{
    assert(current == reactor && !reactor->running);
    splice_back(&reactor->run_queue, &reactor->next_queue);
    if (reactor->timer_count)
        timer_heap_fire(reactor, reactor->backend->now_ns(reactor));
    run_fibers(reactor);
    run_hooks(reactor);
    assert(reactor->no_yield_depth == 0);
}

bool reactor_runnable(const struct reactor *reactor)
{
    return !list_empty(&reactor->run_queue) || !list_empty(&reactor->next_queue) ||
           !list_empty(&reactor->hooks);
}

/* ---- clock -------------------------------------------------------------------------------- */

uint64_t env_now_ns(void)
{
    struct reactor *reactor = reactor_self();
    return reactor->backend->now_ns(reactor);
}

uint64_t env_wall_ns(void)
{
    struct reactor *reactor = reactor_self();
    return reactor->backend->wall_ns(reactor);
}

uint64_t env_entropy_u64(void)
{
    struct reactor *reactor = reactor_self();
    return reactor->backend->entropy(reactor);
}

uint32_t env_pid(void)
{
    struct reactor *reactor = reactor_self();
    return reactor->backend->pid(reactor);
}

/* ---- fibers ------------------------------------------------------------------------------- */

struct fiber *fiber_running(void)
{
    struct fiber *fiber = reactor_self()->running;
    assert(fiber);
    return fiber;
}

static void wait_expired(struct timer *timer)
{
    struct fiber *fiber = list_entry(timer, struct fiber, timer);
    list_remove(&fiber->link);
    fiber->wait_result = -ERR_TIMED_OUT;
    list_push_back(&fiber->reactor->run_queue, &fiber->link);
}

static void spawn(struct reactor *reactor, const char *name, fiber_fn fn, void *arg)
{
    struct fiber *fiber = fiber_take(reactor);
    assert(fn && name);
    fiber->name = name;
    fiber->fn = fn;
    fiber->arg = arg;
    timer_init(&fiber->timer, wait_expired);
    list_push_back(&reactor->run_queue, &fiber->link);
}

void fiber_spawn(const char *name, fiber_fn fn, void *arg)
{
    spawn(reactor_self(), name, fn, arg);
}

void reactor_spawn(struct reactor *reactor, const char *name, fiber_fn fn, void *arg)
{
    spawn(reactor, name, fn, arg);
    reactor->backend->kick(reactor);
}

const char *fiber_name(void)
{
    return fiber_running()->name;
}

void fiber_resume(struct fiber *fiber)
{
    assert(fiber != fiber->reactor->running && !fiber->dead);
    if (fiber->timer.heap_index)
        timer_cancel(&fiber->timer);
    list_remove(&fiber->link);
    list_push_back(&fiber->reactor->run_queue, &fiber->link);
}

may_yield void fiber_yield(void)
{
    struct fiber *fiber = fiber_running();
    list_push_back(&fiber->reactor->next_queue, &fiber->link);
    fiber_suspend();
}

may_yield void fiber_sleep(uint64_t duration_ns)
{
    fiber_sleep_until(env_now_ns() + duration_ns);
}

may_yield void fiber_sleep_until(uint64_t deadline_ns)
{
    struct fiber *fiber = fiber_running();
    timer_arm(&fiber->timer, deadline_ns);
    fiber_suspend();
}

void no_yield_begin(void)
{
    reactor_self()->no_yield_depth++;
}

void no_yield_end(void)
{
    struct reactor *reactor = reactor_self();
    assert(reactor->no_yield_depth > 0);
    reactor->no_yield_depth--;
}

/* ---- wait queues and mutex ---------------------------------------------------------------- */

void waitq_init(struct waitq *queue)
{
    list_init(&queue->waiters);
}

may_yield int waitq_wait(struct waitq *queue, uint64_t deadline_ns)
{
    struct fiber *fiber = fiber_running();
    fiber->wait_result = 0;
    list_push_back(&queue->waiters, &fiber->link);
    if (deadline_ns)
        timer_arm(&fiber->timer, deadline_ns);
    fiber_suspend();
    return fiber->wait_result;
}

void waitq_wake_one(struct waitq *queue)
{
    if (!list_empty(&queue->waiters))
        fiber_resume(list_first(&queue->waiters, struct fiber, link));
}

void waitq_wake_all(struct waitq *queue)
{
    while (!list_empty(&queue->waiters))
        fiber_resume(list_first(&queue->waiters, struct fiber, link));
}

bool waitq_empty(const struct waitq *queue)
{
    return list_empty(&queue->waiters);
}

void fiber_mutex_init(struct fiber_mutex *mutex)
{
    waitq_init(&mutex->waiters);
    mutex->owner = NULL;
}

bool fiber_mutex_try(struct fiber_mutex *mutex)
{
    if (mutex->owner)
        return false;
    mutex->owner = fiber_running();
    return true;
}

may_yield void fiber_mutex_lock(struct fiber_mutex *mutex)
{
    struct fiber *fiber = fiber_running();
    assert(mutex->owner != fiber);
    if (fiber_mutex_try(mutex))
        return;
    /* The unlocking fiber hands the mutex over, so nobody can overtake the queue. */
    while (mutex->owner != fiber)
        (void)waitq_wait(&mutex->waiters, 0); /* no deadline: cannot time out */
}

void fiber_mutex_unlock(struct fiber_mutex *mutex)
{
    assert(mutex->owner == fiber_running());
    mutex->owner = NULL;
    if (waitq_empty(&mutex->waiters))
        return;
    mutex->owner = list_first(&mutex->waiters.waiters, struct fiber, link);
    waitq_wake_one(&mutex->waiters);
}

/* ---- turn hooks --------------------------------------------------------------------------- */

void turn_hook_init(struct turn_hook *hook, void (*fn)(struct turn_hook *hook))
{
    list_init(&hook->link);
    hook->fn = fn;
}

void turn_hook_schedule(struct turn_hook *hook)
{
    struct reactor *reactor = reactor_self();
    if (!list_empty(&hook->link))
        return;
    list_push_back(&reactor->hooks, &hook->link);
}
