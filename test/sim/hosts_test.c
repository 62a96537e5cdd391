/* SPDX-License-Identifier: MIT */
/* Goal: processes with two targets each die and come back while files are written and read; every
 * byte stays readable, no two copies of a group are ever on one host, and the map never shows half
 * a dead process. Method: whole nodes in the simulated world, where the targets of a host crash
 * together; one fiber writes and reads, one looks at every map, one breaks hosts one after the
 * other. Virtual time; arguments: seeds (default: a fixed set). */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "cluster.h"
#include "plain_file.h"

enum { HOSTS = 3, TARGETS = 2, FILES = 60, BYTES = 20000, ROUNDS = 6, REST_S = 60 };

struct run {
    struct cluster cluster;
    struct sim_node *host;
    uint32_t crash_next; /* 1 + index, wanted of main, which is outside of fibers */
    uint32_t restart_next;
    uint32_t made;
    uint64_t views;
    uint64_t deaths; /* of whole processes, as seen in maps */
    bool stop;
    bool stopped;
    bool done;
    const char *failed;
    int error;
};

static void worker(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    struct client *client = cluster_client(&run->cluster, &map);
    while (!run->stop && !run->failed) {
        if (run->made < FILES) {
            uint32_t next = run->made++;
            CHECK(plain_file_make(client, next, BYTES));
        }
        if (!run->failed)
            CHECK(plain_file_check(client, (uint32_t)(env_entropy_u64() % run->made), BYTES));
        fiber_sleep(20 * NS_PER_MS);
    }
    for (uint32_t i = 0; i < run->made && !run->failed; i++)
        CHECK(plain_file_check(client, i, BYTES));
    run->stopped = true;
}

/* Crashes are proven by refused connections: a process dies as a whole, in one version. */
static void check_processes(struct run *run, const struct map_view *view)
{
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        const struct map_node *node = &view->nodes[i];
        for (uint32_t j = 0; j < i; j++) {
            const struct map_node *other = &view->nodes[j];
            if (other->host != node->host || other->incarnation != node->incarnation)
                continue;
            CHECK(other->state == node->state ? 0 : -EUCLEAN);
            run->deaths += node->state == MAP_NODE_DOWN;
        }
    }
}

static void check_groups(struct run *run, const struct map_view *view)
{
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        const struct map_group *group = &view->groups[i];
        for (uint32_t m = 0; m < group->member_count; m++) {
            uint32_t host = map_view_node(view, group->members[m].node)->host;
            for (uint32_t o = 0; o < m && group->member_count == view->header->copies; o++)
                CHECK(map_view_node(view, group->members[o].node)->host != host ? 0 : -EUCLEAN);
        }
    }
}

static void observer(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    uint64_t version = 0;
    (void)cluster_client(&run->cluster, &map);
    while (!run->done && !run->failed) {
        if (map_client_wait_newer(map, version, env_now_ns() + NS_PER_S) < 0)
            continue;
        const struct map_view *view = map_client_view(map);
        version = view->header->version;
        run->views++;
        check_groups(run, view);
        check_processes(run, view);
    }
}

static void wait_main(struct run *run)
{
    while (run->crash_next || run->restart_next)
        fiber_sleep(NS_PER_MS);
}

static void rest(struct run *run, struct map_client *map)
{
    uint64_t end_ns = env_now_ns() + REST_S * NS_PER_S;
    while (!run->failed && !cluster_is_whole(&run->cluster, map) && env_now_ns() < end_ns)
        fiber_sleep(50 * NS_PER_MS);
    CHECK(cluster_is_whole(&run->cluster, map) ? 0 : -ETIME);
}

static void breaker(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    (void)cluster_client(&run->cluster, &map);
    rest(run, map);
    for (uint32_t i = 0; i < ROUNDS && !run->failed; i++) {
        uint32_t index = (uint32_t)(env_entropy_u64() % (HOSTS * TARGETS));
        run->crash_next = 1 + index;
        wait_main(run);
        fiber_sleep(env_entropy_u64() % (4 * NS_PER_S)); /* seen by the map, or not */
        run->restart_next = 1 + index;
        wait_main(run);
        rest(run, map);
    }
    run->stop = true;
    while (!run->stopped)
        fiber_sleep(10 * NS_PER_MS);
    run->done = true;
}

static bool wants_something(void *context)
{
    struct run *run = context;
    return run->done || run->failed || run->crash_next || run->restart_next;
}

static bool run_seed(uint64_t seed, bool asked)
{
    (void)asked;
    struct run *run = calloc(1, sizeof *run);
    cluster_start_hosts(&run->cluster, seed, HOSTS, TARGETS, 2);
    run->host = sim_node_new(run->cluster.sim, "10.0.0.100");
    reactor_spawn(sim_node_reactor(run->host), "worker", worker, run);
    reactor_spawn(sim_node_reactor(run->host), "observer", observer, run);
    reactor_spawn(sim_node_reactor(run->host), "breaker", breaker, run);
    uint64_t end_ns = sim_now_ns(run->cluster.sim) + 3600 * NS_PER_S;
    while (!run->done && !run->failed &&
           sim_run_until(run->cluster.sim, wants_something, run, end_ns)) {
        if (run->crash_next)
            cluster_crash(&run->cluster, run->crash_next - 1);
        if (run->restart_next)
            cluster_restart(&run->cluster, run->restart_next - 1);
        run->crash_next = run->restart_next = 0;
    }
    bool good = run->done && !run->failed && run->deaths > 0;
    printf("seed %llu: %s%s%s, %u files, %llu maps, %llu with a dead process\n",
           (unsigned long long)seed, good ? "good" : "FAILED ", run->failed ? run->failed : "",
           run->error ? error_name(run->error) : "", run->made, (unsigned long long)run->views,
           (unsigned long long)run->deaths);
    cluster_free(&run->cluster);
    free(run);
    return good;
}

int main(int argc, char **argv)
{
    return cluster_test_main(argc, argv, 4, run_seed);
}
