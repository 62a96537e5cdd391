/* SPDX-License-Identifier: MIT */
#ifndef CFS_ENV_SIM_SIM_INTERNAL_H
#define CFS_ENV_SIM_SIM_INTERNAL_H

#include "base/htable.h"
#include "base/random.h"
#include "env/reactor_internal.h"
#include "env/sim.h"

/* Something that will happen at a time. Embedded; owned by the default heap, because the world
 * outlives its nodes. */
struct sim_event {
    uint64_t at_ns;
    uint64_t sequence;     /* order among events of one time */
    struct sim_node *node; /* waits while that node is paused; NULL: never waits */
    void (*fn)(struct sim *sim, struct sim_event *event);
    uint32_t heap_index; /* 0: not armed */
    struct list held;    /* of a paused node */
};

struct sim_disk_page;

struct sim_disk {
    struct list link;
    char path[240];
    uint64_t size_bytes;
    uint64_t pages_used;
    uint64_t writes;        /* completed */
    struct sim_node *owner; /* who has it open */
    struct sim_disk_config config;
    uint8_t ***chunks;       /* pages by number, two levels */
    struct list generations; /* struct generation: what each block was before; oldest first */
    uint64_t generation_next;
    struct list broken;  /* struct broken_range */
    uint32_t zone_bytes; /* 0: not zoned */
    uint32_t zones_active_max;
    struct sim_zone *zones;
    struct sim_backing *backing; /* NULL: content is in chunks */
    struct list flips;           /* of a backed disk: struct sim_flip */
};

struct sim_zone {
    uint64_t written;
    bool finished;
};

struct sim_node {
    struct reactor reactor; /* first member */
    struct sim *sim;
    uint32_t index;
    uint32_t lives;
    bool up;
    bool powered; /* the host answers */
    bool paused;
    struct net_addr addr; /* port 0 */
    uint16_t port_next;
    int64_t clock_offset_ns;
    int32_t clock_drift_ppm;
    int64_t wall_offset_ns;
    uint64_t turn_ns;       /* what a turn takes */
    uint64_t busy_until_ns; /* events wait until then */
    struct sim_event turn;
    struct list held;      /* events to run after the pause */
    struct list disk_ops;  /* struct sim_disk_op in flight */
    struct list listeners; /* struct sim_listener */
    struct list attempts;  /* struct sim_attempt made here */
};

struct sim {
    uint64_t now_ns;
    uint64_t sequence;
    uint64_t trace;
    struct random random;
    struct sim_event **events; /* binary heap, [0] unused */
    uint32_t event_count;
    uint32_t event_room;
    struct sim_node *nodes[SIM_NODES_MAX];
    uint32_t node_count;
    /* Bit b of cut[a]: b does not hear a. */
    uint64_t cut[SIM_NODES_MAX][SIM_NODES_MAX / 64];
    struct sim_net_config net;
    struct list links; /* struct sim_link */
    struct list disks;
};

extern const struct env_backend sim_backend;

void *sim_alloc(size_t bytes); /* zeroed, from the default heap */

void sim_event_arm(struct sim *sim, struct sim_event *event, uint64_t at_ns);
void sim_event_cancel(struct sim *sim, struct sim_event *event); /* also a held one */
void sim_event_init(struct sim_event *event, struct sim_node *node,
                    void (*fn)(struct sim *sim, struct sim_event *event));
void sim_trace(struct sim *sim, uint64_t what, uint64_t value);
/* Uniform in [min, max]. */
uint64_t sim_between(struct sim *sim, uint64_t min, uint64_t max);
bool sim_ppm(struct sim *sim, uint32_t ppm);

/* Bracket callbacks into a node; end runs a turn. */
struct reactor_scope sim_node_begin(struct sim_node *node);
void sim_node_end(struct sim_node *node, struct reactor_scope before);
struct sim_node *sim_node_of(struct reactor *reactor);

/* sim_disk.c */
int sim_disk_open(struct reactor *reactor, const char *path, uint64_t size_bytes, uint32_t flags,
                  struct disk **ret_disk);
void sim_disk_close(struct disk *disk);
void sim_disk_submit(struct disk *disk, struct disk_io *io);
/* The node died: finish or drop its requests, unlock its disks. */
void sim_disk_node_died(struct sim_node *node, bool power_lost);
void sim_disks_free(struct sim *sim);
struct sim_disk *sim_disk_find(struct sim *sim, const char *path);
uint8_t *sim_disk_page(const struct sim_disk *disk, uint64_t page); /* NULL: zeroes */
uint8_t *sim_disk_page_own(struct sim_disk *disk, uint64_t page);   /* made if missing */
void sim_disk_page_set(struct sim_disk *disk, uint64_t page, uint8_t *content);
uint64_t sim_disk_zone_count(const struct sim_disk *disk);
/* sim_fault.c: what is not durable, broken ranges, power loss */
struct broken_range {
    struct list link;
    uint64_t offset;
    uint64_t bytes;
};
void sim_undo_open(struct sim_disk *disk);
/* Put a block's new content (owned; NULL: zeroes) in place, remembering the old. */
void sim_undo_put(struct sim_disk *disk, uint64_t page, uint8_t *content);
/* Start a generation; the one before it is what a flush submitted now makes durable. */
uint64_t sim_undo_mark(struct sim_disk *disk);
void sim_undo_forget(struct sim_disk *disk, uint64_t upto);
/* What these pages hold is durable, and nothing else by that. */
void sim_undo_settle(struct sim_disk *disk, uint64_t page, uint64_t count);
void sim_undo_power_loss(struct sim *sim, struct sim_disk *disk);
/* Zoned: the pages are gone for good, and no power loss brings them back. */
void sim_undo_reset(struct sim_disk *disk, uint64_t page, uint64_t count);
bool sim_broken(const struct sim_disk *disk, uint64_t offset, uint64_t bytes);
void sim_broken_heal(struct sim_disk *disk, uint64_t offset, uint64_t bytes);

/* sim_backing.c: content of a backed disk. 0 or a negative error. */
int sim_backing_perform(struct sim_disk *disk, enum disk_op op, uint64_t offset, void *data,
                        uint32_t bytes);
void sim_backing_flip(struct sim_disk *disk, uint64_t offset, uint32_t bit);
/* Any alignment. */
void sim_backing_peek(struct sim_disk *disk, uint64_t offset, void *data, size_t bytes);
void sim_backing_free(struct sim_disk *disk);

/* sim_net.c */
int sim_net_connect(struct reactor *reactor, const struct net_addr *addr, uint64_t deadline_ns,
                    struct conn **ret_conn);
int sim_net_listen(struct reactor *reactor, const struct net_addr *addr,
                   struct listener **ret_listener);
void sim_listener_close(struct listener *listener);
void sim_conn_send(struct conn *conn, const void *head, uint32_t head_bytes,
                   const struct buf_slice *payload);
void sim_conn_close(struct conn *conn);
void sim_net_node_died(struct sim_node *node);
void sim_net_node_restarted(struct sim_node *node);
void sim_net_free(struct sim *sim);

#endif
