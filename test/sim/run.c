/* SPDX-License-Identifier: MIT */
#include "run.h"

#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"

enum {
    SECONDS_MAX = 120, /* of CPU, for one run */
    SHIFT_BYTES = 40961,
    SHRINK_RUNS_MAX = 60
};

static _Noreturn void child(const struct scenario *scenario, uint32_t flags, int pipe_fd)
{
    struct world_result result;
    const struct rlimit limit = {SECONDS_MAX, SECONDS_MAX};
    (void)setrlimit(RLIMIT_CPU, &limit);
    (void)mallopt(M_MMAP_MAX, 0); /* what is freed is used again: the kernel need not clear it */
    (void)mallopt(M_TRIM_THRESHOLD, INT_MAX);
    if ((flags & RUN_SILENT) &&
        (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)))
        _exit(2);
    void *volatile shift = flags & RUN_SHIFTED ? malloc(SHIFT_BYTES) : NULL; /* never freed */
    (void)shift;
    world_run(scenario, flags & RUN_TRACE, &result);
    fflush(stdout);
    ssize_t written = write(pipe_fd, &result, sizeof result);
    _exit(written == sizeof result ? 0 : 2);
}

static double cpu_seconds(const struct rusage *used)
{
    return (double)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) +
           (double)(used->ru_utime.tv_usec + used->ru_stime.tv_usec) / 1e6;
}

double run_scenario(const struct scenario *scenario, uint32_t flags,
                    struct world_result *ret_result)
{
    struct world_result result;
    struct rusage used;
    int fds[2], status = 0;
    fflush(stdout);
    int error = pipe(fds);
    assert(error == 0);
    pid_t pid = fork();
    assert(pid >= 0);
    if (pid == 0)
        child(scenario, flags, fds[1]);
    close(fds[1]);
    ssize_t got = read(fds[0], &result, sizeof result);
    close(fds[0]);
    (void)wait4(pid, &status, 0, &used);
    *ret_result = got == sizeof result ? result : (struct world_result){.failed = true};
    if (got == sizeof result || (flags & RUN_SILENT))
        return cpu_seconds(&used);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
        printf("no end after %u s of CPU\n", SECONDS_MAX);
    else if (WIFSIGNALED(status))
        printf("the process died of signal %d\n", WTERMSIG(status));
    else
        printf("the process ended with status %d\n", WEXITSTATUS(status));
    return cpu_seconds(&used);
}

/* ---- shrinking ----------------------------------------------------------------------------- */

struct shrink {
    struct scenario *scenario; /* fails */
    uint32_t runs;
};

/* Does it fail, too? Then it is the new one. */
static bool take(struct shrink *shrink, const struct scenario *smaller)
{
    struct world_result result;
    if (shrink->runs++ >= SHRINK_RUNS_MAX)
        return false;
    (void)run_scenario(smaller, RUN_SILENT, &result);
    if (result.failed)
        *shrink->scenario = *smaller;
    return result.failed;
}

static bool shrink_bits(struct shrink *shrink)
{
    bool smaller = false;
    for (uint32_t i = 0; i < 32; i++) {
        struct scenario less = *shrink->scenario;
        less.faults &= ~(1u << i);
        if (less.faults != shrink->scenario->faults)
            smaller |= take(shrink, &less);
        less = *shrink->scenario;
        less.loads &= ~(1u << i);
        if (less.loads != shrink->scenario->loads && less.loads)
            smaller |= take(shrink, &less);
    }
    return smaller;
}

static bool shrink_counts(struct shrink *shrink)
{
    bool smaller = false;
    struct scenario less = *shrink->scenario;
    less.episodes--;
    if (shrink->scenario->episodes > 0)
        smaller |= take(shrink, &less);
    less = *shrink->scenario;
    less.clients--;
    if (less.clients > 0)
        smaller |= take(shrink, &less);
    less = *shrink->scenario;
    less.ops /= 2;
    if (less.ops > 0)
        smaller |= take(shrink, &less);
    return smaller;
}

void run_shrink(struct scenario *scenario)
{
    struct shrink shrink = {.scenario = scenario};
    bool smaller = true;
    while (smaller && shrink.runs < SHRINK_RUNS_MAX) {
        smaller = shrink_counts(&shrink);
        smaller |= shrink_bits(&shrink);
    }
}
