/* SPDX-License-Identifier: MIT */
/* Checkpoint: make the journal forgettable.
 *
 *   freeze (no yield)   active -> frozen; LSN P := next; segment table of data as of P;
 *                       owner logs its prepared records again, behind P
 *   merge (paced)       frozen + newest tree -> new nodes, written beside the old ones; writers may
 *                       not be ahead of it, nor it much ahead of them (space.c, tree_merge.c)
 *   seal                journal durable up to the records logged again; segment table; flush
 *   superblock          two slots, flushed: recovery now starts at P
 *   publish (no yield)  new tree for readers, frozen dropped, journal before P and nodes of the
 *                       old tree let go
 *
 * Writers go on all the time; what they change after P is in the new active memtable and in the
 * journal behind P. If a crash comes before the superblock is durable, all that was written is
 * unreferenced and the old superblock, tree and journal are complete.
 *
 * K1  State at P = old tree + old journal up to P = new tree. Replay from P onto it repeats
 *     everything after.
 * K2  Nothing the durable superblock refers to is freed before the next one is durable.
 * K3  One checkpoint at a time. A failed one (no space) leaves frozen in place; the next tries to
 *     merge it again before anything newer.
 */
#include "store/store_internal.h"

#include "base/crc32c.h"
#include "base/log.h"
#include "base/plant.h"

#define RETRY_NS (200 * NS_PER_MS)

void checkpoint_init(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;
    waitq_init(&checkpoint->wake);
    waitq_init(&checkpoint->done);
    checkpoint->ended_ns = env_now_ns();
    uint64_t device = (uint64_t)store->segment_count * store->segment_blocks * STORE_BLOCK_BYTES;
    uint64_t segment = (uint64_t)store->segment_blocks * STORE_BLOCK_BYTES;
    checkpoint->journal_bytes_max = MAX(MIN(256 * MIB, device / 32), segment / 4);
    /* What it may add to the tree is kept free (segment_node_headroom). */
    uint64_t room = MAX(device / 128, MIB / 2);
    checkpoint->memtable_bytes_max = MIN(64 * MIB, store->options.memory_bytes / 8);
    checkpoint->memtable_bytes_max = MIN(checkpoint->memtable_bytes_max, room);
}

void checkpoint_kick(struct store *store)
{
    if (!store->checkpoint.wanted) {
        store->checkpoint.wanted = true;
        waitq_wake_all(&store->checkpoint.wake);
    }
}

int checkpoint_now(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;
    /* One that runs now may have frozen before the caller's changes: wait for the one after. */
    uint64_t target = checkpoint->sequence + (checkpoint->running ? 2 : 1);
    while (checkpoint->sequence < target && !store->fenced) {
        checkpoint->wanted = true;
        waitq_wake_all(&checkpoint->wake);
        (void)!waitq_wait(&checkpoint->done, 0);
        if (checkpoint->failing)
            return -ERR_NO_SPACE;
    }
    return store->fenced ? -ERR_FENCED : 0;
}

static void snapshot_rows(struct store *store)
{
    struct disk_segment_row *rows = store->checkpoint.rows;
    for (uint32_t i = 0; i < store->segment_count; i++) {
        const struct segment *segment = &store->segments[i];
        rows[i] = (struct disk_segment_row){0};
        if (segment->state == SEGMENT_DATA) {
            rows[i].state = DISK_SEGMENT_DATA;
            rows[i].live_blocks = segment->live;
        }
    }
}

/* Freeze. Returns the last LSN that must be durable before the superblock. */
static uint64_t freeze(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;
    struct journal *journal = &store->journal;
    assert(!store->frozen);
    no_yield_begin();
    memtable_settle(store->active);
    store->frozen = store->active;
    store->active = memtable_new(&store->memtable_pool);
    checkpoint->merged_rows = 0;
    store->version++;
    journal_cut(store);
    checkpoint->lsn = journal->next_lsn;
    checkpoint->start_known = false;
    journal->bytes_since_checkpoint = 0;
    snapshot_rows(store);
    if (store->options.log_ops->relog && !PLANT(STORE_RELOG_SKIPPED))
        store->options.log_ops->relog(store->options.context);
    no_yield_end();
    return journal->next_lsn - 1;
}

/* The table as recovery is to find it: data as of P, nodes as of the new tree. */
static int write_rows(struct store *store, struct disk_pointer *ret_pointer)
{
    uint32_t used = store->segment_count * (uint32_t)sizeof(struct disk_segment_row);
    uint32_t bytes = (uint32_t)round_up(used, STORE_BLOCK_BYTES);
    struct disk_pointer pointer;
    int result = node_space(store, bytes, &pointer);
    if (result < 0)
        return result;
    struct disk_segment_row *rows = mem_alloc_aligned(bytes, STORE_BLOCK_BYTES);
    memset(rows, 0, bytes);
    memcpy(rows, store->checkpoint.rows, used);
    for (uint32_t i = 0; i < store->segment_count; i++) {
        const struct segment *segment = &store->segments[i];
        if (segment->state != SEGMENT_NODE)
            continue;
        assert(segment->live >= segment->garbage); /* S5: there may be a row of data */
        rows[i] = (struct disk_segment_row){.state = DISK_SEGMENT_NODE,
                                            .open = segment->open,
                                            .live_blocks = segment->live - segment->garbage,
                                            .frontier_blocks = segment->frontier};
    }
    pointer.crc = crc32c(0, rows, bytes);
    for (uint32_t copy = 0; copy < 2 && result == 0; copy++)
        result = disk_write(store->disk, pointer.block[copy] * STORE_BLOCK_BYTES, rows, bytes);
    mem_free(rows);
    if (result < 0)
        store_fence(store, "segment table write", result);
    *ret_pointer = pointer;
    return result;
}

static void fill_super(struct store *store, struct disk_superblock *super)
{
    const struct checkpoint *checkpoint = &store->checkpoint;
    const struct journal *journal = &store->journal;
    super->journal_lsn = checkpoint->lsn;
    super->flushed_lsn = journal->flushed_lsn;
    if (checkpoint->start_known) {
        super->journal_sequence = checkpoint->start_sequence;
        super->journal_block = checkpoint->start_block;
        super->journal_prev_crc = checkpoint->start_prev_crc;
    } else {
        /* Nothing behind P has been submitted: it will begin at the tail, or, if it does not fit
         * there, in the next segment, which recovery tries too. */
        assert(journal->written_lsn < checkpoint->lsn && !journal->writing);
        super->journal_sequence = journal->sequence;
        super->journal_block =
            segment_block(store, journal->segment) + MIN(journal->block, store->segment_blocks - 1);
        super->journal_prev_crc = journal->prev_crc;
    }
}

static void publish(struct store *store)
{
    no_yield_begin();
    struct tree *next = tree_new(&store->super.root, store->super.root_level);
    list_push_back(&store->trees, &next->link);
    memtable_free(store->frozen);
    store->frozen = NULL;
    store->version++;
    journal_trim(store, store->super.journal_sequence);
    store->checkpoint.running = false;
    store->tree_blocks = 0;
    for (uint32_t i = 0; i < store->segment_count; i++)
        if (store->segments[i].state == SEGMENT_NODE)
            store->tree_blocks += store->segments[i].live - store->segments[i].garbage;
    tree_collect(store);
    store->health.checkpoints++;
    no_yield_end();
}

/* What a failed attempt has written is unused: give it back, and forget what it would drop. */
static void undo(struct store *store, struct tree *tree, uint32_t garbage_before)
{
    while (tree->garbage_count > garbage_before) {
        const struct tree_garbage *garbage = &tree->garbage[--tree->garbage_count];
        store->segments[segment_of(store, garbage->block)].garbage -= 2 * garbage->blocks;
    }
    struct node_log *log = &store->checkpoint.written;
    for (uint32_t i = 0; i < log->count; i++) {
        uint32_t index = segment_of(store, log->items[i].block);
        struct segment *segment = &store->segments[index];
        assert(segment->live >= 2 * log->items[i].blocks);
        segment->live -= 2 * log->items[i].blocks;
        store->live_nodes -= 2 * log->items[i].blocks;
        if (segment->live == 0 && !segment->open)
            segment_free(store, index);
    }
    log->count = 0;
}

static int run(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;
    checkpoint->running = true;
    checkpoint->written.count = 0;
    if (!store->frozen)
        checkpoint->must_flush_lsn = freeze(store);
    struct tree *tree = tree_hold(store);
    uint32_t garbage_before = tree->garbage_count;
    struct disk_superblock super = store->super;
    node_clean_prepare(store, tree);
    int result = tree_merge(store, tree, &super.root, &super.root_level);
    checkpoint->sealing = result == 0;
    if (result == 0)
        result = store_wait_durable(store, checkpoint->must_flush_lsn);
    if (result == 0) {
        /* The old table goes with the tree version that it came with. */
        if (super.segments.block[0])
            tree_garbage_add(store, tree, super.segments.block[0],
                             super.segments.bytes / STORE_BLOCK_BYTES);
        result = write_rows(store, &super.segments);
    }
    if (result == 0 && !PLANT(STORE_SUPER_UNFLUSHED))
        result = disk_flush(store->disk);
    if (result == 0) {
        fill_super(store, &super);
        result = superblock_write(store, &super);
    }
    if (result == 0)
        publish(store);
    else
        undo(store, tree, garbage_before);
    checkpoint->sealing = false;
    tree_release(store, tree);
    return result;
}

static bool due(const struct store *store)
{
    return store->checkpoint.wanted && !store->fenced;
}

void checkpoint_fiber(void *arg)
{
    struct store *store = arg;
    struct checkpoint *checkpoint = &store->checkpoint;
    while (!store->stopping) {
        if (!due(store)) {
            (void)!waitq_wait(&checkpoint->wake, 0);
            continue;
        }
        checkpoint->wanted = false;
        int result = run(store);
        if (result == 0) {
            checkpoint->sequence++;
        } else {
            if (!checkpoint->failing)
                log_error("store-checkpoint-failed", "error=%s", error_name(result));
            checkpoint->wanted = true;
        }
        checkpoint->failing = result < 0;
        checkpoint->ended_ns = env_now_ns();
        waitq_wake_all(&checkpoint->done);
        waitq_wake_all(&store->space);
        cleaner_kick(store);
        if (result < 0 && !store->stopping)
            (void)!waitq_wait(&store->space, env_now_ns() + RETRY_NS);
    }
    checkpoint->running = false;
    store->fibers--;
    waitq_wake_all(&store->stopped);
}
