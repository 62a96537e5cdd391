/* SPDX-License-Identifier: MIT */
/* Fibers: stacks and the switch between them.
 *
 * Problem: code that waits is written top to bottom, so each activity needs a stack of its own that
 * costs a fraction of a microsecond to make and a few nanoseconds to switch to.
 *
 * Picture of one mapping, low addresses left:
 *
 *     [guard page][ stack, grows to the left <---- ][colour][struct fiber]
 *
 * The colour (0 to 3968 bytes, by creation order) keeps the hot tops of many stacks from falling
 * into the same cache sets. Stacks of finished fibers are pooled: their pages are warm.
 *
 * Fibers are resumed only by the scheduler (fiber_run), which runs on the stack that called
 * reactor_turn, and a fiber only ever switches back to the scheduler.
 *
 * I1. reactor->running is the fiber whose stack is in use, NULL on the scheduler's stack.
 * I2. A fiber's link is in exactly one list: run queue, next queue, one wait queue, pool; or in
 *     none while it runs or is suspended by an I/O that holds a pointer to it.
 * I3. A fiber that has finished is given to the pool by the scheduler, never by itself.
 *
 * Crash: reactor_drop forgets fibers without unwinding them (the simulator's node crash). */
#include <string.h>
#include <sys/mman.h>

#include "env/reactor_internal.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif
#if WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    GUARD_BYTES = 16 << 10, /* a frame of up to this size cannot jump over it */
    STACK_BYTES = WITH_ASAN ? 256 << 10 : FIBER_STACK_BYTES,
    MAPPING_BYTES = GUARD_BYTES + STACK_BYTES,
    COLOUR_BYTES = 128,
    COLOURS = 32,
    POOL_MAX = 4096,
    /* What fiber_switch pops: six registers and the control words. */
    FRAME_BYTES = 256,
};

static void *stack_bottom(const struct fiber *fiber)
{
    return (char *)fiber->mapping + GUARD_BYTES;
}

static __attribute__((unused)) size_t stack_bytes(const struct fiber *fiber)
{
    return (size_t)((const char *)fiber - (const char *)stack_bottom(fiber));
}

static struct fiber *fiber_map(uint32_t colour)
{
    char *mapping = mmap(NULL, MAPPING_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(mapping != MAP_FAILED);
    int guarded = mprotect(mapping, GUARD_BYTES, PROT_NONE);
    assert(guarded == 0);
#if WITH_ASAN
    /* The addresses may have been a fiber's before, whose poison outlives the mapping. */
    __asan_unpoison_memory_region(mapping + GUARD_BYTES, MAPPING_BYTES - GUARD_BYTES);
#endif
    size_t top = MAPPING_BYTES - round_up(sizeof(struct fiber), 64) - colour * COLOUR_BYTES;
    struct fiber *fiber = (struct fiber *)(void *)(mapping + top);
    assert((uintptr_t)fiber % 64 == 0);
    fiber->mapping = mapping;
    return fiber;
}

void fiber_unmap(struct fiber *fiber)
{
    int unmapped = munmap(fiber->mapping, MAPPING_BYTES);
    assert(unmapped == 0);
}

/* The first switch to a fiber pops one frame of zeroes and default control words. */
static void context_init(struct fiber *fiber)
{
    char *top = (char *)fiber - FRAME_BYTES;
    assert((uintptr_t)top % 16 == 0);
    memset(top, 0, FRAME_BYTES);
#if defined(__x86_64__)
    char *stack_pointer = top - 56; /* after the pops it is top, a multiple of 16 */
    uint32_t mxcsr = 0x1f80;
    uint16_t x87_control = 0x037f;
    memset(stack_pointer, 0, 56);
    memcpy(stack_pointer, &mxcsr, sizeof mxcsr);
    memcpy(stack_pointer + 4, &x87_control, sizeof x87_control);
#else
    char *stack_pointer = top - 176;
    memset(stack_pointer, 0, 176);
#endif
    fiber->context.stack_pointer = stack_pointer;
    fiber->context.resume_address = (void *)(uintptr_t)fiber_entry;
}

struct fiber *fiber_take(struct reactor *reactor)
{
    struct list *pooled = list_pop_front(&reactor->pool);
    struct fiber *fiber;
    if (pooled) {
        fiber = list_entry(pooled, struct fiber, link);
        reactor->pool_count--;
    } else {
        fiber = fiber_map(reactor->colour++ % COLOURS);
        list_init(&fiber->link);
    }
#if WITH_ASAN
    /* Frames of a dropped or finished fiber leave poison behind. */
    __asan_unpoison_memory_region(stack_bottom(fiber), stack_bytes(fiber));
#endif
    fiber->reactor = reactor;
    fiber->asan_fake_stack = NULL;
    fiber->wait_result = 0;
    fiber->dead = false;
    context_init(fiber);
    list_push_back(&reactor->fibers, &fiber->all_link);
    reactor->fiber_count++;
    return fiber;
}

void fiber_give(struct reactor *reactor, struct fiber *fiber)
{
    assert(fiber != reactor->running);
    assert(reactor->fiber_count > 0);
    list_remove(&fiber->all_link);
    reactor->fiber_count--;
    if (reactor->pool_count >= POOL_MAX) {
        fiber_unmap(fiber);
        return;
    }
    list_push_front(&reactor->pool, &fiber->link);
    reactor->pool_count++;
}

static void enter_begin(struct reactor *reactor, const struct fiber *fiber)
{
#if WITH_ASAN
    __sanitizer_start_switch_fiber(&reactor->asan_fake_stack, stack_bottom(fiber),
                                   stack_bytes(fiber));
#endif
}

static void enter_end(struct reactor *reactor)
{
#if WITH_ASAN
    __sanitizer_finish_switch_fiber(reactor->asan_fake_stack, NULL, NULL);
#endif
}

static void arrived_in_fiber(struct reactor *reactor, const struct fiber *fiber)
{
#if WITH_ASAN
    __sanitizer_finish_switch_fiber(fiber->asan_fake_stack, &reactor->asan_bottom,
                                    &reactor->asan_bytes);
#endif
}

static void leave_begin(struct reactor *reactor, struct fiber *fiber)
{
#if WITH_ASAN
    /* NULL: the fiber does not come back, its fake stack may go. */
    __sanitizer_start_switch_fiber(fiber->dead ? NULL : &fiber->asan_fake_stack,
                                   reactor->asan_bottom, reactor->asan_bytes);
#endif
}

void fiber_run(struct reactor *reactor, struct fiber *fiber)
{
    assert(!reactor->running && !fiber->dead);
    assert(reactor->no_yield_depth == 0);
    reactor->running = fiber;
    reactor->switches++;
    enter_begin(reactor, fiber);
    fiber_switch(&reactor->scheduler, &fiber->context);
    enter_end(reactor);
    reactor->running = NULL;
    if (fiber->dead)
        fiber_give(reactor, fiber);
}

may_yield void fiber_suspend(void)
{
    struct fiber *fiber = fiber_running();
    struct reactor *reactor = fiber->reactor;
    assert(reactor->no_yield_depth == 0);
    leave_begin(reactor, fiber);
    fiber_switch(&fiber->context, &reactor->scheduler);
    arrived_in_fiber(reactor, fiber);
}

void fiber_main(void)
{
    struct fiber *fiber = fiber_running();
    struct reactor *reactor = fiber->reactor;
    assert((uintptr_t)__builtin_frame_address(0) % 16 == 0);
    arrived_in_fiber(reactor, fiber);
    fiber->fn(fiber->arg);
    assert(reactor->running == fiber && reactor->no_yield_depth == 0);
    assert(!fiber->timer.heap_index);
    fiber->dead = true;
    leave_begin(reactor, fiber);
    fiber_switch(&fiber->context, &reactor->scheduler);
    WRONG("a finished fiber was resumed");
}
