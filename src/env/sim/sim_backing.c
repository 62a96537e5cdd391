/* SPDX-License-Identifier: MIT */
/* Simulated disks whose content is on a real device: the device's rules and answers are the real
 * ones, while time, order, crashes and faults stay simulated. Bits flipped by a test are kept here
 * and applied to what is read, because not every device lets a block be written again. */
#include <string.h>

#include "env/sim/sim_internal.h"

struct sim_flip {
    struct list link;
    uint64_t offset;
    uint8_t mask;
};

void sim_disk_back(struct sim *sim, const char *path, struct sim_backing *backing)
{
    struct sim_disk *disk = sim_disk_find(sim, path);
    assert(disk && !disk->owner && disk->pages_used == 0);
    disk->backing = backing;
}

void sim_backing_flip(struct sim_disk *disk, uint64_t offset, uint32_t bit)
{
    struct sim_flip *flip = sim_alloc(sizeof *flip);
    flip->offset = offset;
    flip->mask = (uint8_t)(1u << bit);
    list_push_back(&disk->flips, &flip->link);
}

static void flips_apply(const struct sim_disk *disk, uint64_t offset, uint8_t *data, uint32_t bytes)
{
    struct sim_flip *flip;
    list_for_each (flip, &disk->flips, link) {
        if (flip->offset >= offset && flip->offset < offset + bytes)
            data[flip->offset - offset] ^= flip->mask;
    }
}

static void flips_forget(struct sim_disk *disk, uint64_t offset, uint64_t bytes)
{
    struct sim_flip *flip, *after;
    list_for_each_safe (flip, after, &disk->flips, link) {
        if (flip->offset < offset || flip->offset >= offset + bytes)
            continue;
        list_remove(&flip->link);
        mem_free(flip);
    }
}

int sim_backing_perform(struct sim_disk *disk, enum disk_op op, uint64_t offset, void *data,
                        uint32_t bytes)
{
    int result = disk->backing->perform(disk->backing, op, offset, data, bytes);
    if (result == 0 && op == DISK_READ)
        flips_apply(disk, offset, data, bytes);
    if (result == 0 && (op == DISK_WRITE || op == DISK_DISCARD))
        flips_forget(disk, offset, bytes);
    return result;
}

void sim_backing_peek(struct sim_disk *disk, uint64_t offset, void *data, size_t bytes)
{
    uint8_t *block = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    for (size_t done = 0; done < bytes;) {
        uint64_t at = offset + done;
        size_t part = MIN(bytes - done, DISK_BLOCK_BYTES - at % DISK_BLOCK_BYTES);
        int result = sim_backing_perform(disk, DISK_READ, round_down(at, DISK_BLOCK_BYTES), block,
                                         DISK_BLOCK_BYTES);
        assert(result == 0);
        memcpy((uint8_t *)data + done, block + at % DISK_BLOCK_BYTES, part);
        done += part;
    }
    mem_free(block);
}

void sim_backing_free(struct sim_disk *disk)
{
    flips_forget(disk, 0, UINT64_MAX);
}
