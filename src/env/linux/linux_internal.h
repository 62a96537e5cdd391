/* SPDX-License-Identifier: MIT */
#ifndef CFS_ENV_LINUX_INTERNAL_H
#define CFS_ENV_LINUX_INTERNAL_H

#include <liburing.h>

#include "env/linux.h"
#include "env/reactor_internal.h"

enum {
    RING_ENTRIES = 1024,
    RECV_BUFFERS = 32, /* power of two; together they fit a core's L2 cache */
    RECV_BUFFER_BYTES = 64 << 10,
    RECV_GROUP = 1,
    SEND_PARTS_MAX = 64,         /* of one sendmsg */
    SEND_HEAD_BUF_BYTES = 16384, /* heads of small messages gather in these */
    RECV_DIRECT_MIN = 16 << 10,  /* payload still missing: receive into its own buffer */
    SEND_ZEROCOPY_MIN = 128 << 10,
    SEND_QUIET_MAX = 32 << 10,
    RECV_BULK_MESSAGES = 64, /* small messages until a connection counts as bulk no more */
};

/* What a completion finds through its user_data. NULL: nobody cares. */
struct uring_op {
    void (*complete)(struct uring_op *op, int result, uint32_t flags);
};

struct signal_row {
    int signo;
    void (*fn)(void *context, int signo);
    void *context;
};

struct linux_reactor {
    struct reactor base;
    struct io_uring ring;
    bool stop;
    int signal_fd; /* -1: none */
    struct signal_row signals[LINUX_SIGNALS_MAX];
    uint32_t signal_count;
    struct uring_op signal_op;
    bool passthrough;                    /* the ring and the kernel take NVMe commands */
    bool zerocopy;                       /* the kernel has IORING_OP_SENDMSG_ZC */
    bool zerocopy_always;                /* for tests: even to this host, where it is slower */
    struct io_uring_buf_ring *recv_ring; /* NULL: the kernel has no provided-buffer rings */
    uint8_t *recv_buffers;
    struct list senders;   /* connections with something new to send in this turn */
    struct list quiet;     /* connections with a quiet send submitted in this turn */
    bool arena_tried;      /* arena_init has run */
    bool arena_registered; /* buffers of buf_arena_set can be used as registered ones */
    struct list free_disk_ops;
    struct list free_parts;
};

static inline struct linux_reactor *linux_of(struct reactor *reactor)
{
    return container_of(reactor, struct linux_reactor, base);
}

/* A submission entry; submits what is queued if the ring is full. */
struct io_uring_sqe *linux_sqe(struct linux_reactor *linux_reactor, struct uring_op *op);
/* The next count entries will be submitted together, so that they may be linked. */
void linux_sqe_reserve(struct linux_reactor *linux_reactor, uint32_t count);
/* End the request just prepared in sqe at the deadline (0: never); its result is then -ECANCELED.
 * timeout lives until the request has completed. Needs linux_sqe_reserve(2) before. */
void linux_sqe_deadline(struct linux_reactor *linux_reactor, struct io_uring_sqe *sqe,
                        uint64_t deadline_ns, struct __kernel_timespec *timeout);

/* One request that a fiber waits for. */
struct uring_wait {
    struct uring_op op;
    struct fiber *fiber;
    int result;
    bool done;
};
void uring_wait_init(struct uring_wait *wait);
/* Suspend until the request with wait->op has completed; its result. */
may_yield int uring_wait(struct uring_wait *wait);

/* linux_disk.c */
int linux_disk_open(struct reactor *reactor, const char *path, uint64_t size_bytes, uint32_t flags,
                    struct disk **ret_disk);
void linux_disk_close(struct disk *disk);
void linux_disk_submit(struct disk *disk, struct disk_io *io);
void linux_disk_requests_free(struct linux_reactor *linux_reactor);

/* linux_net.c, linux_conn.c */
int linux_net_connect(struct reactor *reactor, const struct net_addr *addr, uint64_t deadline_ns,
                      struct conn **ret_conn);
int linux_net_listen(struct reactor *reactor, const struct net_addr *addr,
                     struct listener **ret_listener);
void linux_listener_close(struct listener *listener);
void linux_conn_send(struct conn *conn, const void *head, uint32_t head_bytes,
                     const struct buf_slice *payload);
void linux_conn_close(struct conn *conn);
/* A conn over a connected socket, receiving. */
struct conn *linux_conn_new(struct linux_reactor *linux_reactor, int fd,
                            const struct net_addr *peer, bool same_host);
void linux_parts_free(struct linux_reactor *linux_reactor);
/* Start sending what this turn's messages are. */
void linux_conns_flush(struct linux_reactor *linux_reactor);
/* All that was queued has been submitted, and the completions of that have been taken: what was
 * sent quietly is done. */
void linux_conns_settle(struct linux_reactor *linux_reactor);
/* A received buffer goes back to the kernel. */
void linux_recv_give(struct linux_reactor *linux_reactor, uint16_t index);

#endif
