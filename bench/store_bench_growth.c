/* SPDX-License-Identifier: MIT */
/* Metadata that outgrows memory: files are created as the namespace does it, in many directories.
 *
 * Each fiber fills a directory with 1000 files and takes the next. A create looks for the name,
 * reads the directory's inode, and commits name, inode, directory and the request's result. The
 * keys have the shape of format/disk_meta.h: a file's number begins with its directory's slot, so
 * there are 4096 places at which inodes are added, and names of a directory are in hash order. A
 * line per second tells how the rate goes as the table outgrows the cache. */
#include "store_bench.h"

#include <stdio.h>
#include <string.h>

#include "format/disk_meta.h"

enum { FIBERS = 32, FILES_PER_DIR = 1000, NAME_BYTES = 12 };

struct growth {
    struct bench *bench;
    uint64_t dirs;
    uint64_t fibers;
    uint64_t files;
    uint64_t last_files;
    uint64_t last_ns;
    uint64_t stall_ns; /* since the last line */
};

static uint8_t *key_start(uint8_t *key, enum meta_table table)
{
    be32_store(key, 3);
    key[4] = (uint8_t)table;
    return key + META_KEY_PREFIX;
}

static struct slice inode_key(uint8_t key[13], uint64_t ino)
{
    be64_store(key_start(key, META_TABLE_INODE), ino);
    return slice_of(key, 13);
}

static struct slice name_key(uint8_t key[META_KEY_MAX], uint64_t dir, uint64_t file)
{
    char name[NAME_BYTES + 1];
    uint8_t *place = key_start(key, META_TABLE_DENTRY);
    (void)snprintf(name, sizeof name, "file-%07llu", (unsigned long long)file % 10000000);
    be64_store(place, dir);
    be64_store(place + 8, hash_bytes(name, NAME_BYTES, 0));
    memcpy(place + 16, name, NAME_BYTES);
    return slice_of(key, META_KEY_PREFIX + 16 + NAME_BYTES);
}

static void create(struct bench *bench, uint64_t fiber, uint64_t dir, uint64_t ino,
                   struct store_batch *batch)
{
    uint8_t key[META_KEY_MAX], dir_key[13], file_key[13], request_key[17];
    struct disk_inode inode = {.size = 0, .nlink = 1};
    struct disk_inode parent = {.nlink = 2};
    struct disk_dentry entry = {.ino = ino};
    struct disk_request request = {.slot_seq = ino};
    bench_check(store_reserve(bench->store, 0, false), "reserve");
    struct slice name = name_key(key, dir, ino);
    if (store_get(bench->store, name, &entry, sizeof entry) != -ENOENT)
        bench_check(-EEXIST, "create");
    int result = store_get(bench->store, inode_key(dir_key, dir), &parent, sizeof parent);
    bench_check(result == -ENOENT ? 0 : result, "directory");
    parent.entries++;
    inode.parent = dir;
    inode.mtime_ns = (int64_t)env_now_ns();
    uint8_t *place = key_start(request_key, META_TABLE_REQUEST);
    be64_store(place, 1);
    be32_store(place + 8, (uint32_t)fiber);
    store_batch_reset(batch);
    store_batch_put(batch, name, slice_of(&entry, sizeof entry));
    store_batch_put(batch, inode_key(file_key, ino), slice_of(&inode, sizeof inode));
    store_batch_put(batch, inode_key(dir_key, dir), slice_of(&parent, sizeof parent));
    store_batch_put(batch, slice_of(request_key, sizeof request_key),
                    slice_of(&request, sizeof request));
    bench_check(store_wait_written(bench->store, store_commit(bench->store, batch)), "wait");
}

static void print_progress(struct growth *growth)
{
    struct store_health health;
    uint64_t now = env_now_ns();
    store_health(growth->bench->store, &health);
    printf("{\"row\": \"growth progress\", \"files\": %llu, \"ops_per_s\": %.0f, "
           "\"stall_ms\": %.2f, \"memory_bytes\": %llu, \"node_bytes\": %llu}\n",
           (unsigned long long)growth->files,
           (double)(growth->files - growth->last_files) * 1e9 / (double)(now - growth->last_ns),
           (double)growth->stall_ns / 1e6, (unsigned long long)health.memory_bytes,
           (unsigned long long)health.node_bytes);
    fflush(stdout);
    growth->last_files = growth->files;
    growth->last_ns = now;
    growth->stall_ns = 0;
}

static void creator(void *arg)
{
    struct bench *bench = arg;
    struct growth *growth = bench->context;
    struct store_batch batch;
    uint64_t index, dir = 0, slot = 0, in_dir = FILES_PER_DIR, fiber = growth->fibers++;
    store_batch_init(&batch);
    while (bench_next(bench, &index)) {
        if (in_dir == FILES_PER_DIR) {
            slot = hash_u64(++growth->dirs) >> META_INO_BITS;
            dir = slot << META_INO_BITS | META_INO_DIR | growth->dirs;
            in_dir = 0;
        }
        in_dir++;
        uint64_t start = env_now_ns();
        create(bench, fiber, dir, slot << META_INO_BITS | (index + 1), &batch);
        growth->stall_ns = MAX(growth->stall_ns, env_now_ns() - start);
        bench_op_done(bench, start);
        growth->files++;
        if (env_now_ns() - growth->last_ns > NS_PER_S)
            print_progress(growth);
    }
    store_batch_fini(&batch);
    bench_fiber_done(bench);
}

void bench_growth(struct bench *bench)
{
    struct growth growth = {.bench = bench, .last_ns = env_now_ns()};
    const struct bench_row row = {"growth", creator, FIBERS, bench->growth_files, 0};
    if (!bench_wants(bench, row.name) || row.limit == 0)
        return;
    uint64_t row_ns = bench->row_ns;
    bench->row_ns = 3600 * NS_PER_S;
    bench->context = &growth;
    bench_open(bench);
    bench_run(bench, &row);
    bench_close(bench);
    bench->row_ns = row_ns;
}
