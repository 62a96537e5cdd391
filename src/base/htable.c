/* SPDX-License-Identifier: MIT */
#include "base/htable.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

enum { BUCKETS_FIRST = 16 };

void htable_init(struct htable *table)
{
    *table = (struct htable){0};
}

void htable_fini(struct htable *table)
{
    mem_free(table->buckets);
    *table = (struct htable){0};
}

static struct htable_node **bucket_of(const struct htable *table, uint64_t hash)
{
    return &table->buckets[hash_u64(hash) & (table->bucket_count - 1)];
}

static void grow(struct htable *table)
{
    struct htable bigger = {.bucket_count =
                                table->bucket_count ? table->bucket_count * 2 : BUCKETS_FIRST};
    bigger.buckets = mem_zalloc(bigger.bucket_count * sizeof *bigger.buckets);
    for (uint64_t i = 0; i < table->bucket_count; i++) {
        struct htable_node *node = table->buckets[i];
        while (node) {
            struct htable_node *next = node->next;
            struct htable_node **bucket = bucket_of(&bigger, node->hash);
            node->next = *bucket;
            *bucket = node;
            node = next;
        }
    }
    mem_free(table->buckets);
    table->buckets = bigger.buckets;
    table->bucket_count = bigger.bucket_count;
}

void htable_insert(struct htable *table, struct htable_node *node, uint64_t hash)
{
    if (table->count >= table->bucket_count)
        grow(table);
    struct htable_node **bucket = bucket_of(table, hash);
    node->hash = hash;
    node->next = *bucket;
    *bucket = node;
    table->count++;
}

void htable_remove(struct htable *table, struct htable_node *node)
{
    struct htable_node **link = bucket_of(table, node->hash);
    while (*link != node) {
        assert(*link);
        link = &(*link)->next;
    }
    *link = node->next;
    node->next = NULL;
    table->count--;
}

struct htable_node *htable_first(const struct htable *table, uint64_t hash)
{
    if (table->count == 0)
        return NULL;
    struct htable_node *node = *bucket_of(table, hash);
    while (node && node->hash != hash)
        node = node->next;
    return node;
}

struct htable_node *htable_next(const struct htable_node *node)
{
    struct htable_node *next = node->next;
    while (next && next->hash != node->hash)
        next = next->next;
    return next;
}

struct htable_node *htable_walk(const struct htable *table, const struct htable_node *after)
{
    uint64_t i = 0;
    if (after) {
        if (after->next)
            return after->next;
        i = (hash_u64(after->hash) & (table->bucket_count - 1)) + 1;
    }
    for (; i < table->bucket_count; i++) {
        if (table->buckets[i])
            return table->buckets[i];
    }
    return NULL;
}
