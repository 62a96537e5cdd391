/* SPDX-License-Identifier: MIT */
/* Small transactions and lookups: one row of 200 bytes each. */
#include "store_bench.h"

enum { VALUE_BYTES = 200, ROWS = 400000, KEY_BYTES = 13 };

static struct slice row_key(uint64_t index, uint8_t key[KEY_BYTES])
{
    be32_store(key, 3);
    key[4] = 0x10;
    be64_store(key + 5, hash_u64(index));
    return slice_of(key, KEY_BYTES);
}

enum wait { WAIT_NONE, WAIT_WRITTEN, WAIT_DURABLE };

static void commit(struct bench *bench, enum wait wait)
{
    struct store_batch batch;
    uint8_t key[KEY_BYTES], value[VALUE_BYTES] = {0};
    uint64_t index;
    store_batch_init(&batch);
    while (bench_next(bench, &index)) {
        uint64_t start = env_now_ns();
        store_batch_reset(&batch);
        store_batch_put(&batch, row_key(index % ROWS, key), slice_of(value, sizeof value));
        bench_check(store_reserve(bench->store, 0, false), "reserve");
        uint64_t lsn = store_commit(bench->store, &batch);
        if (wait == WAIT_WRITTEN)
            bench_check(store_wait_written(bench->store, lsn), "wait");
        else if (wait == WAIT_DURABLE)
            bench_check(store_wait_durable(bench->store, lsn), "wait");
        else if (index % 64 == 0)
            fiber_yield();
        bench_op_done(bench, start);
    }
    store_batch_fini(&batch);
    bench_fiber_done(bench);
}

void bench_commit_only(void *arg)
{
    commit(arg, WAIT_NONE);
}

static void commit_written(void *arg)
{
    commit(arg, WAIT_WRITTEN);
}

void bench_commit_durable(void *arg)
{
    commit(arg, WAIT_DURABLE);
}

static void lookup(void *arg)
{
    struct bench *bench = arg;
    uint8_t key[KEY_BYTES], value[VALUE_BYTES];
    uint64_t index;
    while (bench_next(bench, &index)) {
        uint64_t start = env_now_ns();
        struct slice name = row_key(random_below(&bench->random, ROWS), key);
        bench_check(store_get(bench->store, name, value, sizeof value), "get");
        if (index % 64 == 0)
            fiber_yield();
        bench_op_done(bench, start);
    }
    bench_fiber_done(bench);
}

void bench_transactions(struct bench *bench)
{
    static const struct bench_row rows[] = {
        {"tx written x1", commit_written, 1, 0, 0},
        {"tx written x64", commit_written, 64, 0, 0},
        {"tx durable x1", bench_commit_durable, 1, 0, 0},
        {"tx durable x64", bench_commit_durable, 64, 0, 0},
        {"tx durable x256", bench_commit_durable, 256, 0, 0},
        {"tx lookup x1", lookup, 1, 0, 0},
    };
    static const struct bench_row fill = {"tx commit", bench_commit_only, 1, 2 * ROWS, 0};
    bool wanted = bench_wants(bench, fill.name);
    for (uint32_t i = 0; i < ARRAY_COUNT(rows); i++)
        wanted |= bench_wants(bench, rows[i].name);
    if (!wanted)
        return;
    uint64_t row_ns = bench->row_ns;
    bench_open(bench);
    bench->row_ns = 600 * NS_PER_S; /* lookups want all rows */
    bench_run(bench, &fill);
    bench->row_ns = row_ns;
    for (uint32_t i = 0; i < ARRAY_COUNT(rows); i++)
        if (bench_wants(bench, rows[i].name))
            bench_run(bench, &rows[i]);
    bench_close(bench);
}
