/* SPDX-License-Identifier: MIT */
/* Goal: plans lead to the right places, by the least copying, and never through a state with fewer
 * copies than there were. Method: clusters of many shapes; plans are carried out step by step (what
 * joins becomes in sync in random order) while nodes are added, drained, lost and come back. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#undef assert
#include "base/assert.h"
#include "base/errors.h"
#include "base/random.h"
#include "map/map_fixture.h"
#include "map/plan.h"

enum { STEPS_MAX = 4000 };

struct world {
    struct random random;
    struct map_view *view;
    bool lost[MAP_NODES_MAX + 1];
    uint32_t added; /* replicas */
    uint32_t dropped;
    uint32_t led;
};

static void apply(struct world *world, const struct map_command *command, const void *tail,
                  size_t tail_bytes)
{
    assert_int_equal(fixture_apply(&world->view, command, tail, tail_bytes), 0);
}

static void node_up(struct world *world, uint32_t node, uint64_t size_bytes)
{
    struct map_command up = {.type = MAP_COMMAND_NODE_UP,
                             .node = node,
                             .incarnation = world->view->header->version + 1,
                             .size_bytes = size_bytes};
    apply(world, &up, NULL, 0);
}

static void node_add(struct world *world, uint64_t size_bytes)
{
    struct map_command add = {.type = MAP_COMMAND_NODE_ADD};
    struct map_node node = {.id = world->view->header->last_node + 1};
    node.port = (uint16_t)(1000 + node.id);
    apply(world, &add, &node, sizeof node);
    node_up(world, node.id, size_bytes);
}

static void node_down(struct world *world, uint32_t node)
{
    uint32_t sure[MAP_NODES_MAX];
    struct map_command down = {.type = MAP_COMMAND_NODE_DOWN,
                               .node = node,
                               .incarnation = map_view_node(world->view, node)->incarnation};
    for (uint32_t i = 0; i < world->view->header->node_count; i++) {
        if (world->view->nodes[i].state == MAP_NODE_UP && world->view->nodes[i].id != node)
            sure[down.count++] = world->view->nodes[i].id;
    }
    apply(world, &down, sure, down.count * sizeof sure[0]);
}

static void node_intent(struct world *world, uint32_t node, enum map_node_intent intent)
{
    struct map_command command = {
        .type = MAP_COMMAND_NODE_INTENT, .node = node, .op = (uint32_t)intent};
    apply(world, &command, NULL, 0);
}

/* All nodes up, all groups active. */
static struct world *world_of_hosts(uint64_t seed, uint32_t nodes, uint32_t targets,
                                    uint32_t copies, uint32_t groups)
{
    struct world *world = mem_zalloc(sizeof *world);
    random_init(&world->random, seed);
    world->view = fixture_host_map(nodes, targets, copies, groups / 4, groups - groups / 4);
    for (uint32_t i = 1; i <= nodes; i++)
        node_up(world, i, 100 * GIB);
    struct map_command elect = {.type = MAP_COMMAND_ELECT};
    struct map_command_elect rows[MAP_COMMAND_ELECTS_MAX];
    for (uint32_t g = 0; g < world->view->header->group_count; g += elect.count) {
        elect.count = MIN(world->view->header->group_count - g, (uint32_t)ARRAY_COUNT(rows));
        for (uint32_t i = 0; i < elect.count; i++) {
            const struct map_group *group = &world->view->groups[g + i];
            rows[i] =
                (struct map_command_elect){group->id, group->epoch, group->members[0].node, 0};
        }
        apply(world, &elect, rows, elect.count * sizeof rows[0]);
    }
    return world;
}

static struct world *world_new(uint64_t seed, uint32_t nodes, uint32_t copies, uint32_t groups)
{
    return world_of_hosts(seed, nodes, 1, copies, groups);
}

static void world_free(struct world *world)
{
    map_view_put(world->view);
    mem_free(world);
}

static bool may_drop(void *context, uint32_t group, uint32_t node)
{
    struct world *world = context;
    return random_chance(&world->random, 3, 4);
}

static void plan(struct world *world, struct plan *ret_plan)
{
    uint32_t sure[MAP_NODES_MAX];
    uint32_t lost[MAP_NODES_MAX];
    struct plan_facts facts = {.view = world->view,
                               .sure = {sure, 0},
                               .lost = {lost, 0},
                               .may_drop = may_drop,
                               .context = world,
                               .balance = true};
    for (uint32_t i = 0; i < world->view->header->node_count; i++) {
        uint32_t id = world->view->nodes[i].id;
        if (world->view->nodes[i].state == MAP_NODE_UP)
            sure[facts.sure.count++] = id;
        if (world->lost[id])
            lost[facts.lost.count++] = id;
    }
    plan_make(&facts, ret_plan);
}

/* One step: a plan is carried out, some of what joins gets there. False: all is at rest. */
static bool step(struct world *world)
{
    struct plan *next = mem_alloc(sizeof *next);
    plan(world, next);
    bool any = next->waits || next->lead_count + next->move_count > 0;
    if (next->lead_count > 0) {
        struct map_command lead = {.type = MAP_COMMAND_LEAD, .count = next->lead_count};
        apply(world, &lead, next->leads, next->lead_count * sizeof next->leads[0]);
        world->led += next->lead_count;
    }
    if (next->move_count > 0) {
        struct map_command move = {.type = MAP_COMMAND_MOVE, .count = next->move_count};
        apply(world, &move, next->moves, next->move_count * sizeof next->moves[0]);
        for (uint32_t i = 0; i < next->move_count; i++) {
            world->added += next->moves[i].add != 0;
            world->dropped += next->moves[i].drop != 0 && next->moves[i].add == 0;
        }
    }
    for (uint32_t g = 0; g < world->view->header->group_count; g++) {
        struct map_group group = world->view->groups[g];
        for (uint32_t m = 0; m < group.member_count; m++) {
            uint32_t node = group.members[m].node;
            if (group.members[m].state != MAP_MEMBER_JOINING ||
                map_view_node(world->view, node)->state != MAP_NODE_UP)
                continue;
            any = true;
            struct map_command change = {.type = MAP_COMMAND_GROUP_CHANGE,
                                         .group = group.id,
                                         .epoch = group.epoch,
                                         .op = GROUP_CHANGE_IN_SYNC,
                                         .node = node};
            if (random_chance(&world->random, 1, 2)) {
                apply(world, &change, NULL, 0);
                break;
            }
        }
    }
    mem_free(next);
    return any;
}

static void check_copies(const struct world *world, uint32_t least)
{
    for (uint32_t g = 0; g < world->view->header->group_count; g++)
        assert_true(map_group_in_sync_count(&world->view->groups[g]) >= least);
}

static void run(struct world *world, uint32_t least_copies)
{
    world->added = world->dropped = world->led = 0;
    for (uint32_t i = 0; step(world); i++) {
        assert_true(i < STEPS_MAX);
        check_copies(world, least_copies);
    }
}

static void count_members(const struct world *world, uint32_t kind, uint32_t *counts,
                          uint32_t *leads)
{
    memset(counts, 0, (MAP_NODES_MAX + 1) * sizeof *counts);
    memset(leads, 0, (MAP_NODES_MAX + 1) * sizeof *leads);
    for (uint32_t g = 0; g < world->view->header->group_count; g++) {
        const struct map_group *group = &world->view->groups[g];
        if (group->kind != kind)
            continue;
        leads[group->primary]++;
        for (uint32_t m = 0; m < group->member_count; m++)
            counts[group->members[m].node]++;
    }
}

/* Every node that takes part has its share, give or take a sixteenth; all groups have just their
 * copies. */
static void check_balance(const struct world *world)
{
    uint32_t counts[MAP_NODES_MAX + 1];
    uint32_t leads[MAP_NODES_MAX + 1];
    const struct map_header *header = world->view->header;
    for (uint32_t kind = MAP_GROUP_META; kind <= MAP_GROUP_DATA; kind++) {
        uint64_t weights = 0;
        uint64_t replicas = 0;
        count_members(world, kind, counts, leads);
        for (uint32_t i = 0; i < header->node_count; i++) {
            const struct map_node *node = &world->view->nodes[i];
            if (node->intent == MAP_NODE_KEEP && !world->lost[node->id])
                weights += node->size_bytes;
            replicas += counts[node->id];
        }
        for (uint32_t i = 0; i < header->node_count; i++) {
            const struct map_node *node = &world->view->nodes[i];
            bool takes = node->intent == MAP_NODE_KEEP && !world->lost[node->id];
            uint64_t share = takes ? replicas * node->size_bytes / weights : 0;
            uint64_t slack = share / 16;
            assert_in_range(counts[node->id], share - slack - (slack > 0),
                            share + takes * (1 + slack));
        }
    }
    for (uint32_t g = 0; g < header->group_count; g++)
        assert_int_equal(world->view->groups[g].member_count, header->copies);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_add(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        uint32_t nodes = 3 + (uint32_t)(seed % 8);
        uint32_t copies = 1 + (uint32_t)(seed % 3);
        struct world *world = world_new(seed, nodes, copies, 64);
        run(world, copies);
        check_balance(world);
        node_add(world, 100 * GIB);
        run(world, copies);
        check_balance(world);
        /* Just its share is copied. */
        uint32_t meta = 16 * copies / (nodes + 1);
        uint32_t data = 48 * copies / (nodes + 1);
        assert_in_range(world->added, (meta + data) * 14 / 16, meta + data + 4); /* roundings */
        assert_int_equal(world->dropped, world->added);
        assert_true(world->led <= 64); /* once a group at most: nobody hands back and forth */
        world_free(world);
    }
}

static void test_drain(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        uint32_t nodes = 4 + (uint32_t)(seed % 8);
        uint32_t copies = 1 + (uint32_t)(seed % 3);
        uint32_t counts[MAP_NODES_MAX + 1];
        uint32_t leads[MAP_NODES_MAX + 1];
        struct world *world = world_new(seed, nodes, copies, 64);
        run(world, copies);
        uint32_t before = 0;
        for (uint32_t kind = MAP_GROUP_META; kind <= MAP_GROUP_DATA; kind++) {
            count_members(world, kind, counts, leads);
            before += counts[2];
        }
        node_intent(world, 2, MAP_NODE_DRAIN);
        run(world, copies);
        assert_false(machine_is_named(world->view, 2));
        check_balance(world);
        assert_in_range(world->added, before, before + 2); /* two: the roundings of two kinds */
        assert_int_equal(machine_may_remove(world->view, 2), 0);
        node_intent(world, 2, MAP_NODE_KEEP); /* changed our mind: it gets its share again */
        run(world, copies);
        assert_true(machine_is_named(world->view, 2));
        check_balance(world);
        world_free(world);
    }
}

static void test_lost(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        uint32_t nodes = 5 + (uint32_t)(seed % 8);
        uint32_t copies = 2 + (uint32_t)(seed % 2);
        struct world *world = world_new(seed, nodes, copies, 64);
        run(world, copies);
        node_down(world, 3);
        run(world, copies - 1);
        assert_int_equal(world->added, 0); /* it may come back */
        world->lost[3] = true;
        run(world, copies - 1);
        assert_false(machine_is_named(world->view, 3));
        check_balance(world);
        world->lost[3] = false;
        node_up(world, 3, 100 * GIB);
        run(world, copies);
        check_balance(world);
        node_down(world, 4);
        node_intent(world, 4, MAP_NODE_REMOVE); /* nobody waits */
        run(world, copies - 1);
        struct map_command forget = {.type = MAP_COMMAND_NODE_FORGET, .node = 4};
        if (map_view_node(world->view, 4)->voter == MAP_VOTER_NONE)
            apply(world, &forget, NULL, 0);
        check_balance(world);
        world_free(world);
    }
}

/* The group with one copy left is completed before those with two. */
static void test_lowest_first(void **state)
{
    (void)state;
    struct world *world = world_new(7, 12, 3, 400);
    run(world, 3);
    node_down(world, 1);
    node_down(world, 2);
    world->lost[1] = world->lost[2] = true;
    struct plan *next = mem_alloc(sizeof *next);
    plan(world, next);
    uint32_t least = 0;
    for (uint32_t i = 0; i < next->move_count; i++) {
        uint32_t in_sync =
            map_group_in_sync_count(map_view_group(world->view, next->moves[i].group));
        if (next->moves[i].add == 0)
            continue;
        assert_true(in_sync >= least);
        least = in_sync;
    }
    assert_true(next->move_count > 20 && least == 2);
    mem_free(next);
    world_free(world);
}

/* Sizes decide the share; copies stay in different racks. */
/* How many copies to or from every node are under way. */
static void count_copies(const struct world *world, uint32_t kind, uint32_t *to, uint32_t *from)
{
    memset(to, 0, (MAP_NODES_MAX + 1) * sizeof *to);
    memset(from, 0, (MAP_NODES_MAX + 1) * sizeof *from);
    for (uint32_t g = 0; g < world->view->header->group_count; g++) {
        const struct map_group *group = &world->view->groups[g];
        for (uint32_t m = 0; m < group->member_count && group->kind == kind; m++) {
            bool joins = group->members[m].state == MAP_MEMBER_JOINING;
            to[group->members[m].node] += joins;
            from[group->primary] += joins;
        }
    }
}

/* P6: what a lost node held is written, and read, by all others alike; and the leads that change
 * for that do so in one plan. */
static void test_lost_spreads(void **state)
{
    (void)state;
    uint32_t to[MAP_NODES_MAX + 1];
    uint32_t from[MAP_NODES_MAX + 1];
    struct plan *next = mem_alloc(sizeof *next);
    for (uint64_t seed = 1; seed <= 5; seed++) {
        const uint32_t nodes = 40 - (uint32_t)seed; /* of data replicas a node had 57 to 65 */
        struct world *world = world_new(seed, nodes, 3, 1024);
        run(world, 3);
        node_down(world, 1);
        world->lost[1] = true;
        plan(world, next);
        assert_in_range(next->lead_count, 1, 40);
        struct map_command lead = {.type = MAP_COMMAND_LEAD, .count = next->lead_count};
        apply(world, &lead, next->leads, next->lead_count * sizeof next->leads[0]);
        plan(world, next);
        assert_int_equal(next->lead_count, 0);
        struct map_command move = {.type = MAP_COMMAND_MOVE, .count = next->move_count};
        apply(world, &move, next->moves, next->move_count * sizeof next->moves[0]);
        count_copies(world, MAP_GROUP_DATA, to, from);
        for (uint32_t node = 2; node <= nodes; node++) {
            assert_in_range(to[node], 1, 2);
            assert_in_range(from[node], 0, 3);
        }
        run(world, 2);
        check_balance(world);
        world_free(world);
    }
    mem_free(next);
}

static void test_weights_and_racks(void **state)
{
    (void)state;
    struct world *world = world_new(3, 3, 2, 256);
    run(world, 2);
    node_add(world, 200 * GIB);
    node_add(world, 50 * GIB);
    run(world, 2);
    check_balance(world);
    world_free(world);

    world = world_new(4, 2, 2, 64); /* no racks: a domain of its own each */
    for (uint32_t i = 0; i < 6; i++) {
        struct map_command add = {.type = MAP_COMMAND_NODE_ADD};
        struct map_node node = {.id = world->view->header->last_node + 1};
        node.port = (uint16_t)(1000 + node.id);
        (void)snprintf(node.rack, sizeof node.rack, "rack%u", i % 3);
        apply(world, &add, &node, sizeof node);
        node_up(world, node.id, 100 * GIB);
    }
    node_intent(world, 1, MAP_NODE_DRAIN);
    node_intent(world, 2, MAP_NODE_DRAIN);
    run(world, 2);
    check_balance(world);
    node_intent(world, 3, MAP_NODE_DRAIN);
    run(world, 2);
    for (uint32_t g = 0; g < world->view->header->group_count; g++) {
        const struct map_group *group = &world->view->groups[g];
        assert_string_not_equal(map_view_node(world->view, group->members[0].node)->rack,
                                map_view_node(world->view, group->members[1].node)->rack);
    }
    world_free(world);
}

/* At least so many hosts have an in-sync copy of each group. */
static void check_hosts(const struct world *world, uint32_t least)
{
    for (uint32_t g = 0; g < world->view->header->group_count; g++) {
        const struct map_group *group = &world->view->groups[g];
        uint32_t hosts = 0;
        for (uint32_t m = 0; m < group->member_count; m++) {
            uint32_t host = map_view_node(world->view, group->members[m].node)->host;
            bool first = group->members[m].state == MAP_MEMBER_IN_SYNC;
            for (uint32_t o = 0; o < m; o++)
                first &= group->members[o].state != MAP_MEMBER_IN_SYNC ||
                         map_view_node(world->view, group->members[o].node)->host != host;
            hosts += first;
        }
        assert_true(hosts >= least);
    }
}

static void run_hosts(struct world *world, uint32_t least)
{
    for (uint32_t i = 0; step(world); i++) {
        assert_true(i < STEPS_MAX);
        check_hosts(world, least);
    }
}

/* Several targets a host: copies stay on different hosts through every move. */
static void test_hosts(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint32_t copies = 2 + (uint32_t)(seed % 2);
        struct world *world = world_of_hosts(seed, 8, 2, copies, 64);
        run_hosts(world, copies);
        check_balance(world);
        /* One more host; and, where it does not make one too large, a target of the first one. */
        for (uint32_t i = 0; i < (copies == 2 ? 3 : 2); i++) {
            struct map_command add = {.type = MAP_COMMAND_NODE_ADD};
            struct map_node node = {.id = 9 + i, .host = i == 0 ? 0 : i == 1 ? 9 : 1};
            node.port = (uint16_t)(1000 + node.id);
            apply(world, &add, &node, sizeof node);
            node_up(world, node.id, 100 * GIB);
            assert_int_equal(map_view_node(world->view, node.id)->host, i == 2 ? 1 : 9);
        }
        run_hosts(world, copies);
        check_balance(world);
        node_down(world, 3); /* a target alone: its sibling may take over */
        world->lost[3] = true;
        run_hosts(world, copies - 1);
        check_hosts(world, copies);
        check_balance(world);
        node_intent(world, 5, MAP_NODE_DRAIN); /* the host of 5 and 6 */
        run_hosts(world, copies);
        assert_false(machine_is_named(world->view, 5) || machine_is_named(world->view, 6));
        check_balance(world);
        world_free(world);
    }
    /* A host that is larger than all others together has one copy of everything, no more. */
    struct world *world = world_new(7, 1, 2, 64);
    for (uint32_t i = 2; i <= 6; i++) {
        struct map_command add = {.type = MAP_COMMAND_NODE_ADD};
        struct map_node node = {.id = i, .port = (uint16_t)i, .host = i <= 4};
        apply(world, &add, &node, sizeof node);
        node_up(world, i, 100 * GIB);
    }
    run_hosts(world, 0);
    check_hosts(world, 2);
    uint32_t counts[MAP_NODES_MAX + 1];
    uint32_t leads[MAP_NODES_MAX + 1];
    count_members(world, MAP_GROUP_DATA, counts, leads);
    for (uint32_t i = 1; i <= 6; i++)
        assert_int_equal(counts[i], i <= 4 ? 12 : 24);
    world_free(world);
}

/* Who leads what is even, too. */
static void test_leads(void **state)
{
    (void)state;
    uint32_t counts[MAP_NODES_MAX + 1];
    uint32_t leads[MAP_NODES_MAX + 1];
    struct world *world = world_new(11, 6, 2, 256);
    run(world, 2);
    for (uint32_t i = 0; i < 3; i++)
        node_add(world, 100 * GIB);
    run(world, 2);
    count_members(world, MAP_GROUP_DATA, counts, leads);
    for (uint32_t i = 1; i <= 9; i++)
        assert_in_range(leads[i], 192 / 9 - 2, 192 / 9 + 2);
    world_free(world);
}

/* Anything at any time: it ends, balanced. */
static void test_random(void **state)
{
    (void)state;
    uint32_t adds = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        uint32_t copies = 1 + (uint32_t)(seed % 3);
        struct world *world = world_new(seed, 4, copies, 40);
        for (uint32_t i = 0; i < 200; i++) {
            uint32_t last = world->view->header->last_node;
            uint32_t node = 1 + (uint32_t)random_below(&world->random, last);
            const struct map_node *entry = map_view_node(world->view, node);
            switch (random_below(&world->random, 12)) {
            case 0:
                if (last < 10)
                    node_add(world, (50 + random_below(&world->random, 3) * 50) * GIB);
                break;
            case 1:
                if (entry->intent == MAP_NODE_KEEP)
                    node_intent(world, node, MAP_NODE_DRAIN);
                break;
            case 2:
                if (entry->intent == MAP_NODE_DRAIN)
                    node_intent(world, node, MAP_NODE_KEEP);
                break;
            default:
                (void)step(world);
            }
            check_copies(world, copies);
        }
        for (uint32_t node = 1; node <= world->view->header->last_node; node++) {
            if (map_view_node(world->view, node)->intent == MAP_NODE_DRAIN)
                node_intent(world, node, MAP_NODE_KEEP);
        }
        run(world, copies);
        check_balance(world);
        adds += world->added;
        world_free(world);
    }
    assert_true(adds > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add),          cmocka_unit_test(test_drain),
        cmocka_unit_test(test_lost),         cmocka_unit_test(test_lowest_first),
        cmocka_unit_test(test_lost_spreads), cmocka_unit_test(test_weights_and_racks),
        cmocka_unit_test(test_hosts),        cmocka_unit_test(test_leads),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
