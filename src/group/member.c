/* SPDX-License-Identifier: MIT */
/* A member takes records from the primary. Runs in arrival order and does not yield, so the log
 * grows in the order of sending. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"
#include "group/group_internal.h"

/* Give the record's data a place on our device. Pieces as the primary cut them. */
static int place_data(struct group *group, struct group_record *record, const uint32_t *blocks,
                      uint32_t extent_count, struct buf_slice data)
{
    uint32_t offset = 0;
    for (uint32_t i = 0; i < extent_count; i++) {
        uint32_t bytes = blocks[i] * STORE_BLOCK_BYTES;
        int result = store_extent_write(host_store(group->host),
                                        (struct buf_slice){data.buf, data.offset + offset, bytes},
                                        blocks[i], &record->extents[i]);
        if (result < 0)
            return result;
        record->extent_count++;
        offset += bytes;
    }
    record->data = data;
    if (data.buf)
        buf_get(data.buf);
    return 0;
}

/* Bounds of one record of a PREPARE; what the payload means is checked when it is applied.
 * 0 or -ERR_CORRUPT_WIRE. */
static int unpack(struct reader *reader, uint32_t payload_room, struct wire_group_record *row,
                  struct slice *ret_payload, uint32_t blocks[GROUP_EXTENTS_MAX])
{
    reader_copy(reader, row, sizeof *row);
    if (!reader_ok(reader) || row->extent_count > GROUP_EXTENTS_MAX ||
        row->payload_bytes > GROUP_PAYLOAD_MAX || row->data_bytes > payload_room ||
        row->kind < GROUP_RECORD_BATCH || row->kind > GROUP_RECORD_NOOP)
        return -ERR_CORRUPT_WIRE;
    const void *payload = reader_take(reader, round_up(row->payload_bytes, 8));
    const void *counts = reader_take(reader, round_up(row->extent_count * sizeof(uint32_t), 8));
    if (!reader_ok(reader))
        return -ERR_CORRUPT_WIRE;
    memcpy(blocks, counts, row->extent_count * sizeof(uint32_t));
    uint64_t total = 0;
    for (uint32_t i = 0; i < row->extent_count; i++) {
        if (blocks[i] == 0 || blocks[i] > STORE_EXTENT_BLOCKS_MAX)
            return -ERR_CORRUPT_WIRE;
        total += blocks[i];
    }
    if (total * STORE_BLOCK_BYTES != row->data_bytes)
        return -ERR_CORRUPT_WIRE;
    *ret_payload = slice_of(payload, row->payload_bytes);
    if (row->kind != GROUP_RECORD_BATCH)
        return 0;
    struct slice key, value;
    uint32_t cursor = 0;
    int result;
    while ((result = store_batch_next(*ret_payload, &cursor, &key, &value)) == 1) {
    }
    return result;
}

static int take_record(struct group *group, struct reader *reader, struct buf_slice data)
{
    struct wire_group_record row;
    struct slice payload;
    uint32_t blocks[GROUP_EXTENTS_MAX];
    int result = unpack(reader, data.bytes, &row, &payload, blocks);
    if (result < 0)
        return result;
    const struct group_record *held = log_at(&group->log, row.seq);
    bool same = held && (held->epoch == row.epoch || PLANT(GROUP_SUFFIX_KEPT));
    if (row.seq <= group->applied_seq || same)
        return 0; /* sent again */
    if (row.seq > group_last(group) + 1)
        return -ERR_GAP; /* I4 */
    if (held)            /* I5: ours gives way */
        group_log_cut(group, row.seq - 1);
    struct group_record *record = record_new(group->kind, row.kind, payload);
    record->seq = row.seq;
    record->epoch = row.epoch;
    result = place_data(group, record, blocks, row.extent_count, data);
    if (result < 0) {
        for (uint32_t i = 0; i < record->extent_count; i++)
            store_extent_drop(host_store(group->host), record->extents[i]);
        record_put(record);
        return result;
    }
    group_log_add(group, record);
    return 0;
}

void serve_prepare(void *service, struct rpc_request *request)
{
    struct group_host *host = service;
    const struct wire_prepare_req *prepare = request->body;
    struct group *group = request_group(host, request);
    if (!group)
        return;
    if (group_is_primary(group) || group->failed) {
        rpc_reply_status(request, -ERR_WRONG_EPOCH);
        return;
    }
    struct store_health health;
    store_health(host_store(host), &health);
    if (health.fenced) { /* I8: what we take now would never get to the device */
        rpc_reply_status(request, -ERR_FENCED);
        return;
    }
    struct reader reader;
    reader_init(&reader, request->tail.data, request->tail.bytes);
    int result = 0;
    for (uint32_t i = 0; i < prepare->record_count && result == 0; i++)
        result = take_record(group, &reader, request->payload);
    uint64_t commit = MIN(prepare->commit_seq, group_last(group));
    if (result == 0 && commit > group->commit_seq) {
        group->commit_seq = commit;
        group_apply_kick(group);
    }
    struct store_space space;
    store_space(host_store(host), &space);
    const struct wire_prepare_rep reply = {.held_seq = group_last(group),
                                           .free_bytes = space.free_bytes};
    group_check(group);
    waitq_wake_all(&group->state_waitq);
    rpc_reply(request, result, &reply, (struct slice){0}, (struct buf_slice){0});
}

void serve_reconcile(void *service, struct rpc_request *request)
{
    struct group_host *host = service;
    const struct wire_reconcile_req *reconcile = request->body;
    struct group *group = request_group(host, request);
    if (!group)
        return;
    if (group->role != ROLE_MEMBER || group->failed) {
        rpc_reply_status(request, -ERR_WRONG_EPOCH);
        return;
    }
    if (reconcile->last_seq < group->applied_seq) {
        /* We have applied what the new primary does not hold: it was not chosen from the in-sync
         * members, which the map never does. Do not follow it. */
        log_error("group-diverged",
                  "group=%u epoch=%u applied=%llu primary_last=%llu effect=\"this replica stays "
                  "out\" fix=\"report this as a bug\"",
                  group->id, group->epoch, (unsigned long long)group->applied_seq,
                  (unsigned long long)reconcile->last_seq);
        rpc_reply_status(request, -ERR_CORRUPT_DISK);
        return;
    }
    /* I5: the log ends there. Once an epoch: what came since is this primary's, and acknowledged; a
     * request that was sent twice must not take it away. */
    if (group_last(group) > reconcile->last_seq && group->reconciled_epoch != group->epoch &&
        !PLANT(GROUP_SUFFIX_KEPT))
        group_log_cut(group, reconcile->last_seq);
    group->reconciled_epoch = group->epoch;
    struct wire_group_held *held = mem_alloc(GROUP_HELD_MAX * sizeof *held);
    uint32_t count = 0;
    for (uint64_t seq = group->applied_seq + 1; seq <= group_last(group) && count < GROUP_HELD_MAX;
         seq++)
        held[count++] = (struct wire_group_held){seq, log_at(&group->log, seq)->epoch, 0};
    const struct wire_reconcile_rep reply = {
        .applied_seq = group->applied_seq,
        .applied_epoch = group->applied_epoch,
        .held_count = count,
        .valid = group->valid,
    };
    rpc_reply(request, 0, &reply, slice_of(held, count * sizeof *held), (struct buf_slice){0});
    mem_free(held);
}
