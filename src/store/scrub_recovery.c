/* SPDX-License-Identifier: MIT */
/* Scrub of what a recovery would begin with: the superblock and the journal behind it.
 *
 * While the store is open, what they say is in memory as well. So neither is mended in place: a
 * checkpoint makes what is bad unnecessary. It writes two new superblocks to other slots, and its
 * tree has everything that the journal before it says.
 *
 * SR1  The superblock is good if it is there twice, whatever the copies' numbers are: after the
 *      loss of the newer copy, the store goes on from the older one.
 * SR2  The journal is good if recovery's scan, from where the superblock says, reaches what had
 *      been written before the scan began, and every segment's head on the way is good, too: the
 *      last one's will be needed when the journal goes on behind it.
 * SR3  A bad segment is left before the checkpoint starts, or a later recovery would begin in it.
 * SR4  What a checkpoint has replaced, or is replacing, while it was read is not judged.
 */
#include "base/log.h"
#include "store/scan.h"
#include "store/scrub.h"

enum { SLOTS_BYTES = DISK_SUPER_SLOTS * DISK_SUPER_BYTES };

static bool same_state(const struct disk_superblock *super, const struct disk_superblock *other)
{
    struct disk_superblock copy = *super;
    copy.sequence = other->sequence;
    copy.crc = other->crc;
    return memcmp(&copy, other, sizeof copy) == 0;
}

static bool super_good(struct scrub *scrub)
{
    const struct store *store = scrub->store;
    const struct disk_superblock newest = store->super;
    uint32_t wanted = newest.sequence == 1 ? 1 : 2, found = 0; /* format writes one */
    uint8_t *slots = mem_alloc_aligned(SLOTS_BYTES, STORE_BLOCK_BYTES);
    int result = superblock_slots_read(store->disk, slots);
    for (uint32_t i = 0; i < DISK_SUPER_SLOTS && result == 0; i++) {
        const struct disk_superblock *super = (const void *)(slots + i * DISK_SUPER_BYTES);
        found += disk_superblock_check(super) == 0 && same_state(super, &newest);
    }
    mem_free(slots);
    /* SR4: other slots are written, but on zones the log that the older copy is in is emptied. */
    bool replaced = store->checkpoint.running || store->super.sequence != newest.sequence;
    scrub_pace(scrub, SLOTS_BYTES);
    return found >= wanted || replaced;
}

/* SR2 */
static bool journal_good(struct scrub *scrub)
{
    struct store *store = scrub->store;
    uint64_t sequence = store->super.sequence, written = store->journal.written_lsn;
    struct scan scan;
    const struct disk_journal_entry *entry;
    if (written < store->super.journal_lsn)
        return true; /* nothing yet */
    bool good = scan_init(&scan, store) == 0;
    if (good) {
        while (scan.at.head_ok && scan.at.lsn <= written && store->super.sequence == sequence &&
               !store->stopping && (entry = scan_next(&scan)) != NULL)
            scrub_pace(scrub, round_up(entry->bytes, STORE_BLOCK_BYTES));
        good = scan.at.head_ok && scan.at.lsn > written;
        scan_fini(&scan);
    }
    return good || store->stopping || store->super.sequence != sequence;
}

/* SR3. 0, or an error of the checkpoint. */
static int leave_journal(struct store *store)
{
    const struct disk_record record = {.type = DISK_RECORD_NOOP};
    journal_leave_segment(store);
    uint64_t lsn = journal_append(store, &record, slice_of(NULL, 0), NULL, 0);
    int result = store_wait_durable(store, lsn);
    return result < 0 ? result : checkpoint_now(store);
}

static void tell(const char *what, int result)
{
    if (result == 0)
        log_warn("store-scrub-repaired", "what=\"%s\" how=\"by a checkpoint\"", what);
    else
        log_error("store-scrub-bad",
                  "what=\"%s\" error=%s effect=\"as long as no checkpoint succeeds, a restart may "
                  "lose what this node has not got from others\"",
                  what, error_name(result));
}

void scrub_recovery(struct scrub *scrub)
{
    struct store *store = scrub->store;
    if (store->options.read_only || store->fenced)
        return;
    if (!super_good(scrub) && !store->stopping) {
        int result = checkpoint_now(store);
        tell("a copy of the superblock", result);
        store->health.super_repairs += result == 0;
    }
    if (!journal_good(scrub) && !store->stopping) {
        int result = leave_journal(store);
        tell("the journal", result);
        store->health.journal_repairs += result == 0;
    }
}
