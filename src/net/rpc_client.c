/* SPDX-License-Identifier: MIT */
/* The calling side of RPC (theory in rpc.c).
 *
 * A peer is idle, connecting or connected:
 *   idle -> connecting   rpc_send finds no connection
 *   connecting -> connected   connect_fiber; HELLO goes first, then the calls that waited
 *   connecting -> idle        connect_fiber fails; every waiting call ends with its error
 *   connected -> idle         conn_closed; every unanswered call ends with -ERR_CONN_LOST
 * Calls do not wait for the reply to HELLO: a server that refuses it also refuses them. */
#include "net/rpc_internal.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/plant.h"
#include "format/wire_net.h"

enum { HELLO_REQUEST_ID = 0 };

static uint64_t addr_hash(const struct net_addr *addr)
{
    return hash_bytes(addr, sizeof *addr, 0);
}

static struct rpc_peer *peer_find(struct rpc *rpc, const struct net_addr *addr)
{
    struct htable_node *node;
    for (node = htable_first(&rpc->peers, addr_hash(addr)); node; node = htable_next(node)) {
        struct rpc_peer *peer = container_of(node, struct rpc_peer, node);
        if (memcmp(&peer->addr, addr, sizeof *addr) == 0)
            return peer;
    }
    return NULL;
}

static struct rpc_peer *peer_find_or_new(struct rpc *rpc, const struct net_addr *addr)
{
    struct rpc_peer *peer = peer_find(rpc, addr);
    if (peer)
        return peer;
    peer = mem_zalloc(sizeof *peer);
    peer->rpc = rpc;
    peer->addr = *addr;
    list_init(&peer->calls);
    htable_insert(&rpc->peers, &peer->node, addr_hash(addr));
    return peer;
}

/* I1: the one place where a call ends. */
static void call_end(struct rpc_async *async, int status, struct msg *reply)
{
    htable_remove(&async->rpc->calls, &async->node);
    list_remove(&async->link);
    timer_cancel(&async->timer);
    if (async->head) {
        mem_free(async->head);
        async->head = NULL;
        buf_put(async->call.payload.buf);
    }
    async->call.status = status;
    async->call.reply = reply;
    async->done(async);
}

static void calls_fail(struct rpc_peer *peer, int error)
{
    /* done() may call rpc_send to this very peer: end only those that are here now. */
    struct list failed;
    list_init(&failed);
    struct list *link;
    while ((link = list_pop_front(&peer->calls)) != NULL)
        list_push_back(&failed, link);
    while (!list_empty(&failed))
        call_end(list_first(&failed, struct rpc_async, link), error, NULL);
}

/* Close from our side, connected or not: all calls that wait end with error. */
static void peer_drop(struct rpc_peer *peer, int error)
{
    struct conn *conn = peer->conn;
    peer->conn = NULL;
    if (conn)
        conn_close(conn);
    calls_fail(peer, error);
}

static void report_lost(struct rpc_peer *peer, int error)
{
    struct rpc *rpc = peer->rpc;
    if (rpc->peer_lost)
        rpc->peer_lost(rpc->peer_lost_context, &peer->addr, peer->peer_node, error);
}

static int hello_accept(struct rpc_peer *peer, const struct msg *msg)
{
    struct wire_hello_rep hello;
    struct slice tail;
    if (msg->header->status < 0)
        return msg->header->status;
    int result = rpc_split_body(msg, &hello, sizeof hello, &tail);
    if (result < 0)
        return result;
    static const struct format_uuid unknown;
    if (memcmp(&peer->rpc->identity.cluster, &unknown, sizeof unknown) == 0)
        peer->rpc->identity.cluster = hello.cluster;
    peer->peer_node = hello.node;
    return 0;
}

static void conn_closed(struct conn *conn, void *context, int error)
{
    struct rpc_peer *peer = context;
    assert(peer->conn == conn);
    peer->conn = NULL;
    report_lost(peer, error);
    calls_fail(peer, error == -ERR_WRONG_VERSION ? error : -ERR_CONN_LOST);
}

static void conn_message(struct conn *conn, void *context, struct msg *msg)
{
    struct rpc_peer *peer = context;
    struct rpc *rpc = peer->rpc;
    if (!(msg->header->flags & WIRE_REPLY)) {
        rpc->stats.refused++; /* we serve only on connections made to us */
        msg_free(msg);
        return;
    }
    if (msg->header->request_id == HELLO_REQUEST_ID) {
        int result = hello_accept(peer, msg);
        msg_free(msg);
        if (result < 0)
            peer_drop(peer, result);
        return;
    }
    struct htable_node *node = htable_first(&rpc->calls, msg->header->request_id);
    struct rpc_async *async = node ? container_of(node, struct rpc_async, node) : NULL;
    if (!async || async->call.type != (enum rpc_type)msg->header->type) {
        msg_free(msg); /* its deadline has passed */
        return;
    }
    call_end(async, msg->header->status, msg);
}

static const struct conn_ops client_conn_ops = {conn_message, conn_closed};

static void send_hello(struct rpc_peer *peer)
{
    struct rpc *rpc = peer->rpc;
    struct wire_hello_req hello = {
        .cluster = rpc->identity.cluster,
        .node = rpc->identity.node,
        .level = WIRE_VERSION,
        .incarnation = rpc->identity.incarnation,
        .session = rpc->identity.session,
        .connection = ++rpc->connections,
    };
    struct wire_header header = {.type = RPC_HELLO, .request_id = HELLO_REQUEST_ID};
    uint32_t head_bytes = rpc_encode(rpc, &header, &hello, sizeof hello, NULL, 0);
    conn_send(peer->conn, rpc->scratch, head_bytes, (struct buf_slice){0});
}

static void connect_fiber(void *arg)
{
    struct rpc_peer *peer = arg;
    struct conn *conn;
    int result = net_connect(&peer->addr, env_now_ns() + RPC_CONNECT_TIMEOUT_NS, &client_conn_ops,
                             peer, &conn);
    peer->connecting = false;
    if (result < 0) {
        report_lost(peer, result == -ERR_CONN_REFUSED ? result : -ERR_CONN_LOST);
        calls_fail(peer, result);
        return;
    }
    peer->conn = conn;
    peer->rpc->stats.conns++;
    send_hello(peer);
    struct rpc_async *async;
    list_for_each (async, &peer->calls, link) {
        assert(async->head);
        if (!PLANT(NET_CALL_DROPPED))
            conn_send(conn, async->head, async->head_bytes, async->call.payload);
        mem_free(async->head);
        async->head = NULL;
        buf_put(async->call.payload.buf);
    }
}

static void deadline_passed(struct timer *timer)
{
    struct rpc_async *async = container_of(timer, struct rpc_async, timer);
    call_end(async, -ERR_TIMED_OUT, NULL);
}

void rpc_send(struct rpc *rpc, const struct net_addr *to, struct rpc_async *async)
{
    struct rpc_call *call = &async->call;
    struct rpc_peer *peer = peer_find_or_new(rpc, to);
    async->rpc = rpc;
    async->head = NULL;
    call->reply = NULL;
    struct wire_header header = {
        .type = (uint16_t)call->type,
        .request_id = PLANT(NET_REPLY_UNMATCHED) ? 1 : ++rpc->next_request_id,
        .group = call->group,
        .epoch = call->epoch,
        .payload_bytes = call->payload.bytes,
    };
    uint32_t head_bytes = rpc_encode(rpc, &header, call->body, rpc_row(call->type)->request_bytes,
                                     call->tail, ARRAY_COUNT(call->tail));
    htable_insert(&rpc->calls, &async->node, header.request_id);
    list_push_back(&peer->calls, &async->link);
    timer_init(&async->timer, deadline_passed);
    if (call->deadline_ns && !PLANT(NET_DEADLINE_IGNORED))
        timer_arm(&async->timer, call->deadline_ns);
    rpc->stats.calls++;
    if (peer->conn) {
        conn_send(peer->conn, rpc->scratch, head_bytes, call->payload);
        return;
    }
    async->head = memcpy(mem_alloc(head_bytes), rpc->scratch, head_bytes);
    async->head_bytes = head_bytes;
    if (call->payload.buf)
        buf_get(call->payload.buf);
    if (!peer->connecting) {
        peer->connecting = true;
        fiber_spawn("rpc-connect", connect_fiber, peer);
    }
}

void rpc_cut(struct rpc *rpc, const struct net_addr *addr)
{
    struct rpc_peer *peer = peer_find(rpc, addr);
    if (peer)
        peer_drop(peer, -ERR_CONN_LOST);
}

struct waiting_call {
    struct rpc_async async;
    struct waitq waitq;
    bool done;
};

static void waiting_done(struct rpc_async *async)
{
    struct waiting_call *waiting = container_of(async, struct waiting_call, async);
    waiting->done = true;
    waitq_wake_all(&waiting->waitq);
}

int rpc_call(struct rpc *rpc, const struct net_addr *to, struct rpc_call *call)
{
    struct waiting_call waiting = {.async.call = *call, .async.done = waiting_done};
    waitq_init(&waiting.waitq);
    rpc_send(rpc, to, &waiting.async);
    while (!waiting.done)
        (void)waitq_wait(&waiting.waitq, 0); /* the call has a deadline of its own */
    call->reply = waiting.async.call.reply;
    call->status = waiting.async.call.status;
    return call->status;
}

void rpc_call_fini(struct rpc_call *call)
{
    if (call->reply)
        msg_free(call->reply);
    call->reply = NULL;
}

bool rpc_reply_body(const struct rpc_call *call, void *out, uint32_t bytes, struct slice *ret_tail)
{
    struct slice tail = {0};
    if (!call->reply || rpc_split_body(call->reply, out, bytes, &tail) < 0) {
        memset(out, 0, bytes);
        tail = (struct slice){0};
        if (ret_tail)
            *ret_tail = tail;
        return false;
    }
    if (ret_tail)
        *ret_tail = tail;
    return true;
}
