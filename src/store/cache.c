/* SPDX-License-Identifier: MIT */
/* Node cache: clean copies of tree nodes, least recently used first out.
 *
 * Nodes are immutable, so there is nothing to write back and nothing to invalidate: an entry is
 * named by (block, crc), and a node that was freed and overwritten by another has another crc.
 *
 * C1  A pinned or loading node is never evicted; a pin ends in the same call that took it, or with
 *     the iterator that holds it, so pins are few.
 * C2  count <= count_max, except by pinned nodes.
 * C3  A merge reads every node that it replaces. These are the first to go, or each merge would
 *     flush from the cache what readers use.
 *
 * Every node (and the segment table) is stored twice. copies_read takes the first good copy, and
 * writes it over the bad one: a bit that flips is repaired when it is next read.
 */
#include "store/store_internal.h"

#include "base/crc32c.h"
#include "base/log.h"
#include "base/hash.h"
#include "base/plant.h"

enum { SLAB_NODES = 16 };

void cache_init(struct store *store, uint64_t bytes)
{
    struct cache *cache = &store->cache;
    htable_init(&cache->table);
    list_init(&cache->lru);
    cache->count = 0;
    cache->count_max = MAX(bytes / DISK_TREE_NODE_BYTES, 32ull);
    list_init(&cache->spare);
    cache->slabs = NULL;
}

/* Nodes are made a few at once and kept until the end: a miss costs no malloc, and their memory is
 * what the budget says. */
struct cache_slab {
    struct cache_slab *next;
    uint8_t *bytes;
    struct cache_node nodes[SLAB_NODES];
};

static struct cache_node *node_take(struct cache *cache)
{
    if (list_empty(&cache->spare)) {
        struct cache_slab *slab = mem_zalloc(sizeof *slab);
        slab->bytes = mem_alloc_aligned(SLAB_NODES * DISK_TREE_NODE_BYTES, STORE_BLOCK_BYTES);
        slab->next = cache->slabs;
        cache->slabs = slab;
        for (uint32_t i = 0; i < SLAB_NODES; i++) {
            slab->nodes[i].bytes = slab->bytes + i * DISK_TREE_NODE_BYTES;
            list_init(&slab->nodes[i].lru);
            list_push_back(&cache->spare, &slab->nodes[i].lru);
        }
    }
    return list_entry(list_pop_front(&cache->spare), struct cache_node, lru);
}

static uint64_t hash_of(const struct disk_pointer *pointer)
{
    return hash_u64(pointer->block[0] ^ (uint64_t)pointer->crc << 32);
}

static struct cache_node *find(struct cache *cache, const struct disk_pointer *pointer)
{
    for (struct htable_node *link = htable_first(&cache->table, hash_of(pointer)); link;
         link = htable_next(link)) {
        struct cache_node *node = container_of(link, struct cache_node, hash);
        if (node->pointer.block[0] == pointer->block[0] && node->pointer.crc == pointer->crc)
            return node;
    }
    return NULL;
}

static void drop(struct cache *cache, struct cache_node *node)
{
    assert(node->pins == 0 && !node->loading);
    htable_remove(&cache->table, &node->hash);
    list_remove(&node->lru);
    list_push_front(&cache->spare, &node->lru);
    cache->count--;
}

static void evict(struct cache *cache)
{
    struct cache_node *node, *after;
    list_for_each_safe (node, after, &cache->lru, lru) {
        if (cache->count < cache->count_max)
            return;
        if (node->pins == 0 && !node->loading)
            drop(cache, node);
    }
}

static struct cache_node *add(struct cache *cache, const struct disk_pointer *pointer)
{
    evict(cache);
    struct cache_node *node = node_take(cache);
    *node = (struct cache_node){.pointer = *pointer, .bytes = node->bytes};
    list_init(&node->lru);
    waitq_init(&node->loaded);
    htable_insert(&cache->table, &node->hash, hash_of(pointer));
    list_push_back(&cache->lru, &node->lru);
    cache->count++;
    return node;
}

void cache_fini(struct store *store)
{
    struct cache *cache = &store->cache;
    struct cache_node *node, *after;
    list_for_each_safe (node, after, &cache->lru, lru)
        drop(cache, node);
    assert(cache->count == 0);
    while (cache->slabs) {
        struct cache_slab *slab = cache->slabs;
        cache->slabs = slab->next;
        mem_free(slab->bytes);
        mem_free(slab);
    }
    htable_fini(&cache->table);
}

/* 0, -EIO, -ERR_CORRUPT_DISK. */
static int copy_read(struct store *store, const struct disk_pointer *pointer, uint32_t copy,
                     void *bytes)
{
    int result =
        disk_read(store->disk, pointer->block[copy] * STORE_BLOCK_BYTES, bytes, pointer->bytes);
    if (result == 0 && crc32c(0, bytes, pointer->bytes) != pointer->crc &&
        !PLANT(STORE_NODE_UNCHECKED))
        result = -ERR_CORRUPT_DISK;
    return result;
}

/* Write a bad copy anew: bytes are those of the good one. */
static void copy_repair(struct store *store, const struct disk_pointer *pointer, uint32_t bad,
                        const void *bytes)
{
    unsigned long long at = pointer->block[bad], good = pointer->block[1 - bad];
    if (store->fenced || store->options.read_only)
        return;
    if (disk_info(store->disk)->zone_bytes > 0) { /* ZN2 */
        log_warn("store-node-copy-bad", "block=%llu good=%llu", at, good);
        return;
    }
    store->health.node_repairs++;
    log_warn("store-node-repaired", "block=%llu good=%llu", at, good);
    /* Best effort: the other copy is good, and the next reader will try again. */
    (void)!disk_write(store->disk, at * STORE_BLOCK_BYTES, bytes, pointer->bytes);
}

int copies_read(struct store *store, const struct disk_pointer *pointer, void *bytes)
{
    if (copy_read(store, pointer, 0, bytes) == 0)
        return 0;
    int result = copy_read(store, pointer, 1, bytes);
    if (result == 0) {
        copy_repair(store, pointer, 0, bytes);
        return 0;
    }
    store->health.node_losses++;
    if ((store->health.node_losses & (store->health.node_losses - 1)) != 0)
        return -ERR_CORRUPT_DISK; /* said often enough: at 1, 2, 4, 8, ... */
    log_error("store-node-lost", "block=%llu other=%llu error=%s",
              (unsigned long long)pointer->block[0], (unsigned long long)pointer->block[1],
              error_name(result));
    return -ERR_CORRUPT_DISK;
}

int copies_verify(struct store *store, const struct disk_pointer *pointer, void *bytes)
{
    bool second = copy_read(store, pointer, 1, bytes) == 0;
    int result = copies_read(store, pointer, bytes); /* which repairs the first */
    if (result == 0 && !second)
        copy_repair(store, pointer, 1, bytes);
    return result;
}

static int load(struct store *store, struct cache_node *node, uint32_t level)
{
    int result = copies_read(store, &node->pointer, node->bytes);
    if (result == 0)
        result = disk_tree_node_check(node->bytes, store->store_id, level);
    return result;
}

int cache_get(struct store *store, const struct disk_pointer *pointer, uint32_t level,
              struct cache_node **ret_node)
{
    struct cache *cache = &store->cache;
    if (pointer->bytes != DISK_TREE_NODE_BYTES || pointer->block[0] == 0)
        return -ERR_CORRUPT_DISK;
    struct cache_node *node = find(cache, pointer);
    if (!node) {
        node = add(cache, pointer);
        node->loading = true;
        node->pins = 1;
        node->result = load(store, node, level);
        node->loading = false;
        waitq_wake_all(&node->loaded);
    } else {
        node->pins++;
        list_remove(&node->lru);
        list_push_back(&cache->lru, &node->lru);
        while (node->loading)
            (void)!waitq_wait(&node->loaded, 0);
    }
    int result = node->result;
    if (result == 0 && node_level(node->bytes) != level)
        result = -ERR_CORRUPT_DISK;
    if (result < 0) {
        cache_put(store, node);
        return result;
    }
    *ret_node = node;
    return 0;
}

void cache_put(struct store *store, struct cache_node *node)
{
    assert(node->pins > 0);
    node->pins--;
    if (node->pins == 0 && node->result < 0)
        drop(&store->cache, node); /* a later reader tries the device again */
}

void cache_retire(struct store *store, struct cache_node *node)
{
    struct cache *cache = &store->cache;
    list_remove(&node->lru);
    list_push_front(&cache->lru, &node->lru);
    cache_put(store, node);
}

bool cache_has(struct store *store, const struct disk_pointer *pointer)
{
    return find(&store->cache, pointer) != NULL;
}

void cache_insert(struct store *store, const struct disk_pointer *pointer, const void *bytes)
{
    if (find(&store->cache, pointer))
        return;
    struct cache_node *node = add(&store->cache, pointer);
    memcpy(node->bytes, bytes, DISK_TREE_NODE_BYTES);
}
