/* SPDX-License-Identifier: MIT */
/* Goal: what is submitted to a zoned disk reaches the (simulated) device in an order and number of
 * zones that it accepts, whatever was submitted together; what cannot be fails; a power loss takes
 * suffixes of zones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "env/sim.h"

#undef assert
#define assert(expression)                                                                         \
    (__builtin_expect(!!(expression), 1) ? (void)0                                                 \
                                         : assert_fail(#expression, __FILE__, __LINE__, __func__))

enum { ZONES = 8, ZONE_BYTES = 16 * DISK_BLOCK_BYTES, ACTIVE_MAX = 3, BURST = 40 };

struct world {
    struct sim *sim;
    struct sim_node *node;
    struct disk *disk;
    fiber_fn body;
    bool done;
    int failed_line;
};

#define CHECK(world, condition)                                                                    \
    do {                                                                                           \
        if (!(condition) && (world)->failed_line == 0)                                             \
            (world)->failed_line = __LINE__;                                                       \
    } while (0)

static void main_fiber(void *arg)
{
    struct world *world = arg;
    CHECK(world, disk_open("disk", 0, 0, &world->disk) == 0);
    world->body(world);
    world->done = true;
}

static bool finished(void *arg)
{
    return ((struct world *)arg)->done;
}

static void run(struct world *world, fiber_fn body)
{
    world->body = body;
    world->done = false;
    reactor_spawn(sim_node_reactor(world->node), "test", main_fiber, world);
    bool done = sim_run_until(world->sim, finished, world, sim_now_ns(world->sim) + 100 * NS_PER_S);
    assert_true(done);
    assert_int_equal(world->failed_line, 0);
}

static void setup(struct world *world, uint64_t seed)
{
    *world = (struct world){.sim = sim_new(seed)};
    world->node = sim_node_new(world->sim, "10.0.0.1");
    sim_disk_new_zoned(world->sim, "disk", (uint64_t)ZONES * ZONE_BYTES, ZONE_BYTES, ACTIVE_MAX);
}

static uint8_t *block_of(uint8_t byte, uint32_t blocks)
{
    uint8_t *bytes = mem_alloc_aligned(blocks * DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    memset(bytes, byte, blocks * DISK_BLOCK_BYTES);
    return bytes;
}

/* ---- requests in flight together ------------------------------------------------------------ */

struct burst {
    struct disk_io io[BURST];
    struct waitq queue;
    uint32_t left;
    uint32_t errors;
};

static struct burst *burst_now; /* of the one test that runs */

static void burst_done(struct disk_io *io)
{
    burst_now->errors += io->result != 0;
    burst_now->left--;
    waitq_wake_all(&burst_now->queue);
}

static void burst_add(struct world *world, enum disk_op op, uint64_t offset, uint8_t *data,
                      uint32_t blocks)
{
    struct burst *burst = burst_now;
    struct disk_io *io = &burst->io[burst->left++];
    *io = (struct disk_io){.op = op,
                           .offset = offset,
                           .data = data,
                           .bytes = blocks * DISK_BLOCK_BYTES,
                           .done = burst_done};
    disk_submit(world->disk, io);
}

static struct burst *burst_new(void)
{
    burst_now = mem_zalloc(sizeof *burst_now);
    waitq_init(&burst_now->queue);
    return burst_now;
}

static uint32_t burst_wait(struct burst *burst)
{
    while (burst->left > 0)
        (void)!waitq_wait(&burst->queue, 0);
    uint32_t errors = burst->errors;
    mem_free(burst);
    return errors;
}

static void many_at_once(void *arg)
{
    struct world *world = arg;
    struct burst *burst = burst_new();
    uint8_t *data[BURST];
    /* Five blocks each: every third or so lies across the end of a zone. */
    for (uint32_t i = 0; i < 24; i++) {
        data[i] = block_of((uint8_t)(i + 1), 5);
        burst_add(world, DISK_WRITE, (uint64_t)i * 5 * DISK_BLOCK_BYTES, data[i], 5);
    }
    CHECK(world, burst_wait(burst) == 0);
    CHECK(world, disk_zone_written(world->disk, 0) == ZONE_BYTES);
    CHECK(world, disk_zone_written(world->disk, 7 * ZONE_BYTES) == 8 * DISK_BLOCK_BYTES);
    CHECK(world, disk_appendable(world->disk, 120 * DISK_BLOCK_BYTES));
    CHECK(world, !disk_appendable(world->disk, 119 * DISK_BLOCK_BYTES));
    uint8_t *back = block_of(0, 120);
    CHECK(world, disk_read(world->disk, 0, back, 120 * DISK_BLOCK_BYTES) == 0);
    for (uint32_t i = 0; i < 120 * DISK_BLOCK_BYTES; i++)
        CHECK(world, back[i] == i / (5 * DISK_BLOCK_BYTES) + 1);
    for (uint32_t i = 0; i < 24; i++)
        mem_free(data[i]);
    mem_free(back);
    disk_close(world->disk);
}

static void test_order(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world world;
        setup(&world, seed);
        run(&world, many_at_once);
        sim_free(world.sim);
    }
}

static void reuse(void *arg)
{
    struct world *world = arg;
    uint8_t *old = block_of(1, 16), *fresh = block_of(2, 16), *back = block_of(9, 16);
    CHECK(world, disk_write(world->disk, 0, old, ZONE_BYTES) == 0);
    CHECK(world, disk_write(world->disk, 0, fresh, 2 * DISK_BLOCK_BYTES) == 0);
    CHECK(world, disk_zone_written(world->disk, 0) == 2 * DISK_BLOCK_BYTES);
    CHECK(world, disk_read(world->disk, 0, back, ZONE_BYTES) == 0);
    CHECK(world, back[DISK_BLOCK_BYTES] == 2 && back[2 * DISK_BLOCK_BYTES] == 0);
    CHECK(world, disk_discard(world->disk, 0, ZONE_BYTES) == 0);
    CHECK(world, disk_zone_written(world->disk, 0) == 0);
    mem_free(old);
    mem_free(fresh);
    mem_free(back);
    disk_close(world->disk);
}

static void test_reuse(void **state)
{
    struct world world;
    setup(&world, 1);
    run(&world, reuse);
    sim_free(world.sim);
}

/* Each zone gets one block and is sealed; all of it is submitted together. */
static void limit_kept(void *arg)
{
    struct world *world = arg;
    uint8_t *data = block_of(1, 16);
    struct burst *burst = burst_new();
    for (uint64_t i = 0; i < ZONES; i++) {
        if (i >= ACTIVE_MAX)
            burst_add(world, DISK_SEAL, (i - ACTIVE_MAX) * ZONE_BYTES, NULL, 16);
        burst_add(world, DISK_WRITE, i * ZONE_BYTES, data, 1);
    }
    CHECK(world, burst_wait(burst) == 0);
    CHECK(world, disk_zone_written(world->disk, 0) == ZONE_BYTES);
    /* Three are active and none of them is about to end: no room for a fourth. */
    CHECK(world, disk_write(world->disk, 0, data, DISK_BLOCK_BYTES) == -ENOSPC);
    CHECK(world, disk_seal(world->disk, 7 * ZONE_BYTES, ZONE_BYTES) == 0);
    CHECK(world, disk_write(world->disk, 0, data, DISK_BLOCK_BYTES) == 0);
    /* A seal of an empty zone leaves it empty. */
    CHECK(world, disk_discard(world->disk, 2 * ZONE_BYTES, ZONE_BYTES) == 0);
    CHECK(world, disk_seal(world->disk, 2 * ZONE_BYTES, ZONE_BYTES) == 0);
    CHECK(world, disk_zone_written(world->disk, 2 * ZONE_BYTES) == 0);
    mem_free(data);
    disk_close(world->disk);
}

static void test_limit(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world world;
        setup(&world, seed);
        run(&world, limit_kept);
        sim_free(world.sim);
    }
}

static void failing(void *arg)
{
    struct world *world = arg;
    uint8_t *data = block_of(1, 1);
    struct burst *burst = burst_new();
    for (uint64_t i = 0; i < 4; i++)
        burst_add(world, DISK_WRITE, i * DISK_BLOCK_BYTES, data, 1);
    CHECK(world, burst_wait(burst) == 4);
    mem_free(data);
    disk_close(world->disk);
}

static void test_failure(void **state)
{
    struct world world;
    setup(&world, 1);
    struct sim_disk_config config = *sim_disk_config(world.sim, "disk");
    config.write_error_ppm = 1000000;
    sim_disk_configure(world.sim, "disk", &config);
    run(&world, failing);
    sim_free(world.sim);
}

static void half_durable(void *arg)
{
    struct world *world = arg;
    uint8_t *data = block_of(7, 10);
    CHECK(world, disk_write(world->disk, 0, data, 4 * DISK_BLOCK_BYTES) == 0);
    CHECK(world, disk_flush(world->disk) == 0);
    CHECK(world, disk_write(world->disk, 4 * DISK_BLOCK_BYTES, data, 6 * DISK_BLOCK_BYTES) == 0);
}

static void after_loss(void *arg)
{
    struct world *world = arg;
    uint64_t written = disk_zone_written(world->disk, 0);
    uint8_t *back = block_of(9, 16);
    CHECK(world, written >= 4 * DISK_BLOCK_BYTES && written <= 10 * DISK_BLOCK_BYTES);
    CHECK(world, disk_read(world->disk, 0, back, ZONE_BYTES) == 0);
    for (uint32_t i = 0; i < ZONE_BYTES; i += 512)
        CHECK(world, back[i] == (i < written ? 7 : 0));
    CHECK(world, disk_write(world->disk, written, back, DISK_BLOCK_BYTES) == 0);
    mem_free(back);
    disk_close(world->disk);
}

static void test_power_loss(void **state)
{
    bool lost = false;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world world;
        setup(&world, seed);
        run(&world, half_durable);
        sim_node_power_off(world.node);
        sim_node_restart(world.node);
        lost |= sim_disk_blocks_used(world.sim, "disk") < 10;
        run(&world, after_loss);
        sim_free(world.sim);
    }
    assert_true(lost);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),      cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_limit),      cmocka_unit_test(test_failure),
        cmocka_unit_test(test_power_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
