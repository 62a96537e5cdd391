/* SPDX-License-Identifier: MIT */
/* Goal: bits that flip in a superblock, in the journal or in the head of one of its segments are
 * found by a scrub, and nothing is lost by them when the power goes afterwards; what changes while
 * it is read is not taken for damage.
 * Method: rows with a stamp, the newest only in the journal; flip, scrub, cut the power, look. */
#include "store/store_test_util.h"

enum { ROWS = 500, NEW_ROWS = 20, ROUNDS = 100 };

struct rot_world {
    struct world world;
    uint64_t (*where)(const struct world *world); /* byte offset to flip a bit at */
    uint32_t stamp;                               /* the newest of the new rows */
    bool stop;
};

static void open_store(struct world *world)
{
    world_open(world);
    CHECK(world, world->open_result == 0 && !world->store->health.journal_damaged);
}

static int no_extents(void *context, struct slice owner_key, struct store_extent extent,
                      const void *data)
{
    return -EINVAL;
}

static uint64_t repairs(const struct world *world)
{
    return world->store->health.super_repairs + world->store->health.journal_repairs;
}

/* ---- where ---- */

static uint64_t super_newer(const struct world *world)
{
    return test_super_place(world->disk, world->store->super.sequence) + 100;
}

static uint64_t super_older(const struct world *world)
{
    return test_super_place(world->disk, world->store->super.sequence - 1) + 4000;
}

/* An entry in the middle of what only the journal has. */
static uint64_t entry(const struct world *world)
{
    const struct journal *journal = &world->store->journal;
    return (segment_block(world->store, journal->segment) + journal->block - NEW_ROWS / 2) *
               STORE_BLOCK_BYTES +
           77;
}

static uint64_t head(const struct world *world)
{
    return segment_block(world->store, world->store->journal.segment) * STORE_BLOCK_BYTES + 20;
}

/* ---- tests ---- */

static void rot(void *arg)
{
    struct rot_world *r = arg;
    struct world *world = &r->world;
    world_format(world);
    open_store(world);
    for (uint32_t i = 0; i < ROWS; i++)
        test_row_put(world, i, 1);
    CHECK(world, checkpoint_now(world->store) == 0);
    for (uint32_t i = 0; i < NEW_ROWS; i++) /* an entry for each */
        CHECK(world, store_wait_durable(world->store, test_row_put(world, i, 2)) == 0);
    CHECK(world, store_scrub(world->store, 0, no_extents, r) == 0 && repairs(world) == 0);
    sim_disk_flip_bit(world->sim, "disk", r->where(world), 4);
    CHECK(world, store_scrub(world->store, 0, no_extents, r) == 0 && repairs(world) == 1);
    CHECK(world, store_scrub(world->store, 0, no_extents, r) == 0 && repairs(world) == 1);
    /* On into the next segment of the journal, and from there into another. */
    uint32_t segments = 0, stamp = 3;
    for (uint32_t now = world->store->journal.segment; segments < 2; stamp++) {
        for (uint32_t i = 0; i < NEW_ROWS; i++)
            CHECK(world, store_wait_durable(world->store, test_row_put(world, i, stamp)) == 0);
        segments += now != world->store->journal.segment;
        now = world->store->journal.segment;
    }
    r->stamp = stamp - 1;
}

static void after(void *arg)
{
    struct rot_world *r = arg;
    struct world *world = &r->world;
    open_store(world);
    for (uint32_t i = 0; i < ROWS; i++)
        CHECK(world, test_row_look(world, i, i < NEW_ROWS ? r->stamp : 1) == 0);
    CHECK(world, store_check(world->store) == 0);
    world_close(world);
}

/* Seeds differ: on a real device, nothing of an earlier test may look like ours. */
static void run_rot(uint64_t (*where)(const struct world *world), uint64_t seed)
{
    struct rot_world r = {.where = where};
    world_init(&r.world, seed, 64);
    world_run(&r.world, rot, &r);
    world_crash(&r.world, true);
    world_run(&r.world, after, &r);
    world_fini(&r.world);
}

static void test_super_newer(void **state)
{
    run_rot(super_newer, 81);
}
static void test_super_older(void **state)
{
    run_rot(super_older, 82);
}
static void test_entry(void **state)
{
    run_rot(entry, 83);
}
static void test_head(void **state)
{
    run_rot(head, 84);
}

static void writer(void *arg)
{
    struct rot_world *r = arg;
    struct world *world = &r->world;
    for (uint32_t i = 0; !r->stop; i++) {
        CHECK(world, store_reserve(world->store, 0, true) == 0);
        uint64_t lsn = test_row_put(world, i % ROWS, i);
        if (i % 50 == 0)
            CHECK(world, store_wait_durable(world->store, lsn) == 0);
    }
    r->stop = false;
}

/* Checkpoints, journal segments and superblocks come and go under the scrub. */
static void under_load(void *arg)
{
    struct rot_world *r = arg;
    struct world *world = &r->world;
    world_format(world);
    open_store(world);
    fiber_spawn("writer", writer, r);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        CHECK(world, store_scrub(world->store, i % 20 == 0 ? 4 * MIB : 0, no_extents, r) == 0);
        fiber_sleep(random_below(&world->random, 20 * NS_PER_MS));
    }
    CHECK(world, repairs(world) == 0 && world->store->health.checkpoints > 10);
    r->stop = true;
    while (r->stop)
        fiber_sleep(NS_PER_MS);
    world_close(world);
}

static void test_under_load(void **state)
{
    struct rot_world r = {0};
    world_init(&r.world, 85, 64);
    world_run(&r.world, under_load, &r);
    world_fini(&r.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_super_newer),
                                       cmocka_unit_test(test_super_older),
                                       cmocka_unit_test(test_entry), cmocka_unit_test(test_head),
                                       cmocka_unit_test(test_under_load)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
