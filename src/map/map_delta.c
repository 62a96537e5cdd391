/* SPDX-License-Identifier: MIT */
#include "map/map_delta.h"

#include "base/errors.h"
#include "base/mem.h"

/* Changes of the map, sent instead of maps.
 *
 * Problem. Every node follows the map. With 1000 nodes and thousands of groups a map has a MiB;
 * the loss of one node changes it fifty times: whole maps would be 50 GiB out of the leader.
 *
 * A delta from version a to b is the header of b, and all nodes and groups that any version in
 * (a, b] touched, as they are in b. The header carries the checksum of all of b: who puts b
 * together and finds another checksum asks for the whole map. What is not in it was validated
 * with the map before, so only its rows are looked at. So a delta can be wasted, but not
 * be wrong.
 *
 *     struct map_header | u32 nodes, u32 groups | struct map_node[nodes] | struct map_group[groups]
 *
 * Maps of another size, or with other slots, are sent whole: nodes are added rarely, and the first
 * map is the only one that sets slots. */

struct counts {
    uint32_t nodes;
    uint32_t groups;
};

static void forget(struct map_history *history)
{
    for (uint32_t i = 0; i < history->count; i++)
        mem_free(history->changes[(history->first + i) % MAP_HISTORY_MAX].indexes);
    history->count = 0;
    history->first = 0;
    buf_put(history->delta);
    history->delta = NULL;
    history->delta_to = 0;
}

static bool same_shape(const struct map_view *a, const struct map_view *b)
{
    return a->header->node_count == b->header->node_count &&
           a->header->group_count == b->header->group_count &&
           memcmp(a->meta_slots, b->meta_slots, MAP_META_SLOTS * sizeof a->meta_slots[0]) == 0;
}

void map_history_note(struct map_history *history, const struct map_view *before,
                      const struct map_view *view)
{
    if (!before || before->header->version + 1 != view->header->version ||
        !same_shape(before, view)) {
        forget(history);
        return;
    }
    uint32_t nodes = view->header->node_count;
    uint32_t groups = view->header->group_count;
    uint32_t *found = mem_alloc((nodes + groups + 1) * sizeof *found);
    struct map_change change = {.version = view->header->version};
    uint32_t count = 0;
    for (uint32_t i = 0; i < nodes; i++) {
        if (memcmp(&before->nodes[i], &view->nodes[i], sizeof view->nodes[0]) != 0)
            found[count++] = i;
    }
    change.node_count = count;
    for (uint32_t i = 0; i < groups; i++) {
        if (memcmp(&before->groups[i], &view->groups[i], sizeof view->groups[0]) != 0)
            found[count++] = i;
    }
    change.group_count = count - change.node_count;
    change.indexes = mem_alloc((count + 1) * sizeof *found);
    memcpy(change.indexes, found, count * sizeof *found);
    mem_free(found);
    if (history->count == MAP_HISTORY_MAX) {
        mem_free(history->changes[history->first].indexes);
        history->first = (history->first + 1) % MAP_HISTORY_MAX;
        history->count--;
    }
    history->changes[(history->first + history->count) % MAP_HISTORY_MAX] = change;
    history->count++;
}

/* Mark what any version after from has touched. */
static struct counts mark(const struct map_history *history, uint64_t from, bool *nodes,
                          bool *groups)
{
    struct counts counts = {0};
    for (uint32_t i = 0; i < history->count; i++) {
        const struct map_change *change = &history->changes[(history->first + i) % MAP_HISTORY_MAX];
        if (change->version <= from)
            continue;
        for (uint32_t j = 0; j < change->node_count + change->group_count; j++) {
            bool *at =
                j < change->node_count ? &nodes[change->indexes[j]] : &groups[change->indexes[j]];
            if (*at)
                continue;
            *at = true;
            if (j < change->node_count)
                counts.nodes++;
            else
                counts.groups++;
        }
    }
    return counts;
}

static uint32_t delta_bytes(struct counts counts)
{
    return (uint32_t)(sizeof(struct map_header) + sizeof counts +
                      counts.nodes * sizeof(struct map_node) +
                      counts.groups * sizeof(struct map_group));
}

static struct buf *encode(const struct map_history *history, const struct map_view *view,
                          uint64_t from, uint32_t *ret_bytes)
{
    uint32_t node_count = view->header->node_count;
    uint32_t group_count = view->header->group_count;
    bool *marked = mem_zalloc(node_count + group_count);
    struct counts counts = mark(history, from, marked, marked + node_count);
    uint32_t bytes = delta_bytes(counts);
    struct buf *buf = bytes < view->bytes ? buf_new(bytes) : NULL;
    if (buf) {
        struct writer writer;
        writer_init(&writer, buf->data, bytes);
        writer_put(&writer, view->header, sizeof *view->header);
        writer_put(&writer, &counts, sizeof counts);
        for (uint32_t i = 0; i < node_count; i++) {
            if (marked[i])
                writer_put(&writer, &view->nodes[i], sizeof view->nodes[0]);
        }
        for (uint32_t i = 0; i < group_count; i++) {
            if (marked[node_count + i])
                writer_put(&writer, &view->groups[i], sizeof view->groups[0]);
        }
        assert(writer_ok(&writer) && writer_bytes(&writer) == bytes);
        *ret_bytes = bytes;
    }
    mem_free(marked);
    return buf;
}

struct buf *map_history_delta(struct map_history *history, const struct map_view *view,
                              uint64_t from, uint32_t *ret_bytes)
{
    uint64_t version = view->header->version;
    if (history->count == 0 || history->changes[history->first].version > from + 1 ||
        from >= version)
        return NULL;
    if (history->delta_from != from || history->delta_to != version) {
        buf_put(history->delta);
        history->delta = encode(history, view, from, &history->delta_bytes);
        history->delta_from = from;
        history->delta_to = version;
    }
    *ret_bytes = history->delta_bytes;
    return history->delta ? buf_get(history->delta) : NULL;
}

static int put_rows(struct map_draft *draft, struct reader *reader, struct counts counts)
{
    for (uint32_t i = 0; i < counts.nodes; i++) {
        struct map_node row;
        reader_copy(reader, &row, sizeof row);
        struct map_node *node = map_draft_node(draft, row.id);
        if (!node || !map_node_valid(&row))
            return -ERR_CORRUPT_WIRE;
        *node = row;
    }
    for (uint32_t i = 0; i < counts.groups; i++) {
        struct map_group row;
        reader_copy(reader, &row, sizeof row);
        struct map_group *group = map_draft_group(draft, row.id);
        if (!group || group->kind != row.kind || !map_group_valid(draft->view, &row))
            return -ERR_CORRUPT_WIRE;
        *group = row;
    }
    return 0;
}

int map_delta_apply(const struct map_view *view, const void *bytes, uint32_t count,
                    struct map_view **ret_view)
{
    struct reader reader;
    struct map_header header;
    struct counts counts;
    reader_init(&reader, bytes, count);
    reader_copy(&reader, &header, sizeof header);
    reader_copy(&reader, &counts, sizeof counts);
    if (!reader_ok(&reader) || header.magic != MAP_MAGIC ||
        header.node_count != view->header->node_count ||
        header.group_count != view->header->group_count ||
        header.meta_groups != view->header->meta_groups ||
        header.version <= view->header->version || counts.nodes > header.node_count ||
        counts.groups > header.group_count || delta_bytes(counts) != count)
        return -ERR_CORRUPT_WIRE;
    struct map_draft draft;
    map_draft_copy(&draft, view);
    int result = put_rows(&draft, &reader, counts);
    *draft.header = header;
    if (result == 0 && (!map_header_valid(&header) || !map_draft_sound(&draft)))
        result = -ERR_CORRUPT_WIRE;
    if (result < 0)
        map_draft_drop(&draft);
    else
        *ret_view = draft.view;
    return result;
}
