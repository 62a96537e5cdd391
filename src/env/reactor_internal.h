/* SPDX-License-Identifier: MIT */
#ifndef CFS_ENV_REACTOR_INTERNAL_H
#define CFS_ENV_REACTOR_INTERNAL_H

/* What the common core (fibers, timers, wait queues, message framing) and the two implementations
 * (env/linux, env/sim) share. Nobody outside env includes this. */

#include "base/mem.h"
#include "env/env.h"
#include "format/wire_header.h"

struct env_backend;

/* ---- fibers ------------------------------------------------------------------------------ */

/* Saved by fiber_switch (fiber_switch.S): offsets are known there. */
struct fiber_context {
    void *stack_pointer;
    void *resume_address;
};
_Static_assert(sizeof(struct fiber_context) == 16, "layout used by fiber_switch.S");

/* A fiber lives at the top of its own stack mapping, so a fiber that is dropped by a simulated
 * crash leaves nothing else behind. */
struct fiber {
    struct fiber_context context;
    struct reactor *reactor;
    struct list link;     /* run queue, a wait queue, or the pool */
    struct list all_link; /* reactor->fibers */
    struct timer timer;   /* the deadline of the current wait */
    fiber_fn fn;
    void *arg;
    const char *name;
    void *mapping; /* lowest address, the guard page */
    void *asan_fake_stack;
    int wait_result;
    bool dead;
};

/* Save the callee-saved state into from, go on where to was saved. */
void fiber_switch(struct fiber_context *from, const struct fiber_context *to);
/* Where a new fiber starts: calls fiber_main. */
void fiber_entry(void);
/* Never returns. Called from fiber_entry on the fiber's own stack. */
void fiber_main(void);

/* ---- reactor ----------------------------------------------------------------------------- */

struct reactor {
    const struct env_backend *backend;
    struct mem_heap *heap;  /* current while anything of this reactor runs; NULL: default */
    struct fiber *running;  /* NULL outside fibers */
    struct list run_queue;  /* runnable in this turn */
    struct list next_queue; /* runnable in the next one: fiber_yield */
    struct list hooks;
    struct list fibers; /* all that live */
    struct list pool;   /* stacks to use again */
    uint32_t pool_count;
    uint32_t fiber_count;
    uint32_t colour; /* next stack colour */
    uint32_t no_yield_depth;
    struct timer **timers; /* 4-ary heap by deadline; [0] unused */
    uint32_t timer_count;
    uint32_t timer_room;
    struct fiber_context scheduler;
    void *asan_fake_stack; /* the scheduler's, while a fiber runs */
    const void *asan_bottom;
    size_t asan_bytes;
    uint64_t switches; /* fibers resumed, ever */
};

/* What an implementation supplies. All is called with the reactor current. */
struct env_backend {
    uint64_t (*now_ns)(struct reactor *reactor);
    uint64_t (*wall_ns)(struct reactor *reactor);
    uint64_t (*entropy)(struct reactor *reactor);
    uint32_t (*pid)(struct reactor *reactor);
    /* A fiber was made runnable from outside the reactor (reactor_spawn). */
    void (*kick)(struct reactor *reactor);

    int (*disk_open)(struct reactor *reactor, const char *path, uint64_t size_bytes, uint32_t flags,
                     struct disk **ret_disk);
    void (*disk_close)(struct disk *disk);
    void (*disk_submit)(struct disk *disk, struct disk_io *io);

    int (*net_connect)(struct reactor *reactor, const struct net_addr *addr, uint64_t deadline_ns,
                       struct conn **ret_conn);
    int (*net_listen)(struct reactor *reactor, const struct net_addr *addr,
                      struct listener **ret_listener);
    void (*listener_close)(struct listener *listener);
    void (*conn_send)(struct conn *conn, const void *head, uint32_t head_bytes,
                      const struct buf_slice *payload);
    void (*conn_close)(struct conn *conn); /* frees it, now or when its I/O has ended */
};

void reactor_init(struct reactor *reactor, const struct env_backend *backend,
                  struct mem_heap *heap);
/* Forget all fibers, timers and hooks as a crash does; stacks go to the pool, nothing of the heap
 * is freed. */
void reactor_drop(struct reactor *reactor);
/* Give the pooled stacks back. No fiber may live. */
void reactor_fini(struct reactor *reactor);

/* Make reactor (and its heap) current on this thread; what was current is put back by leave. */
struct reactor_scope {
    struct reactor *reactor;
    struct mem_heap *heap;
};
struct reactor_scope reactor_enter(struct reactor *reactor);
void reactor_leave(struct reactor_scope before);
/* As reactor_self, but NULL if there is none. */
struct reactor *reactor_current(void);

/* One turn: expired timers, runnable fibers, turn hooks. The reactor is current. */
void reactor_turn(struct reactor *reactor);
/* Whether the next turn has something to run at once. */
bool reactor_runnable(const struct reactor *reactor);
/* Deadline of the first timer, 0 if none is armed. */
uint64_t reactor_next_deadline(const struct reactor *reactor);

/* Suspend the running fiber until fiber_resume. */
may_yield void fiber_suspend(void);
void fiber_resume(struct fiber *fiber);
struct fiber *fiber_running(void);

/* fiber.c */
struct fiber *fiber_take(struct reactor *reactor);
void fiber_give(struct reactor *reactor, struct fiber *fiber);
void fiber_unmap(struct fiber *fiber);
void fiber_run(struct reactor *reactor, struct fiber *fiber);
/* timer.c */
void timer_heap_fire(struct reactor *reactor, uint64_t now_ns);

/* ---- disk, listener, conn: what both implementations begin with --------------------------- */

enum { DISK_UNLOCKED = 1 << 8 }; /* beside disk_open_flags: of disk_open_part */

struct disk {
    struct reactor *reactor;
    struct disk_info info;
    struct disk_zones *zones; /* NULL: not zoned */
    uint64_t part_offset;     /* where it begins on the device */
};

/* disk_zone.c: order and limits of a zoned device. The backend sets info, calls disk_zones_new and
 * disk_zone_found when it opens one, disk_zones_free when it closes it; what then comes to its
 * disk_submit obeys the device's rules, one write, reset (DISK_DISCARD) or finish (DISK_SEAL) of a
 * zone at a time, none across a zone's end. */
struct disk_zones *disk_zones_new(struct disk *disk);
/* The zone holds so much (finished: zone_bytes). partly: it counts as active. */
void disk_zone_found(struct disk *disk, uint64_t zone, uint64_t written);
void disk_zones_free(struct disk *disk);
void disk_zones_submit(struct disk *disk, struct disk_io *io);

struct listener {
    struct reactor *reactor;
    void (*accepted)(struct listener *listener, void *context, struct conn *conn);
    void *context;
    struct net_addr addr;
};

struct conn {
    struct reactor *reactor;
    const struct conn_ops *ops;
    void *context;
    struct net_addr peer;
    uint64_t backlog_bytes;
    struct list backlog_waiters; /* struct backlog_wait */
    bool over;                   /* closed by either side: no callback any more */
};

void conn_init(struct conn *conn, struct reactor *reactor, const struct net_addr *peer);
/* Bytes left the queue: wake who waits for that. */
void conn_sent(struct conn *conn, uint64_t bytes);
/* The connection ended by itself: tell the owner, once. The backend frees it afterwards. */
void conn_over(struct conn *conn, int error);
/* Give a message to the owner. */
void conn_deliver(struct conn *conn, struct msg *msg);

/* ---- message framing ---------------------------------------------------------------------- */

/* A message with room for header and body; both undefined. */
struct msg *msg_new(uint32_t body_bytes);

/* Puts a byte stream together into messages. Holds at most one unfinished message. */
struct msg_parser {
    struct wire_header header;
    struct msg *msg; /* once the header has been seen and checked */
    uint32_t header_have;
    uint32_t body_have;
    uint32_t payload_have;
};
void msg_parser_init(struct msg_parser *parser);
void msg_parser_fini(struct msg_parser *parser);
/* Take bytes from *cursor, *bytes (both moved on) until a message is complete or the input ends.
 * 1: *ret_msg is a message; 0: more input is needed; -ERR_CORRUPT_WIRE, -ERR_WRONG_VERSION: the
 * stream is not to be read any further. */
must_check int msg_parser_feed(struct msg_parser *parser, const uint8_t **cursor, size_t *bytes,
                               struct msg **ret_msg);
/* Where the rest of a payload may be received directly; NULL if no payload is being waited for. */
void *msg_parser_room(const struct msg_parser *parser, uint32_t *ret_bytes);
/* bytes were received into the room. The message if that completed it, else NULL. */
struct msg *msg_parser_filled(struct msg_parser *parser, uint32_t bytes);

#endif
