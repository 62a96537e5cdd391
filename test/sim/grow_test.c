/* SPDX-License-Identifier: MIT */
/* Goal: nodes are added, drained, lost for good and replaced while files are written and read;
 * every byte stays readable, every copy ends where it should be, and nothing stays behind on nodes
 * that are left out. Method: whole nodes in the simulated world; one fiber writes and reads all the
 * time, another changes the cluster step by step and waits until it has come to rest. Virtual time;
 * arguments: seeds (default: a fixed set). */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/random.h"
#include "cluster.h"
#include "plain_file.h"

enum { FILES = 80, BIG_BYTES = 200000, SMALL_BYTES = 1000, REST_S = 60 };

struct run {
    struct cluster cluster;
    struct sim_node *host;
    uint64_t seed;
    /* wanted of main, which is outside of fibers */
    bool add_next;
    uint32_t crash_next; /* 1 + index */
    uint32_t restart_next;
    bool crash_all_next;
    /* the worker */
    uint32_t made;
    uint64_t rounds;
    bool stop;
    bool stopped;
    const char *failed;
    int error;
    const char *phase;
    bool done;
};

static uint32_t file_bytes(uint32_t file)
{
    return file % 2 ? BIG_BYTES : SMALL_BYTES;
}

/* Writes and reads until told to stop. */
static void worker(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    struct client *client = cluster_client(&run->cluster, &map);
    while (!run->stop && !run->failed) {
        if (run->made < FILES) {
            uint32_t next = run->made++;
            CHECK(plain_file_make(client, next, file_bytes(next)));
        }
        uint32_t file = (uint32_t)(env_entropy_u64() % run->made);
        if (!run->failed)
            CHECK(plain_file_check(client, file, file_bytes(file)));
        run->rounds++;
        fiber_sleep(20 * NS_PER_MS);
    }
    for (uint32_t i = 0; i < run->made && !run->failed; i++)
        CHECK(plain_file_check(client, i, file_bytes(i)));
    run->stopped = true;
}

static void tell(const struct run *run, struct map_client *map)
{
    const struct map_view *view = map_client_view(map);
    printf("  %8.1f s %-8s %u nodes, voters:", (double)sim_now_ns(run->cluster.sim) / 1e9,
           run->phase, view->header->node_count);
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        if (view->nodes[i].voter == MAP_VOTER_FULL)
            printf(" %u", view->nodes[i].id);
    }
    printf(", %u files, %llu rounds, map %llu\n", run->made, (unsigned long long)run->rounds,
           (unsigned long long)view->header->version);
}

static void tell_groups(struct map_client *map)
{
    const struct map_view *view = map_client_view(map);
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        const struct map_group *group = &view->groups[i];
        printf("  group %u kind %u epoch %u primary %u:", group->id, group->kind, group->epoch,
               group->primary);
        for (uint32_t m = 0; m < group->member_count; m++)
            printf(" %u%s", group->members[m].node,
                   group->members[m].state == MAP_MEMBER_IN_SYNC ? "" : "?");
        printf("\n");
    }
}

static void rest(struct run *run, struct map_client *map, const char *phase)
{
    uint64_t end_ns = env_now_ns() + REST_S * NS_PER_S;
    run->phase = phase;
    while (!run->failed && !cluster_is_balanced(&run->cluster, map) && env_now_ns() < end_ns)
        fiber_sleep(100 * NS_PER_MS);
    if (!run->failed && !cluster_is_balanced(&run->cluster, map)) {
        CHECK(-ETIME);
        tell_groups(map);
    }
    if (!run->failed)
        tell(run, map);
}

/* Wait until main has done what was asked for. */
static void wait_main(struct run *run)
{
    while (run->add_next || run->crash_next || run->restart_next || run->crash_all_next)
        fiber_sleep(NS_PER_MS);
}

static uint32_t add(struct run *run, struct map_client *map)
{
    uint32_t index = run->cluster.node_count;
    run->add_next = true;
    wait_main(run);
    rest(run, map, "added");
    return index;
}

static void drain(struct run *run, struct map_client *map, uint32_t index)
{
    uint64_t end_ns = env_now_ns() + REST_S * NS_PER_S;
    run->phase = "drained";
    CHECK(cluster_drain(&run->cluster, map, index));
    while (!run->failed && !cluster_is_drained(&run->cluster, map, index) && env_now_ns() < end_ns)
        fiber_sleep(100 * NS_PER_MS);
    if (!cluster_is_drained(&run->cluster, map, index))
        CHECK(-ETIME);
    rest(run, map, "drained");
}

static void take_out(struct run *run, struct map_client *map, uint32_t index)
{
    uint64_t end_ns = env_now_ns() + REST_S * NS_PER_S;
    run->phase = "removed";
    int result;
    while ((result = cluster_remove(&run->cluster, map, index)) == -EBUSY ||
           result == -ERR_NO_QUORUM)
        fiber_sleep(100 * NS_PER_MS); /* it died just now, and the map does not know yet */
    CHECK(result);
    while (!run->failed && !cluster_is_removed(&run->cluster, map, index) && env_now_ns() < end_ns)
        fiber_sleep(100 * NS_PER_MS);
    if (!cluster_is_removed(&run->cluster, map, index))
        CHECK(-ETIME);
    rest(run, map, "removed");
}

static void crash(struct run *run, uint32_t index)
{
    run->crash_next = 1 + index;
    wait_main(run);
}

/* What happens to the cluster. */
static void operator(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    struct client *client = cluster_client(&run->cluster, &map);
    rest(run, map, "formed");
    uint32_t fourth = add(run, map);
    uint32_t first = (uint32_t)(run->seed % 3);
    drain(run, map, first); /* one of the first three: a member of the map group */
    take_out(run, map, first);
    uint32_t fifth = add(run, map);
    crash(run, fifth); /* away for a while: comes back empty-handed, and gets its share again */
    fiber_sleep(45 * NS_PER_S);
    run->restart_next = 1 + fifth;
    wait_main(run);
    rest(run, map, "returned");
    uint32_t second = (first + 1) % 3;
    crash(run, second); /* for good, and said so at once */
    take_out(run, map, second);
    (void)add(run, map);
    drain(run, map, fourth);
    run->stop = true;
    while (!run->stopped)
        fiber_sleep(10 * NS_PER_MS);
    fiber_sleep(NS_PER_S); /* all is on the media by then */
    run->crash_all_next = true;
    wait_main(run);
    rest(run, map, "cold");
    for (uint32_t i = 0; i < run->made && !run->failed; i++)
        CHECK(plain_file_check(client, i, file_bytes(i)));
    run->done = true;
}

/* Two of the first three are replaced, and at once all die: the map has seen so few changes that no
 * member has a snapshot, and where the new ones are is only in the log. */
static void replacer(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    struct client *client = cluster_client(&run->cluster, &map);
    rest(run, map, "formed");
    CHECK(plain_file_make(client, run->made++, file_bytes(0)));
    (void)add(run, map);
    (void)add(run, map);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t index = (uint32_t)((run->seed + i) % 3);
        crash(run, index);
        take_out(run, map, index);
    }
    run->crash_all_next = true;
    wait_main(run);
    rest(run, map, "cold");
    if (!run->failed)
        CHECK(plain_file_check(client, 0, file_bytes(0)));
    run->done = true;
}

static bool wants_something(void *context)
{
    struct run *run = context;
    return run->done || run->failed || run->crash_next || run->restart_next || run->add_next ||
           run->crash_all_next;
}

/* Who is started again finds the cluster, though the first nodes may all be gone. */
static void crash_all(struct run *run)
{
    for (uint32_t i = 0; i < run->cluster.node_count; i++) {
        if (!run->cluster.members[i].removed)
            cluster_crash(&run->cluster, i);
    }
    for (uint32_t i = 0; i < run->cluster.node_count; i++) {
        if (!run->cluster.members[i].removed)
            cluster_restart(&run->cluster, i);
    }
}

static void do_what_is_wanted(struct run *run)
{
    if (run->crash_all_next)
        crash_all(run);
    run->crash_all_next = false;
    if (run->crash_next)
        cluster_crash(&run->cluster, run->crash_next - 1);
    if (run->restart_next)
        cluster_restart(&run->cluster, run->restart_next - 1);
    if (run->add_next)
        (void)cluster_add_node(&run->cluster);
    run->crash_next = run->restart_next = 0;
    run->add_next = false;
}

static bool run_seed(uint64_t seed, bool replace)
{
    struct run *run = calloc(1, sizeof *run);
    run->seed = seed;
    cluster_start(&run->cluster, seed, 3, 2);
    run->host = sim_node_new(run->cluster.sim, "10.0.0.100");
    if (!replace)
        reactor_spawn(sim_node_reactor(run->host), "worker", worker, run);
    reactor_spawn(sim_node_reactor(run->host), "operator", replace ? replacer : operator, run);
    uint64_t end_ns = sim_now_ns(run->cluster.sim) + 3600 * NS_PER_S;
    while (!run->done && !run->failed &&
           sim_run_until(run->cluster.sim, wants_something, run, end_ns))
        do_what_is_wanted(run);
    bool passed = run->done && !run->failed;
    printf("%s %s seed %llu virtual time %.1f s%s%s%s%s%s%s\n", passed ? "ok" : "FAILED",
           replace ? "replace" : "grow", (unsigned long long)seed,
           (double)sim_now_ns(run->cluster.sim) / 1e9, passed ? "" : ": ", passed ? "" : run->phase,
           run->failed ? ": " : "", run->failed ? run->failed : "",
           run->failed ? " = "
           : run->done ? ""
                       : ": not finished",
           run->failed ? error_name(run->error) : "");
    cluster_free(&run->cluster);
    free(run);
    return passed;
}

static bool one_seed(uint64_t seed, bool asked)
{
    (void)asked;
    return run_seed(seed, false) && run_seed(seed, true);
}

int main(int argc, char **argv)
{
    return cluster_test_main(argc, argv, 3, one_seed);
}
