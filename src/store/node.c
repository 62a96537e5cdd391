/* SPDX-License-Identifier: MIT */
/* Node layout (format/disk_store.h) and the builder that fills nodes.
 *
 * All keys of a node share a prefix, kept once: directory entries of one directory and extents of
 * one object differ only in their last bytes. Inside, entries lie in order behind an offset table,
 * so that a search is a binary search over suffixes. Nodes are never changed once written.
 *
 * N1  Suffixes ascend strictly, hence keys do.
 * N2  A node taken from the builder never exceeds DISK_TREE_NODE_BYTES and has at least one entry;
 *     STORE_KEY_MAX and STORE_VALUE_MAX guarantee that at least four fit.
 * N3  If entries are left over after a cut that was not final, they fill at least half a node.
 */
#include "store/node.h"

#include "base/mem.h"

static const struct disk_tree_header *header_of(const void *node)
{
    return node;
}

static uint32_t offsets_at(const struct disk_tree_header *header)
{
    return (uint32_t)round_up(sizeof *header + header->prefix_bytes, 2);
}

static const uint8_t *entry_at(const void *node, uint32_t index, uint16_t lengths[2])
{
    const struct disk_tree_header *header = node;
    assert(index < header->count);
    uint16_t at;
    memcpy(&at, (const uint8_t *)node + offsets_at(header) + 2 * index, sizeof at);
    const uint8_t *entry = (const uint8_t *)node + at;
    memcpy(lengths, entry, 4);
    return entry + 4;
}

struct slice node_prefix(const void *node)
{
    return slice_of((const uint8_t *)node + sizeof(struct disk_tree_header),
                    header_of(node)->prefix_bytes);
}

struct slice node_suffix(const void *node, uint32_t index)
{
    uint16_t lengths[2];
    const uint8_t *entry = entry_at(node, index, lengths);
    return slice_of(entry, lengths[0]);
}

struct slice node_value(const void *node, uint32_t index)
{
    uint16_t lengths[2];
    const uint8_t *entry = entry_at(node, index, lengths);
    return slice_of(entry + lengths[0], lengths[1]);
}

uint32_t node_key(const void *node, uint32_t index, uint8_t *key)
{
    struct slice prefix = node_prefix(node);
    struct slice suffix = node_suffix(node, index);
    uint32_t bytes = prefix.bytes + suffix.bytes;
    /* Validated only for being inside the node: an overlong key is cut, and then fails to match. */
    if (bytes > NODE_KEY_MAX)
        suffix.bytes = prefix.bytes < NODE_KEY_MAX ? NODE_KEY_MAX - prefix.bytes : 0;
    prefix.bytes = MIN(prefix.bytes, (uint32_t)NODE_KEY_MAX);
    memcpy(key, prefix.data, prefix.bytes);
    memcpy(key + prefix.bytes, suffix.data, suffix.bytes);
    return prefix.bytes + suffix.bytes;
}

uint32_t node_lower_bound(const void *node, struct slice key, bool *ret_equal)
{
    struct slice prefix = node_prefix(node);
    *ret_equal = false;
    uint32_t common = MIN(prefix.bytes, key.bytes);
    int order = common ? memcmp(key.data, prefix.data, common) : 0;
    if (order < 0 || (order == 0 && key.bytes < prefix.bytes))
        return 0;
    if (order > 0)
        return node_count(node);
    struct slice wanted =
        slice_of((const uint8_t *)key.data + prefix.bytes, key.bytes - prefix.bytes);
    uint32_t low = 0, high = node_count(node);
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        order = slice_compare(node_suffix(node, middle), wanted);
        if (order == 0) {
            *ret_equal = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t node_child(const void *node, struct slice key)
{
    assert(node_level(node) > 0);
    bool equal;
    uint32_t index = node_lower_bound(node, key, &equal);
    return equal || index == 0 ? index : index - 1;
}

void node_pointer(const void *node, uint32_t index, struct disk_pointer *ret_pointer)
{
    struct slice value = node_value(node, index);
    assert(node_level(node) > 0 && value.bytes == sizeof *ret_pointer);
    memcpy(ret_pointer, value.data, sizeof *ret_pointer);
}

bool node_sorted(const void *node)
{
    for (uint32_t i = 1; i < node_count(node); i++)
        if (slice_compare(node_suffix(node, i - 1), node_suffix(node, i)) >= 0)
            return false;
    return true;
}

void node_builder_init(struct node_builder *builder)
{
    *builder = (struct node_builder){0};
}

void node_builder_fini(struct node_builder *builder)
{
    mem_free(builder->bytes);
    mem_free(builder->entries);
    *builder = (struct node_builder){0};
}

struct slice node_builder_key(const struct node_builder *builder, uint32_t index)
{
    assert(index < builder->count);
    const struct node_entry *entry = &builder->entries[index];
    return slice_of(builder->bytes + entry->at, entry->key_bytes);
}

void node_builder_add(struct node_builder *builder, struct slice key, struct slice value)
{
    assert(key.bytes <= NODE_KEY_MAX && value.bytes < DISK_TREE_NODE_BYTES / 4);
    assert(builder->count == 0 ||
           slice_compare(node_builder_key(builder, builder->count - 1), key) < 0);
    uint32_t bytes = key.bytes + value.bytes;
    if (builder->room - builder->used < bytes) {
        builder->room = MAX(2 * builder->room, 2u * DISK_TREE_NODE_BYTES);
        builder->bytes = mem_realloc(builder->bytes, builder->room);
    }
    if (builder->count == builder->entries_room) {
        builder->entries_room = MAX(2 * builder->entries_room, 512u);
        builder->entries =
            mem_realloc(builder->entries, builder->entries_room * sizeof *builder->entries);
    }
    builder->entries[builder->count++] =
        (struct node_entry){builder->used, (uint16_t)key.bytes, (uint16_t)value.bytes};
    if (key.bytes)
        memcpy(builder->bytes + builder->used, key.data, key.bytes);
    if (value.bytes)
        memcpy(builder->bytes + builder->used + key.bytes, value.data, value.bytes);
    builder->used += bytes;
}

static uint32_t shared_prefix(const struct node_builder *builder, uint32_t count)
{
    struct slice first = node_builder_key(builder, 0);
    struct slice last = node_builder_key(builder, count - 1);
    const uint8_t *a = first.data, *b = last.data;
    uint32_t common = 0;
    while (common < first.bytes && common < last.bytes && a[common] == b[common])
        common++;
    return common;
}

uint32_t node_builder_size(const struct node_builder *builder, uint32_t count)
{
    if (count == 0)
        return 0;
    assert(count <= builder->count);
    uint32_t prefix = shared_prefix(builder, count);
    uint32_t payload = count < builder->count ? builder->entries[count].at : builder->used;
    return (uint32_t)round_up(sizeof(struct disk_tree_header) + prefix, 2) + payload +
           count * (2 + 4) - count * prefix;
}

bool node_builder_ripe(const struct node_builder *builder)
{
    return node_builder_size(builder, builder->count) > DISK_TREE_NODE_BYTES * 7 / 4;
}

/* The most entries that fit in limit bytes: size grows with count, so search. */
static uint32_t fitting(const struct node_builder *builder, uint32_t limit)
{
    uint32_t low = 1, high = builder->count;
    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        if (node_builder_size(builder, middle) <= limit)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

uint32_t node_builder_cut(const struct node_builder *builder, bool final)
{
    assert(builder->count > 0);
    uint32_t size = node_builder_size(builder, builder->count);
    if (size <= DISK_TREE_NODE_BYTES)
        return builder->count;
    if (final && size <= 2u * DISK_TREE_NODE_BYTES - 16384)
        return fitting(builder, size / 2 + 1024);
    return fitting(builder, DISK_TREE_NODE_BYTES);
}

void node_builder_take(struct node_builder *builder, uint32_t count, uint32_t level,
                       uint64_t store_id, uint64_t sequence, void *ret_node)
{
    uint32_t size = node_builder_size(builder, count);
    assert(count > 0 && count <= UINT16_MAX && size <= DISK_TREE_NODE_BYTES);
    uint32_t prefix = shared_prefix(builder, count);
    uint8_t *node = ret_node;
    struct disk_tree_header header = {.magic = DISK_TREE_MAGIC,
                                      .level = (uint16_t)level,
                                      .count = (uint16_t)count,
                                      .prefix_bytes = (uint16_t)prefix,
                                      .used_bytes = size,
                                      .store_id = store_id,
                                      .sequence = sequence};
    memcpy(node, &header, sizeof header);
    memcpy(node + sizeof header, builder->bytes, prefix);
    uint32_t offsets = offsets_at(&header);
    if (offsets > sizeof header + prefix)
        node[sizeof header + prefix] = 0;
    uint32_t at = offsets + 2 * count;
    for (uint32_t i = 0; i < count; i++) {
        const struct node_entry *entry = &builder->entries[i];
        uint16_t place = (uint16_t)at;
        uint16_t lengths[2] = {(uint16_t)(entry->key_bytes - prefix), entry->value_bytes};
        memcpy(node + offsets + 2 * i, &place, sizeof place);
        memcpy(node + at, lengths, sizeof lengths);
        memcpy(node + at + 4, builder->bytes + entry->at + prefix,
               (uint32_t)lengths[0] + lengths[1]);
        at += 4u + lengths[0] + lengths[1];
    }
    assert(at == size);
    memset(node + at, 0, DISK_TREE_NODE_BYTES - at);
    uint32_t consumed = count < builder->count ? builder->entries[count].at : builder->used;
    memmove(builder->bytes, builder->bytes + consumed, builder->used - consumed);
    memmove(builder->entries, builder->entries + count,
            (builder->count - count) * sizeof *builder->entries);
    builder->used -= consumed;
    builder->count -= count;
    for (uint32_t i = 0; i < builder->count; i++)
        builder->entries[i].at -= consumed;
}
