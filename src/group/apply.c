/* SPDX-License-Identifier: MIT */
/* Applying committed records to the store, one at a time, in order, on every member; and again,
 * the same way, when the journal is replayed. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "group/group_internal.h"

/* What record means for the table, into batch. */
static int record_batch(struct group *group, struct group_record *record, struct store_batch *batch)
{
    switch ((enum group_record_kind)record->kind) {
    case GROUP_RECORD_NOOP:
        return 0;
    case GROUP_RECORD_BATCH:
        return store_batch_append_bytes(batch, record_payload(record));
    case GROUP_RECORD_CONTENT: {
        const struct store_log_record content = {
            .group = group->id,
            .epoch = record->epoch,
            .seq = record->seq,
            .payload = record_payload(record),
            .extents = record->extents,
            .extent_count = record->extent_count,
        };
        return group_ops(group)->apply(group_context(group), group, &content, batch);
    }
    default:
        return -ERR_CORRUPT_DISK;
    }
}

static int apply_one(struct group *group, struct group_record *record)
{
    struct store_batch *batch = &group->batch;
    store_batch_reset(batch);
    int result = record_batch(group, record, batch);
    if (result < 0)
        return result;
    group_state_applied(group, batch, record->seq, record->epoch);
    group->last_lsn = store_apply(host_store(group->host), group->id, record->seq, batch);
    group->bytes += batch->extent_bytes;
    group->applied_seq = record->seq;
    group->applied_epoch = record->epoch;
    return 0;
}

static void give_up(struct group *group, int error)
{
    group->failed = true;
    log_error("group-apply",
              "group=%u seq=%llu error=%s why=\"%s\" effect=\"this replica is out of the group\" "
              "fix=\"restart the node; it then copies the group from another member\"",
              group->id, (unsigned long long)group->applied_seq + 1, error_name(error),
              error_text(error));
    if (group->valid)
        group_state_set_valid(group, false);
    group->role = ROLE_NONE;
    waitq_wake_all(&group->applied_waitq);
    waitq_wake_all(&group->state_waitq);
}

static bool more(const struct group *group)
{
    return !group->failed && group->applied_seq < MIN(group->commit_seq, group->apply_limit);
}

static void apply_fiber(void *arg)
{
    struct group *group = arg;
    while (more(group)) {
        struct group_record *record = log_at(&group->log, group->applied_seq + 1);
        record->refs++; /* apply may yield; the log stays, but be sure */
        int result = apply_one(group, record);
        if (result < 0) {
            record_put(record);
            give_up(group, result);
            break;
        }
        if (record->kind == GROUP_RECORD_BATCH)
            overlay_drop(&group->overlay, record);
        assert(group->window_bytes >= record->data.bytes);
        group->window_bytes -= record->data.bytes;
        record_put(record);
        uint64_t share = group->host->options.log_memory_bytes / MAX(group->host->group_count, 1u);
        log_trim(&group->log, group_needed_seq(group), MAX(share, (uint64_t)GROUP_LOG_BYTES_MIN));
        waitq_wake_all(&group->applied_waitq);
        waitq_wake_all(&group->room_waitq);
    }
    group->applying = false;
    waitq_wake_all(&group->state_waitq);
}

void group_apply_kick(struct group *group)
{
    if (group->applying || !more(group))
        return;
    group->applying = true;
    fiber_spawn("group-apply", apply_fiber, group);
}

/* Recovery: the same record, found in the journal, at the same point. */
int group_replay_apply(void *context, uint32_t id, uint64_t seq)
{
    struct group_host *host = context;
    struct group *group = group_find(host, id);
    if (!group)
        return -ERR_CORRUPT_DISK; /* a mark without its record */
    /* Not what we remember from the last mark: a scan may have begun since, with changes that are
     * not ours to replay (I7). */
    int result = group_state_load(group);
    if (result < 0 || seq <= group->applied_seq)
        return result; /* the checkpoint is newer than this mark */
    struct group_record *record = log_at(&group->log, seq);
    if (!record || seq != group->applied_seq + 1)
        return -ERR_CORRUPT_DISK;
    return apply_one(group, record);
}

int group_apply_held(struct group *group)
{
    assert(group->role == ROLE_NONE && !group->applying);
    int result = 0;
    while (result == 0 && group->applied_seq < group_last(group))
        result = apply_one(group, log_at(&group->log, group->applied_seq + 1));
    return result;
}
