/* SPDX-License-Identifier: MIT */
#ifndef CFS_ENV_SIM_H
#define CFS_ENV_SIM_H

/* A world in one thread: many nodes, each a reactor with a heap of its own, in virtual time, with
 * a network and disks that fail as told. Everything random comes from one seed: the same seed and
 * the same calls give the same run. Called by tests from outside any fiber, unless noted.
 *
 *     struct sim *sim = sim_new(seed);
 *     struct sim_node *node = sim_node_new(sim, "10.0.0.1");
 *     reactor_spawn(sim_node_reactor(node), "main", node_main, arg);
 *     sim_run_until(sim, finished, context, 10 * NS_PER_S);
 *     sim_free(sim);
 *
 * arg must not live in the heap of a node that may crash. */

#include "env/env.h"

struct sim;
struct sim_node;

struct sim *sim_new(uint64_t seed);
void sim_free(struct sim *sim);
/* Virtual time since sim_new, which starts at 1 s. The nodes' clocks may differ (skew). */
uint64_t sim_now_ns(const struct sim *sim);
/* A number drawn from the seed, for the test's own decisions. */
uint64_t sim_random_u64(struct sim *sim);
/* Hash over all that happened so far; equal for equal runs. */
uint64_t sim_trace_hash(const struct sim *sim);

/* Run until done(context) is true (asked after each event; NULL: never), or the time has come, or
 * nothing is left to happen (then time jumps to until_ns). True if done. */
bool sim_run_until(struct sim *sim, bool (*done)(void *context), void *context, uint64_t until_ns);
/* The same for a duration, without a condition. */
void sim_run_for(struct sim *sim, uint64_t duration_ns);

/* ---- nodes -------------------------------------------------------------------------------- */

enum { SIM_NODES_MAX = 1152 };

/* ip: "10.0.0.1". The node is up. */
struct sim_node *sim_node_new(struct sim *sim, const char *ip);
/* Valid while the node is up; the same pointer after a restart. */
struct reactor *sim_node_reactor(struct sim_node *node);
bool sim_node_up(const struct sim_node *node);
/* Bytes the node holds on its heap. */
uint64_t sim_node_heap_bytes(const struct sim_node *node);

/* The process is killed: fibers and heap vanish, connections are reset, its ports refuse. Disks
 * keep all completed writes; each write in flight happens or not. May be called from a fiber of
 * another node. */
void sim_node_crash(struct sim_node *node);
/* The host loses power: as a crash, but peers get no answer and notice by timeout
 * (silence_timeout_ns), or when the node is back; its disks lose, or tear, what was not flushed. */
void sim_node_power_off(struct sim_node *node);
/* Bring a dead node up with an empty heap; spawn its main fiber anew. */
void sim_node_restart(struct sim_node *node);
/* Stop (SIGSTOP) or continue the process: the host still takes connections and bytes. */
void sim_pause(struct sim_node *node, bool on);
/* The node's clock: local = virtual + offset + drift parts per million. Set before it runs. */
void sim_node_set_clock(struct sim_node *node, int64_t offset_ns, int32_t drift_ppm);
/* Somebody sets the node's wall clock: it goes on that much later (or earlier). */
void sim_node_jump_wall(struct sim_node *node, int64_t by_ns);
/* A slow host: after each turn the node computes for so long (0: takes no time, the default). */
void sim_node_set_turn(struct sim_node *node, uint64_t turn_ns);

/* ---- network ------------------------------------------------------------------------------ */

struct sim_net_config {
    uint64_t delay_min_ns; /* one way; uniform between the two */
    uint64_t delay_max_ns;
    uint32_t slow_ppm; /* this many of a million messages take up to slow_ns more */
    uint64_t slow_ns;
    uint64_t bytes_per_us;       /* of one connection and direction; 0: no limit */
    uint64_t silence_timeout_ns; /* unanswered this long: the connection is lost */
};
/* Applies to messages sent from now on. Defaults: 20-80 us, no slow ones, 1 GB/s, 5 s. */
void sim_net_configure(struct sim *sim, const struct sim_net_config *config);
const struct sim_net_config *sim_net_config(const struct sim *sim);
/* Cut or heal the path between two nodes. Messages on the way wait (as TCP resends), and arrive in
 * order when it heals, unless the silence lasts too long. */
void sim_partition(struct sim_node *a, struct sim_node *b, bool on);
/* The same for one direction: nothing that from sends reaches to. What to sends arrives, but from's
 * host cannot confirm it, so the connection is lost after the same silence. No new one is made. */
void sim_partition_one_way(struct sim_node *from, struct sim_node *to, bool on);
/* Cut or heal between this node and all others. */
void sim_isolate(struct sim_node *node, bool on);
/* Reset all connections between two nodes. */
void sim_reset_conns(struct sim_node *a, struct sim_node *b);

/* ---- disks: named by the path given to disk_open, shared by all nodes ---------------------- */

struct sim_disk_config {
    uint64_t read_min_ns, read_max_ns;
    uint64_t write_min_ns, write_max_ns;
    uint64_t flush_min_ns, flush_max_ns;
    uint32_t read_error_ppm;  /* a read fails with -EIO */
    uint32_t read_flip_ppm;   /* a read returns one flipped bit */
    uint32_t write_error_ppm; /* a write fails with -EIO, perhaps partly done */
    uint32_t lost_ppm;        /* a write is reported done, and nothing is written */
    uint32_t misdirected_ppm; /* the same, and it is written up to 1 MiB away */
    bool torn_writes;         /* power loss may tear a block at 512 bytes */
    bool ignore_flush;        /* a lying device: flush makes nothing durable */
};
/* Make a disk before a node opens it (else DISK_CREATE does). The contents are zeroes. */
void sim_disk_new(struct sim *sim, const char *path, uint64_t size_bytes);
/* A zoned disk: the device itself refuses (-EIO) a write that is not where its zone's last one
 * ended, and one that would have more than active_max (0: any number) zones partly written. A reset
 * is durable at once; a power loss takes a suffix of what was not flushed from each zone. */
void sim_disk_new_zoned(struct sim *sim, const char *path, uint64_t size_bytes, uint32_t zone_bytes,
                        uint32_t active_max);
void sim_disk_configure(struct sim *sim, const char *path, const struct sim_disk_config *config);
const struct sim_disk_config *sim_disk_config(struct sim *sim, const char *path);
/* Keep the content of a disk on something real: each request, when it takes effect, is performed
 * there at once. A flipped bit is simulated over it; a power loss takes nothing. Before any use. */
struct sim_backing {
    int (*perform)(struct sim_backing *backing, enum disk_op op, uint64_t offset, void *data,
                   uint32_t bytes);
};
void sim_disk_back(struct sim *sim, const char *path, struct sim_backing *backing);
/* Reads that touch the range fail with -EIO until it is written (bytes 0: forget all such). */
void sim_disk_break(struct sim *sim, const char *path, uint64_t offset, uint64_t bytes);
/* Flip a bit, chosen by the seed, of a block that holds data; nothing if none does. */
void sim_disk_rot(struct sim *sim, const char *path);
/* Flip a stored bit, silently (0 to 7 in the byte at offset). */
void sim_disk_flip_bit(struct sim *sim, const char *path, uint64_t offset, uint32_t bit);
/* Look at, or change, the present content from outside. Any alignment. */
void sim_disk_peek(struct sim *sim, const char *path, uint64_t offset, void *data, size_t bytes);
void sim_disk_poke(struct sim *sim, const char *path, uint64_t offset, const void *data,
                   size_t bytes);
/* Blocks that hold data, and written blocks not yet durable. */
uint64_t sim_disk_blocks_used(struct sim *sim, const char *path);
uint64_t sim_disk_blocks_dirty(struct sim *sim, const char *path);
/* Writes that the disk has completed, ever. */
uint64_t sim_disk_writes(struct sim *sim, const char *path);

#endif
