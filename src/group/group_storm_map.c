/* SPDX-License-Identifier: MIT */
/* The storm's stand-in for the map: the rules of the map machine (sure heirs, lost members,
 * elections, leases), but it learns late, tells late, and sometimes answers "timed out" to a change
 * that it made. What reads a map (map_view.c) is the real one. */
#include "group/group_storm.h"

#include "base/assert.h"
#include "group/group_fixture.h"

/* ---- the stand-in: views, and what group asks of map ----------------------------------------- */

void storm_refresh_view(struct host *host)
{
    host->header = (struct map_header){.version = world.version,
                                       .node_count = NODES,
                                       .group_count = GROUPS,
                                       .copies = 2,
                                       .min_in_sync = 1};
    for (uint32_t i = 0; i < NODES; i++) {
        enum map_node_state state = world.up[i] ? MAP_NODE_UP : MAP_NODE_DOWN;
        group_fixture_node(&host->nodes[i], i + 1, state, world.known[i]);
    }
    memcpy(host->groups_seen, world.groups, sizeof world.groups);
    host->view = (struct map_view){
        .header = &host->header, .nodes = host->nodes, .groups = host->groups_seen, .refs = 1};
}

static struct host *host_of(const void *handle)
{
    for (uint32_t i = 0; i < NODES; i++) {
        if (handle == &world.hosts[i])
            return &world.hosts[i];
    }
    WRONG("not a handle of ours");
}

struct map_view *map_client_view(struct map_client *client)
{
    return &host_of(client)->view;
}
uint64_t map_lease_regained_ns(const struct map_lease *lease)
{
    (void)lease;
    return 0;
}
bool map_lease_valid(const struct map_lease *lease)
{
    return env_now_ns() < host_of(lease)->lease_until_ns;
}

static void tell_fiber(void *arg)
{
    struct host *host = arg;
    fiber_sleep(storm_below(30 * NS_PER_MS));
    if (host->deaf)
        return;
    storm_refresh_view(host);
    if (host->groups)
        group_host_map_changed(host->groups, &host->view);
}

void storm_tell(struct host *host)
{
    if (host->alive && !host->deaf)
        reactor_spawn(sim_node_reactor(host->sim_node), "tell", tell_fiber, host);
}

void map_client_poke(struct map_client *client)
{
    storm_tell(host_of(client));
}

void storm_map_changed(void)
{
    world.version++;
    for (uint32_t i = 0; i < NODES; i++)
        storm_tell(&world.hosts[i]);
}

struct map_member *storm_member_of(struct map_group *group, uint32_t node)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].node == node)
            return &group->members[i];
    }
    return NULL;
}

int map_client_change_group(struct map_client *client, uint32_t id, uint32_t epoch,
                            enum group_change_op op, uint32_t node, uint64_t deadline_ns)
{
    fiber_sleep(storm_below(20 * NS_PER_MS));
    bool mute = !world.calm && storm_below(10) == 0;
    if (host_of(client)->deaf)
        fiber_sleep_until(deadline_ns);
    if (host_of(client)->deaf || (mute && storm_below(2) == 0))
        return -ERR_TIMED_OUT; /* it never arrived */
    struct map_group *group = &world.groups[id - 1];
    struct map_member *member = storm_member_of(group, node);
    enum map_member_state from =
        op == GROUP_CHANGE_IN_SYNC ? MAP_MEMBER_JOINING : MAP_MEMBER_IN_SYNC;
    int result = -ERR_CAS_FAILED;
    if (member && group->epoch == epoch && group->primary != 0 && node != group->primary &&
        member->state == (uint32_t)from && (op == GROUP_CHANGE_DROP || world.up[node - 1])) {
        member->state = op == GROUP_CHANGE_IN_SYNC ? MAP_MEMBER_IN_SYNC : MAP_MEMBER_JOINING;
        group->epoch++;
        storm_map_changed();
        result = 0;
        if (world.strikes && op == GROUP_CHANGE_IN_SYNC && storm_below(4) == 0)
            world.strike = group->primary; /* before or after it learns that it was heard */
    }
    if (mute)
        return -ERR_TIMED_OUT; /* it was done, but the answer is lost */
    storm_refresh_view(host_of(client));
    return result;
}

/* ---- the stand-in: the map machine's rules --------------------------------------------------- */

/* The leader has heard from this very process. */
static bool sure(uint32_t node)
{
    const struct host *host = &world.hosts[node - 1];
    return world.up[node - 1] && host->alive && host->incarnation == world.known[node - 1] &&
           !host->fenced;
}

static void lost_to_joining(struct map_group *group)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].state == MAP_MEMBER_LOST)
            group->members[i].state = MAP_MEMBER_JOINING;
    }
}

uint32_t storm_heir_of(const struct map_group *group, uint32_t except)
{
    uint32_t start = (uint32_t)storm_below(group->member_count);
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct map_member *member = &group->members[(start + i) % group->member_count];
        if (member->state == MAP_MEMBER_IN_SYNC && member->node != except && sure(member->node))
            return member->node;
    }
    return 0;
}

static void forget_memory(uint32_t node, bool restarted)
{
    for (uint32_t i = 0; i < GROUPS; i++) {
        struct map_group *group = &world.groups[i];
        struct map_member *member = storm_member_of(group, node);
        if (!member)
            continue;
        if (member->state == MAP_MEMBER_JOINING && restarted)
            group->epoch++;
        if (member->state != MAP_MEMBER_IN_SYNC)
            continue;
        uint32_t heir = storm_heir_of(group, node);
        member->state = heir ? MAP_MEMBER_JOINING : MAP_MEMBER_LOST;
        if (!heir)
            group->primary = 0;
        else
            lost_to_joining(group);
        if (heir && (group->primary == node || group->primary == 0))
            group->primary = heir;
        group->epoch++;
    }
    storm_map_changed();
}

static void elect(struct map_group *group)
{
    struct map_replica_report best = {0};
    uint32_t best_node = 0;
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct map_member *member = &group->members[i];
        if (member->state != MAP_MEMBER_LOST)
            continue;
        const struct host *host = &world.hosts[member->node - 1];
        if (!sure(member->node) || !host->groups)
            return;
        struct map_replica_report reports[GROUPS];
        uint32_t count = group_host_reports(host->groups, reports, GROUPS);
        for (uint32_t j = 0; j < count; j++) {
            const struct map_replica_report *report = &reports[j];
            if (report->group != group->id || !report->valid)
                continue;
            if (!best_node || report->last_epoch > best.last_epoch ||
                (report->last_epoch == best.last_epoch && report->last_seq > best.last_seq)) {
                best = *report;
                best_node = member->node;
            }
        }
    }
    if (!best_node) {
        storm_fail("no lost member has a valid log", group->id, group->epoch, 0);
        return;
    }
    lost_to_joining(group);
    storm_member_of(group, best_node)->state = MAP_MEMBER_IN_SYNC;
    group->primary = best_node;
    group->epoch++;
    /* Only what was flushed (or written by a lone primary) has to be there. */
    for (uint32_t k = 0; k < KEYS; k++) {
        struct due *due = &world.due[group->id - 1][k];
        due->acked = due->flushed;
    }
    storm_map_changed();
}

static void resolve(struct map_group *group)
{
    if (group->primary != 0)
        return;
    uint32_t heir = storm_heir_of(group, 0);
    if (heir) {
        lost_to_joining(group);
        group->primary = heir;
        group->epoch++;
        storm_map_changed();
    } else if (map_group_in_sync_count(group) == 0) {
        elect(group);
    }
}

void storm_set_write_errors(struct host *host, uint32_t ppm)
{
    struct sim_disk_config config = *sim_disk_config(world.sim, host->disk);
    config.write_error_ppm = ppm;
    sim_disk_configure(world.sim, host->disk, &config);
}

void storm_authority_tick(void)
{
    uint64_t now_ns = sim_now_ns(world.sim);
    for (uint32_t i = 0; i < NODES; i++) {
        struct host *host = &world.hosts[i];
        bool notice = world.calm || storm_below(4) == 0;
        struct store_health health = {0};
        if (host->groups)
            store_health(host->store, &health);
        if (health.fenced && storm_below(8) == 0) {
            storm_set_write_errors(host, 0);
            storm_host_stop(host, false); /* as node does it */
            storm_host_restart(host);
        }
        bool heard = !host->paused && !host->deaf;
        if (host->alive && heard && host->incarnation != world.known[i] && notice) {
            world.known[i] = host->incarnation;
            world.up[i] = true;
            forget_memory(i + 1, true);
        } else if (!host->alive && world.up[i] && notice) {
            world.up[i] = false;
            forget_memory(i + 1, false);
        } else if (!heard && world.up[i] && host->lease_until_ns + NS_PER_MS < now_ns &&
                   host->incarnation == world.known[i]) {
            world.up[i] = false; /* silent for longer than its lease */
            host->fenced = true;
            forget_memory(i + 1, false);
        }
        if (sure(i + 1) && heard)
            host->lease_until_ns = now_ns + LEASE_NS;
    }
    for (uint32_t i = 0; i < GROUPS; i++)
        resolve(&world.groups[i]);
}
