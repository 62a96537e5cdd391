/* SPDX-License-Identifier: MIT */
/* Goal: a table of more than ten times the cache grows in bounded memory, and a row costs the
 * device late no more than twice of what it cost early. Method: a real file, the smallest budget,
 * rows as creates of files make them (several directories at a time); the process may not get more
 * data memory than budget and a fixed amount for all else; the store's share is asserted. Counted
 * in bytes, not in seconds: those are the machine's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "env/linux.h"
#include "store/store_internal.h"

enum { FILES = 240000, DIRS = 16, FILES_PER_DIR = 500, INODE_BYTES = 200, KEY_BYTES = 21 };
#define MEMORY   (16 * MIB)
#define ELSE_MAX (64 * MIB) /* reactor, registered buffers, stacks, libraries */

struct run {
    struct reactor *reactor;
    struct disk *disk;
    struct store *store;
    char path[64];
    uint64_t heap_before;
    uint64_t heap_peak;
    uint64_t half_bytes; /* nodes written for the first half */
    int failed_line;
};

#define CHECK(run, condition)                                                                      \
    do {                                                                                           \
        if (!(condition) && (run)->failed_line == 0)                                               \
            (run)->failed_line = __LINE__;                                                         \
    } while (0)

static struct slice name_key(uint32_t file, uint8_t key[KEY_BYTES])
{
    uint32_t dir = file / (DIRS * FILES_PER_DIR) * DIRS + file % DIRS;
    be32_store(key, 3);
    key[4] = 0x11;
    be64_store(key + 5, hash_u64(dir));
    be64_store(key + 13, hash_u64(file));
    return slice_of(key, KEY_BYTES);
}

static void create(struct run *run, uint32_t file, struct store_batch *batch)
{
    uint8_t name[KEY_BYTES], inode[13], value[INODE_BYTES] = {0};
    be32_store(value, file);
    be32_store(inode, 3);
    inode[4] = 0x10;
    be64_store(inode + 5, hash_u64(file % 512) >> 52 << 52 | file);
    CHECK(run, store_reserve(run->store, 0, false) == 0);
    CHECK(run, store_get(run->store, name_key(file, name), value, sizeof value) == -ENOENT);
    store_batch_reset(batch);
    store_batch_put(batch, name_key(file, name), slice_of(value, 16));
    store_batch_put(batch, slice_of(inode, sizeof inode), slice_of(value, sizeof value));
    (void)store_commit(run->store, batch);
}

static void grow(struct run *run)
{
    struct store_batch batch;
    store_batch_init(&batch);
    for (uint32_t file = 0; file < FILES && !run->failed_line; file++) {
        create(run, file, &batch);
        if (file % 64 == 0) {
            run->heap_peak = MAX(run->heap_peak, mem_heap_bytes(NULL));
            fiber_yield();
        }
        if (file == FILES / 2)
            run->half_bytes = run->store->health.node_bytes;
    }
    store_batch_fini(&batch);
}

static void body(void *arg)
{
    struct run *run = arg;
    static const struct store_log_ops no_log;
    const struct store_options options = {.memory_bytes = MEMORY, .log_ops = &no_log};
    struct store_identity identity = {.node = 1};
    CHECK(run, disk_open(run->path, 4 * GIB, DISK_CREATE, &run->disk) == 0);
    CHECK(run, superblock_format(run->disk, &identity, false, 4 << 20) == 0);
    run->heap_before = mem_heap_bytes(NULL);
    CHECK(run, store_open(run->disk, &options, &run->store) == 0);
    if (run->failed_line == 0) {
        grow(run);
        CHECK(run, store_wait_durable(run->store, run->store->journal.next_lsn - 1) == 0);
        uint64_t table = run->store->live_nodes / 2 * STORE_BLOCK_BYTES;
        CHECK(run, table > 10 * (MEMORY / 2));
        CHECK(run, run->store->health.node_bytes - run->half_bytes < 2 * run->half_bytes);
        CHECK(run, store_check(run->store) == 0);
        run->heap_peak = MAX(run->heap_peak, mem_heap_bytes(NULL));
        CHECK(run, store_close(run->store) == 0);
    }
    disk_close(run->disk);
    linux_reactor_stop(run->reactor);
}

static void test_bounded(void **state)
{
    struct run *run = calloc(1, sizeof *run);
    const char *folder = getenv("TMPDIR");
    snprintf(run->path, sizeof run->path, "%.40s/store-XXXXXX", folder ? folder : "/tmp");
    int fd = mkstemp(run->path);
    assert_true(fd >= 0);
    close(fd);
#ifndef __SANITIZE_ADDRESS__ /* its shadow is data, too */
    const struct rlimit limit = {MEMORY + ELSE_MAX, MEMORY + ELSE_MAX};
    assert_int_equal(setrlimit(RLIMIT_DATA, &limit), 0);
#endif
    assert_int_equal(linux_reactor_new(&run->reactor), 0);
    reactor_spawn(run->reactor, "test", body, run);
    assert_int_equal(linux_reactor_run(run->reactor), 0);
    linux_reactor_free(run->reactor);
    unlink(run->path);
    assert_int_equal(run->failed_line, 0);
    /* The budget, and the journal's and the merge's buffers. */
    assert_true(run->heap_peak - run->heap_before < MEMORY + 8 * MIB);
    free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
