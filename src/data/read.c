/* SPDX-License-Identifier: MIT */
/* From positions to verified bytes.
 *
 * Nothing keeps a row's blocks in place while they are read: a newer write may free them, the
 * cleaner may move them, and something else may be written there. The checksum, taken from the row
 * together with the address, tells; so the first answer to a mismatch is to look the row up again.
 * Only what is wrong at the same address twice is damage. */
#include "data/data_internal.h"

#include "base/crc32c.h"
#include "base/plant.h"

enum { READ_FIBERS_MAX = 8 }; /* device reads in flight for one request */

/* Runs of a look-up, being read by several fibers. */
struct run_reads {
    struct store *store;
    struct data_io *io;
    uint32_t next;
    uint32_t fibers; /* helpers that have not ended */
    struct waitq ended;
};

static void read_some(struct run_reads *reads)
{
    struct data_io *io = reads->io;
    while (reads->next < io->run_count) {
        struct data_run *run = &io->runs[reads->next++];
        run->result = store_extent_read(reads->store, run->extent, 0, run->extent.blocks,
                                        io->data + (size_t)run->first * DATA_BLOCK_BYTES);
    }
}

static void read_fiber(void *arg)
{
    struct run_reads *reads = arg;
    read_some(reads);
    assert(reads->fibers > 0);
    if (--reads->fibers == 0)
        waitq_wake_all(&reads->ended);
}

static void read_runs(struct data_service *service, struct data_io *io)
{
    struct run_reads reads = {.store = service->store, .io = io};
    waitq_init(&reads.ended);
    if (io->run_count > 1)
        reads.fibers = MIN(io->run_count, (uint32_t)READ_FIBERS_MAX) - 1;
    for (uint32_t i = reads.fibers; i > 0; i--)
        fiber_spawn("data-read", read_fiber, &reads);
    read_some(&reads);
    while (reads.fibers > 0)
        (void)waitq_wait(&reads.ended, 0); /* the device answers, with an error if need be */
}

static void fill_hole(struct data_service *service, struct data_io *io, uint32_t from, uint32_t to)
{
    assert(from <= to && to <= io->blocks);
    memset(io->data + (size_t)from * DATA_BLOCK_BYTES, 0, (size_t)(to - from) * DATA_BLOCK_BYTES);
    for (uint32_t i = from; i < to; i++) {
        io->crcs[i] = service->zero_crc;
        io->bad[i] = false;
    }
}

static void verify_runs(struct data_service *service, struct data_io *io)
{
    uint32_t at = 0;
    io->bad_count = 0;
    for (uint32_t r = 0; r < io->run_count; r++) {
        const struct data_run *run = &io->runs[r];
        fill_hole(service, io, at, run->first);
        at = run->first + run->extent.blocks;
        for (uint32_t i = run->first; i < at; i++) {
            const uint8_t *block = io->data + (size_t)i * DATA_BLOCK_BYTES;
            bool match =
                PLANT(DATA_READ_UNCHECKED) || crc32c(0, block, DATA_BLOCK_BYTES) == io->crcs[i];
            io->bad[i] = run->result < 0 || !match;
            io->bad_count += io->bad[i];
        }
    }
    fill_hole(service, io, at, io->blocks);
}

int data_read_applied(struct data_service *service, struct data_io *io)
{
    assert((uintptr_t)io->data % BUF_ALIGN == 0);
    for (uint32_t attempt = 0;; attempt++) {
        int result = data_look_range(service, io);
        if (result < 0)
            return result;
        read_runs(service, io);
        verify_runs(service, io);
        if (io->bad_count == 0 || attempt == 1)
            return 0;
    }
}

int data_read(struct data_service *service, struct data_io *io)
{
    int result = data_read_applied(service, io);
    if (result < 0 || io->bad_count == 0)
        return result;
    for (uint32_t i = 0; i < io->blocks; i++) {
        if (!io->bad[i])
            continue;
        result = data_repair_block(service, io, i);
        if (result < 0)
            return result;
    }
    return 0;
}
