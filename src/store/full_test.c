/* SPDX-License-Identifier: MIT */
/* Goal: a store that is full never stands still: whoever takes away goes on, the space comes back,
 * and it opens again whenever it ended.
 * Method: segments so small that a memtable becomes several of them. Three fibers fill the store
 * with rows and extents until it refuses, change what is there, take all away, and begin again;
 * now and then the power fails. Nothing may take long, and all that is found must be right. */
#include "base/hash.h"
#include "store/store_test_util.h"

enum { FIBERS = 3, KEYS = 3000, CHANGES = 400, ROUNDS = 2, CRASHES = 5, REFUSED_MAX = 4 };
#define CHANGE_MAX_NS (5 * NS_PER_S)
#define FREE_MAX_NS   (60 * NS_PER_S)

struct item {
    uint64_t stamp;
    struct store_extent extent; /* blocks 0: a row without data */
};
struct client {
    struct full *full;
    uint32_t index;
    bool busy;    /* nobody else may change the row of */
    uint32_t key; /* this one */
    uint64_t changes;
    uint64_t bytes; /* put by the last fill */
};
struct full {
    struct world world;
    struct client clients[FIBERS];
    uint32_t files_of_8; /* of 8 keys, how many have data */
    uint32_t running;
    uint64_t stamp;
    uint64_t longest_ns; /* of a removal */
    uint64_t free_bytes; /* of the empty store */
};

static struct slice key_of(const struct client *client, uint32_t index, uint8_t key[9])
{
    be32_store(key, 3 + client->index);
    key[4] = 0x10;
    be32_store(key + 5, index);
    return slice_of(key, 9);
}

static uint32_t value_bytes(const struct item *item)
{
    uint32_t more = item->extent.blocks ? 100 : STORE_VALUE_MAX - (uint32_t)sizeof *item;
    return (uint32_t)sizeof *item + (uint32_t)(hash_u64(item->stamp) % (more + 1));
}

static bool get(struct client *client, uint32_t index, struct item *item)
{
    uint8_t key[9], value[STORE_VALUE_MAX];
    struct world *world = &client->full->world;
    int bytes = store_get(world->store, key_of(client, index, key), value, sizeof value);
    CHECK(world, bytes == -ENOENT || bytes >= (int)sizeof *item);
    if (bytes < (int)sizeof *item)
        return false;
    memcpy(item, value, sizeof *item);
    CHECK(world, (uint32_t)bytes == value_bytes(item));
    return true;
}

static int mover(void *context, struct slice name, struct store_extent from, struct store_extent to,
                 const void *data, struct store_batch *batch)
{
    struct full *full = context;
    struct client *client = &full->clients[be32_load(name.data) - 3];
    uint32_t index = be32_load((const uint8_t *)name.data + 5);
    uint8_t value[STORE_VALUE_MAX];
    struct item item;
    uint64_t changes = client->changes;
    int bytes = store_get(full->world.store, name, value, sizeof value);
    if (bytes < (int)sizeof item || client->changes != changes ||
        (client->busy && client->key == index))
        return -ENOENT;
    memcpy(&item, value, sizeof item);
    if (item.extent.block != from.block || item.extent.blocks != from.blocks)
        return -ENOENT;
    CHECK(&full->world, memcmp(data, &item.stamp, sizeof item.stamp) == 0);
    item.extent.block = to.block;
    memcpy(value, &item, sizeof item);
    store_batch_put(batch, name, slice_of(value, (uint32_t)bytes));
    store_batch_extent_del(batch, from);
    store_batch_extent_add(batch, to, name);
    return 0;
}

/* New contents for the item: its data is on the way to the device then. */
static int make(struct client *client, uint32_t index, struct item *item)
{
    struct full *full = client->full;
    bool file = index % 8 < full->files_of_8;
    uint32_t blocks =
        file ? 1 + (uint32_t)random_below(&full->world.random, STORE_EXTENT_BLOCKS_MAX) : 0;
    *item = (struct item){.stamp = ++full->stamp};
    int result = store_reserve(full->world.store, (uint64_t)blocks * STORE_BLOCK_BYTES, false);
    if (result < 0 || !file)
        return result;
    struct buf *buf = buf_new(blocks * STORE_BLOCK_BYTES);
    memset(buf->data, (int)item->stamp, buf->size);
    memcpy(buf->data, &item->stamp, sizeof item->stamp);
    result = store_extent_write(full->world.store, (struct buf_slice){buf, 0, buf->size}, blocks,
                                &item->extent);
    buf_put(buf);
    return result;
}

static int change(struct client *client, uint32_t index, bool put)
{
    struct store *store = client->full->world.store;
    static const uint8_t zero[STORE_VALUE_MAX];
    uint8_t key[9], value[STORE_VALUE_MAX];
    struct slice name = key_of(client, index, key);
    struct item before, item;
    struct store_batch batch;
    client->busy = true;
    client->key = index;
    client->changes++;
    int result = put ? make(client, index, &item) : store_reserve(store, 0, true);
    if (result == 0) {
        store_batch_init(&batch);
        if (get(client, index, &before) && before.extent.blocks)
            store_batch_extent_del(&batch, before.extent);
        if (put) {
            memcpy(value, zero, sizeof value);
            memcpy(value, &item, sizeof item);
            store_batch_put(&batch, name, slice_of(value, value_bytes(&item)));
            if (item.extent.blocks)
                store_batch_extent_add(&batch, item.extent, name);
            client->bytes += value_bytes(&item) + item.extent.blocks * STORE_BLOCK_BYTES;
        } else {
            store_batch_del(&batch, name);
        }
        (void)store_commit(store, &batch);
        store_batch_fini(&batch);
    }
    client->busy = false;
    return result;
}

/* ---- phases: each is run by all fibers at once ----------------------------------------------- */

static void fill(struct client *client)
{
    struct world *world = &client->full->world;
    uint32_t refused = 0;
    client->bytes = 0;
    for (uint32_t i = 0; i < KEYS && refused < REFUSED_MAX; i++) {
        int result = change(client, i * 1787 % KEYS, true);
        CHECK(world, result == 0 || result == -ERR_NO_SPACE);
        if (result < 0) {
            refused++;
            fiber_sleep(NS_PER_S); /* what was taken away before may come back late */
        }
    }
    CHECK(world, refused == REFUSED_MAX);
}

static void churn(struct client *client)
{
    struct world *world = &client->full->world;
    for (uint32_t i = 0; i < CHANGES && !world->failed; i++) {
        uint32_t index = (uint32_t)random_below(&world->random, KEYS);
        uint64_t begin_ns = env_now_ns();
        int result = change(client, index, !random_chance(&world->random, 1, 8));
        CHECK(world, result == 0 || result == -ERR_NO_SPACE);
        CHECK(world, env_now_ns() - begin_ns < CHANGE_MAX_NS);
    }
}

static void take_away(struct client *client)
{
    struct full *full = client->full;
    for (uint32_t i = 0; i < KEYS && !full->world.failed; i++) {
        uint64_t begin_ns = env_now_ns();
        CHECK(&full->world, change(client, i * 2003 % KEYS, false) == 0);
        full->longest_ns = MAX(full->longest_ns, env_now_ns() - begin_ns);
    }
}

struct phase {
    struct client *client;
    void (*fn)(struct client *client);
};

static void phase_fiber(void *arg)
{
    struct phase *phase = arg;
    phase->fn(phase->client);
    phase->client->full->running--;
}

static void run_phase(struct full *full, void (*fn)(struct client *client))
{
    struct phase phases[FIBERS];
    full->running = FIBERS;
    for (uint32_t i = 0; i < FIBERS; i++) {
        phases[i] = (struct phase){&full->clients[i], fn};
        fiber_spawn("client", phase_fiber, &phases[i]);
    }
    while (full->running > 0)
        fiber_sleep(NS_PER_MS);
}

static uint64_t bytes_put(const struct full *full)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < FIBERS; i++)
        bytes += full->clients[i].bytes;
    return bytes;
}

/* ---- runs ------------------------------------------------------------------------------------ */

static void check_all(struct full *full)
{
    struct world *world = &full->world;
    uint8_t *data = mem_alloc_aligned(STORE_EXTENT_BLOCKS_MAX * STORE_BLOCK_BYTES, 4096);
    for (uint32_t i = 0; i < FIBERS; i++) {
        for (uint32_t index = 0; index < KEYS && !world->failed; index++) {
            struct item item;
            struct client *client = &full->clients[i];
            client->busy = true; /* it is not moved while we look */
            client->key = index;
            if (get(client, index, &item) && item.extent.blocks) {
                CHECK(world, store_extent_read(world->store, item.extent, 0, item.extent.blocks,
                                               data) == 0);
                CHECK(world, memcmp(data, &item.stamp, sizeof item.stamp) == 0);
            }
            client->busy = false;
        }
    }
    CHECK(world, store_check(world->store) == 0);
    mem_free(data);
}

static void open_full(struct full *full)
{
    struct world *world = &full->world;
    world_open(world);
    CHECK(world, world->open_result == 0);
    if (world->store)
        store_set_mover(world->store, mover, full);
}

static void wait_free(struct full *full)
{
    struct store_space space;
    uint64_t end_ns = env_now_ns() + FREE_MAX_NS;
    CHECK(&full->world, checkpoint_now(full->world.store) == 0); /* rows are space then (SP5) */
    do {
        fiber_sleep(10 * NS_PER_MS);
        store_space(full->world.store, &space);
    } while (space.free_bytes < full->free_bytes / 10 * 9 && env_now_ns() < end_ns);
    CHECK(&full->world, env_now_ns() < end_ns);
}

static void rounds(void *arg)
{
    struct full *full = arg;
    struct world *world = &full->world;
    struct store_space space;
    uint64_t first = 0;
    world_format(world);
    open_full(full);
    store_space(world->store, &space);
    full->free_bytes = space.free_bytes;
    for (uint32_t round = 0; round < ROUNDS && !world->failed; round++) {
        run_phase(full, fill);
        first = round == 0 ? bytes_put(full) : first;
        CHECK(world, bytes_put(full) >= first / 3 * 2); /* leaves may be less full */
        run_phase(full, churn);
        check_all(full);
        if (round == 0) {
            world_close(world);
            open_full(full);
        }
        run_phase(full, take_away);
        CHECK(world, full->longest_ns < CHANGE_MAX_NS);
        wait_free(full);
    }
    check_all(full);
    world_close(world);
}

/* After the end of a life: whatever it was doing, another one begins. */
static void life(void *arg)
{
    struct full *full = arg;
    open_full(full);
    if (!full->world.store)
        return;
    check_all(full);
    run_phase(full, fill);
    run_phase(full, churn);
    run_phase(full, take_away);
    CHECK(&full->world, full->longest_ns < CHANGE_MAX_NS);
}

static struct full *full_new(uint64_t seed)
{
    struct full *full = calloc(1, sizeof *full);
    for (uint32_t i = 0; i < FIBERS; i++)
        full->clients[i] = (struct client){.full = full, .index = i};
    full->files_of_8 = (uint32_t)(seed % 4) * 2;
    world_init(&full->world, seed, 48 + seed % 3 * 20);
    const struct sim_disk_config config = {.read_min_ns = 20000,
                                           .read_max_ns = 100000,
                                           .write_min_ns = 20000,
                                           .write_max_ns = 300000,
                                           .flush_min_ns = 100000,
                                           .flush_max_ns = seed % 2 ? 2000000 : 20000000,
                                           .torn_writes = true};
    sim_disk_configure(full->world.sim, "disk", &config);
    return full;
}

static void full_free(struct full *full)
{
    world_fini(&full->world);
    free(full);
}

static void test_rounds(void **state)
{
    uint64_t first = test_first_seed(1);
    for (uint64_t seed = first; seed < first + test_seeds(4); seed++) {
        struct full *full = full_new(seed);
        world_run(&full->world, rounds, full);
        full_free(full);
    }
}

static void test_crashes(void **state)
{
    uint64_t first = test_first_seed(101);
    for (uint64_t seed = first; seed < first + test_seeds(4); seed++) {
        struct full *full = full_new(seed);
        struct world *world = &full->world;
        world_run(world, rounds, full);
        for (uint32_t i = 0; i < CRASHES; i++) {
            world_run_for(world, life, full, random_below(&world->random, 6 * NS_PER_S));
            world_crash(world, random_chance(&world->random, 1, 2));
        }
        world_run(world, life, full);
        full_free(full);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rounds),
                                       cmocka_unit_test(test_crashes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
