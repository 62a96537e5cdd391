/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_DISK_STORE_H
#define CFS_FORMAT_DISK_STORE_H

/* What the local store writes on its device.
 *
 * The device is an array of segments. Segment 0 begins with DISK_SUPER_SLOTS superblock slots of
 * 4 KiB; the slot with the highest sequence and a good CRC wins. A block number counts 4 KiB from
 * the start of the device. All CRCs are CRC-32C, computed with the crc field itself zero.
 *
 *   journal segment   block 0: disk_journal_segment; then entries, each from a block boundary:
 *                     disk_journal_entry, records (disk_record, extents, payload, padded to 8)
 *   node segment      two halves with the same contents, node i of half 0 is node i of half 1
 *   data segment      nothing but data blocks
 */

#include "base/defs.h"
#include "format/format.h"

enum {
    DISK_STORE_VERSION = 1,
    DISK_SUPER_SLOTS = 8,
    DISK_SUPER_BYTES = 4096,
    DISK_TREE_NODE_BYTES = 32 << 10,
    DISK_TREE_LEVEL_MAX = 12,
};

enum disk_incompat {
    DISK_INCOMPAT_ZONED = 1, /* superblocks are a log in the first two zones, see store/zone.c */
    DISK_INCOMPAT_KNOWN = DISK_INCOMPAT_ZONED,
};

#define DISK_SUPER_MAGIC           0x726f747353464321ull /* "!CFStor" */
#define DISK_JOURNAL_SEGMENT_MAGIC 0x67655353u
#define DISK_JOURNAL_ENTRY_MAGIC   0x7274454au
#define DISK_TREE_MAGIC            0x65657254u

/* Two copies of an immutable run of blocks and its checksum. block[0] 0: nothing. */
struct disk_pointer {
    uint64_t block[2];
    uint32_t crc;
    uint32_t bytes; /* multiple of 4096 */
};
FORMAT_SIZE(struct disk_pointer, 24);

struct disk_superblock {
    uint64_t magic;
    uint32_t version;
    uint32_t crc;
    uint32_t compat;   /* unknown bits: fine */
    uint32_t incompat; /* unknown bits: refuse to open */
    uint64_t sequence;
    struct format_uuid cluster;
    struct format_uuid store;
    uint32_t node;
    uint32_t segment_blocks;
    uint32_t segment_count;
    uint32_t root_level;
    struct disk_pointer root;
    struct disk_pointer segments; /* array of disk_segment_row */
    uint64_t journal_lsn;         /* first record to replay */
    uint64_t journal_sequence;    /* of the journal segment it is in (or would be) */
    uint64_t journal_block;       /* where its entry is (or would be) */
    uint32_t journal_prev_crc;    /* crc of the entry before */
    uint32_t zero;
    uint64_t flushed_lsn; /* records up to here were durable when this was written */
    uint64_t store_id;    /* random, new with every format: marks all blocks of the store */
    /* Which part of its device the store has: part slice of slice_count, each slice_bytes long, the
     * first one at the start of the device. slice_bytes 0: all of it. */
    uint32_t slice;
    uint32_t slice_count;
    uint64_t slice_bytes;
    uint8_t reserved[3904];
};
FORMAT_SIZE(struct disk_superblock, DISK_SUPER_BYTES);
FORMAT_OFFSET(struct disk_superblock, root, 80);

enum disk_segment_state {
    DISK_SEGMENT_FREE = 0, /* or journal: those are found by following the chain */
    DISK_SEGMENT_NODE = 1,
    DISK_SEGMENT_DATA = 2,
};

struct disk_segment_row {
    uint8_t state;
    uint8_t open; /* node segment: may be appended to */
    uint16_t zero;
    uint32_t live_blocks;
    uint32_t frontier_blocks; /* node segment: blocks of each half in use */
    uint32_t zero2;
};
FORMAT_SIZE(struct disk_segment_row, 16);

struct disk_journal_segment {
    uint32_t magic;
    uint32_t crc; /* of this struct */
    uint64_t store_id;
    uint64_t sequence;
    uint32_t next_segment; /* chosen beforehand, so that recovery can follow */
    uint32_t zero;
};
FORMAT_SIZE(struct disk_journal_segment, 32);

struct disk_journal_entry {
    uint32_t magic;
    uint32_t crc; /* of bytes */
    uint64_t store_id;
    uint64_t sequence; /* of the journal segment: tells leftovers of an earlier use */
    uint64_t lsn;      /* of the first record; they are dense */
    uint64_t flushed_lsn;
    uint32_t prev_crc; /* of the entry before, so that a chain cannot be mixed up */
    uint32_t bytes;    /* header and records; the rest of the last block is zero */
    uint32_t count;    /* records */
    uint32_t zero[3];
};
FORMAT_SIZE(struct disk_journal_entry, 64);

enum disk_record_type {
    DISK_RECORD_NOOP = 0,
    DISK_RECORD_BATCH = 1,    /* payload: changes */
    DISK_RECORD_LOG = 2,      /* group, epoch, seq, payload */
    DISK_RECORD_TRUNCATE = 3, /* group, seq */
    DISK_RECORD_APPLY = 4,    /* group, seq */
};

struct disk_record {
    uint8_t type;
    uint8_t zero;
    uint16_t extent_count;
    uint32_t payload_bytes;
    uint32_t group;
    uint32_t epoch;
    uint64_t seq;
};
FORMAT_SIZE(struct disk_record, 24);

enum disk_extent_flags {
    DISK_EXTENT_CRC = 1, /* crc is set: verify it before trusting an unflushed record */
};

struct disk_record_extent {
    uint64_t block;
    uint16_t blocks;
    uint16_t flags;
    uint32_t crc; /* of all its bytes */
};
FORMAT_SIZE(struct disk_record_extent, 16);

/* A change inside a batch: this, then the key, then the value. No alignment. */
enum disk_change_op {
    DISK_CHANGE_PUT = 1,
    DISK_CHANGE_DEL = 2,
    DISK_CHANGE_EXTENT_ADD = 3, /* key: owner; value: disk_change_extent */
    DISK_CHANGE_EXTENT_DEL = 4, /* no key; value: disk_change_extent */
};
struct disk_change {
    uint8_t op;
    uint8_t zero;
    uint16_t key_bytes;
    uint32_t value_bytes;
};
FORMAT_SIZE(struct disk_change, 8);
struct disk_change_extent {
    uint64_t block;
    uint32_t blocks;
    uint32_t zero;
};
FORMAT_SIZE(struct disk_change_extent, 16);

/* Value of the backpointer table: this, then the owner's key. */
struct disk_backpointer {
    uint32_t blocks;
};
FORMAT_SIZE(struct disk_backpointer, 4);

/* How far an unfinished scrub has come: value of the one row of its table. Then the key's bytes. */
struct disk_scrub_place {
    uint64_t done_bytes;
    uint64_t block;     /* it is at the data from here on; 0: still in the tree */
    uint32_t key_bytes; /* tree: the nodes that cover keys below this one are done */
    uint32_t zero;
};
FORMAT_SIZE(struct disk_scrub_place, 24);

/* Tree node: header, prefix shared by all keys, uint16 offsets[count] from the node's start
 * (2-aligned), entries: uint16 suffix bytes, uint16 value bytes, suffix, value. Level 0: leaves.
 * Above: the value is a disk_pointer, the key is a lower bound of what is below (ignored for entry
 * 0, which covers everything before entry 1). */
struct disk_tree_header {
    uint32_t magic;
    uint16_t level;
    uint16_t count;
    uint16_t prefix_bytes;
    uint16_t zero;
    uint32_t used_bytes;
    uint64_t store_id;
    uint64_t sequence; /* of the superblock it was made for */
};
FORMAT_SIZE(struct disk_tree_header, 32);

/* Checksum, version and plausibility. 0, -ERR_NOT_FORMATTED (other magic), -ERR_WRONG_VERSION,
 * -ERR_CORRUPT_DISK. */
int disk_superblock_check(const struct disk_superblock *super);
void disk_superblock_seal(struct disk_superblock *super);
int disk_journal_segment_check(const struct disk_journal_segment *head, uint64_t store_id);
void disk_journal_segment_seal(struct disk_journal_segment *head);
/* Header fields only. */
int disk_journal_entry_check(const struct disk_journal_entry *entry, uint64_t store_id);
/* Checksum of all entry->bytes bytes that lie at entry. */
uint32_t disk_journal_entry_crc(const struct disk_journal_entry *entry);
/* Is a whole tree node well formed: every offset and length inside, level as expected. */
int disk_tree_node_check(const void *node, uint64_t store_id, uint32_t level);

#endif
