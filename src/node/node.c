/* SPDX-License-Identifier: MIT */
/* One node of the map (a target: one reactor, one slice of a device), put together.
 *
 * Problem. A node is a store, its groups, the two contents that groups can have, a share in the
 * map, and an address; they need each other, in an order that recovery dictates.
 *
 * Picture (start, top to bottom; each needs what stands above it):
 *
 *     disk -> identity -> rpc -> contents (data, meta) -> group host
 *          -> store (recovery hands the log to the host) -> configuration
 *          -> map server (voters) -> map client -> lease -> serving -> listen
 *
 * Invariants.
 * N1. The incarnation is new with every start: what an earlier process promised by memory alone
 *     (being in sync) is not claimed again.
 * N2. Nothing is served before the store has recovered and the address is ours.
 * N3. A node that was declared dead does not come back by itself: it is started anew (fenced). A
 *     node whose device failed ends, for a primary that cannot write must not keep its lease.
 * N4. Nodes of one process share nothing but the incarnation, the device's lock (held by the
 *     caller) and their end: what ends one, ends the process.
 *
 * Crash cases. There is no other way to end than to stop: node_stop only saves recovery time.
 *
 * Not here. Who leads what (map), when a replica serves (group). */
#include "node/node_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#define PROBE_TIMEOUT_NS (500 * NS_PER_MS)
#define FENCE_CHECK_NS   (250 * NS_PER_MS)
/* The kernel closes the files of a killed process a moment after its death. */
#define PREDECESSOR_WAIT_NS (5 * NS_PER_S)
#define PREDECESSOR_POLL_NS (20 * NS_PER_MS)
#define LOG_MEMORY_DIVISOR  8 /* of the node's budget: applied records kept for catch-up */
#define STORE_MEMORY_SHARE  2 /* of the node's budget: half for the store */

uint32_t node_id(const struct node *node)
{
    return node->config.node;
}

/* ---- failure detection ---------------------------------------------------------------------- */

struct probe {
    struct node *node;
    uint32_t target;
};

static void nothing_message(struct conn *conn, void *context, struct msg *msg)
{
    (void)conn;
    (void)context;
    msg_free(msg);
}
static void nothing_closed(struct conn *conn, void *context, int error)
{
    (void)conn;
    (void)context;
    (void)error;
}
static const struct conn_ops probe_ops = {nothing_message, nothing_closed};

/* A connection to a node broke: find out whether its process is gone, and tell the leader if so. */
static void probe_fiber(void *arg)
{
    struct probe *probe = arg;
    struct node *node = probe->node;
    struct map_view *view = map_client_view(node->map);
    const struct map_node *target = view ? map_view_node(view, probe->target) : NULL;
    if (target && target->state == MAP_NODE_UP) {
        uint64_t incarnation = target->incarnation;
        struct net_addr addr;
        map_node_addr(target, &addr);
        struct conn *conn;
        int result = net_connect(&addr, env_now_ns() + PROBE_TIMEOUT_NS, &probe_ops, NULL, &conn);
        if (result == 0)
            conn_close(conn);
        else if (result == -ERR_CONN_REFUSED)
            map_client_suspect(node->map, probe->target, incarnation);
    }
    node->probing[probe->target] = false;
    mem_free(probe);
}

static void peer_lost(void *context, const struct net_addr *addr, uint32_t peer, int error)
{
    struct node *node = context;
    (void)addr;
    (void)error;
    if (peer == 0 || peer > MAP_NODES_MAX || node->probing[peer] || !node->map)
        return;
    node->probing[peer] = true;
    struct probe *probe = mem_alloc(sizeof *probe);
    *probe = (struct probe){node, peer};
    fiber_spawn("node-probe", probe_fiber, probe);
}

static void fence_fiber(void *arg)
{
    struct node *node = arg;
    struct store_health health;
    int why = 0;
    while (why == 0) {
        store_health(node->store, &health);
        if (health.fenced)
            why = -ERR_FENCED;
        else if (map_lease_removed(node->lease))
            why = -ENOENT;
        else if (map_lease_fenced(node->lease))
            why = -ERR_NO_LEASE;
        else
            fiber_sleep(FENCE_CHECK_NS);
    }
    if (why == -ERR_FENCED)
        log_error("node-fenced",
                  "node=%u disk=%s why=\"its device failed\" effect=\"the node stops; its groups "
                  "go on with their other members\" fix=\"replace the device\"",
                  node->config.node, node->options.disk_path);
    else if (why == -ENOENT)
        log_warn("node-removed",
                 "node=%u disk=%s why=\"the cluster has removed this node\" effect=\"it stops; "
                 "nothing on its disk is needed\" fix=\"to use it again: claudefsd --join\"",
                 node->config.node, node->options.disk_path);
    else
        log_warn("node-fenced",
                 "node=%u why=\"was silent for longer than its lease\" effect=\"starts anew and "
                 "catches up\"",
                 node->config.node);
    if (node->options.fenced)
        node->options.fenced(node->options.context, why);
}

/* ---- glue ----------------------------------------------------------------------------------- */

static int start_map_server(struct node *node)
{
    const struct map_server_options options = {
        .node = node->config.node,
        .header = &node->config.header,
        .nodes = node->nodes,
        .node_count = node->config.node_count,
        .meta_groups = node->config.meta_groups,
        .data_groups = node->config.data_groups,
    };
    return map_server_start(node->rpc, node->store, &options, &node->map_server);
}

/* The map group takes us in, or lets us go. */
static void map_group_changed(struct node *node, const struct map_node *self)
{
    bool member = self->voter != MAP_VOTER_NONE;
    if (member && !node->map_server) {
        int result = start_map_server(node);
        if (result < 0) {
            log_error("map-server", "node=%u error=%s effect=\"takes no part in the map group\"",
                      node->config.node, error_name(result));
            return;
        }
        map_server_follow(node->map_server, node->map);
    } else if (node->map_server && member != node->is_member) {
        map_server_set_member(node->map_server, member);
    }
    if (!member && node->is_member)
        rpc_on_peer_lost(node->rpc, peer_lost, node);
    node->is_member = member;
}

static void map_changed(void *context, struct map_view *view)
{
    struct node *node = context;
    rpc_set_map_version(node->rpc, view->header->version);
    group_host_map_changed(node->host, view);
    meta_map_changed(node->meta, view);
    const struct map_node *self = map_view_node(view, node->config.node);
    if (self)
        map_group_changed(node, self);
    node_seeds_save(node, view);
}

static void session_closed(void *context, uint64_t session)
{
    struct node *node = context;
    meta_session_closed(node->meta, session);
}

static uint32_t lease_replicas(void *context, struct map_replica_report *reports, uint32_t max)
{
    struct node *node = context;
    return group_host_reports(node->host, reports, max);
}

static void lease_usage(void *context, uint64_t *ret_used_bytes, uint64_t *ret_size_bytes)
{
    struct node *node = context;
    struct store_space space;
    store_space(node->store, &space);
    *ret_used_bytes = space.used_bytes;
    *ret_size_bytes = space.size_bytes;
}
static const struct map_lease_ops lease_ops = {lease_replicas, lease_usage};

/* ---- start ---------------------------------------------------------------------------------- */

static int load_config(struct node *node)
{
    uint8_t value[STORE_VALUE_MAX];
    int bytes = store_get(node->store, node_config_key(), value, sizeof value);
    if (bytes == -ENOENT)
        return -ERR_NOT_FORMATTED;
    if (bytes < 0)
        return bytes;
    struct reader reader;
    reader_init(&reader, value, (size_t)bytes);
    reader_copy(&reader, &node->config, sizeof node->config);
    if (!reader_ok(&reader) || node->config.version != DISK_NODE_CONFIG_VERSION)
        return -ERR_WRONG_VERSION;
    if (node->config.node_count == 0 || node->config.node_count > DISK_NODE_CONFIG_NODES_MAX)
        return -ERR_CORRUPT_DISK;
    reader_copy(&reader, node->nodes, node->config.node_count * sizeof node->nodes[0]);
    return reader_ok(&reader) ? 0 : -ERR_CORRUPT_DISK;
}

static const struct map_node *own_entry(const struct node *node)
{
    for (uint32_t i = 0; i < node->config.node_count; i++) {
        if (node->nodes[i].id == node->config.node)
            return &node->nodes[i];
    }
    return NULL;
}

int node_device_open(const char *path, uint32_t flags, struct disk **ret_disk,
                     struct store_identity *ret_identity)
{
    uint64_t end_ns = env_now_ns() + PREDECESSOR_WAIT_NS;
    struct disk *disk;
    int result;
    while ((result = disk_open(path, 0, flags, &disk)) == -EBUSY && !(flags & DISK_READ_ONLY) &&
           env_now_ns() <= end_ns)
        fiber_sleep(PREDECESSOR_POLL_NS);
    if (result < 0)
        return result;
    result = store_identify(disk, ret_identity);
    if (result < 0)
        disk_close(disk);
    else
        *ret_disk = disk;
    return result;
}

/* The node's disk, which is what it was said to be. */
static int open_disk(struct node *node, bool read_only, struct store_identity *ret_identity)
{
    const char *path = node->options.disk_path;
    const struct node_slice *slice = &node->options.slice;
    uint32_t flags = read_only ? DISK_READ_ONLY : 0;
    if (slice->bytes == 0) {
        int result = node_device_open(path, flags, &node->disk, ret_identity);
        if (result < 0)
            return result;
    } else {
        int result =
            disk_open_part(path, slice->index * slice->bytes, slice->bytes, flags, &node->disk);
        if (result == 0)
            result = store_identify(node->disk, ret_identity);
        if (result < 0)
            return result;
    }
    if (ret_identity->slice_bytes == slice->bytes && ret_identity->slice_count == slice->count &&
        ret_identity->slice == slice->index)
        return 0;
    log_error("node-slice",
              "disk=%s slice=%u of=%u why=\"there is slice %u of %u, %llu bytes each\" "
              "effect=\"this node does not run\" fix=\"put back the device as it was formatted\"",
              path, slice->index, slice->count, ret_identity->slice, ret_identity->slice_count,
              (unsigned long long)ret_identity->slice_bytes);
    return -ERR_CORRUPT_DISK;
}

static int open_storage(struct node *node, bool read_only)
{
    struct store_identity identity;
    int result = open_disk(node, read_only, &identity);
    if (result < 0)
        return result;
    uint64_t incarnation = node->options.incarnation;
    node->identity = (struct rpc_identity){
        .cluster = identity.cluster,
        .node = identity.node,
        .incarnation = incarnation ? incarnation : env_entropy_u64() | 1, /* N1 */
    };
    node->rpc = rpc_new(&node->identity);
    node->data = data_service_new();
    node->meta = meta_service_new();
    const struct group_host_options host_options = {
        .node = identity.node,
        .store = &node->store,
        .log_memory_bytes = node->options.memory_bytes / LOG_MEMORY_DIVISOR,
        .content = {[MAP_GROUP_META] = &meta_content_ops, [MAP_GROUP_DATA] = &data_content_ops},
        .content_context = {[MAP_GROUP_META] = node->meta, [MAP_GROUP_DATA] = node->data},
    };
    node->host = group_host_new(node->rpc, &host_options);
    const struct store_options store_options = {
        .memory_bytes = node->options.memory_bytes / STORE_MEMORY_SHARE,
        .log_ops = &group_host_log_ops,
        .context = node->host,
        .read_only = read_only,
    };
    result = store_open(node->disk, &store_options, &node->store);
    if (result == 0)
        result = group_host_load(node->host);
    return result == 0 ? load_config(node) : result;
}

static int join_map(struct node *node, const struct map_node *self)
{
    node->is_member = self->voter == MAP_VOTER_FULL || map_server_is_stored(node->store);
    if (node->is_member) {
        int result = start_map_server(node);
        if (result < 0)
            return result;
    }
    struct net_addr seeds[NODE_SEEDS_MAX];
    uint32_t seed_count = node_seeds_load(node, seeds);
    node->map = map_client_start(node->rpc, seeds, seed_count, map_changed, node);
    if (node->is_member)
        map_server_follow(node->map_server, node->map);
    else
        map_client_relay(node->map);
    node->lease = map_lease_start(node->rpc, node->map, node->config.node, &lease_ops, node);
    group_host_start(node->host, node->map, node->lease);
    return 0;
}

/* A process that was killed a moment ago can hold its address a little longer. */
static int listen_at(struct node *node, const struct map_node *self)
{
    struct net_addr addr;
    map_node_addr(self, &addr);
    uint64_t end_ns = env_now_ns() + PREDECESSOR_WAIT_NS;
    for (;;) {
        int result = rpc_listen(node->rpc, &addr);
        if (result != -EADDRINUSE || env_now_ns() > end_ns)
            return result;
        fiber_sleep(PREDECESSOR_POLL_NS);
    }
}

static int start_steps(struct node *node)
{
    int result = open_storage(node, false);
    if (result < 0)
        return result;
    const struct map_node *self = own_entry(node);
    if (!self || (node->options.slice.bytes > 0 && self->target != node->options.slice.index))
        return -ERR_CORRUPT_DISK;
    if (node->options.host != 0 && self->host != node->options.host) {
        log_error("node-start", "disk=%s why=\"it is the disk of node %u, not of node %u\"",
                  node->options.disk_path, self->host, node->options.host);
        return -EINVAL;
    }
    rpc_on_peer_lost(node->rpc, peer_lost, node); /* members of the map group: map/contact.c */
    rpc_on_session_closed(node->rpc, session_closed, node);
    result = join_map(node, self);
    if (result < 0)
        return result;
    data_service_set_scrub(node->data, node->options.scrub_rate, node->options.scrub_every_ns);
    data_service_start(node->data, node->rpc, node->host);
    data_service_set_namer(node->data, meta_name_inode, node->meta);
    meta_service_start(node->meta, node->rpc, node->host, node->map);
    node_status_start(node);
    fiber_spawn("node-fence", fence_fiber, node);
    return listen_at(node, self); /* last: every handler is in place (N2) */
}

int node_start(const struct node_options *options, struct node **ret_node)
{
    struct node *node = mem_zalloc(sizeof *node);
    node->options = *options;
    if (node->options.memory_bytes == 0)
        node->options.memory_bytes = NODE_MEMORY_DEFAULT;
    node->started_ns = env_now_ns();
    int result = start_steps(node);
    if (result < 0) {
        log_error("node-start", "disk=%s error=%s why=\"%s\" effect=\"this node does not run\"",
                  options->disk_path, error_name(result), error_text(result));
        return result; /* the process ends: nothing is unwound */
    }
    log_info("node-start", "node=%u disk=%s", node->config.node, options->disk_path);
    *ret_node = node;
    return 0;
}

int node_look(const struct node_options *options, struct node **ret_node)
{
    struct node *node = mem_zalloc(sizeof *node);
    assert(options->memory_bytes >= NODE_MEMORY_MIN);
    node->options = *options;
    int result = open_storage(node, true);
    if (result == 0)
        *ret_node = node;
    return result; /* the process ends: nothing is unwound */
}

int node_stop(struct node *node)
{
    return store_close(node->store);
}
