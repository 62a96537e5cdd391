/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_CACHE_H
#define CFS_STORE_CACHE_H

/* Clean tree nodes in memory, and the two copies of them on the device: see cache.c. Included by
 * store_internal.h. */

#include "base/htable.h"
#include "env/env.h"
#include "format/disk_store.h"

struct store;

struct cache_node {
    struct htable_node hash;
    struct list lru;
    struct disk_pointer pointer;
    uint8_t *bytes;
    uint32_t pins;
    bool loading;
    int result; /* of loading */
    struct waitq loaded;
};
struct cache {
    struct htable table;
    struct list lru; /* least recently used first */
    uint64_t count;
    uint64_t count_max;
    struct list spare;        /* nodes without contents */
    struct cache_slab *slabs; /* where nodes come from */
};
void cache_init(struct store *store, uint64_t bytes);
void cache_fini(struct store *store);
/* The node, pinned until cache_put. -ERR_CORRUPT_DISK, -EIO. */
may_yield must_check int cache_get(struct store *store, const struct disk_pointer *pointer,
                                   uint32_t level, struct cache_node **ret_node);
void cache_put(struct store *store, struct cache_node *node);
/* The same, for a node that the next tree does not have any more. */
void cache_retire(struct store *store, struct cache_node *node);
bool cache_has(struct store *store, const struct disk_pointer *pointer);
/* Remember a node just written. */
void cache_insert(struct store *store, const struct disk_pointer *pointer, const void *bytes);
/* Read either copy of anything that a disk_pointer names, repairing a bad one from the other.
 * bytes: pointer->bytes of room, block-aligned. */
may_yield must_check int copies_read(struct store *store, const struct disk_pointer *pointer,
                                     void *bytes);
/* The same, looking at both copies. */
may_yield must_check int copies_verify(struct store *store, const struct disk_pointer *pointer,
                                       void *bytes);

#endif
