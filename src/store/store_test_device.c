/* SPDX-License-Identifier: MIT */
/* Each request of the simulated disk is one turn of a real reactor that owns the device. */
#include "store/store_test_device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "env/linux.h"

enum { WIPE_BYTES = 1 << 20 };

struct test_device {
    struct sim_backing backing;
    struct reactor *reactor;
    struct disk *disk;
    const char *path;
    enum disk_op op;
    uint64_t offset;
    void *data;
    uint32_t bytes;
    int result;
};

static void perform_fiber(void *arg)
{
    struct test_device *device = arg;
    switch (device->op) {
    case DISK_READ:
        device->result = disk_read(device->disk, device->offset, device->data, device->bytes);
        break;
    case DISK_WRITE:
        device->result = disk_write(device->disk, device->offset, device->data, device->bytes);
        break;
    case DISK_FLUSH:
        device->result = disk_flush(device->disk);
        break;
    case DISK_DISCARD:
        device->result = disk_discard(device->disk, device->offset, device->bytes);
        break;
    case DISK_SEAL:
        device->result = disk_seal(device->disk, device->offset, device->bytes);
        break;
    }
    linux_reactor_stop(device->reactor);
}

static int perform(struct sim_backing *backing, enum disk_op op, uint64_t offset, void *data,
                   uint32_t bytes)
{
    struct test_device *device = container_of(backing, struct test_device, backing);
    device->op = op;
    device->offset = offset;
    device->data = data;
    device->bytes = bytes;
    reactor_spawn(device->reactor, "device", perform_fiber, device);
    int result = linux_reactor_run(device->reactor);
    return result < 0 ? result : device->result;
}

/* A new disk begins with zeroes. What an earlier test has left behind them may stay. */
static int wipe_start(struct disk *disk)
{
    uint8_t *zeroes = mem_alloc_aligned(WIPE_BYTES, DISK_BLOCK_BYTES);
    memset(zeroes, 0, WIPE_BYTES);
    int result = disk_write(disk, 0, zeroes, WIPE_BYTES);
    mem_free(zeroes);
    return result;
}

static void open_fiber(void *arg)
{
    struct test_device *device = arg;
    device->result = disk_open(device->path, 0, 0, &device->disk);
    if (device->result == 0 && disk_info(device->disk)->zone_bytes > 0)
        device->result = disk_discard(device->disk, 0, disk_info(device->disk)->size_bytes);
    else if (device->result == 0)
        device->result = wipe_start(device->disk);
    linux_reactor_stop(device->reactor);
}

static void close_fiber(void *arg)
{
    struct test_device *device = arg;
    disk_close(device->disk);
    linux_reactor_stop(device->reactor);
}

struct test_device *test_device_open(struct sim *sim, const char *path, uint64_t size_bytes)
{
    struct test_device *device = mem_zalloc(sizeof *device);
    device->backing.perform = perform;
    device->path = path;
    assert_int_equal(linux_reactor_new(&device->reactor), 0);
    reactor_spawn(device->reactor, "open", open_fiber, device);
    assert_int_equal(linux_reactor_run(device->reactor), 0);
    assert_int_equal(device->result, 0);
    const struct disk_info *info = disk_info(device->disk);
    assert_true(info->size_bytes >= size_bytes);
    if (info->zone_bytes > 0)
        sim_disk_new_zoned(sim, "disk", size_bytes, info->zone_bytes, info->zones_active_max);
    else
        sim_disk_new(sim, "disk", size_bytes);
    sim_disk_back(sim, "disk", &device->backing);
    return device;
}

void test_device_close(struct test_device *device)
{
    reactor_spawn(device->reactor, "close", close_fiber, device);
    assert_int_equal(linux_reactor_run(device->reactor), 0);
    linux_reactor_free(device->reactor);
    mem_free(device);
}
