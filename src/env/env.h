/* SPDX-License-Identifier: MIT */
#ifndef CFS_ENV_ENV_H
#define CFS_ENV_ENV_H

/* The one door to the outside (design, law 3): scheduling, clock, randomness, disk, network.
 * Two implementations: env/linux (io_uring) and env/sim (virtual time, seeded faults).
 *
 * A *reactor* is one thread's scheduler; everything a node owns lives on one reactor and is
 * touched only from its fibers. Functions marked may_yield suspend the calling fiber; all other
 * functions do not, so state seen before and after them is the same. Every function here must be
 * called on the reactor that owns its object (from one of its fibers or callbacks), except where
 * noted. Times are monotonic nanoseconds of the reactor's clock; a deadline of 0 means "never".
 */

#include "base/buf.h"
#include "base/bytes.h"
#include "base/defs.h"
#include "base/errors.h"
#include "base/list.h"

struct reactor;
struct fiber;

/* ---- reactor and clock ------------------------------------------------------------------- */

/* The reactor of the calling fiber. Asserts that there is one. */
struct reactor *reactor_self(void);
/* Monotonic time; in the simulator, the node's own (possibly skewed) virtual clock. */
uint64_t env_now_ns(void);
/* Wall-clock time, ns since 1970. May jump. */
uint64_t env_wall_ns(void);
/* Random bytes good enough for ids (the simulator's come from the seed). */
uint64_t env_entropy_u64(void);
/* Process id, for status; in the simulator a number that tells nodes apart. */
uint32_t env_pid(void);

/* ---- fibers ------------------------------------------------------------------------------ */

typedef void (*fiber_fn)(void *arg);

enum { FIBER_STACK_BYTES = 64 << 10 }; /* 256 KiB in sanitizer builds */

/* Start a fiber; it runs when the caller next yields. name: static, for dumps. */
void fiber_spawn(const char *name, fiber_fn fn, void *arg);
/* The same from outside any fiber (start-up, tests). */
void reactor_spawn(struct reactor *reactor, const char *name, fiber_fn fn, void *arg);
const char *fiber_name(void);
/* Let the other runnable fibers go first. */
may_yield void fiber_yield(void);
may_yield void fiber_sleep(uint64_t duration_ns);
may_yield void fiber_sleep_until(uint64_t deadline_ns);
/* Bracket code that must not switch; the scheduler asserts it. May nest. */
void no_yield_begin(void);
void no_yield_end(void);

/* Wait queue: fibers wait in order of arrival. Waking makes a fiber runnable, it does not switch.
 * A waiter must re-check its condition: wakes may be spurious. */
struct waitq {
    struct list waiters;
};
void waitq_init(struct waitq *queue);
/* 0 woken, -ERR_TIMED_OUT deadline passed. */
may_yield int waitq_wait(struct waitq *queue, uint64_t deadline_ns);
void waitq_wake_one(struct waitq *queue);
void waitq_wake_all(struct waitq *queue);
bool waitq_empty(const struct waitq *queue);

/* Mutual exclusion between fibers of one reactor, first come first served. */
struct fiber_mutex {
    struct waitq waiters;
    struct fiber *owner;
};
void fiber_mutex_init(struct fiber_mutex *mutex);
may_yield void fiber_mutex_lock(struct fiber_mutex *mutex);
bool fiber_mutex_try(struct fiber_mutex *mutex);
void fiber_mutex_unlock(struct fiber_mutex *mutex);

/* Timer with a callback on the reactor (not a fiber: must not yield). */
struct timer {
    uint64_t deadline_ns;
    uint32_t heap_index; /* 0: not armed */
    void (*fn)(struct timer *timer);
};
void timer_init(struct timer *timer, void (*fn)(struct timer *timer));
void timer_arm(struct timer *timer, uint64_t deadline_ns); /* re-arms if armed */
void timer_cancel(struct timer *timer);                    /* fine if not armed */

/* Run fn once, at the end of the current reactor turn (after all fibers that are runnable now have
 * run, before the reactor submits its I/O and sleeps): the place to write what a turn gathered.
 * Scheduling a hook that is already scheduled does nothing. Must not yield. */
struct turn_hook {
    struct list link;
    void (*fn)(struct turn_hook *hook);
};
void turn_hook_init(struct turn_hook *hook, void (*fn)(struct turn_hook *hook));
void turn_hook_schedule(struct turn_hook *hook);

/* ---- disk -------------------------------------------------------------------------------- */

enum { DISK_BLOCK_BYTES = 4096 }; /* unit of offsets, lengths and buffer alignment */

struct disk;

struct disk_info {
    uint64_t size_bytes;
    char kind[16]; /* "file", "block", "sim" */
    char path[240];
    bool read_only;
    uint32_t block_bytes;      /* the device's own: what it can address */
    uint32_t atomic_bytes;     /* an aligned write of so much happens whole or not; 0: unknown */
    uint32_t zone_bytes;       /* 0: written in any order. Else see DISK_SEAL */
    uint32_t zones_active_max; /* partly written zones at any time; 0: no limit */
    uint32_t streams;          /* placement handles; 0: none */
};

enum disk_open_flags {
    DISK_CREATE = 1,    /* make a (sparse) file of size_bytes if there is none */
    DISK_READ_ONLY = 2, /* only reads follow; shared with other readers, not with a writer */
};

/* Open a device for this reactor and lock it against a second process.
 * size_bytes: with DISK_CREATE, the size of a new file; else ignored.
 * -ENOENT, -EACCES, -EBUSY (another process has it), -EINVAL (not a file or block device). */
may_yield must_check int disk_open(const char *path, uint64_t size_bytes, uint32_t flags,
                                   struct disk **ret_disk);
/* Open bytes from offset on of a device as a disk of its own, so that each reactor has a part of
 * it. No lock is taken: somebody in this process has the whole device open, and keeps it. flags: 0
 * or DISK_READ_ONLY. Errors as disk_open; -ENXIO: the device ends before the part does;
 * -EOPNOTSUPP: it is zoned. */
may_yield must_check int disk_open_part(const char *path, uint64_t offset, uint64_t bytes,
                                        uint32_t flags, struct disk **ret_disk);
void disk_close(struct disk *disk);
const struct disk_info *disk_info(const struct disk *disk);

/* A zoned device (info.zone_bytes > 0) is an array of zones, each written from its start to its
 * end: a write goes where the last one submitted to its zone ended, or to the start of the zone,
 * which empties it first. Writes to one zone may be submitted at will and complete in that order.
 * DISK_DISCARD takes whole zones and empties them. DISK_SEAL, for zoned devices only, takes whole
 * zones too: no more writes will come there, so those partly written no longer count against
 * zones_active_max. A seal of the old zone is submitted before the first write to a new one. */
enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_SEAL };

/* What a write is, for devices that keep apart what dies at different times. */
enum disk_stream { DISK_METADATA, DISK_JOURNAL, DISK_HOT, DISK_COLD, DISK_STREAMS };

/* One request. The caller owns it, and the bytes it names, until done is called (on the reactor,
 * outside any fiber; it must not yield). offset, bytes and data are multiples of
 * DISK_BLOCK_BYTES; offset is env's to change. result: 0 or a negative error (-EIO, -ENOSPC of a
 * thin file). A write that does not ask for more is durable only after a flush that was submitted
 * after the write's completion. */
struct disk_io {
    enum disk_op op;
    enum disk_stream stream; /* DISK_WRITE */
    uint64_t offset;
    void *data;
    uint32_t bytes;
    bool durable; /* DISK_WRITE, not on zoned devices: durable when done; others are not by that */
    int result;
    void (*done)(struct disk_io *io);
    struct list link; /* for env's use while in flight */
};
void disk_submit(struct disk *disk, struct disk_io *io);

/* The same, suspending the fiber until it is done; writes are DISK_METADATA. 0 or an error. */
may_yield must_check int disk_read(struct disk *disk, uint64_t offset, void *data, uint64_t bytes);
may_yield must_check int disk_write(struct disk *disk, uint64_t offset, const void *data,
                                    uint64_t bytes);
may_yield must_check int disk_flush(struct disk *disk);
/* The range reads as zeroes or as before; its space is given back. */
may_yield must_check int disk_discard(struct disk *disk, uint64_t offset, uint64_t bytes);
may_yield must_check int disk_seal(struct disk *disk, uint64_t offset, uint64_t bytes);
/* Zoned: how much of the zone that offset lies in is written, as far as completed (sealed: all). */
uint64_t disk_zone_written(const struct disk *disk, uint64_t offset);
/* May a write start at offset? On a device without zones, anywhere. */
bool disk_appendable(const struct disk *disk, uint64_t offset);

/* ---- network ----------------------------------------------------------------------------- */

/* IPv4 or IPv6 address and port; zero padded, so it can be compared bytewise. */
struct net_addr {
    uint8_t ip[16]; /* IPv4 as ::ffff:a.b.c.d */
    uint16_t port;
    uint8_t zero[6];
};
/* "1.2.3.4:7000", "[::1]:7000". 0 or -EINVAL. */
must_check int net_addr_parse(const char *text, struct net_addr *ret_addr);
enum { NET_ADDR_TEXT_MAX = 56 };
void net_addr_print(const struct net_addr *addr, char text[NET_ADDR_TEXT_MAX]);

/* A message as it arrived: the header and body in one run (body directly behind the 64-byte
 * header), the payload in a buffer of its own (4 KiB aligned; buf NULL if none). Length fields
 * and checksums of header and body have been verified; what they mean has not.
 * Freed with msg_free by whoever the callback gave it to. The payload's buffer may be kept
 * longer with buf_get. */
struct msg {
    struct list link; /* for the owner's use */
    struct wire_header *header;
    uint8_t *body;
    uint32_t body_bytes;
    struct buf *payload;
    uint32_t payload_bytes;
};
void msg_free(struct msg *msg);

struct conn;

/* Callbacks, on the reactor, outside any fiber: must not yield, may send. */
struct conn_ops {
    /* A message; the callee owns msg. */
    void (*message)(struct conn *conn, void *context, struct msg *msg);
    /* The connection is over (peer closed, error, protocol violation, conn_close by the other
     * side). Called once; after it returns the conn is gone. error: -ERR_CONN_LOST,
     * -ERR_CORRUPT_WIRE, -ERR_WRONG_VERSION, ... Not called after the owner's own conn_close. */
    void (*closed)(struct conn *conn, void *context, int error);
};

/* Connect. -ERR_CONN_REFUSED: a host answered that nothing listens there (proof that the process
 * is gone); -ERR_TIMED_OUT; -EHOSTUNREACH, -ENETUNREACH. */
may_yield must_check int net_connect(const struct net_addr *addr, uint64_t deadline_ns,
                                     const struct conn_ops *ops, void *context,
                                     struct conn **ret_conn);

struct listener;
/* accepted: a new connection; set its ops at once with conn_set_ops. Port 0: a free one is chosen
 * (see listener_addr). -EADDRINUSE, -EADDRNOTAVAIL. */
must_check int net_listen(const struct net_addr *addr,
                          void (*accepted)(struct listener *listener, void *context,
                                           struct conn *conn),
                          void *context, struct listener **ret_listener);
void listener_addr(const struct listener *listener, struct net_addr *ret_addr);
void listener_close(struct listener *listener);

void conn_set_ops(struct conn *conn, const struct conn_ops *ops, void *context);
void conn_peer_addr(const struct conn *conn, struct net_addr *ret_addr);
/* Queue a message: head (header and body, with lengths and checksums already set) is copied; the
 * payload's buffer is referenced until sent. All messages of one turn leave in one system call.
 * Messages arrive in order or the connection is closed. Never blocks; see conn_backlog. */
void conn_send(struct conn *conn, const void *head, uint32_t head_bytes, struct buf_slice payload);
/* Bytes queued and not yet taken by the kernel: the sender's back-pressure signal. */
uint64_t conn_backlog(const struct conn *conn);
/* Suspend until the backlog is below limit. -ERR_CONN_LOST, -ERR_TIMED_OUT. The conn may be gone
 * when this fails. */
may_yield must_check int conn_wait_backlog(struct conn *conn, uint64_t limit_bytes,
                                           uint64_t deadline_ns);
/* Close and free; queued messages may be lost. No callback follows. */
void conn_close(struct conn *conn);

#endif
