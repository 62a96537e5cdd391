/* SPDX-License-Identifier: MIT */
#ifndef CFS_MAP_CLIENT_INTERNAL_H
#define CFS_MAP_CLIENT_INTERNAL_H

#include "format/wire_map.h"
#include "map/map_internal.h"

enum {
    CLIENT_SEEDS_MAX = 64,
    CLIENT_SUSPECTS_MAX = 16,
    CLIENT_NAME_BYTES = 64,
};

struct map_client {
    struct rpc *rpc;
    struct net_addr seeds[CLIENT_SEEDS_MAX];
    uint32_t seed_count;
    uint32_t next_candidate;
    char name[CLIENT_NAME_BYTES];

    struct map_view *view;
    struct waitq newer; /* view has changed */
    void (*changed)(void *context, struct map_view *view);
    void *context;
    uint64_t notified_version; /* changed has returned for it */

    bool leader_known;
    uint32_t leader_node;
    struct net_addr leader;
    struct waitq leader_news;

    bool poking;
    bool wants_whole;  /* a delta did not fit */
    uint32_t failures; /* polls in a row that brought nothing */
    uint32_t suspects; /* reports under way */
};

/* The version by which this process really acts. */
uint64_t map_client_acting_version(const struct map_client *client);
/* Wait until another leader is known, or the deadline. */
may_yield void map_client_wait_leader(struct map_client *client, uint64_t deadline_ns);
/* The leader did not answer as one. */
void map_client_leader_failed(struct map_client *client, const struct net_addr *addr);

/* Answer a MAP_GET from what this client follows. */
may_yield void map_client_serve_get(struct map_client *client, struct rpc_request *request);
/* One call to the leader. 0, the leader's answer, or -ERR_NOT_LEADER: nobody answered as one. */
may_yield int map_client_call_leader(struct map_client *client, struct rpc_call *call);

#endif
