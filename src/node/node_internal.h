/* SPDX-License-Identifier: MIT */
#ifndef CFS_NODE_NODE_INTERNAL_H
#define CFS_NODE_NODE_INTERNAL_H

#include "data/data.h"
#include "format/disk_node.h"
#include "group/group.h"
#include "map/map.h"
#include "meta/meta.h"
#include "net/rpc.h"
#include "node/node.h"
#include "store/store.h"

struct node {
    struct node_options options;
    struct disk_node_config config;
    struct map_node nodes[DISK_NODE_CONFIG_NODES_MAX];
    struct rpc_identity identity;
    uint64_t started_ns;
    struct disk *disk;
    struct store *store;
    struct rpc *rpc;
    struct group_host *host;
    struct data_service *data;
    struct meta_service *meta;
    struct map_server *map_server; /* NULL: was never a member of the map group */
    bool is_member;
    struct map_client *map;
    struct map_lease *lease;
    uint32_t kept_seed_count;
    struct disk_node_seed kept_seeds[DISK_NODE_SEEDS_MAX]; /* as stored */
    bool probing[MAP_NODES_MAX + 1];                       /* a probe of that node is under way */
};

/* Open a node's disk to be read only: its store as recovery finds it (in memory), its groups, its
 * configuration; nothing runs. memory_bytes as for a node, at least NODE_MEMORY_MIN. Errors of
 * disk_open (-EBUSY: a node runs on it) and store_open; -ERR_NOT_FORMATTED. */
may_yield must_check int node_look(const struct node_options *options, struct node **ret_node);

/* Where to look for the cluster: members of the map group as last seen, then the nodes that the
 * device was formatted with. Returns the count. */
enum { NODE_SEEDS_MAX = DISK_NODE_CONFIG_NODES_MAX + DISK_NODE_SEEDS_MAX };
may_yield uint32_t node_seeds_load(struct node *node, struct net_addr seeds[NODE_SEEDS_MAX]);
/* Keep the addresses of the present members, if they have changed. */
void node_seeds_save(struct node *node, const struct map_view *view);

/* Register the STATUS RPC. */
void node_status_start(struct node *node);

/* The one row that node_format writes. */
struct slice node_config_key(void);

#endif
