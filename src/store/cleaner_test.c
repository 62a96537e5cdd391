/* SPDX-License-Identifier: MIT */
/* Goal: cleaning costs what theory says it must, nobody waits long for it, and what it moved reads
 * right.
 * Method: 90 % of what the store offers is in use, in extents of 16 KiB that several fibers
 * overwrite at random. Uniform overwrites are the worst there is: no segment is better than
 * another. If a share U of the segments that hold data lives, victims are V full, where
 * U = (1 - V) / -ln V, and V / (1 - V) bytes are moved for each one that is written. */
#include "store/store_test_util.h"

enum { SEGMENTS = 256, BLOCKS = 4, OBJECT_BYTES = BLOCKS * STORE_BLOCK_BYTES, FIBERS = 8 };
#define WRITE_MAX_NS (250 * NS_PER_MS)

struct overwriting {
    struct world world;
    struct store_extent *extents;
    uint64_t *stamps; /* what each object begins with */
    uint32_t objects;
    uint32_t next;  /* object to be filled */
    uint64_t stamp; /* of the next write */
    uint64_t last;  /* with it, writers stop */
    uint64_t longest_ns;
    uint32_t running;
    struct waitq done;
};

static struct slice object_key(uint32_t number, uint8_t key[9])
{
    return test_row_key(number, key);
}

/* Put number at its new place into the batch. */
static void place(struct overwriting *test, uint32_t number, struct store_extent to,
                  struct store_batch *batch)
{
    uint8_t key[9];
    struct slice name = object_key(number, key);
    if (test->extents[number].blocks)
        store_batch_extent_del(batch, test->extents[number]);
    store_batch_put(batch, name, slice_of(&to, sizeof to));
    store_batch_extent_add(batch, to, name);
    test->extents[number] = to;
}

static int mover(void *context, struct slice name, struct store_extent from, struct store_extent to,
                 const void *data, struct store_batch *batch)
{
    struct overwriting *test = context;
    uint32_t number = be32_load((const uint8_t *)name.data + 5);
    uint64_t stamp;
    if (test->extents[number].block != from.block)
        return -ENOENT;
    memcpy(&stamp, data, sizeof stamp);
    CHECK(&test->world, stamp == test->stamps[number]);
    place(test, number, to, batch);
    return 0;
}

static void write_one(struct overwriting *test, uint32_t number, struct store_batch *batch)
{
    struct world *world = &test->world;
    struct store_extent extent;
    uint64_t start_ns = env_now_ns();
    CHECK(world, store_reserve(world->store, OBJECT_BYTES, false) == 0);
    struct buf *buf = buf_new(OBJECT_BYTES);
    memset(buf->data, 0, OBJECT_BYTES);
    memcpy(buf->data, &test->stamp, sizeof test->stamp);
    int result =
        store_extent_write(world->store, (struct buf_slice){buf, 0, OBJECT_BYTES}, BLOCKS, &extent);
    buf_put(buf);
    CHECK(world, result == 0);
    if (result < 0)
        return;
    store_batch_reset(batch);
    test->stamps[number] = test->stamp++;
    place(test, number, extent, batch);
    CHECK(world, store_wait_written(world->store, store_commit(world->store, batch)) == 0);
    test->longest_ns = MAX(test->longest_ns, env_now_ns() - start_ns);
}

static void writer(void *arg)
{
    struct overwriting *test = arg;
    struct store_batch batch;
    store_batch_init(&batch);
    while (test->stamp < test->last && !test->world.failed) {
        bool filling = test->next < test->objects;
        write_one(test,
                  filling ? test->next++
                          : (uint32_t)random_below(&test->world.random, test->objects),
                  &batch);
    }
    store_batch_fini(&batch);
    test->running--;
    waitq_wake_all(&test->done);
}

static void write_all(struct overwriting *test, uint64_t writes)
{
    test->last = test->stamp + writes;
    test->running = FIBERS;
    for (uint32_t i = 0; i < FIBERS; i++)
        fiber_spawn("writer", writer, test);
    while (test->running > 0)
        (void)!waitq_wait(&test->done, 0);
}

static void check_all(struct overwriting *test)
{
    struct world *world = &test->world;
    uint8_t *data = mem_alloc(OBJECT_BYTES);
    for (uint32_t i = 0; i < test->objects; i++) {
        CHECK(world, store_extent_read(world->store, test->extents[i], 0, BLOCKS, data) == 0);
        CHECK(world, memcmp(data, &test->stamps[i], sizeof test->stamps[i]) == 0);
    }
    mem_free(data);
    CHECK(world, store_check(world->store) == 0);
}

static void body(void *arg)
{
    struct overwriting *test = arg;
    struct world *world = &test->world;
    struct store_space space;
    struct store_health before, after;
    world_format(world);
    world_open(world);
    CHECK(world, world->open_result == 0);
    store_set_mover(world->store, mover, test);
    store_space(world->store, &space);
    test->objects = (uint32_t)(space.free_bytes / OBJECT_BYTES * 9 / 10);
    test->extents = mem_zalloc(test->objects * sizeof *test->extents);
    test->stamps = mem_zalloc(test->objects * sizeof *test->stamps);
    waitq_init(&test->done);
    write_all(test, test->objects);
    write_all(test, test->objects); /* from here on the state is steady */
    store_health(world->store, &before);
    uint64_t stamp = test->stamp;
    write_all(test, test->objects);
    store_health(world->store, &after);
    double written = (double)(test->stamp - stamp) * OBJECT_BYTES;
    double moved = (double)(after.cleaned_bytes - before.cleaned_bytes);
    printf("%u objects, %.2f moved for each written, the longest write %.0f ms\n", test->objects,
           moved / written, (double)test->longest_ns / 1e6);
    CHECK(world, moved / written > 0.5 && moved / written < 1.6);
    CHECK(world, test->longest_ns < WRITE_MAX_NS);
    check_all(test);
    world_close(world);
    mem_free(test->stamps);
    mem_free(test->extents);
}

static void test_amplification(void **state)
{
    struct overwriting *test = calloc(1, sizeof *test);
    world_init(&test->world, 1, SEGMENTS);
    world_run(&test->world, body, test);
    world_fini(&test->world);
    free(test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_amplification)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
