/* SPDX-License-Identifier: MIT */
/* Goal: the tree grows, shrinks, splits and is cleaned: its order, balance and space hold.
 * Method: many checkpoints over random and sequential changes of a tree much larger than the
 * node cache; store_check and a look at levels, nodes and node segments after each. */
#include "base/hash.h"
#include "store/store_test_util.h"

enum { ROWS = 30000 };

struct tree_world {
    struct world world;
    uint32_t stamps[ROWS];
};

static uint32_t row_bytes(uint32_t index, uint32_t stamp)
{
    return (uint32_t)(hash_u64(index * 77ull + stamp) % 600);
}

static struct slice row_key(uint32_t index, uint8_t key[64])
{
    /* Keys as directory entries have: a long shared part, then a hash. */
    be32_store(key, 3);
    key[4] = 0x10;
    be64_store(key + 5, 1000 + index / 5000);
    be64_store(key + 13, hash_u64(index));
    be32_store(key + 21, index);
    return slice_of(key, 25 + index % 30);
}

static void change(struct tree_world *t, uint32_t index, uint32_t stamp)
{
    uint8_t key[64] = {0}, value[600];
    struct store_batch batch;
    store_batch_init(&batch);
    memset(value, (int)(index + stamp), sizeof value);
    if (stamp)
        store_batch_put(&batch, row_key(index, key), slice_of(value, row_bytes(index, stamp)));
    else
        store_batch_del(&batch, row_key(index, key));
    CHECK(&t->world, store_reserve(t->world.store, 0, true) == 0);
    store_commit(t->world.store, &batch);
    store_batch_fini(&batch);
    t->stamps[index] = stamp;
}

static void verify(struct tree_world *t)
{
    struct world *world = &t->world;
    for (uint32_t i = 0; i < ROWS; i++) {
        uint8_t key[64] = {0}, value[600];
        int bytes = store_get(world->store, row_key(i, key), value, sizeof value);
        if (t->stamps[i] == 0)
            CHECK(world, bytes == -ENOENT);
        else
            CHECK(world, bytes == (int)row_bytes(i, t->stamps[i]) &&
                             (bytes == 0 || value[bytes - 1] == (uint8_t)(i + t->stamps[i])));
    }
    CHECK(world, store_check(world->store) == 0);
}

static void grow_and_shrink(void *arg)
{
    struct tree_world *t = arg;
    struct world *world = &t->world;
    world_format(world);
    world_open(world);
    for (uint32_t i = 0; i < ROWS; i++)
        change(t, i, 1);
    CHECK(world, checkpoint_now(world->store) == 0);
    CHECK(world, world->store->super.root_level >= 1);
    verify(t);
    /* Nodes are at least half full on the whole: 30000 rows of 300 + 40 bytes. */
    CHECK(world, world->store->live_nodes * STORE_BLOCK_BYTES < 2 * 2 * ROWS * 360ull);
    for (uint32_t round = 2; round < 40; round++) {
        uint32_t base = (uint32_t)random_below(&world->random, ROWS);
        for (uint32_t i = 0; i < 500; i++) {
            bool near = round % 2;
            uint32_t index =
                near ? (base + i) % ROWS : (uint32_t)random_below(&world->random, ROWS);
            change(t, index, random_chance(&world->random, 1, 5) ? 0 : round);
        }
        CHECK(world, checkpoint_now(world->store) == 0);
        uint64_t held = world->store->segments_by_state[SEGMENT_NODE] * 256ull;
        CHECK(world, held < 3 * world->store->live_nodes + 1024);
    }
    verify(t);
    CHECK(world, world->store->live_nodes * STORE_BLOCK_BYTES < 3 * 2 * ROWS * 360ull);
    for (uint32_t i = 0; i < ROWS; i++)
        if (i % 1000 != 0)
            change(t, i, 0);
    CHECK(world, checkpoint_now(world->store) == 0);
    verify(t);
    CHECK(world, world->store->live_nodes < 200 * 2 * NODE_BLOCKS);
    for (uint32_t i = 0; i < ROWS; i++)
        change(t, i, 0);
    CHECK(world, checkpoint_now(world->store) == 0);
    CHECK(world, world->store->super.root.block[0] == 0);
    verify(t);
    world_close(world);
    world_open(world);
    CHECK(world, world->open_result == 0);
    verify(t);
}

/* A writer that is always faster than the merge (computing takes no time here) is slowed down in
 * small steps: it never waits for a checkpoint. */
static void write_through_checkpoints(void *arg)
{
    struct tree_world *t = arg;
    struct world *world = &t->world;
    uint64_t longest = 0;
    world_format(world);
    world_open(world);
    for (uint32_t i = 0; i < 5 * ROWS && !world->failed; i++) {
        uint64_t start = env_now_ns();
        change(t, (uint32_t)random_below(&world->random, ROWS), 1 + i);
        longest = MAX(longest, env_now_ns() - start);
    }
    CHECK(world, world->store->health.checkpoints > 10);
    CHECK(world, longest < 50 * NS_PER_MS);
    verify(t);
    world_close(world);
}

static void test_no_pause(void **state)
{
    struct tree_world *t = calloc(1, sizeof *t);
    const struct sim_disk_config slow = {.read_min_ns = 100 * NS_PER_US,
                                         .read_max_ns = 300 * NS_PER_US,
                                         .write_min_ns = 300 * NS_PER_US,
                                         .write_max_ns = 900 * NS_PER_US,
                                         .flush_min_ns = 1 * NS_PER_MS,
                                         .flush_max_ns = 4 * NS_PER_MS};
    world_init(&t->world, 10, 160);
    sim_disk_configure(t->world.sim, "disk", &slow);
    world_run(&t->world, write_through_checkpoints, t);
    world_fini(&t->world);
    free(t);
}

static void test_grow_and_shrink(void **state)
{
    struct tree_world *t = calloc(1, sizeof *t);
    world_init(&t->world, 9, 160);
    world_run(&t->world, grow_and_shrink, t);
    world_fini(&t->world);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_grow_and_shrink),
                                       cmocka_unit_test(test_no_pause)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
