/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_HTABLE_H
#define CFS_BASE_HTABLE_H

/* Intrusive hash table from a 64-bit hash (or id) to nodes. Chained; grows by doubling; never
 * shrinks. Nodes with equal hash are told apart by the caller:
 *
 *     for (n = htable_first(t, h); n; n = htable_next(n))
 *         if (same(container_of(n, ...), key)) ...
 */

#include "base/defs.h"

struct htable_node {
    struct htable_node *next;
    uint64_t hash;
};

struct htable {
    struct htable_node **buckets;
    uint64_t bucket_count; /* power of two, or 0 before the first insert */
    uint64_t count;
};

void htable_init(struct htable *table);
void htable_fini(struct htable *table); /* frees the buckets, not the nodes */
void htable_insert(struct htable *table, struct htable_node *node, uint64_t hash);
void htable_remove(struct htable *table, struct htable_node *node); /* must be in the table */
struct htable_node *htable_first(const struct htable *table, uint64_t hash);
struct htable_node *htable_next(const struct htable_node *node);
/* Walk all nodes: start with NULL; the table must not change meanwhile, except that the node
 * returned last may be removed once the next one has been fetched. */
struct htable_node *htable_walk(const struct htable *table, const struct htable_node *after);

#endif
