/* SPDX-License-Identifier: MIT */
/* All nodes at once (FAULT_BLACKOUT), by loss of power or only of the processes.
 *
 * What was fsynced is on the media of all C in-sync members of its group, so up to C - 1 nodes may
 * come back late, or only after everything has been looked at: the others hold it all. A member
 * that skipped its flush is noticed only if
 *
 *  B1. the power goes before the member flushes on its own account, a few milliseconds later: so
 *      it goes right after an fsync was answered, and
 *  B2. those that did flush stay away for longer than the map waits for them, and
 *  B3. somebody looks before the file is written anew.
 *
 * And there must be fsyncs: clients that have done all they had to do get some more to do.
 *
 * The map group goes on without one of its voters, so no more than one of them is late. */
#include "base/assert.h"
#include "world.h"

enum { MORE_OPS = 24 };
#define DARK_MAX_NS    (3 * NS_PER_S)
#define STAGGER_MAX_NS (300 * NS_PER_MS)
#define LATE_MAX_NS    (10 * NS_PER_S) /* the map waits 5 s for the last members of a group */
#define AWAIT_MAX_NS   (500 * NS_PER_MS)
#define POLL_NS        (100 * NS_PER_US)
#define AFTER_MAX_NS   (1 * NS_PER_MS)

static void more_to_do(struct world *world)
{
    for (uint32_t i = 0; i < world->scenario.clients; i++) {
        for (uint32_t load = 0; load < LOAD_KINDS; load++) {
            uint32_t *todo = &world->clients[i].todo[load];
            if (world->scenario.loads & (1u << load))
                *todo = MAX(*todo, (uint32_t)MORE_OPS);
        }
    }
}

/* B1. */
static void await_fsync(struct world *world)
{
    uint64_t end_ns = env_now_ns() + AWAIT_MAX_NS;
    uint32_t before = world->syncs;
    while (world->syncs == before && env_now_ns() < end_ns)
        fiber_sleep(POLL_NS);
    fiber_sleep(world_between(world, 0, AFTER_MAX_NS));
}

static void all_die(struct world *world, bool power)
{
    world->blackouts++;
    for (uint32_t i = 0; i < world->cluster.node_count; i++) {
        if (world->cluster.members[i].removed || !sim_node_up(world->cluster.members[i].sim_node))
            continue;
        if (power)
            cluster_power_off(&world->cluster, i);
        else
            cluster_crash(&world->cluster, i);
    }
}

/* Bits of nodes. */
static uint32_t choose_late(struct world *world)
{
    uint32_t late = 0;
    bool voter = false;
    for (uint32_t n = world_below(world, 8) ? world->scenario.copies - 1 : 0; n > 0; n--) {
        uint32_t node = world_below(world, world->cluster.node_count);
        bool votes = world_is_voter(world, node);
        if (votes && voter)
            continue;
        voter |= votes;
        late |= 1u << node;
    }
    assert(__builtin_popcount(late) < (int)world->scenario.copies);
    return late;
}

static void restart(struct world *world, uint32_t nodes)
{
    for (uint32_t i = 0; i < world->cluster.node_count; i++) {
        if (world->cluster.members[i].removed || !(nodes & (1u << i)))
            continue;
        world_tell(world, "node %u is back", i + 1);
        cluster_restart(&world->cluster, i);
        fiber_sleep(world_between(world, 0, STAGGER_MAX_NS));
    }
}

void blackout_run(struct world *world)
{
    bool power = world_below(world, 8) > 0;
    uint32_t late = choose_late(world);
    more_to_do(world);
    if (world_below(world, 8) > 0)
        await_fsync(world);
    all_die(world, power);
    fiber_sleep(world_between(world, 0, DARK_MAX_NS));
    restart(world, ~late);
    if (late && world_below(world, 4) == 0)
        world_hold(world, world_between(world, 0, LATE_MAX_NS)); /* about when they are given up */
    else if (late)
        world_look(world); /* B2, B3 */
    restart(world, late);
}
