/* SPDX-License-Identifier: MIT */
/* Goal: whenever somebody looks, the table says what was put last, in key order, however the puts
 * were gathered and sorted in (M5).
 * Method: random puts of few keys, next to a plain array; looks and settles at random moments. */
#include "store/store_test_util.h"

#include "store/memtable.h"

enum { KEYS = 300, STEPS = 60000, VALUE_MAX = 600, DEAD = -1, ABSENT = -2 };

struct model {
    int32_t bytes[KEYS]; /* of the value; DEAD, ABSENT */
    uint8_t fill[KEYS];
};

static struct slice key_of(uint32_t index, uint8_t key[24])
{
    /* Longer than a row's head, and equal in it for many. */
    memset(key, 'k', 24);
    be32_store(key, index / 50);
    be32_store(key + 18, index);
    return slice_of(key, 18 + 4 + index % 3);
}

static void put(struct memtable *table, struct model *model, struct random *random)
{
    uint8_t key[24], value[VALUE_MAX];
    uint32_t index = (uint32_t)random_below(random, KEYS);
    bool dead = random_chance(random, 1, 5);
    uint32_t bytes = dead ? 0 : (uint32_t)random_below(random, VALUE_MAX);
    model->bytes[index] = dead ? DEAD : (int32_t)bytes;
    model->fill[index] = (uint8_t)random_u64(random);
    memset(value, model->fill[index], bytes);
    memtable_put(table, key_of(index, key), slice_of(dead ? NULL : value, bytes));
}

static void check_row(const struct model *model, uint32_t index, const struct memtable_row *row)
{
    assert_int_equal(row->value == NULL, model->bytes[index] == DEAD);
    assert_int_equal(row->value_bytes, MAX(model->bytes[index], 0));
    for (uint32_t i = 0; i < row->value_bytes; i++)
        assert_int_equal(row->value[i], model->fill[index]);
}

static void look(struct memtable *table, const struct model *model, uint32_t index)
{
    uint8_t key[24];
    const struct memtable_row *row = memtable_find(table, key_of(index, key));
    assert_int_equal(row == NULL, model->bytes[index] == ABSENT);
    if (row)
        check_row(model, index, row);
}

static void walk(struct memtable *table, const struct model *model)
{
    const struct memtable_row *row = memtable_seek(table, slice_of("", 0), false);
    uint64_t count = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        uint8_t key[24];
        if (model->bytes[i] == ABSENT)
            continue;
        assert_non_null(row);
        assert_true(slice_equal(memtable_key(row), key_of(i, key)));
        check_row(model, i, row);
        row = memtable_next(row);
        count++;
    }
    assert_null(row);
    assert_int_equal(table->count, count);
}

static void test_random(void **state)
{
    struct memtable_pool pool = {0};
    struct memtable *table = memtable_new(&pool);
    struct model model;
    struct random random;
    random_init(&random, 5);
    for (uint32_t i = 0; i < KEYS; i++)
        model.bytes[i] = ABSENT;
    for (uint32_t i = 0; i < STEPS; i++) {
        put(table, &model, &random);
        if (random_chance(&random, 1, 40))
            look(table, &model, (uint32_t)random_below(&random, KEYS));
        if (random_chance(&random, 1, 100))
            memtable_settle(table);
        if (random_chance(&random, 1, 1000))
            walk(table, &model);
    }
    walk(table, &model);
    memtable_free(table);
    memtable_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
