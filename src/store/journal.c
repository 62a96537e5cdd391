/* SPDX-License-Identifier: MIT */
/* Journal: the order of everything that changed since the last checkpoint.
 *
 * Problem: changes must be durable in one sequential write and one flush however many requests
 * they come from, and recovery must know exactly which prefix of them it may believe.
 *
 *   segment A (sequence 7, next B)            segment B (sequence 8, next C)
 *   [head][entry lsn 40..51][entry 52..52]... [head][entry 90..97] <- tail
 *            ^ prev_crc        ^ prev_crc            ^
 *
 *   journal_append      -> pending (memory)
 *   pump at turn end    -> one write in flight             write_done: written_lsn
 *   pump                -> one flush in flight, unless the write was durable by itself
 *                                                          flush_done: flushed_lsn, proven_lsn
 *   settle_fired        while they are in flight: the memtable sorts in what it was given (M5)
 *
 * An entry leaves when someone waits for it, when 128 KiB have gathered, or after LAZY_NS; what
 * gathers while a write is in flight leaves with the next one: group commit.
 *
 * J1  Records are dense in LSN; entries hold them in order; an entry's prev_crc is the crc of the
 *     entry before it, so a chain is recognised entry by entry.
 * J2  One write at a time: if an entry is on the device, all before it were completed before it
 *     was submitted. After power loss without a flush, later ones may still have survived alone.
 * J3  An entry is submitted only after all data writes it refers to have completed (data_seq).
 * J4  A flush makes durable what had been written when it was submitted, no more. Flushes do not
 *     overlap. A durable write (disk_io) makes durable itself, no more, and saves the flush. So an
 *     entry is written like that only if all that it builds on is durable already: every entry
 *     before it, and the data writes that its own records refer to (flushed_seq). Hence, either
 *     way: what records up to flushed_lsn refer to is as durable as they are.
 * J5  proven_lsn: the highest flushed_lsn carried by an entry that is itself durable. Recovery
 *     trusts extents of records up to it without reading them.
 * J6  next_segment is taken before the current segment's head is written.
 * J7  A failed write or flush fences the store; nothing is retried, because the device may have
 *     dropped what it had accepted.
 *
 * Not here: reading it back (recover.c), when it may be cut off at the front (checkpoint.c).
 */
#include "store/store_internal.h"

#include "base/crc32c.h"
#include "base/log.h"
#include "base/plant.h"
#include "store/zone.h"

enum { WRITE_EAGER_BYTES = 128 << 10, ENTRY_BYTES_MAX = 1 << 20, SETTLE_BYTES = 2 << 10 };
#define LAZY_NS (20 * NS_PER_MS)

static void hook_fired(struct turn_hook *hook);
static void lazy_fired(struct timer *timer);
static void flush_fired(struct timer *timer);
static void settle_fired(struct timer *timer);

uint64_t journal_limit(const struct store *store)
{
    return store->checkpoint.journal_bytes_max;
}

void journal_init(struct store *store)
{
    struct journal *journal = &store->journal;
    list_init(&journal->pending);
    list_init(&journal->spare);
    list_init(&journal->written_waiters);
    list_init(&journal->durable_waiters);
    turn_hook_init(&journal->hook, hook_fired);
    timer_init(&journal->lazy_timer, lazy_fired);
    timer_init(&journal->flush_timer, flush_fired);
    timer_init(&journal->settle_timer, settle_fired);
    htable_init(&journal->prepared);
    uint64_t segment_bytes = (uint64_t)store->segment_blocks * STORE_BLOCK_BYTES;
    journal->entry_bytes_max = (uint32_t)MIN(segment_bytes / 2, (uint64_t)ENTRY_BYTES_MAX);
    journal->next_lsn = 1;
}

void journal_resume(struct store *store, uint64_t lsn)
{
    struct journal *journal = &store->journal;
    assert(list_empty(&journal->pending) && journal->segment != SEGMENT_NONE);
    journal->next_lsn = lsn + 1;
    journal->written_lsn = lsn;
    journal->flushed_lsn = lsn;
    journal->written_goal = lsn;
    journal->flushed_goal = lsn;
}

static void buf_free(struct journal_buf *buf)
{
    mem_free(buf->bytes);
    mem_free(buf);
}

void journal_fini(struct store *store)
{
    struct journal *journal = &store->journal;
    assert(!journal->writing && !journal->flushing);
    timer_cancel(&journal->lazy_timer);
    timer_cancel(&journal->flush_timer);
    timer_cancel(&journal->settle_timer);
    struct list *link;
    while ((link = list_pop_front(&journal->pending)) != NULL)
        buf_free(list_entry(link, struct journal_buf, link));
    while ((link = list_pop_front(&journal->spare)) != NULL)
        buf_free(list_entry(link, struct journal_buf, link));
    prepared_fini(store);
    mem_free(journal->chain);
}

void journal_kick(struct store *store)
{
    turn_hook_schedule(&store->journal.hook);
}

may_yield void journal_first(struct store *store)
{
    fiber_yield();
    if (!list_empty(&store->journal.hook.link))
        fiber_yield();
}

/* ---- append ---- */

static struct journal_buf *filling(struct store *store, uint32_t bytes)
{
    struct journal *journal = &store->journal;
    if (!list_empty(&journal->pending)) {
        struct journal_buf *last = list_last(&journal->pending, struct journal_buf, link);
        if (last->room - last->used >= bytes)
            return last;
    }
    struct journal_buf *buf;
    struct list *link = list_pop_front(&journal->spare);
    if (link) {
        buf = list_entry(link, struct journal_buf, link);
    } else {
        buf = mem_zalloc(sizeof *buf);
        buf->bytes =
            mem_alloc_aligned(STORE_BLOCK_BYTES + journal->entry_bytes_max, STORE_BLOCK_BYTES);
    }
    buf->room = journal->entry_bytes_max;
    buf->used = sizeof(struct disk_journal_entry);
    buf->count = 0;
    buf->first_lsn = journal->next_lsn;
    buf->data_seq = 0;
    list_init(&buf->link);
    list_push_back(&journal->pending, &buf->link);
    assert(buf->room - buf->used >= bytes);
    return buf;
}

void journal_cut(struct store *store)
{
    struct journal *journal = &store->journal;
    if (!list_empty(&journal->pending)) {
        struct journal_buf *last = list_last(&journal->pending, struct journal_buf, link);
        last->room = last->used;
    }
}

uint64_t journal_append(struct store *store, const struct disk_record *record, struct slice payload,
                        const struct disk_record_extent *extents, uint64_t data_seq)
{
    struct journal *journal = &store->journal;
    assert(!store->recovering && record->payload_bytes == payload.bytes);
    uint32_t extent_bytes = record->extent_count * (uint32_t)sizeof *extents;
    uint32_t bytes = (uint32_t)round_up(sizeof *record + extent_bytes + (uint64_t)payload.bytes, 8);
    struct journal_buf *buf = filling(store, bytes);
    uint8_t *place = buf->bytes + STORE_BLOCK_BYTES + buf->used;
    memcpy(place, record, sizeof *record);
    if (extent_bytes)
        memcpy(place + sizeof *record, extents, extent_bytes);
    if (payload.bytes)
        memcpy(place + sizeof *record + extent_bytes, payload.data, payload.bytes);
    uint32_t filled = (uint32_t)sizeof *record + extent_bytes + payload.bytes;
    memset(place + filled, 0, bytes - filled);
    buf->used += bytes;
    buf->count++;
    buf->data_seq = MAX(buf->data_seq, data_seq);
    journal->pending_bytes += bytes;
    journal->bytes_since_checkpoint += bytes;
    if (buf->used >= WRITE_EAGER_BYTES)
        journal_kick(store);
    if (journal->lazy_timer.heap_index == 0)
        timer_arm(&journal->lazy_timer, env_now_ns() + LAZY_NS);
    if (journal->flush_timer.heap_index == 0)
        timer_arm(&journal->flush_timer, env_now_ns() + store->options.flush_interval_ns);
    if (journal->bytes_since_checkpoint > journal_limit(store))
        checkpoint_kick(store);
    return journal->next_lsn++;
}

/* ---- write ---- */

static void chain_push(struct journal *journal)
{
    if (journal->chain_count == journal->chain_room) {
        journal->chain_room = MAX(2 * journal->chain_room, 16u);
        journal->chain = mem_realloc(journal->chain, journal->chain_room * sizeof *journal->chain);
    }
    journal->chain[journal->chain_count++] =
        (struct journal_segment){journal->segment, journal->sequence};
}

void journal_trim(struct store *store, uint64_t sequence)
{
    struct journal *journal = &store->journal;
    uint32_t drop = 0;
    while (drop < journal->chain_count && journal->chain[drop].sequence < sequence)
        segment_free(store, journal->chain[drop++].segment);
    assert(drop < journal->chain_count); /* the tail stays */
    memmove(journal->chain, journal->chain + drop,
            (journal->chain_count - drop) * sizeof *journal->chain);
    journal->chain_count -= drop;
}

void journal_enter(struct store *store, uint32_t segment, uint64_t sequence)
{
    struct journal *journal = &store->journal;
    journal->segment = segment;
    journal->sequence = sequence;
    journal->block = 1;
    chain_push(journal);
}

void journal_leave_segment(struct store *store)
{
    if (store->journal.next_segment != SEGMENT_NONE)
        store->journal.block = store->segment_blocks;
}

static bool next_segment(struct store *store)
{
    struct journal *journal = &store->journal;
    if (journal->next_segment == SEGMENT_NONE)
        return false;
    zone_seal(store, journal->segment);
    journal_enter(store, journal->next_segment, journal->sequence + 1);
    journal->next_segment = segment_take(store, SEGMENT_JOURNAL, URGENCY_JOURNAL);
    journal->header_due = true;
    return true;
}

static void seal_entry(struct store *store, struct journal_buf *buf)
{
    struct journal *journal = &store->journal;
    uint8_t *bytes = buf->bytes + STORE_BLOCK_BYTES;
    struct disk_journal_entry *entry = (struct disk_journal_entry *)(void *)bytes;
    memset(bytes + buf->used, 0, round_up(buf->used, STORE_BLOCK_BYTES) - buf->used);
    *entry = (struct disk_journal_entry){.magic = DISK_JOURNAL_ENTRY_MAGIC,
                                         .store_id = store->store_id,
                                         .sequence = journal->sequence,
                                         .lsn = buf->first_lsn,
                                         .flushed_lsn = journal->flushed_lsn,
                                         .prev_crc = journal->prev_crc,
                                         .bytes = buf->used,
                                         .count = buf->count};
    entry->crc = disk_journal_entry_crc(entry);
}

static void note_checkpoint_start(struct store *store, uint64_t first_lsn)
{
    struct checkpoint *checkpoint = &store->checkpoint;
    const struct journal *journal = &store->journal;
    if (!checkpoint->running || checkpoint->start_known || first_lsn < checkpoint->lsn)
        return;
    assert(first_lsn == checkpoint->lsn);
    checkpoint->start_known = true;
    checkpoint->start_sequence = journal->sequence;
    checkpoint->start_block = segment_block(store, journal->segment) + journal->block;
    checkpoint->start_prev_crc = journal->prev_crc;
}

/* All records up to lsn are durable, and by one of them that those up to proves are. */
static void made_durable(struct store *store, uint64_t lsn, uint64_t proves)
{
    struct journal *journal = &store->journal;
    assert(lsn >= journal->flushed_lsn && lsn <= journal->written_lsn && proves <= lsn);
    journal->flushed_lsn = lsn;
    journal->proven_lsn = MAX(journal->proven_lsn, proves);
    segment_reclaim(store);
}

static void write_done(struct disk_io *io)
{
    struct store *store = container_of(io, struct store, journal.write_io);
    struct journal *journal = &store->journal;
    struct journal_buf *buf = journal->writing;
    journal->writing = NULL;
    if (io->result < 0) {
        store_fence(store, "journal write", io->result);
    } else if (!store->fenced) {
        const struct disk_journal_entry *entry = (const void *)(buf->bytes + STORE_BLOCK_BYTES);
        journal->written_lsn = buf->first_lsn + buf->count - 1;
        journal->carried_lsn = entry->flushed_lsn;
        if (io->durable)
            made_durable(store, journal->written_lsn, journal->carried_lsn);
    }
    buf->room = 0;
    list_push_back(&journal->spare, &buf->link);
    waitq_wake_all(&store->space);
    journal_wake(store);
    journal_kick(store);
}

/* Does somebody wait for the entry to be durable, and may its own write make it so (J4)? Not on
 * zones: what a device owes to such a write in a zone that was just emptied is nowhere said. */
static bool durable_alone(const struct store *store, const struct journal_buf *buf)
{
    const struct journal *journal = &store->journal;
    const struct list *waiters = &journal->durable_waiters;
    uint64_t last = buf->first_lsn + buf->count - 1;
    bool wanted =
        journal->flushed_goal >= buf->first_lsn ||
        (!list_empty(waiters) && list_first(waiters, struct store_waiter, link)->lsn <= last);
    return wanted && journal->flushed_lsn == journal->written_lsn &&
           (buf->data_seq <= journal->flushed_seq || PLANT(STORE_ALONE_BLIND)) &&
           disk_info(store->disk)->zone_bytes == 0;
}

static void submit(struct store *store, struct journal_buf *buf)
{
    struct journal *journal = &store->journal;
    uint32_t blocks = (uint32_t)div_up(buf->used, STORE_BLOCK_BYTES);
    if (journal->block + blocks > store->segment_blocks && !next_segment(store)) {
        store_fence(store, "journal: no free segment", -ERR_NO_SPACE);
        return;
    }
    assert(journal->block + blocks <= store->segment_blocks);
    assert(buf->first_lsn == journal->written_lsn + 1);
    list_remove(&buf->link);
    journal->writing = buf;
    journal->pending_bytes -= buf->used - sizeof(struct disk_journal_entry);
    note_checkpoint_start(store, buf->first_lsn);
    seal_entry(store, buf);
    const struct disk_journal_entry *entry = (const void *)(buf->bytes + STORE_BLOCK_BYTES);
    journal->prev_crc = entry->crc;
    uint64_t at = segment_block(store, journal->segment) + journal->block;
    uint32_t head = journal->header_due ? 1 : 0;
    if (head) {
        assert(journal->block == 1);
        struct disk_journal_segment segment = {.store_id = store->store_id,
                                               .sequence = journal->sequence,
                                               .next_segment = journal->next_segment};
        disk_journal_segment_seal(&segment);
        memset(buf->bytes, 0, STORE_BLOCK_BYTES);
        memcpy(buf->bytes, &segment, sizeof segment);
        journal->header_due = false;
    }
    journal->write_io = (struct disk_io){.op = DISK_WRITE,
                                         .stream = DISK_JOURNAL,
                                         .offset = (at - head) * STORE_BLOCK_BYTES,
                                         .data = buf->bytes + (1 - head) * STORE_BLOCK_BYTES,
                                         .bytes = (blocks + head) * STORE_BLOCK_BYTES,
                                         .durable = durable_alone(store, buf),
                                         .done = write_done};
    store->health.flushes += journal->write_io.durable;
    journal->block += blocks;
    /* What it takes on the device: small entries are rounded up to a block. */
    journal->bytes_since_checkpoint += (uint64_t)blocks * STORE_BLOCK_BYTES - buf->used;
    store->health.journal_bytes += journal->write_io.bytes;
    disk_submit(store->disk, &journal->write_io);
}

static void flush_done(struct disk_io *io)
{
    struct store *store = container_of(io, struct store, journal.flush_io);
    struct journal *journal = &store->journal;
    journal->flushing = false;
    if (io->result < 0) {
        store_fence(store, "flush", io->result);
    } else if (!store->fenced) {
        journal->flushed_seq = journal->flush_seq;
        made_durable(store, journal->flush_lsn, journal->flush_proves);
    }
    journal_wake(store);
    journal_kick(store);
}

/* Dying segments wait for a proof (S3): flush, then have an entry say so, then flush that. */
static void advance_proof(struct store *store)
{
    struct journal *journal = &store->journal;
    uint64_t awaited = segment_awaited_lsn(store);
    if (awaited == 0 || !list_empty(&journal->pending) || journal->writing)
        return;
    if (awaited <= journal->flushed_lsn && awaited > journal->carried_lsn) {
        const struct disk_record record = {.type = DISK_RECORD_NOOP};
        (void)journal_append(store, &record, slice_of(NULL, 0), NULL, 0);
    }
    journal->written_goal = journal->next_lsn - 1;
    journal->flushed_goal = journal->next_lsn - 1;
}

static bool write_due(const struct journal *journal, const struct journal_buf *buf)
{
    bool last = journal->pending.prev == &buf->link;
    return !last || buf->used >= WRITE_EAGER_BYTES || journal->written_goal >= buf->first_lsn;
}

static bool flush_due(const struct journal *journal)
{
    if (journal->written_lsn <= journal->flushed_lsn)
        return false;
    if (journal->flushed_goal > journal->flushed_lsn &&
        journal->flushed_goal <= journal->written_lsn)
        return true;
    return !list_empty(&journal->durable_waiters) &&
           list_first(&journal->durable_waiters, struct store_waiter, link)->lsn <=
               journal->written_lsn;
}

static void flush(struct store *store)
{
    struct journal *journal = &store->journal;
    if (journal->flushing || store->fenced || !flush_due(journal))
        return;
    journal->flushing = true;
    journal->flush_lsn = journal->written_lsn;
    journal->flush_proves = journal->carried_lsn;
    journal->flush_seq = store->extents.done_seq;
    journal->flush_io = (struct disk_io){.op = DISK_FLUSH, .done = flush_done};
    store->health.flushes++;
    disk_submit(store->disk, &journal->flush_io);
}

/* The device has work, and gets it at the end of this turn: the next one is for the memtable. */
static void settle_soon(struct store *store)
{
    if (store->active->late_used >= SETTLE_BYTES && store->journal.settle_timer.heap_index == 0)
        timer_arm(&store->journal.settle_timer, env_now_ns());
}

static void settle_fired(struct timer *timer)
{
    memtable_settle(container_of(timer, struct store, journal.settle_timer)->active);
}

static void pump(struct store *store)
{
    struct journal *journal = &store->journal;
    if (store->fenced || store->recovering)
        return;
    if (!waitq_empty(&store->space))
        advance_proof(store);
    if (!journal->writing && !list_empty(&journal->pending)) {
        struct journal_buf *buf = list_first(&journal->pending, struct journal_buf, link);
        if (write_due(journal, buf)) {
            if (buf->data_seq <= store->extents.done_seq || PLANT(STORE_JOURNAL_FIRST))
                submit(store, buf);
            else
                extents_push(store); /* its completion kicks us again */
        }
    }
    flush(store);
    if (journal->writing || journal->flushing)
        settle_soon(store);
}

static void hook_fired(struct turn_hook *hook)
{
    struct store *store = container_of(hook, struct store, journal.hook);
    pump(store);
    journal_wake(store); /* who asked for what was there already */
}

static void lazy_fired(struct timer *timer)
{
    struct store *store = container_of(timer, struct store, journal.lazy_timer);
    store->journal.written_goal = store->journal.next_lsn - 1;
    extents_push(store);
    journal_kick(store);
}

static void flush_fired(struct timer *timer)
{
    struct store *store = container_of(timer, struct store, journal.flush_timer);
    struct journal *journal = &store->journal;
    if (store->fenced)
        return;
    journal->written_goal = journal->next_lsn - 1;
    journal->flushed_goal = journal->next_lsn - 1;
    advance_proof(store);
    if (journal->flushed_lsn < journal->next_lsn - 1 || segment_awaited_lsn(store) > 0)
        timer_arm(timer, env_now_ns() + store->options.flush_interval_ns);
    journal_kick(store);
}
