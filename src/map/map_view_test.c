/* SPDX-License-Identifier: MIT */
/* Goal: bytes that are not a valid map are refused, whatever they are; placement is balanced and
 * moves the minimum. Method: flip bytes of a good map with and without a good checksum; compare
 * placements with and without a node. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#undef assert
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/errors.h"
#include "base/random.h"
#include "map/map_delta.h"
#include "map/map_fixture.h"
#include "map/placement.h"

static void seal(uint8_t *bytes, uint32_t count)
{
    uint32_t crc = 0;
    memcpy(bytes + offsetof(struct map_header, crc), &crc, sizeof crc);
    crc = crc32c(0, bytes, count);
    memcpy(bytes + offsetof(struct map_header, crc), &crc, sizeof crc);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct map_view *view = fixture_first_map(3, 2, 8, 32);
    struct map_view *copy = NULL;
    assert_int_equal(map_view_new(map_view_bytes(view), view->bytes, &copy), 0);
    assert_int_equal(copy->header->group_count, 40);
    for (uint32_t slot = 0; slot < MAP_META_SLOTS; slot++)
        assert_int_equal(map_view_of_ino(copy, (uint64_t)slot << 52 | 7)->kind, MAP_GROUP_META);
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(map_view_of_object(copy, i * 77, i)->kind, MAP_GROUP_DATA);
    assert_null(map_view_node(copy, 4));
    assert_null(map_view_group(copy, 41));
    assert_null(map_view_group(copy, 0));
    map_view_put(copy);
    map_view_put(view);
}

static void test_hostile(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, 1);
    struct map_view *view = fixture_first_map(5, 3, 4, 8);
    uint32_t structs = view->bytes - MAP_META_SLOTS * 4;
    uint32_t accepted = 0;
    for (uint32_t i = 0; i < 30000; i++) {
        uint32_t count = view->bytes;
        if (random_chance(&random, 1, 50))
            count = (uint32_t)random_below(&random, count);
        uint8_t *bytes = mem_alloc(count + 1); /* exact, for ASan */
        memcpy(bytes, map_view_bytes(view), count);
        for (uint32_t flips = 0; flips < 2 && count > 0; flips++) {
            uint64_t range = random_chance(&random, 7, 8) ? structs : count;
            bytes[random_below(&random, MIN(range, count))] =
                (uint8_t)random_below(&random, random_chance(&random, 1, 2) ? 6 : 256);
        }
        bool sealed = count == view->bytes && random_chance(&random, 9, 10);
        if (sealed)
            seal(bytes, count);
        struct map_view *copy = NULL;
        int result = map_view_new(bytes, count, &copy);
        if (result == 0) {
            accepted++;
            assert_true(map_view_of_ino(copy, UINT64_MAX)->member_count <= MAP_MEMBERS_MAX);
            map_view_put(copy);
        } else {
            assert_int_equal(result, -ERR_CORRUPT_WIRE);
            assert_null(copy);
        }
        mem_free(bytes);
    }
    assert_true(accepted > 100 && accepted < 29000);
    map_view_put(view);
}

/* Shares follow the weights, and a node more or less moves only what is its own. */
static void test_placement(void **state)
{
    (void)state;
    enum { NODES = 10, KEYS = 20000, COPIES = 3 };
    struct placement_node nodes[NODES];
    uint32_t wins[NODES] = {0};
    uint64_t weights = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[i] = (struct placement_node){
            .node = i + 1, .host = i + 1, .weight = 100 * (1 + i % 3), .load_max = UINT32_MAX};
        weights += nodes[i].weight;
    }
    uint32_t moved = 0;
    for (uint32_t key = 0; key < KEYS; key++) {
        uint32_t before[COPIES];
        uint32_t after[COPIES];
        for (uint32_t c = 0; c < COPIES; c++)
            before[c] = (uint32_t)placement_choose(nodes, NODES, key, before, c);
        for (uint32_t c = 0; c < COPIES; c++)
            after[c] = (uint32_t)placement_choose(nodes, NODES - 1, key, after, c);
        wins[before[0]]++;
        bool had_last = false;
        for (uint32_t c = 0; c < COPIES; c++)
            had_last |= before[c] == NODES - 1;
        uint32_t differing = 0;
        for (uint32_t c = 0; c < COPIES; c++) {
            bool kept = false;
            for (uint32_t d = 0; d < COPIES; d++)
                kept |= before[c] == after[d];
            differing += !kept;
        }
        assert_int_equal(differing, had_last ? 1 : 0);
        moved += differing;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        uint64_t expected = KEYS * nodes[i].weight / weights;
        assert_in_range(wins[i], expected * 90 / 100, expected * 110 / 100);
    }
    assert_true(moved > 0);
}

static void test_racks(void **state)
{
    (void)state;
    struct placement_node nodes[6];
    for (uint32_t i = 0; i < 6; i++)
        nodes[i] = (struct placement_node){
            .node = i + 1, .host = i + 1, .weight = 1, .rack = 1 + i / 2, .load_max = UINT32_MAX};
    for (uint32_t key = 0; key < 500; key++) {
        uint32_t taken[6];
        for (uint32_t c = 0; c < 6; c++) {
            int32_t best = placement_choose(nodes, 6, key, taken, c);
            assert_true(best >= 0);
            for (uint32_t d = 0; d < c && c < 3; d++)
                assert_int_not_equal(nodes[best].rack, nodes[taken[d]].rack);
            taken[c] = (uint32_t)best;
        }
        assert_int_equal(placement_choose(nodes, 6, key, taken, 6), -1);
    }
}

/* Copies of a group are on as many hosts, whatever the number of targets of each. */
static void test_hosts(void **state)
{
    (void)state;
    static const uint32_t hosts[] = {1, 1, 1, 1, 2, 2, 3, 4, 4, 4};
    struct placement_node nodes[ARRAY_COUNT(hosts)];
    uint32_t wins[ARRAY_COUNT(hosts)] = {0};
    for (uint32_t i = 0; i < ARRAY_COUNT(hosts); i++)
        nodes[i] = (struct placement_node){
            .node = i + 1, .host = hosts[i], .weight = 100, .load_max = UINT32_MAX};
    for (uint32_t key = 0; key < 2000; key++) {
        uint32_t taken[ARRAY_COUNT(hosts)];
        for (uint32_t c = 0; c < 4; c++) {
            int32_t best = placement_choose(nodes, ARRAY_COUNT(hosts), key, taken, c);
            assert_in_range(best, 0, ARRAY_COUNT(hosts) - 1);
            for (uint32_t d = 0; d < c; d++)
                assert_int_not_equal(hosts[best], hosts[taken[d]]);
            wins[best] += c == 0;
            taken[c] = (uint32_t)best;
        }
        assert_int_equal(placement_choose(nodes, ARRAY_COUNT(hosts), key, taken, 4), -1);
    }
    for (uint32_t i = 0; i < ARRAY_COUNT(hosts); i++)
        assert_in_range(wins[i], 150, 250); /* each target its share of the first copies */

    struct map_view *view = fixture_host_map(6, 2, 3, 6, 12);
    uint32_t loads[6] = {0};
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        uint32_t on_host[4] = {0};
        assert_int_equal(view->groups[i].member_count, 3);
        for (uint32_t m = 0; m < 3; m++) {
            uint32_t node = view->groups[i].members[m].node;
            assert_int_equal(on_host[map_view_node(view, node)->host]++, 0);
            loads[node - 1]++;
        }
    }
    for (uint32_t i = 0; i < ARRAY_COUNT(loads); i++)
        assert_in_range(loads[i], 7, 11);
    map_view_put(view);
}

/* The first map: every group has distinct members, and nodes carry nearly equal loads. */
static void test_first_map(void **state)
{
    (void)state;
    for (uint32_t nodes = 1; nodes <= 9; nodes++) {
        struct map_view *view = fixture_first_map(nodes, 2, 8, 32);
        uint32_t loads[2][MAP_COMMAND_INIT_NODES_MAX] = {{0}};
        for (uint32_t i = 0; i < view->header->group_count; i++) {
            const struct map_group *group = &view->groups[i];
            assert_int_equal(group->member_count, MIN(nodes, 2u));
            for (uint32_t m = 0; m < group->member_count; m++)
                loads[group->kind == MAP_GROUP_DATA][group->members[m].node - 1]++;
        }
        for (uint32_t i = 0; i < nodes; i++) {
            uint32_t copies = MIN(nodes, 2u);
            assert_in_range(loads[0][i], 8 * copies / nodes - 1, 8 * copies / nodes + 2);
            assert_in_range(loads[1][i], 32 * copies / nodes - 2, 32 * copies / nodes + 2);
        }
        map_view_put(view);
    }
}

/* Deltas give the very bytes of the newer map, over any number of versions the history has. */
static void test_delta(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, 9);
    struct map_history *history = mem_zalloc(sizeof *history);
    struct map_view *view = fixture_first_map(20, 2, 64, 256);
    struct map_view *kept[2 * MAP_HISTORY_MAX] = {map_view_get(view)};
    uint32_t count = 1;
    uint64_t deltas = 0;
    uint64_t refused = 0;
    while (count < ARRAY_COUNT(kept)) {
        struct map_command up = {.type = MAP_COMMAND_NODE_UP,
                                 .node = 1 + (uint32_t)random_below(&random, 20),
                                 .incarnation = 1 + count};
        struct map_view *before = map_view_get(view);
        assert_int_equal(fixture_apply(&view, &up, NULL, 0), 0);
        map_history_note(history, before, view);
        map_view_put(before);
        kept[count++] = map_view_get(view);
        uint32_t old = (uint32_t)random_below(&random, count - 1);
        uint32_t bytes = 0;
        struct buf *delta = map_history_delta(history, view, kept[old]->header->version, &bytes);
        bool reaches = count - 1 - old <= MAP_HISTORY_MAX;
        assert_int_equal(delta != NULL, reaches);
        if (!delta)
            continue;
        struct map_view *made = NULL;
        deltas++;
        assert_true(bytes < view->bytes / 4);
        assert_int_equal(map_delta_apply(kept[old], delta->data, bytes, &made), 0);
        assert_memory_equal(map_view_bytes(made), map_view_bytes(view), view->bytes);
        map_view_put(made);
        /* Made for another map: the checksum tells, unless it happens to name all that differs. */
        if (map_delta_apply(kept[0], delta->data, bytes, &made) == 0) {
            assert_memory_equal(map_view_bytes(made), map_view_bytes(view), view->bytes);
            map_view_put(made);
        } else {
            refused++;
        }
        delta->data[random_below(&random, bytes)] ^= (uint8_t)(1 + random_below(&random, 255));
        assert_int_equal(map_delta_apply(kept[old], delta->data, bytes, &made), -ERR_CORRUPT_WIRE);
        assert_int_equal(map_delta_apply(kept[old], delta->data, bytes - 1, &made),
                         -ERR_CORRUPT_WIRE);
        buf_put(delta);
    }
    assert_true(deltas > 100 && refused > 10);
    for (uint32_t i = 0; i < count; i++)
        map_view_put(kept[i]);
    map_view_put(view);
}

/* The product's choice: room to grow, whatever it starts with. */
static void test_group_counts(void **state)
{
    (void)state;
    for (uint32_t targets = 1; targets <= 100; targets++) {
        uint32_t meta;
        uint32_t data;
        map_group_counts(targets, 0, &meta, &data);
        assert_true(meta >= 1 && meta <= MAP_META_SLOTS && MAP_META_SLOTS % meta == 0);
        assert_true(data >= meta && data <= MAP_DATA_GROUPS_MAX);
        uint32_t same_meta;
        uint32_t same_data;
        map_group_counts(targets, 16 * targets, &same_meta, &same_data);
        assert_true(same_meta == meta && same_data == data);
        map_group_counts(1, 16 * targets, &same_meta, &same_data); /* said before */
        assert_true(same_meta == meta && same_data == data);
        /* Sixteen times as many targets, two copies: a full unit is at most a tenth of the mean. */
        assert_true(data * 2 / (16 * targets) >= 10);
        /* Most of a lost unit's copies have a source and a new place of their own. */
        assert_true(targets > 64 || data * 2 / targets >= 4 * targets);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_placement),  cmocka_unit_test(test_racks),
        cmocka_unit_test(test_hosts),      cmocka_unit_test(test_first_map),
        cmocka_unit_test(test_delta),      cmocka_unit_test(test_group_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
