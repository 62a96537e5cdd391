/* SPDX-License-Identifier: MIT */
/* Goal: no sequence of deaths, restarts, leader changes, promotions, drops, moves, and nodes that
 * come and go for good makes a group serve without all that was acknowledged and flushed; and
 * every group serves again once everybody who may is back. Method: a model of what each replica
 * really holds, driven by random commands with random (stale, incomplete) knowledge of who is
 * alive, over many seeds. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#undef assert
#include "base/assert.h"
#include "base/errors.h"
#include "base/random.h"
#include "map/map_fixture.h"

enum { NODES_MAX = 9, FIRST_NODES_MAX = 6, GROUPS = 6 };

struct model {
    struct random random;
    uint32_t node_count;
    uint32_t targets; /* of a host */
    struct map_view *view;
    bool alive[NODES_MAX + 1];
    bool heard[NODES_MAX + 1];           /* by the leader, in its present incarnation */
    uint64_t incarnation[NODES_MAX + 1]; /* of the newest process */
    uint64_t written[GROUPS + 1];        /* acknowledged and flushed */
    uint64_t held[GROUPS + 1][NODES_MAX + 1];
    struct {
        uint32_t node;
        uint32_t epoch;
        uint64_t incarnation;
        uint64_t target;
    } catch_up[GROUPS + 1];
    uint64_t writes;
    uint64_t elections;
    uint64_t moves;
    uint64_t forgotten;
};

static uint32_t confirmed_ids(const struct model *model, uint32_t *ids)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i <= model->node_count; i++) {
        const struct map_node *node = map_view_node(model->view, i);
        if (node && model->heard[i] && node->incarnation == model->incarnation[i])
            ids[count++] = i;
    }
    return count;
}

static int propose(struct model *model, struct map_command command)
{
    uint32_t ids[NODES_MAX];
    command.count = confirmed_ids(model, ids);
    return fixture_apply(&model->view, &command, ids, command.count * sizeof ids[0]);
}

/* The data a member has, as far as its process may use it: only if the map speaks of it. */
static bool current(const struct model *model, uint32_t node)
{
    const struct map_node *entry = map_view_node(model->view, node);
    return entry && model->alive[node] && entry->state == MAP_NODE_UP &&
           entry->incarnation == model->incarnation[node];
}

static void check(const struct model *model)
{
    for (uint32_t g = 1; g <= GROUPS; g++) {
        const struct map_group *group = map_view_group(model->view, g);
        for (uint32_t m = 0; m < group->member_count; m++) {
            const struct map_member *member = &group->members[m];
            if (member->state == MAP_MEMBER_IN_SYNC || member->state == MAP_MEMBER_LOST)
                assert_int_equal(model->held[g][member->node], model->written[g]);
            if (member->state == MAP_MEMBER_LOST)
                assert_int_equal(group->primary, 0);
        }
        if (group->primary != 0)
            assert_int_equal(map_group_member_state(group, group->primary), MAP_MEMBER_IN_SYNC);
        else if (!map_group_never_active(group))
            assert_true(map_group_in_sync_count(group) > 0 || group->members[0].state > 0);
    }
    struct map_view *copy = NULL;
    assert_int_equal(map_view_new(map_view_bytes(model->view), model->view->bytes, &copy), 0);
    map_view_put(copy);
}

/* A write is acknowledged if every in-sync member is there to take it. */
static void do_write(struct model *model, uint32_t g)
{
    const struct map_group *group = map_view_group(model->view, g);
    if (group->primary == 0)
        return;
    for (uint32_t m = 0; m < group->member_count; m++) {
        if (group->members[m].state == MAP_MEMBER_IN_SYNC &&
            !current(model, group->members[m].node))
            return;
    }
    model->written[g]++;
    model->writes++;
    for (uint32_t m = 0; m < group->member_count; m++) {
        if (group->members[m].state == MAP_MEMBER_IN_SYNC)
            model->held[g][group->members[m].node] = model->written[g];
    }
}

/* A joining member copies from the primary; later the primary asks to count it in. */
static void do_catch_up(struct model *model, uint32_t g)
{
    const struct map_group *group = map_view_group(model->view, g);
    if (group->primary == 0 || !current(model, group->primary))
        return;
    uint32_t node = model->catch_up[g].node;
    if (node != 0) {
        model->catch_up[g].node = 0;
        bool same =
            model->alive[node] && model->incarnation[node] == model->catch_up[g].incarnation;
        if (!same)
            return;
        if (group->epoch == model->catch_up[g].epoch)
            model->held[g][node] = model->written[g];
        struct map_command command = {.type = MAP_COMMAND_GROUP_CHANGE,
                                      .group = g,
                                      .epoch = model->catch_up[g].epoch,
                                      .op = GROUP_CHANGE_IN_SYNC,
                                      .node = node};
        (void)propose(model, command);
        return;
    }
    for (uint32_t m = 0; m < group->member_count; m++) {
        uint32_t member = group->members[m].node;
        if (group->members[m].state == MAP_MEMBER_JOINING && current(model, member)) {
            model->catch_up[g].node = member;
            model->catch_up[g].epoch = group->epoch;
            model->catch_up[g].incarnation = model->incarnation[member];
        }
    }
}

static void do_drop(struct model *model, uint32_t g)
{
    const struct map_group *group = map_view_group(model->view, g);
    if (group->primary == 0 || !current(model, group->primary))
        return;
    struct map_command command = {
        .type = MAP_COMMAND_GROUP_CHANGE,
        .group = g,
        .epoch = group->epoch,
        .op = GROUP_CHANGE_DROP,
        .node = group->members[random_below(&model->random, group->member_count)].node};
    (void)propose(model, command);
}

static void do_elect(struct model *model, bool all)
{
    struct map_command_elect rows[GROUPS];
    uint32_t count = 0;
    for (uint32_t g = 1; g <= GROUPS; g++) {
        const struct map_group *group = map_view_group(model->view, g);
        uint32_t chosen = 0;
        for (uint32_t m = 0; m < group->member_count; m++) {
            uint32_t node = group->members[m].node;
            bool may = map_group_never_active(group) || group->members[m].state == MAP_MEMBER_LOST;
            if (may && current(model, node) && model->heard[node] &&
                (chosen == 0 || random_chance(&model->random, 1, 2)))
                chosen = node;
        }
        if (chosen != 0 && group->primary == 0 && (all || random_chance(&model->random, 1, 2)))
            rows[count++] = (struct map_command_elect){g, group->epoch, chosen, 0};
    }
    struct map_command command = {.type = MAP_COMMAND_ELECT, .count = count};
    if (fixture_apply(&model->view, &command, rows, count * sizeof rows[0]) == 0)
        model->elections++;
}

/* Members come and go as a planner without any sense might propose it. */
static void do_move(struct model *model)
{
    struct map_command_move rows[GROUPS];
    struct map_command command = {.type = MAP_COMMAND_MOVE, .count = GROUPS};
    for (uint32_t g = 1; g <= GROUPS; g++) {
        const struct map_group *group = map_view_group(model->view, g);
        uint32_t add = random_chance(&model->random, 1, 2)
                           ? 1 + (uint32_t)random_below(&model->random, NODES_MAX)
                           : 0;
        uint32_t drop = random_chance(&model->random, 1, 2)
                            ? group->members[random_below(&model->random, group->member_count)].node
                            : 0;
        rows[g - 1] = (struct map_command_move){g, group->epoch, add, drop};
    }
    struct map_view *before = map_view_get(model->view);
    if (fixture_apply(&model->view, &command, rows, sizeof rows) == 0)
        model->moves++;
    for (uint32_t g = 1; g <= GROUPS; g++) { /* M9 */
        uint32_t was = map_group_in_sync_count(map_view_group(before, g));
        uint32_t is = map_group_in_sync_count(map_view_group(model->view, g));
        assert_true(is == was || is >= model->view->header->copies);
        if (rows[g - 1].add != 0 &&
            map_group_member_state(map_view_group(before, g), rows[g - 1].add) == 0)
            model->held[g][rows[g - 1].add] = 0; /* it has deleted what it had */
    }
    map_view_put(before);
}

static void do_lead(struct model *model)
{
    struct map_command_elect rows[GROUPS];
    struct map_command command = {.type = MAP_COMMAND_LEAD};
    for (uint32_t g = 1; g <= GROUPS; g++) {
        const struct map_group *group = map_view_group(model->view, g);
        uint32_t node = group->members[random_below(&model->random, group->member_count)].node;
        if (current(model, node) && model->heard[node])
            rows[command.count++] = (struct map_command_elect){g, group->epoch, node, 0};
    }
    (void)fixture_apply(&model->view, &command, rows, command.count * sizeof rows[0]);
}

static bool host_alive(const struct model *model, uint32_t node)
{
    const struct map_node *entry = map_view_node(model->view, node);
    for (uint32_t i = 0; i < model->view->header->node_count; i++) {
        const struct map_node *other = &model->view->nodes[i];
        if (entry && other->host == entry->host && model->alive[other->id])
            return true;
    }
    return false;
}

static void do_membership(struct model *model)
{
    uint32_t node = 1 + (uint32_t)random_below(&model->random, model->view->header->last_node);
    struct map_command command = {.node = node};
    struct map_node new = {.id = model->view->header->last_node + 1, .port = 1};
    int result;
    bool removable = machine_may_remove(model->view, node) == 0;
    switch (random_below(&model->random, 4)) {
    case 0:
        command.type = MAP_COMMAND_NODE_ADD;
        new.port = (uint16_t)(100 + new.id);
        if (new.id > NODES_MAX)
            return;
        result = fixture_apply(&model->view, &command, &new, sizeof new);
        assert_int_equal(result, 0);
        model->node_count = new.id;
        break;
    case 1:
    case 2:
        command.type = MAP_COMMAND_NODE_INTENT;
        command.op = (uint32_t)random_below(&model->random, MAP_NODE_REMOVE + 1);
        if (command.op == MAP_NODE_REMOVE &&
            (host_alive(model, node) || model->view->header->node_count <= 2 + model->targets))
            return; /* the process has to be gone */
        result = fixture_apply(&model->view, &command, NULL, 0);
        assert_true(command.op != MAP_NODE_REMOVE || removable || result < 0);
        break;
    default:
        command.type = MAP_COMMAND_NODE_FORGET;
        for (command.node = 1; command.node <= NODES_MAX; command.node++) {
            bool named = machine_is_named(model->view, command.node);
            if (fixture_apply(&model->view, &command, NULL, 0) < 0)
                continue;
            assert_false(named);
            model->forgotten++;
        }
    }
}

/* Is nobody left of the process that the map speaks of? */
static bool process_dead(const struct model *model, const struct map_node *node)
{
    for (uint32_t i = 0; i < model->view->header->node_count; i++) {
        const struct map_node *other = &model->view->nodes[i];
        if (other->host == node->host && model->alive[other->id] &&
            model->incarnation[other->id] == node->incarnation)
            return false;
    }
    return true;
}

static void do_node(struct model *model, uint32_t node)
{
    const struct map_node *entry = map_view_node(model->view, node);
    if (!entry || entry->intent == MAP_NODE_REMOVE)
        return;
    switch (random_below(&model->random, 5)) {
    case 0: /* dies; the leader may not know yet */
        model->alive[node] = false;
        if (random_chance(&model->random, 1, 2)) {
            for (uint32_t i = 0; i < model->view->header->node_count; i++)
                model->alive[model->view->nodes[i].id] &= model->view->nodes[i].host != entry->host;
        }
        break;
    case 1: /* a new process; what was flushed is on its disk */
        model->alive[node] = true;
        model->incarnation[node]++;
        model->heard[node] = false;
        break;
    case 2: /* registers */
    case 3:
        if (model->alive[node]) {
            struct map_command up = {
                .type = MAP_COMMAND_NODE_UP, .node = node, .incarnation = model->incarnation[node]};
            (void)propose(model, up);
            model->heard[node] = true;
        }
        break;
    default: /* declared dead: only a process that really is */
        if (entry->incarnation != model->incarnation[node] || !model->alive[node]) {
            struct map_command down = {
                .type = MAP_COMMAND_NODE_DOWN, .node = node, .incarnation = entry->incarnation};
            if (process_dead(model, entry) && random_chance(&model->random, 1, 2))
                down.op = MAP_DOWN_PROCESS;
            if (entry->incarnation == model->incarnation[node])
                model->heard[node] = false;
            (void)propose(model, down);
        }
    }
}

static void step(struct model *model)
{
    uint32_t g = 1 + (uint32_t)random_below(&model->random, GROUPS);
    uint32_t node = 1 + (uint32_t)random_below(&model->random, model->node_count);
    switch (random_below(&model->random, 12)) {
    case 0:
    case 1:
        do_node(model, node);
        break;
    case 2:
        do_elect(model, false);
        break;
    case 3:
        (void)propose(model, (struct map_command){.type = MAP_COMMAND_RESOLVE});
        break;
    case 4:
        do_drop(model, g);
        break;
    case 5:
        do_move(model);
        if (random_chance(&model->random, 1, 2))
            do_membership(model);
        break;
    case 6:
        do_lead(model);
        break;
    case 7: /* a new leader knows nobody */
        if (random_chance(&model->random, 1, 4))
            memset(model->heard, 0, sizeof model->heard);
        break;
    case 8:
    case 9:
        do_catch_up(model, g);
        break;
    default:
        do_write(model, g);
    }
    check(model);
}

/* Everybody comes back: all groups serve, with everything. */
static void settle(struct model *model)
{
    for (uint32_t i = 1; i <= model->node_count; i++) {
        const struct map_node *entry = map_view_node(model->view, i);
        if (!entry || entry->intent == MAP_NODE_REMOVE)
            continue;
        if (!model->alive[i])
            model->incarnation[i]++;
        model->alive[i] = true;
        struct map_command up = {
            .type = MAP_COMMAND_NODE_UP, .node = i, .incarnation = model->incarnation[i]};
        (void)propose(model, up);
        model->heard[i] = true;
    }
    (void)propose(model, (struct map_command){.type = MAP_COMMAND_RESOLVE});
    do_elect(model, true);
    for (uint32_t i = 0; i < 8; i++) {
        for (uint32_t g = 1; g <= GROUPS; g++)
            do_catch_up(model, g);
    }
    check(model);
    for (uint32_t g = 1; g <= GROUPS; g++) {
        const struct map_group *group = map_view_group(model->view, g);
        assert_int_not_equal(group->primary, 0);
        for (uint32_t m = 0; m < group->member_count; m++) {
            const struct map_node *node = map_view_node(model->view, group->members[m].node);
            assert_true(group->members[m].state == MAP_MEMBER_IN_SYNC ||
                        node->intent == MAP_NODE_REMOVE);
        }
    }
}

static void test_random(void **state)
{
    (void)state;
    uint64_t writes = 0;
    uint64_t elections = 0;
    uint64_t moves = 0;
    uint64_t forgotten = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct model *model = mem_zalloc(sizeof *model);
        random_init(&model->random, seed);
        model->node_count = 2 + (uint32_t)random_below(&model->random, FIRST_NODES_MAX - 1);
        model->targets = 1 + (uint32_t)random_below(&model->random, 2);
        model->view =
            fixture_host_map(model->node_count, model->targets,
                             1 + (uint32_t)random_below(&model->random, 3), 2, GROUPS - 2);
        for (uint32_t i = 0; i < 600; i++)
            step(model);
        settle(model);
        writes += model->writes;
        elections += model->elections;
        moves += model->moves;
        forgotten += model->forgotten;
        map_view_put(model->view);
        mem_free(model);
    }
    print_message("writes %lu, elections %lu, moves %lu, nodes forgotten %lu\n", writes, elections,
                  moves, forgotten);
    assert_true(writes > 1000 && elections > 200 && moves > 1000 && forgotten > 20);
}

static void up(struct map_view **view, uint32_t node, uint64_t incarnation,
               const uint32_t *confirmed, uint32_t count)
{
    struct map_command command = {
        .type = MAP_COMMAND_NODE_UP, .count = count, .node = node, .incarnation = incarnation};
    assert_int_equal(fixture_apply(view, &command, confirmed, count * sizeof *confirmed), 0);
}

/* The life of a group of two copies on three nodes, as the theory tells it. */
static void test_life(void **state)
{
    (void)state;
    struct map_view *view = fixture_first_map(3, 2, 1, 1);
    const uint32_t all[] = {1, 2, 3};
    for (uint32_t i = 1; i <= 3; i++)
        up(&view, i, i * 10, NULL, 0);
    const struct map_group *group = map_view_group(view, 1);
    uint32_t a = group->members[0].node;
    uint32_t b = group->members[1].node;
    uint32_t c = 6 - a - b;
    struct map_command_elect rows[] = {{1, group->epoch, a, 0}};
    struct map_command elect = {.type = MAP_COMMAND_ELECT, .count = 1};
    assert_int_equal(fixture_apply(&view, &elect, rows, sizeof rows), 0);
    group = map_view_group(view, 1);
    assert_int_equal(group->primary, a);
    assert_int_equal(map_group_in_sync_count(group), 2);

    /* The primary dies: the other one takes over in the same map. */
    struct map_command down = {
        .type = MAP_COMMAND_NODE_DOWN, .count = 3, .node = a, .incarnation = a * 10};
    assert_int_equal(fixture_apply(&view, &down, all, sizeof all), 0);
    group = map_view_group(view, 1);
    assert_int_equal(group->primary, b);
    assert_int_equal(map_group_member_state(group, a), MAP_MEMBER_JOINING);
    assert_int_equal(fixture_apply(&view, &down, all, sizeof all), -ERR_CAS_FAILED); /* M8 */

    /* After the grace the third node takes its place. */
    struct map_command move = {.type = MAP_COMMAND_MOVE, .count = 1};
    struct map_command_move replace = {1, group->epoch, c, a};
    assert_int_equal(fixture_apply(&view, &move, &replace, sizeof replace), 0);
    group = map_view_group(view, 1);
    assert_int_equal(map_group_member_state(group, a), 0);
    assert_int_equal(map_group_member_state(group, c), MAP_MEMBER_JOINING);

    /* The last in-sync member dies: the group waits for it, not for the joining one. */
    down.node = b;
    down.incarnation = b * 10;
    assert_int_equal(fixture_apply(&view, &down, all, sizeof all), 0);
    group = map_view_group(view, 1);
    assert_int_equal(group->primary, 0);
    assert_int_equal(map_group_member_state(group, b), MAP_MEMBER_LOST);
    rows[0] = (struct map_command_elect){1, group->epoch, c, 0};
    assert_int_equal(fixture_apply(&view, &elect, rows, sizeof rows), -ERR_CAS_FAILED);
    up(&view, b, b * 10 + 1, all, 3);
    group = map_view_group(view, 1);
    assert_int_equal(group->primary, 0); /* its log has to be looked at first */
    rows[0] = (struct map_command_elect){1, group->epoch, b, 0};
    assert_int_equal(fixture_apply(&view, &elect, rows, sizeof rows), 0);
    assert_int_equal(map_view_group(view, 1)->primary, b);
    map_view_put(view);
}

/* A process of two targets dies: one map version, no group of either is left to the other. */
static void test_process_death(void **state)
{
    (void)state;
    struct map_view *view = fixture_host_map(6, 2, 2, 4, 8);
    const uint32_t all[] = {1, 2, 3, 4, 5, 6};
    struct map_command_elect rows[12];
    for (uint32_t i = 1; i <= 6; i++)
        up(&view, i, 10 * ((i + 1) / 2), NULL, 0);
    for (uint32_t g = 1; g <= 12; g++) {
        const struct map_group *group = map_view_group(view, g);
        rows[g - 1] = (struct map_command_elect){g, group->epoch, group->members[0].node, 0};
    }
    struct map_command elect = {.type = MAP_COMMAND_ELECT, .count = 12};
    assert_int_equal(fixture_apply(&view, &elect, rows, sizeof rows), 0);

    uint64_t version = view->header->version;
    struct map_command down = {.type = MAP_COMMAND_NODE_DOWN,
                               .op = MAP_DOWN_PROCESS,
                               .count = 6,
                               .node = 1,
                               .incarnation = 10};
    assert_int_equal(fixture_apply(&view, &down, all, sizeof all), 0);
    assert_int_equal(view->header->version, version + 1);
    for (uint32_t i = 1; i <= 6; i++)
        assert_int_equal(map_view_node(view, i)->state, i <= 2 ? MAP_NODE_DOWN : MAP_NODE_UP);
    for (uint32_t g = 1; g <= 12; g++) {
        const struct map_group *group = map_view_group(view, g);
        assert_in_range(group->primary, 3, 6);
        for (uint32_t m = 0; m < group->member_count; m++)
            assert_int_equal(group->members[m].state == MAP_MEMBER_IN_SYNC,
                             group->members[m].node > 2);
    }

    /* A target that has started anew is not of the dead process. */
    up(&view, 4, 21, all, 6);
    down.node = 3;
    down.incarnation = 20;
    assert_int_equal(fixture_apply(&view, &down, all, sizeof all), 0);
    assert_int_equal(map_view_node(view, 3)->state, MAP_NODE_DOWN);
    assert_int_equal(map_view_node(view, 4)->state, MAP_NODE_UP);
    down.op = MAP_DOWN_PROCESS + 1;
    assert_int_equal(fixture_apply(&view, &down, all, sizeof all), -EINVAL);
    map_view_put(view);
}

static void test_hostile(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, 5);
    struct map_view *view = fixture_first_map(3, 2, 2, 2);
    for (uint32_t i = 0; i < 20000; i++) {
        struct {
            struct map_command command;
            uint32_t tail[8];
        } bytes;
        uint8_t *raw = (uint8_t *)&bytes;
        for (uint32_t at = 0; at < sizeof bytes; at++)
            raw[at] = random_chance(&random, 1, 2) ? 0 : (uint8_t)random_below(&random, 5);
        bytes.command.type = (uint32_t)random_below(&random, 15);
        bytes.command.count &= 7;
        struct map_view *next = NULL;
        int result = map_apply(view, slice_of(&bytes, random_below(&random, sizeof bytes)), &next);
        if (result == 0) {
            map_view_put(view);
            view = next;
        }
    }
    map_view_put(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_process_death),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
