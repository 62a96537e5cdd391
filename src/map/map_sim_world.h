/* SPDX-License-Identifier: MIT */
#ifndef CFS_MAP_MAP_SIM_WORLD_H
#define CFS_MAP_MAP_SIM_WORLD_H

/* Nodes of a cluster in the simulated world: real map server, client and lease on a store; a stub
 * of the group layer promotes joining members after a short while. */

#include "env/sim.h"
#include "map/map_internal.h"

enum { NODES_MAX = 5, GROUPS_MAX = 16, META_GROUPS = 4, DATA_GROUPS = 8, PORT = 7000 };

struct world;

struct member {
    struct world *world;
    uint32_t id;
    struct sim_node *sim_node;
    uint64_t starts; /* incarnations */
    int64_t offset_ns;
    int32_t drift_ppm;
    /* of the running process */
    bool running;
    bool paused;
    bool formatted;
    struct rpc *rpc;
    struct map_server *server;
    struct map_client *client;
    struct map_lease *lease;
    /* replicas, as on its disk */
    struct map_replica_report reports[GROUPS_MAX];
    uint32_t report_count;
};

struct world {
    struct sim *sim;
    uint32_t node_count;
    struct map_header header;
    struct map_node nodes[NODES_MAX];
    struct member members[NODES_MAX + 1];
    uint64_t restarts_by_fence;
    bool promote;
    uint32_t drop_percent; /* chance that a primary drops a member each time it looks */
    uint32_t excluded;     /* does not count for world_all_served */
};

/* A cluster that runs: all groups in sync. */
struct world *world_formed(uint64_t seed, uint32_t nodes, uint32_t copies);
void world_free(struct world *world);
/* Kill the process; start it again. */
void member_kill(struct member *member);
void member_restart(struct member *member);
/* What whoever starts processes does with those that found themselves fenced. */
void world_restart_fenced(struct world *world);
/* Let time pass, checking lease safety all the while; until a condition: how long that took. */
void world_run(struct world *world, uint64_t duration_ns);
uint64_t world_run_until(struct world *world, bool (*done)(void *context), uint64_t limit_ns);
/* The leader of the map group (0: none), and the map as a node has it (NULL: it is down). */
uint32_t world_leader(const struct world *world);
struct map_view *world_view_of(const struct world *world, uint32_t node);
/* Every group has a primary that acts; all members are in sync, too. For world_run_until. */
bool world_all_served(void *context);
bool world_all_in_sync(void *context);

#endif
