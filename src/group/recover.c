/* SPDX-License-Identifier: MIT */
/* A new primary makes the members' logs equal to its own, commits all it holds, then serves (I5).
 *
 *   1. RECONCILE with every in-sync member: it drops what lies behind our log's end and tells what
 *      it holds; sending goes on behind the longest common prefix.
 *   2. A no-op of our epoch is appended; when it commits, everything before it has.
 *   3. The overlay is empty then (all is applied). A new group is flushed: an empty copy that is on
 *      no device is none for the map (M3), so after a loss of all memory the group would be lost.
 *   4. The content rebuilds what it keeps in memory.
 *
 * The fiber ends when the epoch changes: a later one has its own. */
#include "base/assert.h"
#include "base/log.h"
#include "group/group_internal.h"

static bool still(const struct group *group, uint32_t epoch)
{
    return group->epoch == epoch && group_is_primary(group);
}

/* How far the member's log is ours. What we have applied was committed, so an in-sync member holds
 * it (I2), whether or not our log and history reach back that far: ours may begin with a scan. */
static uint64_t common_prefix(const struct group *group, const struct wire_reconcile_rep *reply,
                              struct slice tail)
{
    uint64_t seq = reply->applied_seq;
    for (uint32_t i = 0; i < reply->held_count; i++) {
        struct wire_group_held held;
        if ((i + 1) * sizeof held > tail.bytes)
            break;
        memcpy(&held, (const uint8_t *)tail.data + i * sizeof held, sizeof held);
        const struct group_record *ours = log_at(&group->log, held.seq);
        bool same = ours ? ours->epoch == held.epoch : held.seq <= group->applied_seq;
        if (held.seq != seq + 1 || !same)
            break;
        seq = held.seq;
    }
    return seq;
}

static int reconcile(struct group *group, struct member *member)
{
    const struct wire_reconcile_req body = {.last_seq = group_last(group),
                                            .commit_seq = group->commit_seq};
    uint32_t epoch = group->epoch;
    struct rpc_call call = {
        .type = RPC_RECONCILE,
        .group = group->id,
        .epoch = epoch,
        .body = &body,
        .deadline_ns = env_now_ns() + GROUP_SILENCE_NS,
    };
    struct net_addr addr = member->addr;
    int result = rpc_call(group->host->rpc, &addr, &call);
    struct wire_reconcile_rep reply;
    struct slice tail;
    if (still(group, epoch) && result == 0 && rpc_reply_body(&call, &reply, sizeof reply, &tail)) {
        uint64_t held_seq = common_prefix(group, &reply, tail);
        if (reply.applied_seq > group_last(group) || !reply.valid ||
            held_seq + 1 < group->log.first_seq) {
            result = -ERR_CORRUPT_WIRE;
        } else {
            member->held_seq = member->sent_seq = member->asked_seq = held_seq;
            member->commit_sent_seq = 0;
            member->reconciled = true;
            member->progress_ns = env_now_ns();
        }
    }
    if (result == -ERR_CONN_REFUSED && still(group, epoch))
        map_client_suspect(group->host->map, member->node, member->incarnation);
    rpc_call_fini(&call);
    return result;
}

/* False if the epoch has changed. */
static bool reconcile_all(struct group *group, uint32_t epoch)
{
    uint64_t since_ns = env_now_ns();
    for (;;) {
        bool all = true;
        for (uint32_t i = 0; i < group->member_count && still(group, epoch); i++) {
            struct member *member = &group->members[i];
            if (member->state != MAP_MEMBER_IN_SYNC || member->reconciled)
                continue;
            if (reconcile(group, member) == 0)
                continue;
            all = false;
            if (still(group, epoch) && env_now_ns() - since_ns > GROUP_SILENCE_NS) {
                int dropped =
                    map_client_change_group(group->host->map, group->id, epoch, GROUP_CHANGE_DROP,
                                            member->node, env_now_ns() + GROUP_SILENCE_NS);
                (void)dropped; /* the new epoch tells */
            }
        }
        if (!still(group, epoch))
            return false;
        if (all)
            return true;
        fiber_sleep(GROUP_RETRY_NS);
    }
}

/* A primary that stays so finds an in-sync member whose log it does not know: a new process that
 * the map took in. */
static void reconcile_fiber(void *arg)
{
    struct group *group = arg;
    (void)reconcile_all(group, group->epoch); /* false: the new epoch has seen to it */
    group_send_soon(group);
}

void group_reconcile_strangers(struct group *group)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].state == MAP_MEMBER_IN_SYNC && !group->members[i].reconciled) {
            fiber_spawn("group-reconcile", reconcile_fiber, group);
            return;
        }
    }
}

/* The data of a record that came from the journal, from our device. Its extents are pinned until it
 * is applied. */
static int read_data(struct group *group, const struct group_record *record, struct buf *buf)
{
    uint32_t offset = 0;
    for (uint32_t i = 0; i < record->extent_count; i++) {
        const struct store_extent extent = record->extents[i];
        int result = store_extent_read(host_store(group->host), extent, 0, extent.blocks,
                                       buf->data + offset);
        if (result < 0)
            return result;
        offset += extent.blocks * STORE_BLOCK_BYTES;
    }
    return 0;
}

static uint32_t data_bytes(const struct group_record *record)
{
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < record->extent_count; i++)
        bytes += record->extents[i].blocks * STORE_BLOCK_BYTES;
    return bytes;
}

/* A member may lack records that are not committed: we must be able to send them. */
static int load_suffix(struct group *group, uint32_t epoch)
{
    for (uint64_t seq = group->commit_seq + 1; still(group, epoch) && seq <= group_last(group);
         seq++) {
        struct group_record *record = log_at(&group->log, seq);
        if (!record || !record->extent_count || record->data.buf)
            continue;
        struct buf *buf = buf_new(data_bytes(record));
        record->refs++;
        int result = read_data(group, record, buf);
        /* Once applied, what was read may have been somebody else's already. */
        if (result == 0 && seq > group->applied_seq && log_at(&group->log, seq) == record) {
            record->data = (struct buf_slice){buf_get(buf), 0, data_bytes(record)};
            group->log.bytes += record->data.bytes;
            group->window_bytes += record->data.bytes;
        }
        record_put(record);
        buf_put(buf);
        if (result < 0)
            return result;
    }
    return 0;
}

void recover_fiber(void *arg)
{
    struct group *group = arg;
    uint32_t epoch = group->epoch;
    uint64_t seq = 0;
    if (group->recover_epoch == epoch || group->role != ROLE_RECOVERING)
        return; /* the epoch changed again before we ran: one fiber is enough */
    group->recover_epoch = epoch;
    int result;
    while ((result = load_suffix(group, epoch)) < 0 && still(group, epoch)) {
        log_warn("group-load", "group=%u epoch=%u error=%s effect=\"not serving yet\"", group->id,
                 epoch, error_name(result));
        fiber_sleep(GROUP_SILENCE_NS);
    }
    if (!still(group, epoch) || !reconcile_all(group, epoch))
        return;
    const struct group_append noop = {.kind = GROUP_RECORD_NOOP};
    while (still(group, epoch) && group_append(group, &noop, &seq) < 0)
        fiber_sleep(GROUP_RETRY_NS); /* no lease at the moment */
    while (still(group, epoch) && group->applied_seq < seq)
        (void)waitq_wait(&group->applied_waitq, 0); /* ends with the record or the epoch */
    while (seq == 1 && still(group, epoch) && group_flush(group) < 0)
        fiber_sleep(GROUP_RETRY_NS);
    if (!still(group, epoch))
        return;
    assert(group->overlay.count == 0 && group->applied_seq == group_last(group));
    group->in_serving = true;
    while ((result = group_ops(group)->serving(group_context(group), group)) < 0) {
        if (!still(group, epoch)) {
            group->in_serving = false;
            return;
        }
        log_warn("group-serving", "group=%u epoch=%u error=%s effect=\"not serving yet\"",
                 group->id, epoch, error_name(result));
        fiber_sleep(GROUP_RETRY_NS);
    }
    group->in_serving = false;
    if (!still(group, epoch)) {
        group_ops(group)->ceased(group_context(group), group);
        return;
    }
    group->role = ROLE_PRIMARY;
    log_info("group-primary", "group=%u epoch=%u in_sync=%u last=%llu", group->id, epoch,
             group->in_sync_count, (unsigned long long)group_last(group));
    waitq_wake_all(&group->state_waitq);
    group_send_soon(group);
}
