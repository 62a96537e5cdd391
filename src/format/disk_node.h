/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_DISK_NODE_H
#define CFS_FORMAT_DISK_NODE_H

#include "format/map_format.h"

/* The configuration a device was formatted with: one local row (group 0), key = u32 0 big-endian,
 * table NODE_TABLE_CONFIG. This header, then node_count nodes. */

enum {
    NODE_TABLE_CONFIG = 0x02,
    NODE_TABLE_SEEDS = 0x03, /* one local row: struct disk_node_seed[], members of the map group */
    DISK_NODE_CONFIG_VERSION = 2,
    DISK_NODE_CONFIG_NODES_MAX = 40, /* first nodes; others join later through the map */
    DISK_NODE_SEEDS_MAX = 8,
};

struct disk_node_seed {
    uint8_t ip[16]; /* struct net_addr */
    uint16_t port;
    uint16_t zero[3];
};
FORMAT_SIZE(struct disk_node_seed, 24);

struct disk_node_config {
    uint32_t version;
    uint32_t node;
    uint32_t meta_groups;
    uint32_t data_groups;
    uint32_t node_count;
    uint32_t zero;
    struct map_header header;
};
FORMAT_SIZE(struct disk_node_config, 96);

#endif
