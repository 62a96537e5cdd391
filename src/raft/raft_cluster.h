/* SPDX-License-Identifier: MIT */
#ifndef CFS_RAFT_RAFT_CLUSTER_H
#define CFS_RAFT_RAFT_CLUSTER_H

/* For tests: several machines in memory, joined by a network that loses, doubles, delays and
 * reorders, on disks that are durable only after a while. All from one seed. Checks election
 * safety, log matching, leader completeness, state machine agreement and read index after every
 * step (assert). */

#include "base/random.h"
#include "raft/raft.h"

enum {
    CLUSTER_NODES_MAX = 7,
    CLUSTER_MAIL_MAX = 4096,
    CLUSTER_WRITES_MAX = 1024,
    CLUSTER_LOG_MAX = 1 << 16,
    CLUSTER_TERMS_MAX = 1 << 14,
    CLUSTER_DATA_MAX = 128,
};

struct cluster_entry {
    uint64_t term;
    uint32_t type;
    uint32_t bytes;
    uint8_t data[CLUSTER_DATA_MAX];
};

struct cluster_disk {
    uint64_t term;
    uint32_t vote;
    uint64_t snapshot_index;
    uint64_t snapshot_term;
    uint64_t snapshot_digest;
    struct wire_raft_config snapshot_config;
    uint64_t last_index;
    struct cluster_entry *entries; /* index modulo RAFT_LOG_ENTRIES_MAX */
};

struct cluster_write {
    uint64_t seq;
    uint64_t due_ns;
    uint32_t flags;
    struct cluster_disk head; /* entries unused */
    uint64_t log_first;
    uint64_t log_last;
    struct cluster_entry *entries;
};

struct cluster_node {
    uint32_t id;
    bool up;
    struct raft *raft;
    struct cluster_disk disk;
    uint32_t write_count;
    struct cluster_write writes[CLUSTER_WRITES_MAX];
    uint64_t applied;
    uint64_t digest;                         /* of all applied */
    uint64_t snapshot_digest;                /* at the machine's snapshot index */
    uint32_t side;                           /* of a partition */
    uint64_t gone_ns[CLUSTER_NODES_MAX + 1]; /* when it learns that a node is gone; 0: never */
};

struct cluster_mail {
    uint64_t due_ns;
    uint32_t to;
    uint32_t bytes;
    uint64_t digest; /* of a snapshot */
    uint8_t *data;
};

struct cluster {
    struct random random;
    uint64_t now_ns;
    uint32_t node_count;
    struct cluster_node nodes[CLUSTER_NODES_MAX + 1]; /* by id, from 1 */
    uint32_t mail_count;
    struct cluster_mail mail[CLUSTER_MAIL_MAX];
    /* faults */
    uint32_t drop_percent;
    uint32_t double_percent;
    uint32_t slow_percent;
    uint64_t stall_ns; /* every write takes so much longer */
    bool hold;         /* the network delivers nothing by itself: scripted tests */
    /* what has been committed anywhere */
    uint64_t committed;
    uint64_t committed_terms[CLUSTER_LOG_MAX];
    uint64_t committed_digests[CLUSTER_LOG_MAX];
    uint32_t term_leaders[CLUSTER_TERMS_MAX];
    uint64_t read_floor[256]; /* by read id */
    uint64_t reads_confirmed;
    uint64_t elections;
    uint64_t installs;
    struct wire_raft_config config;
    struct raft_update update;
};

struct cluster *cluster_new(uint64_t seed, uint32_t voters, uint32_t nodes);
void cluster_free(struct cluster *cluster);
void cluster_crash(struct cluster *cluster, uint32_t id, bool proven);
void cluster_restart(struct cluster *cluster, uint32_t id);
void cluster_partition(struct cluster *cluster); /* into two random sides */
void cluster_heal(struct cluster *cluster);
/* Run events up to now + duration. */
void cluster_run(struct cluster *cluster, uint64_t duration_ns);
/* One event by hand; returns its result. */
int cluster_step(struct cluster *cluster, uint32_t id, struct raft_event *event);
int cluster_propose(struct cluster *cluster, uint32_t id, uint64_t value);
int cluster_read(struct cluster *cluster, uint32_t id, bool urgent);
/* Deliver the held messages between two nodes (scripted tests); all others stay. */
uint32_t cluster_deliver(struct cluster *cluster, uint32_t from, uint32_t to);
void cluster_drop_all(struct cluster *cluster);
void cluster_persist_all(struct cluster *cluster, uint32_t id);
/* The live leader of the largest term, or 0. */
uint32_t cluster_leader(const struct cluster *cluster);
void cluster_check_logs(const struct cluster *cluster);

#endif
