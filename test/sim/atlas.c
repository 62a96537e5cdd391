/* SPDX-License-Identifier: MIT */
/* Damage, kept within what the redundancy promises to survive.
 *
 * Problem. A lost byte must be a bug, so the damage must never exceed the promise; yet inside it
 * everything should happen.
 *
 * The promise, with C copies: an acknowledged operation is in the memory of every in-sync member.
 * So the members may lose what they have, or be judged lost by the others, as long as one of each
 * group keeps it. Groups are spread over all nodes, so it is nodes that are counted:
 *
 *  A1. An *episode* has at most C - 1 victims. The next one starts only when the map says that all
 *      nodes live and all copies are in sync.
 *  A2. One kind of damage per victim and episode: a node that was cut off may have had its partners
 *      dropped in its favour, and be the last to hold something. To kill it then would be a second
 *      fault.
 *  A3. A *blackout* takes all nodes at once, after which only what was fsynced must be there: it
 *      has seeds of its own, whose loads expect it. It comes when all copies are in sync, so C - 1
 *      nodes may stay away behind it (blackout.c).
 *  A4. A node lost for good counts as a victim; nodes that join or are drained do not, and are
 *      damaged meanwhile like others.
 *  A5. What a disk that lies holds is void. So is the vote of a member of the map group on it,
 *      and that group promises nothing then: such damage hits other nodes, whose process does not
 *      come back, and which are removed afterwards.
 *  A6. The leader of the map group declares dead whom it does not hear. Cut off from several
 *      others, but not from most of its group, it would take several healthy nodes out at once.
 *      So such a cut lasts only a moment (SWIZZLE), or takes one path (CUT_SOME): with the other
 *      victim of the episode that is no more than C - 1.
 *  A7. Damage without loss (slow messages, slow disks, clients that die) may come any time.
 *
 * The map group has three voters, so two victims may stop it; it goes on when one is back. */
#include "base/assert.h"
#include "changes.h"
#include "world.h"

enum { VICTIMS_MAX = 2, DAMAGE_MAX = 3 };
#define HOLD_MAX_NS    (3 * NS_PER_S)
#define LONG_MIN_NS    (5 * NS_PER_S)
#define LONG_MAX_NS    (50 * NS_PER_S)
#define GAP_MAX_NS     (800 * NS_PER_MS)
#define TURN_MAX_NS    (2 * NS_PER_MS)
#define STAGGER_MAX_NS (300 * NS_PER_MS)

struct damage {
    enum fault_kind kind;
    uint32_t node; /* index */
};

static struct sim_node *host_of(struct world *world, uint32_t node)
{
    return world->cluster.members[node].sim_node;
}

static const char *disk_of(const struct world *world, uint32_t node)
{
    return world->cluster.members[node].disk;
}

/* A6. */
static void cut_some(struct world *world, uint32_t node, bool on)
{
    uint32_t hosts = world->cluster.node_count;
    uint32_t first = world_below(world, hosts);
    uint32_t most = on ? 1 : hosts;
    for (uint32_t i = 0; i < hosts && most > 0; i++) {
        uint32_t other = (first + i) % hosts;
        if (other == node)
            continue;
        sim_partition(host_of(world, node), host_of(world, other), on);
        most--;
    }
}

static void reset_conns(struct world *world, uint32_t node)
{
    for (uint32_t i = 0; i < world->cluster.node_count; i++) {
        if (i != node && world_below(world, 3) > 0)
            sim_reset_conns(host_of(world, node), host_of(world, i));
    }
    for (uint32_t i = 0; i < world->scenario.clients; i++)
        sim_reset_conns(host_of(world, node), world->clients[i].host);
}

static void slow_net(struct world *world, bool on)
{
    struct sim_net_config config = *sim_net_config(world->cluster.sim);
    config.slow_ppm = on ? 20000 : 0;
    config.slow_ns = 300 * NS_PER_MS;
    config.delay_max_ns = on ? 2 * NS_PER_MS : 80 * NS_PER_US;
    sim_net_configure(world->cluster.sim, &config);
}

static void slow_disk(struct world *world, uint32_t node, bool on)
{
    const char *path = disk_of(world, node);
    struct sim_disk_config config = *sim_disk_config(world->cluster.sim, path);
    uint64_t factor = 50;
    config.read_max_ns = on ? config.read_max_ns * factor : config.read_max_ns / factor;
    config.write_max_ns = on ? config.write_max_ns * factor : config.write_max_ns / factor;
    config.flush_max_ns = on ? config.flush_max_ns * factor : config.flush_max_ns / factor;
    sim_disk_configure(world->cluster.sim, path, &config);
}

static void client_dies(struct world *world)
{
    struct world_client *client = &world->clients[world_below(world, world->scenario.clients)];
    sim_node_crash(client->host);
    fiber_sleep(world_between(world, NS_PER_MS, NS_PER_S));
    sim_node_restart(client->host);
    world_client_start(client);
}

/* For less than its session lasts. */
static void cut_client(struct world *world, uint32_t node)
{
    struct sim_node *host = host_of(world, node);
    struct sim_node *client = world->clients[world_below(world, world->scenario.clients)].host;
    switch (world_below(world, 3)) {
    case 0:
        sim_partition_one_way(host, client, true);
        break;
    case 1:
        sim_partition_one_way(client, host, true);
        break;
    default:
        sim_partition(host, client, true);
    }
    fiber_sleep(world_between(world, 0, HOLD_MAX_NS));
    sim_partition(host, client, false);
}

static void cut_one_way(struct world *world, uint32_t node, bool on)
{
    bool deaf = world_below(world, 2);
    for (uint32_t i = 0; i < world->cluster.node_count; i++) {
        struct sim_node *from = host_of(world, deaf ? i : node);
        struct sim_node *to = host_of(world, deaf ? node : i);
        if (i == node)
            continue;
        if (on)
            sim_partition_one_way(from, to, true);
        else
            sim_partition(from, to, false);
    }
}

static void swizzle(struct world *world, uint32_t node)
{
    uint32_t hosts = world->cluster.node_count;
    uint32_t first = world_below(world, hosts);
    for (uint32_t round = 0; round < 2; round++) {
        uint32_t stride = round == 0 ? 1 : hosts - 1;
        for (uint32_t i = 0; i < hosts; i++) {
            uint32_t other = (first + i * stride) % hosts;
            if (other != node)
                sim_partition(host_of(world, node), host_of(world, other), round == 0);
            fiber_sleep(world_between(world, 0, STAGGER_MAX_NS / 3)); /* A6 */
        }
    }
}

/* An hour, either way; and the next life of the process runs 3 % fast or slow (leases bear 13). */
static void clock_begin(struct world *world, uint32_t node)
{
    static const int64_t hour_ns = 3600 * (int64_t)NS_PER_S;
    int64_t jump_ns = world_below(world, 2) ? hour_ns : -hour_ns;
    int32_t drift_ppm = (int32_t)world_below(world, 60001) - 30000;
    sim_node_jump_wall(host_of(world, node), jump_ns);
    cluster_crash(&world->cluster, node);
    sim_node_set_clock(host_of(world, node), 0, drift_ppm);
}

static void disk_errors(struct world *world, uint32_t node, bool on)
{
    const char *path = disk_of(world, node);
    struct sim_disk_config config = *sim_disk_config(world->cluster.sim, path);
    config.read_error_ppm = on ? 20000 : 0;
    config.write_error_ppm = on ? 2000 : 0;
    sim_disk_configure(world->cluster.sim, path, &config);
}

static void disk_lies(struct world *world, uint32_t node)
{
    const char *path = disk_of(world, node);
    struct sim_disk_config config = *sim_disk_config(world->cluster.sim, path);
    world->given_up = node + 1;
    config.lost_ppm = world_below(world, 2) ? 20000 : 0;
    config.misdirected_ppm = world_below(world, 2) ? 20000 : 0;
    config.read_flip_ppm = world_below(world, 2) ? 20000 : 0;
    sim_disk_configure(world->cluster.sim, path, &config);
    for (uint32_t i = world_below(world, 20); i > 0; i--)
        sim_disk_rot(world->cluster.sim, path);
}

static void damage_begin(struct world *world, const struct damage *damage)
{
    world_tell(world, "---- %s begins, node %u", fault_name(damage->kind), damage->node + 1);
    switch (damage->kind) {
    case FAULT_CRASH:
    case FAULT_LOST:
    case FAULT_MEMORY:
        cluster_crash(&world->cluster, damage->node);
        break;
    case FAULT_POWER:
        cluster_power_off(&world->cluster, damage->node);
        break;
    case FAULT_PAUSE:
        sim_pause(host_of(world, damage->node), true);
        break;
    case FAULT_CUT:
        sim_isolate(host_of(world, damage->node), true);
        break;
    case FAULT_CUT_SOME:
        cut_some(world, damage->node, true);
        break;
    case FAULT_RESET:
        reset_conns(world, damage->node);
        break;
    case FAULT_SLOW_NET:
        slow_net(world, true);
        break;
    case FAULT_SLOW_DISK:
        slow_disk(world, damage->node, true);
        break;
    case FAULT_CLIENT:
        client_dies(world);
        break;
    case FAULT_JOIN:
        (void)changes_join(world); /* or there are enough of them */
        break;
    case FAULT_DRAIN:
        (void)changes_drain(world, damage->node); /* a failure has been told */
        break;
    case FAULT_BLACKOUT:
        blackout_run(world);
        break;
    case FAULT_CUT_ONE_WAY:
        cut_one_way(world, damage->node, true);
        break;
    case FAULT_SWIZZLE:
        swizzle(world, damage->node);
        break;
    case FAULT_SLOW_NODE:
        sim_node_set_turn(host_of(world, damage->node), world_between(world, 0, TURN_MAX_NS));
        break;
    case FAULT_CLOCK:
        clock_begin(world, damage->node);
        break;
    case FAULT_DISK_ERRORS:
        disk_errors(world, damage->node, true);
        break;
    case FAULT_DISK_LIES:
        disk_lies(world, damage->node);
        break;
    case FAULT_CUT_CLIENT:
        cut_client(world, damage->node);
        break;
    case FAULT_KINDS:
        WRONG("fault");
    }
}

static void damage_end(struct world *world, const struct damage *damage)
{
    world_tell(world, "---- %s ends, node %u", fault_name(damage->kind), damage->node + 1);
    switch (damage->kind) {
    case FAULT_MEMORY:
        world->cluster.memory_bytes = NODE_MEMORY_MIN;
        cluster_restart(&world->cluster, damage->node);
        break;
    case FAULT_CRASH:
    case FAULT_POWER:
    case FAULT_CLOCK:
        cluster_restart(&world->cluster, damage->node);
        break;
    case FAULT_PAUSE:
        sim_pause(host_of(world, damage->node), false);
        break;
    case FAULT_CUT:
        sim_isolate(host_of(world, damage->node), false);
        break;
    case FAULT_CUT_SOME:
        cut_some(world, damage->node, false);
        break;
    case FAULT_SLOW_NET:
        slow_net(world, false);
        break;
    case FAULT_SLOW_DISK:
        slow_disk(world, damage->node, false);
        break;
    case FAULT_DISK_LIES:
        if (sim_node_up(host_of(world, damage->node)))
            cluster_crash(&world->cluster, damage->node);
        changes_remove(world, damage->node);
        world->given_up = 0;
        break;
    case FAULT_LOST:
    case FAULT_DRAIN:
        changes_remove(world, damage->node);
        break;
    case FAULT_CUT_ONE_WAY:
        cut_one_way(world, damage->node, false);
        break;
    case FAULT_SLOW_NODE:
        sim_node_set_turn(host_of(world, damage->node), 0);
        break;
    case FAULT_DISK_ERRORS:
        disk_errors(world, damage->node, false);
        break;
    case FAULT_SWIZZLE:
    case FAULT_RESET:
    case FAULT_CLIENT:
    case FAULT_JOIN:
    case FAULT_BLACKOUT:
    case FAULT_CUT_CLIENT:
        break; /* was over at once */
    case FAULT_KINDS:
        WRONG("fault");
    }
}

static enum fault_kind some_kind(struct world *world)
{
    uint32_t count = (uint32_t)__builtin_popcount(world->scenario.faults);
    if ((world->scenario.faults & (1u << FAULT_BLACKOUT)) && world_below(world, 3))
        return FAULT_BLACKOUT; /* what its seeds are for */
    uint32_t nth = world_below(world, count);
    for (uint32_t i = 0; i < FAULT_KINDS; i++) {
        if ((world->scenario.faults & (1u << i)) && nth-- == 0)
            return i;
    }
    WRONG("counted");
}

static uint64_t some_hold_ns(struct world *world)
{
    if (world_below(world, 12) == 0)
        return world_between(world, LONG_MIN_NS, LONG_MAX_NS);
    return world_between(world, 0, HOLD_MAX_NS);
}

/* A node that lives and is no victim yet. */
static uint32_t some_node(struct world *world, const struct damage *damage, uint32_t count)
{
    for (;;) {
        uint32_t node = world_below(world, world->cluster.node_count);
        const struct cluster_member *member = &world->cluster.members[node];
        bool free = !member->removed && member->done && member->result == 0;
        for (uint32_t i = 0; i < count; i++)
            free &= damage[i].node != node;
        if (free)
            return node;
    }
}

/* Is the node taken out of the cluster in the end? */
static bool leaves(enum fault_kind kind)
{
    return kind == FAULT_LOST || kind == FAULT_DRAIN || kind == FAULT_DISK_LIES;
}

static bool is_whole_world(enum fault_kind kind)
{
    return kind == FAULT_SLOW_NET || kind == FAULT_BLACKOUT;
}

/* A1: C - 1 victims, different nodes; A4. */
static uint32_t choose(struct world *world, struct damage damage[DAMAGE_MAX])
{
    uint32_t victims =
        1 + world_below(world, MIN(world->scenario.copies - 1, (uint32_t)VICTIMS_MAX));
    uint32_t count = 0;
    while (count < victims) {
        struct damage *next = &damage[count];
        *next = (struct damage){some_kind(world), some_node(world, damage, count)};
        if (leaves(next->kind) && (count > 0 || !changes_can_lose(world)))
            next->kind = FAULT_JOIN;
        if (next->kind == FAULT_DISK_LIES && world_is_voter(world, next->node))
            next->kind = FAULT_LOST; /* A5 */
        if (is_whole_world(next->kind)) {
            damage[0] = *next;
            return 1;
        }
        bool harmless = next->kind == FAULT_JOIN || next->kind == FAULT_DRAIN;
        victims += harmless && victims < DAMAGE_MAX;
        count++;
    }
    return count;
}

static void episode(struct world *world)
{
    struct damage damage[DAMAGE_MAX];
    uint32_t count = choose(world, damage);
    assert(count > 0);
    if (count > 1 || !stalls_is_loss(damage[0].kind))
        stalls_rough(&world->stalls, true);
    for (uint32_t i = 0; i < count; i++) {
        damage_begin(world, &damage[i]);
        world_hold(world, world_between(world, 0, STAGGER_MAX_NS));
    }
    world_hold(world, some_hold_ns(world));
    /* Those that leave go last: it takes the consent of the map group, which others may hold up. */
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count && !world->failed; i++) {
            if (leaves(damage[i].kind) != (pass == 1))
                continue;
            damage_end(world, &damage[i]);
            world_hold(world, world_between(world, 0, STAGGER_MAX_NS));
        }
    }
}

void atlas_run(struct world *world)
{
    for (uint32_t i = 0; i < world->scenario.episodes && world->scenario.faults && !world->failed;
         i++) {
        world_hold(world, world_between(world, 0, GAP_MAX_NS));
        episode(world);
        if (!world_wait_whole(world))
            return;
        stalls_rough(&world->stalls, false);
    }
}
