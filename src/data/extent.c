/* SPDX-License-Identifier: MIT */
#include "data/extent.h"

#include "base/crc32c.h"

_Static_assert((int)DATA_EXTENT_BLOCKS_MAX == (int)STORE_EXTENT_BLOCKS_MAX,
               "a row describes one extent");
_Static_assert((int)DATA_BLOCK_BYTES == (int)STORE_BLOCK_BYTES, "blocks are the store's blocks");
_Static_assert((int)DATA_VALUE_BYTES_MAX <= (int)STORE_VALUE_MAX, "rows fit");
_Static_assert((int)DATA_TABLE_EXTENT < (int)STORE_TABLE_RESERVED,
               "not one of the store's own tables");

enum { KEY_TABLE_AT = 4, KEY_INO_AT = 5, KEY_INDEX_AT = 13, KEY_LAST_AT = 17 };
enum { KEY_SESSION_AT = 5, KEY_SLOT_AT = 13 }; /* of a request */

struct data_key data_key_make(uint32_t group, uint64_t ino, uint64_t last)
{
    struct data_key key;
    assert(group != STORE_GROUP_LOCAL);
    assert(last < DATA_POSITION_END);
    be32_store(key.bytes, group);
    key.bytes[KEY_TABLE_AT] = DATA_TABLE_EXTENT;
    be64_store(key.bytes + KEY_INO_AT, ino);
    be32_store(key.bytes + KEY_INDEX_AT, (uint32_t)(last / DATA_OBJECT_BLOCKS));
    be32_store(key.bytes + KEY_LAST_AT, (uint32_t)(last % DATA_OBJECT_BLOCKS));
    return key;
}

struct data_key data_key_end(uint32_t group, uint64_t ino)
{
    /* No block number is that large, so the key sorts behind every run of the inode. */
    struct data_key key = data_key_make(group, ino, DATA_POSITION_END - 1);
    be32_store(key.bytes + KEY_LAST_AT, UINT32_MAX);
    return key;
}

bool data_key_is(struct slice key)
{
    const uint8_t *bytes = key.data;
    return key.bytes == DATA_KEY_BYTES && bytes[KEY_TABLE_AT] == DATA_TABLE_EXTENT &&
           be32_load(bytes + KEY_LAST_AT) < DATA_OBJECT_BLOCKS;
}

uint32_t data_key_group(struct slice key)
{
    assert(key.bytes >= sizeof(uint32_t));
    return be32_load(key.data);
}

uint64_t data_key_ino(struct slice key)
{
    assert(data_key_is(key));
    return be64_load((const uint8_t *)key.data + KEY_INO_AT);
}

uint64_t data_key_last(struct slice key)
{
    const uint8_t *bytes = key.data;
    assert(data_key_is(key));
    return data_position(be32_load(bytes + KEY_INDEX_AT), be32_load(bytes + KEY_LAST_AT));
}

int data_row_parse(struct slice key, struct slice value, struct data_row *ret_row)
{
    struct disk_data_extent head;
    if (!data_key_is(key) || value.bytes < sizeof head)
        return -ERR_CORRUPT_DISK;
    memcpy(&head, value.data, sizeof head);
    uint64_t last = data_key_last(key);
    if (head.blocks == 0 || head.blocks > DATA_EXTENT_BLOCKS_MAX || head.zero != 0 ||
        value.bytes != sizeof head + head.blocks * sizeof(uint32_t))
        return -ERR_CORRUPT_DISK;
    if (last % DATA_OBJECT_BLOCKS + 1 < head.blocks)
        return -ERR_CORRUPT_DISK;
    *ret_row = (struct data_row){
        .ino = data_key_ino(key),
        .first = last + 1 - head.blocks,
        .end = last + 1,
        .extent = {head.block, head.blocks, 0},
        .crcs = (const uint8_t *)value.data + sizeof head,
    };
    return 0;
}

uint32_t data_row_bad_blocks(const struct data_row *row, const uint8_t *data)
{
    uint32_t bad = 0;
    for (uint32_t i = 0; i < row->extent.blocks; i++) {
        const uint8_t *block = data + (size_t)i * DATA_BLOCK_BYTES;
        bad += crc32c(0, block, DATA_BLOCK_BYTES) != data_row_crc(row, i);
    }
    return bad;
}

void data_row_put(struct store_batch *batch, uint32_t group, const struct data_row *row)
{
    uint8_t value[DATA_VALUE_BYTES_MAX];
    uint32_t blocks = row->extent.blocks;
    struct disk_data_extent head = {row->extent.block, blocks, 0};
    assert(blocks > 0 && blocks <= DATA_EXTENT_BLOCKS_MAX);
    assert(row->end - row->first == blocks);
    assert(row->first / DATA_OBJECT_BLOCKS == (row->end - 1) / DATA_OBJECT_BLOCKS);
    memcpy(value, &head, sizeof head);
    memcpy(value + sizeof head, row->crcs, blocks * sizeof(uint32_t));
    struct data_key key = data_key_make(group, row->ino, row->end - 1);
    store_batch_put(batch, data_key_slice(&key),
                    slice_of(value, sizeof head + blocks * sizeof(uint32_t)));
    store_batch_extent_add(batch, row->extent, data_key_slice(&key));
}

struct data_key data_request_key(uint32_t group, uint64_t session, uint64_t slot)
{
    struct data_key key;
    assert(group != STORE_GROUP_LOCAL && session != 0);
    be32_store(key.bytes, group);
    key.bytes[KEY_TABLE_AT] = DATA_TABLE_REQUEST;
    be64_store(key.bytes + KEY_SESSION_AT, session);
    be64_store(key.bytes + KEY_SLOT_AT, slot);
    return key;
}

int data_request_parse(struct slice key, struct slice value, struct disk_data_request *ret_request)
{
    const uint8_t *bytes = key.data;
    struct disk_data_request request;
    if (key.bytes != DATA_KEY_BYTES || bytes[KEY_TABLE_AT] != DATA_TABLE_REQUEST ||
        value.bytes != sizeof request)
        return -ERR_CORRUPT_DISK;
    memcpy(&request, value.data, sizeof request);
    if (request.session == 0 || request.session != be64_load(bytes + KEY_SESSION_AT) ||
        request.slot != be64_load(bytes + KEY_SLOT_AT))
        return -ERR_CORRUPT_DISK;
    *ret_request = request;
    return 0;
}

static bool write_is_valid(const struct disk_data_record *head,
                           const struct store_log_record *record)
{
    if (head->blocks == 0 || head->blocks > DATA_WRITE_BLOCKS_MAX ||
        head->end != head->first + head->blocks ||
        record->payload.bytes != sizeof *head + head->blocks * sizeof(uint32_t))
        return false;
    if (head->first / DATA_OBJECT_BLOCKS != (head->end - 1) / DATA_OBJECT_BLOCKS)
        return false;
    uint64_t blocks = 0;
    for (uint32_t i = 0; i < record->extent_count; i++) {
        if (record->extents[i].blocks == 0 || record->extents[i].blocks > DATA_EXTENT_BLOCKS_MAX)
            return false;
        blocks += record->extents[i].blocks;
    }
    return blocks == head->blocks;
}

static bool cut_is_valid(const struct disk_data_record *head, const struct store_log_record *record)
{
    return head->blocks == 0 && record->extent_count == 0 && record->payload.bytes == sizeof *head;
}

static bool forget_is_valid(const struct disk_data_record *head,
                            const struct store_log_record *record)
{
    return head->blocks > 0 && head->blocks <= DATA_FORGET_MAX && record->extent_count == 0 &&
           record->payload.bytes == sizeof *head + head->blocks * sizeof(struct disk_data_request);
}

int data_record_parse(const struct store_log_record *record, struct data_record *ret_record)
{
    struct disk_data_record head;
    if (record->payload.bytes < sizeof head)
        return -ERR_CORRUPT_WIRE;
    memcpy(&head, record->payload.data, sizeof head);
    bool in_file = head.first < head.end && head.end <= DATA_POSITION_END;
    bool valid = false;
    if (head.kind == DISK_DATA_WRITE)
        valid = in_file && write_is_valid(&head, record);
    else if (head.kind == DISK_DATA_CUT)
        valid = in_file && cut_is_valid(&head, record);
    else if (head.kind == DISK_DATA_FORGET)
        valid = forget_is_valid(&head, record);
    if (!valid)
        return -ERR_CORRUPT_WIRE;
    *ret_record = (struct data_record){head, (const uint8_t *)record->payload.data + sizeof head};
    return 0;
}
