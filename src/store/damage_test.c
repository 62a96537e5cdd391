/* SPDX-License-Identifier: MIT */
/* Goal: every kind of damage on the device is repaired, or reported for exactly what it hit.
 * Method: flip stored bits of superblocks, tree nodes and journal entries, make the device fail,
 * and look at what the store says. */
#include "store/store_test_util.h"

enum { ROWS = 4000 };

static struct disk_pointer leaf_of(struct world *world, uint32_t index)
{
    uint8_t key[9];
    struct cache_node *leaf;
    struct tree *tree = tree_hold(world->store);
    CHECK(world, tree_leaf(world->store, tree, test_row_key(index, key), &leaf, NULL, NULL) == 0);
    struct disk_pointer pointer = leaf->pointer;
    cache_put(world->store, leaf);
    tree_release(world->store, tree);
    return pointer;
}

static void build(void *arg)
{
    struct world *world = arg;
    world_format(world);
    world_open(world);
    CHECK(world, world->open_result == 0);
    for (uint32_t i = 0; i < ROWS; i++)
        test_row_put(world, i, 1);
    CHECK(world, checkpoint_now(world->store) == 0);
    CHECK(world, world->store->super.root_level == 1);
}

static void flip_copy(struct world *world, const struct disk_pointer *pointer, uint32_t copy)
{
    sim_disk_flip_bit(world->sim, "disk", pointer->block[copy] * STORE_BLOCK_BYTES + 5000, 3);
}

static void reopen(struct world *world)
{
    world_close(world);
    world_open(world);
    CHECK(world, world->open_result == 0);
}

static void one_copy(void *arg)
{
    struct world *world = arg;
    build(world);
    struct disk_pointer pointer = leaf_of(world, 100);
    flip_copy(world, &pointer, 0);
    reopen(world);
    CHECK(world, test_row_look(world, 100, 1) == 0);
    if (disk_info(world->disk)->zone_bytes > 0) /* cannot be written back */
        return;
    CHECK(world, world->store->health.node_repairs == 1);
    /* It has been written back: the next reader finds nothing, even without the other copy. */
    flip_copy(world, &pointer, 1);
    reopen(world);
    CHECK(world, test_row_look(world, 100, 1) == 0);
    CHECK(world, world->store->health.node_repairs == 0 && world->store->health.node_losses == 0);
}

static void both_copies(void *arg)
{
    struct world *world = arg;
    build(world);
    struct disk_pointer pointer = leaf_of(world, 1000);
    uint32_t lost = 0;
    for (uint32_t i = 0; i < ROWS; i++)
        lost += leaf_of(world, i).block[0] == pointer.block[0];
    flip_copy(world, &pointer, 0);
    flip_copy(world, &pointer, 1);
    reopen(world);
    uint32_t bad = 0;
    for (uint32_t i = 0; i < ROWS; i++) {
        int result = test_row_look(world, i, 1);
        CHECK(world, result == 0 || result == -ERR_CORRUPT_DISK);
        bad += result != 0;
    }
    CHECK(world, bad == lost && lost < ROWS / 10);
    CHECK(world, store_check(world->store) == -ERR_CORRUPT_DISK);
    /* Changes inside and outside the range survive a checkpoint and a reopen. */
    test_row_put(world, 1000, 2);
    test_row_put(world, 3000, 2);
    CHECK(world, checkpoint_now(world->store) == 0);
    reopen(world);
    CHECK(world, test_row_look(world, 1000, 2) == 0);
    CHECK(world, test_row_look(world, 3000, 2) == 0);
    uint32_t still = 0;
    for (uint32_t i = 0; i < ROWS; i++)
        still += test_row_look(world, i, 1) == -ERR_CORRUPT_DISK;
    CHECK(world, still == lost - 1);
}

static void superblock_lost(void *arg)
{
    struct world *world = arg;
    build(world);
    uint64_t sequence = world->store->super.sequence;
    world_close(world);
    CHECK(world, sequence > 0);
    struct disk_superblock super;
    CHECK(world, superblock_read(world->disk, &super) == 0);
    sim_disk_flip_bit(world->sim, "disk", test_super_place(world->disk, super.sequence) + 100, 1);
    world_open(world);
    CHECK(world, world->open_result == 0 && test_row_look(world, 17, 1) == 0);
    CHECK(world, world->store->super.sequence == super.sequence - 1);
    CHECK(world, store_check(world->store) == 0);
}

/* ---- journal ---- */

static void journal_written(void *arg)
{
    struct world *world = arg;
    build(world);
    for (uint32_t i = 0; i < 20; i++)
        CHECK(world, store_wait_durable(world->store, test_row_put(world, i, 2)) == 0);
}

static void journal_reopened(void *arg)
{
    struct world *world = arg;
    world_open(world);
    CHECK(world, world->open_result == 0 && world->store->health.journal_damaged);
    uint32_t kept = 0;
    while (kept < 20 && test_row_look(world, kept, 2) == 0)
        kept++;
    CHECK(world, kept > 0 && kept < 20);
    for (uint32_t i = kept; i < 20; i++)
        CHECK(world, test_row_look(world, i, 1) == 0);
    CHECK(world, store_check(world->store) == 0);
    for (uint32_t i = 100; i < 120; i++)
        CHECK(world, store_wait_durable(world->store, test_row_put(world, i, 3)) == 0);
}

static void journal_clean_again(void *arg)
{
    struct world *world = arg;
    world_open(world);
    CHECK(world, world->open_result == 0 && !world->store->health.journal_damaged);
    for (uint32_t i = 100; i < 120; i++)
        CHECK(world, test_row_look(world, i, 3) == 0);
    CHECK(world, store_check(world->store) == 0);
}

static void test_journal_damage(void **state)
{
    struct world world;
    world_init(&world, 5, 64);
    world_run(&world, journal_written, &world);
    uint64_t tail =
        segment_block(world.store, world.store->journal.segment) + world.store->journal.block;
    world_crash(&world, false);
    sim_disk_flip_bit(world.sim, "disk", (tail - 8) * STORE_BLOCK_BYTES + 77, 2);
    world_run(&world, journal_reopened, &world);
    world_crash(&world, true);
    world_run(&world, journal_clean_again, &world);
    world_fini(&world);
}

/* ---- device ---- */

static void fenced(void *arg)
{
    struct world *world = arg;
    build(world);
    struct sim_disk_config config = *sim_disk_config(world->sim, "disk");
    config.write_error_ppm = 1000000;
    sim_disk_configure(world->sim, "disk", &config);
    CHECK(world, store_wait_written(world->store, test_row_put(world, 1, 2)) == -ERR_FENCED);
    CHECK(world, store_wait_durable(world->store, test_row_put(world, 2, 2)) == -ERR_FENCED);
    CHECK(world, store_reserve(world->store, 4096, false) == -ERR_FENCED);
    CHECK(world, test_row_look(world, 3, 1) == 0); /* still readable */
    struct store_health health;
    store_health(world->store, &health);
    CHECK(world, health.fenced);
    CHECK(world, store_close(world->store) == -ERR_FENCED);
}

static void refused(void *arg)
{
    struct world *world = arg;
    CHECK(world, disk_open("disk", 0, 0, &world->disk) == 0);
    world_open(world);
    CHECK(world, world->open_result == -ERR_NOT_FORMATTED);
    struct store_identity identity = {.node = 5}, found;
    CHECK(world, store_format(world->disk, &identity, false) == -ENOSPC); /* of 16 MiB each */
    CHECK(world, superblock_format(world->disk, &identity, false, TEST_SEGMENT_BYTES) == 0);
    CHECK(world, superblock_format(world->disk, &identity, false, TEST_SEGMENT_BYTES) == -EEXIST);
    CHECK(world, store_identify(world->disk, &found) == 0 && found.node == 5);
    world_open(world);
    CHECK(world, world->open_result == 0);
    world_close(world);
    CHECK(world, superblock_format(world->disk, &identity, true, TEST_SEGMENT_BYTES) == 0);
    world_open(world);
    CHECK(world, world->open_result == 0 && world->store->super.root.block[0] == 0);
    world_close(world);
}

static void run(fiber_fn body)
{
    struct world world;
    world_init(&world, 3, 64);
    world_run(&world, body, &world);
    world_fini(&world);
}

static void test_one_copy(void **state)
{
    run(one_copy);
}
static void test_both_copies(void **state)
{
    run(both_copies);
}
static void test_superblock(void **state)
{
    run(superblock_lost);
}
static void test_fenced(void **state)
{
    run(fenced);
}
static void test_refused(void **state)
{
    run(refused);
}

/* ---- SB4: format over a store, cut off at any moment ---- */

struct remains {
    struct world *world;
    struct disk_superblock super;     /* of the old store */
    uint8_t block[STORE_BLOCK_BYTES]; /* that format writes to */
    uint32_t kept, gone, replaced;
};

static void format_again(void *arg)
{
    struct remains *remains = arg;
    const struct store_identity identity = {.node = 8};
    struct world *world = remains->world;
    CHECK(world, disk_open("disk", 0, 0, &world->disk) == 0);
    CHECK(world, superblock_format(world->disk, &identity, true, TEST_SEGMENT_BYTES) == 0);
    world->done = true;
}

static void what_remains(void *arg)
{
    struct remains *remains = arg;
    struct world *world = remains->world;
    struct disk_superblock super;
    uint8_t block[STORE_BLOCK_BYTES];
    CHECK(world, disk_open("disk", 0, 0, &world->disk) == 0);
    int result = superblock_read(world->disk, &super);
    if (result < 0) {
        CHECK(world, result == -ERR_NOT_FORMATTED || result == -ERR_CORRUPT_DISK);
        remains->gone++;
    } else if (super.node == 8) {
        remains->replaced++;
    } else {
        /* As it was: either copy of the newest superblock, and nothing else written yet. */
        CHECK(world, super.sequence + 1 >= remains->super.sequence);
        sim_disk_peek(world->sim, "disk", TEST_SEGMENT_BYTES, block, sizeof block);
        CHECK(world, memcmp(block, remains->block, sizeof block) == 0);
        remains->kept++;
    }
}

static void test_format_cut(void **state)
{
    struct world world;
    struct remains remains = {.world = &world};
    for (uint64_t seed = 1; seed <= test_seeds(60); seed++) {
        world_init(&world, seed, 64);
        world_run(&world, build, &world);
        remains.super = world.store->super;
        assert_true(remains.super.sequence > 1);
        world_crash(&world, true);
        sim_disk_peek(world.sim, "disk", TEST_SEGMENT_BYTES, remains.block, sizeof remains.block);
        reactor_spawn(sim_node_reactor(world.node), "test", format_again, &remains);
        uint64_t wait = random_below(&world.random, (seed % 2 ? 8 : 80) * NS_PER_MS);
        world.done = false;
        (void)sim_run_until(world.sim, world_done, &world, sim_now_ns(world.sim) + wait);
        world_crash(&world, true);
        world_run(&world, what_remains, &remains);
        world_fini(&world);
    }
    /* A zoned device is emptied at one go. */
    assert_true(remains.replaced > 0 && remains.kept + remains.gone > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_copy),   cmocka_unit_test(test_both_copies),
        cmocka_unit_test(test_superblock), cmocka_unit_test(test_journal_damage),
        cmocka_unit_test(test_fenced),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_format_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
