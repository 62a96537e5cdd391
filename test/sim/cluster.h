/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_CLUSTER_H
#define CFS_TEST_SIM_CLUSTER_H

/* A whole cluster, and a client, in one simulated world. */

#include "client/client.h"
#include "env/sim.h"
#include "node/node.h"

enum { CLUSTER_NODES_MAX = 16 };

struct cluster;

struct cluster_member {
    struct cluster *cluster;
    struct sim_node *sim_node;
    uint32_t id;
    char disk[32];
    struct node *node; /* NULL until started; dangling after a crash */
    int result;
    int fenced; /* why the process has to end, if it has */
    bool done;
    uint64_t incarnation; /* of the process, if it has several targets; 0: its own */
    bool joins;           /* its device is not formatted yet: it asks the cluster for an id */
    bool removed;         /* for good */
};

struct cluster {
    struct sim *sim;
    struct sim_node *inspector; /* made by cluster_fsck */
    uint32_t node_count;
    uint32_t targets; /* of each host: members that live and die together */
    uint32_t starts;
    struct cluster_member members[CLUSTER_NODES_MAX];
    struct map_node map_nodes[CLUSTER_NODES_MAX];
    struct map_header header;
    uint64_t disk_bytes;
    uint64_t memory_bytes; /* of a node; taken when it starts */
};

/* Format and start node_count nodes with copies copies of everything. Asserts on failure. */
void cluster_start(struct cluster *cluster, uint64_t seed, uint32_t node_count, uint32_t copies);
/* The same on disks of that size. */
void cluster_start_sized(struct cluster *cluster, uint64_t seed, uint32_t node_count,
                         uint32_t copies, uint64_t disk_bytes);
/* The same with several targets a host: members index * targets and those that follow. What is done
 * to one of them by the functions below is done to all. */
void cluster_start_hosts(struct cluster *cluster, uint64_t seed, uint32_t hosts, uint32_t targets,
                         uint32_t copies);
void cluster_free(struct cluster *cluster);
/* Kill a node's process; take its host's power; start a dead one again. index from 0. */
void cluster_crash(struct cluster *cluster, uint32_t index);
void cluster_power_off(struct cluster *cluster, uint32_t index);
void cluster_restart(struct cluster *cluster, uint32_t index);

/* Nodes that come and go for good. Start a further node, which registers itself: its index, from
 * outside fibers. members[index].done and .result == 0: it runs, and .id is its id. */
uint32_t cluster_add_node(struct cluster *cluster);
/* From a fiber of a client: move everything off a node; take a drained or dead one out (a dead
 * one's copies are then made elsewhere at once). Returns as map_client_change_node. */
may_yield must_check int cluster_drain(struct cluster *cluster, struct map_client *map,
                                       uint32_t index);
may_yield must_check int cluster_remove(struct cluster *cluster, struct map_client *map,
                                        uint32_t index);
/* Does nothing depend on the node any more? */
bool cluster_is_drained(const struct cluster *cluster, struct map_client *map, uint32_t index);
/* Is it out of the map? */
bool cluster_is_removed(const struct cluster *cluster, struct map_client *map, uint32_t index);

/* A client on a host of its own; call from a fiber of that host. */
may_yield struct client *cluster_client(struct cluster *cluster, struct map_client **ret_map);
/* The newest map knows every node that was not removed in its present life, and all copies are in
 * sync: the next death is not a second one. */
bool cluster_is_whole(const struct cluster *cluster, struct map_client *map);
/* Every group of the newest map has a primary and copies members in sync. */
bool cluster_all_in_sync(const struct cluster *cluster, struct map_client *map);
/* All of that, no member too many, no node with more than its share of replicas (give or take one
 * per kind), and none on nodes that are to go. */
bool cluster_is_balanced(const struct cluster *cluster, struct map_client *map);

/* Run fn(arg) in a fiber of host, and the world, until *done. False: it is not within ten virtual
 * minutes. Call from outside fibers. */
bool cluster_run_fiber(struct cluster *cluster, struct sim_node *host, fiber_fn fn, void *arg,
                       bool *done);

/* In a fiber of a test, which calls itself run and has the members failed and error: keep what went
 * wrong first. */
#define CHECK(expression)                                                                          \
    do {                                                                                           \
        int check_result_ = (expression);                                                          \
        if (check_result_ < 0 && !run->failed) {                                                   \
            run->failed = #expression;                                                             \
            run->error = check_result_;                                                            \
        }                                                                                          \
    } while (0)

/* main() of a test: run the seeds named on the command line (asked), else 1 to usual. The exit
 * code. CFS_LOG in the environment: the nodes' logs, too. */
int cluster_test_main(int argc, char **argv, uint64_t usual,
                      bool (*run_seed)(uint64_t seed, bool asked));

#endif
