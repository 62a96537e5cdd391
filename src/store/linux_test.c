/* SPDX-License-Identifier: MIT */
/* Goal: the store on a real file, with a real segment size: what it keeps is there after a
 * reopen, and the space of what was deleted goes back to the file system. With STORE_TEST_DEVICE
 * (a path), on that device, which is overwritten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "env/linux.h"
#include "store/store.h"

enum { EXTENTS = 1000, BLOCKS = 64 };

struct run {
    struct reactor *reactor;
    struct disk *disk;
    struct store *store;
    char path[64];
    bool is_device;
    struct store_extent extents[EXTENTS];
    uint64_t allocated_full, allocated_empty;
    int failed_line;
};

#define CHECK(run, condition)                                                                      \
    do {                                                                                           \
        if (!(condition) && (run)->failed_line == 0)                                               \
            (run)->failed_line = __LINE__;                                                         \
    } while (0)

static struct slice row_key(uint32_t index, uint8_t key[9])
{
    be32_store(key, 3);
    key[4] = 0x10;
    be32_store(key + 5, index);
    return slice_of(key, 9);
}

static uint64_t allocated(const struct run *run)
{
    struct stat info;
    return stat(run->path, &info) == 0 ? (uint64_t)info.st_blocks * 512 : 0;
}

static void open_store(struct run *run)
{
    static const struct store_log_ops no_log;
    const struct store_options options = {.memory_bytes = 64 * MIB, .log_ops = &no_log};
    CHECK(run, store_open(run->disk, &options, &run->store) == 0);
}

static void write_all(struct run *run)
{
    struct store_batch batch;
    store_batch_init(&batch);
    uint64_t lsn = 0;
    for (uint32_t i = 0; i < EXTENTS && !run->failed_line; i++) {
        uint8_t key[9];
        struct buf *buf = buf_new(BLOCKS * STORE_BLOCK_BYTES);
        memset(buf->data, (int)i, buf->size);
        CHECK(run, store_reserve(run->store, buf->size, false) == 0);
        CHECK(run, store_extent_write(run->store, (struct buf_slice){buf, 0, buf->size}, BLOCKS,
                                      &run->extents[i]) == 0);
        buf_put(buf);
        store_batch_reset(&batch);
        store_batch_put(&batch, row_key(i, key), slice_of(&run->extents[i], 16));
        store_batch_extent_add(&batch, run->extents[i], row_key(i, key));
        lsn = store_commit(run->store, &batch);
    }
    CHECK(run, store_wait_durable(run->store, lsn) == 0);
    store_batch_fini(&batch);
}

static void read_all(struct run *run)
{
    struct buf *buf = buf_new(BLOCKS * STORE_BLOCK_BYTES);
    for (uint32_t i = 0; i < EXTENTS && !run->failed_line; i++) {
        uint8_t key[9];
        struct store_extent extent;
        CHECK(run, store_get(run->store, row_key(i, key), &extent, sizeof extent) == 16);
        CHECK(run, store_extent_read(run->store, extent, 0, BLOCKS, buf->data) == 0);
        CHECK(run, buf->data[0] == (uint8_t)i && buf->data[buf->size - 1] == (uint8_t)i);
    }
    buf_put(buf);
}

static void delete_all(struct run *run)
{
    struct store_batch batch;
    store_batch_init(&batch);
    for (uint32_t i = 0; i < EXTENTS && !run->failed_line; i++) {
        uint8_t key[9];
        store_batch_del(&batch, row_key(i, key));
        store_batch_extent_del(&batch, run->extents[i]);
    }
    CHECK(run, store_reserve(run->store, 0, true) == 0);
    uint64_t lsn = store_commit(run->store, &batch);
    CHECK(run, store_wait_durable(run->store, lsn) == 0);
    store_batch_fini(&batch);
}

static void body(void *arg)
{
    struct run *run = arg;
    struct store_identity identity = {.node = 1};
    CHECK(run, disk_open(run->path, 1 * GIB, DISK_CREATE, &run->disk) == 0);
    if (run->failed_line) {
        linux_reactor_stop(run->reactor);
        return;
    }
    CHECK(run, store_format(run->disk, &identity, run->is_device) == 0);
    open_store(run);
    if (run->failed_line == 0) {
        struct store_space space;
        store_space(run->store, &space);
        CHECK(run, run->is_device || space.free_bytes > GIB / 2); /* small segments */
        write_all(run);
        read_all(run);
        CHECK(run, store_check(run->store) == 0);
        CHECK(run, store_close(run->store) == 0);
        open_store(run);
        read_all(run);
        run->allocated_full = allocated(run);
        delete_all(run);
        fiber_sleep(1500 * NS_PER_MS); /* proof and discards */
        run->allocated_empty = allocated(run);
        CHECK(run, store_check(run->store) == 0);
        CHECK(run, store_close(run->store) == 0);
    }
    disk_close(run->disk);
    linux_reactor_stop(run->reactor);
}

static void make_file(struct run *run)
{
    const char *folder = getenv("TMPDIR");
    snprintf(run->path, sizeof run->path, "%.40s/store-XXXXXX", folder ? folder : "/tmp");
    int fd = mkstemp(run->path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(truncate(run->path, 1 << 30), 0);
}

static void test_file(void **state)
{
    struct run *run = calloc(1, sizeof *run);
    const char *device = getenv("STORE_TEST_DEVICE");
    run->is_device = device != NULL;
    if (device)
        snprintf(run->path, sizeof run->path, "%.60s", device);
    else
        make_file(run);
    assert_int_equal(linux_reactor_new(&run->reactor), 0);
    reactor_spawn(run->reactor, "test", body, run);
    assert_int_equal(linux_reactor_run(run->reactor), 0);
    linux_reactor_free(run->reactor);
    assert_int_equal(run->failed_line, 0);
    if (!run->is_device) {
        unlink(run->path);
        assert_true(run->allocated_full >= EXTENTS * BLOCKS * 4096ull);
        assert_true(run->allocated_empty < run->allocated_full / 2);
    }
    free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
