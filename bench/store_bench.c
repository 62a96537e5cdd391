/* SPDX-License-Identifier: MIT */
/* How fast the local store is on a file or device: commits, durable commits, extents, lookups.
 *
 *     store_bench PATH [GIB]      the file is created (sparse) or overwritten
 *
 * One line per scenario: name, operations per second, operations, seconds. */
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "env/linux.h"
#include "store/store.h"

enum { FIBERS = 64, VALUE_BYTES = 200, ROWS = 400000 };

struct bench {
    struct reactor *reactor;
    const char *path;
    uint64_t bytes;
    struct disk *disk;
    struct store *store;
    uint32_t running;
    uint64_t left;
    uint64_t next;
    struct waitq done;
};

static void check(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, error_text(result));
        exit(1);
    }
}

static struct slice row_key(uint64_t index, uint8_t key[13])
{
    be32_store(key, 3);
    key[4] = 0x10;
    be64_store(key + 5, hash_u64(index));
    return slice_of(key, 13);
}

static uint64_t commit_one(struct bench *bench, struct store_batch *batch)
{
    uint8_t key[13], value[VALUE_BYTES] = {0};
    store_batch_reset(batch);
    store_batch_put(batch, row_key(bench->next++ % ROWS, key), slice_of(value, sizeof value));
    check(store_reserve(bench->store, 0, false), "reserve");
    return store_commit(bench->store, batch);
}

static void finish(struct bench *bench)
{
    bench->running--;
    waitq_wake_all(&bench->done);
}

static void committer(void *arg)
{
    struct bench *bench = arg;
    struct store_batch batch;
    store_batch_init(&batch);
    while (bench->left > 0) {
        bench->left--;
        (void)commit_one(bench, &batch);
        if (bench->left % 64 == 0)
            fiber_yield();
    }
    store_batch_fini(&batch);
    finish(bench);
}

static void waiter(struct bench *bench, bool durable)
{
    struct store_batch batch;
    store_batch_init(&batch);
    while (bench->left > 0) {
        bench->left--;
        uint64_t lsn = commit_one(bench, &batch);
        check(durable ? store_wait_durable(bench->store, lsn)
                      : store_wait_written(bench->store, lsn),
              "wait");
    }
    store_batch_fini(&batch);
    finish(bench);
}

static void written_committer(void *arg)
{
    waiter(arg, false);
}

static void durable_committer(void *arg)
{
    waiter(arg, true);
}

static void reader(void *arg)
{
    struct bench *bench = arg;
    uint8_t key[13], value[VALUE_BYTES];
    while (bench->left > 0) {
        bench->left--;
        int bytes = store_get(bench->store, row_key(hash_u64(bench->left) % ROWS, key), value,
                              sizeof value);
        check(bytes, "get");
        if (bench->left % 64 == 0)
            fiber_yield();
    }
    finish(bench);
}

static void extents(struct bench *bench, uint32_t blocks)
{
    struct store_batch batch;
    struct buf *buf = buf_new(blocks * STORE_BLOCK_BYTES);
    memset(buf->data, 7, buf->size);
    store_batch_init(&batch);
    while (bench->left > 0) {
        bench->left--;
        struct store_extent extent;
        uint8_t key[13];
        struct slice name = row_key(bench->next++, key);
        check(store_reserve(bench->store, buf->size, false), "reserve");
        check(store_extent_write(bench->store, (struct buf_slice){buf, 0, buf->size}, blocks,
                                 &extent),
              "extent");
        store_batch_reset(&batch);
        store_batch_put(&batch, name, slice_of(&extent, sizeof extent));
        store_batch_extent_add(&batch, extent, name);
        check(store_wait_written(bench->store, store_commit(bench->store, &batch)), "wait");
    }
    store_batch_fini(&batch);
    buf_put(buf);
    finish(bench);
}

static void small_extents(void *arg)
{
    extents(arg, 1);
}

static void large_extents(void *arg)
{
    extents(arg, 64);
}

static void scenario(struct bench *bench, const char *name, fiber_fn fn, uint32_t fibers,
                     uint64_t operations)
{
    uint64_t start = env_now_ns();
    bench->left = operations;
    bench->running = fibers;
    for (uint32_t i = 0; i < fibers; i++)
        fiber_spawn(name, fn, bench);
    while (bench->running > 0)
        (void)!waitq_wait(&bench->done, 0);
    double seconds = (double)(env_now_ns() - start) / 1e9;
    printf("%-24s %10.0f op/s  %8llu ops %7.3f s\n", name, (double)operations / seconds,
           (unsigned long long)operations, seconds);
}

static void body(void *arg)
{
    struct bench *bench = arg;
    static const struct store_log_ops no_log;
    const struct store_options options = {.memory_bytes = 256 * MIB, .log_ops = &no_log};
    const struct store_identity identity = {.node = 1};
    waitq_init(&bench->done);
    check(disk_open(bench->path, bench->bytes, DISK_CREATE, &bench->disk), "open");
    check(store_format(bench->disk, &identity, true), "format");
    check(store_open(bench->disk, &options, &bench->store), "store_open");
    scenario(bench, "commit", committer, 1, 2 * ROWS);
    scenario(bench, "commit written x1", written_committer, 1, 5000);
    scenario(bench, "commit written x64", written_committer, FIBERS, 200000);
    scenario(bench, "commit durable x1", durable_committer, 1, 2000);
    scenario(bench, "commit durable x64", durable_committer, FIBERS, 100000);
    scenario(bench, "get x1", reader, 1, 400000);
    scenario(bench, "extent 4 KiB x64", small_extents, FIBERS, 100000);
    scenario(bench, "extent 256 KiB x8", large_extents, 8, 4000);
    struct store_health health;
    store_health(bench->store, &health);
    printf("journal %llu MiB, nodes %llu MiB, checkpoints %llu, flushes %llu, memory %llu MiB\n",
           (unsigned long long)(health.journal_bytes / MIB),
           (unsigned long long)(health.node_bytes / MIB), (unsigned long long)health.checkpoints,
           (unsigned long long)health.flushes, (unsigned long long)(health.memory_bytes / MIB));
    check(store_close(bench->store), "close");
    disk_close(bench->disk);
    linux_reactor_stop(bench->reactor);
}

int main(int argc, char **argv)
{
    if (argc < 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: store_bench FILE-OR-DEVICE [GIB]   (it is overwritten)\n");
        return 2;
    }
    struct bench bench = {.path = argv[1],
                          .bytes = (argc > 2 ? strtoull(argv[2], NULL, 10) : 4) * GIB};
    log_set_level(LOG_WARN);
    check(linux_reactor_new(&bench.reactor), "reactor");
    reactor_spawn(bench.reactor, "bench", body, &bench);
    check(linux_reactor_run(bench.reactor), "run");
    linux_reactor_free(bench.reactor);
    return 0;
}
