/* SPDX-License-Identifier: MIT */
/* Data: appends and reads of 1 MiB (four extents, as an object has them), 4 KiB random reads. */
#include "store_bench.h"

#include "base/mem.h"

enum {
    PARTS = 4,
    PART_BLOCKS = STORE_EXTENT_BLOCKS_MAX,
    LOG_BLOCKS = 16,
    LOG_BYTES = LOG_BLOCKS * STORE_BLOCK_BYTES,
};

static struct slice part_key(uint64_t index, uint32_t part, uint8_t key[14])
{
    be32_store(key, 3);
    key[4] = 0x20;
    be64_store(key + 5, index);
    key[13] = (uint8_t)part;
    return slice_of(key, 14);
}

/* One MiB at index: four extents, and their rows in one transaction. */
static void append_one(struct bench *bench, uint64_t index, struct store_batch *batch)
{
    struct buf *buf = buf_new(MIB);
    be64_store(buf->data, index); /* the rest is what was there: writing it is not the store's */
    bench_check(store_reserve(bench->store, MIB, false), "reserve");
    for (uint32_t i = 0; i < PARTS; i++) {
        struct store_extent extent;
        uint8_t key[14];
        uint32_t bytes = PART_BLOCKS * STORE_BLOCK_BYTES;
        struct slice name = part_key(index, i, key);
        bench_check(store_extent_write(bench->store, (struct buf_slice){buf, i * bytes, bytes},
                                       PART_BLOCKS, &extent),
                    "extent");
        store_batch_put(batch, name, slice_of(&extent, sizeof extent));
        store_batch_extent_add(batch, extent, name);
        bench->extents[index * PARTS + i] = extent;
    }
    buf_put(buf);
    bench_check(store_wait_written(bench->store, store_commit(bench->store, batch)), "wait");
}

static void append(void *arg)
{
    bench_batches(arg, append_one);
}

static struct store_extent find_part(struct bench *bench, uint64_t index, uint32_t part)
{
    struct store_extent extent;
    uint8_t key[14];
    int result = store_get(bench->store, part_key(index, part, key), &extent, sizeof extent);
    bench_check(result, "get");
    return extent;
}

/* Parts that lie one after the other are one read, as for the owner of files. */
static void read_mib(void *arg)
{
    struct bench *bench = arg;
    struct buf *buf = buf_new(MIB);
    uint64_t index;
    while (bench_next(bench, &index)) {
        uint64_t start = env_now_ns();
        uint64_t which = index % (bench->extent_count / PARTS);
        struct store_extent run = find_part(bench, which, 0);
        uint32_t filled = 0;
        for (uint32_t i = 1; i <= PARTS; i++) {
            struct store_extent next = {0};
            if (i < PARTS)
                next = find_part(bench, which, i);
            if (i < PARTS && next.block == run.block + run.blocks) {
                run.blocks += next.blocks;
                continue;
            }
            bench_check(store_extent_read(bench->store, run, 0, run.blocks, buf->data + filled),
                        "read");
            filled += run.blocks * STORE_BLOCK_BYTES;
            run = next;
        }
        bench_op_done(bench, start);
    }
    buf_put(buf);
    bench_fiber_done(bench);
}

static void read_block(void *arg)
{
    struct bench *bench = arg;
    struct buf *buf = buf_new(STORE_BLOCK_BYTES);
    uint64_t index;
    while (bench_next(bench, &index)) {
        uint64_t start = env_now_ns();
        uint64_t which = random_below(&bench->random, bench->extent_count);
        struct store_extent extent = find_part(bench, which / PARTS, (uint32_t)(which % PARTS));
        uint32_t block = (uint32_t)random_below(&bench->random, extent.blocks);
        bench_check(store_extent_read(bench->store, extent, block, 1, buf->data), "read");
        bench_op_done(bench, start);
    }
    buf_put(buf);
    bench_fiber_done(bench);
}

/* What a member of a group does for a write of 64 KiB: log record with its extent, then the mark
 * that it is applied, and the rows. */
static void replicate_one(struct bench *bench, uint64_t index, struct store_batch *batch)
{
    struct buf *buf = buf_new(LOG_BYTES);
    struct store_extent extent;
    uint8_t key[14], payload[200] = {0};
    struct slice name = part_key(1ull << 40 | index, 0, key);
    bench_check(store_reserve(bench->store, buf->bytes, false), "reserve");
    bench_check(store_extent_write(bench->store, (struct buf_slice){buf, 0, buf->bytes}, LOG_BLOCKS,
                                   &extent),
                "extent");
    buf_put(buf);
    const struct store_log_record record = {.group = 3,
                                            .epoch = 1,
                                            .seq = index + 1,
                                            .payload = slice_of(payload, sizeof payload),
                                            .extents = &extent,
                                            .extent_count = 1};
    uint64_t lsn = store_log_append(bench->store, &record);
    bench_check(store_wait_written(bench->store, lsn), "wait");
    store_batch_put(batch, name, slice_of(&extent, sizeof extent));
    store_batch_extent_add(batch, extent, name);
    (void)store_apply(bench->store, 3, index + 1, batch);
}

static void replicate(void *arg)
{
    bench_batches(arg, replicate_one);
}

/* Half of what the store offers is for appends, a quarter for log records. */
void bench_data(struct bench *bench)
{
    struct bench_row rows[] = {
        {"data read 1 MiB x8", read_mib, 8, 0, MIB},
        {"data read 4 KiB x1", read_block, 1, 0, STORE_BLOCK_BYTES},
        {"data read 4 KiB x32", read_block, 32, 0, STORE_BLOCK_BYTES},
        {"data log 64 KiB x32", replicate, 32, 0, LOG_BYTES},
    };
    struct bench_row fill = {"data append 1 MiB x8", append, 8, 0, MIB};
    bool wanted = bench_wants(bench, fill.name);
    for (uint32_t i = 0; i < ARRAY_COUNT(rows); i++)
        wanted |= bench_wants(bench, rows[i].name);
    if (!wanted)
        return;
    bench_open(bench);
    struct store_space space;
    store_space(bench->store, &space);
    fill.limit = space.free_bytes / 2 / MIB;
    rows[ARRAY_COUNT(rows) - 1].limit = space.free_bytes / 4 / LOG_BYTES;
    bench->extents = mem_zalloc(fill.limit * PARTS * sizeof *bench->extents);
    bench_run(bench, &fill);
    bench->extent_count = bench->next * PARTS;
    for (uint32_t i = 0; i < ARRAY_COUNT(rows); i++)
        if (bench_wants(bench, rows[i].name))
            bench_run(bench, &rows[i]);
    bench_close(bench);
    mem_free(bench->extents);
}
