/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_WIRE_MAP_H
#define CFS_FORMAT_WIRE_MAP_H

#include "format/map_format.h"
#include "format/rpc.h"

/* RAFT: one-way in spirit (the reply is empty); tail: the Raft message (format/wire_raft.h);
 * payload: of a snapshot, the map (empty: none yet). */
struct wire_raft_req {
    struct wire_body body;
    uint32_t from;
    uint32_t zero;
};
FORMAT_SIZE(struct wire_raft_req, 16);
struct wire_raft_rep {
    struct wire_body body;
};
FORMAT_SIZE(struct wire_raft_rep, 8);

/* MAP_GET: the newest map if it is newer than version, else wait up to wait_ms for one (long
 * poll). Any node answers from what it has. Reply payload: the map (format/map_format.h), or empty
 * if nothing newer came. */
struct wire_map_get_req {
    struct wire_body body;
    uint64_t version;
    uint32_t wait_ms;
    uint32_t delta;       /* 1: changes since version will do (map/map_delta.c) */
    char client_name[64]; /* for status: what is mounted where; empty for nodes */
};
FORMAT_SIZE(struct wire_map_get_req, 88);
struct wire_map_get_rep {
    struct wire_body body;
    uint64_t version;
    uint32_t leader; /* node id of the map leader as far as known, 0 if not */
    uint32_t delta;  /* 1: the payload is only what has changed since the version asked for */
};
FORMAT_SIZE(struct wire_map_get_rep, 24);

/* NODE_BEAT: heartbeat; payload on the first beats of an incarnation (with_reports): struct
 * map_replica_report[]. */
struct wire_node_beat_req {
    struct wire_body body;
    uint32_t node;
    uint32_t with_reports;
    uint64_t incarnation;
    uint64_t map_version;
    uint64_t used_bytes;
    uint64_t size_bytes;
    uint32_t report_count;
    uint32_t reports_crc; /* CRC-32C of the payload */
    uint32_t pid;
    uint32_t zero;
};
FORMAT_SIZE(struct wire_node_beat_req, 64);
struct wire_node_beat_rep {
    struct wire_body body;
    uint64_t map_version;
    uint32_t lease_ms;     /* from the moment the request was sent */
    uint32_t fenced;       /* 1: this incarnation has been declared dead */
    uint32_t want_reports; /* 1: the leader does not have this process's replica reports yet */
    uint32_t zero;
};
FORMAT_SIZE(struct wire_node_beat_rep, 32);

struct wire_node_suspect_req {
    struct wire_body body;
    uint32_t node;
    uint32_t zero;
    uint64_t incarnation;
};
FORMAT_SIZE(struct wire_node_suspect_req, 24);
struct wire_node_suspect_rep {
    struct wire_body body;
};
FORMAT_SIZE(struct wire_node_suspect_rep, 8);

struct wire_group_change_req {
    struct wire_body body;
    uint32_t group;
    uint32_t epoch;
    uint32_t op; /* enum group_change_op */
    uint32_t node;
};
FORMAT_SIZE(struct wire_group_change_req, 24);
struct wire_group_change_rep {
    struct wire_body body;
    uint64_t map_version;
};
FORMAT_SIZE(struct wire_group_change_rep, 16);

/* NODE_ADD: a new node registers itself with the leader, before its device is formatted. The same
 * nonce gets the same answer. */
struct wire_node_add_req {
    struct wire_body body;
    uint64_t secret;      /* of the cluster: struct map_header.join_secret */
    uint64_t nonce;       /* not 0 */
    struct map_node node; /* address, size, name, rack; host and target: 0 of a new host */
};
FORMAT_SIZE(struct wire_node_add_req, 144);
struct wire_node_add_rep {
    struct wire_body body;
    uint64_t map_version;
    uint32_t node; /* its id */
    uint32_t zero;
};
FORMAT_SIZE(struct wire_node_add_rep, 24);

/* NODE_CHANGE: what the operator wants of a node. */
struct wire_node_change_req {
    struct wire_body body;
    uint32_t node;
    uint32_t intent; /* enum map_node_intent */
};
FORMAT_SIZE(struct wire_node_change_req, 16);
struct wire_node_change_rep {
    struct wire_body body;
    uint64_t map_version;
};
FORMAT_SIZE(struct wire_node_change_rep, 16);

/* STATUS: asked of any node; the answer speaks of that node (status of the cluster is put together
 * by the asker). Payload of the reply: struct wire_status_group[group_count]; tail: struct
 * wire_status_client[client_count]. */
struct wire_status_req {
    struct wire_body body;
};
FORMAT_SIZE(struct wire_status_req, 8);
struct wire_status_rep {
    struct wire_body body;
    uint64_t map_version;
    uint64_t incarnation;
    uint64_t used_bytes;
    uint64_t size_bytes;
    uint64_t memory_bytes;
    uint64_t uptime_ms;
    uint32_t node;
    uint32_t pid;
    uint32_t lease_valid;
    uint32_t is_leader;
    uint32_t group_count;
    uint32_t client_count;
    uint64_t data_errors;  /* blocks that failed their checksum since start */
    uint64_t data_repairs; /* of these, rewritten from another copy */
    uint64_t node_errors;  /* metadata found bad: tree nodes, superblocks, journal */
    uint64_t node_repairs; /* of these, written anew from the good copy */
    uint64_t data_losses;  /* blocks with no good copy */
    uint64_t wire_refused; /* messages refused as malformed */
    uint64_t scrub_done_bytes;
    uint64_t scrub_total_bytes; /* of the scrub that runs; 0: none */
    uint64_t scrub_rate;        /* bytes/s */
    uint64_t scrub_found;       /* damaged extents found by scrubs since start */
    uint64_t scrubs;            /* completed since start */
    /* Written to the device since start: */
    uint64_t written_data;  /* by users and peers */
    uint64_t written_moved; /* by the cleaner */
    uint64_t written_meta;  /* journal and tree */
    uint32_t groups_crc;    /* CRC-32C of the payload */
    uint32_t zero;
};
FORMAT_SIZE(struct wire_status_rep, 200);

struct wire_status_group {
    uint32_t group;
    uint32_t epoch;
    uint32_t role;  /* 0 member, 1 primary */
    uint32_t state; /* 0 serving, 1 recovering, 2 catching up */
    uint64_t bytes; /* stored in this replica */
    uint64_t catch_up_done_bytes;
    uint64_t catch_up_total_bytes;
    uint64_t catch_up_rate; /* bytes/s */
};
FORMAT_SIZE(struct wire_status_group, 48);

struct wire_status_client {
    uint64_t session;
    uint64_t idle_ms;
    char name[64];
};
FORMAT_SIZE(struct wire_status_client, 80);

#endif
