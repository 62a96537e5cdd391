/* SPDX-License-Identifier: MIT */
#ifndef CFS_GROUP_GROUP_STORM_H
#define CFS_GROUP_GROUP_STORM_H

/* The world of group_storm_test.c, and its stand-in for the map (group_storm_map.c). */

#include "base/random.h"
#include "env/sim.h"
#include "group/group.h"

enum {
    NODES = 3,
    GROUPS = 2,
    KEYS = 120, /* half of them rows, half data */
    TABLE = 0x10,
    BLOCKS_MAX = 12,
    STEPS = 250,
};
#define DISK_BYTES (1 * GIB)
#define LEASE_NS   (1500 * NS_PER_MS)

struct host {
    uint32_t id;
    struct sim_node *sim_node;
    char disk[16];
    bool alive;
    bool paused;
    bool deaf; /* hears nothing of the map, nor does the map hear it; all else works */
    bool fenced;
    uint64_t lease_until_ns;
    uint64_t incarnation; /* of the process */
    /* what the map's client here has */
    struct map_header header;
    struct map_node nodes[NODES];
    struct map_group groups_seen[GROUPS];
    struct map_view view;
    /* in the node's heap */
    struct rpc *rpc;
    struct store *store;
    struct group_host *groups;
};

struct due {
    uint64_t acked;   /* the newest number acknowledged */
    uint64_t flushed; /* the newest one that must survive everything */
    uint64_t tried;
};

struct world {
    struct sim *sim;
    struct random random;
    struct host hosts[NODES];
    uint64_t version;
    struct map_group groups[GROUPS];
    bool up[NODES];        /* as the map believes */
    uint64_t known[NODES]; /* incarnations */
    struct due due[GROUPS][KEYS];
    uint64_t next_number;
    uint64_t acks;
    bool power; /* nodes lose power, too: then a lone primary's word is not enough */
    bool calm;
    bool deafness;   /* nodes may be deaf */
    bool strikes;    /* primaries die as they take members in */
    uint32_t strike; /* one that is to die in a moment; 0: none */
    const char *failed;
    uint64_t failed_detail[3];
};
extern struct world world;

/* What went wrong first. */
void storm_fail(const char *what, uint64_t a, uint64_t b, uint64_t c);
uint64_t storm_below(uint64_t bound);

/* group_storm_map.c. The map's client at the host learns what the map is now. */
void storm_refresh_view(struct host *host);
/* The host is told what the map is, some time soon. */
void storm_tell(struct host *host);
/* A new version: all are told, some time soon. */
void storm_map_changed(void);
struct map_member *storm_member_of(struct map_group *group, uint32_t node);
/* An in-sync member that is sure to be alive, but that one; 0: none. */
uint32_t storm_heir_of(const struct map_group *group, uint32_t except);
void storm_set_write_errors(struct host *host, uint32_t ppm);
/* The map looks at everybody, and decides. */
void storm_authority_tick(void);

/* group_storm_test.c. Kill the process, or take its power; start it again. */
void storm_host_stop(struct host *host, bool power);
void storm_host_restart(struct host *host);

#endif
