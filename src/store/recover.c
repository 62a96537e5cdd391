/* SPDX-License-Identifier: MIT */
/* Recovery: superblock + segment table + tree, then everything the journal holds behind them.
 *
 * Two passes over the journal. The first finds its end, and how far it is known to have been
 * durable (flushed_lsn). The second replays. Records behind flushed_lsn are the *untrusted tail*:
 * after power loss their entry may have survived while the data extents they name did not, so
 * these are read and compared with the checksum in the record; the tail is cut at the first entry
 * with an extent that fails.
 *
 * R1  What is replayed is a prefix of what was journaled, and contains all that was durable.
 * R2  Replaying computes the same table, the same live counts and the same pins as at run time:
 *     the segment table holds the counts as of the first record replayed; but for segments whose
 *     data was gone before nodes came (S5).
 * R3  A segment that the journal chain names was free when it was named, so by then its live count
 *     must have been replayed down to zero. If not, that is damage.
 * R4  At the end everything replayed is flushed, and a first entry that says so is durable, before
 *     any segment can be reused. After a cut, that entry overwrites the first entry dropped (where
 *     the device cannot overwrite: as R5).
 * R5  After damage the journal goes on in a fresh segment that no chain leads to, and a checkpoint
 *     completes before the store is handed out.
 * R6  A store opened to be read only stays as it is after the replay, "recovering": changes reach
 *     memory alone, nothing is freed, no fiber runs.
 */
#include "base/crc32c.h"
#include "base/log.h"
#include "base/plant.h"
#include "store/scan.h"
#include "store/zone.h"

/* A node segment that more nodes can be appended to (ZN3). */
static bool open_row(const struct store *store, const struct disk_segment_row *row, uint32_t index)
{
    uint32_t half = store->segment_blocks / 2;
    return row->open && zone_resumable(store, index, row->frontier_blocks) &&
           zone_resumable(store, index, half + row->frontier_blocks);
}

static int load_segments(struct store *store)
{
    const struct disk_pointer *pointer = &store->super.segments;
    if (pointer->block[0] == 0)
        return 0;
    if (pointer->bytes < store->segment_count * sizeof(struct disk_segment_row))
        return -ERR_CORRUPT_DISK;
    struct disk_segment_row *rows = mem_alloc_aligned(pointer->bytes, STORE_BLOCK_BYTES);
    int result = copies_read(store, pointer, rows);
    for (uint32_t i = 1; i < store->segment_count && result == 0; i++) {
        struct segment *segment = &store->segments[i];
        if (rows[i].live_blocks > store->segment_blocks ||
            rows[i].frontier_blocks > store->segment_blocks / 2)
            result = -ERR_CORRUPT_DISK;
        if (rows[i].state == DISK_SEGMENT_DATA) {
            segment_claim(store, i, SEGMENT_DATA);
            store->live_data += rows[i].live_blocks;
        } else if (rows[i].state == DISK_SEGMENT_NODE &&
                   (rows[i].live_blocks > 0 || open_row(store, &rows[i], i))) {
            segment_claim(store, i, SEGMENT_NODE);
            store->live_nodes += rows[i].live_blocks;
            segment->frontier = rows[i].frontier_blocks;
            segment->open = open_row(store, &rows[i], i);
            if (segment->open)
                store->node_segment = i;
        } else {
            continue;
        }
        segment->live = rows[i].live_blocks;
    }
    mem_free(rows);
    store->tree_blocks = store->live_nodes;
    return result;
}

/* The journal turns out to own this segment. False: something else is in it (R3). */
static bool claim_journal(struct store *store, uint32_t index)
{
    if (index == SEGMENT_NONE || store->segments[index].state == SEGMENT_JOURNAL)
        return true;
    const struct segment *segment = &store->segments[index];
    if (segment->live > 0 || segment->pinned > 0 || segment->state == SEGMENT_NODE) {
        log_error("store-journal-damaged", "segment=%u is in the journal's chain and in use",
                  index);
        return false;
    }
    segment_claim(store, index, SEGMENT_JOURNAL);
    return true;
}

/* ---- records ---- */

struct record_view {
    struct disk_record head;
    const struct disk_record_extent *extents;
    struct slice payload;
};

static bool extent_plausible(const struct store *store, const struct disk_record_extent *extent)
{
    uint64_t index = extent->block / store->segment_blocks;
    return extent->blocks > 0 && extent->blocks <= STORE_EXTENT_BLOCKS_MAX && index > 0 &&
           index < store->segment_count &&
           (extent->block + extent->blocks - 1) / store->segment_blocks == index;
}

/* The entry's checksum was right, so this fails only for what we never write. */
static int record_next(const struct store *store, struct reader *reader, struct record_view *view)
{
    reader_copy(reader, &view->head, sizeof view->head);
    uint64_t extent_bytes = view->head.extent_count * sizeof *view->extents;
    view->extents = reader_take(reader, extent_bytes);
    view->payload =
        slice_of(reader_take(reader, view->head.payload_bytes), view->head.payload_bytes);
    uint64_t used = sizeof view->head + extent_bytes + view->head.payload_bytes;
    (void)reader_take(reader, round_up(used, 8) - used);
    if (!reader_ok(reader))
        return -ERR_CORRUPT_DISK;
    for (uint32_t i = 0; i < view->head.extent_count; i++)
        if (!extent_plausible(store, &view->extents[i]))
            return -ERR_CORRUPT_DISK;
    return 0;
}

static bool extents_intact(struct store *store, const struct record_view *view, uint8_t *buffer)
{
    for (uint32_t i = 0; i < view->head.extent_count; i++) {
        const struct disk_record_extent *extent = &view->extents[i];
        uint32_t bytes = extent->blocks * STORE_BLOCK_BYTES;
        if (!(extent->flags & DISK_EXTENT_CRC))
            continue;
        if (disk_read(store->disk, extent->block * STORE_BLOCK_BYTES, buffer, bytes) < 0 ||
            crc32c(0, buffer, bytes) != extent->crc)
            return false;
    }
    return true;
}

static bool entry_intact(struct store *store, const struct disk_journal_entry *entry)
{
    uint8_t *buffer =
        mem_alloc_aligned(STORE_EXTENT_BLOCKS_MAX * STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
    struct reader reader;
    reader_init(&reader, entry + 1, entry->bytes - sizeof *entry);
    bool intact = true;
    for (uint32_t i = 0; i < entry->count && intact; i++) {
        struct record_view view;
        intact = record_next(store, &reader, &view) == 0 && extents_intact(store, &view, buffer);
    }
    mem_free(buffer);
    return intact;
}

static int replay_log(struct store *store, const struct record_view *view, uint64_t lsn)
{
    struct store_extent *extents = NULL;
    uint32_t count = view->head.extent_count;
    if (count > 0)
        extents = mem_zalloc(count * sizeof *extents);
    for (uint32_t i = 0; i < count; i++) {
        extents[i].block = view->extents[i].block;
        extents[i].blocks = view->extents[i].blocks;
    }
    const struct store_log_record record = {.group = view->head.group,
                                            .epoch = view->head.epoch,
                                            .seq = view->head.seq,
                                            .payload = view->payload,
                                            .extents = extents,
                                            .extent_count = count};
    prepared_add(store, record.group, record.seq, view->extents, count, lsn);
    if (store->options.log_ops->replay_record)
        store->options.log_ops->replay_record(store->options.context, &record);
    mem_free(extents);
    return 0;
}

static int replay(struct store *store, const struct record_view *view, uint64_t lsn)
{
    const struct store_log_ops *ops = store->options.log_ops;
    void *context = store->options.context;
    store->journal.next_lsn = lsn + 1;
    switch (view->head.type) {
    case DISK_RECORD_NOOP:
        return 0;
    case DISK_RECORD_BATCH:
        return batch_apply(store, view->payload, lsn);
    case DISK_RECORD_LOG:
        return replay_log(store, view, lsn);
    case DISK_RECORD_TRUNCATE:
        prepared_truncate(store, view->head.group, view->head.seq, lsn);
        if (ops->replay_truncate)
            ops->replay_truncate(context, view->head.group, view->head.seq);
        return 0;
    case DISK_RECORD_APPLY:
        return ops->replay_apply ? ops->replay_apply(context, view->head.group, view->head.seq)
                                 : -ERR_CORRUPT_DISK;
    default:
        return -ERR_WRONG_VERSION;
    }
}

static int replay_entry(struct store *store, const struct disk_journal_entry *entry)
{
    struct reader reader;
    reader_init(&reader, entry + 1, entry->bytes - sizeof *entry);
    int result = 0;
    for (uint32_t i = 0; i < entry->count && result == 0; i++) {
        struct record_view view;
        result = record_next(store, &reader, &view);
        if (result == 0)
            result = replay(store, &view, entry->lsn + i);
    }
    if (result < 0)
        log_error("store-replay-failed", "lsn=%llu error=%s", (unsigned long long)entry->lsn,
                  error_name(result));
    return result;
}

/* ---- passes ---- */

struct outcome {
    struct scan_place end;
    uint64_t flushed_lsn; /* newest known */
    uint32_t entries;
    bool damaged;
};

static int find_end(struct store *store, struct outcome *outcome)
{
    struct scan scan;
    int result = scan_init(&scan, store);
    if (result < 0)
        return result;
    while (scan_next(&scan))
        outcome->entries++;
    outcome->damaged = scan_damaged(&scan);
    outcome->flushed_lsn = scan.flushed_lsn;
    scan_fini(&scan);
    return 0;
}

static int replay_all(struct store *store, struct outcome *outcome)
{
    struct scan scan;
    int result = scan_init(&scan, store);
    if (result < 0)
        return result;
    outcome->damaged |= !claim_journal(store, scan.at.segment);
    outcome->damaged |= !claim_journal(store, scan.at.next_segment);
    journal_enter(store, scan.at.segment, scan.at.sequence);
    const struct disk_journal_entry *entry;
    for (uint32_t i = 0; i < outcome->entries && result == 0; i++) {
        entry = scan_next(&scan);
        if (!entry)
            break; /* read well a moment ago: a failing device; stop here */
        bool trusted =
            entry->lsn + entry->count - 1 <= outcome->flushed_lsn || PLANT(STORE_TAIL_TRUSTED);
        if (!trusted && !entry_intact(store, entry)) {
            log_info("store-journal-cut", "lsn=%llu data is missing",
                     (unsigned long long)entry->lsn);
            scan.at = scan.before;
            break;
        }
        if (scan.at.segment != scan.before.segment) {
            journal_enter(store, scan.at.segment, scan.at.sequence);
            if (!claim_journal(store, scan.at.segment) ||
                !claim_journal(store, scan.at.next_segment)) {
                outcome->damaged = true;
                break;
            }
        }
        result = replay_entry(store, entry);
    }
    outcome->end = scan.at;
    scan_fini(&scan);
    return result;
}

static int resume(struct store *store, const struct outcome *outcome)
{
    struct journal *journal = &store->journal;
    const struct scan_place *end = &outcome->end;
    assert(journal->segment == end->segment && journal->sequence == end->sequence);
    journal->prev_crc = end->prev_crc;
    journal->proven_lsn = MIN(outcome->flushed_lsn, end->lsn - 1);
    journal->carried_lsn = journal->proven_lsn;
    bool in_place = zone_resumable(store, end->segment, end->block);
    if (!outcome->damaged && in_place && end->head_ok && end->next_segment != SEGMENT_NONE) {
        journal->block = end->block;
        journal->next_segment = end->next_segment;
    } else {
        if (end->next_segment != SEGMENT_NONE &&
            store->segments[end->next_segment].state == SEGMENT_JOURNAL)
            segment_free(store, end->next_segment);
        uint32_t fresh = segment_take(store, SEGMENT_JOURNAL, URGENCY_JOURNAL);
        journal->next_segment = segment_take(store, SEGMENT_JOURNAL, URGENCY_JOURNAL);
        if (fresh == SEGMENT_NONE)
            return -ERR_NO_SPACE;
        journal_enter(store, fresh, end->sequence + 2); /* no leftover has this sequence */
        journal->header_due = true;
        store->checkpoint.wanted = true;
        store->recover_checkpoint = true;
    }
    journal_resume(store, end->lsn - 1);
    return 0;
}

int recover(struct store *store)
{
    struct outcome outcome = {0};
    store->recovering = true;
    int result = load_segments(store);
    if (result == 0)
        result = find_end(store, &outcome);
    if (result == 0)
        result = replay_all(store, &outcome);
    store->health.journal_damaged = outcome.damaged;
    if (store->options.read_only)
        return result; /* R6 */
    if (result == 0)
        result = disk_flush(store->disk);
    if (result == 0) {
        segment_free_dead(store, MIN(outcome.flushed_lsn, outcome.end.lsn - 1));
        result = resume(store, &outcome);
    }
    if (result == 0)
        result = zone_settle(store);
    if (result < 0)
        return result;
    store->recovering = false;
    for (uint32_t i = 1; i < store->segment_count; i++) {
        struct segment *segment = &store->segments[i];
        if (segment->state != SEGMENT_DATA)
            continue;
        segment->dead_lsn = store->journal.next_lsn - 1;
        segment_consider(store, i);
    }
    log_info("store-recovered", "entries=%u lsn=%llu trusted=%llu damaged=%d", outcome.entries,
             (unsigned long long)(outcome.end.lsn - 1), (unsigned long long)outcome.flushed_lsn,
             outcome.damaged);
    return 0;
}
