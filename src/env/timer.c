/* SPDX-License-Identifier: MIT */
/* Timers: a 4-ary min-heap of pointers, ordered by deadline; each timer knows its index, so that
 * cancelling costs no search. Index 0 means not armed, hence the root is at 1.
 *
 * I1. heap[i]->heap_index == i.  I2. No child is due before its parent. */
#include "env/reactor_internal.h"

enum { ARITY = 4, ROOM_FIRST = 64 };

static uint32_t parent_of(uint32_t index)
{
    return (index - 2) / ARITY + 1;
}

static uint32_t first_child_of(uint32_t index)
{
    return (index - 1) * ARITY + 2;
}

static void place(struct reactor *reactor, struct timer *timer, uint32_t index)
{
    reactor->timers[index] = timer;
    timer->heap_index = index;
}

static void sift_up(struct reactor *reactor, struct timer *timer, uint32_t index)
{
    while (index > 1) {
        uint32_t parent = parent_of(index);
        if (reactor->timers[parent]->deadline_ns <= timer->deadline_ns)
            break;
        place(reactor, reactor->timers[parent], index);
        index = parent;
    }
    place(reactor, timer, index);
}

static void sift_down(struct reactor *reactor, struct timer *timer, uint32_t index)
{
    for (;;) {
        uint32_t child = first_child_of(index);
        if (child > reactor->timer_count)
            break;
        uint32_t end = MIN(child + ARITY, reactor->timer_count + 1);
        uint32_t first = child;
        for (uint32_t i = child + 1; i < end; i++) {
            if (reactor->timers[i]->deadline_ns < reactor->timers[first]->deadline_ns)
                first = i;
        }
        if (reactor->timers[first]->deadline_ns >= timer->deadline_ns)
            break;
        place(reactor, reactor->timers[first], index);
        index = first;
    }
    place(reactor, timer, index);
}

static void heap_remove(struct reactor *reactor, struct timer *timer)
{
    uint32_t index = timer->heap_index;
    assert(index >= 1 && index <= reactor->timer_count);
    assert(reactor->timers[index] == timer);
    struct timer *last = reactor->timers[reactor->timer_count--];
    timer->heap_index = 0;
    if (last == timer)
        return;
    if (index > 1 && reactor->timers[parent_of(index)]->deadline_ns > last->deadline_ns)
        sift_up(reactor, last, index);
    else
        sift_down(reactor, last, index);
}

void timer_init(struct timer *timer, void (*fn)(struct timer *timer))
{
    timer->deadline_ns = 0;
    timer->heap_index = 0;
    timer->fn = fn;
}

void timer_arm(struct timer *timer, uint64_t deadline_ns)
{
    struct reactor *reactor = reactor_self();
    assert(timer->fn);
    if (timer->heap_index)
        heap_remove(reactor, timer);
    timer->deadline_ns = deadline_ns;
    if (deadline_ns == 0) /* never */
        return;
    if (reactor->timer_count + 1 >= reactor->timer_room) {
        reactor->timer_room = reactor->timer_room ? reactor->timer_room * 2 : ROOM_FIRST;
        reactor->timers =
            mem_realloc(reactor->timers, reactor->timer_room * sizeof(struct timer *));
    }
    sift_up(reactor, timer, ++reactor->timer_count);
}

void timer_cancel(struct timer *timer)
{
    if (timer->heap_index)
        heap_remove(reactor_self(), timer);
}

uint64_t reactor_next_deadline(const struct reactor *reactor)
{
    return reactor->timer_count ? reactor->timers[1]->deadline_ns : 0;
}

/* Timers armed by the callbacks for a time already past run in the next turn at the latest. */
void timer_heap_fire(struct reactor *reactor, uint64_t now_ns)
{
    uint32_t budget = reactor->timer_count;
    while (budget-- > 0 && reactor->timer_count > 0 && reactor->timers[1]->deadline_ns <= now_ns) {
        struct timer *timer = reactor->timers[1];
        heap_remove(reactor, timer);
        timer->fn(timer);
    }
}
