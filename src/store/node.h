/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_NODE_H
#define CFS_STORE_NODE_H

/* Tree nodes: reading one in place, and building new ones from a sorted stream of entries. */

#include "base/bytes.h"
#include "format/disk_store.h"

enum { NODE_KEY_MAX = 320 };

static inline uint32_t node_count(const void *node)
{
    return ((const struct disk_tree_header *)node)->count;
}
static inline uint32_t node_level(const void *node)
{
    return ((const struct disk_tree_header *)node)->level;
}
struct slice node_prefix(const void *node);
struct slice node_suffix(const void *node, uint32_t index);
struct slice node_value(const void *node, uint32_t index);
/* The whole key into key (NODE_KEY_MAX bytes). Returns its length. */
uint32_t node_key(const void *node, uint32_t index, uint8_t *key);
/* First index whose key is >= key (count: none). */
uint32_t node_lower_bound(const void *node, struct slice key, bool *ret_equal);
/* The child that covers key. level > 0. */
uint32_t node_child(const void *node, struct slice key);
void node_pointer(const void *node, uint32_t index, struct disk_pointer *ret_pointer);
/* Keys strictly ascending? */
bool node_sorted(const void *node);

/* Gathers sorted entries and cuts them into nodes. Holds up to about two nodes so that the last
 * two can share evenly: nobody ever writes a full node followed by a tiny one. */
struct node_entry {
    uint32_t at; /* in bytes: key, then value */
    uint16_t key_bytes;
    uint16_t value_bytes;
};
struct node_builder {
    uint8_t *bytes;
    uint32_t used;
    uint32_t room;
    struct node_entry *entries;
    uint32_t count;
    uint32_t entries_room;
};
void node_builder_init(struct node_builder *builder);
void node_builder_fini(struct node_builder *builder);
/* key must be greater than the one before. */
void node_builder_add(struct node_builder *builder, struct slice key, struct slice value);
/* Bytes a node of entries [0, count) would take. */
uint32_t node_builder_size(const struct node_builder *builder, uint32_t count);
/* More than a node can hold, with something to spare for the next: time to take one. */
bool node_builder_ripe(const struct node_builder *builder);
/* How many entries the next node should get. final: all that is gathered is to be written out
 * now, so share evenly. */
uint32_t node_builder_cut(const struct node_builder *builder, bool final);
/* Write entries [0, count) as a node and forget them. */
void node_builder_take(struct node_builder *builder, uint32_t count, uint32_t level,
                       uint64_t store_id, uint64_t sequence, void *ret_node);
struct slice node_builder_key(const struct node_builder *builder, uint32_t index);

#endif
