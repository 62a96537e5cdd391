/* SPDX-License-Identifier: MIT */
#ifndef CFS_DATA_EXTENT_H
#define CFS_DATA_EXTENT_H

/* Rows and records of format/disk_data.h, made and checked. Positions are blocks of the file:
 * object index * DATA_OBJECT_BLOCKS + block. Nothing here yields. */

#include "base/bytes.h"
#include "format/disk_data.h"
#include "store/store.h"

/* Positions end here: index is 32 bits wide. */
#define DATA_POSITION_END ((uint64_t)DATA_OBJECT_BLOCKS << 32)

static inline uint64_t data_position(uint32_t index, uint32_t block)
{
    return (uint64_t)index * DATA_OBJECT_BLOCKS + block;
}

struct data_key {
    uint8_t bytes[DATA_KEY_BYTES];
};

/* The key of the run that ends with the block at position last; as a seek target, it finds the
 * first run that reaches position last or lies behind it. */
struct data_key data_key_make(uint32_t group, uint64_t ino, uint64_t last);
/* The first key behind all of the inode's in the group, to bound walks. */
struct data_key data_key_end(uint32_t group, uint64_t ino);
static inline struct slice data_key_slice(const struct data_key *key)
{
    return (struct slice){key->bytes, sizeof key->bytes};
}
/* Is it a key of an extent row at all? Scans show us every row of a group. */
bool data_key_is(struct slice key);
uint32_t data_key_group(struct slice key);
uint64_t data_key_ino(struct slice key);
uint64_t data_key_last(struct slice key); /* position */

/* An extent row, decoded. crcs points into the value. */
struct data_row {
    uint64_t ino;
    uint64_t first; /* position */
    uint64_t end;   /* first + extent.blocks */
    struct store_extent extent;
    const uint8_t *crcs; /* u32 each, unaligned */
};
/* 0, or -ERR_CORRUPT_DISK: not a well-formed row. ret_row untouched then. */
must_check int data_row_parse(struct slice key, struct slice value, struct data_row *ret_row);
static inline uint32_t data_row_crc(const struct data_row *row, uint32_t index)
{
    uint32_t crc;
    assert(index < row->extent.blocks);
    memcpy(&crc, row->crcs + 4 * (size_t)index, sizeof crc);
    return crc;
}
/* How many of the row's blocks, which are in data, do not match their checksums. */
uint32_t data_row_bad_blocks(const struct data_row *row, const uint8_t *data);
/* Queue the row for blocks of an extent whose CRCs are crcs (unaligned u32s), with its
 * backpointer. The run lies within one object, blocks <= DATA_EXTENT_BLOCKS_MAX. */
void data_row_put(struct store_batch *batch, uint32_t group, const struct data_row *row);

/* The key of a row of DATA_TABLE_REQUEST, and its number in it. */
struct data_key data_request_key(uint32_t group, uint64_t session, uint64_t slot);
/* 0, or -ERR_CORRUPT_DISK: not a well-formed row of that table. ret_request untouched then. */
must_check int data_request_parse(struct slice key, struct slice value,
                                  struct disk_data_request *ret_request);

/* A CONTENT record, decoded. */
struct data_record {
    struct disk_data_record head;
    const uint8_t *tail; /* WRITE: u32 crcs; FORGET: struct disk_data_request; unaligned */
};
/* Check everything that can be checked without the store; the bytes come from a peer or the
 * journal. 0 or -ERR_CORRUPT_WIRE. */
must_check int data_record_parse(const struct store_log_record *record,
                                 struct data_record *ret_record);

#endif
