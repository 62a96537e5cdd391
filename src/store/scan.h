/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_SCAN_H
#define CFS_STORE_SCAN_H

#include "store/store_internal.h"

/* A place in the journal: where the next entry should be, and what it must say. */
struct scan_place {
    uint32_t segment;
    uint32_t block; /* in segment */
    uint64_t sequence;
    uint64_t lsn;
    uint32_t prev_crc;
    uint32_t next_segment; /* SEGMENT_NONE if the head is unreadable or names none */
    bool head_ok;
};

struct scan {
    struct store *store;
    struct scan_place at;
    struct scan_place before; /* of the entry returned last */
    uint64_t flushed_lsn;     /* newest known */
    uint8_t *window;
    uint64_t window_block;
    uint32_t window_blocks;
};

/* Start where the superblock says. -EIO: nothing to fini. */
may_yield must_check int scan_init(struct scan *scan, struct store *store);
void scan_fini(struct scan *scan);
/* The next entry (valid until the next call), or NULL: the end is at scan->at. */
may_yield const struct disk_journal_entry *scan_next(struct scan *scan);
/* After the end: was there more that had been durable? Logs what it found. */
may_yield bool scan_damaged(struct scan *scan);
/* Read a segment's head. -EIO, -ERR_CORRUPT_DISK. */
may_yield must_check int scan_head(struct scan *scan, uint32_t segment,
                                   struct disk_journal_segment *ret_head);

#endif
