/* SPDX-License-Identifier: MIT */
/* The frame of every change that the primary makes: lock, look, log, wait (theory in service.c). */
#include "data/data_internal.h"

int data_change_begin(struct data_service *service, const struct rpc_request *request,
                      uint64_t first, uint64_t end, struct data_change *change)
{
    const struct wire_obj_req *body = request->body;
    bool freeing = request->header->type != RPC_OBJ_WRITE || (body->flags & OBJ_ASK);
    uint32_t group_number = request->header->group;
    int result = group_find_serving(service->host, group_number, request->header->epoch, true,
                                    &change->group);
    if (result < 0)
        return result;
    change->service = service;
    change->dg = data_group_of(service, group_number);
    change->ino = body->ino;
    change->request = (struct disk_data_request){body->session, body->slot, body->slot_seq, 0};
    /* Before anything else that may yield: changes that overlap happen in the order of arrival. */
    data_lock_take(change->dg, &change->lock, body->ino, first, end);
    int done = data_replay_look(change, body->flags & OBJ_RETRY);
    uint64_t bytes = freeing ? 2 * DATA_BLOCK_BYTES : (end - first) * DATA_BLOCK_BYTES;
    result = done == 0 ? store_reserve(service->store, bytes, freeing) : MIN(done, 0);
    /* What is read from here on is used only in this epoch (D2), and what was found done is the
     * truth only if it still is the one that was asked (R3). */
    if (result == 0)
        result = group_find_serving(service->host, group_number, request->header->epoch, true,
                                    &change->group);
    if (result < 0 || done > 0) {
        data_lock_give(change->dg, &change->lock);
        return result < 0 ? result : 1;
    }
    change->epoch = group_epoch(change->group);
    return 0;
}

void data_change_end(struct data_change *change)
{
    data_lock_give(change->dg, &change->lock);
}

/* Room in the log, in the epoch that the change began in. Does not yield after it has looked. */
static int await_room(struct data_change *change)
{
    int result = group_wait_room(change->group);
    if (result < 0)
        return result;
    struct group *group;
    result = group_find_serving(change->service->host, group_id(change->group), change->epoch, true,
                                &group);
    assert(result < 0 || group == change->group);
    return result;
}

#define EXTENT_BYTES_MAX ((uint32_t)DATA_EXTENT_BLOCKS_MAX * DATA_BLOCK_BYTES)

static int place_extents(struct store *store, struct buf_slice data, struct store_extent *extents)
{
    uint32_t count = 0;
    while (data.bytes > 0) {
        struct buf_slice part = data;
        part.bytes = MIN(data.bytes, EXTENT_BYTES_MAX);
        assert(count < GROUP_EXTENTS_MAX);
        int result =
            store_extent_write(store, part, part.bytes / DATA_BLOCK_BYTES, &extents[count]);
        if (result < 0)
            return result;
        count++;
        data.offset += part.bytes;
        data.bytes -= part.bytes;
    }
    return (int)count;
}

int data_append_write(struct data_change *change, uint64_t first, struct buf_slice data,
                      const uint32_t *crcs, uint64_t progress)
{
    uint8_t payload[sizeof(struct disk_data_record) + 4 * DATA_WRITE_BLOCKS_MAX];
    uint32_t blocks = data.bytes / DATA_BLOCK_BYTES;
    struct disk_data_record head = {
        .kind = DISK_DATA_WRITE,
        .blocks = blocks,
        .ino = change->ino,
        .first = first,
        .end = first + blocks,
        .request = change->request,
    };
    head.request.progress = progress;
    assert(data.bytes % DATA_BLOCK_BYTES == 0);
    assert(blocks > 0 && blocks <= DATA_WRITE_BLOCKS_MAX);
    assert(first >= change->lock.first && head.end <= change->lock.end);
    memcpy(payload, &head, sizeof head);
    memcpy(payload + sizeof head, crcs, 4 * (size_t)blocks);
    struct store_extent extents[GROUP_EXTENTS_MAX];
    uint64_t seq;
    int result;
    do {
        result = group_wait_space(change->group, true);
        if (result == 0)
            result = await_room(change);
        if (result == 0)
            result = place_extents(change->service->store, data, extents);
        if (result < 0)
            return result;
        const struct group_append append = {
            .kind = GROUP_RECORD_CONTENT,
            .payload = slice_of(payload, sizeof head + 4 * (size_t)blocks),
            .extents = extents,
            .extent_count = (uint32_t)result,
            .data = data,
        };
        result = group_append(change->group, &append, &seq);
    } while (result == -ERR_BUSY); /* the extents were for nothing; the store forgets them */
    return result < 0 ? result : group_wait(change->group, seq);
}

/* Append a record without data. */
static int append_plain(struct data_change *change, struct slice payload)
{
    const struct group_append append = {.kind = GROUP_RECORD_CONTENT, .payload = payload};
    uint64_t seq;
    int result;
    do {
        result = await_room(change);
        if (result < 0)
            return result;
        result = group_append(change->group, &append, &seq);
    } while (result == -ERR_BUSY);
    return result < 0 ? result : group_wait(change->group, seq);
}

int data_append_cut(struct data_change *change, uint64_t first, uint64_t end, uint64_t progress)
{
    struct disk_data_record head = {.kind = DISK_DATA_CUT,
                                    .ino = change->ino,
                                    .first = first,
                                    .end = end,
                                    .request = change->request};
    head.request.progress = progress;
    assert(first >= change->lock.first && end <= change->lock.end);
    return append_plain(change, slice_of(&head, sizeof head));
}

int data_append_forget(struct data_service *service, uint32_t group,
                       const struct disk_data_request *rows, uint32_t count)
{
    const struct disk_data_record head = {.kind = DISK_DATA_FORGET, .blocks = count};
    uint8_t payload[sizeof head + DATA_FORGET_MAX * sizeof *rows];
    struct data_change change = {.service = service};
    assert(count > 0 && count <= DATA_FORGET_MAX);
    memcpy(payload, &head, sizeof head);
    memcpy(payload + sizeof head, rows, count * sizeof *rows);
    int result = store_reserve(service->store, 0, true);
    if (result == 0)
        result = group_find_serving(service->host, group, 0, true, &change.group);
    if (result < 0)
        return result;
    change.epoch = group_epoch(change.group);
    return append_plain(&change, slice_of(payload, sizeof head + count * sizeof *rows));
}
