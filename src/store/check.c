/* SPDX-License-Identifier: MIT */
/* Check: walk everything, compare, report.
 *
 * store_check holds one tree version and walks its nodes: each readable, well formed, in order, in
 * the range its parent gives it, inside a node segment. Then it sums the backpointer rows per
 * segment and compares with the live counts. Rows change while it walks, so counts are compared
 * only if no record was appended meanwhile; after a few tries it checks structure alone.
 */
#include "store/store_internal.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"

enum { TRIES = 3, FINDINGS_MAX = 10 };

struct check {
    struct store *store;
    store_finding_fn fn;
    void *context;
    uint32_t *blocks; /* per segment */
    uint32_t findings;
    bool quiet;
};

static void finding(struct check *check, const char *what, const char *format, ...)
    printf_like(3, 4);

static void finding(struct check *check, const char *what, const char *format, ...)
{
    char where[160];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(where, sizeof where, format, arguments);
    va_end(arguments);
    check->findings++;
    check->fn(check->context, what, where);
}

static void check_range(struct check *check, const void *node, struct slice low, struct slice high)
{
    uint8_t key[NODE_KEY_MAX];
    uint32_t count = node_count(node);
    struct slice first = slice_of(key, node_key(node, 0, key));
    if (!node_sorted(node))
        finding(check, "keys out of order", "tree node of level %u", node_level(node));
    if (slice_compare(first, low) < 0 && low.bytes > 0 && node_level(node) == 0)
        finding(check, "key below its range", "tree node of level %u", node_level(node));
    struct slice last = slice_of(key, node_key(node, count - 1, key));
    if (high.bytes > 0 && slice_compare(last, high) >= 0)
        finding(check, "key above its range", "tree node of level %u", node_level(node));
}

/* Recursion: as deep as the tree (DISK_TREE_LEVEL_MAX). */
static void check_node(struct check *check, const struct disk_pointer *pointer, uint32_t level,
                       struct slice low, struct slice high)
{
    struct store *store = check->store;
    struct cache_node *node;
    if (pointer->block[0] == 0)
        return;
    int result = cache_get(store, pointer, level, &node);
    if (result < 0) {
        finding(check, "unreadable tree node", "block %llu and its copy %llu, level %u",
                (unsigned long long)pointer->block[0], (unsigned long long)pointer->block[1],
                level);
        return;
    }
    uint32_t index = segment_of(store, pointer->block[0]);
    if (store->segments[index].state != SEGMENT_NODE)
        finding(check, "tree node in a foreign segment", "block %llu, segment %u",
                (unsigned long long)pointer->block[0], index);
    check->blocks[index] += 2 * NODE_BLOCKS;
    check_range(check, node->bytes, low, high);
    uint8_t from[NODE_KEY_MAX], to[NODE_KEY_MAX];
    for (uint32_t i = 0; level > 0 && i < node_count(node->bytes); i++) {
        struct disk_pointer child;
        node_pointer(node->bytes, i, &child);
        struct slice child_low = low, child_high = high;
        if (i > 0)
            child_low = slice_of(from, node_key(node->bytes, i, from));
        if (i + 1 < node_count(node->bytes))
            child_high = slice_of(to, node_key(node->bytes, i + 1, to));
        check_node(check, &child, level - 1, child_low, child_high);
    }
    cache_put(store, node);
}

static int check_backpointers(struct check *check)
{
    struct store *store = check->store;
    uint8_t from[BACKPOINTER_KEY_BYTES];
    backpointer_key(from, 0);
    static const uint8_t end[5] = {0, 0, 0, 0, BACKPOINTER_TABLE + 1};
    struct store_iter *iter = store_iter_new(store);
    store_iter_seek(iter, slice_of(from, sizeof from));
    struct slice key, value;
    uint64_t after = 0;
    int result;
    while ((result = store_iter_next(iter, slice_of(end, sizeof end), &key, &value)) > 0) {
        struct store_extent extent;
        struct slice owner;
        uint64_t segments = store->segment_count;
        if (!backpointer_parse(key, value, &extent, &owner) ||
            extent.block / store->segment_blocks >= segments ||
            extent.block < store->segment_blocks ||
            (extent.block + extent.blocks - 1) / store->segment_blocks !=
                extent.block / store->segment_blocks) {
            finding(check, "bad backpointer row", "block %llu, %u blocks",
                    (unsigned long long)extent.block, extent.blocks);
            continue;
        }
        if (extent.block < after)
            finding(check, "extents overlap", "block %llu; the one before ends at %llu",
                    (unsigned long long)extent.block, (unsigned long long)after);
        after = extent.block + extent.blocks;
        uint32_t index = segment_of(store, extent.block);
        if (store->segments[index].state != SEGMENT_DATA)
            finding(check, "extent in a foreign segment", "block %llu, segment %u",
                    (unsigned long long)extent.block, index);
        check->blocks[index] += extent.blocks;
    }
    store_iter_free(iter);
    return result;
}

static void check_counts(struct check *check)
{
    struct store *store = check->store;
    for (uint32_t i = 1; i < store->segment_count; i++) {
        const struct segment *segment = &store->segments[i];
        uint32_t expected = segment->live;
        if (segment->state == SEGMENT_NODE)
            expected -= segment->garbage;
        const struct disk_pointer *table = &store->super.segments;
        if (table->block[0] && segment_of(store, table->block[0]) == i)
            expected -= 2 * table->bytes / STORE_BLOCK_BYTES;
        if (check->blocks[i] != expected)
            finding(check, "live count differs", "segment %u: %u blocks counted, %u in rows", i,
                    expected, check->blocks[i]);
    }
}

int store_check_report(struct store *store, store_finding_fn fn, void *context)
{
    struct check check = {.store = store, .fn = fn, .context = context};
    check.blocks = mem_alloc(store->segment_count * sizeof *check.blocks);
    int result = 0;
    for (uint32_t i = 0; i < TRIES && !check.quiet && result >= 0; i++) {
        while (store->checkpoint.running && !store->fenced && !store->checkpoint.failing)
            (void)!waitq_wait(&store->checkpoint.done, 0);
        memset(check.blocks, 0, store->segment_count * sizeof *check.blocks);
        check.findings = 0;
        uint64_t lsn = store->journal.next_lsn;
        uint64_t version = store->version;
        struct tree *tree = tree_hold(store);
        check_node(&check, &tree->root, tree->root_level, slice_of("", 0), slice_of("", 0));
        result = check_backpointers(&check);
        check.quiet = lsn == store->journal.next_lsn && version == store->version &&
                      !store->checkpoint.running;
        if (check.quiet)
            check_counts(&check);
        tree_release(store, tree);
    }
    mem_free(check.blocks);
    if (result == -EIO || check.findings > 0)
        return -ERR_CORRUPT_DISK;
    return result < 0 ? result : 0;
}

static void finding_to_log(void *context, const char *what, const char *where)
{
    uint32_t *told = context;
    if ((*told)++ < FINDINGS_MAX)
        log_error("store-check", "what=\"%s\" where=\"%s\"", what, where);
}

int store_check(struct store *store)
{
    uint32_t told = 0;
    return store_check_report(store, finding_to_log, &told);
}
