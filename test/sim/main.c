/* SPDX-License-Identifier: MIT */
/* claudefs_sim: whole clusters with clients and damage, seed by seed (`./dev sim`).
 *
 * With --twice each seed runs again in a process whose heap lies elsewhere; the hashes over all
 * that happened must be equal. A failing seed is shown with the smallest scenario found that fails.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "run.h"

struct arguments {
    uint64_t seed;
    uint64_t seeds;   /* 0: until the minutes are over */
    double minutes;   /* 0: no limit */
    const char *kept; /* file of seeds */
    bool seed_given;
    bool twice;
    bool trace;
    bool quiet;
    bool shrink;
    bool small;
    struct scenario limits; /* of what a seed stands for: bits of faults and loads, counts */
};

struct totals {
    uint64_t seeds;
    uint64_t failed;
    uint64_t ops;
    uint64_t undecided;
    uint64_t longest_ns;
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
    "  --quiet       print failures and totals only\n"
    "  --small       on disks that get full\n"
    "  --shrink      look for a smaller scenario of a failing seed that fails, too\n"
    "  --faults LIST, --loads LIST, --episodes N, --clients N, --ops N\n"
    "                no more than that of what a seed stands for\n";

static double now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- one seed ----------------------------------------------------------------------------- */

static void narrow(struct scenario *scenario, const struct scenario *limits)
{
    scenario->faults &= limits->faults;
    scenario->loads &= limits->loads;
    scenario->episodes = MIN(scenario->episodes, limits->episodes);
    scenario->clients = MIN(scenario->clients, limits->clients);
    scenario->ops = MIN(scenario->ops, limits->ops);
}

static void explain(const struct arguments *arguments, struct scenario *scenario)
{
    scenario_print(scenario);
    const char *small = scenario->small ? " --small" : "";
    printf("replay: ./dev sim --seed %llu%s --trace\n", (unsigned long long)scenario->seed, small);
    if (!arguments->shrink)
        return;
    run_shrink(scenario);
    printf("smaller: ./dev sim --seed %llu%s --episodes %u --clients %u --ops %u",
           (unsigned long long)scenario->seed, small, scenario->episodes, scenario->clients,
           scenario->ops);
    scenario_print_lists(scenario);
    printf(" --trace\n");
}

static void run_seed(const struct arguments *arguments, uint64_t seed, struct totals *totals)
{
    struct scenario scenario;
    struct world_result result, again;
    scenario_make(seed, &scenario);
    if (arguments->small)
        scenario_make_small(&scenario);
    narrow(&scenario, &arguments->limits);
    if (arguments->trace)
        scenario_print(&scenario);
    double cpu_s = run_scenario(&scenario, arguments->trace ? RUN_TRACE : 0, &result);
    if (!result.failed && arguments->twice) {
        (void)run_scenario(&scenario, RUN_SHIFTED, &again);
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
    totals->longest_ns = MAX(totals->longest_ns, result.longest_ns);
    totals->virtual_s += (double)result.virtual_ns / 1e9;
    totals->cpu_s += cpu_s;
    if (result.failed || !arguments->quiet)
        printf("%s seed %llu: %.1f s in %.2f s of CPU, %llu operations, the longest %.2f s, "
               "hash %016llx\n",
               result.failed ? "FAILED" : "ok", (unsigned long long)seed,
               (double)result.virtual_ns / 1e9, cpu_s, (unsigned long long)result.ops,
               (double)result.longest_ns / 1e9, (unsigned long long)result.hash);
    if (result.failed)
        explain(arguments, &scenario);
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

/* Is it one of the options that narrow? */
static bool parse_limit(int argc, char **argv, int *at, struct scenario *limits)
{
    const char *option = argv[*at];
    bool faults = strcmp(option, "--faults") == 0;
    if (faults || strcmp(option, "--loads") == 0) {
        if (++*at >= argc ||
            !scenario_parse_list(argv[*at], faults, faults ? &limits->faults : &limits->loads))
            refuse("no such kind of damage or load");
    } else if (strcmp(option, "--episodes") == 0) {
        limits->episodes = (uint32_t)number_of(argc, argv, at);
    } else if (strcmp(option, "--clients") == 0) {
        limits->clients = (uint32_t)number_of(argc, argv, at);
    } else if (strcmp(option, "--ops") == 0) {
        limits->ops = (uint32_t)number_of(argc, argv, at);
    } else {
        return false;
    }
    return true;
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
        } else if (strcmp(argv[i], "--small") == 0) {
            arguments->small = true;
        } else if (strcmp(argv[i], "--shrink") == 0) {
            arguments->shrink = true;
        } else if (parse_limit(argc, argv, &i, &arguments->limits)) {
            continue;
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
            run_seed(arguments, seed, totals);
    }
    fclose(file);
}

static void run_range(const struct arguments *arguments, struct totals *totals)
{
    double end_s = now_s() + arguments->minutes * 60;
    for (uint64_t i = 0; arguments->seeds == 0 || i < arguments->seeds; i++) {
        if (arguments->minutes > 0 && now_s() > end_s)
            break;
        run_seed(arguments, arguments->seed + i, totals);
    }
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.limits = {.faults = UINT32_MAX,
                                             .loads = UINT32_MAX,
                                             .episodes = UINT32_MAX,
                                             .clients = UINT32_MAX,
                                             .ops = UINT32_MAX}};
    struct totals totals = {0};
    parse(argc, argv, &arguments);
    if (arguments.kept)
        run_kept(&arguments, &totals);
    else
        run_range(&arguments, &totals);
    printf("%.0f s of virtual time in %.1f s of CPU: %.0f times as fast; %llu operations, the "
           "longest %.2f s; %llu histories too hard to judge\n",
           totals.virtual_s, totals.cpu_s, totals.virtual_s / MAX(totals.cpu_s, 1e-9),
           (unsigned long long)totals.ops, (double)totals.longest_ns / 1e9,
           (unsigned long long)totals.undecided);
    printf("%llu seeds, %llu failed\n", (unsigned long long)totals.seeds,
           (unsigned long long)totals.failed);
    return totals.failed > 0;
}
