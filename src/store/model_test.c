/* SPDX-License-Identifier: MIT */
/* Goal: the store is an ordered map that survives orderly and disorderly ends.
 * Method: random batches against a plain array; compare by get and by iteration; reopen by close,
 * by process death, by power loss. The array remembers, per key, the history of values, so that
 * after a crash the store must equal the array at some batch not before the last durable one;
 * which one, a row says that every batch writes. */
#include "base/hash.h"
#include "store/store_test_util.h"

enum { KEYS = 3000, VALUE_MAX = 900, STEPS = 600 };

struct version {
    uint64_t batch;
    uint32_t stamp; /* 0: deleted */
};
struct model_key {
    struct version *versions;
    uint32_t count;
};
struct model {
    struct world world;
    struct model_key keys[KEYS];
    uint64_t durable;
    uint64_t last; /* batch */
    uint64_t lsn;  /* of last */
    uint32_t stamp;
    uint32_t steps;
};

static uint32_t key_bytes(uint32_t index, uint8_t *key)
{
    memset(key, 0, 64);
    be32_store(key, 5 + index % 3);
    key[4] = 0x10;
    be64_store(key + 5, index / 7);
    be32_store(key + 13, index);
    return 17 + index % 40;
}

static uint32_t value_bytes(uint32_t index, uint32_t stamp, uint8_t *value)
{
    uint32_t bytes = (uint32_t)(hash_u64(stamp) % VALUE_MAX);
    for (uint32_t i = 0; i < bytes; i++)
        value[i] = (uint8_t)(stamp * 31 + index + i);
    return bytes;
}

static uint32_t stamp_at(const struct model *model, uint32_t index, uint64_t batch)
{
    const struct model_key *key = &model->keys[index];
    for (uint32_t i = key->count; i > 0; i--)
        if (key->versions[i - 1].batch <= batch)
            return key->versions[i - 1].stamp;
    return 0;
}

static void remember(struct model *model, uint32_t index, uint64_t batch, uint32_t stamp)
{
    struct model_key *key = &model->keys[index];
    key->versions = realloc(key->versions, (key->count + 1) * sizeof *key->versions);
    key->versions[key->count++] = (struct version){batch, stamp};
}

static void forget_after(struct model *model, uint64_t batch)
{
    for (uint32_t i = 0; i < KEYS; i++)
        while (model->keys[i].count &&
               model->keys[i].versions[model->keys[i].count - 1].batch > batch)
            model->keys[i].count--;
    model->last = batch;
}

static struct slice number_key(void)
{
    return slice_of("\0\0\0\11\20number", 11);
}

static uint64_t stored_number(struct model *model)
{
    uint64_t number = 0;
    int bytes = store_get(model->world.store, number_key(), &number, sizeof number);
    CHECK(&model->world, bytes == sizeof number || bytes == -ENOENT);
    return number;
}

static void commit_random(struct model *model)
{
    struct world *world = &model->world;
    uint32_t indexes[40], stamps[40], count = 1 + (uint32_t)random_below(&world->random, 40);
    struct store_batch batch;
    store_batch_init(&batch);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t key[64], value[VALUE_MAX];
        indexes[i] = (uint32_t)random_below(&world->random, KEYS);
        stamps[i] = random_chance(&world->random, 1, 4) ? 0 : ++model->stamp;
        struct slice name = slice_of(key, key_bytes(indexes[i], key));
        if (stamps[i])
            store_batch_put(&batch, name,
                            slice_of(value, value_bytes(indexes[i], stamps[i], value)));
        else
            store_batch_del(&batch, name);
    }
    uint64_t number = ++model->last;
    store_batch_put(&batch, number_key(), slice_of(&number, sizeof number));
    model->lsn = store_commit(world->store, &batch);
    for (uint32_t i = 0; i < count; i++)
        remember(model, indexes[i], number, stamps[i]);
    store_batch_fini(&batch);
}

static bool equals_at(struct model *model, uint32_t index, uint64_t batch)
{
    uint8_t key[64], expected[VALUE_MAX], value[VALUE_MAX];
    int bytes =
        store_get(model->world.store, slice_of(key, key_bytes(index, key)), value, sizeof value);
    uint32_t stamp = stamp_at(model, index, batch);
    if (stamp == 0)
        return bytes == -ENOENT;
    return bytes == (int)value_bytes(index, stamp, expected) &&
           memcmp(value, expected, (size_t)bytes) == 0;
}

static void compare_all(struct model *model, uint64_t batch)
{
    struct world *world = &model->world;
    uint32_t live = 0, seen = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        CHECK(world, equals_at(model, i, batch));
        live += stamp_at(model, i, batch) != 0;
    }
    struct store_iter *iter = store_iter_new(world->store);
    uint8_t last[STORE_KEY_MAX], from[4], to[4];
    uint32_t last_bytes = 0;
    be32_store(from, 5);
    be32_store(to, 8);
    store_iter_seek(iter, slice_of(from, 4));
    struct slice key, value;
    int result;
    while ((result = store_iter_next(iter, slice_of(to, 4), &key, &value)) > 0) {
        CHECK(world, slice_compare(slice_of(last, last_bytes), key) < 0);
        memcpy(last, key.data, key.bytes);
        last_bytes = key.bytes;
        uint32_t index = be32_load((const uint8_t *)key.data + 13);
        uint8_t expected[VALUE_MAX];
        uint32_t stamp = index < KEYS ? stamp_at(model, index, batch) : 0;
        CHECK(world, stamp != 0);
        CHECK(world, value.bytes == value_bytes(index, stamp, expected) &&
                         memcmp(value.data, expected, value.bytes) == 0);
        seen++;
    }
    CHECK(world, result == 0 && seen == live);
    store_iter_free(iter);
}

static void steps(void *arg)
{
    struct model *model = arg;
    struct world *world = &model->world;
    for (uint32_t i = 0; i < model->steps; i++) {
        CHECK(world, store_reserve(world->store, 0, false) == 0);
        commit_random(model);
        uint64_t choice = random_below(&world->random, 40);
        if (choice == 0) {
            uint64_t last = model->last;
            CHECK(world, store_wait_durable(world->store, model->lsn) == 0);
            model->durable = last;
        } else if (choice < 8) {
            CHECK(world, store_wait_written(world->store, model->lsn) == 0);
        } else if (choice < 16) {
            fiber_sleep(random_below(&world->random, 3 * NS_PER_MS));
        } else if (choice < 20) {
            CHECK(world,
                  equals_at(model, (uint32_t)random_below(&world->random, KEYS), model->last));
        }
    }
}

static void first(void *arg)
{
    struct model *model = arg;
    world_format(&model->world);
    world_open(&model->world);
    CHECK(&model->world, model->world.open_result == 0);
    steps(model);
    compare_all(model, model->last);
    CHECK(&model->world, store_check(model->world.store) == 0);
}

static void close_reopen(void *arg)
{
    struct model *model = arg;
    uint64_t last = model->last;
    world_close(&model->world);
    world_open(&model->world);
    CHECK(&model->world, model->world.open_result == 0);
    compare_all(model, last);
    steps(model);
    compare_all(model, model->last);
    CHECK(&model->world, store_check(model->world.store) == 0);
}

static void crash_reopen(void *arg)
{
    struct model *model = arg;
    struct world *world = &model->world;
    world_open(world);
    CHECK(world, world->open_result == 0);
    if (!world->store)
        return;
    CHECK(world, !world->store->health.journal_damaged);
    uint64_t number = stored_number(model);
    CHECK(world, number >= model->durable && number <= model->last);
    compare_all(model, number);
    forget_after(model, number);
    model->durable = number;
    CHECK(world, store_check(world->store) == 0);
    steps(model);
}

static void crash_in_the_middle(struct model *model, uint64_t rounds)
{
    struct world *world = &model->world;
    for (uint64_t i = 0; i < rounds; i++) {
        /* Start a run, and pull the plug somewhere in it. */
        world_run_for(world, crash_reopen, model, random_below(&world->random, 300 * NS_PER_MS));
        world_crash(world, random_chance(&world->random, 2, 3));
    }
    world_run(world, crash_reopen, model);
}

static void model_free(struct model *model)
{
    for (uint32_t i = 0; i < KEYS; i++)
        free(model->keys[i].versions);
    world_fini(&model->world);
    free(model);
}

static void test_model(void **state)
{
    struct model *model = calloc(1, sizeof *model);
    world_init(&model->world, 1, 96);
    model->steps = STEPS;
    world_run(&model->world, first, model);
    world_run(&model->world, close_reopen, model);
    assert_true(model->world.store->health.checkpoints > 0);
    model_free(model);
}

static void test_crashes(void **state)
{
    uint64_t first_seed = test_first_seed(1);
    for (uint64_t seed = first_seed; seed < first_seed + test_seeds(6); seed++) {
        struct model *model = calloc(1, sizeof *model);
        world_init(&model->world, seed, 96);
        const struct sim_disk_config config = {.read_min_ns = 20000,
                                               .read_max_ns = 100000,
                                               .write_min_ns = 20000,
                                               .write_max_ns = 300000,
                                               .flush_min_ns = 100000,
                                               .flush_max_ns = seed % 2 ? 2000000 : 30000000,
                                               .torn_writes = true};
        sim_disk_configure(model->world.sim, "disk", &config);
        model->steps = STEPS / 3;
        world_run(&model->world, first, model);
        world_crash(&model->world, true);
        crash_in_the_middle(model, 12);
        model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model),
                                       cmocka_unit_test(test_crashes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
