/* SPDX-License-Identifier: MIT */
/* Threads of a server.
 *
 * Problem. One process, several reactors that share nothing; they start together, end together, and
 * somebody has to know how each of them fared.
 *
 * Picture. The main thread runs target 0 and one watching fiber per other thread. Between the two
 * is a socket pair, and nothing else:
 *
 *     thread --> main   the result of its start, then the result of its stop (struct report)
 *     main --> thread   one byte: stop
 *
 * Invariants.
 *  A1 A thread writes nothing that another thread reads. Its options are written before it starts
 *     and stay until the process ends.
 *  A2 A thread that ends without having been told to ends the process: the cluster must not believe
 *     in a node half of which is gone. (If the main thread ends, the process has ended.)
 *
 * Not here: what a fenced target does (claudefsd.c): it ends or renews the whole process. */
#include "cmd/targets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/program_log.h"
#include "env/linux.h"

enum report_kind { REPORT_STARTED = 1, REPORT_STOPPED = 2 };

struct report_line {
    int kind;
    int result;
};

struct target {
    struct targets *targets;
    struct node_options options;
    int main_fd; /* of the socket pair: the main thread's end */
    int own_fd;  /* the target's */
    /* main thread only */
    struct linux_thread *thread;
    bool started;
    bool stopped;
};

struct targets {
    struct target *list;
    uint32_t count;
    bool stopping;
    int result; /* the first error */
    struct waitq news;
};

/* ---- on the target's thread ----------------------------------------------------------------- */

struct run {
    const struct target *target;
    struct reactor *reactor;
};

static void report(const struct target *target, int kind, int result)
{
    struct report_line line = {kind, result};
    ssize_t put = send(target->own_fd, &line, sizeof line, MSG_NOSIGNAL);
    if (put != sizeof line) /* nobody listens any more */
        _exit(EX_SOFTWARE);
}

static void target_fiber(void *arg)
{
    struct run *run = arg;
    const struct target *target = run->target;
    struct node *node;
    char order;
    int result = node_start(&target->options, &node);
    report(target, REPORT_STARTED, result);
    if (result == 0) {
        (void)linux_fd_read(target->own_fd, &order, sizeof order); /* whatever comes: the end */
        report(target, REPORT_STOPPED, node_stop(node));
    }
    linux_reactor_stop(run->reactor);
}

static void target_main(void *arg)
{
    struct run run = {.target = arg};
    program_log_start();
    int result = linux_reactor_new(&run.reactor);
    if (result < 0) {
        report(run.target, REPORT_STARTED, result);
        return;
    }
    reactor_spawn(run.reactor, "target", target_fiber, &run);
    result = linux_reactor_run(run.reactor);
    if (result < 0)
        log_error("target-run", "slice=%u error=%s effect=\"this node stops\"",
                  run.target->options.slice.index, error_name(result));
    close(run.target->own_fd); /* A2 */
}

/* ---- on the main thread --------------------------------------------------------------------- */

static void watch_fiber(void *arg)
{
    struct target *target = arg;
    struct targets *targets = target->targets;
    struct report_line line;
    while (linux_fd_read(target->main_fd, &line, sizeof line) == sizeof line) {
        target->started |= line.kind == REPORT_STARTED;
        target->stopped |= line.kind == REPORT_STOPPED;
        if (line.result < 0 && targets->result == 0)
            targets->result = line.result;
        waitq_wake_all(&targets->news);
    }
    if (target->started && !target->stopped && targets->result == 0) {
        log_error("target-lost", "slice=%u effect=\"this node stops\"",
                  target->options.slice.index);
        _exit(EX_SOFTWARE); /* A2 */
    }
}

static int target_start(struct target *target)
{
    int ends[2];
    char name[16];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    target->main_fd = ends[0];
    target->own_fd = ends[1];
    snprintf(name, sizeof name, "reactor %u", target->options.slice.index);
    int result = linux_thread_start(name, target_main, target, &target->thread);
    if (result == 0)
        fiber_spawn("target-watch", watch_fiber, target);
    return result;
}

int targets_start(const struct node_options *first, struct targets **ret_targets)
{
    uint32_t count = MAX(first->slice.count, 1u) - 1;
    struct targets *targets = mem_zalloc(sizeof *targets);
    assert(first->slice.index == 0 && count < TARGETS_MAX);
    targets->list = mem_zalloc((count + 1) * sizeof *targets->list);
    targets->count = count;
    waitq_init(&targets->news);
    for (uint32_t i = 0; i < count; i++) {
        struct target *target = &targets->list[i];
        target->targets = targets;
        target->options = *first;
        target->options.slice.index = i + 1;
        int result = target_start(target);
        if (result < 0)
            return result; /* the process ends: nothing is unwound */
    }
    *ret_targets = targets;
    return 0;
}

int targets_wait_started(struct targets *targets)
{
    for (uint32_t i = 0; i < targets->count; i++) {
        while (!targets->list[i].started && targets->result == 0)
            (void)waitq_wait(&targets->news, 0); /* a start has its own deadlines */
    }
    return targets->result;
}

int targets_stop(struct targets *targets)
{
    assert(!targets->stopping);
    targets->stopping = true;
    for (uint32_t i = 0; i < targets->count; i++) {
        if (send(targets->list[i].main_fd, "s", 1, MSG_NOSIGNAL) != 1)
            return -errno;
    }
    for (uint32_t i = 0; i < targets->count; i++) {
        while (!targets->list[i].stopped)
            (void)waitq_wait(&targets->news, 0); /* closing a store ends, one way or another */
        linux_thread_join(targets->list[i].thread);
    }
    return targets->result;
}
