/* SPDX-License-Identifier: MIT */
#ifndef CFS_MAP_PLACEMENT_H
#define CFS_MAP_PLACEMENT_H

#include "base/defs.h"
#include "format/map_format.h"

/* Which nodes hold a group: weighted rendezvous hashing. A pure function of its arguments, in
 * integer arithmetic, so that all members of the map group compute the same. */

struct placement_node {
    uint32_t node;
    uint32_t host;     /* two of the same host never hold the same group */
    uint32_t rack;     /* equal numbers share a failure domain; 0: a domain of its own */
    uint64_t weight;   /* share of the load it is to have; 0: takes none */
    uint32_t load;     /* members it has */
    uint32_t load_max; /* is chosen beyond this only if nobody else is left */
};

/* As of the map, without load. weight 0: is not to be chosen. */
void placement_node_init(struct placement_node *ret_node, const struct map_node *node,
                         uint64_t weight);
/* Same host or same rack. */
bool placement_same_domain(const struct placement_node *a, const struct placement_node *b);

/* Uniform; of one node, the keys with the largest hashes have the smallest scores. */
uint64_t placement_hash(uint64_t key, uint32_t node);
/* Smaller wins: -log2(u) / weight with u uniform in (0, 1] from hash(key, node). The chance to win
 * is in proportion to the weight, and does not depend on the other nodes (minimal movement). */
uint64_t placement_score(uint64_t key, uint32_t node, uint64_t weight);

/* Index of the best node for key whose host has none of taken (indexes, taken_count of them),
 * preferring racks that no taken node is in, then nodes below their load_max. -1: none is left. */
int32_t placement_choose(const struct placement_node *nodes, uint32_t count, uint64_t key,
                         const uint32_t *taken, uint32_t taken_count);

#endif
