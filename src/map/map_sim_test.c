/* SPDX-License-Identifier: MIT */
/* Goal: membership as a whole. Nodes form a cluster, survive the death, pause and isolation of any
 * of them, and come back; groups always end with a primary; and, checked after every event: if two
 * nodes act as primary of a group at the same time, the newer one cannot commit without the older
 * one (lease safety). Method: real server, client and lease on a store, in the simulated world
 * (map_sim_world.h). */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#undef assert
#include "base/log.h"
#include "map/map_sim_world.h"

enum { SEEDS = 15 };

static void test_form(void **state)
{
    (void)state;
    for (uint32_t nodes = 1; nodes <= 5; nodes++) {
        struct world *world = world_formed(nodes, nodes, nodes < 3 ? 1 : 2);
        world_run(world, 12 * NS_PER_S);
        struct map_view *view = world_view_of(world, 1);
        uint32_t primaries[NODES_MAX + 1] = {0};
        for (uint32_t g = 0; g < view->header->group_count; g++)
            primaries[view->groups[g].primary]++;
        for (uint32_t i = 1; i <= nodes; i++)
            assert_in_range(primaries[i], 12 / nodes - 1, 12 / nodes + 2);
        uint64_t version = view->header->version;
        world_run(world, 20 * NS_PER_S);
        assert_int_equal(world_view_of(world, 1)->header->version,
                         version); /* it has come to rest */
        world_free(world);
    }
}

/* kill -9 of any node: all groups are served again in well under half a second. */
static void test_kill(void **state)
{
    (void)state;
    uint64_t worst = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct world *world = world_formed(seed, 3, 2);
        world_run(world, 7 * NS_PER_S);
        uint32_t victim = 1 + (uint32_t)(seed % 3);
        member_kill(&world->members[victim]);
        uint64_t took = world_run_until(world, world_all_served, 3 * NS_PER_S);
        worst = MAX(worst, took);
        world_run(world, 2 * NS_PER_S);
        member_restart(&world->members[victim]);
        world_run_until(world, world_all_in_sync, 5 * NS_PER_S);
        world_free(world);
    }
    print_message("worst failover after kill: %lu ms\n", (unsigned long)(worst / NS_PER_MS));
    assert_true(worst < 400 * NS_PER_MS);
}

/* A node that is cut off stops acting before another takes over, and is fenced when it returns. */
static void test_isolated(void **state)
{
    (void)state;
    uint64_t worst = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct world *world = world_formed(seed, 3, 2);
        uint32_t victim = seed % 2 ? world_leader(world) : world_leader(world) % 3 + 1;
        sim_isolate(world->members[victim].sim_node, true);
        world->excluded = victim;
        uint64_t took = world_run_until(world, world_all_served, 8 * NS_PER_S);
        worst = MAX(worst, took);
        world_run(world, seed * NS_PER_S);
        sim_isolate(world->members[victim].sim_node, false);
        world->excluded = 0;
        for (uint32_t i = 0; i < 20; i++) {
            world_run(world, 200 * NS_PER_MS);
            world_restart_fenced(world);
        }
        world_run_until(world, world_all_in_sync, 8 * NS_PER_S);
        assert_int_equal(world->restarts_by_fence, 1);
        world_free(world);
    }
    print_message("worst failover after silence: %lu ms\n", (unsigned long)(worst / NS_PER_MS));
    assert_true(worst < 4500 * NS_PER_MS);
}

static bool leader_moved(void *context)
{
    struct world *world = context;
    uint32_t leader = world_leader(world);
    return leader != 0 && leader != world->excluded;
}

/* A leader that is cut off from all but one voter keeps its majority, and hears two nodes of five:
 * it lets the other one lead, and nobody is declared dead. */
static void test_half_isolated(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *world = world_formed(seed, 5, 2);
        uint32_t leader = world_leader(world);
        uint32_t friend = leader % 3 + 1;
        assert_true(leader <= 3); /* the voters */
        for (uint32_t i = 1; i <= 5; i++) {
            if (i != leader && i != friend)
                sim_partition(world->members[leader].sim_node, world->members[i].sim_node, true);
        }
        world->excluded = leader;
        world_run_until(world, leader_moved, 8 * NS_PER_S);
        world->excluded = 0;
        world_run(world, 4 * NS_PER_S);
        assert_int_equal(world_leader(world), friend);
        struct map_view *view = world_view_of(world, friend);
        for (uint32_t i = 0; i < view->header->node_count; i++)
            assert_int_equal(view->nodes[i].state, MAP_NODE_UP);
        assert_true(world_all_served(world));
        world_free(world);
    }
}

static bool three_down(void *context)
{
    struct world *world = context;
    uint32_t leader = world_leader(world);
    struct map_view *view = leader ? world_view_of(world, leader) : NULL;
    uint32_t down = 0;
    for (uint32_t i = 0; view && i < view->header->node_count; i++)
        down += view->nodes[i].state == MAP_NODE_DOWN;
    return down == 3;
}

/* Three of five fall silent at once: whoever leads does not hear them, so it is them. */
static void test_most_silent(void **state)
{
    (void)state;
    uint64_t worst = 0;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *world = world_formed(seed, 5, 3);
        uint32_t leader = world_leader(world);
        uint32_t friend = leader % 3 + 1;
        for (uint32_t i = 1; i <= 5; i++) {
            if (i != leader && i != friend)
                sim_isolate(world->members[i].sim_node, true);
        }
        worst = MAX(worst, world_run_until(world, three_down, 20 * NS_PER_S));
        world_free(world);
    }
    print_message("worst time to find three of five dead: %lu ms\n",
                  (unsigned long)(worst / NS_PER_MS));
    assert_true(worst < 8 * NS_PER_S);
}

static void test_paused(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *world = world_formed(seed, 3, 2);
        uint32_t victim = seed % 2 ? world_leader(world) : world_leader(world) % 3 + 1;
        sim_pause(world->members[victim].sim_node, true);
        world->members[victim].paused = true;
        world_run_until(world, world_all_served, 8 * NS_PER_S);
        sim_pause(world->members[victim].sim_node, false);
        world->members[victim].paused = false;
        for (uint32_t i = 0; i < 20; i++) {
            world_run(world, 200 * NS_PER_MS);
            world_restart_fenced(world);
        }
        world_run_until(world, world_all_in_sync, 8 * NS_PER_S);
        world_free(world);
    }
}

/* Everybody loses power: groups wait for the reports and take the newest valid log. */
static void test_cold_start(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *world = world_formed(seed, 3, 2);
        world->promote = false;
        world_run(world, NS_PER_S);
        struct map_view *view = world_view_of(world, 1);
        uint32_t best[GROUPS_MAX + 1];
        for (uint32_t g = 0; g < view->header->group_count; g++) {
            const struct map_group *group = &view->groups[g];
            uint32_t lucky = (uint32_t)((seed + g) % 2);
            best[group->id] = group->members[lucky].node;
            for (uint32_t m = 0; m < group->member_count; m++) {
                struct member *member = &world->members[group->members[m].node];
                bool damaged = m != lucky && g % 3 == 0;
                member->reports[member->report_count++] = (struct map_replica_report){
                    .group = group->id,
                    .valid = !damaged,
                    .last_epoch = group->epoch,
                    .last_seq = damaged      ? 1000
                                : m == lucky ? 11
                                             : 10,
                };
            }
        }
        for (uint32_t i = 1; i <= 3; i++) {
            sim_node_power_off(world->members[i].sim_node);
            world->members[i].running = false;
        }
        world_run(world, NS_PER_S);
        for (uint32_t i = 1; i <= 3; i++) {
            member_restart(&world->members[i]);
            world_run(world, 300 * NS_PER_MS * (seed % 4));
        }
        world_run_until(world, world_all_served, 8 * NS_PER_S);
        view = world_view_of(world, 1);
        for (uint32_t g = 0; g < view->header->group_count; g++) {
            const struct map_group *group = &view->groups[g];
            assert_int_equal(group->primary, best[group->id]);
            assert_int_equal(map_group_in_sync_count(group), 1);
        }
        world->promote = true;
        world_run_until(world, world_all_in_sync, 8 * NS_PER_S);
        world_free(world);
    }
}

/* A wiped disk is not taken for a valid empty replica: the group waits for the other one. */
static void test_wiped(void **state)
{
    (void)state;
    struct world *world = world_formed(3, 3, 2);
    struct map_view *view = world_view_of(world, 1);
    const struct map_group *group = &view->groups[0];
    uint32_t id = group->id;
    uint32_t wiped = group->members[0].node;
    uint32_t good = group->members[1].node;
    for (uint32_t i = 1; i <= 3; i++) {
        for (uint32_t g = 1; g <= view->header->group_count && i != wiped; g++)
            world->members[i].reports[world->members[i].report_count++] =
                (struct map_replica_report){.group = g, .valid = 1, .last_epoch = 2, .last_seq = g};
    }
    for (uint32_t i = 1; i <= 3; i++)
        member_kill(&world->members[i]);
    for (uint32_t i = 1; i <= 3; i++) {
        if (i != good)
            member_restart(&world->members[i]);
    }
    world_run(world, 20 * NS_PER_S);
    view = world_view_of(world, wiped);
    assert_int_equal(map_view_group(view, id)->primary, 0);
    member_restart(&world->members[good]);
    world_run_until(world, world_all_in_sync, 10 * NS_PER_S);
    assert_int_equal(map_view_node(world_view_of(world, 1), good)->state, MAP_NODE_UP);
    world_free(world);
}

/* Away for longer than the grace: the third node takes the places. */
static void test_replaced(void **state)
{
    (void)state;
    struct world *world = world_formed(5, 3, 2);
    member_kill(&world->members[2]);
    world_run(world, 25 * NS_PER_S);
    struct map_view *view = world_view_of(world, 1);
    uint32_t waiting = 0;
    for (uint32_t g = 0; g < view->header->group_count; g++)
        waiting += map_group_member_state(&view->groups[g], 2) == MAP_MEMBER_JOINING;
    assert_true(waiting > 0);
    world_run(world, 10 * NS_PER_S);
    view = world_view_of(world, 1);
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        assert_int_equal(map_group_member_state(&view->groups[g], 2), 0);
        assert_int_equal(map_group_in_sync_count(&view->groups[g]), 2);
    }
    member_restart(&world->members[2]);
    world_run_until(world, world_all_in_sync, 5 * NS_PER_S);
    world_free(world);
}

/* An idle cluster is quiet: messages per second and node. */
static void test_idle(void **state)
{
    (void)state;
    struct world *world = world_formed(6, 3, 2);
    world_run(world, 15 * NS_PER_S);
    uint64_t before = 0;
    uint64_t after = 0;
    struct rpc_stats stats;
    for (uint32_t i = 1; i <= 3; i++) {
        rpc_stats(world->members[i].rpc, &stats);
        before += stats.calls;
    }
    world_run(world, 10 * NS_PER_S);
    for (uint32_t i = 1; i <= 3; i++) {
        rpc_stats(world->members[i].rpc, &stats);
        after += stats.calls;
    }
    uint64_t rate = (after - before) / 10 / 3;
    print_message("calls per second and node when idle: %lu\n", rate);
    assert_true(rate < 20);
    world_free(world);
}

/* A member that was away for more changes than the log keeps gets the map as a snapshot, and a
 * restart of all finds the same map in the stores. */
static void test_snapshot(void **state)
{
    (void)state;
    struct world *world = world_formed(9, 3, 2);
    uint32_t away = world_leader(world) % 3 + 1;
    member_kill(&world->members[away]);
    uint64_t before = world_view_of(world, world_leader(world))->header->version;
    world->drop_percent = 100;
    for (uint32_t i = 0; i < 100; i++) {
        world_run(world, NS_PER_S);
        if (world_view_of(world, world_leader(world))->header->version > before + 250)
            break;
    }
    world->drop_percent = 0;
    assert_true(world_view_of(world, world_leader(world))->header->version > before + 250);
    world_run(world, NS_PER_S);
    member_restart(&world->members[away]);
    world_run_until(world, world_all_in_sync, 10 * NS_PER_S);
    world_run(world, 12 * NS_PER_S);
    uint64_t version = world_view_of(world, 1)->header->version;
    for (uint32_t g = 1; g <= META_GROUPS + DATA_GROUPS; g++) {
        for (uint32_t i = 1; i <= 3; i++)
            world->members[i].reports[g - 1] =
                (struct map_replica_report){.group = g, .valid = 1, .last_epoch = 1, .last_seq = 1};
    }
    for (uint32_t i = 1; i <= 3; i++) {
        world->members[i].report_count = META_GROUPS + DATA_GROUPS;
        sim_node_power_off(world->members[i].sim_node);
        world->members[i].running = false;
    }
    world_run(world, NS_PER_S);
    for (uint32_t i = 1; i <= 3; i++)
        member_restart(&world->members[i]);
    world_run_until(world, world_all_in_sync, 10 * NS_PER_S);
    assert_in_range(world_view_of(world, 1)->header->version, version + 3, version + 60);
    world_free(world);
}

/* A leader whose disk fails takes no part any more; the others go on. */
static void test_leader_disk_fails(void **state)
{
    (void)state;
    struct world *world = world_formed(4, 3, 2);
    uint32_t old = world_leader(world);
    char path[32];
    (void)snprintf(path, sizeof path, "/disk%u", old);
    struct sim_disk_config broken = *sim_disk_config(world->sim, path);
    broken.write_error_ppm = 1000000;
    sim_disk_configure(world->sim, path, &broken);
    uint64_t before = world_view_of(world, old)->header->version;
    world->drop_percent = 20;
    world_run(world, 6 * NS_PER_S);
    world->drop_percent = 0;
    uint32_t leader = world_leader(world);
    assert_true(leader != 0 && leader != old);
    assert_true(world_view_of(world, leader)->header->version > before + 5);
    assert_true(world_view_of(world, old)->header->version > before + 5); /* it still follows */
    world_free(world);
}

/* C5: balancing takes a group from a primary that is cut off and does not know; the new primary
 * drops it at once. It must not be able to serve any more when that is granted. */
static void test_former_primary(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct world *world = world_formed(seed, 3, 2);
        uint32_t victim = world_leader(world) % 3 + 1;
        member_kill(&world->members[victim % 3 + 1]);
        world_run(world, NS_PER_S);
        member_restart(&world->members[victim % 3 + 1]);
        world_run_until(world, world_all_in_sync, 5 * NS_PER_S);
        world_run(world, sim_random_u64(world->sim) % (5 * NS_PER_S));
        sim_isolate(world->members[victim].sim_node, true);
        world->drop_percent = 100;
        world_run(world, 2 * NS_PER_S);
        world->drop_percent = 0;
        sim_isolate(world->members[victim].sim_node, false);
        world_free(world);
    }
}

/* ---- an operator's words --------------------------------------------------------------------- */

struct removal {
    struct world *world;
    struct sim_node *sim_node;
    uint32_t node; /* to be removed */
    int result;
    bool asked;
    bool done;
};

static void removal_fiber(void *arg)
{
    struct removal *removal = arg;
    struct net_addr seeds[3];
    const struct rpc_identity identity = {.incarnation = 1};
    for (uint32_t i = 0; i < ARRAY_COUNT(seeds); i++)
        map_node_addr(&removal->world->nodes[i], &seeds[i]);
    struct map_client *map =
        map_client_start(rpc_new(&identity), seeds, ARRAY_COUNT(seeds), NULL, NULL);
    /* It changes nothing, but connects to the leader. */
    int result = map_client_change_node(map, 1, MAP_NODE_KEEP, env_now_ns() + NS_PER_S);
    assert(result == 0);
    removal->asked = true;
    removal->result =
        map_client_change_node(map, removal->node, MAP_NODE_REMOVE, env_now_ns() + 60 * NS_PER_S);
    removal->done = true;
}

static bool removal_asked(void *context)
{
    return ((struct removal *)context)->asked;
}

static bool removal_done(void *context)
{
    return ((struct removal *)context)->done;
}

static bool node_is_gone(void *context)
{
    const struct removal *removal = context;
    struct map_view *view = world_view_of(removal->world, world_leader(removal->world));
    return view && !map_view_node(view, removal->node);
}

/* Ask for it, with the leader's answers cut off until the node is gone. What the operator hears. */
static int remove_unanswered(struct world *world, uint32_t node)
{
    static struct removal removal;
    struct sim_node *leader = world->members[world_leader(world)].sim_node;
    removal = (struct removal){.world = world, .node = node};
    removal.sim_node = sim_node_new(world->sim, "10.0.0.99");
    reactor_spawn(sim_node_reactor(removal.sim_node), "operator", removal_fiber, &removal);
    uint64_t begin_ns = sim_now_ns(world->sim);
    assert_true(sim_run_until(world->sim, removal_asked, &removal, begin_ns + NS_PER_S));
    sim_partition_one_way(leader, removal.sim_node, true);
    assert_true(sim_run_until(world->sim, node_is_gone, &removal, begin_ns + 20 * NS_PER_S));
    world_run(world, 4 * NS_PER_S); /* the request has timed out */
    assert_false(removal.done);
    sim_partition_one_way(leader, removal.sim_node, false);
    assert_true(sim_run_until(world->sim, removal_done, &removal, begin_ns + 60 * NS_PER_S));
    return removal.result;
}

/* Whose answer is lost asks again, and the node is not there any more: that is success. But one
 * that never was there is no success, however often it takes to be told. */
static void test_removed_unanswered(void **state)
{
    (void)state;
    struct world *world = world_formed(11, 5, 2);
    member_kill(&world->members[5]);
    world->excluded = 5;
    world_run(world, 3 * NS_PER_S);
    assert_int_equal(remove_unanswered(world, 5), 0);
    world_free(world);
    world = world_formed(12, 3, 2);
    assert_int_equal(remove_unanswered(world, 77), -ENOENT);
    world_free(world);
}

/* ---- anything -------------------------------------------------------------------------------- */

static void chaos_fault(struct world *world)
{
    uint32_t id = 1 + (uint32_t)(sim_random_u64(world->sim) % world->node_count);
    uint32_t other = 1 + (uint32_t)(sim_random_u64(world->sim) % world->node_count);
    struct member *member = &world->members[id];
    switch (sim_random_u64(world->sim) % 9) {
    case 0:
    case 1:
        if (sim_node_up(member->sim_node))
            member_kill(member);
        break;
    case 2:
    case 3:
        if (!sim_node_up(member->sim_node))
            member_restart(member);
        break;
    case 4:
        sim_isolate(member->sim_node, true);
        break;
    case 5:
        sim_isolate(member->sim_node, false);
        break;
    case 6:
        if (id != other)
            sim_partition(member->sim_node, world->members[other].sim_node,
                          sim_random_u64(world->sim) % 2);
        break;
    case 7:
        if (id != other)
            sim_reset_conns(member->sim_node, world->members[other].sim_node);
        break;
    default:
        if (sim_node_up(member->sim_node)) {
            member->paused = !member->paused;
            sim_pause(member->sim_node, member->paused);
        }
    }
}

static void settle(struct world *world)
{
    world->drop_percent = 0;
    for (uint32_t i = 1; i <= world->node_count; i++) {
        struct member *member = &world->members[i];
        sim_isolate(member->sim_node, false);
        if (member->paused)
            sim_pause(member->sim_node, false);
        member->paused = false;
        for (uint32_t j = 1; j < i; j++)
            sim_partition(member->sim_node, world->members[j].sim_node, false);
        if (!sim_node_up(member->sim_node))
            member_restart(member);
    }
    for (uint32_t i = 0; i < 60; i++) {
        world_run(world, 200 * NS_PER_MS);
        world_restart_fenced(world);
    }
    world_run_until(world, world_all_in_sync, 20 * NS_PER_S);
}

/* Whatever happens: lease safety throughout, and everything in sync once it ends. */
static void test_chaos(void **state)
{
    (void)state;
    const char *one = getenv("CFS_SEED");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    for (uint64_t seed = first; seed <= (one ? first : SEEDS); seed++) {
        struct world *world = world_formed(seed, seed % 2 ? 3 : 5, 2 + (uint32_t)(seed % 3 / 2));
        /* Everybody has all data on disk: a report is always valid and equal. */
        for (uint32_t i = 1; i <= world->node_count; i++) {
            for (uint32_t g = 1; g <= META_GROUPS + DATA_GROUPS; g++)
                world->members[i].reports[world->members[i].report_count++] =
                    (struct map_replica_report){.group = g, .valid = 1, .last_seq = 1};
        }
        world->drop_percent = 2;
        for (uint32_t i = 0; i < 60; i++) {
            world_run(world, sim_random_u64(world->sim) % (700 * NS_PER_MS));
            chaos_fault(world);
            world_restart_fenced(world);
        }
        settle(world);
        world_free(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),           cmocka_unit_test(test_kill),
        cmocka_unit_test(test_isolated),       cmocka_unit_test(test_paused),
        cmocka_unit_test(test_half_isolated),  cmocka_unit_test(test_most_silent),
        cmocka_unit_test(test_wiped),          cmocka_unit_test(test_cold_start),
        cmocka_unit_test(test_replaced),       cmocka_unit_test(test_idle),
        cmocka_unit_test(test_snapshot),       cmocka_unit_test(test_leader_disk_fails),
        cmocka_unit_test(test_former_primary), cmocka_unit_test(test_removed_unanswered),
        cmocka_unit_test(test_chaos),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
