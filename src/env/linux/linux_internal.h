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
    struct io_uring_buf_ring *recv_ring; /* NULL: the kernel has no provided-buffer rings */
    uint8_t *recv_buffers;
    struct list free_disk_ops;
    struct list free_parts;
};

static inline struct linux_reactor *linux_of(struct reactor *reactor)
{
    return container_of(reactor, struct linux_reactor, base);
}

/* A submission entry; submits what is queued if the ring is full. */
struct io_uring_sqe *linux_sqe(struct linux_reactor *linux_reactor, struct uring_op *op);

/* linux_disk.c */
int linux_disk_open(struct reactor *reactor, const char *path, uint64_t size_bytes, uint32_t flags,
                    struct disk **ret_disk);
void linux_disk_close(struct disk *disk);
void linux_disk_submit(struct disk *disk, struct disk_io *io);

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
                            const struct net_addr *peer);
/* A received buffer goes back to the kernel. */
void linux_recv_give(struct linux_reactor *linux_reactor, uint16_t index);

#endif
