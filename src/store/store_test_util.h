/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_STORE_TEST_UTIL_H
#define CFS_STORE_STORE_TEST_UTIL_H

/* A world with one node and one disk on which a store lives, for the store's tests. Test bodies
 * run in a fiber; cmocka's assertions longjmp, so they record failures with CHECK and the main
 * stack looks at them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "env/sim.h"
#include "store/store_internal.h"
#include "store/store_test_device.h"

#undef assert
#define assert(expression)                                                                         \
    (__builtin_expect(!!(expression), 1) ? (void)0                                                 \
                                         : assert_fail(#expression, __FILE__, __LINE__, __func__))

enum {
    TEST_SEGMENT_BYTES = 1 << 20,
    TEST_ZONES_ACTIVE = 7, /* ZN4 */
    TEST_VALUE_BYTES = 300,
};

struct world {
    struct sim *sim;
    struct sim_node *node;
    struct test_device *device; /* NULL: the disk is simulated */
    struct disk *disk;
    struct store *store;
    const struct store_log_ops *log_ops;
    void *context;
    uint64_t memory_bytes;
    uint64_t flush_interval_ns;
    struct random random;
    fiber_fn body;
    void *arg;
    bool done;
    bool failed;
    int open_result;
};

#define CHECK(world, condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            if (!(world)->failed)                                                                  \
                fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #condition);      \
            (world)->failed = true;                                                                \
        }                                                                                          \
    } while (0)

static const struct store_log_ops test_no_log;

/* A row of a table that nothing else has. */
static inline struct slice test_row_key(uint32_t row, uint8_t key[9])
{
    be32_store(key, 3);
    key[4] = 0x10;
    be32_store(key + 5, row);
    return slice_of(key, 9);
}

/* Give the row a value that tells its stamp. Returns the LSN. */
static inline uint64_t test_row_put(struct world *world, uint32_t index, uint32_t stamp)
{
    uint8_t key[9], value[TEST_VALUE_BYTES];
    memset(value, (int)(index * 7 + stamp), sizeof value);
    struct store_batch batch;
    store_batch_init(&batch);
    store_batch_put(&batch, test_row_key(index, key), slice_of(value, sizeof value));
    uint64_t lsn = store_commit(world->store, &batch);
    store_batch_fini(&batch);
    return lsn;
}

/* 0: the row has that stamp; else what store_get said, or -EINVAL for another value. */
static inline int test_row_look(struct world *world, uint32_t index, uint32_t stamp)
{
    uint8_t key[9], value[TEST_VALUE_BYTES], expected[TEST_VALUE_BYTES];
    memset(expected, (int)(index * 7 + stamp), sizeof expected);
    int bytes = store_get(world->store, test_row_key(index, key), value, sizeof value);
    if (bytes < 0)
        return bytes;
    return bytes == TEST_VALUE_BYTES && memcmp(value, expected, TEST_VALUE_BYTES) == 0 ? 0
                                                                                       : -EINVAL;
}

/* Where a superblock of the two newest is. */
static inline uint64_t test_super_place(const struct disk *disk, uint64_t sequence)
{
    uint64_t zone = disk_info(disk)->zone_bytes;
    if (zone == 0)
        return sequence % DISK_SUPER_SLOTS * DISK_SUPER_BYTES;
    uint64_t start = sequence % 2 * zone;
    return start + disk_zone_written(disk, start) - DISK_SUPER_BYTES;
}

/* How many seeds a random test goes through: a few, as many as asked for, or the one asked for,
 * counted from 1. */
static inline uint64_t test_seeds(uint64_t usual)
{
    const char *text = getenv("STORE_TEST_SEEDS");
    if (getenv("STORE_TEST_SEED"))
        return 1;
    return text ? strtoull(text, NULL, 10) : usual;
}
static inline uint64_t test_first_seed(uint64_t usual)
{
    const char *text = getenv("STORE_TEST_SEED");
    return text ? usual + strtoull(text, NULL, 10) - 1 : usual;
}

static inline void world_init(struct world *world, uint64_t seed, uint64_t segments)
{
    *world = (struct world){.memory_bytes = 16 * MIB, .log_ops = &test_no_log};
    random_init(&world->random, seed);
    world->sim = sim_new(seed);
    world->node = sim_node_new(world->sim, "10.0.0.1");
    uint64_t bytes = segments * TEST_SEGMENT_BYTES;
    const char *zone_kib = getenv("STORE_TEST_ZONE_KIB"); /* the same on a zoned device */
    const char *device = getenv("STORE_TEST_DEVICE");     /* the same on a real one */
    if (device)
        world->device = test_device_open(world->sim, device, bytes);
    else if (zone_kib)
        sim_disk_new_zoned(world->sim, "disk", bytes, 1024u * (uint32_t)atoi(zone_kib),
                           TEST_ZONES_ACTIVE);
    else
        sim_disk_new(world->sim, "disk", bytes);
}

static inline void world_fini(struct world *world)
{
    sim_free(world->sim);
    if (world->device)
        test_device_close(world->device);
}

static inline void world_body(void *arg)
{
    struct world *world = arg;
    world->body(world->arg);
    world->done = true;
}

static inline bool world_done(void *arg)
{
    return ((struct world *)arg)->done;
}

/* Run body in a fiber on the node until it returns, but for no longer than wait_ns. */
static inline void world_run_for(struct world *world, fiber_fn body, void *arg, uint64_t wait_ns)
{
    world->body = body;
    world->arg = arg;
    world->done = false;
    reactor_spawn(sim_node_reactor(world->node), "test", world_body, world);
    (void)sim_run_until(world->sim, world_done, world, sim_now_ns(world->sim) + wait_ns);
    assert_false(world->failed);
}

/* Run body in a fiber on the node until it returns. */
static inline void world_run(struct world *world, fiber_fn body, void *arg)
{
    world_run_for(world, body, arg, 10000 * NS_PER_S);
    assert_true(world->done);
}

/* In a fiber. */
static inline void world_format(struct world *world)
{
    struct store_identity identity = {.node = 7};
    CHECK(world, disk_open("disk", 0, 0, &world->disk) == 0);
    CHECK(world, superblock_format(world->disk, &identity, true, TEST_SEGMENT_BYTES) == 0);
}

static inline void world_open(struct world *world)
{
    if (!world->disk)
        CHECK(world, disk_open("disk", 0, 0, &world->disk) == 0);
    struct store_options options = {
        .memory_bytes = world->memory_bytes, .log_ops = world->log_ops, .context = world->context};
    world->open_result = store_open(world->disk, &options, &world->store);
}

static inline void world_close(struct world *world)
{
    CHECK(world, store_close(world->store) == 0);
    world->store = NULL;
}

/* From outside: the power fails, or the process dies, and the node comes back. */
static inline void world_crash(struct world *world, bool power)
{
    if (power)
        sim_node_power_off(world->node);
    else
        sim_node_crash(world->node);
    world->disk = NULL;
    world->store = NULL;
    sim_node_restart(world->node);
}

#endif
