/* SPDX-License-Identifier: MIT */
#ifndef CFS_NODE_NODE_H
#define CFS_NODE_NODE_H

/* One node of the map, that is one target: wires store, map, groups, meta and data of one reactor
 * together. Runs in any env, so that a whole cluster fits in one process. A process with several
 * reactors runs several, each in its slice of the device. */

#include "env/env.h"
#include "format/map_format.h"

struct disk;
struct node;
struct store_identity;

/* The part of a device that a node is in: part index of count, each of so many bytes. bytes 0: it
 * has the whole device. */
struct node_slice {
    uint32_t index;
    uint32_t count;
    uint64_t bytes;
};

/* Open and lock a device, and read what it was formatted for (whose slice_count says how many parts
 * there are). Waits for a predecessor that is just ending. flags: as disk_open. Errors of disk_open
 * and store_identify. */
may_yield must_check int node_device_open(const char *path, uint32_t flags, struct disk **ret_disk,
                                          struct store_identity *ret_identity);

/* What a new device is told; it carries all a node needs to start. */
struct node_format_options {
    const char *disk_path;
    uint64_t size_bytes;     /* of a disk file to make; ignored for what exists */
    struct node_slice slice; /* of a device that the caller has open */
    bool force;              /* overwrite what is on the device */
    uint32_t node;           /* our id */
    uint32_t meta_groups;
    uint32_t data_groups;
    struct map_header header;     /* cluster, copies, min_in_sync, inline_bytes_max, level */
    const struct map_node *nodes; /* all initial nodes, ascending ids */
    uint32_t node_count;
};

/* Prepare a device. Errors of disk_open, store_format and store_open. */
may_yield must_check int node_format(const struct node_format_options *options);

/* A further node for a cluster that runs. */
struct node_join_options {
    const char *disk_path;
    uint64_t size_bytes; /* of a disk file to make; of what exists: as it is */
    bool force;
    struct format_uuid cluster;
    uint64_t secret;              /* of the cluster */
    const struct net_addr *seeds; /* of some of its nodes */
    uint32_t seed_count;
    struct net_addr addr; /* that the new node will serve at */
    const char *name;     /* "": made from its id */
    const char *rack;     /* failure domain; "": its own */
    uint64_t nonce;       /* not 0; asking again with the same one gets the same id */
    uint64_t deadline_ns;
};

/* Register with the cluster and prepare the device for the id that it gives. node_start comes next.
 * Errors: -ERR_TIMED_OUT (no leader answers), -EACCES (wrong secret), -EADDRINUSE (another node has
 * this address), -ENOSPC (the cluster has no more ids), -ERR_WRONG_CLUSTER, and those of
 * node_format: then the cluster knows a node that never comes, to be removed by its id. */
may_yield must_check int node_join(const struct node_join_options *options, uint32_t *ret_node);

struct node_options {
    const char *disk_path;
    uint64_t memory_bytes;   /* budget of this node; 0: NODE_MEMORY_DEFAULT */
    struct node_slice slice; /* of a device that the caller has open and so has locked */
    uint32_t host;           /* that it has to be of, by its configuration; 0: any */
    uint64_t incarnation;    /* of the process, the same for all its nodes; 0: a new one */
    uint64_t scrub_rate;     /* bytes per second; 0: no scrubs by themselves */
    uint64_t scrub_every_ns; /* from the end of one to the start of the next */
    /* This incarnation must not go on. why: -ERR_NO_LEASE: it was silent too long and has been
     * declared dead; it has to be started anew. -ERR_FENCED: its device failed; the process has to
     * end, so that its groups move to others. -ENOENT: the cluster has removed this node: the
     * process has to end. Called once, from a fiber; has been logged. */
    void (*fenced)(void *context, int why);
    void *context;
};
#define NODE_MEMORY_DEFAULT (256 * MIB)
#define NODE_MEMORY_MIN     (32 * MIB)

/* Recover the store and join the cluster. Returns once the node listens; whether it serves is the
 * map's business. Each failure has been logged with what to do. Errors of disk_open, store_open,
 * rpc_listen; -ERR_NOT_FORMATTED also if the device lacks the node's configuration. */
may_yield must_check int node_start(const struct node_options *options, struct node **ret_node);
/* Flush and close the store: an orderly end. The node must not be used afterwards. */
may_yield must_check int node_stop(struct node *node);
uint32_t node_id(const struct node *node);

#endif
