/* SPDX-License-Identifier: MIT */
/* From positions to rows: every walk over extent rows that is not part of apply. */
#include "data/data_internal.h"

#include "base/mem.h"

struct data_io *data_io_take(struct data_service *service)
{
    struct data_io *io = service->spare_io;
    if (!io)
        return mem_alloc(sizeof *io);
    service->spare_io = NULL;
    return io;
}

void data_io_give(struct data_service *service, struct data_io *io)
{
    if (service->spare_io)
        mem_free(io);
    else
        service->spare_io = io;
}

struct store_iter *data_iter_take(struct data_service *service, struct store *store)
{
    struct store_iter *iter = service->spare_iter;
    assert(!service->store || service->store == store); /* one store in a service's life */
    service->spare_iter = NULL;
    return iter ? iter : store_iter_new(store);
}

void data_iter_give(struct data_service *service, struct store_iter *iter)
{
    if (service->spare_iter) {
        store_iter_free(iter);
        return;
    }
    store_iter_seek(iter, (struct slice){0}); /* lets go of what it holds */
    service->spare_iter = iter;
}

uint32_t data_io_used(const struct data_io *io)
{
    if (io->run_count == 0)
        return 0;
    const struct data_run *last = &io->runs[io->run_count - 1];
    assert(last->first + last->extent.blocks <= io->blocks);
    return last->first + last->extent.blocks;
}

/* Add the part of the row that lies in io's range. Returns the blocks added; 0: the row overlaps
 * one that the walk has shown before, so they are of different moments. */
static uint32_t range_add(struct data_io *io, const struct data_row *row)
{
    uint64_t first = MAX(row->first, io->first);
    uint64_t end = MIN(row->end, io->first + io->blocks);
    assert(first < end);
    uint32_t at = (uint32_t)(first - io->first);
    uint32_t skip = (uint32_t)(first - row->first);
    uint32_t count = (uint32_t)(end - first);
    struct store_extent extent = {row->extent.block + skip, count, 0};
    struct data_run *last = io->run_count ? &io->runs[io->run_count - 1] : NULL;
    if (last && last->first + last->extent.blocks > at)
        return 0;
    memcpy(&io->crcs[at], row->crcs + 4 * (size_t)skip, 4 * (size_t)count);
    if (last && last->first + last->extent.blocks == at &&
        last->extent.block + last->extent.blocks == extent.block &&
        last->extent.blocks + count <= STORE_EXTENT_BLOCKS_MAX) {
        last->extent.blocks += count; /* one read instead of two */
        return count;
    }
    io->runs[io->run_count++] = (struct data_run){at, 0, extent};
    return count;
}

/* One walk. 1: it showed a row for every block; 0: there are holes. */
static int range_walk(struct store_iter *iter, struct data_io *io)
{
    struct data_key from = data_key_make(io->group, io->ino, io->first);
    struct data_key end = data_key_end(io->group, io->ino);
    struct slice key, value;
    uint32_t covered = 0;
    io->run_count = 0;
    store_iter_seek(iter, data_key_slice(&from));
    while (covered < io->blocks) {
        int result = store_iter_next(iter, data_key_slice(&end), &key, &value);
        if (result <= 0)
            return result;
        struct data_row row;
        result = data_row_parse(key, value, &row);
        if (result < 0)
            return result;
        if (row.first >= io->first + io->blocks)
            return 0;
        uint32_t added = range_add(io, &row);
        if (added == 0)
            return -ERR_CORRUPT_DISK;
        covered += added;
        if (row.end >= io->first + io->blocks)
            break;
    }
    return covered == io->blocks;
}

int data_look_range(struct data_service *service, struct data_io *io)
{
    const struct data_group *dg = data_group_of(service, io->group);
    assert(io->blocks > 0 && io->blocks <= DATA_WRITE_BLOCKS_MAX);
    assert(io->first + io->blocks <= DATA_POSITION_END);
    struct store_iter *iter = data_iter_take(service, service->store);
    uint64_t changes;
    int result;
    do {
        changes = dg->changes; /* D4 */
        result = range_walk(iter, io);
    } while (result != 1 && changes != dg->changes);
    data_iter_give(service, iter);
    return result < 0 ? result : 0;
}

static int found_set(struct data_found *found, struct slice key, struct slice value)
{
    if (!data_key_is(key) || value.bytes > sizeof found->value)
        return -ERR_CORRUPT_DISK;
    memcpy(found->key.bytes, key.data, sizeof found->key.bytes);
    memcpy(found->value, value.data, value.bytes);
    found->value_bytes = value.bytes;
    return data_row_parse(data_key_slice(&found->key), slice_of(found->value, value.bytes),
                          &found->row);
}

int data_look_row(struct data_service *service, uint32_t group, uint64_t ino, uint64_t position,
                  struct data_found *found)
{
    const struct data_group *dg = data_group_of(service, group);
    struct data_key from = data_key_make(group, ino, position);
    struct data_key end = data_key_end(group, ino);
    struct store_iter *iter = data_iter_take(service, service->store);
    struct slice key, value;
    uint64_t changes;
    int result;
    do {
        changes = dg->changes; /* D4 */
        store_iter_seek(iter, data_key_slice(&from));
        result = store_iter_next(iter, data_key_slice(&end), &key, &value);
        if (result == 1) {
            result = found_set(found, key, value);
            if (result == 0)
                result = found->row.first <= position;
        }
    } while (result != 1 && changes != dg->changes);
    data_iter_give(service, iter);
    return result;
}

int data_look_stable(struct data_service *service, struct slice key, struct data_found *found)
{
    struct data_group *dg = data_group_of(service, data_key_group(key));
    uint8_t value[DATA_VALUE_BYTES_MAX];
    uint64_t changes;
    int bytes;
    do {
        while (dg->holds > 0)
            (void)waitq_wait(&dg->idle, 0); /* those who hold only read: they end */
        changes = dg->changes;
        bytes = store_get(service->store, key, value, sizeof value);
    } while (dg->holds > 0 || changes != dg->changes); /* D3 */
    if (bytes == -ENOENT)
        return 0;
    if (bytes < 0)
        return bytes == -ERANGE ? -ERR_CORRUPT_DISK : bytes;
    int result = found_set(found, key, slice_of(value, (size_t)bytes));
    return result < 0 ? result : 1;
}

/* One walk of data_look_cut. */
static int cut_walk(struct store_iter *iter, const struct data_io *io, uint64_t end,
                    uint32_t rows_max, uint64_t *reached)
{
    struct data_key from = data_key_make(io->group, io->ino, io->first);
    struct data_key bound = data_key_end(io->group, io->ino);
    struct slice key, value;
    uint32_t rows = 0;
    *reached = end;
    store_iter_seek(iter, data_key_slice(&from));
    for (;;) {
        struct data_row row;
        int result = store_iter_next(iter, data_key_slice(&bound), &key, &value);
        if (result < 0)
            return result;
        if (result == 0)
            return (int)rows;
        result = data_row_parse(key, value, &row);
        if (result < 0)
            return result;
        if (row.first >= end)
            return (int)rows;
        if (rows == rows_max) {
            *reached = row.first;
            return (int)rows;
        }
        rows++;
    }
}

int data_look_cut(struct data_service *service, const struct data_io *io, uint64_t end,
                  uint32_t rows_max, uint64_t *ret_end)
{
    const struct data_group *dg = data_group_of(service, io->group);
    struct store_iter *iter = data_iter_take(service, service->store);
    uint64_t changes, reached;
    int result;
    assert(io->first < end && rows_max > 0);
    do {
        changes = dg->changes;
        result = cut_walk(iter, io, end, rows_max, &reached);
        /* D4: rows that reach in from outside the range may be split meanwhile. */
    } while (result <= 0 && changes != dg->changes);
    data_iter_give(service, iter);
    if (result >= 0)
        *ret_end = reached;
    return result;
}
