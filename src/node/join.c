/* SPDX-License-Identifier: MIT */
/* Becoming a node of a cluster that runs: ask its leader for an id, then format the device with all
 * a node needs to know. Before the cluster has answered nothing is written (but an empty file is
 * made where a file is to be the disk); an answer that is lost is asked for again with the same
 * nonce. */
#include <stdio.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "format/wire_map.h"
#include "node/node_internal.h"

#define ASK_TIMEOUT_NS (NS_PER_S)
#define ASK_PAUSE_NS   (100 * NS_PER_MS)

struct join {
    const struct node_join_options *options;
    struct rpc *rpc;
    struct map_view *view;
    uint32_t leader; /* by the last who answered; 0: not known */
};

static uint64_t ask_deadline_ns(const struct join *join)
{
    return MIN(env_now_ns() + ASK_TIMEOUT_NS, join->options->deadline_ns);
}

/* Fetch the map from one address. */
static may_yield int ask_map(struct join *join, const struct net_addr *addr)
{
    struct wire_map_get_req body = {.version = join->view ? join->view->header->version : 0};
    struct rpc_call call = {
        .type = RPC_MAP_GET, .body = &body, .deadline_ns = ask_deadline_ns(join)};
    struct wire_map_get_rep reply;
    int result = rpc_call(join->rpc, addr, &call);
    if (result >= 0 && !rpc_reply_body(&call, &reply, sizeof reply, NULL))
        result = -ERR_CORRUPT_WIRE;
    if (result >= 0)
        join->leader = reply.leader;
    if (result >= 0 && call.reply->payload_bytes > 0) {
        struct map_view *view;
        result = map_view_new(call.reply->payload->data, call.reply->payload_bytes, &view);
        if (result == 0) {
            map_view_put(join->view);
            join->view = view;
        }
    }
    rpc_call_fini(&call);
    return result;
}

static bool leader_addr(const struct join *join, struct net_addr *ret_addr)
{
    const struct map_node *node =
        join->view && join->leader ? map_view_node(join->view, join->leader) : NULL;
    if (node)
        map_node_addr(node, ret_addr);
    return node != NULL;
}

/* Is it an answer, or is asking elsewhere or later worth it? */
static bool is_final(int result)
{
    return result >= 0 || result == -EACCES || result == -EADDRINUSE || result == -ENOSPC ||
           result == -EINVAL || result == -ERR_WRONG_CLUSTER || result == -ERR_UNKNOWN_RPC;
}

static may_yield int ask_id(struct join *join, uint64_t size_bytes, uint32_t *ret_node)
{
    const struct node_join_options *options = join->options;
    struct wire_node_add_req body = {.secret = options->secret, .nonce = options->nonce};
    struct net_addr addr;
    body.node.size_bytes = size_bytes;
    body.node.port = options->addr.port;
    memcpy(body.node.ip, options->addr.ip, sizeof body.node.ip);
    (void)snprintf(body.node.name, sizeof body.node.name, "%s", options->name);
    (void)snprintf(body.node.rack, sizeof body.node.rack, "%s", options->rack);
    if (!leader_addr(join, &addr))
        return -ERR_NOT_LEADER;
    struct rpc_call call = {
        .type = RPC_NODE_ADD, .body = &body, .deadline_ns = ask_deadline_ns(join)};
    struct wire_node_add_rep reply;
    int result = rpc_call(join->rpc, &addr, &call);
    if (result == 0 && !rpc_reply_body(&call, &reply, sizeof reply, NULL))
        result = -ERR_CORRUPT_WIRE;
    rpc_call_fini(&call);
    if (result == 0)
        result = ask_map(join, &addr);
    if (result == 0 && !map_view_node(join->view, reply.node))
        result = -ERR_NOT_LEADER; /* a map from before */
    if (result == 0)
        *ret_node = reply.node;
    return result;
}

static may_yield int register_node(struct join *join, uint64_t size_bytes, uint32_t *ret_node)
{
    const struct node_join_options *options = join->options;
    int last = -ERR_TIMED_OUT;
    for (uint32_t i = 0; env_now_ns() < options->deadline_ns; i++) {
        int result = ask_map(join, &options->seeds[i % options->seed_count]);
        if (result >= 0)
            result = ask_id(join, size_bytes, ret_node);
        if (is_final(result))
            return result;
        last = result;
        fiber_sleep(ASK_PAUSE_NS);
    }
    log_debug("node-join", "error=%s why=\"last of many tries\"", error_name(last));
    return -ERR_TIMED_OUT;
}

/* The nodes to start from: members of the map group, then others, and the new one itself. */
static uint32_t choose_nodes(const struct map_view *view, uint32_t self, struct map_node *nodes)
{
    uint32_t count = 0;
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < view->header->node_count; i++) {
            const struct map_node *node = &view->nodes[i];
            bool voter = node->voter == MAP_VOTER_FULL;
            if (node->id != self && voter == (pass == 0) && count + 1 < DISK_NODE_CONFIG_NODES_MAX)
                nodes[count++] = *node;
        }
    }
    nodes[count++] = *map_view_node(view, self);
    assert(count <= DISK_NODE_CONFIG_NODES_MAX);
    return count;
}

/* How large is the device, or will the file be? */
static may_yield int disk_bytes(const struct node_join_options *options, uint64_t *ret_bytes)
{
    struct disk *disk;
    int result = disk_open(options->disk_path, options->size_bytes, DISK_CREATE, &disk);
    if (result < 0)
        return result;
    *ret_bytes = disk_info(disk)->size_bytes;
    struct store_identity identity;
    result = store_identify(disk, &identity);
    disk_close(disk);
    if (result == 0 && !options->force)
        return -EEXIST;
    return result == 0 || result == -ERR_NOT_FORMATTED || options->force ? 0 : result;
}

int node_join(const struct node_join_options *options, uint32_t *ret_node)
{
    uint64_t size_bytes = 0;
    uint32_t id = 0;
    const struct rpc_identity identity = {.cluster = options->cluster,
                                          .session = env_entropy_u64() | 1};
    assert(options->nonce != 0 && options->seed_count > 0);
    int result = disk_bytes(options, &size_bytes);
    if (result < 0)
        return result;
    struct join join = {.options = options, .rpc = rpc_new(&identity)};
    result = register_node(&join, size_bytes, &id);
    if (result == 0) {
        struct map_node *nodes = mem_zalloc(DISK_NODE_CONFIG_NODES_MAX * sizeof *nodes);
        const struct node_format_options format = {
            .disk_path = options->disk_path,
            .size_bytes = options->size_bytes,
            .force = options->force,
            .node = id,
            .header = *join.view->header,
            .nodes = nodes,
            .node_count = choose_nodes(join.view, id, nodes),
        };
        result = node_format(&format);
        mem_free(nodes);
    }
    if (result == 0)
        *ret_node = id;
    map_view_put(join.view);
    return result;
}
