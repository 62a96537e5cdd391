/* SPDX-License-Identifier: MIT */
#include "map/server_internal.h"

#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"

/* Raft messages between the members of the map group, each an RPC whose empty reply only tells
 * that it arrived. Lost ones are Raft's business. */

#define RAFT_MESSAGE_TIMEOUT_NS (500 * NS_PER_MS)

struct raft_post {
    struct rpc_async async;
    struct wire_raft_req body;
};

static void post_done(struct rpc_async *async)
{
    struct raft_post *post = container_of(async, struct raft_post, async);
    rpc_call_fini(&async->call);
    mem_free(post);
}

static void post(struct map_server *server, const struct raft_message *message)
{
    struct net_addr addr;
    if (!server_addr(server, message->to, &addr))
        return;
    uint32_t bytes = raft_encode(server->raft, message, server->scratch, RAFT_MESSAGE_BYTES_MAX);
    struct raft_post *new = mem_zalloc(sizeof *new);
    new->body.from = server->options.node;
    new->async.done = post_done;
    new->async.call = (struct rpc_call){
        .type = RPC_RAFT,
        .body = &new->body,
        .tail = {slice_of(server->scratch, bytes)},
        .deadline_ns = env_now_ns() + RAFT_MESSAGE_TIMEOUT_NS,
    };
    if (message->type == RAFT_SNAPSHOT && server->snapshot)
        new->async.call.payload =
            (struct buf_slice){.buf = server->snapshot, .bytes = server->snapshot_bytes};
    rpc_send(server->rpc, &addr, &new->async);
}

void server_send_messages(struct map_server *server)
{
    const struct raft_update *update = server->update;
    assert(update->message_count <= RAFT_MESSAGES_MAX);
    for (uint32_t i = 0; i < update->message_count; i++)
        post(server, &update->messages[i]);
}

/* A snapshot's map is checked before the machine hears of it. */
static int take_snapshot(struct map_server *server, const struct rpc_request *request)
{
    map_view_put(server->incoming);
    server->incoming = NULL;
    if (request->payload.bytes == 0)
        return 0;
    return map_view_new(buf_slice_data(&request->payload), request->payload.bytes,
                        &server->incoming);
}

void server_handle_raft(void *service, struct rpc_request *request)
{
    struct map_server *server = service;
    const struct wire_raft_req *body = request->body;
    struct raft_message message;
    int result = raft_decode(request->tail.data, request->tail.bytes, &message);
    if (result == 0 && (message.from != body->from || message.to != server->options.node ||
                        message.from > MAP_NODES_MAX || request->peer_node != message.from))
        result = -ERR_CORRUPT_WIRE;
    if (result == 0 && message.type == RAFT_SNAPSHOT)
        result = take_snapshot(server, request);
    if (result == 0 && !server->failed) {
        contact_heard(server, message.from, request->peer_incarnation);
        struct raft_event event = {.type = RAFT_EVENT_MESSAGE, .message = &message};
        server_step(server, &event);
    }
    rpc_reply_status(request, result);
}
