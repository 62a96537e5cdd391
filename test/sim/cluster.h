/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_CLUSTER_H
#define CFS_TEST_SIM_CLUSTER_H

/* A whole cluster, and a client, in one simulated world. */

#include "client/client.h"
#include "env/sim.h"
#include "node/node.h"

enum { CLUSTER_NODES_MAX = 8 };

struct cluster;

struct cluster_member {
    struct cluster *cluster;
    struct sim_node *sim_node;
    uint32_t id;
    char disk[32];
    struct node *node; /* NULL until started; dangling after a crash */
    int result;
    bool done;
};

struct cluster {
    struct sim *sim;
    struct sim_node *inspector; /* made by cluster_fsck */
    uint32_t node_count;
    struct cluster_member members[CLUSTER_NODES_MAX];
    struct map_node map_nodes[CLUSTER_NODES_MAX];
    struct map_header header;
    uint64_t disk_bytes;
};

/* Format and start node_count nodes with copies copies of everything. Asserts on failure. */
void cluster_start(struct cluster *cluster, uint64_t seed, uint32_t node_count, uint32_t copies);
void cluster_free(struct cluster *cluster);
/* Kill a node's process; start a dead one again. index from 0. */
void cluster_crash(struct cluster *cluster, uint32_t index);
void cluster_restart(struct cluster *cluster, uint32_t index);

/* A client on a host of its own; call from a fiber of that host. */
may_yield struct client *cluster_client(struct cluster *cluster, struct map_client **ret_map);
/* The newest map knows every node in its present life, and all copies are in sync: the next death
 * is not a second one. */
bool cluster_is_whole(const struct cluster *cluster, struct map_client *map);
/* Every group of the newest map has a primary and copies members in sync. */
bool cluster_all_in_sync(const struct cluster *cluster, struct map_client *map);

#endif
