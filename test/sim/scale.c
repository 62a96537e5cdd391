/* SPDX-License-Identifier: MIT */
/* Goal: figures of large clusters, and that they are what they should be: the loss of a node is
 * made good the faster the more nodes there are, in little more than the time in which all devices
 * together can write it; a new node costs little more than its share of copying, loads stay within
 * a tenth of the mean, and one leader can carry it all. Method: see scale_world.h and
 * docs/scale.md. Arguments: numbers of nodes; none: a small set, checked. With numbers the last
 * line is a table for docs/scale.md. Virtual time. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "map/server_internal.h"
#include "scale_world.h"

enum { COPIES = 3, STEADY_S = 10, LIMIT_S = 3600 };

/* A device of 4 TB, half full (NVMe); 25 Gbit/s. */
#define USED_BYTES       (2 * TIB)
#define USED_BYTES_SMALL (32 * GIB)
static const struct scale_speeds full_speed = {
    .read_rate = 3000000000, .write_rate = 2000000000, .net_rate = 3125000000};

struct figures {
    uint32_t nodes;
    uint32_t groups;
    double replicas; /* of a node */
    double balance;  /* of data replicas: max / mean */
    double balance_leads;
    double grow; /* replicas moved while it grew, to the least possible */
    uint32_t map_bytes;
    uint32_t delta_bytes; /* of the map that follows the loss of a node */
    double calls;         /* a second and node, at rest */
    double cpu_us;        /* of both ends and the simulator, a second and node */
    double failover_ms;   /* a node is killed; all groups are led again, everybody knows */
    double protect_s;     /* copies made good, after the grace */
    double protect_gib;
    double join_s;
    double join_gib;
    double join_least_gib;
    bool failed;
};

static double cpu_s(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double seconds_since(const struct scale_world *world, uint64_t from_ns)
{
    return (double)(sim_now_ns(world->sim) - from_ns) / 1e9;
}

/* ---- balance --------------------------------------------------------------------------------- */

static void measure_balance(const struct map_view *view, struct figures *figures)
{
    uint32_t *replicas = mem_zalloc((MAP_NODES_MAX + 1) * sizeof *replicas);
    uint32_t *leads = mem_zalloc((MAP_NODES_MAX + 1) * sizeof *leads);
    uint32_t total = 0;
    uint32_t groups = 0;
    uint32_t most = 0;
    uint32_t most_leads = 0;
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        const struct map_group *group = &view->groups[i];
        if (group->kind != MAP_GROUP_DATA)
            continue;
        groups++;
        leads[group->primary]++;
        for (uint32_t m = 0; m < group->member_count; m++) {
            replicas[group->members[m].node]++;
            total++;
        }
    }
    for (uint32_t i = 1; i <= MAP_NODES_MAX; i++) {
        most = MAX(most, replicas[i]);
        most_leads = MAX(most_leads, leads[i]);
    }
    double nodes = view->header->node_count;
    figures->replicas = (double)view->header->group_count * COPIES / nodes;
    figures->balance = (double)most * nodes / total;
    figures->balance_leads = (double)most_leads * nodes / groups;
    mem_free(replicas);
    mem_free(leads);
}

/* ---- conditions ------------------------------------------------------------------------------ */

struct wait {
    struct scale_world *world;
    uint32_t without; /* a node that is dead */
    uint32_t with;    /* a node that joins */
};

static bool everybody_acts(void *context)
{
    const struct wait *wait = context;
    const struct scale_world *world = wait->world;
    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct scale_node *node = &world->nodes[i];
        if (node->id != wait->without && (!node->running || map_lease_until_ns(node->lease) == 0))
            return false;
    }
    return true;
}

/* The newest map says so, and all have it. */
static bool all_led_and_known(void *context)
{
    const struct wait *wait = context;
    struct scale_world *world = wait->world;
    uint32_t leader;
    const struct map_view *view = scale_map(world, &leader);
    if (!view || map_view_node(view, wait->without)->state == MAP_NODE_UP)
        return false;
    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct scale_node *node = &world->nodes[i];
        if (node->id != wait->without && node->seen_version < view->header->version)
            return false;
    }
    return true;
}

static bool protected(void *context)
{
    const struct wait *wait = context;
    uint32_t leader;
    const struct map_view *view = scale_map(wait->world, &leader);
    for (uint32_t i = 0; view && i < view->header->group_count; i++) {
        if (map_group_in_sync_count(&view->groups[i]) < COPIES ||
            map_group_member_state(&view->groups[i], wait->without) != 0)
            return false;
    }
    return view != NULL;
}

/* Its share but for a sixteenth, at which the planner leaves it. */
static bool has_share(uint32_t has, uint32_t groups, const struct map_view *view)
{
    uint32_t share = groups * COPIES / view->header->node_count;
    return has + share / 16 + 1 >= share;
}

/* The new node has its share, and no group a member too many. */
static bool settled(void *context)
{
    const struct wait *wait = context;
    uint32_t leader;
    const struct map_view *view = scale_map(wait->world, &leader);
    uint32_t has[MAP_GROUP_DATA + 1] = {0};
    uint32_t groups[MAP_GROUP_DATA + 1] = {0};
    for (uint32_t i = 0; view && i < view->header->group_count; i++) {
        const struct map_group *group = &view->groups[i];
        if (group->member_count != COPIES || map_group_in_sync_count(group) != COPIES)
            return false;
        groups[group->kind]++;
        has[group->kind] += map_group_member_state(group, wait->with) != 0;
    }
    return view && has_share(has[MAP_GROUP_META], groups[MAP_GROUP_META], view) &&
           has_share(has[MAP_GROUP_DATA], groups[MAP_GROUP_DATA], view);
}

/* Conditions look at whole maps: ask them now and then only. */
static bool reach(struct wait *wait, bool (*condition)(void *context), uint64_t step_ns)
{
    uint64_t end = sim_now_ns(wait->world->sim) + LIMIT_S * NS_PER_S;
    while (!condition(wait)) {
        if (sim_now_ns(wait->world->sim) >= end)
            return false;
        sim_run_for(wait->world->sim, step_ns);
    }
    return true;
}

/* ---- phases ---------------------------------------------------------------------------------- */

static void steady(struct scale_world *world, struct figures *figures)
{
    sim_run_for(world->sim, 8 * NS_PER_S); /* what a start brings about has ended */
    uint64_t calls = scale_calls(world);
    double cpu = cpu_s();
    sim_run_for(world->sim, STEADY_S * NS_PER_S);
    double share = (double)STEADY_S * figures->nodes;
    figures->calls = (double)(scale_calls(world) - calls) / share;
    figures->cpu_us = (cpu_s() - cpu) * 1e6 / share;
}

static bool lose(struct scale_world *world, struct figures *figures)
{
    uint32_t leader = 0;
    struct map_view *before = map_view_get((struct map_view *)(uintptr_t)scale_map(world, &leader));
    struct wait wait = {.world = world, .without = world->node_count};
    uint64_t killed = sim_now_ns(world->sim);
    sim_node_crash(scale_node(world, wait.without)->sim_node);
    scale_node(world, wait.without)->running = false;
    bool reached = reach(&wait, all_led_and_known, NS_PER_MS);
    figures->failover_ms = seconds_since(world, killed) * 1e3;
    struct buf *delta =
        map_history_delta(&scale_node(world, leader)->server->history, scale_map(world, &leader),
                          before->header->version, &figures->delta_bytes);
    buf_put(delta);
    map_view_put(before);
    uint64_t copied = world->copied_bytes;
    reached = reached && reach(&wait, protected, 20 * NS_PER_MS);
    figures->protect_s = seconds_since(world, killed) - (double)MAP_REPLACE_GRACE_NS / 1e9;
    figures->protect_gib = (double)(world->copied_bytes - copied) / GIB;
    return reached;
}

static bool join(struct scale_world *world, struct figures *figures)
{
    struct wait wait = {.world = world, .with = world->node_count + 1};
    uint64_t copied = world->copied_bytes;
    uint64_t began = sim_now_ns(world->sim);
    scale_join(world);
    bool reached = reach(&wait, settled, 50 * NS_PER_MS);
    figures->join_s = seconds_since(world, began) - (double)MAP_BALANCE_WAIT_NS / 1e9;
    figures->join_gib = (double)(world->copied_bytes - copied) / GIB;
    uint32_t leader;
    const struct map_view *view = scale_map(world, &leader);
    /* One node is dead, the new one takes its place. */
    figures->join_least_gib = 0;
    for (uint32_t i = 0; view && i < view->header->group_count; i++) {
        const struct map_group *group = &view->groups[i];
        if (map_group_member_state(group, wait.with) != 0)
            figures->join_least_gib += (double)world->group_bytes[group->kind] / GIB;
    }
    return reached;
}

static void measure(uint32_t nodes, uint64_t used_bytes, struct figures *figures)
{
    uint64_t moves = 0;
    struct scale_speeds speeds = full_speed;
    speeds.used_bytes = used_bytes;
    struct map_view *view = scale_grow(nodes, COPIES, &moves);
    *figures = (struct figures){
        .nodes = nodes, .groups = view->header->group_count, .map_bytes = view->bytes};
    measure_balance(view, figures);
    uint64_t least = 0;
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        for (uint32_t m = 0; m < view->groups[i].member_count; m++)
            least += view->groups[i].members[m].node > 32;
    }
    figures->grow = least > 0 ? (double)moves / (double)least : 1;
    struct scale_world *world = scale_world_new(1, view, &speeds);
    struct wait wait = {.world = world};
    figures->failed = !reach(&wait, everybody_acts, 50 * NS_PER_MS);
    if (!figures->failed) {
        steady(world, figures);
        figures->failed = !lose(world, figures) || !join(world, figures);
    }
    scale_world_free(world);
    (void)fprintf(stderr, "%u nodes: %s\n", nodes, figures->failed ? "FAILED" : "done");
}

/* ---- results --------------------------------------------------------------------------------- */

static void print_head(void)
{
    printf("| nodes | groups | replicas a node | max/mean | of leads | grown, moves to least "
           "| map KiB | change, bytes | calls a node and s | CPU us a node and s "
           "| failover ms | made good s | GiB | joined s | GiB | to least |\n"
           "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
}

static void print_row(const struct figures *f)
{
    printf("| %u | %u | %.0f | %.3f | %.2f | %.3f | %u | %u | %.1f | %.0f | %.0f | %.1f | %.0f | "
           "%.1f | %.0f | %.3f |\n",
           f->nodes, f->groups, f->replicas, f->balance, f->balance_leads, f->grow,
           f->map_bytes / 1024, f->delta_bytes, f->calls, f->cpu_us, f->failover_ms, f->protect_s,
           f->protect_gib, f->join_s, f->join_gib, f->join_gib / f->join_least_gib);
    (void)fflush(stdout);
}

static bool check_row(const struct figures *f, const struct figures *smaller)
{
    bool good = !f->failed && f->balance < 1.1 && f->grow < 1.1 && f->calls < 20 &&
                f->failover_ms < 500 && f->delta_bytes < f->map_bytes / 2 &&
                f->join_gib < 1.1 * f->join_least_gib;
    double least_s = f->protect_gib * GIB / ((double)full_speed.write_rate * (f->nodes - 1));
    good &= f->protect_s < 1.2 * least_s; /* all devices write, alike */
    return good && (!smaller || f->protect_s < smaller->protect_s);
}

int main(int argc, char **argv)
{
    static const uint32_t small[] = {5, 11};
    bool given = argc > 1;
    int count = given ? argc - 1 : (int)ARRAY_COUNT(small);
    bool passed = true;
    struct figures *figures = calloc((size_t)count, sizeof *figures);
    log_set_level(getenv("CFS_LOG") ? LOG_INFO : LOG_ERROR);
    print_head();
    for (int i = 0; i < count; i++) {
        uint32_t nodes = given ? (uint32_t)strtoul(argv[i + 1], NULL, 10) : small[i];
        if (nodes < 4 || nodes >= MAP_NODES_MAX) {
            (void)fprintf(stderr, "scale: from 4 to %d nodes\n", MAP_NODES_MAX - 1);
            return 64;
        }
        measure(nodes, given ? USED_BYTES : USED_BYTES_SMALL, &figures[i]);
        print_row(&figures[i]);
        passed &=
            given ? !figures[i].failed : check_row(&figures[i], i > 0 ? &figures[i - 1] : NULL);
    }
    free(figures);
    return passed ? 0 : 1;
}
