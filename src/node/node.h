/* SPDX-License-Identifier: MIT */
#ifndef CFS_NODE_NODE_H
#define CFS_NODE_NODE_H

/* One node: wires store, map, groups, meta and data of one reactor together. Runs in any env, so
 * that a whole cluster fits in one process. */

#include "env/env.h"
#include "format/map_format.h"

struct node;

/* What a new device is told; it carries all a node needs to start. */
struct node_format_options {
    const char *disk_path;
    uint64_t size_bytes; /* of a disk file to make; ignored for what exists */
    bool force;          /* overwrite what is on the device */
    uint32_t node;       /* our id */
    uint32_t meta_groups;
    uint32_t data_groups;
    struct map_header header;     /* cluster, copies, min_in_sync, inline_bytes_max, level */
    const struct map_node *nodes; /* all initial nodes, ascending ids */
    uint32_t node_count;
};

/* Prepare a device. Errors of disk_open, store_format and store_open. */
may_yield must_check int node_format(const struct node_format_options *options);

struct node_options {
    const char *disk_path;
    uint64_t memory_bytes; /* budget of the whole node; 0: NODE_MEMORY_DEFAULT */
    /* This incarnation must not go on. why: -ERR_NO_LEASE: it was silent too long and has been
     * declared dead; it has to be started anew. -ERR_FENCED: its device failed; the process has to
     * end, so that its groups move to others. Called once, from a fiber; has been logged. */
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
