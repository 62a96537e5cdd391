/* SPDX-License-Identifier: MIT */
/* Goal: membership as a whole. Nodes form a cluster, survive the death, pause and isolation of any
 * of them, and come back; groups always end with a primary; and, checked after every event: if two
 * nodes act as primary of a group at the same time, the newer one cannot commit without the older
 * one (lease safety). Method: real server, client and lease on a store, in the simulated world; a
 * stub of the group layer promotes joining members after a short while. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#undef assert
#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"
#include "env/sim.h"
#include "map/map_internal.h"
#include "store/store.h"

enum { SEEDS = 15 };
enum { NODES_MAX = 5, GROUPS_MAX = 16, META_GROUPS = 4, DATA_GROUPS = 8, PORT = 7000 };

struct world;

struct member {
    struct world *world;
    uint32_t id;
    struct sim_node *sim_node;
    uint64_t starts; /* incarnations */
    int64_t offset_ns;
    int32_t drift_ppm;
    /* of the running process */
    bool running;
    bool paused;
    bool formatted;
    struct rpc *rpc;
    struct map_server *server;
    struct map_client *client;
    struct map_lease *lease;
    /* replicas, as on its disk */
    struct map_replica_report reports[GROUPS_MAX];
    uint32_t report_count;
};

struct world {
    struct sim *sim;
    uint32_t node_count;
    struct map_header header;
    struct map_node nodes[NODES_MAX];
    struct member members[NODES_MAX + 1];
    uint64_t restarts_by_fence;
    bool promote;
    uint32_t drop_percent; /* chance that a primary drops a member each time it looks */
    uint32_t excluded;     /* does not count for all_served */
};

/* ---- a node ---------------------------------------------------------------------------------- */

static uint32_t replicas(void *context, struct map_replica_report *reports, uint32_t max)
{
    struct member *member = context;
    assert(member->report_count <= max);
    memcpy(reports, member->reports, member->report_count * sizeof *reports);
    return member->report_count;
}

static void usage(void *context, uint64_t *ret_used_bytes, uint64_t *ret_size_bytes)
{
    *ret_used_bytes = 1;
    *ret_size_bytes = 64 * GIB;
}

static const struct map_lease_ops lease_ops = {replicas, usage};

static void change(struct member *member, const struct map_group *group, enum group_change_op op,
                   uint32_t node)
{
    int result = map_client_change_group(member->client, group->id, group->epoch, op, node,
                                         env_now_ns() + NS_PER_S);
    assert(result == 0 || result == -ERR_CAS_FAILED || result == -ERR_TIMED_OUT);
}

static void tend_group(struct member *member, const struct map_view *view,
                       const struct map_group *group)
{
    for (uint32_t m = 0; m < group->member_count; m++) {
        uint32_t node = group->members[m].node;
        bool up = map_view_node(view, node)->state == MAP_NODE_UP;
        if (group->members[m].state == MAP_MEMBER_JOINING && up)
            change(member, group, GROUP_CHANGE_IN_SYNC, node);
        else if (group->members[m].state == MAP_MEMBER_IN_SYNC && node != member->id &&
                 env_entropy_u64() % 100 < member->world->drop_percent)
            change(member, group, GROUP_CHANGE_DROP, node);
    }
}

/* The stub of the groups: a primary brings joining members in. */
static void tend_fiber(void *arg)
{
    struct member *member = arg;
    for (;;) {
        fiber_sleep(40 * NS_PER_MS);
        struct map_view *view = map_client_view(member->client);
        if (!view || !member->world->promote || !map_lease_valid(member->lease))
            continue;
        view = map_view_get(view);
        for (uint32_t i = 0; i < view->header->group_count; i++) {
            if (view->groups[i].primary == member->id)
                tend_group(member, view, &view->groups[i]);
        }
        map_view_put(view);
    }
}

static void member_main(void *arg)
{
    struct member *member = arg;
    struct world *world = member->world;
    char path[32];
    struct disk *disk;
    struct store *store;
    (void)snprintf(path, sizeof path, "/disk%u", member->id);
    int result = disk_open(path, GIB, DISK_CREATE, &disk);
    assert(result == 0);
    if (!member->formatted) {
        const struct store_identity identity = {.node = member->id};
        result = store_format(disk, &identity, false);
        assert(result == 0);
        member->formatted = true;
    }
    static const struct store_log_ops log_ops;
    const struct store_options store_options = {.memory_bytes = 16 * MIB, .log_ops = &log_ops};
    result = store_open(disk, &store_options, &store);
    assert(result == 0);
    const struct rpc_identity identity = {.node = member->id,
                                          .incarnation = member->starts * 100 + member->id};
    member->rpc = rpc_new(&identity);
    const struct map_server_options options = {
        .node = member->id,
        .header = &world->header,
        .nodes = world->nodes,
        .node_count = world->node_count,
        .meta_groups = META_GROUPS,
        .data_groups = DATA_GROUPS,
    };
    if (world->nodes[member->id - 1].voter) {
        result = map_server_start(member->rpc, store, &options, &member->server);
        assert(result == 0);
    }
    struct net_addr seeds[NODES_MAX];
    for (uint32_t i = 0; i < world->node_count; i++)
        map_node_addr(&world->nodes[i], &seeds[i]);
    member->client = map_client_start(member->rpc, seeds, MIN(world->node_count, 3u), NULL, NULL);
    member->lease = map_lease_start(member->rpc, member->client, member->id, &lease_ops, member);
    fiber_spawn("tend", tend_fiber, member);
    struct net_addr own = seeds[member->id - 1];
    result = rpc_listen(member->rpc, &own);
    assert(result == 0);
    member->running = true;
}

/* ---- the world ------------------------------------------------------------------------------- */

/* Buffers that a killed node held are nobody's afterwards. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static void quiet(void *context, enum log_level level, const char *line)
{
    if (getenv("CFS_TRACE"))
        (void)fprintf(stderr, "%8.3f %s\n", (double)sim_now_ns(context) / 1e9, line);
}

static void member_start(struct member *member)
{
    member->starts++;
    member->running = false;
    member->server = NULL;
    member->client = NULL;
    member->lease = NULL;
    reactor_spawn(sim_node_reactor(member->sim_node), "main", member_main, member);
}

static struct world *world_new(uint64_t seed, uint32_t node_count, uint32_t copies)
{
    struct world *world = mem_zalloc(sizeof *world);
    world->sim = sim_new(seed);
    world->node_count = node_count;
    world->promote = true;
    world->header = (struct map_header){.level = 1, .copies = copies, .min_in_sync = 1};
    log_set_sink(quiet, world->sim);
    for (uint32_t i = 1; i <= node_count; i++) {
        struct member *member = &world->members[i];
        char ip[32];
        char text[40];
        struct net_addr addr;
        (void)snprintf(ip, sizeof ip, "10.0.0.%u", i);
        (void)snprintf(text, sizeof text, "%s:%u", ip, PORT);
        int result = net_addr_parse(text, &addr);
        assert(result == 0);
        struct map_node *node = &world->nodes[i - 1];
        *node = (struct map_node){.id = i, .host = i, .port = addr.port, .voter = i <= 3};
        memcpy(node->ip, addr.ip, sizeof node->ip);
        member->world = world;
        member->id = i;
        member->sim_node = sim_node_new(world->sim, ip);
        member->offset_ns = (int64_t)(sim_random_u64(world->sim) % (1000 * NS_PER_S));
        member->drift_ppm = (int32_t)(sim_random_u64(world->sim) % 40000) - 20000;
        sim_node_set_clock(member->sim_node, member->offset_ns, member->drift_ppm);
        member_start(member);
    }
    return world;
}

static void world_free(struct world *world)
{
    log_set_sink(NULL, NULL);
    sim_free(world->sim);
    mem_free(world);
}

static void member_kill(struct member *member)
{
    sim_node_crash(member->sim_node);
    member->running = false;
    member->server = NULL;
    member->client = NULL;
    member->lease = NULL;
    member->paused = false;
}

static void member_restart(struct member *member)
{
    sim_node_restart(member->sim_node);
    member_start(member);
}

static uint32_t leader_of(const struct world *world)
{
    for (uint32_t i = 1; i <= world->node_count; i++) {
        const struct member *member = &world->members[i];
        if (member->running && !member->paused && member->server &&
            map_server_is_leader(member->server))
            return i;
    }
    return 0;
}

/* ---- lease safety ---------------------------------------------------------------------------- */

/* What the node's clock shows. */
static uint64_t clock_ns(const struct member *member)
{
    uint64_t now = sim_now_ns(member->world->sim);
    int64_t drift = (int64_t)now / 1000000 * member->drift_ppm;
    return now + (uint64_t)member->offset_ns + (uint64_t)drift;
}

/* May the process act now? A paused process does nothing. */
static bool acts(const struct member *member)
{
    return member->running && !member->paused &&
           map_lease_valid_at(member->lease, clock_ns(member));
}

/* Of two that act as primary of a group at once, the newer needs the older for every commit. */
static void check_leases(struct world *world)
{
    struct map_view *views[NODES_MAX + 1] = {NULL};
    for (uint32_t i = 1; i <= world->node_count; i++) {
        if (acts(&world->members[i]))
            views[i] = map_client_view(world->members[i].client);
    }
    for (uint32_t i = 1; i <= world->node_count; i++) {
        for (uint32_t g = 0; views[i] && g < views[i]->header->group_count; g++) {
            const struct map_group *mine = &views[i]->groups[g];
            if (mine->primary != i)
                continue;
            for (uint32_t j = 1; j <= world->node_count; j++) {
                const struct map_group *other =
                    views[j] && j != i ? map_view_group(views[j], mine->id) : NULL;
                if (!other || other->primary != j || other->epoch < mine->epoch)
                    continue;
                assert(other->epoch != mine->epoch);
                assert(map_group_member_state(other, i) == MAP_MEMBER_IN_SYNC);
            }
        }
    }
}

static bool never(void *context)
{
    check_leases(context);
    return false;
}

static void run(struct world *world, uint64_t duration_ns)
{
    (void)sim_run_until(world->sim, never, world, sim_now_ns(world->sim) + duration_ns);
}

/* ---- conditions ------------------------------------------------------------------------------ */

static struct map_view *view_of(const struct world *world, uint32_t node)
{
    const struct member *member = &world->members[node];
    return member->running && !member->paused ? map_client_view(member->client) : NULL;
}

/* Every group has a primary that acts. */
static bool all_served(void *context)
{
    struct world *world = context;
    check_leases(world);
    bool acting[NODES_MAX + 1] = {false};
    uint32_t served = 0;
    for (uint32_t i = 1; i <= world->node_count; i++)
        acting[i] = i != world->excluded && acts(&world->members[i]);
    for (uint32_t i = 1; i <= world->node_count; i++) {
        struct map_view *view = acting[i] ? view_of(world, i) : NULL;
        for (uint32_t g = 0; view && g < view->header->group_count; g++)
            served += view->groups[g].primary == i;
    }
    return served == META_GROUPS + DATA_GROUPS;
}

static bool all_in_sync(void *context)
{
    struct world *world = context;
    if (!all_served(world))
        return false;
    for (uint32_t i = 1; i <= world->node_count; i++) {
        struct map_view *view = view_of(world, i);
        for (uint32_t g = 0; view && g < view->header->group_count; g++) {
            if (map_group_in_sync_count(&view->groups[g]) < world->header.copies)
                return false;
        }
        if (!view)
            return false;
    }
    return true;
}

/* Runs until the condition; returns how long that took. */
static uint64_t run_until(struct world *world, bool (*done)(void *context), uint64_t limit_ns)
{
    uint64_t start = sim_now_ns(world->sim);
    bool reached = sim_run_until(world->sim, done, world, start + limit_ns);
    assert(reached);
    return sim_now_ns(world->sim) - start;
}

/* A fenced process ends and is started again, as node/ does it. */
static void restart_fenced(struct world *world)
{
    for (uint32_t i = 1; i <= world->node_count; i++) {
        struct member *member = &world->members[i];
        if (member->running && !member->paused && map_lease_fenced(member->lease)) {
            world->restarts_by_fence++;
            member_kill(member);
            member_restart(member);
        }
    }
}

static struct world *formed(uint64_t seed, uint32_t nodes, uint32_t copies)
{
    struct world *world = world_new(seed, nodes, copies);
    uint64_t took = run_until(world, all_in_sync, 10 * NS_PER_S);
    assert(took < 3 * NS_PER_S);
    return world;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_form(void **state)
{
    (void)state;
    for (uint32_t nodes = 1; nodes <= 5; nodes++) {
        struct world *world = formed(nodes, nodes, nodes < 3 ? 1 : 2);
        run(world, 12 * NS_PER_S);
        struct map_view *view = view_of(world, 1);
        uint32_t primaries[NODES_MAX + 1] = {0};
        for (uint32_t g = 0; g < view->header->group_count; g++)
            primaries[view->groups[g].primary]++;
        for (uint32_t i = 1; i <= nodes; i++)
            assert_in_range(primaries[i], 12 / nodes - 1, 12 / nodes + 2);
        uint64_t version = view->header->version;
        run(world, 20 * NS_PER_S);
        assert_int_equal(view_of(world, 1)->header->version, version); /* it has come to rest */
        world_free(world);
    }
}

/* kill -9 of any node: all groups are served again in well under half a second. */
static void test_kill(void **state)
{
    (void)state;
    uint64_t worst = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct world *world = formed(seed, 3, 2);
        run(world, 7 * NS_PER_S);
        uint32_t victim = 1 + (uint32_t)(seed % 3);
        member_kill(&world->members[victim]);
        uint64_t took = run_until(world, all_served, 3 * NS_PER_S);
        worst = MAX(worst, took);
        run(world, 2 * NS_PER_S);
        member_restart(&world->members[victim]);
        run_until(world, all_in_sync, 5 * NS_PER_S);
        world_free(world);
    }
    print_message("worst failover after kill: %lu ms\n", (unsigned long)(worst / NS_PER_MS));
    assert_true(worst < 400 * NS_PER_MS);
}

/* A node that is cut off stops acting before another takes over, and is fenced when it returns. */
static void test_isolated(void **state)
{
    (void)state;
    uint64_t worst = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct world *world = formed(seed, 3, 2);
        uint32_t victim = seed % 2 ? leader_of(world) : leader_of(world) % 3 + 1;
        sim_isolate(world->members[victim].sim_node, true);
        world->excluded = victim;
        uint64_t took = run_until(world, all_served, 8 * NS_PER_S);
        worst = MAX(worst, took);
        run(world, seed * NS_PER_S);
        sim_isolate(world->members[victim].sim_node, false);
        world->excluded = 0;
        for (uint32_t i = 0; i < 20; i++) {
            run(world, 200 * NS_PER_MS);
            restart_fenced(world);
        }
        run_until(world, all_in_sync, 8 * NS_PER_S);
        assert_int_equal(world->restarts_by_fence, 1);
        world_free(world);
    }
    print_message("worst failover after silence: %lu ms\n", (unsigned long)(worst / NS_PER_MS));
    assert_true(worst < 4500 * NS_PER_MS);
}

static bool leader_moved(void *context)
{
    struct world *world = context;
    uint32_t leader = leader_of(world);
    return leader != 0 && leader != world->excluded;
}

/* A leader that is cut off from all but one voter keeps its majority, and hears two nodes of five:
 * it lets the other one lead, and nobody is declared dead. */
static void test_half_isolated(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *world = formed(seed, 5, 2);
        uint32_t leader = leader_of(world);
        uint32_t friend = leader % 3 + 1;
        assert_true(leader <= 3); /* the voters */
        for (uint32_t i = 1; i <= 5; i++) {
            if (i != leader && i != friend)
                sim_partition(world->members[leader].sim_node, world->members[i].sim_node, true);
        }
        world->excluded = leader;
        run_until(world, leader_moved, 8 * NS_PER_S);
        world->excluded = 0;
        run(world, 4 * NS_PER_S);
        assert_int_equal(leader_of(world), friend);
        struct map_view *view = view_of(world, friend);
        for (uint32_t i = 0; i < view->header->node_count; i++)
            assert_int_equal(view->nodes[i].state, MAP_NODE_UP);
        assert_true(all_served(world));
        world_free(world);
    }
}

static bool three_down(void *context)
{
    struct world *world = context;
    uint32_t leader = leader_of(world);
    struct map_view *view = leader ? view_of(world, leader) : NULL;
    uint32_t down = 0;
    for (uint32_t i = 0; view && i < view->header->node_count; i++)
        down += view->nodes[i].state == MAP_NODE_DOWN;
    return down == 3;
}

/* Three of five fall silent at once: whoever leads does not hear them, so it is them. */
static void test_most_silent(void **state)
{
    (void)state;
    uint64_t worst = 0;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *world = formed(seed, 5, 3);
        uint32_t leader = leader_of(world);
        uint32_t friend = leader % 3 + 1;
        for (uint32_t i = 1; i <= 5; i++) {
            if (i != leader && i != friend)
                sim_isolate(world->members[i].sim_node, true);
        }
        worst = MAX(worst, run_until(world, three_down, 20 * NS_PER_S));
        world_free(world);
    }
    print_message("worst time to find three of five dead: %lu ms\n",
                  (unsigned long)(worst / NS_PER_MS));
    assert_true(worst < 8 * NS_PER_S);
}

static void test_paused(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *world = formed(seed, 3, 2);
        uint32_t victim = seed % 2 ? leader_of(world) : leader_of(world) % 3 + 1;
        sim_pause(world->members[victim].sim_node, true);
        world->members[victim].paused = true;
        run_until(world, all_served, 8 * NS_PER_S);
        sim_pause(world->members[victim].sim_node, false);
        world->members[victim].paused = false;
        for (uint32_t i = 0; i < 20; i++) {
            run(world, 200 * NS_PER_MS);
            restart_fenced(world);
        }
        run_until(world, all_in_sync, 8 * NS_PER_S);
        world_free(world);
    }
}

/* Everybody loses power: groups wait for the reports and take the newest valid log. */
static void test_cold_start(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *world = formed(seed, 3, 2);
        world->promote = false;
        run(world, NS_PER_S);
        struct map_view *view = view_of(world, 1);
        uint32_t best[GROUPS_MAX + 1];
        for (uint32_t g = 0; g < view->header->group_count; g++) {
            const struct map_group *group = &view->groups[g];
            uint32_t lucky = (uint32_t)((seed + g) % 2);
            best[group->id] = group->members[lucky].node;
            for (uint32_t m = 0; m < group->member_count; m++) {
                struct member *member = &world->members[group->members[m].node];
                bool damaged = m != lucky && g % 3 == 0;
                member->reports[member->report_count++] = (struct map_replica_report){
                    .group = group->id,
                    .valid = !damaged,
                    .last_epoch = group->epoch,
                    .last_seq = damaged      ? 1000
                                : m == lucky ? 11
                                             : 10,
                };
            }
        }
        for (uint32_t i = 1; i <= 3; i++) {
            sim_node_power_off(world->members[i].sim_node);
            world->members[i].running = false;
        }
        run(world, NS_PER_S);
        for (uint32_t i = 1; i <= 3; i++) {
            member_restart(&world->members[i]);
            run(world, 300 * NS_PER_MS * (seed % 4));
        }
        run_until(world, all_served, 8 * NS_PER_S);
        view = view_of(world, 1);
        for (uint32_t g = 0; g < view->header->group_count; g++) {
            const struct map_group *group = &view->groups[g];
            assert_int_equal(group->primary, best[group->id]);
            assert_int_equal(map_group_in_sync_count(group), 1);
        }
        world->promote = true;
        run_until(world, all_in_sync, 8 * NS_PER_S);
        world_free(world);
    }
}

/* A wiped disk is not taken for a valid empty replica: the group waits for the other one. */
static void test_wiped(void **state)
{
    (void)state;
    struct world *world = formed(3, 3, 2);
    struct map_view *view = view_of(world, 1);
    const struct map_group *group = &view->groups[0];
    uint32_t id = group->id;
    uint32_t wiped = group->members[0].node;
    uint32_t good = group->members[1].node;
    for (uint32_t i = 1; i <= 3; i++) {
        for (uint32_t g = 1; g <= view->header->group_count && i != wiped; g++)
            world->members[i].reports[world->members[i].report_count++] =
                (struct map_replica_report){.group = g, .valid = 1, .last_epoch = 2, .last_seq = g};
    }
    for (uint32_t i = 1; i <= 3; i++)
        member_kill(&world->members[i]);
    for (uint32_t i = 1; i <= 3; i++) {
        if (i != good)
            member_restart(&world->members[i]);
    }
    run(world, 20 * NS_PER_S);
    view = view_of(world, wiped);
    assert_int_equal(map_view_group(view, id)->primary, 0);
    member_restart(&world->members[good]);
    run_until(world, all_in_sync, 10 * NS_PER_S);
    assert_int_equal(map_view_node(view_of(world, 1), good)->state, MAP_NODE_UP);
    world_free(world);
}

/* Away for longer than the grace: the third node takes the places. */
static void test_replaced(void **state)
{
    (void)state;
    struct world *world = formed(5, 3, 2);
    member_kill(&world->members[2]);
    run(world, 25 * NS_PER_S);
    struct map_view *view = view_of(world, 1);
    uint32_t waiting = 0;
    for (uint32_t g = 0; g < view->header->group_count; g++)
        waiting += map_group_member_state(&view->groups[g], 2) == MAP_MEMBER_JOINING;
    assert_true(waiting > 0);
    run(world, 10 * NS_PER_S);
    view = view_of(world, 1);
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        assert_int_equal(map_group_member_state(&view->groups[g], 2), 0);
        assert_int_equal(map_group_in_sync_count(&view->groups[g]), 2);
    }
    member_restart(&world->members[2]);
    run_until(world, all_in_sync, 5 * NS_PER_S);
    world_free(world);
}

/* An idle cluster is quiet: messages per second and node. */
static void test_idle(void **state)
{
    (void)state;
    struct world *world = formed(6, 3, 2);
    run(world, 15 * NS_PER_S);
    uint64_t before = 0;
    uint64_t after = 0;
    struct rpc_stats stats;
    for (uint32_t i = 1; i <= 3; i++) {
        rpc_stats(world->members[i].rpc, &stats);
        before += stats.calls;
    }
    run(world, 10 * NS_PER_S);
    for (uint32_t i = 1; i <= 3; i++) {
        rpc_stats(world->members[i].rpc, &stats);
        after += stats.calls;
    }
    uint64_t rate = (after - before) / 10 / 3;
    print_message("calls per second and node when idle: %lu\n", rate);
    assert_true(rate < 20);
    world_free(world);
}

/* A member that was away for more changes than the log keeps gets the map as a snapshot, and a
 * restart of all finds the same map in the stores. */
static void test_snapshot(void **state)
{
    (void)state;
    struct world *world = formed(9, 3, 2);
    uint32_t away = leader_of(world) % 3 + 1;
    member_kill(&world->members[away]);
    uint64_t before = view_of(world, leader_of(world))->header->version;
    world->drop_percent = 100;
    for (uint32_t i = 0; i < 100; i++) {
        run(world, NS_PER_S);
        if (view_of(world, leader_of(world))->header->version > before + 250)
            break;
    }
    world->drop_percent = 0;
    assert_true(view_of(world, leader_of(world))->header->version > before + 250);
    run(world, NS_PER_S);
    member_restart(&world->members[away]);
    run_until(world, all_in_sync, 10 * NS_PER_S);
    run(world, 12 * NS_PER_S);
    uint64_t version = view_of(world, 1)->header->version;
    for (uint32_t g = 1; g <= META_GROUPS + DATA_GROUPS; g++) {
        for (uint32_t i = 1; i <= 3; i++)
            world->members[i].reports[g - 1] =
                (struct map_replica_report){.group = g, .valid = 1, .last_epoch = 1, .last_seq = 1};
    }
    for (uint32_t i = 1; i <= 3; i++) {
        world->members[i].report_count = META_GROUPS + DATA_GROUPS;
        sim_node_power_off(world->members[i].sim_node);
        world->members[i].running = false;
    }
    run(world, NS_PER_S);
    for (uint32_t i = 1; i <= 3; i++)
        member_restart(&world->members[i]);
    run_until(world, all_in_sync, 10 * NS_PER_S);
    assert_in_range(view_of(world, 1)->header->version, version + 3, version + 60);
    world_free(world);
}

/* A leader whose disk fails takes no part any more; the others go on. */
static void test_leader_disk_fails(void **state)
{
    (void)state;
    struct world *world = formed(4, 3, 2);
    uint32_t old = leader_of(world);
    char path[32];
    (void)snprintf(path, sizeof path, "/disk%u", old);
    struct sim_disk_config broken = *sim_disk_config(world->sim, path);
    broken.write_error_ppm = 1000000;
    sim_disk_configure(world->sim, path, &broken);
    uint64_t before = view_of(world, old)->header->version;
    world->drop_percent = 20;
    run(world, 6 * NS_PER_S);
    world->drop_percent = 0;
    uint32_t leader = leader_of(world);
    assert_true(leader != 0 && leader != old);
    assert_true(view_of(world, leader)->header->version > before + 5);
    assert_true(view_of(world, old)->header->version > before + 5); /* it still follows */
    world_free(world);
}

/* C5: balancing takes a group from a primary that is cut off and does not know; the new primary
 * drops it at once. It must not be able to serve any more when that is granted. */
static void test_former_primary(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct world *world = formed(seed, 3, 2);
        uint32_t victim = leader_of(world) % 3 + 1;
        member_kill(&world->members[victim % 3 + 1]);
        run(world, NS_PER_S);
        member_restart(&world->members[victim % 3 + 1]);
        run_until(world, all_in_sync, 5 * NS_PER_S);
        run(world, sim_random_u64(world->sim) % (5 * NS_PER_S));
        sim_isolate(world->members[victim].sim_node, true);
        world->drop_percent = 100;
        run(world, 2 * NS_PER_S);
        world->drop_percent = 0;
        sim_isolate(world->members[victim].sim_node, false);
        world_free(world);
    }
}

static void chaos_fault(struct world *world)
{
    uint32_t id = 1 + (uint32_t)(sim_random_u64(world->sim) % world->node_count);
    uint32_t other = 1 + (uint32_t)(sim_random_u64(world->sim) % world->node_count);
    struct member *member = &world->members[id];
    switch (sim_random_u64(world->sim) % 9) {
    case 0:
    case 1:
        if (sim_node_up(member->sim_node))
            member_kill(member);
        break;
    case 2:
    case 3:
        if (!sim_node_up(member->sim_node))
            member_restart(member);
        break;
    case 4:
        sim_isolate(member->sim_node, true);
        break;
    case 5:
        sim_isolate(member->sim_node, false);
        break;
    case 6:
        if (id != other)
            sim_partition(member->sim_node, world->members[other].sim_node,
                          sim_random_u64(world->sim) % 2);
        break;
    case 7:
        if (id != other)
            sim_reset_conns(member->sim_node, world->members[other].sim_node);
        break;
    default:
        if (sim_node_up(member->sim_node)) {
            member->paused = !member->paused;
            sim_pause(member->sim_node, member->paused);
        }
    }
}

static void settle(struct world *world)
{
    world->drop_percent = 0;
    for (uint32_t i = 1; i <= world->node_count; i++) {
        struct member *member = &world->members[i];
        sim_isolate(member->sim_node, false);
        if (member->paused)
            sim_pause(member->sim_node, false);
        member->paused = false;
        for (uint32_t j = 1; j < i; j++)
            sim_partition(member->sim_node, world->members[j].sim_node, false);
        if (!sim_node_up(member->sim_node))
            member_restart(member);
    }
    for (uint32_t i = 0; i < 60; i++) {
        run(world, 200 * NS_PER_MS);
        restart_fenced(world);
    }
    run_until(world, all_in_sync, 20 * NS_PER_S);
}

/* Whatever happens: lease safety throughout, and everything in sync once it ends. */
static void test_chaos(void **state)
{
    (void)state;
    const char *one = getenv("CFS_SEED");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    for (uint64_t seed = first; seed <= (one ? first : SEEDS); seed++) {
        struct world *world = formed(seed, seed % 2 ? 3 : 5, 2 + (uint32_t)(seed % 3 / 2));
        /* Everybody has all data on disk: a report is always valid and equal. */
        for (uint32_t i = 1; i <= world->node_count; i++) {
            for (uint32_t g = 1; g <= META_GROUPS + DATA_GROUPS; g++)
                world->members[i].reports[world->members[i].report_count++] =
                    (struct map_replica_report){.group = g, .valid = 1, .last_seq = 1};
        }
        world->drop_percent = 2;
        for (uint32_t i = 0; i < 60; i++) {
            run(world, sim_random_u64(world->sim) % (700 * NS_PER_MS));
            chaos_fault(world);
            restart_fenced(world);
        }
        settle(world);
        world_free(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),           cmocka_unit_test(test_kill),
        cmocka_unit_test(test_isolated),       cmocka_unit_test(test_paused),
        cmocka_unit_test(test_half_isolated),  cmocka_unit_test(test_most_silent),
        cmocka_unit_test(test_wiped),          cmocka_unit_test(test_cold_start),
        cmocka_unit_test(test_replaced),       cmocka_unit_test(test_idle),
        cmocka_unit_test(test_snapshot),       cmocka_unit_test(test_leader_disk_fails),
        cmocka_unit_test(test_former_primary), cmocka_unit_test(test_chaos),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
