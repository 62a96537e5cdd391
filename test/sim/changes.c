/* SPDX-License-Identifier: MIT */
/* Nodes that come and go for good, by the operator's hand. */
#include "changes.h"

#include <errno.h>

#include "world.h"

#define CHANGE_MAX_NS (300 * NS_PER_S)
#define ASK_AGAIN_NS  (100 * NS_PER_MS)

uint32_t changes_live(const struct world *world)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < world->cluster.node_count; i++)
        live += !world->cluster.members[i].removed;
    return live;
}

bool changes_can_lose(const struct world *world)
{
    return changes_live(world) > MAX(world->scenario.copies, (uint32_t)CHANGES_NODES_MIN);
}

bool changes_join(struct world *world)
{
    if (world->cluster.node_count == CLUSTER_NODES_MAX)
        return false;
    world->wants_node = true;
    while (world->wants_node) /* done outside of fibers */
        fiber_sleep(NS_PER_US);
    return true;
}

static bool wait_for(struct world *world, uint32_t node, const char *what,
                     bool (*is_done)(const struct cluster *cluster, struct map_client *map,
                                     uint32_t index))
{
    uint64_t end_ns = env_now_ns() + CHANGE_MAX_NS;
    while (!world->failed && !is_done(&world->cluster, world->map, node)) {
        if (env_now_ns() > end_ns) {
            world_fail(world, "node %u has not been %s within %.0f s",
                       world->cluster.members[node].id, what, (double)CHANGE_MAX_NS / 1e9);
            world_print_map(world);
        }
        world_hold(world, ASK_AGAIN_NS);
    }
    return !world->failed;
}

/* Ask until the map's leader is there and agrees. */
static bool ask(struct world *world, uint32_t node, const char *what,
                int (*fn)(struct cluster *cluster, struct map_client *map, uint32_t index))
{
    uint64_t end_ns = env_now_ns() + CHANGE_MAX_NS;
    int result;
    while ((result = fn(&world->cluster, world->map, node)) < 0 && !world->failed) {
        bool in_time = env_now_ns() < end_ns;
        if (!in_time || (result != -ERR_TIMED_OUT && result != -EBUSY && result != -ERR_NO_QUORUM))
            world_fail(world, "node %u cannot be %s: %s", world->cluster.members[node].id, what,
                       error_name(result));
        world_hold(world, ASK_AGAIN_NS);
    }
    return !world->failed;
}

bool changes_drain(struct world *world, uint32_t node)
{
    return ask(world, node, "drained", cluster_drain);
}

void changes_remove(struct world *world, uint32_t node)
{
    struct cluster_member *member = &world->cluster.members[node];
    bool alive = sim_node_up(member->sim_node);
    if (alive && !wait_for(world, node, "drained", cluster_is_drained))
        return;
    if (!ask(world, node, "removed", cluster_remove))
        return;
    if (sim_node_up(member->sim_node))
        cluster_crash(&world->cluster, node);
    (void)wait_for(world, node, "removed", cluster_is_removed); /* a failure has been told */
}
