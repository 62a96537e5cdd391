/* SPDX-License-Identifier: MIT */
/* Goal: whoever waits for the journal is told, also of what had been reached before it asked, and
 * what is told to be durable is.
 * Method: waiters for records that are on their way, written, and durable, in a store where nothing
 * else happens: no later write may be what wakes them. */
#include "store/store_test_util.h"

struct told {
    struct store_waiter waiter;
    uint32_t times;
    int result;
};

static void tell(struct store_waiter *waiter, int result)
{
    struct told *told = container_of(waiter, struct told, waiter);
    told->times++;
    told->result = result;
}

static uint64_t put_row(struct world *world, uint32_t number)
{
    uint8_t key[9];
    struct store_batch batch;
    store_batch_init(&batch);
    store_batch_put(&batch, test_row_key(number, key), slice_of("row", 3));
    uint64_t lsn = store_commit(world->store, &batch);
    store_batch_fini(&batch);
    return lsn;
}

static void ask(struct world *world, struct told *told, uint64_t lsn)
{
    *told = (struct told){.waiter.fn = tell};
    store_notify_written(world->store, &told->waiter, lsn);
    CHECK(world, told->times == 0); /* never from inside the call */
}

static void waiters(void *arg)
{
    struct world *world = arg;
    struct told first, second, again, durable;
    world_format(world);
    world_open(world);
    CHECK(world, world->open_result == 0);
    uint64_t one = put_row(world, 1), two = put_row(world, 2);
    ask(world, &second, two); /* the later one first: they are told in the log's order */
    ask(world, &first, one);
    CHECK(world, store_wait_written(world->store, two) == 0);
    CHECK(world, first.times == 1 && first.result == 0);
    CHECK(world, second.times == 1 && second.result == 0);

    uint64_t writes = world->store->health.journal_bytes;
    ask(world, &again, one);
    fiber_sleep(NS_PER_MS);
    CHECK(world, again.times == 1 && again.result == 0);
    CHECK(world, store_wait_durable(world->store, two) == 0);
    ask(world, &durable, two);
    fiber_sleep(NS_PER_MS);
    CHECK(world, durable.times == 1 && durable.result == 0);
    CHECK(world, world->store->health.journal_bytes == writes);
}

static void test_waiters(void **state)
{
    struct world world;
    world_init(&world, 1, 64);
    world_run(&world, waiters, &world);
    world_fini(&world);
}

/* The record is durable; did its entry become so by its own write? */
static bool durable_alone(struct world *world, uint64_t lsn)
{
    CHECK(world, store_wait_durable(world->store, lsn) == 0);
    return world->store->journal.write_io.durable;
}

enum { ALONE_ROWS = 4, ALONE_BLOCKS = 8 };

static void alone(void *arg)
{
    struct world *world = arg;
    struct store_extent extent;
    struct store_batch batch;
    struct buf *buf = buf_new(ALONE_BLOCKS * STORE_BLOCK_BYTES);
    uint8_t key[9];
    world_format(world);
    world_open(world);
    CHECK(world, world->open_result == 0);
    bool zoned = disk_info(world->disk)->zone_bytes > 0;
    CHECK(world, durable_alone(world, test_row_put(world, 0, 1)) == !zoned);

    /* A record before it that is only written. */
    CHECK(world, store_wait_written(world->store, test_row_put(world, 1, 1)) == 0);
    CHECK(world, !world->store->journal.write_io.durable);
    CHECK(world, !durable_alone(world, test_row_put(world, 2, 1)));
    CHECK(world, durable_alone(world, test_row_put(world, 3, 1)) == !zoned);

    /* Data that it refers to. */
    memset(buf->data, 7, buf->size);
    CHECK(world, store_extent_write(world->store, (struct buf_slice){buf, 0, buf->size},
                                    ALONE_BLOCKS, &extent) == 0);
    store_batch_init(&batch);
    store_batch_extent_add(&batch, extent, test_row_key(ALONE_ROWS, key));
    CHECK(world, !durable_alone(world, store_commit(world->store, &batch)));
    store_batch_fini(&batch);
    buf_put(buf);
}

static void alone_after(void *arg)
{
    struct world *world = arg;
    world_open(world);
    CHECK(world, world->open_result == 0);
    for (uint32_t row = 0; row < ALONE_ROWS; row++)
        CHECK(world, test_row_look(world, row, 1) == 0);
    CHECK(world, world->store->live_data == ALONE_BLOCKS);
    world_close(world);
}

/* Goal: an entry that needs no flush gets none, one that does gets it, and neither is lost. */
static void test_durable_alone(void **state)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world world;
        world_init(&world, seed, 64);
        world_run(&world, alone, &world);
        world_crash(&world, true);
        world_run(&world, alone_after, &world);
        world_fini(&world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_waiters),
                                       cmocka_unit_test(test_durable_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
