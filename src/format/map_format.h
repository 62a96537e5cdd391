/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_MAP_FORMAT_H
#define CFS_FORMAT_MAP_FORMAT_H

#include "format/format.h"

/* The cluster map as it is stored, sent and used in place: this header, then node_count nodes,
 * then group_count groups (those of metadata first), then the slot table (MAP_META_SLOTS group
 * ids). An object belongs to one of the data groups by hash, without a table. */

enum {
    MAP_MAGIC = 0x50414d43, /* "CMAP" */
    MAP_NODES_MAX = 1024,
    MAP_META_SLOTS = 4096, /* top 12 bits of an inode number */
    MAP_DATA_GROUPS_MAX = 65536,
    MAP_GROUPS_MAX = MAP_META_SLOTS + MAP_DATA_GROUPS_MAX,
    MAP_MEMBERS_MAX = 4,
    MAP_NAME_BYTES = 32,
};

struct map_header {
    uint32_t magic;
    uint32_t level; /* active protocol level */
    uint64_t version;
    struct format_uuid cluster;
    uint32_t node_count;
    uint32_t group_count;
    uint32_t copies;      /* wanted members of a group */
    uint32_t min_in_sync; /* below it a group takes no writes */
    uint32_t inline_bytes_max;
    uint32_t crc;         /* of the whole map with this field 0 */
    uint64_t join_secret; /* a new node has to know it; keeps out mistakes, not enemies */
    uint32_t last_node;   /* highest node id ever given: ids are never given twice */
    uint32_t meta_groups; /* the first so many groups hold metadata, all others data */
};
FORMAT_SIZE(struct map_header, 72);

enum map_node_state {
    MAP_NODE_NEW = 0, /* known, has never reported */
    MAP_NODE_UP = 1,
    MAP_NODE_DOWN = 2,
};

/* What the operator wants of a node. */
enum map_node_intent {
    MAP_NODE_KEEP = 0,
    MAP_NODE_DRAIN = 1,  /* hold nothing: its replicas move away */
    MAP_NODE_REMOVE = 2, /* never comes back: nobody waits for it, and it is refused */
};

enum map_node_voter {
    MAP_VOTER_NONE = 0,
    MAP_VOTER_FULL = 1,    /* member of the map group */
    MAP_VOTER_LEARNER = 2, /* is becoming one, or ceasing to be one: runs a map server */
};

/* A *target*: one reactor's share of one device, with an address of its own; what holds replicas,
 * leads groups and fails. The targets of one process (one node as people count them) have the same
 * host and die together; see docs/adr/0010. */
struct map_node {
    uint32_t id; /* 1 to MAP_NODES_MAX */
    uint32_t state;
    uint64_t incarnation; /* of the process that is (or last was) up, which its targets share; of a
                             node added at run time: the number by which it asked */
    uint8_t ip[16];       /* struct net_addr's ip and port */
    uint16_t port;
    uint16_t voter;  /* enum map_node_voter */
    uint32_t intent; /* enum map_node_intent */
    uint32_t host;   /* 1 to MAP_NODES_MAX: which process; holds at most one copy of a group */
    uint32_t target; /* which one of its host's, from 0 */
    uint64_t size_bytes;
    char name[MAP_NAME_BYTES];
    char rack[MAP_NAME_BYTES];
};
FORMAT_SIZE(struct map_node, 120);

enum map_group_kind { MAP_GROUP_META = 1, MAP_GROUP_DATA = 2 };

enum map_member_state {
    MAP_MEMBER_IN_SYNC = 1, /* holds everything acknowledged in this epoch */
    MAP_MEMBER_JOINING = 2, /* catching up */
    MAP_MEMBER_LOST = 3,    /* was in sync at the end of its life; all others are gone too, so the
                               group waits for it (its log may be the newest) */
};

struct map_member {
    uint32_t node;
    uint32_t state;
};

struct map_group {
    uint32_t id; /* from 1 */
    uint32_t kind;
    uint32_t epoch;   /* grows with every change of this struct */
    uint32_t primary; /* node id; 0: none can be had at the moment */
    uint32_t member_count;
    /* How often the group went on from what one restarted member had on its device, because all
     * memory was gone: what was acknowledged and not fsynced before may be lost. */
    uint32_t cold_starts;
    struct map_member members[MAP_MEMBERS_MAX];
};
FORMAT_SIZE(struct map_group, 56);

#endif
