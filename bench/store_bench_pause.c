/* SPDX-License-Identifier: MIT */
/* How long a commit may have to wait while checkpoints go on, beside what the machine itself makes
 * everybody wait at that time.
 *
 * Memory is small, so that one checkpoint follows the other: random rows of a table beyond the
 * cache, in small transactions that wait until they are written. Beside them a *probe* writes 4 KiB
 * to a file of its own on the same file system and waits, and a *clock* sleeps for a millisecond
 * and looks how much later it woke. What the probe waits is the device's and the machine's doing;
 * what the clock waits, the machine's or a fiber's that kept the core. */
#include "store_bench.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

enum { FIBERS = 32, ROWS = 500000, VALUE_BYTES = 200, KEY_BYTES = 13, SAMPLES_MAX = 1 << 22 };

struct pause {
    struct bench *bench;
    struct disk *probe_disk;
    uint32_t *samples_us;
    uint32_t sample_count;
    uint64_t reserve_ns; /* the longest in each part of a commit */
    uint64_t written_ns;
    uint64_t probe_ns;
    uint64_t clock_ns;
    uint32_t beside; /* fibers */
};

static void commit(void *arg)
{
    struct bench *bench = arg;
    struct pause *pause = bench->context;
    struct store_batch batch;
    uint8_t key[KEY_BYTES] = {0, 0, 0, 3, 0x10}, value[VALUE_BYTES] = {0};
    uint64_t index;
    store_batch_init(&batch);
    while (bench_next(bench, &index)) {
        uint64_t start = env_now_ns();
        be64_store(key + 5, hash_u64(random_below(&bench->random, ROWS)));
        store_batch_reset(&batch);
        store_batch_put(&batch, slice_of(key, sizeof key), slice_of(value, sizeof value));
        bench_check(store_reserve(bench->store, 0, false), "reserve");
        uint64_t reserved = env_now_ns();
        bench_check(store_wait_written(bench->store, store_commit(bench->store, &batch)), "wait");
        uint64_t now = env_now_ns();
        pause->reserve_ns = MAX(pause->reserve_ns, reserved - start);
        pause->written_ns = MAX(pause->written_ns, now - reserved);
        if (pause->sample_count < SAMPLES_MAX)
            pause->samples_us[pause->sample_count++] = (uint32_t)((now - start) / NS_PER_US);
        bench_op_done(bench, start);
    }
    store_batch_fini(&batch);
    bench_fiber_done(bench);
}

static void probe(void *arg)
{
    struct pause *pause = arg;
    struct bench *bench = pause->bench;
    uint8_t *block = mem_alloc_aligned(STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
    memset(block, 1, STORE_BLOCK_BYTES);
    while (bench->running > 0) {
        uint64_t start = env_now_ns();
        bench_check(disk_write(pause->probe_disk, 0, block, STORE_BLOCK_BYTES), "probe");
        pause->probe_ns = MAX(pause->probe_ns, env_now_ns() - start);
        fiber_sleep(500 * NS_PER_US);
    }
    mem_free(block);
    pause->beside--;
}

static void clock_fiber(void *arg)
{
    struct pause *pause = arg;
    while (pause->bench->running > 0) {
        uint64_t due = env_now_ns() + NS_PER_MS;
        fiber_sleep_until(due);
        pause->clock_ns = MAX(pause->clock_ns, env_now_ns() - due);
    }
    pause->beside--;
}

static int by_size(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static double percentile_ms(const struct pause *pause, double share)
{
    if (pause->sample_count == 0)
        return 0;
    return pause->samples_us[(uint64_t)(share * (pause->sample_count - 1))] / 1e3;
}

static void print_pauses(struct pause *pause)
{
    qsort(pause->samples_us, pause->sample_count, sizeof *pause->samples_us, by_size);
    printf("{\"row\": \"pause parts\", \"p50_ms\": %.2f, \"p99_ms\": %.2f, \"p9999_ms\": %.2f, "
           "\"reserve_ms\": %.2f, \"written_ms\": %.2f, \"probe_ms\": %.2f, \"clock_ms\": %.2f}\n",
           percentile_ms(pause, 0.5), percentile_ms(pause, 0.99), percentile_ms(pause, 0.9999),
           (double)pause->reserve_ns / 1e6, (double)pause->written_ns / 1e6,
           (double)pause->probe_ns / 1e6, (double)pause->clock_ns / 1e6);
    fflush(stdout);
}

void bench_pause(struct bench *bench)
{
    static const struct bench_row fill = {"pause fill", commit, FIBERS, ROWS, 0};
    static const struct bench_row row = {"pause", commit, FIBERS, 0, 0};
    struct pause pause = {.bench = bench};
    char path[4096];
    if (!bench_wants(bench, row.name))
        return;
    uint64_t row_ns = bench->row_ns;
    (void)snprintf(path, sizeof path, "%s.probe", bench->path);
    bench_check(disk_open(path, STORE_BLOCK_BYTES, DISK_CREATE, &pause.probe_disk), "probe");
    pause.samples_us = mem_alloc(SAMPLES_MAX * sizeof *pause.samples_us);
    bench->context = &pause;
    bench_open(bench);
    bench->row_ns = 600 * NS_PER_S;
    bench_run(bench, &fill);
    bench->row_ns = row_ns;
    pause.sample_count = 0;
    pause.reserve_ns = pause.written_ns = 0;
    pause.beside = 2;
    bench->running = 1; /* they begin before the row does */
    fiber_spawn("probe", probe, &pause);
    fiber_spawn("clock", clock_fiber, &pause);
    bench_run(bench, &row);
    while (pause.beside > 0)
        fiber_sleep(NS_PER_MS);
    print_pauses(&pause);
    bench_close(bench);
    disk_close(pause.probe_disk);
    mem_free(pause.samples_us);
}
