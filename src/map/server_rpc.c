/* SPDX-License-Identifier: MIT */
#include "map/server_internal.h"

#include <stdlib.h>

#include "map/client_internal.h"

#include "base/crc32c.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"

/* Requests of nodes and clients to a member of the map group. */

#define POLL_WAIT_MAX_NS (30 * NS_PER_S)
#define UP_WAIT_NS       (500 * NS_PER_MS)
#define DROP_WAIT_NS     (2 * NS_PER_S)
#define CLIENT_SHOWN_NS  (60 * NS_PER_S)

/* ---- MAP_GET --------------------------------------------------------------------------------- */

static struct seen_client *client_seen(struct map_server *server, uint64_t session,
                                       const char *name)
{
    uint32_t oldest = 0;
    for (uint32_t i = 0; i < server->client_count; i++) {
        if (server->clients[i].session == session)
            return &server->clients[i];
        if (server->clients[i].seen_ns < server->clients[oldest].seen_ns)
            oldest = i;
    }
    if (server->client_count < SERVER_CLIENTS_MAX)
        oldest = server->client_count++;
    struct seen_client *client = &server->clients[oldest];
    *client = (struct seen_client){.session = session};
    memcpy(client->name, name, sizeof client->name - 1);
    return client;
}

/* Is a client asking? Then remember it for STATUS. */
static void note_client(struct map_server *server, const struct rpc_request *request, bool ends)
{
    const struct wire_map_get_req *body = request->body;
    if (request->peer_node != 0 || request->peer_session == 0)
        return;
    struct seen_client *client = client_seen(server, request->peer_session, body->client_name);
    client->seen_ns = env_now_ns();
    if (!ends)
        client->polls++;
    else if (client->polls > 0)
        client->polls--;
}

uint32_t map_server_clients(const struct map_server *server, struct wire_status_client *rows,
                            uint32_t max)
{
    uint32_t count = 0;
    uint64_t now = env_now_ns();
    for (uint32_t i = 0; i < server->client_count && count < max; i++) {
        const struct seen_client *client = &server->clients[i];
        uint64_t idle = client->polls > 0 ? 0 : now - client->seen_ns;
        if (idle > CLIENT_SHOWN_NS)
            continue;
        rows[count] =
            (struct wire_status_client){.session = client->session, .idle_ms = idle / NS_PER_MS};
        memcpy(rows[count].name, client->name, sizeof rows[count].name);
        count++;
    }
    return count;
}

static struct buf_slice view_payload(struct map_server *server)
{
    if (!server->view_buf) {
        server->view_buf = buf_new(server->view->bytes);
        memcpy(server->view_buf->data, map_view_bytes(server->view), server->view->bytes);
    }
    return (struct buf_slice){.buf = server->view_buf, .bytes = server->view->bytes};
}

/* Is what the client follows newer than what the group has told us? */
static bool follows_better(const struct map_server *server)
{
    const struct map_view *followed = server->client ? map_client_view(server->client) : NULL;
    if (!followed || !server->view)
        return followed != NULL;
    return !server->member || followed->header->version > server->view->header->version;
}

static void handle_map_get(void *service, struct rpc_request *request)
{
    struct map_server *server = service;
    const struct wire_map_get_req *body = request->body;
    uint64_t wait_ns = MIN(body->wait_ms * NS_PER_MS, POLL_WAIT_MAX_NS);
    uint64_t deadline = env_now_ns() + wait_ns;
    if (follows_better(server)) {
        map_client_serve_get(server->client, request);
        return;
    }
    note_client(server, request, false);
    while (!server->view || server->view->header->version <= body->version) {
        if (env_now_ns() >= deadline)
            break;
        (void)waitq_wait(&server->changed, deadline); /* both outcomes: look again */
    }
    note_client(server, request, true);
    struct wire_map_get_rep reply = {
        .version = server->view ? server->view->header->version : 0,
        .leader = server->failed ? 0 : raft_leader(server->raft),
    };
    struct buf_slice payload = {0};
    struct buf *delta = NULL;
    if (body->delta && body->version > 0 && reply.version > body->version)
        delta = map_history_delta(&server->history, server->view, body->version, &payload.bytes);
    reply.delta = delta != NULL;
    if (delta)
        payload.buf = delta;
    else if (reply.version > body->version)
        payload = view_payload(server);
    rpc_reply(request, 0, &reply, slice_of(NULL, 0), payload);
    buf_put(delta);
}

/* ---- NODE_BEAT ------------------------------------------------------------------------------- */

static int compare_reports(const void *a, const void *b)
{
    uint32_t first = ((const struct map_replica_report *)a)->group;
    uint32_t second = ((const struct map_replica_report *)b)->group;
    return (first > second) - (first < second);
}

/* Those that are not whole are not taken, and asked for again. */
static void reports_take(struct contact *contact, const struct rpc_request *request)
{
    const struct wire_node_beat_req *body = request->body;
    uint64_t bytes = (uint64_t)body->report_count * sizeof(struct map_replica_report);
    if (body->report_count > MAP_GROUPS_MAX || bytes != request->payload.bytes)
        return;
    struct map_replica_report *reports = mem_alloc(bytes + 1);
    if (bytes > 0)
        memcpy(reports, buf_slice_data(&request->payload), bytes);
    if (crc32c(0, reports, bytes) != body->reports_crc) {
        mem_free(reports);
        return;
    }
    qsort(reports, body->report_count, sizeof *reports, compare_reports);
    mem_free(contact->reports);
    contact->reports = reports;
    contact->report_count = body->report_count;
    contact->reports_incarnation = body->incarnation;
    contact->reports_ns = env_now_ns();
}

static bool is_up(const struct map_server *server, uint32_t node, uint64_t incarnation)
{
    const struct map_node *found = map_view_node(server->view, node);
    return found && found->state == MAP_NODE_UP && found->incarnation == incarnation;
}

/* Has this incarnation been, or is it about to be, declared dead or replaced? */
static bool is_fenced(struct map_server *server, uint32_t node, uint64_t incarnation)
{
    const struct map_node *found = map_view_node(server->view, node);
    const struct contact *contact = contact_of(server, node);
    if (contact->condemned == incarnation || contact_is_past(contact, incarnation))
        return true;
    return found && found->incarnation == incarnation && found->state == MAP_NODE_DOWN;
}

/* Have a new incarnation entered into the map. */
static void register_process(struct map_server *server, const struct wire_node_beat_req *body)
{
    struct contact *contact = contact_of(server, body->node);
    uint64_t deadline = env_now_ns() + UP_WAIT_NS;
    contact->pending_incarnation = body->incarnation;
    contact->pending_size_bytes = body->size_bytes;
    controller_poke(server);
    while (server_leads(server) && !is_up(server, body->node, body->incarnation)) {
        if (waitq_wait(&server->changed, deadline) == -ERR_TIMED_OUT)
            break;
    }
}

static bool is_removed(const struct map_server *server, uint32_t node)
{
    const struct map_node *found = map_view_node(server->view, node);
    return !found || found->intent == MAP_NODE_REMOVE;
}

/* 0: *ret_reply says what the node may do. -ENOENT: the cluster has no such node (any more). */
static int beat(struct map_server *server, const struct rpc_request *request,
                struct wire_node_beat_rep *ret_reply)
{
    const struct wire_node_beat_req *body = request->body;
    if (!server_leads(server))
        return -ERR_NOT_LEADER;
    if (body->node == 0 || body->node > MAP_NODES_MAX || body->incarnation == 0 ||
        body->incarnation != request->peer_incarnation)
        return -EINVAL;
    if (!server->view)
        return -ERR_BUSY;
    if (is_removed(server, body->node)) {
        int result = server_confirm(server, false); /* the node ends on our word */
        return result < 0 ? result : is_removed(server, body->node) ? -ENOENT : -ERR_BUSY;
    }
    ret_reply->map_version = server->view->header->version;
    if (is_fenced(server, body->node, body->incarnation)) {
        ret_reply->fenced = 1;
        return 0;
    }
    struct contact *contact = contact_of(server, body->node);
    contact_heard(server, body->node, body->incarnation);
    if (body->with_reports) {
        reports_take(contact, request);
        controller_poke(server);
    }
    contact->beat_ns = env_now_ns();
    contact->beat_map_version = body->map_version;
    bool is_new = !is_up(server, body->node, body->incarnation);
    if (is_new)
        register_process(server, body);
    uint64_t term = server->leader_term;
    int result = server_confirm(server, is_new); /* S4 */
    if (result < 0)
        return result;
    if (server->leader_term != term || !server_leads(server))
        return -ERR_NOT_LEADER;
    ret_reply->map_version = server->view->header->version;
    ret_reply->want_reports = contact->reports_incarnation != body->incarnation;
    if (is_fenced(server, body->node, body->incarnation)) /* C3 */
        ret_reply->fenced = 1;
    else if (is_up(server, body->node, body->incarnation))
        ret_reply->lease_ms = MAP_LEASE_NS / NS_PER_MS;
    return 0;
}

static void handle_node_beat(void *service, struct rpc_request *request)
{
    struct wire_node_beat_rep reply = {0};
    int result = beat(service, request, &reply);
    rpc_reply(request, result, &reply, slice_of(NULL, 0), (struct buf_slice){0});
}

/* ---- NODE_SUSPECT ---------------------------------------------------------------------------- */

static void handle_node_suspect(void *service, struct rpc_request *request)
{
    struct map_server *server = service;
    const struct wire_node_suspect_req *body = request->body;
    int result = 0;
    if (!server_leads(server))
        result = -ERR_NOT_LEADER;
    else if (body->node == 0 || body->node > MAP_NODES_MAX || !server->view)
        result = -EINVAL;
    else if (is_up(server, body->node, body->incarnation))
        contact_verify(server, body->node); /* else: known already */
    rpc_reply_status(request, result);
}

/* ---- GROUP_CHANGE ---------------------------------------------------------------------------- */

static int group_change(struct map_server *server, const struct wire_group_change_req *body)
{
    uint64_t deadline = env_now_ns() + DROP_WAIT_NS;
    if (!server_leads(server))
        return -ERR_NOT_LEADER;
    if (body->node == 0 || body->node > MAP_NODES_MAX)
        return -EINVAL;
    while (body->op == GROUP_CHANGE_DROP && server_leads(server) &&
           !controller_drop_is_safe(server, body->group, body->node)) {
        if (env_now_ns() >= deadline)
            return -ERR_BUSY;
        /* C5: its next beat, or the end of its lease; neither wakes anybody. */
        fiber_sleep(MAP_RAFT_BEAT_NS);
    }
    struct map_command command = {
        .type = MAP_COMMAND_GROUP_CHANGE,
        .node = body->node,
        .group = body->group,
        .epoch = body->epoch,
        .op = body->op,
    };
    return server_propose(server, slice_of(&command, sizeof command));
}

static void handle_group_change(void *service, struct rpc_request *request)
{
    struct map_server *server = service;
    const struct wire_group_change_req *body = request->body;
    struct wire_group_change_rep reply = {0};
    int result = group_change(server, body);
    if (result == 0)
        log_info("group-change", "group=%u op=%u node=%u", body->group, body->op, body->node);
    reply.map_version = server->view ? server->view->header->version : 0;
    rpc_reply(request, result, &reply, slice_of(NULL, 0), (struct buf_slice){0});
}

void server_register(struct map_server *server)
{
    rpc_register(server->rpc, RPC_RAFT, server_handle_raft, server);
    rpc_unregister(server->rpc, RPC_MAP_GET); /* of the relay, if the node was no member before */
    rpc_register(server->rpc, RPC_MAP_GET, handle_map_get, server);
    rpc_register(server->rpc, RPC_NODE_BEAT, handle_node_beat, server);
    rpc_register(server->rpc, RPC_NODE_SUSPECT, handle_node_suspect, server);
    rpc_register(server->rpc, RPC_GROUP_CHANGE, handle_group_change, server);
    server_admin_register(server);
}
