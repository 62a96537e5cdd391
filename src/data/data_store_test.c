/* SPDX-License-Identifier: MIT */
/* Goal: the object service and the real store agree: accounting of space, the cleaner's moves, and
 * what a damaged device does. Method: the model of data_test.c on two real stores with simulated
 * disks, with only group and rpc faked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "data/data_model.h"
#include "env/sim.h"

#define DISK_BYTES (256 * MIB)

static const char *const disk_names[2] = {"a", "b"};

static void open_stores(struct world *world, struct store *stores[2])
{
    static const struct store_log_ops no_log;
    const struct store_identity identity = {.node = 1};
    const struct store_options options = {.memory_bytes = 16 * MIB, .log_ops = &no_log};
    for (uint32_t i = 0; i < 2; i++) {
        struct disk *disk;
        REQUIRE(world, disk_open(disk_names[i], DISK_BYTES, DISK_CREATE, &disk) == 0);
        REQUIRE(world, store_format(disk, &identity, false) == 0);
        REQUIRE(world, store_open(disk, &options, &stores[i]) == 0);
    }
}

static void check_stores(struct world *world)
{
    for (uint32_t i = 0; i < 2; i++)
        REQUIRE(world, store_check(world->hosts[i].store) == 0);
}

static void model_fiber(void *arg)
{
    struct world *world = arg;
    struct store *stores[2];
    open_stores(world, stores);
    world_init(world, stores, 1);
    for (uint32_t i = 0; i < 1000 && !world->wrong; i++) {
        uint64_t base = random_chance(&world->random, 1, 3) ? OBJECT_BYTES - 200000 : 0;
        model_step(world, base, base + 400000);
        if (i % 60 == 59)
            model_truncate(world, random_below(&world->random, OBJECT_BYTES + 100000));
    }
    model_quiesce(world);
    model_check(world);
    check_stores(world);
    model_truncate(world, 0);
    model_quiesce(world);
    model_check(world);
    check_stores(world);
    world->done = true;
}

static void test_model(void **state)
{
    struct world world = {0};
    model_run(model_fiber, &world);
}

/* Write much more than the device has, with now and then a part that is never written again: the
 * cleaner has to move those. */
static void cleaner_fiber(void *arg)
{
    struct world *world = arg;
    struct store *stores[2];
    uint64_t kept = OBJECT_BYTES;
    open_stores(world, stores);
    world_init(world, stores, 2);
    for (uint32_t i = 0; i < 1200 && !world->wrong; i++) {
        uint64_t at = random_below(&world->random, OBJECT_BYTES / DATA_IO_MAX) * DATA_IO_MAX;
        uint32_t count = DATA_IO_MAX;
        if (i % 40 == 0) {
            count = 30 * DATA_BLOCK_BYTES;
            at = kept;
            kept += count;
        }
        const uint8_t *bytes = world->bytes + random_below(&world->random, DATA_IO_MAX);
        memcpy(world->model + at, bytes, count);
        REQUIRE(world, model_call(world, RPC_OBJ_WRITE, at, count, bytes) == 0);
    }
    model_quiesce(world);
    model_check(world);
    check_stores(world);
    for (uint32_t i = 0; i < 2; i++) {
        struct store_health health;
        store_health(stores[i], &health);
        REQUIRE(world, health.cleaned_bytes > 10 * 30 * DATA_BLOCK_BYTES);
    }
    world->done = true;
}

static void test_cleaner(void **state)
{
    struct world world = {0};
    model_run(cleaner_fiber, &world);
}

/* Flip a bit in one block of every row of a member. */
static uint32_t damage(struct world *world, uint32_t member)
{
    struct store_iter *iter = store_iter_new(world->hosts[member].store);
    struct data_key from = data_key_make(FAKE_GROUP, INO, 0);
    struct data_key end = data_key_end(FAKE_GROUP, INO);
    struct slice key, value;
    uint32_t count = 0;
    store_iter_seek(iter, data_key_slice(&from));
    while (store_iter_next(iter, data_key_slice(&end), &key, &value) == 1) {
        struct data_row row;
        REQUIRE(world, data_row_parse(key, value, &row) == 0);
        uint64_t block = row.extent.block + random_below(&world->random, row.extent.blocks);
        sim_disk_flip_bit(world->sim, disk_names[member], block * DATA_BLOCK_BYTES + 77, 3);
        count++;
    }
    store_iter_free(iter);
    return count;
}

static void damage_fiber(void *arg)
{
    struct world *world = arg;
    struct store *stores[2];
    struct data_counters counters;
    open_stores(world, stores);
    world_init(world, stores, 3);
    for (uint32_t i = 0; i < 60; i++)
        model_step(world, 0, 900000);
    model_quiesce(world);
    fiber_sleep(NS_PER_S); /* all data on the devices */
    uint32_t bad = damage(world, 0);
    model_check(world);
    data_service_counters(world->hosts[0].service, &counters);
    REQUIRE(world, bad > 5 && counters.repairs == bad && counters.losses == 0);
    fiber_sleep(NS_PER_S);
    model_check(world);
    data_service_counters(world->hosts[0].service, &counters);
    REQUIRE(world, counters.checksum_errors == bad);

    bad = damage(world, 1);
    REQUIRE(world, data_service_scrub(world->hosts[1].service, 0) == 0);
    fiber_sleep(NS_PER_S);
    data_service_counters(world->hosts[1].service, &counters);
    REQUIRE(world, counters.repairs == bad && counters.losses == 0);
    model_check(world);
    check_stores(world);
    world->done = true;
}

static void test_damage(void **state)
{
    struct world world = {0};
    model_run(damage_fiber, &world);
}

/* A full store refuses writes, takes a truncate that needs a new block, and is then usable. */
static void full_fiber(void *arg)
{
    struct world *world = arg;
    struct store *stores[2];
    open_stores(world, stores);
    world_init(world, stores, 4);
    int result = 0;
    uint64_t at = 0;
    for (; result == 0 && at < 2 * GIB; at += DATA_IO_MAX)
        result = model_call(world, RPC_OBJ_WRITE, at, DATA_IO_MAX, world->bytes);
    REQUIRE(world, result == -ERR_NO_SPACE);
    REQUIRE(world, at > DISK_BYTES / 4);
    memcpy(world->model, world->bytes, DATA_IO_MAX);
    memcpy(world->model + DATA_IO_MAX, world->bytes, DATA_IO_MAX);
    model_truncate(world, DATA_IO_MAX + 100);
    memcpy(world->model + DATA_IO_MAX, world->bytes, 100);
    REQUIRE(world,
            model_call(world, RPC_OBJ_WRITE, 5 * DATA_IO_MAX, DATA_IO_MAX, world->bytes) == 0);
    memcpy(world->model + 5 * DATA_IO_MAX, world->bytes, DATA_IO_MAX);
    model_quiesce(world);
    model_check(world);
    check_stores(world);
    world->done = true;
}

static void test_full(void **state)
{
    struct world world = {0};
    model_run(full_fiber, &world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_cleaner),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
