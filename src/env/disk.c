/* SPDX-License-Identifier: MIT */
/* Disks: argument checks and the calls that suspend a fiber, over the backend's disk_submit. */
#include "env/reactor_internal.h"

enum { IO_BYTES_MAX = 8 << 20 }; /* of one request made here; larger ones go in pieces */

may_yield must_check int disk_open(const char *path, uint64_t size_bytes, uint32_t flags,
                                   struct disk **ret_disk)
{
    struct reactor *reactor = reactor_self();
    assert(flags == 0 || flags == DISK_CREATE || flags == DISK_READ_ONLY);
    assert(size_bytes % DISK_BLOCK_BYTES == 0);
    return reactor->backend->disk_open(reactor, path, size_bytes, flags, ret_disk);
}

may_yield must_check int disk_open_part(const char *path, uint64_t offset, uint64_t bytes,
                                        uint32_t flags, struct disk **ret_disk)
{
    struct reactor *reactor = reactor_self();
    struct disk *disk;
    assert(flags == 0 || flags == DISK_READ_ONLY);
    assert(offset % DISK_BLOCK_BYTES == 0 && bytes % DISK_BLOCK_BYTES == 0 && bytes > 0);
    int result = reactor->backend->disk_open(reactor, path, 0, flags | DISK_UNLOCKED, &disk);
    if (result < 0)
        return result;
    if (disk->zones) { /* its zones would have to be shared out as well */
        disk_close(disk);
        return -EOPNOTSUPP;
    }
    if (disk->info.size_bytes < bytes || disk->info.size_bytes - bytes < offset) {
        disk_close(disk);
        return -ENXIO;
    }
    disk->part_offset = offset;
    disk->info.size_bytes = bytes;
    *ret_disk = disk;
    return 0;
}

void disk_close(struct disk *disk)
{
    assert(disk->reactor == reactor_self());
    disk->reactor->backend->disk_close(disk);
}

const struct disk_info *disk_info(const struct disk *disk)
{
    return &disk->info;
}

void disk_submit(struct disk *disk, struct disk_io *io)
{
    assert(disk->reactor == reactor_self() && io->done);
    assert(io->op == DISK_READ || !disk->info.read_only);
    if (io->op != DISK_FLUSH) {
        assert(io->offset % DISK_BLOCK_BYTES == 0 && io->bytes % DISK_BLOCK_BYTES == 0);
        assert(io->bytes > 0 && io->offset + io->bytes <= disk->info.size_bytes);
        assert(io->op >= DISK_DISCARD || (uintptr_t)io->data % DISK_BLOCK_BYTES == 0);
    }
    assert(!io->durable || (io->op == DISK_WRITE && !disk->zones));
    io->offset += disk->part_offset;
    list_init(&io->link);
    if (disk->zones)
        disk_zones_submit(disk, io);
    else
        disk->reactor->backend->disk_submit(disk, io);
}

struct disk_wait {
    struct disk_io io;
    struct fiber *fiber;
    bool done;
};

static void wait_done(struct disk_io *io)
{
    struct disk_wait *wait = container_of(io, struct disk_wait, io);
    wait->done = true;
    fiber_resume(wait->fiber);
}

static int run_one(struct disk *disk, enum disk_op op, uint64_t offset, void *data, uint32_t bytes)
{
    struct disk_wait wait = {.fiber = fiber_running()};
    wait.io = (struct disk_io){
        .op = op, .offset = offset, .data = data, .bytes = bytes, .done = wait_done};
    disk_submit(disk, &wait.io);
    while (!wait.done)
        fiber_suspend();
    assert(wait.io.result <= 0);
    return wait.io.result;
}

static int run(struct disk *disk, enum disk_op op, uint64_t offset, void *data, uint64_t bytes)
{
    int result = 0;
    for (uint64_t at = 0; at < bytes && result == 0;) {
        bool whole_zones = disk->zones && op >= DISK_DISCARD;
        uint64_t most = whole_zones ? disk->info.zone_bytes : IO_BYTES_MAX;
        uint32_t piece = (uint32_t)MIN(bytes - at, most);
        void *place = data ? (char *)data + at : NULL;
        result = run_one(disk, op, offset + at, place, piece);
        at += piece;
    }
    return result;
}

may_yield must_check int disk_read(struct disk *disk, uint64_t offset, void *data, uint64_t bytes)
{
    return run(disk, DISK_READ, offset, data, bytes);
}

may_yield must_check int disk_write(struct disk *disk, uint64_t offset, const void *data,
                                    uint64_t bytes)
{
    /* The request type serves reads and writes; a write does not change the bytes. */
    return run(disk, DISK_WRITE, offset, (void *)(uintptr_t)data, bytes);
}

may_yield must_check int disk_flush(struct disk *disk)
{
    return run_one(disk, DISK_FLUSH, 0, NULL, 0);
}

may_yield must_check int disk_discard(struct disk *disk, uint64_t offset, uint64_t bytes)
{
    return run(disk, DISK_DISCARD, offset, NULL, bytes);
}

may_yield must_check int disk_seal(struct disk *disk, uint64_t offset, uint64_t bytes)
{
    return run(disk, DISK_SEAL, offset, NULL, bytes);
}
