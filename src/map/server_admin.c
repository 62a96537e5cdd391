/* SPDX-License-Identifier: MIT */
#include "map/server_internal.h"

#include <stdio.h>

#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"

/* Nodes that are added, drained and removed by an operator's word. What follows from it (replicas
 * that move, voters that change, the end of the entry) is the controller's work. */

enum { ADD_TRIES_MAX = 5 };

/* ---- NODE_ADD -------------------------------------------------------------------------------- */

static const struct map_node *added_before(const struct map_view *view,
                                           const struct wire_node_add_req *body)
{
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        const struct map_node *node = &view->nodes[i];
        if (node->state == MAP_NODE_NEW && node->incarnation == body->nonce &&
            node->port == body->node.port && memcmp(node->ip, body->node.ip, sizeof node->ip) == 0)
            return node;
    }
    return NULL;
}

static bool address_is_taken(const struct map_view *view, const struct map_node *wanted)
{
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        const struct map_node *node = &view->nodes[i];
        if (node->port == wanted->port && memcmp(node->ip, wanted->ip, sizeof node->ip) == 0)
            return true;
    }
    return false;
}

static may_yield int propose_add(struct map_server *server, const struct wire_node_add_req *body)
{
    struct {
        struct map_command command;
        struct map_node node;
    } entry = {.command = {.type = MAP_COMMAND_NODE_ADD}, .node = body->node};
    entry.node.id = server->view->header->last_node + 1;
    entry.node.incarnation = body->nonce;
    if (entry.node.name[0] == 0)
        (void)snprintf(entry.node.name, sizeof entry.node.name, "node%u", entry.node.id);
    return server_propose(server, slice_of(&entry, sizeof entry));
}

static int node_add(struct map_server *server, const struct wire_node_add_req *body,
                    uint32_t *ret_node)
{
    if (body->nonce == 0 || body->node.port == 0 || body->node.size_bytes == 0 ||
        !memchr(body->node.name, 0, MAP_NAME_BYTES) || !memchr(body->node.rack, 0, MAP_NAME_BYTES))
        return -EINVAL;
    for (uint32_t i = 0; i < ADD_TRIES_MAX; i++) {
        if (!server_leads(server) || !server->view)
            return -ERR_NOT_LEADER;
        const struct map_header *header = server->view->header;
        const struct map_node *known = added_before(server->view, body);
        if (header->join_secret != 0 && header->join_secret != body->secret)
            return -EACCES;
        if (known) {
            *ret_node = known->id;
            return 0;
        }
        if (address_is_taken(server->view, &body->node))
            return -EADDRINUSE;
        if (header->node_count == MAP_NODES_MAX || header->last_node == MAP_NODES_MAX)
            return -ENOSPC;
        int result = propose_add(server, body);
        if (result < 0 && result != -ERR_CAS_FAILED) /* somebody else was added meanwhile */
            return result;
    }
    return -ERR_BUSY;
}

static void handle_node_add(void *service, struct rpc_request *request)
{
    struct map_server *server = service;
    const struct wire_node_add_req *body = request->body;
    struct wire_node_add_rep reply = {0};
    int result = node_add(server, body, &reply.node);
    if (result == 0)
        log_info("node-add", "node=%u name=%s", reply.node, body->node.name);
    reply.map_version = server->view ? server->view->header->version : 0;
    rpc_reply(request, result, &reply, slice_of(NULL, 0), (struct buf_slice){0});
}

/* ---- NODE_CHANGE ----------------------------------------------------------------------------- */

static int node_change(struct map_server *server, const struct wire_node_change_req *body)
{
    if (!server_leads(server) || !server->view)
        return -ERR_NOT_LEADER;
    const struct map_node *node = map_view_node(server->view, body->node);
    if (body->intent > MAP_NODE_REMOVE)
        return -EINVAL;
    if (!node)
        return -ENOENT;
    if (node->intent == body->intent)
        return 0;
    if (node->intent == MAP_NODE_REMOVE)
        return -EBUSY;
    int result = body->intent == MAP_NODE_REMOVE ? machine_may_remove(server->view, body->node) : 0;
    if (result < 0)
        return result;
    struct map_command command = {
        .type = MAP_COMMAND_NODE_INTENT, .node = body->node, .op = body->intent};
    return server_propose(server, slice_of(&command, sizeof command));
}

static void handle_node_change(void *service, struct rpc_request *request)
{
    struct map_server *server = service;
    const struct wire_node_change_req *body = request->body;
    struct wire_node_change_rep reply = {0};
    int result = node_change(server, body);
    if (result == 0)
        log_info("node-change", "node=%u intent=%u", body->node, body->intent);
    reply.map_version = server->view ? server->view->header->version : 0;
    rpc_reply(request, result, &reply, slice_of(NULL, 0), (struct buf_slice){0});
}

void server_admin_register(struct map_server *server)
{
    rpc_register(server->rpc, RPC_NODE_ADD, handle_node_add, server);
    rpc_register(server->rpc, RPC_NODE_CHANGE, handle_node_change, server);
}
