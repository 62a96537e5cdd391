/* SPDX-License-Identifier: MIT */
#include "map/map_sim_world.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/store.h"

/* ---- a node ---------------------------------------------------------------------------------- */

static uint32_t replicas(void *context, struct map_replica_report *reports, uint32_t max)
{
    struct member *member = context;
    assert(member->report_count <= max);
    memcpy(reports, member->reports, member->report_count * sizeof *reports);
    uint32_t count = member->report_count;
    /* As many as there can be, of groups that are not there, in no order that helps. */
    for (uint32_t group = max; group > GROUPS_MAX && count < max; group--)
        reports[count++] = (struct map_replica_report){.group = group};
    return count;
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

void world_free(struct world *world)
{
    log_set_sink(NULL, NULL);
    sim_free(world->sim);
    mem_free(world);
}

void member_kill(struct member *member)
{
    sim_node_crash(member->sim_node);
    member->running = false;
    member->server = NULL;
    member->client = NULL;
    member->lease = NULL;
    member->paused = false;
}

void member_restart(struct member *member)
{
    sim_node_restart(member->sim_node);
    member_start(member);
}

uint32_t world_leader(const struct world *world)
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

void world_run(struct world *world, uint64_t duration_ns)
{
    (void)sim_run_until(world->sim, never, world, sim_now_ns(world->sim) + duration_ns);
}

/* ---- conditions ------------------------------------------------------------------------------ */

struct map_view *world_view_of(const struct world *world, uint32_t node)
{
    const struct member *member = &world->members[node];
    return member->running && !member->paused ? map_client_view(member->client) : NULL;
}

/* Every group has a primary that acts. */
bool world_all_served(void *context)
{
    struct world *world = context;
    check_leases(world);
    bool acting[NODES_MAX + 1] = {false};
    uint32_t served = 0;
    for (uint32_t i = 1; i <= world->node_count; i++)
        acting[i] = i != world->excluded && acts(&world->members[i]);
    for (uint32_t i = 1; i <= world->node_count; i++) {
        struct map_view *view = acting[i] ? world_view_of(world, i) : NULL;
        for (uint32_t g = 0; view && g < view->header->group_count; g++)
            served += view->groups[g].primary == i;
    }
    return served == META_GROUPS + DATA_GROUPS;
}

bool world_all_in_sync(void *context)
{
    struct world *world = context;
    if (!world_all_served(world))
        return false;
    for (uint32_t i = 1; i <= world->node_count; i++) {
        struct map_view *view = world_view_of(world, i);
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
uint64_t world_run_until(struct world *world, bool (*done)(void *context), uint64_t limit_ns)
{
    uint64_t start = sim_now_ns(world->sim);
    bool reached = sim_run_until(world->sim, done, world, start + limit_ns);
    assert(reached);
    return sim_now_ns(world->sim) - start;
}

/* A fenced process ends and is started again, as node/ does it. */
void world_restart_fenced(struct world *world)
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

struct world *world_formed(uint64_t seed, uint32_t nodes, uint32_t copies)
{
    struct world *world = world_new(seed, nodes, copies);
    uint64_t took = world_run_until(world, world_all_in_sync, 10 * NS_PER_S);
    assert(took < 3 * NS_PER_S);
    return world;
}
