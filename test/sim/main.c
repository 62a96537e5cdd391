/* SPDX-License-Identifier: MIT */
/* claudefs_sim: whole clusters with clients and damage, seed by seed (`./dev sim`).
 *
 * Each seed runs in a process of its own: an assertion that fails, or a loop that never ends, is a
 * failed seed, not the end of the search. With --twice each seed runs again in a process whose heap
 * lies elsewhere; the hashes over all that happened must be equal. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "world.h"

enum {
    SECONDS_MAX = 120, /* of CPU, for one seed */
    SHIFT_BYTES = 40961
};

struct arguments {
    uint64_t seed;
    uint64_t seeds;   /* 0: until the minutes are over */
    double minutes;   /* 0: no limit */
    const char *kept; /* file of seeds */
    bool seed_given;
    bool twice;
    bool trace;
    bool quiet;
};

struct totals {
    uint64_t seeds;
    uint64_t failed;
    uint64_t ops;
    uint64_t undecided;
    double virtual_s;
    double cpu_s;
};

static const char usage[] =
    "usage: claudefs_sim [--seed S] [--seeds N] [--minutes M] [--twice] [--trace] [--quiet]\n"
    "\n"
    "Runs seeds S, S+1, ... (default: one, chosen by the clock), each a cluster with clients and\n"
    "damage in virtual time. Exit status 1 if one failed; last line: N seeds, N failed.\n"
    "  --seeds N     how many\n"
    "  --minutes M   stop starting new ones after M minutes (alone: as many as fit)\n"
    "  --kept FILE   the seeds that stand at the beginning of the lines of a file\n"
    "  --twice       run each seed twice; both runs must be the same, event by event\n"
    "  --trace       print what happens, with virtual times\n"
    "  --quiet       print failures and totals only\n";

static double now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- one seed ----------------------------------------------------------------------------- */

static _Noreturn void child(const struct scenario *scenario, bool trace, bool shift, int pipe_fd)
{
    struct world_result result;
    struct rlimit limit = {SECONDS_MAX, SECONDS_MAX};
    (void)setrlimit(RLIMIT_CPU, &limit);
    void *volatile shifted = shift ? malloc(SHIFT_BYTES) : NULL; /* never freed */
    (void)shifted;
    world_run(scenario, trace, &result);
    fflush(stdout);
    ssize_t written = write(pipe_fd, &result, sizeof result);
    _exit(written == sizeof result ? 0 : 2);
}

/* CPU seconds of the run. */
static double run_scenario(const struct scenario *scenario, bool trace, bool shift,
                           struct world_result *result)
{
    struct rusage used;
    int fds[2], status = 0;
    fflush(stdout);
    int error = pipe(fds);
    assert(error == 0);
    pid_t pid = fork();
    assert(pid >= 0);
    if (pid == 0)
        child(scenario, trace, shift, fds[1]);
    close(fds[1]);
    ssize_t got = read(fds[0], result, sizeof *result);
    close(fds[0]);
    (void)wait4(pid, &status, 0, &used);
    double cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                   (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    if (got == sizeof *result)
        return cpu_s;
    *result = (struct world_result){.failed = true};
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
        printf("no end after %u s of CPU\n", SECONDS_MAX);
    else if (WIFSIGNALED(status))
        printf("the process died of signal %d\n", WTERMSIG(status));
    else
        printf("the process ended with status %d\n", WEXITSTATUS(status));
    return cpu_s;
}

static bool run_seed(const struct arguments *arguments, uint64_t seed, struct totals *totals)
{
    struct scenario scenario;
    struct world_result result, again;
    scenario_make(seed, &scenario);
    if (arguments->trace)
        scenario_print(&scenario);
    double cpu_s = run_scenario(&scenario, arguments->trace, false, &result);
    if (!result.failed && arguments->twice) {
        (void)run_scenario(&scenario, false, true, &again);
        if (again.hash != result.hash) {
            printf("two runs differ: trace hash %016llx and %016llx\n",
                   (unsigned long long)result.hash, (unsigned long long)again.hash);
            result.failed = true;
        }
    }
    totals->seeds++;
    totals->failed += result.failed;
    totals->ops += result.ops;
    totals->undecided += result.undecided;
    totals->virtual_s += (double)result.virtual_ns / 1e9;
    totals->cpu_s += cpu_s;
    if (result.failed || !arguments->quiet)
        printf("%s seed %llu: %.1f s in %.2f s of CPU, %llu operations, hash %016llx\n",
               result.failed ? "FAILED" : "ok", (unsigned long long)seed,
               (double)result.virtual_ns / 1e9, cpu_s, (unsigned long long)result.ops,
               (unsigned long long)result.hash);
    if (result.failed) {
        scenario_print(&scenario);
        printf("replay: ./dev sim --seed %llu --trace\n", (unsigned long long)seed);
    }
    return !result.failed;
}

/* ---- arguments ---------------------------------------------------------------------------- */

static _Noreturn void refuse(const char *what)
{
    fprintf(stderr, "claudefs_sim: %s\n%s", what, usage);
    exit(64);
}

static double number_of(int argc, char **argv, int *at)
{
    char *end;
    if (++*at >= argc)
        refuse("a number is missing");
    double value = strtod(argv[*at], &end);
    if (*end || end == argv[*at] || value < 0)
        refuse("not a number");
    return value;
}

static void parse(int argc, char **argv, struct arguments *arguments)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0) {
            arguments->seed = (uint64_t)number_of(argc, argv, &i);
            arguments->seed_given = true;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            arguments->seeds = (uint64_t)number_of(argc, argv, &i);
        } else if (strcmp(argv[i], "--minutes") == 0) {
            arguments->minutes = number_of(argc, argv, &i);
        } else if (strcmp(argv[i], "--kept") == 0) {
            arguments->kept = ++i < argc ? argv[i] : NULL;
            if (!arguments->kept)
                refuse("a file is missing");
        } else if (strcmp(argv[i], "--twice") == 0) {
            arguments->twice = true;
        } else if (strcmp(argv[i], "--trace") == 0) {
            arguments->trace = true;
        } else if (strcmp(argv[i], "--quiet") == 0) {
            arguments->quiet = true;
        } else if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        } else {
            refuse("unknown argument");
        }
    }
    if (!arguments->seed_given)
        arguments->seed = (uint64_t)time(NULL) * 1000 % 1000000000;
    if (arguments->seeds == 0 && arguments->minutes == 0)
        arguments->seeds = 1;
}

/* What once failed: lines "SEED  what the bug was", and comments. */
static void run_kept(const struct arguments *arguments, struct totals *totals)
{
    char line[512];
    unsigned long long seed;
    FILE *file = fopen(arguments->kept, "r");
    if (!file) {
        fprintf(stderr, "claudefs_sim: %s: %s\n", arguments->kept, strerror(errno));
        exit(66);
    }
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%llu", &seed) == 1)
            (void)run_seed(arguments, seed, totals); /* counted */
    }
    fclose(file);
}

static void run_range(const struct arguments *arguments, struct totals *totals)
{
    double end_s = now_s() + arguments->minutes * 60;
    for (uint64_t i = 0; arguments->seeds == 0 || i < arguments->seeds; i++) {
        if (arguments->minutes > 0 && now_s() > end_s)
            break;
        (void)run_seed(arguments, arguments->seed + i, totals); /* counted */
    }
}

int main(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct totals totals = {0};
    parse(argc, argv, &arguments);
    if (arguments.kept)
        run_kept(&arguments, &totals);
    else
        run_range(&arguments, &totals);
    printf("%.0f s of virtual time in %.1f s of CPU: %.0f times as fast; %llu operations; %llu "
           "histories "
           "too hard to judge\n",
           totals.virtual_s, totals.cpu_s, totals.virtual_s / MAX(totals.cpu_s, 1e-9),
           (unsigned long long)totals.ops, (unsigned long long)totals.undecided);
    printf("%llu seeds, %llu failed\n", (unsigned long long)totals.seeds,
           (unsigned long long)totals.failed);
    return totals.failed > 0;
}
