/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_FORMAT_H
#define CFS_CMD_FORMAT_H

#include "base/defs.h"
#include "format/disk_node.h"
#include "format/format.h"
#include "format/map_format.h"

/* What a new cluster is made of. */
struct cluster_plan {
    struct format_uuid cluster;
    uint32_t copies;
    uint32_t node_count;
    struct map_node nodes[DISK_NODE_CONFIG_NODES_MAX];
};

/* Add a node; ids count from 1. -EINVAL: address; -E2BIG: too many. */
must_check int cluster_plan_add(struct cluster_plan *plan, const char *name, const char *addr,
                                uint64_t size_bytes);
/* Decide what follows from the number of nodes: voters. */
void cluster_plan_finish(struct cluster_plan *plan);

struct cluster_disk {
    const char *path;
    uint64_t size_bytes; /* of a file to make */
    bool force;
};
/* Format the disk of one node of the plan. 0 or a negative error; runs a reactor of its own. */
must_check int cluster_format_disk(const struct cluster_plan *plan, uint32_t node,
                                   const struct cluster_disk *disk);
/* A new random id. */
void cluster_new_id(struct format_uuid *ret_uuid);

#endif
