/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_FORMAT_H
#define CFS_CMD_FORMAT_H

#include "base/defs.h"
#include "cmd/command.h"
#include "format/disk_node.h"
#include "format/format.h"
#include "format/map_format.h"

/* What a new cluster is made of. */
struct cluster_plan {
    struct format_uuid cluster;
    uint32_t copies;
    uint32_t reactors;   /* of each host: so many nodes of the map */
    uint32_t host_count; /* what people call nodes */
    uint32_t node_count;
    uint32_t grow_to; /* hosts that the cluster is to have one day; 0: not said */
    struct map_node nodes[DISK_NODE_CONFIG_NODES_MAX];
};

/* Add a host, named nodeN; numbers count from 1. addr: of its first reactor; the ports of the
 * others follow. -EINVAL: address; -E2BIG: too many. */
must_check int cluster_plan_add(struct cluster_plan *plan, const char *addr, uint64_t size_bytes);
/* How many reactors a node is to have by default: one for each of its cores, as far as each gets
 * 4 GiB of the disk and the plan holds them. disk_bytes 0: not known. */
uint32_t cluster_default_reactors(uint32_t cores, uint32_t host_count, uint64_t disk_bytes);
/* Decide what follows from the number of nodes: voters. */
void cluster_plan_finish(struct cluster_plan *plan);

struct cluster_disk {
    const char *path;
    uint64_t size_bytes; /* of a file to make */
    bool force;
};
/* Size of the disk as it is, or of the file that will be made; 0: not known. */
uint64_t cluster_disk_bytes(const struct cluster_disk *disk);
/* Format the disk of one host of the plan. 0 or a negative error (-ENOSPC: too small for the number
 * of reactors); runs a reactor of its own. */
must_check int cluster_format_disk(const struct cluster_plan *plan, uint32_t host,
                                   const struct cluster_disk *disk);
/* Format by the options of a command, after a look at what is on the disk. The exit code. */
int cluster_format_command(const struct command_line *line, const char *disk_path);
/* A new random id. */
void cluster_new_id(struct format_uuid *ret_uuid);

#endif
