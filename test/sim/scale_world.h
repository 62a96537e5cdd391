/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_SCALE_WORLD_H
#define CFS_TEST_SIM_SCALE_WORLD_H

/* A large cluster whose membership is real (Raft, map machine, planner, controller, leases, map
 * client, RPC) and whose groups are a model: copying is bytes that pass a source's device and
 * network card and a target's, each of which serves one chunk after the other. */

#include "env/sim.h"
#include "map/map_internal.h"
#include "store/store.h"

/* Of every node; bytes per second. */
struct scale_speeds {
    uint64_t used_bytes; /* data and metadata that it holds */
    uint64_t read_rate;
    uint64_t write_rate;
    uint64_t net_rate; /* each way */
};

struct scale_world;

struct scale_node {
    struct scale_world *world;
    uint32_t id;
    struct sim_node *sim_node;
    struct rpc *rpc;
    struct map_client *client;
    struct map_lease *lease;
    struct map_server *server; /* NULL: no member of the map group */
    bool running;
    uint64_t seen_version;
    /* when what was asked of them so far will be done */
    uint64_t read_free_ns;
    uint64_t write_free_ns;
    uint64_t out_free_ns;
    uint64_t in_free_ns;
    bool *copying; /* groups led here, by index */
};

struct scale_world {
    struct sim *sim;
    struct scale_speeds speeds;
    uint64_t group_bytes[MAP_GROUP_DATA + 1];
    uint32_t node_count;
    struct scale_node *nodes; /* by id - 1; one more than node_count: who joins */
    struct map_view *first;
    uint64_t copied_bytes;
    uint64_t copies_done;
    /* how long the newest version took to reach everybody */
    uint64_t version;
    uint64_t version_ns;
    uint32_t version_seen;
};

/* Grow a map with the real machine and planner from at most 32 nodes to node_count, all copies in
 * sync; *ret_moves: replicas that were moved. The caller's. */
struct map_view *scale_grow(uint32_t node_count, uint32_t copies, uint64_t *ret_moves);
/* The address of node id. */
void scale_addr(uint32_t id, struct net_addr *ret_addr, char text[40]);

/* Start all nodes of the map. Takes it. */
struct scale_world *scale_world_new(uint64_t seed, struct map_view *first,
                                    const struct scale_speeds *speeds);
void scale_world_free(struct scale_world *world);
struct scale_node *scale_node(struct scale_world *world, uint32_t id);
/* The map as its leader has it; NULL: there is none. */
const struct map_view *scale_map(const struct scale_world *world, uint32_t *ret_leader);
/* A further node registers and starts: id node_count + 1. */
void scale_join(struct scale_world *world);
/* Messages sent by all so far. */
uint64_t scale_calls(const struct scale_world *world);

#endif
