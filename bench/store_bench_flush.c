/* SPDX-License-Identifier: MIT */
/* Durable transactions, and what the file system does for a plain writer, in turns.
 *
 * How often a disk flushes in a second depends on what else it does, from one second to the next.
 * So the two are measured by turns of a quarter of a second, for some rounds, and store.py takes
 * medians. A row pays for the merges that its own transactions cause, not for another's. The plain
 * writer overwrites a file that has all its blocks, with writes as large as the store's were in the
 * turn before: write, fdatasync, and again, in plain system calls. */
#include "store_bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

enum { ROUNDS = 9, RAW_BYTES = 64 << 20, CHUNK_BYTES = 1 << 20 };
#define TURN_NS (250 * NS_PER_MS)

struct raw {
    int fd;
    uint8_t *buffer;
    uint64_t at;
};

static int raw_error(ssize_t result, ssize_t wanted)
{
    if (result == wanted)
        return 0;
    return result < 0 ? -errno : -EIO;
}

static void raw_open(struct raw *raw, const char *beside)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s.raw", beside);
    raw->fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (raw->fd < 0 && errno == EINVAL)
        raw->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    bench_check(raw->fd < 0 ? -errno : 0, path);
    (void)unlink(path);
    raw->buffer = mem_alloc_aligned(CHUNK_BYTES, STORE_BLOCK_BYTES);
    memset(raw->buffer, 1, CHUNK_BYTES);
    for (uint64_t at = 0; at < RAW_BYTES; at += CHUNK_BYTES)
        bench_check(raw_error(pwrite(raw->fd, raw->buffer, CHUNK_BYTES, (off_t)at), CHUNK_BYTES),
                    "fill");
    bench_check(fsync(raw->fd) < 0 ? -errno : 0, "fsync");
}

static void raw_turn(struct raw *raw, const char *name, uint32_t bytes)
{
    uint64_t start = env_now_ns(), now = start, flushes = 0;
    for (; now < start + TURN_NS; now = env_now_ns()) {
        if (raw->at + bytes > RAW_BYTES)
            raw->at = 0;
        bench_check(raw_error(pwrite(raw->fd, raw->buffer, bytes, (off_t)raw->at), bytes), "write");
        bench_check(fdatasync(raw->fd) < 0 ? -errno : 0, "fdatasync");
        raw->at += bytes;
        flushes++;
    }
    printf("{\"row\": \"%s\", \"flushes\": %llu, \"seconds\": %.4f, \"write_bytes\": %u}\n", name,
           (unsigned long long)flushes, (double)(now - start) / 1e9, bytes);
}

/* Bytes of one journal write in the row just run, in whole blocks. */
static uint32_t write_bytes(const struct bench *bench, const struct store_health *before)
{
    struct store_health now;
    store_health(bench->store, &now);
    uint64_t flushes = MAX(now.flushes - before->flushes, 1ull);
    uint64_t bytes = (now.journal_bytes - before->journal_bytes) / flushes;
    bytes = round_down(bytes + STORE_BLOCK_BYTES / 2, STORE_BLOCK_BYTES);
    return (uint32_t)MIN(MAX(bytes, (uint64_t)STORE_BLOCK_BYTES), (uint64_t)CHUNK_BYTES);
}

void bench_flush(struct bench *bench)
{
    static const struct {
        struct bench_row row;
        const char *raw;
    } turns[] = {
        {{"flush store x1", bench_commit_durable, 1, 0, 0}, "flush raw x1"},
        {{"flush store x16", bench_commit_durable, 16, 0, 0}, "flush raw x16"},
        {{"flush store x64", bench_commit_durable, 64, 0, 0}, "flush raw x64"},
        {{"flush store x256", bench_commit_durable, 256, 0, 0}, "flush raw x256"},
    };
    static const struct bench_row fill = {"flush fill", bench_commit_only, 1, 800000, 0};
    uint64_t row_ns = bench->row_ns;
    struct raw raw = {0};
    if (!bench_wants(bench, fill.name))
        return;
    bench_open(bench);
    raw_open(&raw, bench->path);
    bench->row_ns = 600 * NS_PER_S;
    bench_run(bench, &fill); /* a store in use: its journal has been around once */
    bench_settle(bench);
    bench->row_ns = TURN_NS;
    bench->at_once = true;
    for (uint32_t i = 0; i < ARRAY_COUNT(turns); i++) {
        bench_settle(bench); /* what the row before has left to be merged is not this one's */
        for (uint32_t round = 0; round < ROUNDS; round++) {
            struct store_health before;
            store_health(bench->store, &before);
            bench_run(bench, &turns[i].row);
            raw_turn(&raw, turns[i].raw, write_bytes(bench, &before));
        }
    }
    bench->row_ns = row_ns;
    bench->at_once = false;
    close(raw.fd);
    mem_free(raw.buffer);
    bench_close(bench);
}
