/* SPDX-License-Identifier: MIT */
/* A TCP connection: a stream of messages each way.
 *
 * Receiving: one multishot receive is armed; the kernel takes buffers from a ring shared by all
 * connections (small enough to stay in the cache), msg_parser copies from them into messages whose
 * payload is aligned for the device. Kernels without buffer rings get a buffer a connection.
 *
 * Sending: what is sent in a turn gathers as parts; at the end of the turn one sendmsg takes up to
 * SEND_PARTS_MAX of them. Heads of small messages share a buffer, so a hundred replies are one
 * part. One sendmsg at a time keeps the order.
 *
 * C1. ops_pending counts armed receives and sends; the conn is freed when it is over and none is
 *     pending (a completion must find its op).
 * C2. After conn->over no callback reaches the owner.
 * C3. backlog_bytes is the sum of all parts not yet taken by the kernel. */
#include "env/linux/linux_internal.h"

#include <sys/socket.h>
#include <unistd.h>

struct part {
    struct list link;
    struct buf *buf;
    uint32_t offset;
    uint32_t bytes;
};

struct linux_conn {
    struct conn base;
    struct linux_reactor *linux_reactor;
    int fd;
    uint32_t ops_pending;
    struct uring_op recv_op;
    struct uring_op send_op;
    struct turn_hook send_hook;
    struct msg_parser parser;
    uint8_t *recv_buffer; /* own, when the reactor has no ring */
    struct list parts;
    struct buf *head_buf; /* where heads gather */
    bool sending;
    struct msghdr send_msg;
    struct iovec send_iov[SEND_PARTS_MAX];
};

static struct linux_conn *linux_conn_of(struct conn *conn)
{
    return container_of(conn, struct linux_conn, base);
}

static void part_free(struct linux_conn *conn, struct part *part)
{
    list_remove(&part->link);
    buf_put(part->buf);
    list_push_front(&conn->linux_reactor->free_parts, &part->link);
}

static void maybe_free(struct linux_conn *conn)
{
    if (!conn->base.over || conn->ops_pending > 0) /* C1 */
        return;
    while (!list_empty(&conn->parts))
        part_free(conn, list_first(&conn->parts, struct part, link));
    buf_put(conn->head_buf);
    list_remove(&conn->send_hook.link);
    msg_parser_fini(&conn->parser);
    mem_free(conn->recv_buffer);
    close(conn->fd);
    mem_free(conn);
}

/* The connection failed, or its peer closed it. */
static void fail(struct linux_conn *conn, int error)
{
    if (conn->base.over)
        return;
    shutdown(conn->fd, SHUT_RDWR); /* ends what is armed */
    conn_over(&conn->base, error);
    assert(conn->base.over);
}

void linux_conn_close(struct conn *base)
{
    struct linux_conn *conn = linux_conn_of(base);
    base->over = true;
    shutdown(conn->fd, SHUT_RDWR);
    maybe_free(conn);
}

/* ---- receiving ------------------------------------------------------------------------------ */

static void recv_arm(struct linux_conn *conn)
{
    struct linux_reactor *linux_reactor = conn->linux_reactor;
    struct io_uring_sqe *sqe = linux_sqe(linux_reactor, &conn->recv_op);
    if (linux_reactor->recv_ring) {
        io_uring_prep_recv_multishot(sqe, conn->fd, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = RECV_GROUP;
    } else {
        io_uring_prep_recv(sqe, conn->fd, conn->recv_buffer, RECV_BUFFER_BYTES, 0);
    }
    conn->ops_pending++;
}

static void take_bytes(struct linux_conn *conn, const uint8_t *data, size_t bytes)
{
    while (!conn->base.over) {
        struct msg *msg;
        int result = msg_parser_feed(&conn->parser, &data, &bytes, &msg);
        if (result == 0)
            return;
        if (result < 0) {
            fail(conn, result);
            return;
        }
        conn_deliver(&conn->base, msg); /* may close the connection */
    }
}

static void recv_complete(struct uring_op *op, int result, uint32_t flags)
{
    struct linux_conn *conn = container_of(op, struct linux_conn, recv_op);
    struct linux_reactor *linux_reactor = conn->linux_reactor;
    bool more = flags & IORING_CQE_F_MORE;
    if (result > 0) {
        uint16_t index = (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);
        const uint8_t *data =
            linux_reactor->recv_ring
                ? linux_reactor->recv_buffers + (size_t)index * RECV_BUFFER_BYTES
                : conn->recv_buffer;
        take_bytes(conn, data, (size_t)result);
        if (linux_reactor->recv_ring)
            linux_recv_give(linux_reactor, index);
    } else if (result != -ENOBUFS && result != -EINTR && result != -EAGAIN) {
        /* ENOBUFS: all buffers were in use in this turn; by now they have been given back. */
        fail(conn, -ERR_CONN_LOST);
    }
    if (more)
        return;
    conn->ops_pending--;
    if (conn->base.over)
        maybe_free(conn);
    else
        recv_arm(conn);
}

/* ---- sending -------------------------------------------------------------------------------- */

static void send_start(struct linux_conn *conn)
{
    uint32_t count = 0;
    struct part *part;
    list_for_each (part, &conn->parts, link) {
        if (count == SEND_PARTS_MAX)
            break;
        conn->send_iov[count].iov_base = part->buf->data + part->offset;
        conn->send_iov[count].iov_len = part->bytes;
        count++;
    }
    if (count == 0)
        return;
    conn->send_msg = (struct msghdr){.msg_iov = conn->send_iov, .msg_iovlen = count};
    struct io_uring_sqe *sqe = linux_sqe(conn->linux_reactor, &conn->send_op);
    io_uring_prep_sendmsg(sqe, conn->fd, &conn->send_msg, MSG_NOSIGNAL);
    conn->sending = true;
    conn->ops_pending++;
}

static void send_turn(struct turn_hook *hook)
{
    struct linux_conn *conn = container_of(hook, struct linux_conn, send_hook);
    if (!conn->sending && !conn->base.over)
        send_start(conn);
}

static void send_complete(struct uring_op *op, int result, uint32_t flags)
{
    struct linux_conn *conn = container_of(op, struct linux_conn, send_op);
    (void)flags;
    conn->sending = false;
    conn->ops_pending--;
    if (conn->base.over) {
        maybe_free(conn);
        return;
    }
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        fail(conn, -ERR_CONN_LOST); /* freed when the receive has ended */
        return;
    }
    uint64_t sent = result > 0 ? (uint64_t)result : 0;
    uint64_t left = sent;
    while (left > 0) {
        struct part *part = list_first(&conn->parts, struct part, link);
        uint32_t taken = (uint32_t)MIN(left, (uint64_t)part->bytes);
        part->offset += taken;
        part->bytes -= taken;
        left -= taken;
        if (part->bytes == 0)
            part_free(conn, part);
    }
    conn_sent(&conn->base, sent); /* C3 */
    if (!list_empty(&conn->parts))
        turn_hook_schedule(&conn->send_hook);
}

static void part_add(struct linux_conn *conn, struct buf *buf, uint32_t offset, uint32_t bytes)
{
    if (!list_empty(&conn->parts)) {
        struct part *last = list_last(&conn->parts, struct part, link);
        if (last->buf == buf && last->offset + last->bytes == offset) {
            last->bytes += bytes; /* a sendmsg under way has its own length */
            return;
        }
    }
    struct list *link = list_pop_front(&conn->linux_reactor->free_parts);
    struct part *part = link ? list_entry(link, struct part, link) : mem_alloc(sizeof *part);
    *part = (struct part){.buf = buf_get(buf), .offset = offset, .bytes = bytes};
    list_push_back(&conn->parts, &part->link);
}

static void head_add(struct linux_conn *conn, const void *head, uint32_t head_bytes)
{
    struct buf *buf = conn->head_buf;
    if (!buf || buf->bytes + head_bytes > buf->size) {
        buf_put(buf);
        uint32_t room = MAX(head_bytes, (uint32_t)SEND_HEAD_BUF_BYTES);
        buf = conn->head_buf = buf_new(room);
        buf->bytes = 0;
    }
    memcpy(buf->data + buf->bytes, head, head_bytes);
    part_add(conn, buf, buf->bytes, head_bytes);
    buf->bytes += head_bytes;
}

void linux_conn_send(struct conn *base, const void *head, uint32_t head_bytes,
                     const struct buf_slice *payload)
{
    struct linux_conn *conn = linux_conn_of(base);
    head_add(conn, head, head_bytes);
    if (payload->bytes)
        part_add(conn, payload->buf, payload->offset, payload->bytes);
    base->backlog_bytes += head_bytes + payload->bytes;
    turn_hook_schedule(&conn->send_hook);
}

struct conn *linux_conn_new(struct linux_reactor *linux_reactor, int fd,
                            const struct net_addr *peer)
{
    struct linux_conn *conn = mem_zalloc(sizeof *conn);
    conn_init(&conn->base, &linux_reactor->base, peer);
    conn->linux_reactor = linux_reactor;
    conn->fd = fd;
    conn->recv_op.complete = recv_complete;
    conn->send_op.complete = send_complete;
    turn_hook_init(&conn->send_hook, send_turn);
    msg_parser_init(&conn->parser);
    list_init(&conn->parts);
    if (!linux_reactor->recv_ring)
        conn->recv_buffer = mem_alloc(RECV_BUFFER_BYTES);
    recv_arm(conn);
    return &conn->base;
}
