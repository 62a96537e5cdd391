/* SPDX-License-Identifier: MIT */
/* Goal: what the object service answers is what a flat array of bytes would answer, whatever else
 * goes on, and both members hold the same. Method: random requests against a model, on fakes of
 * store and group (data_fake.h) that yield and check wherever the real ones may. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "data/data_fake_store.h"
#include "data/data_model.h"

enum { FIBERS = 6, SPAN = 150001 };

static void init(struct world *world, uint64_t seed)
{
    struct store *stores[2] = {fake_store_new(seed), fake_store_new(seed + 1)};
    world_init(world, stores, seed);
    world->hosts[0].forget = fake_store_forget;
}

/* ---- one after the other --------------------------------------------------------------------- */

static void sequential_fiber(void *arg)
{
    struct world *world = arg;
    init(world, 1);
    for (uint32_t i = 0; i < 1500; i++) {
        uint64_t base = random_chance(&world->random, 1, 3) ? OBJECT_BYTES - 200000 : 0;
        model_step(world, base, base + 400000);
        if (i % 50 == 49)
            model_truncate(world, random_below(&world->random, OBJECT_BYTES + 100000));
        if (i % 10 == 0)
            fake_clean_one(world->hosts[0].store);
        if (i % 300 == 0)
            (void)fake_store_check(world->hosts[0].store);
    }
    model_quiesce(world);
    model_check(world);
    model_truncate(world, 0);
    model_quiesce(world);
    model_check(world);
    for (uint32_t i = 0; i < 2; i++)
        world->live += fake_store_check(world->hosts[i].store);
    world->done = true;
}

static void test_model(void **state)
{
    struct world world = {0};
    model_run(sequential_fiber, &world);
    assert_int_equal(world.live, 0);
}

/* ---- many at once, on neighbouring ranges that share blocks ---------------------------------- */

struct worker {
    struct world *world;
    uint64_t from;
};

static void worker_fiber(void *arg)
{
    struct worker *worker = arg;
    for (uint32_t i = 0; i < 250; i++)
        model_step(worker->world, worker->from, worker->from + SPAN);
    worker->world->running--;
}

static void cleaner_fiber(void *arg)
{
    struct world *world = arg;
    while (world->running > 0) {
        fake_clean_one(world->hosts[random_below(&world->random, 2)].store);
        fiber_yield();
    }
}

static void concurrent_fiber(void *arg)
{
    struct world *world = arg;
    static struct worker workers[FIBERS];
    init(world, 2);
    for (uint32_t round = 0; round < 4; round++) {
        world->running = FIBERS;
        for (uint32_t i = 0; i < FIBERS; i++) {
            workers[i] = (struct worker){world, (uint64_t)i * SPAN};
            fiber_spawn("worker", worker_fiber, &workers[i]);
        }
        fiber_spawn("cleaner", cleaner_fiber, world);
        while (world->running > 0)
            fiber_yield();
        model_truncate(world, random_below(&world->random, (uint64_t)FIBERS * SPAN));
    }
    model_quiesce(world);
    model_check(world);
    for (uint32_t i = 0; i < 2; i++)
        (void)fake_store_check(world->hosts[i].store);
    world->done = true;
}

static void test_concurrent(void **state)
{
    struct world world = {0};
    model_run(concurrent_fiber, &world);
}

/* ---- writes that change nothing: readers never see anything else (D4) ------------------------ */

static void rewriter_fiber(void *arg)
{
    struct world *world = arg;
    for (uint32_t i = 0; i < 400; i++) {
        uint64_t at = random_below(&world->random, 255) * DATA_BLOCK_BYTES;
        uint64_t bytes = (1 + random_below(&world->random, 20)) * DATA_BLOCK_BYTES;
        bytes = MIN(bytes, (uint64_t)DATA_IO_MAX - at);
        REQUIRE(world,
                model_call(world, RPC_OBJ_WRITE, at, (uint32_t)bytes, world->model + at) == 0);
    }
    world->running--;
}

static void steady_fiber(void *arg)
{
    struct world *world = arg;
    init(world, 6);
    memcpy(world->model, world->bytes, DATA_IO_MAX);
    REQUIRE(world, model_call(world, RPC_OBJ_WRITE, 0, DATA_IO_MAX, world->model) == 0);
    world->running = 2;
    fiber_spawn("rewriter", rewriter_fiber, world);
    fiber_spawn("rewriter", rewriter_fiber, world);
    fiber_spawn("cleaner", cleaner_fiber, world);
    while (world->running > 0) {
        uint64_t at = random_below(&world->random, DATA_IO_MAX);
        REQUIRE(world, model_check_range(world, 0, at, (uint32_t)(DATA_IO_MAX - at)) == 0);
        uint32_t count = (uint32_t)MIN(DATA_IO_MAX - at, 20000u);
        REQUIRE(world, model_check_range(world, 1, at, count) == 0);
    }
    struct data_counters counters;
    data_service_counters(world->hosts[0].service, &counters);
    REQUIRE(world, counters.checksum_errors == 0); /* what moves is not taken for damage */
    world->done = true;
}

static void test_steady(void **state)
{
    struct world world = {0};
    model_run(steady_fiber, &world);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Flip a bit in every nth live block of a member. */
static uint32_t damage(struct store *store, uint32_t nth)
{
    uint32_t count = 0;
    for (uint32_t i = 0, live = 0; i < FAKE_BLOCKS; i++) {
        if (store->owner[i] == FAKE_LIVE && live++ % nth == 0) {
            store->device[(size_t)i * DATA_BLOCK_BYTES + i % DATA_BLOCK_BYTES] ^= 4;
            count++;
        }
    }
    return count;
}

static void repair_fiber(void *arg)
{
    struct world *world = arg;
    struct data_counters counters;
    init(world, 3);
    for (uint32_t i = 0; i < 100; i++)
        model_step(world, 0, 600000);
    model_quiesce(world);
    uint32_t bad = damage(world->hosts[0].store, 3);
    model_check(world);
    data_service_counters(world->hosts[0].service, &counters);
    REQUIRE(world, bad > 10 && counters.checksum_errors == bad);
    REQUIRE(world, counters.repairs == bad && counters.losses == 0);
    (void)fake_store_check(world->hosts[0].store);
    model_check(world);

    /* the cleaner finds damage: it does not move it, and has it repaired */
    bad = damage(world->hosts[0].store, 1);
    for (uint32_t i = 0; i < 2000; i++) {
        fake_clean_one(world->hosts[0].store);
        fiber_sleep(NS_PER_MS);
    }
    data_service_counters(world->hosts[0].service, &counters);
    REQUIRE(world, counters.repairs == counters.checksum_errors && counters.losses == 0);
    REQUIRE(world, damage(world->hosts[0].store, FAKE_BLOCKS) == 1); /* there is live data */

    model_check(world);

    /* a scrub of the member that nobody reads */
    bad = damage(world->hosts[1].store, 2);
    REQUIRE(world, data_service_scrub(world->hosts[1].service, 0) == 0);
    fiber_sleep(NS_PER_S);
    data_service_counters(world->hosts[1].service, &counters);
    REQUIRE(world, counters.repairs == bad && counters.losses == 0 && counters.scrubs == 1);
    REQUIRE(world, counters.scrubbed_bytes ==
                       (uint64_t)fake_store_check(world->hosts[1].store) * DATA_BLOCK_BYTES);
    model_check(world);

    /* both copies bad: the read fails, other blocks are still read, and it is counted once */
    memset(world->model, 1, DATA_IO_MAX);
    REQUIRE(world, model_call(world, RPC_OBJ_WRITE, 0, DATA_IO_MAX, world->model) == 0);
    model_quiesce(world);
    for (uint32_t i = 0; i < 2; i++) {
        struct store *store = world->hosts[i].store;
        struct data_key key = data_key_make(FAKE_GROUP, INO, 5);
        struct store_iter *iter = store_iter_new(store);
        struct slice found, value;
        struct data_row row;
        store_iter_seek(iter, data_key_slice(&key));
        REQUIRE(world, store_iter_next(iter, slice_of("\xff", 1), &found, &value) == 1);
        REQUIRE(world, data_row_parse(found, value, &row) == 0);
        store->device[(row.extent.block + 5 - row.first) * DATA_BLOCK_BYTES] ^= 1;
        store_iter_free(iter);
    }
    for (uint32_t i = 0; i < 2; i++) {
        REQUIRE(world, model_check_range(world, 0, 5 * DATA_BLOCK_BYTES, 1) == -ERR_CORRUPT_DATA);
        REQUIRE(world, model_check_range(world, 0, 0, 5 * DATA_BLOCK_BYTES) == 0);
        REQUIRE(world,
                model_check_range(world, 0, 6 * DATA_BLOCK_BYTES, 70 * DATA_BLOCK_BYTES) == 0);
    }
    data_service_counters(world->hosts[0].service, &counters);
    REQUIRE(world, counters.losses == 1);

    /* a new write to the lost block makes it whole */
    REQUIRE(world, model_call(world, RPC_OBJ_WRITE, 5 * DATA_BLOCK_BYTES, DATA_BLOCK_BYTES,
                              world->model) == 0);
    model_check(world);
    world->done = true;
}

static void test_repair(void **state)
{
    struct world world = {0};
    model_run(repair_fiber, &world);
}

/* ---- what comes from outside ----------------------------------------------------------------- */

static void refuse_fiber(void *arg)
{
    struct world *world = arg;
    static const struct wire_obj_req bad[] = {
        {.ino = INO, .bytes = 0},
        {.ino = INO, .bytes = DATA_IO_MAX + DATA_BLOCK_BYTES},
        {.ino = INO, .bytes = UINT32_MAX & ~4095u},
        {.ino = INO, .offset = OBJECT_BYTES, .bytes = DATA_BLOCK_BYTES},
        {.ino = INO, .offset = OBJECT_BYTES - DATA_BLOCK_BYTES, .bytes = 2 * DATA_BLOCK_BYTES},
        {.ino = INO, .offset = UINT32_MAX - 4095, .bytes = 2 * DATA_BLOCK_BYTES},
        {.ino = INO, .offset = 1, .bytes = DATA_BLOCK_BYTES},
        {.ino = INO, .offset = 0, .bytes = 100},
    };
    struct fake_reply *reply = mem_zalloc(sizeof *reply);
    init(world, 4);
    for (uint32_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct group_host *host = &world->hosts[0];
        bool read_only_rule = bad[i].offset == 1 || bad[i].bytes == 100;
        REQUIRE(world,
                fake_serve(host, RPC_OBJ_READ, &bad[i], (struct slice){0}, reply) == -EINVAL);
        REQUIRE(world,
                fake_serve(host, RPC_OBJ_WRITE, &bad[i], (struct slice){0}, reply) == -EINVAL);
        if (!read_only_rule && bad[i].bytes <= OBJECT_BYTES && i != 1)
            REQUIRE(world,
                    fake_serve(host, RPC_OBJ_PUNCH, &bad[i], (struct slice){0}, reply) == -EINVAL);
    }
    const struct wire_obj_req far = {.ino = INO, .index = UINT32_MAX, .offset = OBJECT_BYTES};
    REQUIRE(world,
            fake_serve(&world->hosts[0], RPC_OBJ_TRUNCATE, &far, (struct slice){0}, reply) == 0);
    const struct wire_obj_req wrong = {.ino = INO, .offset = OBJECT_BYTES + 1};
    REQUIRE(world, fake_serve(&world->hosts[0], RPC_OBJ_TRUNCATE, &wrong, (struct slice){0},
                              reply) == -EINVAL);
    /* the last block that can be named */
    const struct wire_obj_req last = {.ino = INO,
                                      .index = UINT32_MAX,
                                      .offset = OBJECT_BYTES - DATA_BLOCK_BYTES,
                                      .bytes = DATA_BLOCK_BYTES};
    REQUIRE(world, fake_serve(&world->hosts[0], RPC_OBJ_WRITE, &last,
                              slice_of(world->bytes, DATA_BLOCK_BYTES), reply) == 0);
    REQUIRE(world,
            fake_serve(&world->hosts[0], RPC_OBJ_READ, &last, (struct slice){0}, reply) == 0);
    REQUIRE(world, reply->bytes == DATA_BLOCK_BYTES);
    /* not the primary */
    REQUIRE(world, fake_serve(&world->hosts[1], RPC_OBJ_READ, &last, (struct slice){0}, reply) ==
                       -ERR_NOT_PRIMARY);
    mem_free(reply);
    world->done = true;
}

static void test_refuse(void **state)
{
    struct world world = {0};
    model_run(refuse_fiber, &world);
}

static int cut_at_change(struct world *world, uint64_t order, uint64_t change)
{
    const struct wire_obj_req body = {.ino = INO, .order = order, .change = change};
    struct fake_reply *reply = mem_zalloc(sizeof *reply);
    int result = fake_serve(&world->hosts[0], RPC_OBJ_TRUNCATE, &body, (struct slice){0}, reply);
    mem_free(reply);
    return result;
}

static int cut_all(struct world *world, uint64_t order)
{
    return cut_at_change(world, order, 0);
}

/* A truncation that arrives once more, after it was done and the file was written again. */
static void late_fiber(void *arg)
{
    struct world *world = arg;
    init(world, 5);
    REQUIRE(world, cut_all(world, 7) == 0);
    memcpy(world->model, world->bytes, DATA_BLOCK_BYTES);
    REQUIRE(world, model_call(world, RPC_OBJ_WRITE, 0, DATA_BLOCK_BYTES, world->model) == 0);
    REQUIRE(world, cut_all(world, 7) == 0 && cut_all(world, 6) == 0);
    REQUIRE(world, model_check_range(world, 0, 0, DATA_BLOCK_BYTES) == 0);
    memset(world->model, 0, DATA_BLOCK_BYTES);
    REQUIRE(world, cut_all(world, 8) == 0); /* a new one */
    REQUIRE(world, model_check_range(world, 0, 0, DATA_BLOCK_BYTES) == 0);
    world->done = true;
}

static int write_flagged(struct world *world, uint64_t change, uint32_t flags, uint32_t bytes)
{
    const struct wire_obj_req body = {
        .ino = INO, .bytes = DATA_BLOCK_BYTES, .change = change, .flags = flags};
    struct fake_reply *reply = mem_zalloc(sizeof *reply);
    int result =
        fake_serve(&world->hosts[0], RPC_OBJ_WRITE, &body, slice_of(world->bytes, bytes), reply);
    mem_free(reply);
    return result;
}

static int write_knowing(struct world *world, uint64_t change)
{
    return write_flagged(world, change, 0, DATA_BLOCK_BYTES);
}

/* A write that was begun before a truncation and arrives after it leaves nothing behind. */
static void overtaken_fiber(void *arg)
{
    struct world *world = arg;
    init(world, 6);
    REQUIRE(world, write_knowing(world, 4) == 0);
    REQUIRE(world, write_flagged(world, 4, OBJ_ASK, 0) == 0);
    REQUIRE(world, write_flagged(world, 4, OBJ_ASK, DATA_BLOCK_BYTES) == -EINVAL);
    REQUIRE(world, cut_at_change(world, 7, 5) == 0);
    REQUIRE(world, write_knowing(world, 4) == -ERR_TRUNCATED);
    REQUIRE(world, write_flagged(world, 4, OBJ_ASK, 0) == -ERR_TRUNCATED);
    REQUIRE(world, write_flagged(world, 5, OBJ_ASK, 0) == 0);
    memset(world->model, 0, DATA_BLOCK_BYTES);
    REQUIRE(world, model_check_range(world, 0, 0, DATA_BLOCK_BYTES) == 0);
    REQUIRE(world, cut_at_change(world, 8, 3) == 0); /* an older number takes nothing back */
    REQUIRE(world, write_knowing(world, 4) == -ERR_TRUNCATED);
    REQUIRE(world, write_knowing(world, 5) == 0);
    REQUIRE(world, write_knowing(world, 0) == 0); /* under the inode's lock */
    memcpy(world->model, world->bytes, DATA_BLOCK_BYTES);
    REQUIRE(world, model_check_range(world, 0, 0, DATA_BLOCK_BYTES) == 0);
    world->done = true;
}

static void test_overtaken_write(void **state)
{
    struct world world = {0};
    model_run(overtaken_fiber, &world);
}

static void test_late_truncation(void **state)
{
    struct world world = {0};
    model_run(late_fiber, &world);
}

static bool record_ok(const void *bytes, uint32_t count, const struct store_extent *extents,
                      uint32_t extent_count)
{
    const struct store_log_record record = {
        .group = FAKE_GROUP,
        .payload = slice_of(bytes, count),
        .extents = extents,
        .extent_count = extent_count,
    };
    struct data_record parsed;
    return data_record_parse(&record, &parsed) == 0;
}

static void test_records(void **state)
{
    struct {
        struct disk_data_record head;
        uint32_t crcs[DATA_WRITE_BLOCKS_MAX + 1];
    } bytes = {
        .head = {.kind = DISK_DATA_WRITE, .blocks = 3, .ino = INO, .first = 1000, .end = 1003}};
    const struct store_extent extents[] = {{5, 1, 0}, {9, 2, 0}, {7, 0, 0}, {8, 65, 0}};
    uint32_t size = sizeof bytes.head + 12;
    assert_true(record_ok(&bytes, size, extents, 2));
    assert_false(record_ok(&bytes, size, extents, 1));
    assert_false(record_ok(&bytes, size, extents, 3));
    assert_false(record_ok(&bytes, size, extents + 3, 1));
    for (uint32_t i = 0; i < size; i++)
        assert_false(record_ok(&bytes, i, extents, 2));
    assert_false(record_ok(&bytes, size + 4, extents, 2));
    bytes.head.first = 1022; /* into the next object */
    bytes.head.end = 1025;
    assert_false(record_ok(&bytes, size, extents, 2));
    bytes.head.first = UINT64_MAX - 2;
    bytes.head.end = 0;
    assert_false(record_ok(&bytes, size, extents, 2));
    bytes.head.first = DATA_POSITION_END - 1;
    bytes.head.end = DATA_POSITION_END + 2;
    assert_false(record_ok(&bytes, size, extents, 2));
    bytes.head =
        (struct disk_data_record){.kind = DISK_DATA_CUT, .ino = INO, .end = DATA_POSITION_END};
    assert_true(record_ok(&bytes, sizeof bytes.head, NULL, 0));
    assert_false(record_ok(&bytes, sizeof bytes.head, extents, 1));
    assert_false(record_ok(&bytes, sizeof bytes.head + 1, NULL, 0));
    bytes.head.end = 0;
    assert_false(record_ok(&bytes, sizeof bytes.head, NULL, 0));
    struct {
        struct disk_data_record head;
        struct disk_data_request rows[2];
    } forget = {.head = {.kind = DISK_DATA_FORGET, .blocks = 2}};
    assert_true(record_ok(&forget, sizeof forget, NULL, 0));
    assert_false(record_ok(&forget, sizeof forget, extents, 1));
    assert_false(record_ok(&forget, sizeof forget - 1, NULL, 0));
    forget.head.blocks = UINT32_MAX;
    assert_false(record_ok(&forget, sizeof forget, NULL, 0));
    bytes.head = (struct disk_data_record){.kind = 77, .ino = INO, .end = 1};
    assert_false(record_ok(&bytes, sizeof bytes.head, NULL, 0));
    /* any bytes: refused or not, but never believed beyond their end */
    struct random random;
    random_init(&random, 5);
    for (uint32_t i = 0; i < 20000; i++) {
        uint8_t noise[2 * sizeof(struct disk_data_record)];
        for (uint32_t k = 0; k < sizeof noise; k++)
            noise[k] = (uint8_t)random_below(&random, random_chance(&random, 1, 2) ? 3 : 256);
        (void)record_ok(noise, (uint32_t)random_below(&random, sizeof noise + 1), extents,
                        (uint32_t)random_below(&random, 5));
    }
}

static void test_rows(void **state)
{
    struct data_key key = data_key_make(FAKE_GROUP, INO, 1024 + 9);
    uint8_t value[DATA_VALUE_BYTES_MAX] = {0};
    struct disk_data_extent head = {77, 10, 0};
    struct data_row row;
    memcpy(value, &head, sizeof head);
    assert_int_equal(data_row_parse(data_key_slice(&key), slice_of(value, 56), &row), 0);
    assert_int_equal(row.first, 1024);
    assert_int_equal(row.end, 1034);
    assert_int_equal(data_row_parse(data_key_slice(&key), slice_of(value, 55), &row),
                     -ERR_CORRUPT_DISK);
    head.blocks = 11; /* would begin before its object */
    memcpy(value, &head, sizeof head);
    assert_int_equal(data_row_parse(data_key_slice(&key), slice_of(value, 60), &row),
                     -ERR_CORRUPT_DISK);
    head.blocks = UINT32_MAX;
    memcpy(value, &head, sizeof head);
    assert_int_equal(data_row_parse(data_key_slice(&key), slice_of(value, 12), &row),
                     -ERR_CORRUPT_DISK);
    struct data_key end = data_key_end(FAKE_GROUP, INO);
    assert_false(data_key_is(data_key_slice(&end)));
    assert_true(slice_compare(data_key_slice(&key), data_key_slice(&end)) < 0);
    struct data_key next = data_key_make(FAKE_GROUP, INO + 1, 0);
    assert_true(slice_compare(data_key_slice(&end), data_key_slice(&next)) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_refuse),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_concurrent),
        cmocka_unit_test(test_steady),
        cmocka_unit_test(test_late_truncation),
        cmocka_unit_test(test_overtaken_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
