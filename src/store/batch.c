/* SPDX-License-Identifier: MIT */
/* Batches: the byte form of a set of changes, and what applying them means.
 *
 * A batch is a run of disk_change structs with keys and values behind them. The same bytes are
 * built by callers, journaled, sent to peers and replayed.
 *
 * Extent accounting is purely syntactic, because a commit must not wait for a read: EXTENT_ADD
 * writes the backpointer row of its first block and adds its blocks to the segment's live count;
 * EXTENT_DEL deletes the backpointer row of its first block and subtracts its blocks. Hence
 *
 * B1  every block's adds minus dels is 0 or 1;
 * B2  to keep part of an extent: del all of it, then add each part that stays, in this order.
 */
#include "store/store_internal.h"

void store_batch_init(struct store_batch *batch)
{
    *batch = (struct store_batch){0};
}

void store_batch_fini(struct store_batch *batch)
{
    mem_free(batch->bytes);
    *batch = (struct store_batch){0};
}

void store_batch_reset(struct store_batch *batch)
{
    batch->used = 0;
    batch->count = 0;
    batch->extent_bytes = 0;
}

static uint8_t *reserve(struct store_batch *batch, uint32_t bytes)
{
    if (batch->room - batch->used < bytes) {
        uint32_t room = MAX(2 * batch->room, 1024u);
        while (room - batch->used < bytes)
            room *= 2;
        batch->bytes = mem_realloc(batch->bytes, room);
        batch->room = room;
    }
    uint8_t *place = batch->bytes + batch->used;
    batch->used += bytes;
    return place;
}

static void append(struct store_batch *batch, enum disk_change_op op, struct slice key,
                   struct slice value)
{
    assert(key.bytes <= STORE_KEY_MAX && value.bytes <= STORE_VALUE_MAX);
    struct disk_change head = {
        .op = (uint8_t)op, .key_bytes = (uint16_t)key.bytes, .value_bytes = value.bytes};
    uint8_t *place = reserve(batch, (uint32_t)sizeof head + key.bytes + value.bytes);
    memcpy(place, &head, sizeof head);
    if (key.bytes)
        memcpy(place + sizeof head, key.data, key.bytes);
    if (value.bytes)
        memcpy(place + sizeof head + key.bytes, value.data, value.bytes);
    batch->count++;
}

void store_batch_put(struct store_batch *batch, struct slice key, struct slice value)
{
    assert(key.bytes >= 5);
    append(batch, DISK_CHANGE_PUT, key, value);
}

void store_batch_del(struct store_batch *batch, struct slice key)
{
    assert(key.bytes >= 5);
    append(batch, DISK_CHANGE_DEL, key, slice_of(NULL, 0));
}

void store_batch_extent_add(struct store_batch *batch, struct store_extent extent,
                            struct slice owner_key)
{
    assert(extent.blocks > 0 && extent.blocks <= STORE_EXTENT_BLOCKS_MAX);
    struct disk_change_extent value = {.block = extent.block, .blocks = extent.blocks};
    append(batch, DISK_CHANGE_EXTENT_ADD, owner_key, slice_of(&value, sizeof value));
    batch->extent_bytes += (int64_t)extent.blocks * STORE_BLOCK_BYTES;
}

void store_batch_extent_del(struct store_batch *batch, struct store_extent extent)
{
    assert(extent.blocks > 0 && extent.blocks <= STORE_EXTENT_BLOCKS_MAX);
    struct disk_change_extent value = {.block = extent.block, .blocks = extent.blocks};
    append(batch, DISK_CHANGE_EXTENT_DEL, slice_of(NULL, 0), slice_of(&value, sizeof value));
    batch->extent_bytes -= (int64_t)extent.blocks * STORE_BLOCK_BYTES;
}

static bool change_valid(const struct disk_change *head)
{
    if (head->key_bytes > STORE_KEY_MAX || head->value_bytes > STORE_VALUE_MAX)
        return false;
    switch (head->op) {
    case DISK_CHANGE_PUT:
        return head->key_bytes >= 5;
    case DISK_CHANGE_DEL:
        return head->key_bytes >= 5 && head->value_bytes == 0;
    case DISK_CHANGE_EXTENT_ADD:
        return head->value_bytes == sizeof(struct disk_change_extent);
    case DISK_CHANGE_EXTENT_DEL:
        return head->key_bytes == 0 && head->value_bytes == sizeof(struct disk_change_extent);
    default:
        return false;
    }
}

int batch_next(struct slice bytes, uint32_t *cursor, struct change *ret_change)
{
    if (*cursor == bytes.bytes)
        return 0;
    struct reader reader;
    assert(*cursor < bytes.bytes);
    reader_init(&reader, (const uint8_t *)bytes.data + *cursor, bytes.bytes - *cursor);
    struct disk_change head;
    reader_copy(&reader, &head, sizeof head);
    if (!reader_ok(&reader) || !change_valid(&head))
        return -ERR_CORRUPT_WIRE;
    const uint8_t *key = reader_take(&reader, head.key_bytes);
    const uint8_t *value = reader_take(&reader, head.value_bytes);
    if (!reader_ok(&reader))
        return -ERR_CORRUPT_WIRE;
    *ret_change = (struct change){.op = head.op, .key = slice_of(key, head.key_bytes)};
    if (head.op == DISK_CHANGE_PUT)
        ret_change->value = slice_of(value, head.value_bytes);
    if (head.op == DISK_CHANGE_EXTENT_ADD || head.op == DISK_CHANGE_EXTENT_DEL) {
        struct disk_change_extent extent;
        memcpy(&extent, value, sizeof extent);
        if (extent.blocks == 0 || extent.blocks > STORE_EXTENT_BLOCKS_MAX)
            return -ERR_CORRUPT_WIRE;
        ret_change->extent = (struct store_extent){extent.block, extent.blocks, 0};
    }
    *cursor = (uint32_t)(reader.cursor - (const uint8_t *)bytes.data);
    return 1;
}

int store_batch_next(struct slice bytes, uint32_t *cursor, struct slice *ret_key,
                     struct slice *ret_value)
{
    struct change change;
    int result;
    while ((result = batch_next(bytes, cursor, &change)) > 0) {
        if (change.op != DISK_CHANGE_PUT && change.op != DISK_CHANGE_DEL)
            continue;
        *ret_key = change.key;
        *ret_value = change.value;
        break;
    }
    return result;
}

/* Rows that belong to the store itself may not come from outside. */
static bool key_reserved(struct slice key)
{
    const uint8_t *bytes = key.data;
    return be32_load(bytes) == STORE_GROUP_LOCAL && bytes[4] >= STORE_TABLE_RESERVED;
}

int store_batch_append_bytes(struct store_batch *batch, struct slice bytes)
{
    struct change change;
    uint32_t cursor = 0, count = 0;
    int result;
    while ((result = batch_next(bytes, &cursor, &change)) > 0) {
        if ((change.op != DISK_CHANGE_PUT && change.op != DISK_CHANGE_DEL) ||
            key_reserved(change.key))
            return -ERR_CORRUPT_WIRE;
        count++;
    }
    if (result < 0)
        return result;
    if (bytes.bytes)
        memcpy(reserve(batch, bytes.bytes), bytes.data, bytes.bytes);
    batch->count += count;
    return 0;
}

void backpointer_key(uint8_t key[BACKPOINTER_KEY_BYTES], uint64_t block)
{
    be32_store(key, STORE_GROUP_LOCAL);
    key[4] = BACKPOINTER_TABLE;
    be64_store(key + 5, block);
}

bool backpointer_parse(struct slice key, struct slice value, struct store_extent *ret_extent,
                       struct slice *ret_owner)
{
    struct disk_backpointer head;
    *ret_extent = (struct store_extent){0};
    if (key.bytes != BACKPOINTER_KEY_BYTES || value.bytes < sizeof head)
        return false;
    memcpy(&head, value.data, sizeof head);
    *ret_extent = (struct store_extent){be64_load((const uint8_t *)key.data + 5), head.blocks, 0};
    *ret_owner =
        slice_of((const uint8_t *)value.data + sizeof head, value.bytes - (uint32_t)sizeof head);
    return head.blocks > 0 && head.blocks <= STORE_EXTENT_BLOCKS_MAX;
}

static void extent_change(struct store *store, const struct change *change, uint64_t lsn)
{
    uint8_t key[BACKPOINTER_KEY_BYTES];
    backpointer_key(key, change->extent.block);
    if (change->op == DISK_CHANGE_EXTENT_DEL) {
        memtable_put(store->active, slice_of(key, sizeof key), slice_of(NULL, 0));
        segment_live_del(store, change->extent.block, change->extent.blocks, lsn);
        return;
    }
    uint8_t value[sizeof(struct disk_backpointer) + STORE_KEY_MAX];
    struct disk_backpointer head = {change->extent.blocks};
    memcpy(value, &head, sizeof head);
    if (change->key.bytes)
        memcpy(value + sizeof head, change->key.data, change->key.bytes);
    memtable_put(store->active, slice_of(key, sizeof key),
                 slice_of(value, sizeof head + change->key.bytes));
    segment_live_add(store, change->extent.block, change->extent.blocks);
    struct extent_fresh *fresh = fresh_find(store, change->extent);
    if (fresh)
        fresh_drop(store, fresh);
}

void store_batch_drop_extents(struct store *store, const struct store_batch *batch)
{
    struct change change;
    uint32_t cursor = 0;
    while (batch_next(slice_of(batch->bytes, batch->used), &cursor, &change) > 0) {
        if (change.op == DISK_CHANGE_EXTENT_ADD)
            store_extent_drop(store, change.extent);
    }
}

static bool extent_on_device(const struct store *store, struct store_extent extent)
{
    uint64_t segment = extent.block / store->segment_blocks;
    return segment > 0 && segment < store->segment_count &&
           (extent.block + extent.blocks - 1) / store->segment_blocks == segment;
}

int batch_apply(struct store *store, struct slice bytes, uint64_t lsn)
{
    struct change change;
    uint32_t cursor = 0;
    int result;
    while ((result = batch_next(bytes, &cursor, &change)) > 0) {
        switch (change.op) {
        case DISK_CHANGE_PUT:
            /* An empty value is not a tombstone: give it an address. */
            memtable_put(store->active, change.key,
                         change.value.bytes ? change.value : slice_of("", 0));
            break;
        case DISK_CHANGE_DEL:
            memtable_put(store->active, change.key, slice_of(NULL, 0));
            break;
        case DISK_CHANGE_EXTENT_ADD:
        case DISK_CHANGE_EXTENT_DEL:
            if (!extent_on_device(store, change.extent)) {
                assert(store->recovering); /* ours would be a bug; the device's is damage */
                return -ERR_CORRUPT_DISK;
            }
            extent_change(store, &change, lsn);
            break;
        }
    }
    assert(result == 0 || store->recovering);
    return result == 0 ? 0 : -ERR_CORRUPT_DISK;
}
