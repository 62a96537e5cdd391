/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_DISK_DATA_H
#define CFS_FORMAT_DISK_DATA_H

#include "format/format.h"
#include "format/wire_data.h"

/* Rows and log records of data groups. Checked by data/extent.c. */

enum {
    DATA_TABLE_EXTENT = 0x10, /* 5th key byte */
    DATA_TABLE_REQUEST = 0x11,
    DATA_OBJECT_BLOCKS = OBJECT_BYTES / DATA_BLOCK_BYTES,
    DATA_EXTENT_BLOCKS_MAX = 64,
    DATA_WRITE_BLOCKS_MAX = DATA_IO_MAX / DATA_BLOCK_BYTES + 1, /* of one record: unaligned MiB */
    DATA_KEY_BYTES = 21,
    DATA_VALUE_BYTES_MAX = 16 + 4 * DATA_EXTENT_BLOCKS_MAX,
    DATA_FORGET_MAX = 256, /* requests of one FORGET record */
};

/* Extent row: a run of blocks of one object.
 *
 * Key, bytewise ordered:
 * | offset | size | field |
 * | 0  | 4 | group, big-endian |
 * | 4  | 1 | DATA_TABLE_EXTENT |
 * | 5  | 8 | inode, big-endian |
 * | 13 | 4 | object index, big-endian |
 * | 17 | 4 | *last* block of the run, within the object, big-endian |
 * The last and not the first, so that one forward seek finds the run that covers a block.
 *
 * Value: this struct, then u32 crc[blocks], the CRC-32C of each block. */
struct disk_data_extent {
    uint64_t block; /* on the device */
    uint32_t blocks;
    uint32_t zero;
};
FORMAT_SIZE(struct disk_data_extent, 16);

/* A client's request that changes data, and how much of it has been done; also a row: the newest
 * request of the slot in this group (data/replay.c).
 *
 * Key:
 * | offset | size | field |
 * | 0  | 4 | group, big-endian |
 * | 4  | 1 | DATA_TABLE_REQUEST |
 * | 5  | 8 | session, big-endian |
 * | 13 | 8 | slot, big-endian | */
struct disk_data_request {
    uint64_t session; /* 0: not a client's */
    uint64_t slot;
    uint64_t seq;
    uint64_t progress; /* grows; DATA_PROGRESS_DONE: all of it */
};
FORMAT_SIZE(struct disk_data_request, 32);
#define DATA_PROGRESS_DONE UINT64_MAX

enum disk_data_kind {
    DISK_DATA_WRITE = 1,  /* tail: u32 crc[blocks]; the data are the record's extents, in order */
    DISK_DATA_CUT = 2,    /* remove the blocks [first, end) of the inode in this group */
    DISK_DATA_FORGET = 3, /* tail: struct disk_data_request[blocks]; rows that are still so go */
};

/* Payload of a CONTENT record of a data group. Positions count the blocks of the whole file:
 * object index * 1024 + block. */
struct disk_data_record {
    uint32_t kind;
    uint32_t blocks; /* WRITE: 1 to DATA_WRITE_BLOCKS_MAX, of one object; CUT: 0; FORGET: rows */
    uint64_t ino;
    uint64_t first;
    uint64_t end;                     /* CUT; WRITE: first + blocks */
    struct disk_data_request request; /* WRITE, CUT: that asked for it */
};
FORMAT_SIZE(struct disk_data_record, 64);

#endif
