/* SPDX-License-Identifier: MIT */
/* What a replica knows of itself, durably: how far it has applied, the history of epochs, whether
 * it is a complete copy (format/disk_group.h). The first two change in the very batch that applies
 * a record, so they are exactly as new as the content (I7). */
#include "base/assert.h"
#include "group/group_internal.h"

enum state_row { STATE_APPLIED = 0, STATE_HISTORY = 1, STATE_VALID = 2 };

static struct slice state_key(uint8_t key[6], const struct group *group, enum state_row row)
{
    be32_store(key, group->id);
    key[4] = GROUP_TABLE_STATE;
    key[5] = (uint8_t)row;
    return slice_of(key, 6);
}

int group_state_load(struct group *group)
{
    uint8_t key[6];
    struct store *store = host_store(group->host);
    struct disk_group_applied applied = {0};
    struct disk_group_valid valid = {0};
    int bytes = store_get(store, state_key(key, group, STATE_APPLIED), &applied, sizeof applied);
    if (bytes < 0 && bytes != -ENOENT)
        return bytes;
    group->applied_seq = applied.seq;
    group->applied_epoch = applied.epoch;
    group->bytes = applied.bytes;
    bytes = store_get(store, state_key(key, group, STATE_VALID), &valid, sizeof valid);
    if (bytes < 0 && bytes != -ENOENT)
        return bytes;
    group->valid = valid.valid;
    group->history_count = 0;
    bytes = store_get(store, state_key(key, group, STATE_HISTORY), group->history,
                      sizeof group->history);
    if (bytes < 0 && bytes != -ENOENT)
        return bytes;
    group->history_count = bytes > 0 ? (uint32_t)bytes / (uint32_t)sizeof group->history[0] : 0;
    return 0;
}

/* The table's row for where we are. */
static void put_applied(struct group *group, struct store_batch *batch, uint64_t seq,
                        uint32_t epoch)
{
    uint8_t key[6];
    const struct disk_group_applied applied = {
        .seq = seq, .epoch = epoch, .bytes = group->bytes + batch->extent_bytes};
    store_batch_put(batch, state_key(key, group, STATE_APPLIED),
                    slice_of(&applied, sizeof applied));
}

static void put_history(struct group *group, struct store_batch *batch)
{
    uint8_t key[6];
    store_batch_put(batch, state_key(key, group, STATE_HISTORY),
                    slice_of(group->history, group->history_count * sizeof group->history[0]));
}

void group_state_applied(struct group *group, struct store_batch *batch, uint64_t seq,
                         uint32_t epoch)
{
    assert(seq == group->applied_seq + 1);
    put_applied(group, batch, seq, epoch);
    if (group->history_count && group->history[group->history_count - 1].epoch == epoch)
        return;
    if (group->history_count == DISK_GROUP_HISTORY_MAX) {
        memmove(group->history, group->history + 1,
                (DISK_GROUP_HISTORY_MAX - 1) * sizeof group->history[0]);
        group->history_count--;
    }
    group->history[group->history_count++] =
        (struct disk_group_epoch){.first_seq = seq, .epoch = epoch};
    put_history(group, batch);
}

void group_state_set_valid(struct group *group, bool valid)
{
    uint8_t key[6];
    const struct disk_group_valid row = {.valid = valid};
    struct store_batch batch;
    store_batch_init(&batch);
    store_batch_put(&batch, state_key(key, group, STATE_VALID), slice_of(&row, sizeof row));
    group->last_lsn = store_commit(host_store(group->host), &batch);
    store_batch_fini(&batch);
    group->valid = valid;
}

void group_state_installed(struct group *group, struct store_batch *batch)
{
    put_applied(group, batch, group->applied_seq, group->applied_epoch);
}

void group_state_jump(struct group *group, uint64_t seq, uint32_t epoch)
{
    struct store_batch batch;
    assert(!group->valid && !group->applying);
    overlay_clear(&group->overlay);
    (void)store_log_truncate(host_store(group->host), group->id, 0);
    log_reset(&group->log, seq);
    group->window_bytes = 0;
    group->history_count = 0;
    if (seq)
        group->history[group->history_count++] =
            (struct disk_group_epoch){.first_seq = seq, .epoch = epoch};
    store_batch_init(&batch);
    put_applied(group, &batch, seq, epoch);
    put_history(group, &batch);
    group->last_lsn = store_commit(host_store(group->host), &batch);
    store_batch_fini(&batch);
    group->written_seq = group->written_target = group->durable_seq = 0;
    group->jump_count++;
    group->applied_seq = group->commit_seq = group->apply_limit = seq;
    group->applied_epoch = epoch;
    be32_store(group->install_next, group->id);
    group->install_next[4] = SCAN_FIRST_TABLE;
    group->install_next_bytes = 5;
}

bool group_history_has(const struct group *group, uint64_t seq, uint32_t epoch)
{
    if (seq == 0)
        return true; /* nothing is a prefix of everything */
    if (seq > group->applied_seq)
        return false;
    for (uint32_t i = group->history_count; i > 0; i--) {
        if (group->history[i - 1].first_seq <= seq)
            return group->history[i - 1].epoch == epoch;
    }
    return false; /* has left the history */
}
