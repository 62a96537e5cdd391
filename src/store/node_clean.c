/* SPDX-License-Identifier: MIT */
/* Node cleaning: half-dead node segments are emptied by the next checkpoint.
 *
 * Copy-on-write leaves node segments partly dead. Nobody has to move live nodes: if the merge
 * opens them, it writes them anew. So before a merge, a few closed segments with little alive are
 * chosen, their nodes are read to learn which keys lead to them, and those keys are *forced*:
 * paths to them are rewritten as if something had changed there.
 *
 * NC1  A key is forced only if the newest tree really has that node there, so dead nodes cost
 *      nothing.
 * NC2  The work per checkpoint is bounded: at most VICTIMS_MAX segments, and together no more live
 *      nodes than fit in one.
 */
#include <stdlib.h>

#include "store/store_internal.h"

enum { VICTIMS_MAX = 8, CHUNK_NODES = 8 };

static uint32_t used(const struct segment *segment)
{
    return segment->live - segment->garbage;
}

/* Closed node segments hold twice what they need, or space is short and they hold too much. */
static bool wasteful(const struct store *store)
{
    uint64_t held = (uint64_t)store->segments_by_state[SEGMENT_NODE] * store->segment_blocks;
    uint64_t slack = 2ull * store->segment_blocks;
    if (held <= store->live_nodes + slack)
        return false;
    bool short_of_space = store->segments_free < segment_floor(store, URGENCY_CLEANING);
    return held > 2 * store->live_nodes + slack ||
           (short_of_space && held > store->live_nodes * 5 / 4 + slack);
}

static uint32_t choose(const struct store *store, const bool *chosen)
{
    uint32_t best = SEGMENT_NONE, least = store->segment_blocks * 2 / 3;
    for (uint32_t i = 1; i < store->segment_count; i++) {
        const struct segment *segment = &store->segments[i];
        if (segment->state != SEGMENT_NODE || segment->open || chosen[i] || used(segment) == 0 ||
            used(segment) >= least)
            continue;
        best = i;
        least = used(segment);
    }
    return best;
}

bool node_clean_wanted(const struct store *store)
{
    if (!wasteful(store))
        return false;
    for (uint32_t i = 1; i < store->segment_count; i++) {
        const struct segment *segment = &store->segments[i];
        if (segment->state == SEGMENT_NODE && !segment->open && used(segment) > 0 &&
            used(segment) < store->segment_blocks * 2 / 3)
            return true;
    }
    return false;
}

static void force(struct forced *forced, struct slice key)
{
    if (forced->count == forced->room) {
        forced->room = MAX(2 * forced->room, 64u);
        forced->keys = mem_realloc(forced->keys, forced->room * sizeof *forced->keys);
    }
    struct forced_key *place = &forced->keys[forced->count++];
    place->count = (uint16_t)key.bytes;
    memcpy(place->bytes, key.data, key.bytes);
}

static int force_segment(struct store *store, const struct tree *tree, uint32_t index,
                         uint8_t *chunk)
{
    const struct segment *segment = &store->segments[index];
    uint64_t start = segment_block(store, index);
    /* The segment table may lie between nodes and shift them: try every block. */
    for (uint32_t at = 0; at + NODE_BLOCKS <= segment->frontier; at += CHUNK_NODES * NODE_BLOCKS) {
        uint32_t blocks = MIN((CHUNK_NODES + 1) * NODE_BLOCKS - 1u, segment->frontier - at);
        int result = disk_read(store->disk, (start + at) * STORE_BLOCK_BYTES, chunk,
                               (uint64_t)blocks * STORE_BLOCK_BYTES);
        if (result < 0)
            return result;
        for (uint32_t i = 0; i + NODE_BLOCKS <= blocks && i < CHUNK_NODES * NODE_BLOCKS; i++) {
            const uint8_t *node = chunk + i * STORE_BLOCK_BYTES;
            uint8_t key[NODE_KEY_MAX];
            if (disk_tree_node_check(node, store->store_id, node_level(node)) < 0)
                continue;
            struct slice first = slice_of(key, node_key(node, 0, key));
            result = tree_contains(store, tree, first, node_level(node), start + at + i);
            if (result > 0)
                force(&store->checkpoint.forced, first);
        }
    }
    return 0;
}

static int by_key(const void *a, const void *b)
{
    const struct forced_key *left = a, *right = b;
    return slice_compare(slice_of(left->bytes, left->count), slice_of(right->bytes, right->count));
}

void node_clean_prepare(struct store *store, const struct tree *tree)
{
    struct forced *forced = &store->checkpoint.forced;
    forced->count = 0;
    if (!wasteful(store))
        return;
    bool *chosen = mem_zalloc(store->segment_count * sizeof *chosen);
    uint8_t *chunk = mem_alloc_aligned((CHUNK_NODES + 1) * DISK_TREE_NODE_BYTES, STORE_BLOCK_BYTES);
    uint32_t budget = store->segment_blocks, index;
    for (uint32_t i = 0; i < VICTIMS_MAX; i++) {
        index = choose(store, chosen);
        if (index == SEGMENT_NONE || used(&store->segments[index]) > budget)
            break;
        chosen[index] = true;
        budget -= used(&store->segments[index]);
        if (force_segment(store, tree, index, chunk) < 0)
            break; /* the device fails: the merge will say so */
    }
    if (forced->count > 0)
        qsort(forced->keys, forced->count, sizeof *forced->keys, by_key);
    mem_free(chunk);
    mem_free(chosen);
}
