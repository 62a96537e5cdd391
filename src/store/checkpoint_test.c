/* SPDX-License-Identifier: MIT */
/* Goal: segments change hands around a checkpoint that takes its time: what data was emptied of
 * meanwhile may hold its nodes (S5), and what a failed attempt gave back the next one can use.
 * Method: a frozen table of several node segments, and the hand on the store's free segments. */
#include "store/store_test_util.h"

enum { EXTENTS = 8, BLOCKS = 32, ROWS = 300, VALUE_BYTES = 5000, SEGMENTS = 100, LEFT = 4 };

static void put(struct world *world, uint32_t row, uint32_t bytes)
{
    static const uint8_t value[VALUE_BYTES];
    struct store_batch batch;
    uint8_t key[9];
    store_batch_init(&batch);
    store_batch_put(&batch, test_row_key(row, key), slice_of(value, bytes));
    uint64_t lsn = store_commit(world->store, &batch);
    CHECK(world, store_wait_durable(world->store, lsn) == 0);
    store_batch_fini(&batch);
}

/* Changes that become several node segments. */
static void put_many(struct world *world)
{
    for (uint32_t i = 0; i < ROWS; i++)
        put(world, i, VALUE_BYTES);
}

/* A data segment full of extents. */
static uint32_t fill_segment(struct world *world, struct store_extent *extents)
{
    struct store_batch batch;
    uint8_t key[9];
    struct buf *buf = buf_new(BLOCKS * STORE_BLOCK_BYTES);
    memset(buf->data, 5, buf->size);
    store_batch_init(&batch);
    for (uint32_t i = 0; i < EXTENTS + 1; i++) { /* one more, so that the segment is closed */
        CHECK(world, store_extent_write(world->store, (struct buf_slice){buf, 0, buf->size}, BLOCKS,
                                        &extents[i]) == 0);
        struct slice name = test_row_key(ROWS + i, key);
        store_batch_put(&batch, name, slice_of(&extents[i], sizeof extents[i]));
        store_batch_extent_add(&batch, extents[i], name);
    }
    buf_put(buf);
    CHECK(world, store_wait_durable(world->store, store_commit(world->store, &batch)) == 0);
    store_batch_fini(&batch);
    uint32_t index = segment_of(world->store, extents[0].block);
    CHECK(world, index == segment_of(world->store, extents[EXTENTS - 1].block));
    CHECK(world, !world->store->segments[index].open);
    return index;
}

static void empty_segment(struct world *world, const struct store_extent *extents)
{
    struct store_batch batch;
    uint8_t key[9];
    store_batch_init(&batch);
    for (uint32_t i = 0; i < EXTENTS; i++) {
        store_batch_del(&batch, test_row_key(ROWS + i, key));
        store_batch_extent_del(&batch, extents[i]);
    }
    CHECK(world, store_wait_durable(world->store, store_commit(world->store, &batch)) == 0);
    store_batch_fini(&batch);
    put(world, 2 * ROWS, 8); /* says that it was durable, and is so itself */
}

/* Data that was there when the table froze, or came after. */
static void emptied_meanwhile(struct world *world, bool came_after)
{
    struct store_extent extents[EXTENTS + 1];
    uint32_t index = 0;
    world_format(world);
    world_open(world);
    struct store *store = world->store;
    store->checkpoint.memtable_bytes_max = 2 * MIB;
    if (!came_after)
        index = fill_segment(world, extents);
    put_many(world);
    checkpoint_kick(store);
    while (!store->frozen)
        fiber_sleep(10 * NS_PER_US);
    if (came_after)
        index = fill_segment(world, extents);
    empty_segment(world, extents);
    CHECK(world, store->frozen && store->segments[index].state == SEGMENT_FREE);
    CHECK(world, store->checkpoint.merged_rows < ROWS / 3); /* so it will take segments yet */
    store->segment_cursor = index;
    while (store->frozen)
        fiber_sleep(NS_PER_MS);
    CHECK(world, store->segments[index].state == SEGMENT_NODE);
    CHECK(world, store_check(store) == 0);
}

static void emptied_that_was(void *arg)
{
    emptied_meanwhile(arg, false);
}

static void emptied_that_came(void *arg)
{
    emptied_meanwhile(arg, true);
}

static void look(void *arg)
{
    struct world *world = arg;
    world_open(world);
    CHECK(world, world->open_result == 0);
    CHECK(world, store_check(world->store) == 0);
    world_close(world);
}

static void test_emptied_meanwhile(void **state)
{
    for (uint32_t came_after = 0; came_after < 2; came_after++) {
        struct world world;
        world_init(&world, 1, SEGMENTS);
        world_run(&world, came_after ? emptied_that_came : emptied_that_was, &world);
        world_crash(&world, true);
        world_run(&world, look, &world);
        world_fini(&world);
    }
}

static void fails_once(void *arg)
{
    struct world *world = arg;
    bool lent[SEGMENTS] = {false};
    world_format(world);
    world_open(world);
    struct store *store = world->store;
    store->checkpoint.memtable_bytes_max = 2 * MIB;
    put_many(world);
    for (uint32_t i = 1; i < SEGMENTS && store->segments_free > LEFT; i++) {
        if (store->segments[i].state != SEGMENT_FREE)
            continue;
        segment_lend(store, i, true);
        lent[i] = true;
    }
    CHECK(world, checkpoint_now(store) == -ERR_NO_SPACE);
    /* As many as it wants, if it takes again those it had. */
    for (uint32_t i = 1; i < SEGMENTS && store->segments_free < LEFT + 1; i++) {
        if (lent[i])
            segment_lend(store, i, false);
        lent[i] = false;
    }
    CHECK(world, checkpoint_now(store) == 0);
    CHECK(world, !store->frozen && store_check(store) == 0);
    for (uint32_t i = 1; i < SEGMENTS; i++)
        if (lent[i])
            segment_lend(store, i, false);
    world_close(world);
}

static void test_fails_once(void **state)
{
    struct world world;
    world_init(&world, 2, SEGMENTS);
    world_run(&world, fails_once, &world);
    world_fini(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_emptied_meanwhile),
                                       cmocka_unit_test(test_fails_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
