/* SPDX-License-Identifier: MIT */
/* A full store: random overwrites of 16 KiB, first with most of the space free, then with 90 % of
 * what the store offers in use, when every write needs the cleaner.
 *
 * Where each object is, is kept in bench->extents too, so that neither a writer nor the mover has
 * to wait between looking and committing. */
#include "store_bench.h"

#include "base/mem.h"

enum { BLOCKS = 4, OBJECT_BYTES = BLOCKS * STORE_BLOCK_BYTES, FIBERS = 16 };

static struct slice object_key(uint64_t number, uint8_t key[13])
{
    be32_store(key, 3);
    key[4] = 0x20;
    be64_store(key + 5, number);
    return slice_of(key, 13);
}

static void swap_rows(struct store_batch *batch, uint64_t number, struct store_extent from,
                      struct store_extent to)
{
    uint8_t key[13];
    struct slice name = object_key(number, key);
    if (from.blocks)
        store_batch_extent_del(batch, from);
    store_batch_put(batch, name, slice_of(&to, sizeof to));
    store_batch_extent_add(batch, to, name);
}

static int move_object(void *context, struct slice owner_key, struct store_extent from,
                       struct store_extent to, const void *data, struct store_batch *batch)
{
    struct bench *bench = context;
    uint64_t number = be64_load((const uint8_t *)owner_key.data + 5);
    (void)data;
    if (number >= bench->extent_count || bench->extents[number].block != from.block)
        return -ENOENT;
    swap_rows(batch, number, from, to);
    bench->extents[number] = to;
    return 0;
}

static void write_object(struct bench *bench, uint64_t number, struct store_batch *batch)
{
    struct buf *buf = buf_new(OBJECT_BYTES);
    struct store_extent extent;
    be64_store(buf->data, number);
    bench_check(store_reserve(bench->store, OBJECT_BYTES, false), "reserve");
    bench_check(
        store_extent_write(bench->store, (struct buf_slice){buf, 0, OBJECT_BYTES}, BLOCKS, &extent),
        "extent");
    buf_put(buf);
    swap_rows(batch, number, bench->extents[number], extent);
    bench->extents[number] = extent;
    uint64_t lsn = store_commit(bench->store, batch);
    bench_check(store_wait_written(bench->store, lsn), "wait");
}

static void overwrite_one(struct bench *bench, uint64_t index, struct store_batch *batch)
{
    (void)index;
    write_object(bench, random_below(&bench->random, bench->extent_count), batch);
}

static void overwrite(void *arg)
{
    bench_batches(arg, overwrite_one);
}

static void fill_one(struct bench *bench, uint64_t index, struct store_batch *batch)
{
    (void)index;
    write_object(bench, bench->extent_count++, batch);
}

static void fill(void *arg)
{
    bench_batches(arg, fill_one);
}

/* As many objects as take the given share of what the store offers. */
static void fill_to(struct bench *bench, const char *name, uint64_t objects_max, uint32_t percent)
{
    uint64_t target = objects_max * percent / 100, row_ns = bench->row_ns;
    bench->row_ns = 3600 * NS_PER_S;
    const struct bench_row row = {name, fill, FIBERS, target - bench->extent_count, OBJECT_BYTES};
    bench_run(bench, &row);
    bench->row_ns = row_ns;
}

void bench_full(struct bench *bench)
{
    const struct bench_row fresh = {"full 20 % overwrite", overwrite, FIBERS, 0, OBJECT_BYTES};
    const struct bench_row steady = {"full 90 % overwrite", overwrite, FIBERS, 0, OBJECT_BYTES};
    struct bench_row settle = {"full 90 % settle", overwrite, FIBERS, 0, OBJECT_BYTES};
    if (!bench_wants(bench, fresh.name) && !bench_wants(bench, steady.name))
        return;
    bench_open(bench);
    store_set_mover(bench->store, move_object, bench);
    struct store_space space;
    store_space(bench->store, &space);
    uint64_t objects_max = space.free_bytes / OBJECT_BYTES;
    bench->extents = mem_zalloc(objects_max * sizeof *bench->extents);
    bench->extent_count = 0;
    fill_to(bench, "full fill 20 %", objects_max, 20);
    bench_run(bench, &fresh);
    fill_to(bench, "full fill 90 %", objects_max, 90);
    /* Once over everything, so that what follows is the steady state. */
    settle.limit = bench->extent_count;
    uint64_t row_ns = bench->row_ns;
    bench->row_ns = 3600 * NS_PER_S;
    bench_run(bench, &settle);
    bench->row_ns = row_ns;
    bench_run(bench, &steady);
    bench_close(bench);
    mem_free(bench->extents);
}
