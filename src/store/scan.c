/* SPDX-License-Identifier: MIT */
/* Journal scan: follow the chain of entries from a known place to its end.
 *
 * The next entry is at the next block of the segment, or, if nothing valid is there, at the start
 * of the segment that the head names. Valid means: header plausible, sequence of the segment,
 * next LSN, prev_crc of the entry before, whole checksum.
 *
 * The end is either the *torn tail* (what was being written when the power went) or *damage*. It is
 * damage if something proves that more had been durable: the superblock's flushed_lsn, or a valid
 * entry further on that carries a flushed_lsn at or behind the end.
 */
#include "store/scan.h"

#include "base/log.h"
#include "base/plant.h"

enum { WINDOW_BYTES = 4 << 20 };

int scan_init(struct scan *scan, struct store *store)
{
    const struct disk_superblock *super = &store->super;
    *scan = (struct scan){.store = store, .flushed_lsn = super->flushed_lsn};
    scan->window = mem_alloc_aligned(WINDOW_BYTES, STORE_BLOCK_BYTES);
    scan->at.segment = (uint32_t)(super->journal_block / super->segment_blocks);
    scan->at.block = (uint32_t)(super->journal_block % super->segment_blocks);
    scan->at.sequence = super->journal_sequence;
    scan->at.lsn = super->journal_lsn;
    scan->at.prev_crc = super->journal_prev_crc;
    struct disk_journal_segment head;
    int result = scan_head(scan, scan->at.segment, &head);
    if (result == -EIO) {
        scan_fini(scan);
        return result;
    }
    scan->at.head_ok = result == 0 && head.sequence == scan->at.sequence;
    scan->at.next_segment = scan->at.head_ok ? head.next_segment : SEGMENT_NONE;
    return 0;
}

void scan_fini(struct scan *scan)
{
    mem_free(scan->window);
    scan->window = NULL;
}

/* Make count blocks from block (absolute) visible; fewer at the segment's end. NULL: read error. */
static const uint8_t *look(struct scan *scan, uint64_t block, uint32_t blocks)
{
    uint64_t end = scan->window_block + scan->window_blocks;
    if (scan->window_blocks == 0 || block < scan->window_block || block + blocks > end) {
        uint64_t segment_end =
            (block / scan->store->segment_blocks + 1) * scan->store->segment_blocks;
        uint64_t room = MIN((uint64_t)WINDOW_BYTES / STORE_BLOCK_BYTES, segment_end - block);
        assert(blocks <= room);
        scan->window_blocks = 0;
        if (disk_read(scan->store->disk, block * STORE_BLOCK_BYTES, scan->window,
                      room * STORE_BLOCK_BYTES) < 0)
            return NULL;
        scan->window_block = block;
        scan->window_blocks = (uint32_t)room;
    }
    return scan->window + (block - scan->window_block) * STORE_BLOCK_BYTES;
}

int scan_head(struct scan *scan, uint32_t segment, struct disk_journal_segment *ret_head)
{
    const uint8_t *bytes = look(scan, segment_block(scan->store, segment), 1);
    if (!bytes)
        return -EIO;
    memcpy(ret_head, bytes, sizeof *ret_head);
    int result = disk_journal_segment_check(ret_head, scan->store->store_id);
    if (result == 0 && ret_head->next_segment >= scan->store->segment_count)
        result = -ERR_CORRUPT_DISK;
    return result;
}

/* A whole valid entry of the segment with this sequence, whatever its LSN. */
static const struct disk_journal_entry *entry_at(struct scan *scan, uint32_t segment,
                                                 uint32_t block, uint64_t sequence)
{
    uint64_t at = segment_block(scan->store, segment) + block;
    if (block >= scan->store->segment_blocks)
        return NULL;
    const struct disk_journal_entry *entry = (const void *)look(scan, at, 1);
    if (!entry || disk_journal_entry_check(entry, scan->store->store_id) < 0 ||
        entry->sequence != sequence || entry->bytes > scan->store->journal.entry_bytes_max)
        return NULL;
    uint32_t blocks = (uint32_t)div_up(entry->bytes, STORE_BLOCK_BYTES);
    if (block + blocks > scan->store->segment_blocks)
        return NULL;
    entry = (const void *)look(scan, at, blocks);
    if (!entry || (disk_journal_entry_crc(entry) != entry->crc && !PLANT(STORE_ENTRY_UNCHECKED)))
        return NULL;
    return entry;
}

static const struct disk_journal_entry *follow(struct scan *scan, const struct scan_place *place)
{
    const struct disk_journal_entry *entry =
        entry_at(scan, place->segment, place->block, place->sequence);
    if (!entry || entry->lsn != place->lsn || entry->prev_crc != place->prev_crc)
        return NULL;
    return entry;
}

const struct disk_journal_entry *scan_next(struct scan *scan)
{
    scan->before = scan->at;
    const struct disk_journal_entry *entry = follow(scan, &scan->at);
    if (!entry && scan->at.next_segment != SEGMENT_NONE) {
        struct scan_place place = scan->at;
        struct disk_journal_segment head;
        place.segment = scan->at.next_segment;
        place.sequence++;
        place.block = 1;
        place.head_ok =
            scan_head(scan, place.segment, &head) == 0 && head.sequence == place.sequence;
        place.next_segment = place.head_ok ? head.next_segment : SEGMENT_NONE;
        entry = follow(scan, &place);
        if (entry)
            scan->at = place;
    }
    if (!entry)
        return NULL;
    scan->at.block += (uint32_t)div_up(entry->bytes, STORE_BLOCK_BYTES);
    scan->at.lsn += entry->count;
    scan->at.prev_crc = entry->crc;
    scan->flushed_lsn = MAX(scan->flushed_lsn, entry->flushed_lsn);
    return entry;
}

/* Is there an entry behind the end that knew of a flush at or behind the end? */
static bool proof_in(struct scan *scan, uint32_t segment, uint32_t block, uint64_t sequence)
{
    for (; block < scan->store->segment_blocks; block++) {
        const struct disk_journal_entry *entry = entry_at(scan, segment, block, sequence);
        if (entry && entry->lsn > scan->at.lsn && entry->flushed_lsn >= scan->at.lsn) {
            log_error("store-journal-damaged", "lsn=%llu lost, lsn=%llu says it was durable",
                      (unsigned long long)scan->at.lsn, (unsigned long long)entry->lsn);
            return true;
        }
    }
    return false;
}

bool scan_damaged(struct scan *scan)
{
    if (scan->flushed_lsn >= scan->at.lsn) {
        log_error("store-journal-damaged", "ends at lsn=%llu, was durable up to %llu",
                  (unsigned long long)scan->at.lsn, (unsigned long long)scan->flushed_lsn);
        return true;
    }
    if (proof_in(scan, scan->at.segment, scan->at.block, scan->at.sequence))
        return true;
    return scan->at.next_segment != SEGMENT_NONE &&
           proof_in(scan, scan->at.next_segment, 1, scan->at.sequence + 1);
}
