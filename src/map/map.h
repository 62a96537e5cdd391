/* SPDX-License-Identifier: MIT */
#ifndef CFS_MAP_MAP_H
#define CFS_MAP_MAP_H

/* The cluster map for those who read it: nodes, groups, slots; and the services around it.
 *
 * map_view      an immutable, validated map, shared by reference
 * map_client    keeps the newest map here (nodes and clients alike), by long poll
 * map_server    a member of the map group: Raft, the controller when it leads
 * map_lease     this node's lease from the leader
 */

#include "env/env.h"
#include "format/map_format.h"
#include "net/rpc.h"

/* ---- view -------------------------------------------------------------------------------- */

struct map_view {
    const struct map_header *header;
    const struct map_node *nodes;   /* header->node_count, ascending ids */
    const struct map_group *groups; /* header->group_count, ascending ids */
    const uint32_t *meta_slots;     /* MAP_META_SLOTS group ids */
    uint32_t refs;
    uint32_t bytes;
};

/* Validate bytes (lengths, crc, ids in order, references) and copy them. 0, -ERR_CORRUPT_WIRE. */
must_check int map_view_new(const void *bytes, uint32_t count, struct map_view **ret_view);
struct map_view *map_view_get(struct map_view *view);
void map_view_put(struct map_view *view);
const struct map_node *map_view_node(const struct map_view *view, uint32_t node);    /* or NULL */
const struct map_group *map_view_group(const struct map_view *view, uint32_t group); /* or NULL */
void map_node_addr(const struct map_node *node, struct net_addr *ret_addr);
/* Group of an inode number; of an object. Never NULL in a valid map. */
const struct map_group *map_view_of_ino(const struct map_view *view, uint64_t ino);
const struct map_group *map_view_of_object(const struct map_view *view, uint64_t ino,
                                           uint32_t index);
/* Is the node (its whole host) to go, and does nothing depend on it any more? */
bool map_node_is_drained(const struct map_view *view, uint32_t node);
uint32_t map_group_in_sync_count(const struct map_group *group);
/* State of node in group, or 0 if it is no member. */
uint32_t map_group_member_state(const struct map_group *group, uint32_t node);

/* ---- client ------------------------------------------------------------------------------ */

struct map_client;

/* Start following the map from any of the seeds. changed (may be NULL) runs in a fiber after each
 * new map; view is borrowed. */
struct map_client *map_client_start(struct rpc *rpc, const struct net_addr *seeds,
                                    uint32_t seed_count,
                                    void (*changed)(void *context, struct map_view *view),
                                    void *context);
/* Under which name the status page lists this client. Borrowed. */
void map_client_set_name(struct map_client *client, const char *name);
/* The newest map, borrowed until the caller yields; NULL before the first. */
struct map_view *map_client_view(struct map_client *client);
/* Wait for a map newer than version. 0 or -ERR_TIMED_OUT. */
may_yield must_check int map_client_wait_newer(struct map_client *client, uint64_t version,
                                               uint64_t deadline_ns);
/* Hint that what we know may be old (a request was refused): asks at once. */
void map_client_poke(struct map_client *client);
/* Report that nothing listens at a node's address any more; the leader checks and acts. */
void map_client_suspect(struct map_client *client, uint32_t node, uint64_t incarnation);
/* Ask the leader for a change of a group, compare-and-swap on epoch. 0, -ERR_CAS_FAILED,
 * -ERR_TIMED_OUT. */
enum group_change_op {
    GROUP_CHANGE_IN_SYNC = 1, /* a joining member has caught up, and flushed that */
    GROUP_CHANGE_DROP = 2,    /* a member does not answer: no longer in sync */
};
may_yield must_check int map_client_change_group(struct map_client *client, uint32_t group,
                                                 uint32_t epoch, enum group_change_op op,
                                                 uint32_t node, uint64_t deadline_ns);
/* Tell the leader what is wanted of a node. Returns once the newest map here shows it. 0, -ENOENT
 * (no such node), -EBUSY (MAP_NODE_REMOVE: it is up and holds replicas; drain it first),
 * -ERR_NO_QUORUM (MAP_NODE_REMOVE: a group waits for what only this node may hold),
 * -ERR_TIMED_OUT. */
may_yield must_check int map_client_change_node(struct map_client *client, uint32_t node,
                                                enum map_node_intent intent, uint64_t deadline_ns);
/* Answer MAP_GET from this client's map: for nodes that are not of the map group. */
void map_client_relay(struct map_client *client);
/* Address of the current map leader as far as known. False if unknown. */
bool map_client_leader(struct map_client *client, struct net_addr *ret_addr);

/* ---- node side: heartbeat and lease -------------------------------------------------------- */

/* What a node knows of its replica of a group; told to the leader when the process starts. */
struct map_replica_report {
    uint32_t group;
    uint32_t valid;      /* 0: incomplete copy (was joining, or damaged): cannot lead */
    uint32_t last_epoch; /* epoch and seq of the newest record held */
    uint32_t zero;
    uint64_t last_seq;
};

struct map_lease_ops {
    /* Fill reports of all replicas on this node; returns the count (<= max). */
    uint32_t (*replicas)(void *context, struct map_replica_report *reports, uint32_t max);
    /* Numbers for the status page, sent with each heartbeat. */
    void (*usage)(void *context, uint64_t *ret_used_bytes, uint64_t *ret_size_bytes);
};

struct map_lease;
/* Start the heartbeat of this node. */
struct map_lease *map_lease_start(struct rpc *rpc, struct map_client *client, uint32_t node,
                                  const struct map_lease_ops *ops, void *context);
/* May this node act (serve reads, acknowledge)? False once the lease has run out on our clock. */
bool map_lease_valid(const struct map_lease *lease);
/* When it runs out, on our clock (0: never had one). */
uint64_t map_lease_until_ns(const struct map_lease *lease);
/* When it became valid again after it had run out the last time; 0: it never has. */
uint64_t map_lease_regained_ns(const struct map_lease *lease);
/* The leader has declared this incarnation dead: the process must restart to take part again. */
bool map_lease_fenced(const struct map_lease *lease);
/* The cluster has no such node any more: the process must end. */
bool map_lease_removed(const struct map_lease *lease);

/* ---- server ------------------------------------------------------------------------------ */

/* How many groups a cluster is made with: so many that it can grow sixteenfold with the nodes'
 * loads within 10 % of each other, and that many nodes take part when one is to be replaced
 * (docs/adr/0012). targets: that it starts with; targets_later: that it is to have one day, if that
 * is more than sixteen times as many; 0: it is not. */
void map_group_counts(uint32_t targets, uint32_t targets_later, uint32_t *ret_meta_groups,
                      uint32_t *ret_data_groups);

struct store;
struct map_server;

struct map_server_options {
    uint32_t node;                   /* our id */
    const struct map_header *header; /* initial settings: cluster, copies, ... (first start) */
    const struct map_node *nodes;    /* all initial nodes (first start) */
    uint32_t node_count;
    uint32_t meta_groups; /* how many groups to make at first start */
    uint32_t data_groups;
};

/* Start this node's member of the map group, as one that takes part; registers its RPCs. The Raft
 * state lives in store (group 0). On first start, voters are the nodes with MAP_VOTER_FULL. */
may_yield must_check int map_server_start(struct rpc *rpc, struct store *store,
                                          const struct map_server_options *options,
                                          struct map_server **ret_server);
/* Has this store been of a member of the map group before? */
may_yield must_check bool map_server_is_stored(struct store *store);
/* What the newest map says of this node (MAP_VOTER_NONE or not): a member takes part, and is told
 * of lost peers (rpc_on_peer_lost); others only answer. */
void map_server_set_member(struct map_server *server, bool member);
/* Another source of maps, for a server that is no member. Outlives the server. */
void map_server_follow(struct map_server *server, struct map_client *client);
bool map_server_is_leader(const struct map_server *server);

/* What a member of the map group has stored, for those who look at the store of a stopped node. Of
 * several, the one with the highest (term, index) is the newest. view: NULL if it has none; the
 * caller's (map_view_put). node: its id. -ERR_CORRUPT_DISK and as store_get. */
struct map_stored {
    uint64_t term;
    uint64_t index;
    struct map_view *view;
};
may_yield must_check int map_stored_load(struct store *store, uint32_t node,
                                         struct map_stored *ret_stored);
/* Clients that asked for the map lately, for STATUS. Returns the count (<= max). */
struct wire_status_client;
uint32_t map_server_clients(const struct map_server *server, struct wire_status_client *rows,
                            uint32_t max);

#endif
