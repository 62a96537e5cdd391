/* SPDX-License-Identifier: MIT */
/* Goal: a scrub reads everything that lives, by address, no faster than told; it repairs either
 * copy of a tree node, hands over each damaged extent as damaged, lets the store be closed, and
 * goes on near where it was after a restart. Method: a store of some hundred extents and leaves,
 * bits flipped in known places, power cut. */
#include "base/hash.h"
#include "store/store_test_util.h"

enum {
    EXTENTS = 300,
    BLOCKS_MAX = 50,
    ROWS = 4000,
    DAMAGED = 7,
    RATE = 16 << 20,
    SLOW_RATE = 1 << 20,
    TREE_ROWS = 6000
};

struct scrub_world {
    struct world world;
    struct store_extent extents[EXTENTS];
    uint32_t seen;
    uint32_t bad;
    uint64_t last_block;
    uint64_t progress_seen;
    uint32_t stop_after; /* extents; 0: never */
    uint64_t whole_ns;
    bool done;
};

static struct slice row_key(uint8_t table, uint32_t index, uint8_t key[9])
{
    be32_store(key, 3);
    key[4] = table;
    be32_store(key + 5, index);
    return slice_of(key, 9);
}

static uint64_t word_of(uint32_t index, uint32_t at)
{
    return hash_u64(index * 100003ull + at);
}

static void write_extent(struct scrub_world *s, uint32_t index)
{
    struct world *world = &s->world;
    uint8_t key[9];
    uint32_t blocks = 1 + (uint32_t)random_below(&world->random, BLOCKS_MAX);
    struct slice name = row_key(0x20, index, key);
    struct buf *buf = buf_new(blocks * STORE_BLOCK_BYTES);
    for (uint32_t at = 0; at < blocks * STORE_BLOCK_BYTES; at += 8) {
        uint64_t word = word_of(index, at);
        memcpy(buf->data + at, &word, sizeof word);
    }
    struct store_batch batch;
    store_batch_init(&batch);
    CHECK(world, store_reserve(world->store, buf->bytes, false) == 0);
    CHECK(world, store_extent_write(world->store, (struct buf_slice){buf, 0, buf->bytes}, blocks,
                                    &s->extents[index]) == 0);
    store_batch_put(&batch, name, slice_of(&s->extents[index], sizeof s->extents[index]));
    store_batch_extent_add(&batch, s->extents[index], name);
    store_commit(world->store, &batch);
    store_batch_fini(&batch);
    buf_put(buf);
}

static void build(struct scrub_world *s)
{
    struct world *world = &s->world;
    uint8_t key[9], value[300] = {0};
    struct store_batch batch;
    world_format(world);
    world_open(world);
    store_batch_init(&batch);
    for (uint32_t i = 0; i < ROWS; i++) {
        store_batch_reset(&batch);
        store_batch_put(&batch, row_key(0x10, i, key), slice_of(value, sizeof value));
        store_commit(world->store, &batch);
    }
    store_batch_fini(&batch);
    for (uint32_t i = 0; i < EXTENTS; i++)
        write_extent(s, i);
    CHECK(world, checkpoint_now(world->store) == 0);
    CHECK(world, world->store->super.root_level >= 1);
}

static int look(void *context, struct slice owner_key, struct store_extent extent, const void *data)
{
    struct scrub_world *s = context;
    struct world *world = &s->world;
    uint64_t done, total;
    uint32_t index = be32_load((const uint8_t *)owner_key.data + 5);
    CHECK(world, index < EXTENTS && extent.block == s->extents[index].block &&
                     extent.blocks == s->extents[index].blocks);
    CHECK(world, extent.block > s->last_block);
    s->last_block = extent.block;
    s->seen++;
    bool good = true;
    for (uint32_t at = 0; at < extent.blocks * STORE_BLOCK_BYTES; at += 8) {
        uint64_t word = word_of(index, at);
        good = good && memcmp((const uint8_t *)data + at, &word, sizeof word) == 0;
    }
    s->bad += !good;
    store_scrub_progress(world->store, &done, &total);
    CHECK(world, done >= s->progress_seen && done <= total && total > 0);
    s->progress_seen = done;
    return 0;
}

static void flip(struct world *world, uint64_t block, uint32_t offset)
{
    sim_disk_flip_bit(world->sim, "disk", block * STORE_BLOCK_BYTES + offset, 3);
}

static uint32_t damage_nodes(struct world *world)
{
    uint32_t count = 0;
    uint64_t last = 0;
    for (uint32_t row = 0; row < ROWS; row += 130) {
        uint8_t key[9];
        struct cache_node *leaf;
        struct tree *tree = tree_hold(world->store);
        CHECK(world,
              tree_leaf(world->store, tree, row_key(0x10, row, key), &leaf, NULL, NULL) == 0);
        if (leaf->pointer.block[0] != last) {
            last = leaf->pointer.block[0];
            flip(world, leaf->pointer.block[count % 2], 5000);
            count++;
        }
        cache_put(world->store, leaf);
        tree_release(world->store, tree);
    }
    flip(world, store_tree(world->store)->root.block[1], 100);
    flip(world, world->store->super.segments.block[0], 8);
    return count + 2;
}

static void find_all(void *arg)
{
    struct scrub_world *s = arg;
    struct world *world = &s->world;
    build(s);
    uint32_t nodes = damage_nodes(world);
    for (uint32_t i = 0; i < DAMAGED; i++)
        flip(world, s->extents[i * 41].block + s->extents[i * 41].blocks / 2, 77);
    sim_disk_break(world->sim, "disk", s->extents[5].block * STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
    uint64_t start = env_now_ns();
    CHECK(world, store_scrub(world->store, RATE, look, s) == 0);
    uint64_t seconds_min = world->store->scrubbing.done_bytes * 95 / 100 * NS_PER_S / RATE;
    CHECK(world, env_now_ns() - start >= seconds_min && seconds_min > NS_PER_S);
    CHECK(world, s->seen == EXTENTS && s->bad == DAMAGED + 1);
    bool zoned = disk_info(world->disk)->zone_bytes > 0; /* cannot be written back */
    CHECK(world, world->store->health.node_repairs == (zoned ? 0 : nodes));
    CHECK(world, world->store->health.node_losses == 0);
    /* What was repaired is found good. */
    s->last_block = 0;
    s->progress_seen = 0;
    CHECK(world, store_scrub(world->store, 0, look, s) == 0);
    CHECK(world, world->store->health.node_repairs == (zoned ? 0 : nodes));
    world_close(world);
}

static void scrub_fiber(void *arg)
{
    struct scrub_world *s = arg;
    CHECK(&s->world, store_scrub(s->world.store, SLOW_RATE, look, s) == 0);
    s->done = true;
}

static void close_meanwhile(void *arg)
{
    struct scrub_world *s = arg;
    build(s);
    fiber_spawn("scrub", scrub_fiber, s);
    fiber_sleep(10 * NS_PER_MS);
    CHECK(&s->world, store_scrub(s->world.store, 0, look, s) == -ERR_BUSY);
    uint64_t start = env_now_ns();
    world_close(&s->world);
    CHECK(&s->world, s->done && env_now_ns() - start < NS_PER_S);
}

/* ---- SC4 ---- */

static int count_until(void *context, struct slice owner_key, struct store_extent extent,
                       const void *data)
{
    struct scrub_world *s = context;
    if (s->seen++ == 0)
        s->last_block = extent.block; /* where it began */
    return s->stop_after && s->seen == s->stop_after ? -EIO : 0;
}

static uint32_t scrub_some(struct scrub_world *s, uint32_t stop_after)
{
    s->seen = 0;
    s->stop_after = stop_after;
    CHECK(&s->world, store_scrub(s->world.store, RATE, count_until, s) == (stop_after ? -EIO : 0));
    return s->seen;
}

static void first_part(void *arg)
{
    struct scrub_world *s = arg;
    build(s);
    CHECK(&s->world, !store_scrub_interrupted(s->world.store));
    CHECK(&s->world, scrub_some(s, EXTENTS * 3 / 4) == EXTENTS * 3 / 4);
    fiber_sleep(NS_PER_S); /* the place is on the device */
}

static void second_part(void *arg)
{
    struct scrub_world *s = arg;
    struct world *world = &s->world;
    uint64_t first_block = s->last_block, done, total;
    world_open(world);
    CHECK(world, store_scrub_interrupted(world->store));
    uint32_t seen = scrub_some(s, 0);
    /* All that was left, and some that had been read since the place was kept: here 1 MiB. */
    CHECK(world, seen >= EXTENTS / 4 && seen < EXTENTS / 2 && s->last_block > first_block);
    CHECK(world, !store_scrub_interrupted(world->store));
    CHECK(world, scrub_some(s, 0) == EXTENTS && s->last_block == first_block);
    store_scrub_progress(world->store, &done, &total);
    CHECK(world, done == 0 && total == 0);
    CHECK(world, store_check(world->store) == 0);
    world_close(world);
}

/* A tree of three levels, and nothing else; how long a scrub of it takes. */
static void tree_first(void *arg)
{
    struct scrub_world *s = arg;
    struct world *world = &s->world;
    uint8_t key[STORE_KEY_MAX], value[3000] = {0};
    struct store_batch batch;
    world_format(world);
    world_open(world);
    store_batch_init(&batch);
    for (uint32_t i = 0; i < TREE_ROWS; i++) {
        memset(key, (int)(i / 13), sizeof key); /* long keys lead to leaves: few in a node */
        (void)row_key(0x30, i / 13, key);
        key[sizeof key - 1] = (uint8_t)(i % 13);
        CHECK(world, store_reserve(world->store, 0, true) == 0);
        store_batch_reset(&batch);
        store_batch_put(&batch, slice_of(key, sizeof key), slice_of(value, sizeof value));
        store_commit(world->store, &batch);
    }
    store_batch_fini(&batch);
    CHECK(world, checkpoint_now(world->store) == 0 && world->store->super.root_level >= 2);
    uint64_t start = env_now_ns();
    CHECK(world, scrub_some(s, 0) == 0);
    s->whole_ns = env_now_ns() - start;
    fiber_spawn("scrub", scrub_fiber, s);
    fiber_sleep(s->whole_ns * RATE / SLOW_RATE * 6 / 10);
    CHECK(world, !s->done);
}

static void tree_second(void *arg)
{
    struct scrub_world *s = arg;
    struct world *world = &s->world;
    world_open(world);
    uint64_t start = env_now_ns();
    CHECK(world, scrub_some(s, 0) == 0);
    uint64_t took_ns = env_now_ns() - start;
    CHECK(world, took_ns > s->whole_ns / 5 && took_ns < s->whole_ns * 7 / 10);
    world_close(world);
}

static void run(fiber_fn body, uint64_t seed)
{
    struct scrub_world *s = calloc(1, sizeof *s);
    world_init(&s->world, seed, 96);
    world_run(&s->world, body, s);
    world_fini(&s->world);
    free(s);
}

static void run_cut(fiber_fn before, fiber_fn after, uint64_t seed)
{
    struct scrub_world *s = calloc(1, sizeof *s);
    world_init(&s->world, seed, 96);
    world_run(&s->world, before, s);
    world_crash(&s->world, true);
    world_run(&s->world, after, s);
    world_fini(&s->world);
    free(s);
}

static void test_goes_on(void **state)
{
    run_cut(first_part, second_part, 73);
}

static void test_goes_on_in_tree(void **state)
{
    run_cut(tree_first, tree_second, 74);
}

static void test_find_all(void **state)
{
    run(find_all, 71);
}

static void test_close_meanwhile(void **state)
{
    run(close_meanwhile, 72);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_all), cmocka_unit_test(test_close_meanwhile),
        cmocka_unit_test(test_goes_on), cmocka_unit_test(test_goes_on_in_tree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
