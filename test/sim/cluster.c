/* SPDX-License-Identifier: MIT */
#include "cluster.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/node_internal.h"

enum { DISK_BYTES_DEFAULT = 1 << 30, META_GROUPS = 4, DATA_GROUPS = 6, PORT = 7000 };

static void node_fenced(void *context, int why)
{
    struct cluster_member *member = context;
    member->fenced = why;
}

static void start_fiber(void *arg)
{
    struct cluster_member *member = arg;
    const struct node_options options = {
        .disk_path = member->disk,
        .memory_bytes = member->cluster->memory_bytes,
        .incarnation = member->incarnation,
        .fenced = node_fenced,
        .context = member,
    };
    member->result = node_start(&options, &member->node);
    member->done = true;
}

static void join_fiber(void *arg)
{
    struct cluster_member *member = arg;
    struct cluster *cluster = member->cluster;
    struct net_addr seeds[CLUSTER_NODES_MAX];
    uint32_t seed_count = 0;
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        if (!cluster->members[i].removed && &cluster->members[i] != member)
            map_node_addr(&cluster->map_nodes[i], &seeds[seed_count++]);
    }
    struct node_join_options options = {
        .disk_path = member->disk,
        .size_bytes = cluster->disk_bytes,
        .force = true, /* a crash may have come between formatting and its success */
        .cluster = cluster->header.cluster,
        .seeds = seeds,
        .seed_count = seed_count,
        .name = "",
        .rack = "",
        .nonce = (uint64_t)(member - cluster->members) + 1,
        .deadline_ns = env_now_ns() + 60 * NS_PER_S,
    };
    map_node_addr(&cluster->map_nodes[member - cluster->members], &options.addr);
    member->result = node_join(&options, &member->id);
    member->done = member->result < 0;
    if (member->result < 0)
        return;
    member->joins = false;
    start_fiber(member);
}

static void format_fiber(void *arg)
{
    struct cluster_member *member = arg;
    struct cluster *cluster = member->cluster;
    const struct node_format_options options = {
        .disk_path = member->disk,
        .size_bytes = cluster->disk_bytes,
        .node = member->id,
        .meta_groups = META_GROUPS,
        .data_groups = DATA_GROUPS,
        .header = cluster->header,
        .nodes = cluster->map_nodes,
        .node_count = cluster->node_count,
    };
    member->result = node_format(&options);
    if (member->result < 0) {
        member->done = true;
        return;
    }
    start_fiber(member);
}

static bool all_done(void *context)
{
    struct cluster *cluster = context;
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        if (!cluster->members[i].done)
            return false;
    }
    return true;
}

static void member_init(struct cluster *cluster, uint32_t index)
{
    struct cluster_member *member = &cluster->members[index];
    struct map_node *map_node = &cluster->map_nodes[index];
    char text[NET_ADDR_TEXT_MAX];
    struct net_addr addr;
    (void)snprintf(text, sizeof text, "10.0.0.%u:%u", index + 1, PORT);
    int result = net_addr_parse(text, &addr);
    assert(result == 0);
    uint32_t host = index / cluster->targets;
    *map_node = (struct map_node){
        .id = index + 1, .host = host + 1, .target = index % cluster->targets, .port = addr.port};
    map_node->voter = map_node->target == 0 && host < 3;
    memcpy(map_node->ip, addr.ip, sizeof map_node->ip);
    map_node->size_bytes = cluster->disk_bytes;
    (void)snprintf(map_node->name, sizeof map_node->name, "node%u", index + 1);
    *strchr(text, ':') = 0;
    member->cluster = cluster;
    member->id = index + 1;
    (void)snprintf(member->disk, sizeof member->disk, "/disk%u", index + 1);
    member->sim_node = sim_node_new(cluster->sim, text);
}

/* One process, one incarnation. */
static void new_incarnations(struct cluster *cluster, uint32_t first)
{
    cluster->starts++;
    for (uint32_t i = 0; i < cluster->targets && cluster->targets > 1; i++)
        cluster->members[first + i].incarnation = (uint64_t)(first + 1) << 32 | cluster->starts;
}

/* What cluster holds already (counts, disk_bytes) is what to start. */
static void start(struct cluster *cluster, uint32_t copies)
{
    uint32_t node_count = cluster->node_count, targets = cluster->targets;
    assert(targets > 0 && node_count <= CLUSTER_NODES_MAX);
    cluster->memory_bytes = 64 * MIB;
    cluster->header = (struct map_header){
        .level = 1, .copies = copies, .min_in_sync = 1, .inline_bytes_max = META_INLINE_MAX};
    memset(cluster->header.cluster.bytes, 0xc1, sizeof cluster->header.cluster.bytes);
    for (uint32_t i = 0; i < node_count; i++)
        member_init(cluster, i);
    for (uint32_t i = 0; i < node_count; i += targets)
        new_incarnations(cluster, i);
    for (uint32_t i = 0; i < node_count; i++)
        reactor_spawn(sim_node_reactor(cluster->members[i].sim_node), "format", format_fiber,
                      &cluster->members[i]);
    bool started =
        sim_run_until(cluster->sim, all_done, cluster, sim_now_ns(cluster->sim) + 30 * NS_PER_S);
    assert(started);
    for (uint32_t i = 0; i < node_count; i++)
        assert(cluster->members[i].result == 0);
}

void cluster_start_hosts(struct cluster *cluster, uint64_t seed, uint32_t hosts, uint32_t targets,
                         uint32_t copies)
{
    *cluster = (struct cluster){.sim = sim_new(seed),
                                .node_count = hosts * targets,
                                .targets = targets,
                                .disk_bytes = DISK_BYTES_DEFAULT};
    start(cluster, copies);
}

void cluster_start_sized(struct cluster *cluster, uint64_t seed, uint32_t node_count,
                         uint32_t copies, uint64_t disk_bytes)
{
    *cluster = (struct cluster){
        .sim = sim_new(seed), .node_count = node_count, .targets = 1, .disk_bytes = disk_bytes};
    start(cluster, copies);
}

void cluster_start(struct cluster *cluster, uint64_t seed, uint32_t node_count, uint32_t copies)
{
    cluster_start_sized(cluster, seed, node_count, copies, DISK_BYTES_DEFAULT);
}

void cluster_free(struct cluster *cluster)
{
    sim_free(cluster->sim);
}

static uint32_t first_of_host(const struct cluster *cluster, uint32_t index)
{
    return index - index % cluster->targets;
}

void cluster_crash(struct cluster *cluster, uint32_t index)
{
    uint32_t first = first_of_host(cluster, index);
    for (uint32_t i = first; i < first + cluster->targets; i++) {
        sim_node_crash(cluster->members[i].sim_node);
        cluster->members[i].node = NULL;
    }
}

void cluster_power_off(struct cluster *cluster, uint32_t index)
{
    uint32_t first = first_of_host(cluster, index);
    for (uint32_t i = first; i < first + cluster->targets; i++) {
        sim_node_power_off(cluster->members[i].sim_node);
        cluster->members[i].node = NULL;
    }
}

void cluster_restart(struct cluster *cluster, uint32_t index)
{
    uint32_t first = first_of_host(cluster, index);
    new_incarnations(cluster, first);
    for (uint32_t i = first; i < first + cluster->targets; i++) {
        struct cluster_member *member = &cluster->members[i];
        sim_node_restart(member->sim_node);
        member->done = false;
        member->fenced = 0;
        reactor_spawn(sim_node_reactor(member->sim_node), "start",
                      member->joins ? join_fiber : start_fiber, member);
    }
}

uint32_t cluster_add_node(struct cluster *cluster)
{
    uint32_t index = cluster->node_count;
    assert(index < CLUSTER_NODES_MAX && cluster->targets == 1);
    member_init(cluster, index);
    cluster->node_count++;
    cluster->members[index].joins = true;
    reactor_spawn(sim_node_reactor(cluster->members[index].sim_node), "join", join_fiber,
                  &cluster->members[index]);
    return index;
}

int cluster_drain(struct cluster *cluster, struct map_client *map, uint32_t index)
{
    return map_client_change_node(map, cluster->members[index].id, MAP_NODE_DRAIN,
                                  env_now_ns() + 30 * NS_PER_S);
}

int cluster_remove(struct cluster *cluster, struct map_client *map, uint32_t index)
{
    int result = map_client_change_node(map, cluster->members[index].id, MAP_NODE_REMOVE,
                                        env_now_ns() + 30 * NS_PER_S);
    if (result == 0)
        cluster->members[index].removed = true;
    return result;
}

bool cluster_is_drained(const struct cluster *cluster, struct map_client *map, uint32_t index)
{
    const struct map_view *view = map_client_view(map);
    return view && map_node_is_drained(view, cluster->members[index].id);
}

bool cluster_is_removed(const struct cluster *cluster, struct map_client *map, uint32_t index)
{
    const struct map_view *view = map_client_view(map);
    return view && !map_view_node(view, cluster->members[index].id);
}

struct client *cluster_client(struct cluster *cluster, struct map_client **ret_map)
{
    const struct rpc_identity identity = {
        .cluster = cluster->header.cluster,
        .incarnation = 1,
        .session = env_entropy_u64() | 1,
    };
    struct rpc *rpc = rpc_new(&identity);
    struct net_addr seeds[CLUSTER_NODES_MAX];
    for (uint32_t i = 0; i < cluster->node_count; i++)
        map_node_addr(&cluster->map_nodes[i], &seeds[i]);
    struct map_client *map = map_client_start(rpc, seeds, cluster->node_count, NULL, NULL);
    const struct client_options options = {.attr_ttl_ns = 0};
    *ret_map = map;
    return client_new(rpc, map, &options);
}

bool cluster_all_in_sync(const struct cluster *cluster, struct map_client *map)
{
    struct map_view *view = map_client_view(map);
    if (!view)
        return false;
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        const struct map_group *group = &view->groups[i];
        if (group->primary == 0 || map_group_in_sync_count(group) < cluster->header.copies)
            return false;
    }
    return true;
}

bool cluster_is_whole(const struct cluster *cluster, struct map_client *map)
{
    const struct map_view *view = map_client_view(map);
    for (uint32_t i = 0; view && i < cluster->node_count; i++) {
        const struct cluster_member *member = &cluster->members[i];
        const struct map_node *node = map_view_node(view, member->id);
        if (member->removed)
            continue;
        if (!node || !member->done || member->result < 0 || node->state != MAP_NODE_UP ||
            node->incarnation != member->node->identity.incarnation)
            return false;
    }
    return view && cluster_all_in_sync(cluster, map);
}

/* Replicas of a kind on a node. */
static uint32_t load_of(const struct map_view *view, uint32_t kind, uint32_t node)
{
    uint32_t load = 0;
    for (uint32_t i = 0; i < view->header->group_count; i++)
        load += view->groups[i].kind == kind && map_group_member_state(&view->groups[i], node) != 0;
    return load;
}

bool cluster_is_balanced(const struct cluster *cluster, struct map_client *map)
{
    const struct map_view *view = map_client_view(map);
    uint32_t takers = 0;
    uint32_t groups[MAP_GROUP_DATA + 1] = {0};
    if (!view || !cluster_is_whole(cluster, map))
        return false;
    for (uint32_t i = 0; i < view->header->node_count; i++)
        takers += view->nodes[i].intent == MAP_NODE_KEEP;
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        groups[view->groups[i].kind]++;
        if (view->groups[i].member_count != view->header->copies)
            return false;
    }
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        for (uint32_t kind = MAP_GROUP_META; kind <= MAP_GROUP_DATA; kind++) {
            uint32_t share = groups[kind] * view->header->copies / takers;
            uint32_t load = load_of(view, kind, view->nodes[i].id);
            if (view->nodes[i].intent != MAP_NODE_KEEP ? load > 0
                                                       : load < share || load > share + 1)
                return false;
        }
    }
    return true;
}

static bool is_set(void *context)
{
    return *(bool *)context;
}

bool cluster_run_fiber(struct cluster *cluster, struct sim_node *host, fiber_fn fn, void *arg,
                       bool *done)
{
    struct sim *sim = cluster->sim;
    *done = false;
    reactor_spawn(sim_node_reactor(host), "test", fn, arg);
    return sim_run_until(sim, is_set, done, sim_now_ns(sim) + 600 * NS_PER_S);
}

int cluster_test_main(int argc, char **argv, uint64_t usual,
                      bool (*run_seed)(uint64_t seed, bool asked))
{
    bool passed = true;
    log_set_level(getenv("CFS_LOG") ? LOG_DEBUG : LOG_ERROR);
    for (int i = 1; i < argc; i++)
        passed &= run_seed(strtoull(argv[i], NULL, 10), true);
    for (uint64_t seed = 1; argc == 1 && seed <= usual; seed++)
        passed &= run_seed(seed, false);
    return passed ? 0 : 1;
}
