/* SPDX-License-Identifier: MIT */
/* The serving side of RPC (theory in rpc.c).
 *
 * A connection is accepted -> greeted (HELLO) -> closed. Its rpc_conn outlives the socket while
 * requests of it are being served: their answers are then dropped (I3). */
#include "net/rpc_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "format/wire_net.h"

static void conn_put(struct rpc_conn *rconn)
{
    assert(rconn->refs > 0);
    if (--rconn->refs > 0)
        return;
    assert(!rconn->conn);
    mem_free(rconn);
}

static struct rpc_request *request_new(struct rpc *rpc)
{
    struct list *link = list_pop_front(&rpc->free_requests);
    if (!link)
        return mem_alloc(sizeof(struct rpc_request));
    rpc->free_request_count--;
    return list_entry(link, struct rpc_request, link);
}

static void request_free(struct rpc_request *request)
{
    struct rpc *rpc = request->rpc;
    rpc->requests_now--;
    rpc->request_bytes_now -= request->payload.bytes;
    msg_free(request->msg);
    conn_put(request->conn);
    if (rpc->free_request_count >= RPC_FREE_REQUESTS_MAX) {
        mem_free(request);
        return;
    }
    list_push_front(&rpc->free_requests, &request->link);
    rpc->free_request_count++;
}

static void answer(struct rpc_conn *rconn, const struct wire_header *asked, int status,
                   const void *body, struct slice tail, struct buf_slice payload)
{
    struct rpc *rpc = rconn->rpc;
    if (!rconn->conn)
        return;
    struct wire_header header = {
        .type = asked->type,
        .flags = WIRE_REPLY,
        .request_id = asked->request_id,
        .group = asked->group,
        .epoch = asked->epoch,
        .payload_bytes = payload.bytes,
        .status = status,
    };
    uint32_t head_bytes =
        rpc_encode(rpc, &header, body, body ? rpc_row(asked->type)->reply_bytes : 0, &tail, 1);
    conn_send(rconn->conn, rpc->scratch, head_bytes, payload);
}

void rpc_reply(struct rpc_request *request, int status, const void *body, struct slice tail,
               struct buf_slice payload)
{
    assert(request->msg); /* answered once */
    answer(request->conn, request->header, status, body, tail, payload);
    request_free(request);
}

void rpc_reply_status(struct rpc_request *request, int status)
{
    rpc_reply(request, status, NULL, (struct slice){0}, (struct buf_slice){0});
}

static void serve_fiber(void *arg)
{
    struct rpc_request *request = arg;
    struct rpc_handler *handler = &request->rpc->handlers[request->header->type];
    handler->fn(handler->service, request);
}

static void conn_drop(struct rpc_conn *rconn)
{
    struct conn *conn = rconn->conn;
    assert(conn);
    rconn->conn = NULL;
    conn_close(conn);
    list_remove(&rconn->link);
    conn_put(rconn);
}

static bool same_caller(const struct rpc_conn *a, const struct rpc_conn *b)
{
    return a->number && b->number && a->peer_node == b->peer_node &&
           a->peer_incarnation == b->peer_incarnation && a->peer_session == b->peer_session;
}

/* I6. False: this one is the past. */
static bool supersede(struct rpc *rpc, const struct rpc_conn *rconn)
{
    struct rpc_conn *other, *after;
    bool newest = true;
    list_for_each_safe (other, after, &rpc->conns, link) {
        if (other == rconn || !same_caller(other, rconn))
            continue;
        if (other->number < rconn->number)
            conn_drop(other);
        else
            newest = false;
    }
    return newest;
}

/* 0; -ERR_CORRUPT_WIRE; -ERR_CONN_LOST: its caller has made another connection since. */
static int greet(struct rpc *rpc, struct rpc_conn *rconn, const struct msg *msg)
{
    struct wire_hello_req hello;
    struct slice tail;
    int result = msg->header->type == RPC_HELLO ? rpc_split_body(msg, &hello, sizeof hello, &tail)
                                                : -ERR_CORRUPT_WIRE;
    if (result < 0)
        return result;
    static const struct format_uuid unknown;
    const struct format_uuid *ours = &rpc->identity.cluster;
    rconn->greeted = true;
    rconn->peer_node = hello.node;
    rconn->peer_incarnation = hello.incarnation;
    rconn->peer_session = hello.session;
    rconn->number = hello.node || hello.session ? hello.connection : 0;
    if (!supersede(rpc, rconn))
        return -ERR_CONN_LOST;
    if (memcmp(&hello.cluster, &unknown, sizeof unknown) != 0 &&
        memcmp(ours, &unknown, sizeof unknown) != 0 &&
        memcmp(&hello.cluster, ours, sizeof *ours) != 0)
        rconn->refusal = -ERR_WRONG_CLUSTER;
    struct wire_hello_rep reply = {
        .cluster = *ours,
        .node = rpc->identity.node,
        .level = WIRE_VERSION,
        .incarnation = rpc->identity.incarnation,
    };
    answer(rconn, msg->header, rconn->refusal, &reply, (struct slice){0}, (struct buf_slice){0});
    return 0;
}

/* Whether a request may be let in. 0 or the error to answer with. */
static int admit(struct rpc *rpc, const struct rpc_conn *rconn, const struct msg *msg)
{
    if (rconn->refusal)
        return rconn->refusal;
    if (msg->header->type > RPC_TYPE_MAX || !rpc->handlers[msg->header->type].fn)
        return -ERR_UNKNOWN_RPC;
    if (rpc->requests_now >= RPC_REQUESTS_MAX ||
        rpc->request_bytes_now + msg->payload_bytes > RPC_REQUEST_BYTES_MAX)
        return -ERR_BUSY;
    return 0;
}

static void refuse(struct rpc *rpc, struct rpc_conn *rconn, struct msg *msg, int error)
{
    if (error != -ERR_BUSY)
        rpc->stats.refused++;
    answer(rconn, msg->header, error, NULL, (struct slice){0}, (struct buf_slice){0});
    msg_free(msg);
}

static void note_refused(struct rpc_conn *rconn, int error)
{
    char text[NET_ADDR_TEXT_MAX];
    net_addr_print(&rconn->peer_addr, text);
    log_warn("rpc-refused", "peer=%s why=\"%s\" effect=\"connection closed\"", text,
             error_text(error));
    rconn->rpc->stats.refused++;
}

static void server_message(struct conn *conn, void *context, struct msg *msg)
{
    struct rpc_conn *rconn = context;
    struct rpc *rpc = rconn->rpc;
    int result;
    if (!rconn->greeted || msg->header->type == RPC_HELLO) {
        result = greet(rpc, rconn, msg);
        msg_free(msg);
        if (result == -ERR_CORRUPT_WIRE)
            note_refused(rconn, result);
        if (result < 0)
            conn_drop(rconn);
        return;
    }
    result = admit(rpc, rconn, msg);
    if (result < 0) {
        refuse(rpc, rconn, msg, result);
        return;
    }
    const struct rpc_row *row = rpc_row(msg->header->type);
    struct rpc_request *request = request_new(rpc);
    request->body = request->fixed;
    result = rpc_split_body(msg, request->fixed, row->request_bytes, &request->tail);
    if (result < 0) {
        mem_free(request);
        refuse(rpc, rconn, msg, result);
        return;
    }
    list_init(&request->link);
    request->rpc = rpc;
    request->header = msg->header;
    request->payload = (struct buf_slice){msg->payload, 0, msg->payload_bytes};
    request->peer_node = rconn->peer_node;
    request->peer_incarnation = rconn->peer_incarnation;
    request->peer_session = rconn->peer_session;
    request->peer_addr = rconn->peer_addr;
    request->msg = msg;
    request->conn = rconn;
    rconn->refs++;
    rpc->requests_now++;
    rpc->request_bytes_now += msg->payload_bytes;
    rpc->stats.requests++;
    if (row->mode == RPC_MODE_INLINE)
        serve_fiber(request);
    else
        fiber_spawn(row->name, serve_fiber, request);
}

static bool session_connected(const struct rpc *rpc, uint64_t session)
{
    const struct rpc_conn *rconn;
    list_for_each (rconn, &rpc->conns, link) {
        if (rconn->peer_session == session)
            return true;
    }
    return false;
}

bool rpc_session_connected(const struct rpc_request *request)
{
    return request->conn->conn || session_connected(request->rpc, request->peer_session);
}

static void server_closed(struct conn *conn, void *context, int error)
{
    struct rpc_conn *rconn = context;
    struct rpc *rpc = rconn->rpc;
    assert(rconn->conn == conn);
    rconn->conn = NULL;
    list_remove(&rconn->link);
    if (error == -ERR_CORRUPT_WIRE || error == -ERR_WRONG_VERSION)
        note_refused(rconn, error);
    if (rpc->peer_lost && rconn->peer_node)
        rpc->peer_lost(rpc->peer_lost_context, &rconn->peer_addr, rconn->peer_node, -ERR_CONN_LOST);
    if (rpc->session_closed && rconn->peer_session && !session_connected(rpc, rconn->peer_session))
        rpc->session_closed(rpc->session_closed_context, rconn->peer_session);
    conn_put(rconn);
}

static const struct conn_ops server_conn_ops = {server_message, server_closed};

static void accepted(struct listener *listener, void *context, struct conn *conn)
{
    struct rpc *rpc = context;
    (void)listener;
    struct rpc_conn *rconn = mem_zalloc(sizeof *rconn);
    rconn->rpc = rpc;
    rconn->conn = conn;
    rconn->refs = 1;
    conn_peer_addr(conn, &rconn->peer_addr);
    list_push_back(&rpc->conns, &rconn->link);
    rpc->stats.conns++;
    conn_set_ops(conn, &server_conn_ops, rconn);
}

int rpc_listen(struct rpc *rpc, const struct net_addr *addr)
{
    assert(!rpc->listener);
    return net_listen(addr, accepted, rpc, &rpc->listener);
}
