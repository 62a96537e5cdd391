/* SPDX-License-Identifier: MIT */
/* A TCP connection: a stream of messages each way.
 *
 * Receiving. Between large messages one multishot receive is armed; the kernel takes buffers from a
 * ring shared by all connections (small enough to stay in the cache), and msg_parser copies from
 * them into messages whose payload is aligned for the device. When much of a payload is still
 * missing, it is received directly into its place: the connection then counts as bulk, and uses one
 * receive at a time until small messages prevail again.
 *
 *     MULTISHOT --payload missing: cancel--> (last completion) --> DIRECT <--> SHARED --> MULTISHOT
 *
 * Kernels without buffer rings get a buffer a connection (OWN).
 *
 * Sending. What is sent in a turn gathers as parts; at the end of the turn one sendmsg takes up to
 * SEND_PARTS_MAX of them. Heads of small messages share a buffer, so a hundred replies are one
 * part. One sendmsg at a time keeps the order.
 *
 * A completion for every small message would end the reactor's next sleep before it began. So these
 * are sent QUIET: not to wait for room (MSG_DONTWAIT), all or failed (MSG_WAITALL), and without a
 * completion unless it failed. Such a request is done when the system call that submitted it
 * returns: what has not failed by then has left (linux_conns_settle). One that failed for want of
 * room is followed by one that waits. Large messages go without a copy, if the peer is another
 * host: their parts are held until the kernel says that it needs them no more.
 *
 * C1. ops_pending counts armed receives and sends, and notifications to come; the conn is freed
 *     when it is over and none is pending (a completion must find its op, the kernel its bytes).
 * C2. After conn->over no callback reaches the owner.
 * C3. backlog_bytes is the sum of all parts not yet taken by the kernel. */
#include "env/linux/linux_internal.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct part {
    struct list link;
    struct buf *buf;
    uint32_t offset;
    uint32_t bytes;
};

enum recv_mode {
    RECV_MULTISHOT,
    RECV_SHARED, /* one receive into a buffer of the ring */
    RECV_OWN,    /* ... of the connection */
    RECV_DIRECT, /* ... of the message under way */
};

struct linux_conn {
    struct conn base;
    struct linux_reactor *linux_reactor;
    int fd;
    uint32_t ops_pending;
    struct uring_op recv_op;
    enum recv_mode recv_mode;
    bool recv_canceled;  /* the multishot receive was told to end */
    uint32_t bulk_count; /* small messages until it is bulk no more */
    struct msg_parser parser;
    uint8_t *recv_buffer; /* RECV_OWN */
    struct uring_op send_op;
    struct list sender_link; /* linux_reactor->senders */
    struct list parts;
    struct buf *head_buf; /* where heads gather */
    bool sending;
    bool send_wait;         /* the peer's window was full: the next send waits for room */
    struct list quiet_link; /* linux_reactor->quiet, while a quiet send has not been settled */
    uint32_t quiet_bytes;
    bool zerocopy; /* the peer is another host and the kernel can */
    struct msghdr send_msg;
    struct iovec send_iov[SEND_PARTS_MAX];
};

/* A send without copy: what the kernel may still read. */
struct zerocopy_send {
    struct uring_op op;
    struct linux_conn *conn;
    struct list parts;
};

static struct linux_conn *linux_conn_of(struct conn *conn)
{
    return container_of(conn, struct linux_conn, base);
}

static struct part *part_new(struct linux_reactor *linux_reactor, struct buf *buf, uint32_t offset,
                             uint32_t bytes)
{
    struct list *link = list_pop_front(&linux_reactor->free_parts);
    struct part *part = link ? list_entry(link, struct part, link) : mem_alloc(sizeof *part);
    *part = (struct part){.buf = buf_get(buf), .offset = offset, .bytes = bytes};
    list_init(&part->link);
    return part;
}

static void parts_free(struct linux_reactor *linux_reactor, struct list *parts)
{
    struct list *link;
    while ((link = list_pop_front(parts)) != NULL) {
        struct part *part = list_entry(link, struct part, link);
        buf_put(part->buf);
        list_push_front(&linux_reactor->free_parts, &part->link);
    }
}

void linux_parts_free(struct linux_reactor *linux_reactor)
{
    struct list *link;
    while ((link = list_pop_front(&linux_reactor->free_parts)) != NULL)
        mem_free(list_entry(link, struct part, link));
}

static void maybe_free(struct linux_conn *conn)
{
    if (!conn->base.over || conn->ops_pending > 0) /* C1 */
        return;
    parts_free(conn->linux_reactor, &conn->parts);
    buf_put(conn->head_buf);
    list_remove(&conn->sender_link);
    msg_parser_fini(&conn->parser);
    mem_free(conn->recv_buffer);
    close(conn->fd);
    mem_free(conn);
}

/* One operation less; true if the connection is over (and perhaps gone). */
static bool op_ended(struct linux_conn *conn)
{
    assert(conn->ops_pending > 0);
    conn->ops_pending--;
    bool over = conn->base.over;
    maybe_free(conn);
    return over;
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
    assert(base->over);
    shutdown(conn->fd, SHUT_RDWR);
    maybe_free(conn);
}

/* ---- receiving ------------------------------------------------------------------------------ */

static uint32_t room_bytes(const struct linux_conn *conn)
{
    uint32_t bytes = 0;
    return msg_parser_room(&conn->parser, &bytes) ? bytes : 0;
}

static enum recv_mode recv_mode_next(const struct linux_conn *conn)
{
    if (room_bytes(conn) >= RECV_DIRECT_MIN)
        return RECV_DIRECT;
    if (!conn->linux_reactor->recv_ring)
        return RECV_OWN;
    return conn->bulk_count ? RECV_SHARED : RECV_MULTISHOT;
}

static void recv_arm(struct linux_conn *conn)
{
    struct linux_reactor *linux_reactor = conn->linux_reactor;
    struct io_uring_sqe *sqe = linux_sqe(linux_reactor, &conn->recv_op);
    uint32_t bytes;
    void *room;
    conn->recv_mode = recv_mode_next(conn);
    conn->recv_canceled = false;
    conn->ops_pending++;
    switch (conn->recv_mode) {
    case RECV_DIRECT:
        room = msg_parser_room(&conn->parser, &bytes);
        io_uring_prep_recv(sqe, conn->fd, room, bytes, MSG_WAITALL);
        break;
    case RECV_OWN:
        io_uring_prep_recv(sqe, conn->fd, conn->recv_buffer, RECV_BUFFER_BYTES, 0);
        break;
    case RECV_SHARED:
    case RECV_MULTISHOT:
        if (conn->recv_mode == RECV_SHARED)
            io_uring_prep_recv(sqe, conn->fd, NULL, 0, 0);
        else
            io_uring_prep_recv_multishot(sqe, conn->fd, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = RECV_GROUP;
        break;
    }
}

static void message_arrived(struct linux_conn *conn, struct msg *msg)
{
    if (msg->payload_bytes >= RECV_DIRECT_MIN)
        conn->bulk_count = RECV_BULK_MESSAGES;
    else if (conn->bulk_count > 0)
        conn->bulk_count--;
    conn_deliver(&conn->base, msg); /* may close the connection */
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
        message_arrived(conn, msg);
    }
}

static void took_room(struct linux_conn *conn, uint32_t bytes)
{
    struct msg *msg = conn->base.over ? NULL : msg_parser_filled(&conn->parser, bytes);
    if (msg)
        message_arrived(conn, msg);
}

/* While a multishot receive is armed, much of a payload turns out to be missing. */
static void multishot_end(struct linux_conn *conn)
{
    if (conn->base.over || conn->recv_canceled || room_bytes(conn) < RECV_DIRECT_MIN)
        return;
    struct io_uring_sqe *sqe = linux_sqe(conn->linux_reactor, NULL);
    io_uring_prep_cancel(sqe, &conn->recv_op, 0);
    conn->recv_canceled = true;
    conn->bulk_count = RECV_BULK_MESSAGES;
}

/* ENOBUFS: all buffers were in use in this turn; by now they have been given back. */
static bool recv_goes_on(int result)
{
    return result == -ENOBUFS || result == -EINTR || result == -EAGAIN || result == -ECANCELED;
}

static void recv_complete(struct uring_op *op, int result, uint32_t flags)
{
    struct linux_conn *conn = container_of(op, struct linux_conn, recv_op);
    struct linux_reactor *linux_reactor = conn->linux_reactor;
    uint16_t index = (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);
    if (result > 0 && conn->recv_mode == RECV_DIRECT)
        took_room(conn, (uint32_t)result);
    else if (result > 0 && conn->recv_mode == RECV_OWN)
        take_bytes(conn, conn->recv_buffer, (size_t)result);
    else if (result > 0)
        take_bytes(conn, linux_reactor->recv_buffers + (size_t)index * RECV_BUFFER_BYTES,
                   (size_t)result);
    else if (!recv_goes_on(result))
        fail(conn, -ERR_CONN_LOST);
    if (flags & IORING_CQE_F_BUFFER)
        linux_recv_give(linux_reactor, index);
    if (flags & IORING_CQE_F_MORE)
        multishot_end(conn);
    else if (!op_ended(conn))
        recv_arm(conn);
}

/* ---- sending -------------------------------------------------------------------------------- */

static uint64_t send_gather(struct linux_conn *conn)
{
    uint32_t count = 0;
    uint64_t bytes = 0;
    struct part *part;
    list_for_each (part, &conn->parts, link) {
        if (count == SEND_PARTS_MAX)
            break;
        conn->send_iov[count].iov_base = part->buf->data + part->offset;
        conn->send_iov[count].iov_len = part->bytes;
        bytes += part->bytes;
        count++;
    }
    conn->send_msg = (struct msghdr){.msg_iov = conn->send_iov, .msg_iovlen = count};
    return bytes;
}

/* Parts that have left: freed, or kept in hold. */
static void parts_consume(struct linux_conn *conn, uint64_t bytes, struct list *hold)
{
    while (bytes > 0) {
        struct part *part = list_first(&conn->parts, struct part, link);
        uint32_t taken = (uint32_t)MIN(bytes, (uint64_t)part->bytes);
        bytes -= taken;
        struct part *gone = part;
        if (taken < part->bytes)
            gone = part_new(conn->linux_reactor, part->buf, part->offset, taken);
        part->offset += taken;
        part->bytes -= taken;
        list_remove(&gone->link);
        list_push_back(hold, &gone->link);
    }
}

static bool sender_idle(const struct linux_conn *conn)
{
    return list_empty(&conn->sender_link);
}

static void sender_schedule(struct linux_conn *conn)
{
    if (sender_idle(conn))
        list_push_back(&conn->linux_reactor->senders, &conn->sender_link);
}

/* What both ways of sending do with the result. */
static void sent(struct linux_conn *conn, int result, struct list *hold)
{
    assert(conn->sending);
    conn->sending = false;
    if (conn->base.over)
        return;
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        fail(conn, -ERR_CONN_LOST); /* freed when the receive has ended */
        return;
    }
    if (result > 0) {
        parts_consume(conn, (uint64_t)result, hold);
        conn_sent(&conn->base, (uint64_t)result); /* C3 */
    }
    if (!list_empty(&conn->parts))
        sender_schedule(conn);
}

/* Of a send that waits for room; of a quiet one that failed; or made up by linux_conns_settle. */
static void send_complete(struct uring_op *op, int result, uint32_t flags)
{
    struct linux_conn *conn = container_of(op, struct linux_conn, send_op);
    struct list gone;
    list_init(&gone);
    conn->send_wait = !list_empty(&conn->quiet_link) && result < (int64_t)conn->quiet_bytes;
    list_remove(&conn->quiet_link);
    sent(conn, result, &gone);
    parts_free(conn->linux_reactor, &gone);
    (void)op_ended(conn); /* nothing follows */
}

static void zerocopy_complete(struct uring_op *op, int result, uint32_t flags)
{
    struct zerocopy_send *send = container_of(op, struct zerocopy_send, op);
    struct linux_conn *conn = send->conn;
    if (!(flags & IORING_CQE_F_NOTIF))
        sent(conn, result, &send->parts);
    if (flags & IORING_CQE_F_MORE)
        return; /* the notification is to come */
    parts_free(conn->linux_reactor, &send->parts);
    mem_free(send);
    (void)op_ended(conn); /* nothing follows */
}

static void send_start(struct linux_conn *conn)
{
    uint64_t bytes = send_gather(conn);
    if (conn->zerocopy && bytes >= SEND_ZEROCOPY_MIN) {
        struct zerocopy_send *send = mem_alloc(sizeof *send);
        *send = (struct zerocopy_send){.op.complete = zerocopy_complete, .conn = conn};
        list_init(&send->parts);
        struct io_uring_sqe *sqe = linux_sqe(conn->linux_reactor, &send->op);
        io_uring_prep_sendmsg_zc(sqe, conn->fd, &conn->send_msg, MSG_NOSIGNAL);
    } else {
        /* Who waits for the backlog wants to hear of the end. */
        bool quiet =
            !conn->send_wait && bytes <= SEND_QUIET_MAX && list_empty(&conn->base.backlog_waiters);
        unsigned flags = MSG_NOSIGNAL | (quiet ? MSG_DONTWAIT | MSG_WAITALL : 0);
        struct io_uring_sqe *sqe = linux_sqe(conn->linux_reactor, &conn->send_op);
        io_uring_prep_sendmsg(sqe, conn->fd, &conn->send_msg, flags);
        if (quiet) {
            io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
            conn->quiet_bytes = (uint32_t)bytes;
            list_push_back(&conn->linux_reactor->quiet, &conn->quiet_link);
        }
    }
    conn->sending = true;
    conn->ops_pending++;
}

void linux_conns_flush(struct linux_reactor *linux_reactor)
{
    struct list *link;
    while ((link = list_pop_front(&linux_reactor->senders)) != NULL) {
        struct linux_conn *conn = list_entry(link, struct linux_conn, sender_link);
        if (!conn->sending && !conn->base.over && !list_empty(&conn->parts))
            send_start(conn);
    }
}

void linux_conns_settle(struct linux_reactor *linux_reactor)
{
    while (!list_empty(&linux_reactor->quiet)) {
        struct linux_conn *conn = list_first(&linux_reactor->quiet, struct linux_conn, quiet_link);
        send_complete(&conn->send_op, (int)conn->quiet_bytes, 0);
    }
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
    struct part *part = part_new(conn->linux_reactor, buf, offset, bytes);
    list_push_back(&conn->parts, &part->link);
}

static void head_add(struct linux_conn *conn, const void *head, uint32_t head_bytes)
{
    struct buf *buf = conn->head_buf;
    if (buf && buf->refs == 1)
        buf->bytes = 0; /* all of it has left */
    if (!buf || buf->bytes + head_bytes > buf->size) {
        buf_put(buf);
        buf = conn->head_buf = buf_new(MAX(head_bytes, (uint32_t)SEND_HEAD_BUF_BYTES));
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
    sender_schedule(conn);
}

struct conn *linux_conn_new(struct linux_reactor *linux_reactor, int fd,
                            const struct net_addr *peer, bool same_host)
{
    struct linux_conn *conn = mem_zalloc(sizeof *conn);
    conn_init(&conn->base, &linux_reactor->base, peer);
    conn->linux_reactor = linux_reactor;
    conn->fd = fd;
    conn->recv_op.complete = recv_complete;
    conn->send_op.complete = send_complete;
    conn->zerocopy = linux_reactor->zerocopy && (!same_host || linux_reactor->zerocopy_always);
    msg_parser_init(&conn->parser);
    list_init(&conn->sender_link);
    list_init(&conn->quiet_link);
    list_init(&conn->parts);
    if (!linux_reactor->recv_ring)
        conn->recv_buffer = mem_alloc(RECV_BUFFER_BYTES);
    recv_arm(conn);
    return &conn->base;
}
