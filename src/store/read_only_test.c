/* SPDX-License-Identifier: MIT */
/* Goal: a store opened to be read only shows what its owner has put there, journal included, takes
 * changes in memory, and leaves the device as it is, also where a copy is damaged (R6).
 * Method: two nodes and one disk; the content of the whole disk is compared before and after. */
#include "base/hash.h"
#include "store/store_test_util.h"

enum { ROWS = 3000, DISK_SEGMENTS = 40, PEEK_BYTES = 1 << 20 };

static struct slice key_of(uint32_t index, uint8_t key[16])
{
    memset(key, 0, 16);
    be32_store(key, 3);
    key[4] = 0x10;
    be32_store(key + 5, (uint32_t)hash_u64(index));
    return slice_of(key, 16);
}

static void put(struct store *store, uint32_t index, uint32_t stamp)
{
    uint8_t key[16];
    struct store_batch batch;
    store_batch_init(&batch);
    store_batch_put(&batch, key_of(index, key), slice_of(&stamp, sizeof stamp));
    (void)store_commit(store, &batch);
    store_batch_fini(&batch);
}

static uint32_t get(struct store *store, uint32_t index)
{
    uint8_t key[16];
    uint32_t stamp = 0;
    int bytes = store_get(store, key_of(index, key), &stamp, sizeof stamp);
    return bytes == sizeof stamp ? stamp : 0;
}

/* Half of the rows in the tree, a third of all in the journal behind it. */
static void fill(void *arg)
{
    struct world *world = arg;
    world_format(world);
    world_open(world);
    for (uint32_t i = 0; i < ROWS / 2; i++)
        put(world->store, i, i + 1);
    CHECK(world, checkpoint_now(world->store) == 0);
    for (uint32_t i = 0; i < ROWS; i += 3)
        put(world->store, i, i + 2);
    CHECK(world, store_wait_durable(world->store, world->store->journal.next_lsn - 1) == 0);
}

static uint32_t expected(uint32_t index)
{
    return index % 3 == 0 ? index + 2 : index < ROWS / 2 ? index + 1 : 0;
}

static void look(void *arg)
{
    struct world *world = arg;
    struct disk *disk;
    struct store *store;
    const struct store_options options = {
        .memory_bytes = 16 * MIB, .log_ops = &test_no_log, .read_only = true};
    CHECK(world, disk_open("disk", 0, DISK_READ_ONLY, &disk) == 0);
    CHECK(world, store_open(disk, &options, &store) == 0);
    for (uint32_t i = 0; i < ROWS; i++)
        CHECK(world, get(store, i) == expected(i));
    CHECK(world, store_check(store) == 0);
    put(store, 7, 4711);
    CHECK(world, get(store, 7) == 4711);
    CHECK(world, store_close(store) == 0);
    CHECK(world, store_open(disk, &options, &store) == 0);
    CHECK(world, get(store, 7) == expected(7));
    CHECK(world, store_close(store) == 0);
    disk_close(disk);
}

static uint64_t disk_hash(struct sim *sim)
{
    uint64_t hash = 0;
    uint8_t *bytes = malloc(PEEK_BYTES);
    for (uint64_t at = 0; at < DISK_SEGMENTS * (uint64_t)TEST_SEGMENT_BYTES; at += PEEK_BYTES) {
        sim_disk_peek(sim, "disk", at, bytes, PEEK_BYTES);
        hash = hash_bytes(bytes, PEEK_BYTES, hash);
    }
    free(bytes);
    return hash;
}

static void test_device_untouched(void **state)
{
    struct world world, reader;
    (void)state;
    world_init(&world, 5, DISK_SEGMENTS);
    reader = world;
    reader.node = sim_node_new(world.sim, "10.0.0.2");
    world_run(&world, fill, &world);
    uint64_t before = disk_hash(world.sim);
    world_run(&reader, look, &reader); /* the owner is still there, and quiet */
    assert_true(disk_hash(world.sim) == before);
    struct disk_pointer root = world.store->super.root;
    world_crash(&world, true);
    before = disk_hash(world.sim);
    world_run(&reader, look, &reader);
    assert_true(disk_hash(world.sim) == before);
    /* A bad copy is read around and not repaired. */
    sim_disk_flip_bit(world.sim, "disk", root.block[0] * STORE_BLOCK_BYTES + 100, 3);
    before = disk_hash(world.sim);
    world_run(&reader, look, &reader);
    assert_true(disk_hash(world.sim) == before);
    world_fini(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_device_untouched)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
