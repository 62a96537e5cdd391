/* SPDX-License-Identifier: MIT */
/* Connections and listeners: the part that is the same on every network.
 *
 * I1. After conn_over or conn_close no callback is made (conn->over).
 * I2. A fiber waiting for the backlog never touches the conn after it is over: its wait record, on
 *     its own stack, is told instead. */
#include "env/reactor_internal.h"

struct backlog_wait {
    struct list link;
    struct waitq queue; /* of one fiber */
    bool over;
};

void conn_init(struct conn *conn, struct reactor *reactor, const struct net_addr *peer)
{
    *conn = (struct conn){.reactor = reactor, .peer = *peer};
    list_init(&conn->backlog_waiters);
}

static void backlog_release(struct conn *conn)
{
    struct list *link;
    while ((link = list_pop_front(&conn->backlog_waiters)) != NULL) {
        struct backlog_wait *wait = list_entry(link, struct backlog_wait, link);
        wait->over = true;
        waitq_wake_all(&wait->queue);
    }
}

void conn_sent(struct conn *conn, uint64_t bytes)
{
    struct backlog_wait *wait;
    assert(bytes <= conn->backlog_bytes);
    conn->backlog_bytes -= bytes;
    list_for_each (wait, &conn->backlog_waiters, link)
        waitq_wake_all(&wait->queue);
}

void conn_over(struct conn *conn, int error)
{
    assert(error < 0);
    if (conn->over)
        return;
    conn->over = true;
    backlog_release(conn);
    if (conn->ops)
        conn->ops->closed(conn, conn->context, error);
}

void conn_deliver(struct conn *conn, struct msg *msg)
{
    assert(!conn->over && conn->ops);
    conn->ops->message(conn, conn->context, msg);
}

may_yield must_check int net_connect(const struct net_addr *addr, uint64_t deadline_ns,
                                     const struct conn_ops *ops, void *context,
                                     struct conn **ret_conn)
{
    struct reactor *reactor = fiber_running()->reactor;
    struct conn *conn;
    int error = reactor->backend->net_connect(reactor, addr, deadline_ns, &conn);
    if (error)
        return error;
    conn_set_ops(conn, ops, context);
    *ret_conn = conn;
    return 0;
}

must_check int net_listen(const struct net_addr *addr,
                          void (*accepted)(struct listener *listener, void *context,
                                           struct conn *conn),
                          void *context, struct listener **ret_listener)
{
    struct reactor *reactor = reactor_self();
    struct listener *listener;
    assert(accepted);
    int error = reactor->backend->net_listen(reactor, addr, &listener);
    if (error)
        return error;
    listener->accepted = accepted;
    listener->context = context;
    *ret_listener = listener;
    return 0;
}

void listener_addr(const struct listener *listener, struct net_addr *ret_addr)
{
    *ret_addr = listener->addr;
}

void listener_close(struct listener *listener)
{
    assert(listener->reactor == reactor_self());
    listener->reactor->backend->listener_close(listener);
}

void conn_set_ops(struct conn *conn, const struct conn_ops *ops, void *context)
{
    assert(ops && ops->message && ops->closed);
    conn->ops = ops;
    conn->context = context;
}

void conn_peer_addr(const struct conn *conn, struct net_addr *ret_addr)
{
    *ret_addr = conn->peer;
}

void conn_send(struct conn *conn, const void *head, uint32_t head_bytes, struct buf_slice payload)
{
    const struct wire_header *header = head;
    assert(conn->reactor == reactor_self() && !conn->over);
    assert(header->magic == WIRE_MAGIC && header->payload_bytes == payload.bytes);
    assert(head_bytes == sizeof *header + header->body_bytes);
    assert(payload.bytes == 0 || payload.offset + payload.bytes <= payload.buf->size);
    conn->backlog_bytes += head_bytes + payload.bytes;
    conn->reactor->backend->conn_send(conn, head, head_bytes, &payload);
}

uint64_t conn_backlog(const struct conn *conn)
{
    return conn->backlog_bytes;
}

/* Out of line, since gcc takes a list on the stack for a pointer that outlives its frame. */
static __attribute__((noinline)) void backlog_wait_begin(struct conn *conn,
                                                         struct backlog_wait *wait)
{
    waitq_init(&wait->queue);
    list_push_back(&conn->backlog_waiters, &wait->link);
}

may_yield must_check int conn_wait_backlog(struct conn *conn, uint64_t limit_bytes,
                                           uint64_t deadline_ns)
{
    struct backlog_wait wait = {.over = false};
    int result = 0;
    assert(!conn->over && limit_bytes > 0);
    backlog_wait_begin(conn, &wait);
    while (result == 0 && !wait.over && conn->backlog_bytes >= limit_bytes)
        result = waitq_wait(&wait.queue, deadline_ns);
    list_remove(&wait.link);
    return wait.over ? -ERR_CONN_LOST : result;
}

void conn_close(struct conn *conn)
{
    assert(conn->reactor == reactor_self());
    assert(!conn->over);
    conn->over = true;
    backlog_release(conn);
    conn->reactor->backend->conn_close(conn);
}
