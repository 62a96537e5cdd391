/* SPDX-License-Identifier: MIT */
/* Listening and connecting (TCP). What happens on a connection is in linux_conn.c. */
#include "env/linux/linux_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LISTEN_BACKLOG = 1024,
    USER_TIMEOUT_MS = 15000, /* unacknowledged bytes end a connection after this */
    KEEPALIVE_IDLE_S = 5,    /* a silent peer is asked after this, then every INTERVAL */
    KEEPALIVE_INTERVAL_S = 3,
};
/* When accepting fails (out of descriptors), try again after this. */
static const uint64_t accept_retry_ns = 100 * NS_PER_MS;

union sockaddr_any {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

struct linux_listener {
    struct listener base;
    struct uring_op op;
    struct timer retry;
    int fd;
    bool closed;
    bool in_callback;
};

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static socklen_t to_sockaddr(const struct net_addr *addr, union sockaddr_any *out)
{
    *out = (union sockaddr_any){0};
    if (memcmp(addr->ip, mapped_prefix, sizeof mapped_prefix) == 0) {
        out->in.sin_family = AF_INET;
        out->in.sin_port = htons(addr->port);
        memcpy(&out->in.sin_addr, addr->ip + 12, 4);
        return sizeof out->in;
    }
    out->in6.sin6_family = AF_INET6;
    out->in6.sin6_port = htons(addr->port);
    memcpy(&out->in6.sin6_addr, addr->ip, 16);
    return sizeof out->in6;
}

static void from_sockaddr(const union sockaddr_any *in, struct net_addr *ret_addr)
{
    *ret_addr = (struct net_addr){0};
    if (in->any.sa_family == AF_INET) {
        memcpy(ret_addr->ip, mapped_prefix, sizeof mapped_prefix);
        memcpy(ret_addr->ip + 12, &in->in.sin_addr, 4);
        ret_addr->port = ntohs(in->in.sin_port);
    } else if (in->any.sa_family == AF_INET6) {
        memcpy(ret_addr->ip, &in->in6.sin6_addr, 16);
        ret_addr->port = ntohs(in->in6.sin6_port);
    }
}

static int socket_open(const union sockaddr_any *addr)
{
    int fd = socket(addr->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    return fd < 0 ? -errno : fd;
}

/* Best effort: a connection works without each of these. */
static void socket_tune(int fd)
{
    int one = 1;
    int idle_s = KEEPALIVE_IDLE_S;
    int interval_s = KEEPALIVE_INTERVAL_S;
    unsigned timeout_ms = USER_TIMEOUT_MS;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

/* The address of our end; zeroes if the socket is gone. */
static void own_addr(int fd, struct net_addr *ret_addr)
{
    union sockaddr_any own = {0};
    socklen_t bytes = sizeof own;
    *ret_addr = (struct net_addr){0};
    if (getsockname(fd, &own.any, &bytes) == 0)
        from_sockaddr(&own, ret_addr);
}

static struct conn *conn_start(struct reactor *reactor, int fd, const struct net_addr *peer)
{
    struct net_addr own;
    own_addr(fd, &own);
    bool same_host = memcmp(own.ip, peer->ip, sizeof own.ip) == 0;
    return linux_conn_new(linux_of(reactor), fd, peer, same_host);
}

/* ---- listening ------------------------------------------------------------------------------ */

static void accept_arm(struct linux_listener *listener)
{
    struct io_uring_sqe *sqe = linux_sqe(linux_of(listener->base.reactor), &listener->op);
    io_uring_prep_multishot_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
}

static void accept_one(struct linux_listener *listener, int fd)
{
    union sockaddr_any from = {0};
    socklen_t bytes = sizeof from;
    struct net_addr peer;
    if (getpeername(fd, &from.any, &bytes) < 0) {
        close(fd); /* already gone again */
        return;
    }
    from_sockaddr(&from, &peer);
    socket_tune(fd);
    struct conn *conn = conn_start(listener->base.reactor, fd, &peer);
    listener->base.accepted(&listener->base, listener->base.context, conn);
}

static void accept_retry(struct timer *timer)
{
    accept_arm(container_of(timer, struct linux_listener, retry));
}

static void listener_free(struct linux_listener *listener)
{
    close(listener->fd);
    mem_free(listener);
}

static void accept_complete(struct uring_op *op, int result, uint32_t flags)
{
    struct linux_listener *listener = container_of(op, struct linux_listener, op);
    bool more = flags & IORING_CQE_F_MORE;
    if (listener->closed) {
        if (result >= 0)
            close(result);
        if (!more)
            listener_free(listener);
        return;
    }
    listener->in_callback = true;
    if (result >= 0)
        accept_one(listener, result);
    listener->in_callback = false;
    if (more)
        return;
    if (listener->closed)
        listener_free(listener);
    else if (result >= 0)
        accept_arm(listener); /* the kernel wants it renewed */
    else
        timer_arm(&listener->retry, env_now_ns() + accept_retry_ns);
}

static int listen_on(int fd, const union sockaddr_any *addr, socklen_t addr_bytes)
{
    int one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, &addr->any, addr_bytes) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
        return -errno;
    return 0;
}

int linux_net_listen(struct reactor *reactor, const struct net_addr *addr,
                     struct listener **ret_listener)
{
    union sockaddr_any sockaddr;
    socklen_t bytes = to_sockaddr(addr, &sockaddr);
    int fd = socket_open(&sockaddr);
    if (fd < 0)
        return fd;
    int result = listen_on(fd, &sockaddr, bytes);
    if (result == 0 && getsockname(fd, &sockaddr.any, &bytes) < 0)
        result = -errno;
    if (result < 0) {
        close(fd);
        return result;
    }
    struct linux_listener *listener = mem_zalloc(sizeof *listener);
    listener->base.reactor = reactor;
    from_sockaddr(&sockaddr, &listener->base.addr);
    listener->op.complete = accept_complete;
    timer_init(&listener->retry, accept_retry);
    listener->fd = fd;
    accept_arm(listener);
    *ret_listener = &listener->base;
    return 0;
}

void linux_listener_close(struct listener *base)
{
    struct linux_listener *listener = container_of(base, struct linux_listener, base);
    bool waiting_to_retry = listener->retry.heap_index != 0;
    assert(!listener->closed);
    listener->closed = true;
    timer_cancel(&listener->retry);
    if (waiting_to_retry && !listener->in_callback)
        listener_free(listener);
    else
        shutdown(listener->fd, SHUT_RDWR); /* ends the accept, which frees the listener */
}

/* ---- connecting ----------------------------------------------------------------------------- */

static int connect_wait(struct linux_reactor *linux_reactor, int fd, const union sockaddr_any *addr,
                        socklen_t bytes, uint64_t deadline_ns)
{
    struct __kernel_timespec timeout;
    struct uring_wait wait;
    uring_wait_init(&wait);
    linux_sqe_reserve(linux_reactor, 2);
    struct io_uring_sqe *sqe = linux_sqe(linux_reactor, &wait.op);
    io_uring_prep_connect(sqe, fd, &addr->any, bytes);
    linux_sqe_deadline(linux_reactor, sqe, deadline_ns, &timeout);
    return uring_wait(&wait);
}

static int connect_error(int result)
{
    switch (result) {
    case -ECONNREFUSED:
        return -ERR_CONN_REFUSED;
    case -ECANCELED:
    case -ETIMEDOUT:
        return -ERR_TIMED_OUT;
    case -EHOSTUNREACH:
    case -ENETUNREACH:
    case -EACCES:
    case -EPERM:
        return result;
    default:
        return -ERR_CONN_LOST;
    }
}

/* On loopback, connecting to a port that nobody listens on can meet itself when the kernel picks
 * that very port for our end: a connection to nobody. */
static bool met_itself(int fd, const struct net_addr *to)
{
    struct net_addr own;
    own_addr(fd, &own);
    return memcmp(&own, to, sizeof own) == 0;
}

int linux_net_connect(struct reactor *reactor, const struct net_addr *addr, uint64_t deadline_ns,
                      struct conn **ret_conn)
{
    union sockaddr_any sockaddr;
    socklen_t bytes = to_sockaddr(addr, &sockaddr);
    int fd = socket_open(&sockaddr);
    if (fd < 0)
        return fd;
    socket_tune(fd);
    int result = connect_wait(linux_of(reactor), fd, &sockaddr, bytes, deadline_ns);
    if (result == 0 && met_itself(fd, addr))
        result = -ECONNREFUSED;
    if (result < 0) {
        close(fd);
        return connect_error(result);
    }
    *ret_conn = conn_start(reactor, fd, addr);
    return 0;
}
