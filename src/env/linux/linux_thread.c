/* SPDX-License-Identifier: MIT */
/* Threads, one per reactor.
 *
 * What makes several reactors in a process safe is that nothing is shared between them:
 *
 * T1. Every variable with static storage in base/ and env/ is constant or _Thread_local: the
 *     current reactor, the heap that is charged, the pool of buffers and its arena, the log's level
 *     and sink. So memory is counted per thread, and a thread sets its own log level.
 * T2. What one thread allocates it frees itself (the block's header names the thread's heap). An
 *     argument to a thread stays the caller's, who keeps it until the thread has ended.
 * T3. A log line is one write to standard error under stdio's lock: lines do not mix.
 *
 * Nobody pins a thread to a core: the scheduler sees who sleeps better than we do. */
#include "env/linux.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

struct linux_thread {
    pthread_t thread;
    void (*fn)(void *arg);
    void *arg;
};

static void *thread_main(void *arg)
{
    const struct linux_thread *thread = arg;
    thread->fn(thread->arg);
    return NULL;
}

int linux_thread_start(const char *name, void (*fn)(void *arg), void *arg,
                       struct linux_thread **ret_thread)
{
    struct linux_thread *thread = mem_alloc(sizeof *thread);
    *thread = (struct linux_thread){.fn = fn, .arg = arg};
    int result = pthread_create(&thread->thread, NULL, thread_main, thread);
    if (result != 0) {
        mem_free(thread);
        return -result;
    }
    (void)pthread_setname_np(thread->thread, name); /* for people only */
    *ret_thread = thread;
    return 0;
}

void linux_thread_join(struct linux_thread *thread)
{
    int result = pthread_join(thread->thread, NULL);
    assert(result == 0);
    mem_free(thread);
}

uint32_t linux_core_count(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    assert(count >= 0);
    return count > 0 ? (uint32_t)count : 1;
}
