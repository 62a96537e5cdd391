/* SPDX-License-Identifier: MIT */
/* From records to rows: runs on every member, in log order, at run time and in recovery.
 *
 * Writes and cuts first clear a range: rows inside go, rows that reach into it keep what lies
 * outside. What stays of a row goes on using its part of the same run of blocks on the device, with
 * the checksums it had; no data is copied. Who asked for it is remembered with it (replay.c). */
#include "data/data_internal.h"

#include "base/plant.h"

/* Keep the part [first, end) of a row. */
static void keep_part(struct store_batch *batch, uint32_t group, const struct data_row *row,
                      uint64_t first, uint64_t end)
{
    uint32_t skip = (uint32_t)(first - row->first);
    assert(first >= row->first && end <= row->end && first < end);
    struct data_row part = {
        .ino = row->ino,
        .first = first,
        .end = end,
        .extent = {row->extent.block + skip, (uint32_t)(end - first), 0},
        .crcs = row->crcs + 4 * (size_t)skip,
    };
    data_row_put(batch, group, &part);
}

static void cut_row(struct store_batch *batch, uint32_t group, struct slice key,
                    const struct data_row *row, const struct disk_data_record *head)
{
    assert(row->end > head->first && row->first < head->end);
    if (!PLANT(DATA_OVERWRITE_KEEPS))
        store_batch_extent_del(batch, row->extent);
    store_batch_del(batch, key);
    if (row->first < head->first)
        keep_part(batch, group, row, row->first, head->first);
    if (row->end > head->end)
        keep_part(batch, group, row, head->end, row->end);
}

static int clear_range(struct data_service *service, struct store *store, uint32_t group,
                       const struct disk_data_record *head, struct store_batch *batch)
{
    struct data_key from = data_key_make(group, head->ino, head->first);
    struct data_key end = data_key_end(group, head->ino);
    struct store_iter *iter = data_iter_take(service, store);
    struct slice key, value;
    int result;
    store_iter_seek(iter, data_key_slice(&from));
    while ((result = store_iter_next(iter, data_key_slice(&end), &key, &value)) == 1) {
        struct data_row row;
        result = data_row_parse(key, value, &row);
        if (result < 0 || row.first >= head->end)
            break;
        cut_row(batch, group, key, &row, head);
    }
    data_iter_give(service, iter);
    return result < 0 ? result : 0;
}

/* The rows for a record's blocks: one per extent, as the local store has placed them. */
static void put_rows(uint32_t group, const struct data_record *data,
                     const struct store_log_record *record, struct store_batch *batch)
{
    uint64_t first = data->head.first;
    for (uint32_t i = 0; i < record->extent_count; i++) {
        struct data_row row = {
            .ino = data->head.ino,
            .first = first,
            .end = first + record->extents[i].blocks,
            .extent = {record->extents[i].block, record->extents[i].blocks, 0},
            .crcs = data->tail + 4 * (size_t)(first - data->head.first),
        };
        data_row_put(batch, group, &row);
        first = row.end;
    }
    assert(first == data->head.end); /* data_record_parse saw to it */
}

int data_apply(void *context, struct group *group, const struct store_log_record *record,
               struct store_batch *batch)
{
    struct data_service *service = context;
    struct data_record data;
    int result = data_record_parse(record, &data);
    if (result < 0)
        return result;
    struct data_group *dg = data_group_of(service, record->group);
    if (data.head.kind == DISK_DATA_FORGET)
        return data_replay_forget(group_store(group), record->group, &data, batch);
    data_group_hold(dg); /* D3 */
    result = clear_range(service, group_store(group), record->group, &data.head, batch);
    if (result == 0 && data.head.kind == DISK_DATA_WRITE)
        put_rows(record->group, &data, record, batch);
    if (result == 0)
        data_replay_put(service, record->group, &data.head.request, batch);
    data_group_release(dg); /* D4: the caller commits the batch before anybody else runs */
    return result;
}
