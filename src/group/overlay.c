/* SPDX-License-Identifier: MIT */
/* The overlay: what prepared records will make of the table.
 *
 * The primary executes the next request against applied + prepared state, so every key that a
 * prepared batch touches is found here, newest version only; when a record has been applied the
 * table holds what it said, and what it still was the newest of goes.
 *
 * O1. A node's key and value lie in its record, which the node references.
 * O2. For each key the node's seq is that of the newest prepared record that touches it. */
#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "group/group_internal.h"

void overlay_init(struct overlay *overlay)
{
    *overlay = (struct overlay){.random = 1};
}

static struct overlay_node *descend(const struct overlay *overlay, struct slice key,
                                    struct overlay_node **before)
{
    const struct overlay_node *node = &overlay->head;
    for (int level = GROUP_OVERLAY_LEVELS - 1; level >= 0; level--) {
        while (node->next[level] && slice_compare(node->next[level]->key, key) < 0)
            node = node->next[level];
        if (before)
            before[level] = (struct overlay_node *)(uintptr_t)node;
    }
    return node->next[0];
}

struct overlay_node *overlay_seek(const struct overlay *overlay, struct slice from)
{
    return overlay->count ? descend(overlay, from, NULL) : NULL;
}

struct overlay_node *overlay_find(const struct overlay *overlay, struct slice key)
{
    struct overlay_node *node = overlay_seek(overlay, key);
    return node && slice_equal(node->key, key) ? node : NULL;
}

static uint32_t levels_draw(struct overlay *overlay)
{
    uint64_t bits = hash_u64(overlay->random++);
    uint32_t levels = 1;
    while (levels < GROUP_OVERLAY_LEVELS && (bits & 3) == 0) {
        levels++;
        bits >>= 2;
    }
    return levels;
}

static void set(struct overlay *overlay, struct slice key, struct slice value,
                struct group_record *record)
{
    struct overlay_node *before[GROUP_OVERLAY_LEVELS];
    struct overlay_node *node = descend(overlay, key, before);
    record->refs++;
    if (node && slice_equal(node->key, key)) {
        struct group_record *old = node->record;
        assert(old->seq <= record->seq); /* O2 */
        node->key = key;
        node->value = value;
        node->seq = record->seq;
        node->record = record;
        record_put(old);
        return;
    }
    node = mem_alloc(sizeof *node);
    *node = (struct overlay_node){key, value, record->seq, record, levels_draw(overlay), {0}};
    for (uint32_t level = 0; level < node->levels; level++) {
        node->next[level] = before[level]->next[level];
        before[level]->next[level] = node;
    }
    overlay->count++;
}

void overlay_add(struct overlay *overlay, struct group_record *record)
{
    struct slice key, value;
    uint32_t cursor = 0;
    int result;
    while ((result = store_batch_next(record_payload(record), &cursor, &key, &value)) == 1)
        set(overlay, key, value, record);
    assert(result == 0); /* our own batch, or checked at the door */
}

static void unlink_node(struct overlay *overlay, struct overlay_node *node)
{
    struct overlay_node *before[GROUP_OVERLAY_LEVELS];
    struct overlay_node *found = descend(overlay, node->key, before);
    assert(found == node);
    for (uint32_t level = 0; level < node->levels; level++) {
        assert(before[level]->next[level] == node);
        before[level]->next[level] = node->next[level];
    }
    overlay->count--;
    record_put(node->record);
    mem_free(node);
}

void overlay_drop(struct overlay *overlay, const struct group_record *record)
{
    struct slice key, value;
    uint32_t cursor = 0;
    if (overlay->count == 0)
        return;
    while (store_batch_next(record_payload(record), &cursor, &key, &value) == 1) {
        struct overlay_node *node = overlay_find(overlay, key);
        if (node && node->seq == record->seq)
            unlink_node(overlay, node);
    }
}

void overlay_clear(struct overlay *overlay)
{
    struct overlay_node *node = overlay->head.next[0];
    while (node) {
        struct overlay_node *next = node->next[0];
        record_put(node->record);
        mem_free(node);
        node = next;
    }
    overlay_init(overlay);
}
