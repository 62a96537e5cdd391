/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_MAP_COMMAND_H
#define CFS_FORMAT_MAP_COMMAND_H

#include "format/map_format.h"

/* What the map group agrees on: changes of the map, as data of Raft entries. One fixed struct,
 * then a tail that depends on the type. All members compute the same new map from it. */

/* Numbers are in logs: append only, never reuse (7 and 8 were taken). */
enum map_command_type {
    MAP_COMMAND_INIT = 1,      /* the first map. tail: struct map_header, count map_node */
    MAP_COMMAND_NODE_UP = 2,   /* node, incarnation, size_bytes. tail: count confirmed node ids */
    MAP_COMMAND_NODE_DOWN = 3, /* node, incarnation, op. tail: count confirmed node ids */
    MAP_COMMAND_RESOLVE = 4,   /* tail: count confirmed node ids */
    MAP_COMMAND_ELECT = 5,     /* tail: count struct map_command_elect */
    MAP_COMMAND_GROUP_CHANGE = 6, /* group, epoch, op, node */
    MAP_COMMAND_NODE_ADD = 9,     /* tail: one struct map_node */
    MAP_COMMAND_NODE_INTENT = 10, /* node, op: what is wanted of its host */
    MAP_COMMAND_NODE_FORGET = 11, /* node: nothing names it any more */
    MAP_COMMAND_MOVE = 12,        /* tail: count struct map_command_move */
    MAP_COMMAND_LEAD = 13,        /* tail: count struct map_command_elect: other primaries */
    MAP_COMMAND_VOTERS = 14, /* tail: count node ids: op members of the map group, then those that
                                shall get ready to be; all others are neither */
};

/* What NODE_DOWN speaks of. */
enum map_down_scope {
    MAP_DOWN_TARGET = 0,  /* the node alone */
    MAP_DOWN_PROCESS = 1, /* all of its host that are up with this incarnation */
};

struct map_command {
    uint32_t type;
    uint32_t count; /* of elements in the tail */
    uint32_t node;
    uint32_t group;
    uint32_t epoch;
    uint32_t op; /* enum group_change_op, map_node_intent, map_down_scope */
    uint64_t incarnation;
    uint64_t size_bytes;
    uint32_t meta_groups; /* INIT */
    uint32_t data_groups;
};
FORMAT_SIZE(struct map_command, 48);

struct map_command_elect {
    uint32_t group;
    uint32_t epoch;
    uint32_t node; /* the new primary */
    uint32_t zero;
};
FORMAT_SIZE(struct map_command_elect, 16);

/* A member comes, a member goes, or both. 0: none. A member that cannot go yet, since the one that
 * comes takes its place, is noted as the next to go. */
struct map_command_move {
    uint32_t group;
    uint32_t epoch;
    uint32_t add;
    uint32_t drop;
};
FORMAT_SIZE(struct map_command_move, 16);

enum {
    MAP_COMMAND_BYTES_MAX = 5 << 10, /* one Raft entry */
    MAP_COMMAND_INIT_NODES_MAX = 40,
    MAP_COMMAND_ELECTS_MAX = 256,
    MAP_COMMAND_MOVES_MAX = 256,
};

#endif
