/* SPDX-License-Identifier: MIT */
#include "scale_world.h"

#include <stdio.h>
#include <string.h>

#include "base/errors.h"
#include "base/mem.h"
#include "format/wire_map.h"
#include "map/server_internal.h"

enum {
    PORT = 7000,
    CHUNK_BYTES = 64 << 20, /* of the model; stands for 64 chunks of 1 MiB one after the other */
    CHUNK_ROUND_TRIPS = 64, /* in it */
    COPY_LANES = 4,         /* chunks of a copy under way (group/scan.c) */
    META_SHARE_PERCENT = 2, /* of the bytes is metadata */
    STORE_BYTES_LOG = 30,   /* of a member of the map group: 1 GiB */
};
#define ROUND_TRIP_NS (100 * NS_PER_US)
#define PROMOTE_NS    (20 * NS_PER_MS) /* last records, flush */
#define TEND_NS       (50 * NS_PER_MS)

void scale_addr(uint32_t id, struct net_addr *ret_addr, char text[40])
{
    char with_port[48];
    (void)snprintf(text, 40, "10.0.%u.%u", id / 200, id % 200 + 1);
    (void)snprintf(with_port, sizeof with_port, "%s:%u", text, PORT);
    int result = net_addr_parse(with_port, ret_addr);
    assert(result == 0);
}

struct scale_node *scale_node(struct scale_world *world, uint32_t id)
{
    assert(id >= 1 && id <= world->node_count + 1);
    return &world->nodes[id - 1];
}

/* ---- the model of a group ------------------------------------------------------------------- */

/* One thing after the other: wait until bytes have passed. */
static void pass(uint64_t *free_ns, uint64_t bytes, uint64_t rate)
{
    uint64_t start = MAX(*free_ns, env_now_ns());
    *free_ns = start + bytes * 1000 / (rate / 1000000);
    fiber_sleep_until(*free_ns);
}

struct copy {
    struct scale_node *source;
    uint32_t group_index;
    uint32_t group;
    uint32_t node;
    uint64_t left; /* bytes that nobody has begun with */
    uint32_t lanes;
};

static const struct map_group *still_wanted(const struct copy *copy)
{
    struct map_view *view = map_client_view(copy->source->client);
    const struct map_group *group = map_view_group(view, copy->group);
    const struct map_node *target = map_view_node(view, copy->node);
    bool wanted = group->primary == copy->source->id && target && target->state == MAP_NODE_UP &&
                  map_group_member_state(group, copy->node) == MAP_MEMBER_JOINING;
    return wanted ? group : NULL;
}

static void copy_end(struct copy *copy)
{
    struct scale_node *source = copy->source;
    fiber_sleep(PROMOTE_NS);
    const struct map_group *group = still_wanted(copy);
    if (group) {
        int result =
            map_client_change_group(source->client, group->id, group->epoch, GROUP_CHANGE_IN_SYNC,
                                    copy->node, env_now_ns() + NS_PER_S);
        source->world->copies_done += result == 0; /* else tend_fiber begins anew */
    }
    source->copying[copy->group_index] = false;
    mem_free(copy);
}

/* One chunk after the other; COPY_LANES of these are one copy. */
static void lane_fiber(void *arg)
{
    struct copy *copy = arg;
    struct scale_node *source = copy->source;
    struct scale_world *world = source->world;
    struct scale_node *target = scale_node(world, copy->node);
    while (copy->left > 0 && still_wanted(copy)) {
        uint64_t bytes = MIN(copy->left, (uint64_t)CHUNK_BYTES);
        copy->left -= bytes;
        pass(&source->read_free_ns, bytes, world->speeds.read_rate);
        pass(&source->out_free_ns, bytes, world->speeds.net_rate);
        pass(&target->in_free_ns, bytes, world->speeds.net_rate);
        pass(&target->write_free_ns, bytes, world->speeds.write_rate);
        fiber_sleep(CHUNK_ROUND_TRIPS * ROUND_TRIP_NS);
        world->copied_bytes += bytes;
    }
    if (--copy->lanes == 0)
        copy_end(copy);
}

static void copy_start(struct scale_node *source, uint32_t index, const struct map_group *group,
                       uint32_t target)
{
    struct copy *copy = mem_alloc(sizeof *copy);
    *copy = (struct copy){.source = source,
                          .group_index = index,
                          .group = group->id,
                          .node = target,
                          .left = source->world->group_bytes[group->kind],
                          .lanes = COPY_LANES};
    source->copying[index] = true;
    for (uint32_t i = 0; i < COPY_LANES; i++)
        fiber_spawn("copy", lane_fiber, copy);
}

static void tend(struct scale_node *node, const struct map_view *view)
{
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        const struct map_group *group = &view->groups[i];
        for (uint32_t m = 0; m < group->member_count && group->primary == node->id; m++) {
            uint32_t target = group->members[m].node;
            if (group->members[m].state != MAP_MEMBER_JOINING || node->copying[i] ||
                map_view_node(view, target)->state != MAP_NODE_UP)
                continue;
            copy_start(node, i, group, target);
        }
    }
}

/* What a primary does: brings joining members in. */
static void tend_fiber(void *arg)
{
    struct scale_node *node = arg;
    uint64_t looked = 0;
    for (;;) {
        struct map_view *view = map_client_view(node->client);
        if (view && view->header->version != looked && map_lease_valid(node->lease)) {
            looked = view->header->version;
            tend(node, view);
        }
        fiber_sleep(TEND_NS);
    }
}

/* ---- a node --------------------------------------------------------------------------------- */

static uint32_t replicas(void *context, struct map_replica_report *reports, uint32_t max)
{
    const struct scale_node *node = context;
    const struct map_view *view = node->world->first;
    uint32_t count = 0;
    for (uint32_t i = 0; i < view->header->group_count && count < max; i++) {
        if (map_group_member_state(&view->groups[i], node->id) != 0)
            reports[count++] = (struct map_replica_report){
                .group = view->groups[i].id, .valid = 1, .last_epoch = 1, .last_seq = 1};
    }
    return count;
}

static void usage(void *context, uint64_t *ret_used_bytes, uint64_t *ret_size_bytes)
{
    const struct scale_node *node = context;
    *ret_used_bytes = node->world->speeds.used_bytes;
    *ret_size_bytes = 100 * GIB;
}

static const struct map_lease_ops lease_ops = {replicas, usage};

static void map_seen(void *context, struct map_view *view)
{
    struct scale_node *node = context;
    struct scale_world *world = node->world;
    if (node->seen_version < world->version && view->header->version >= world->version)
        world->version_seen++;
    node->seen_version = view->header->version;
}

/* Put the map into the store of a member, as its Raft would have. */
static void store_first(struct scale_node *node, struct store *store,
                        const struct map_server_options *options)
{
    struct map_server *server = mem_zalloc(sizeof *server);
    struct raft_options raft_options = {.node = node->id,
                                        .seed = 1,
                                        .election_min_ns = MAP_ELECTION_MIN_NS,
                                        .election_max_ns = MAP_ELECTION_MAX_NS,
                                        .heartbeat_ns = MAP_RAFT_BEAT_NS,
                                        .gone_stagger_ns = MAP_GONE_STAGGER_NS};
    for (uint32_t i = 0; i < options->node_count; i++) {
        if (options->nodes[i].voter == MAP_VOTER_FULL)
            raft_options.config.voters[raft_options.config.voter_count++] = options->nodes[i].id;
    }
    const struct map_view *first = node->world->first;
    server->store = store;
    server->raft = raft_new(&raft_options);
    server->update = mem_zalloc(sizeof *server->update);
    waitq_init(&server->persist_wake);
    raft_restore_state(server->raft, 1, 0);
    raft_restore_snapshot(server->raft, 1, 1, &raft_options.config);
    server_snapshot_set(server, map_view_bytes(first), first->bytes);
    server->update->persist = RAFT_PERSIST_STATE | RAFT_PERSIST_SNAPSHOT;
    server->update->persist_seq = 1;
    server_persist(server);
}

static void start_server(struct scale_node *node)
{
    static const struct store_log_ops log_ops;
    const struct store_options store_options = {.memory_bytes = 16 * MIB, .log_ops = &log_ops};
    const struct store_identity identity = {.node = node->id};
    const struct map_view *first = node->world->first;
    char path[32];
    struct disk *disk;
    struct store *store;
    (void)snprintf(path, sizeof path, "/disk%u", node->id);
    int result = disk_open(path, 1ull << STORE_BYTES_LOG, DISK_CREATE, &disk);
    if (result == 0)
        result = store_format(disk, &identity, false);
    if (result == 0)
        result = store_open(disk, &store_options, &store);
    assert(result == 0);
    const struct map_server_options options = {
        .node = node->id,
        .header = first->header,
        .nodes = first->nodes,
        .node_count = MIN(first->header->node_count, 32u),
        .meta_groups = 1,
        .data_groups = 1,
    };
    store_first(node, store, &options);
    result = map_server_start(node->rpc, store, &options, &node->server);
    assert(result == 0);
}

static void start_rest(struct scale_node *node)
{
    struct net_addr seeds[3];
    struct net_addr own;
    char text[40];
    for (uint32_t i = 0; i < ARRAY_COUNT(seeds); i++)
        scale_addr(i + 1, &seeds[i], text);
    scale_addr(node->id, &own, text);
    node->client = map_client_start(node->rpc, seeds, ARRAY_COUNT(seeds), map_seen, node);
    if (node->server)
        map_server_follow(node->server, node->client);
    else
        map_client_relay(node->client);
    node->lease = map_lease_start(node->rpc, node->client, node->id, &lease_ops, node);
    node->copying = mem_zalloc(MAP_GROUPS_MAX * sizeof *node->copying);
    fiber_spawn("tend", tend_fiber, node);
    int result = rpc_listen(node->rpc, &own);
    assert(result == 0);
    node->running = true;
}

static void node_main(void *arg)
{
    struct scale_node *node = arg;
    const struct map_node *entry = map_view_node(node->world->first, node->id);
    const struct rpc_identity identity = {.node = node->id, .incarnation = entry->incarnation};
    node->rpc = rpc_new(&identity);
    if (entry->voter == MAP_VOTER_FULL)
        start_server(node);
    start_rest(node);
}

/* Register as node_join does, then run. */
static void join_main(void *arg)
{
    struct scale_node *node = arg;
    const struct rpc_identity asker = {.session = 7};
    struct rpc *rpc = rpc_new(&asker);
    struct net_addr own;
    struct net_addr leader;
    char text[40];
    uint32_t leads = 0;
    struct wire_node_add_req body = {.nonce = 99};
    scale_addr(node->id, &own, text);
    memcpy(body.node.ip, own.ip, sizeof own.ip);
    body.node.port = own.port;
    body.node.size_bytes = 100 * GIB;
    for (int result = -1; result != 0;) {
        (void)scale_map(node->world, &leads);
        scale_addr(MAX(leads, 1u), &leader, text);
        struct rpc_call call = {
            .type = RPC_NODE_ADD, .body = &body, .deadline_ns = env_now_ns() + NS_PER_S};
        result = rpc_call(rpc, &leader, &call);
        rpc_call_fini(&call);
        if (result != 0)
            fiber_sleep(100 * NS_PER_MS);
    }
    const struct rpc_identity identity = {.node = node->id, .incarnation = 4242};
    node->rpc = rpc_new(&identity);
    start_rest(node);
}

/* ---- the world ------------------------------------------------------------------------------ */

static void node_init(struct scale_world *world, uint32_t id)
{
    struct scale_node *node = &world->nodes[id - 1];
    struct net_addr addr;
    char text[40];
    scale_addr(id, &addr, text);
    node->world = world;
    node->id = id;
    node->sim_node = sim_node_new(world->sim, text);
}

struct scale_world *scale_world_new(uint64_t seed, struct map_view *first,
                                    const struct scale_speeds *speeds)
{
    struct scale_world *world = mem_zalloc(sizeof *world);
    uint32_t groups[MAP_GROUP_DATA + 1] = {0};
    world->sim = sim_new(seed);
    world->first = first;
    world->speeds = *speeds;
    world->node_count = first->header->node_count;
    world->nodes = mem_zalloc((world->node_count + 1) * sizeof *world->nodes);
    for (uint32_t i = 0; i < first->header->group_count; i++)
        groups[first->groups[i].kind]++;
    uint64_t bytes = speeds->used_bytes * world->node_count / first->header->copies;
    uint64_t meta = bytes / 100 * META_SHARE_PERCENT;
    world->group_bytes[MAP_GROUP_META] = meta / groups[MAP_GROUP_META];
    world->group_bytes[MAP_GROUP_DATA] = (bytes - meta) / groups[MAP_GROUP_DATA];
    for (uint32_t id = 1; id <= world->node_count; id++) {
        node_init(world, id);
        reactor_spawn(sim_node_reactor(world->nodes[id - 1].sim_node), "main", node_main,
                      &world->nodes[id - 1]);
    }
    return world;
}

void scale_world_free(struct scale_world *world)
{
    sim_free(world->sim);
    map_view_put(world->first);
    mem_free(world->nodes);
    mem_free(world);
}

void scale_join(struct scale_world *world)
{
    node_init(world, world->node_count + 1);
    struct scale_node *node = &world->nodes[world->node_count];
    reactor_spawn(sim_node_reactor(node->sim_node), "join", join_main, node);
}

const struct map_view *scale_map(const struct scale_world *world, uint32_t *ret_leader)
{
    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct scale_node *node = &world->nodes[i];
        if (!node->server || !sim_node_up(node->sim_node) || !map_server_is_leader(node->server))
            continue;
        *ret_leader = node->id;
        return node->server->view;
    }
    return NULL;
}

uint64_t scale_calls(const struct scale_world *world)
{
    uint64_t calls = 0;
    for (uint32_t i = 0; i < world->node_count; i++) {
        struct rpc_stats stats;
        if (!world->nodes[i].running || !sim_node_up(world->nodes[i].sim_node))
            continue;
        rpc_stats(world->nodes[i].rpc, &stats);
        calls += stats.calls;
    }
    return calls;
}
