/* SPDX-License-Identifier: MIT */
/* Rows whose data go elsewhere: moved by the cleaner, or copied to another member by a scan. The
 * other member does not look at the checksums (they are ours), so what leaves here is verified. */
#include "data/data_internal.h"

#include "base/plant.h"

int data_move(void *context, struct slice owner_key, struct store_extent from,
              struct store_extent to, const void *data, struct store_batch *batch)
{
    struct data_service *service = context;
    struct data_found found;
    assert(from.blocks == to.blocks);
    if (!data_key_is(owner_key))
        return -ENOENT;
    int result = data_look_stable(service, owner_key, &found);
    if (result < 0)
        return result;
    bool same = found.row.extent.block == from.block && found.row.extent.blocks == from.blocks;
    if (result == 0 || (!same && !PLANT(DATA_MOVE_BLIND)))
        return -ENOENT;
    if (data_row_bad_blocks(&found.row, data) > 0 && !PLANT(DATA_MOVE_BLIND)) {
        data_repair_queue(service, owner_key);
        return -ERR_CORRUPT_DATA;
    }
    found.row.extent = to;
    store_batch_extent_del(batch, from);
    data_row_put(batch, data_key_group(owner_key), &found.row);
    return 0;
}

bool data_extent_of(void *context, struct slice key, struct slice value,
                    struct store_extent *ret_extent)
{
    struct data_row row;
    (void)context;
    if (data_row_parse(key, value, &row) < 0)
        return false;
    *ret_extent = row.extent;
    return true;
}

void data_rebase(void *context, struct slice key, void *value, uint32_t value_bytes,
                 struct store_extent extent)
{
    struct disk_data_extent head;
    (void)context;
    assert(data_key_is(key));
    assert(value_bytes >= sizeof head);
    memcpy(&head, value, sizeof head);
    assert(head.blocks == extent.blocks);
    head.block = extent.block;
    memcpy(value, &head, sizeof head);
}

/* Read it through the row as it is now. If it has been written meanwhile, what we find does not
 * match the old checksums; the scan's receiver then gets the newer record too, and replaces it. */
static int reread_row(struct data_service *service, uint32_t group, const struct data_row *row,
                      uint8_t *data)
{
    struct data_io *io = data_io_take(service);
    io->group = group;
    io->ino = row->ino;
    io->first = row->first;
    io->blocks = row->extent.blocks;
    io->data = data;
    int result = data_read_applied(service, io);
    for (uint32_t i = 0; i < io->blocks && result == 0; i++) {
        if (io->bad[i])
            result = data_repair_block(service, io, i);
        if (result == -ERR_CORRUPT_DATA)
            result = 0; /* stays wrong, and is noticed by readers */
    }
    data_io_give(service, io);
    return result;
}

int data_read_row(void *context, struct slice key, struct slice value, void *data)
{
    struct data_service *service = context;
    uint32_t group = data_key_group(key);
    uint8_t copy[DATA_VALUE_BYTES_MAX];
    struct data_row row;
    int result = data_row_parse(key, value, &row);
    if (result < 0)
        return result;
    memcpy(copy, value.data, value.bytes); /* the caller's may go when we yield */
    row.crcs = copy + (row.crcs - (const uint8_t *)value.data);
    result = store_extent_read(service->store, row.extent, 0, row.extent.blocks, data);
    if (result == 0 && data_row_bad_blocks(&row, data) == 0)
        return 0;
    return reread_row(service, group, &row, data);
}

void data_hold(void *context, struct group *group, bool on)
{
    struct data_group *dg = data_group_of(context, group_id(group));
    if (on)
        data_group_hold(dg);
    else
        data_group_release(dg);
}
