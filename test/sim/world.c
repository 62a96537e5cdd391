/* SPDX-License-Identifier: MIT */
/* One seed, from an empty world to the verdict.
 *
 * Picture. Nodes are whole node processes, clients are hosts with libclaudefs, each on a simulated
 * host of its own. The *director* (a fiber on one more host) leads through the run as one would
 * read it: make what the loads need; let the clients work while atlas.c damages things; heal;
 * wait until every copy is in sync; look at everything once more. Then, with the world standing
 * still, the histories are judged and the disks are checked as `claudefs fsck` does.
 *
 * W1. The director's and the clients' hosts remember nothing that must survive on their own heaps:
 *     histories are on the process's.
 * W2. Choices of loads and damage come from world->random, not from the simulator's, so narrowing a
 *     scenario changes little else.
 * W3. A node whose process has ended (fenced, or a start that failed) is started again after a
 *     moment, as a service manager does. */
#include "world.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/log.h"

#define SMALL_BYTES    (288 * MIB) /* of which 100 are for data */
#define RUN_MAX_NS     (3600 * NS_PER_S)
#define WHOLE_MAX_NS   (120 * NS_PER_S)
#define WORK_MAX_NS    (600 * NS_PER_S)
#define SETTLE_NS      (15 * NS_PER_S) /* sessions of dead clients end, orphans are deleted */
#define QUIET_NS       (500 * NS_PER_MS)
#define TICK_NS        (20 * NS_PER_MS)
#define RESTART_MAX_NS (200 * NS_PER_MS)

static const struct load *const loads[LOAD_KINDS] = {
    [LOAD_NAMES] = &load_names,     [LOAD_FILES] = &load_files,     [LOAD_APPEND] = &load_append,
    [LOAD_SCRATCH] = &load_scratch, [LOAD_DURABLE] = &load_durable, [LOAD_FILL] = &load_fill,
    [LOAD_ENTRIES] = &load_entries};

const struct client_cred world_root = {.checked = true};

uint64_t world_now_ns(const struct world *world)
{
    return sim_now_ns(world->cluster.sim);
}

uint32_t world_below(struct world *world, uint32_t bound)
{
    return (uint32_t)random_below(&world->random, bound);
}

uint64_t world_between(struct world *world, uint64_t min, uint64_t max)
{
    return min + random_below(&world->random, max - min + 1);
}

void world_tell(struct world *world, const char *format, ...)
{
    if (!world->trace)
        return;
    va_list args;
    printf("%12.6f ", (double)world_now_ns(world) / 1e9);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

void world_fail(struct world *world, const char *format, ...)
{
    va_list args;
    if (world->failed)
        return;
    world->failed = true;
    world->stop = true;
    printf("at %.6f s: ", (double)world_now_ns(world) / 1e9);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

static void log_line(void *context, enum log_level level, const char *line)
{
    struct world *world = context;
    (void)level;
    world_tell(world, "%s", line);
}

/* ---- nodes -------------------------------------------------------------------------------- */

/* W3. */
static void tend(struct world *world)
{
    for (uint32_t i = 0; i < world->cluster.node_count; i++) {
        struct cluster_member *member = &world->cluster.members[i];
        bool ended = member->fenced || (member->done && member->result < 0);
        if (!sim_node_up(member->sim_node) || !ended || member->removed || world->given_up == i + 1)
            continue;
        world_tell(world, "node %u has ended (%s), starts again", member->id,
                   error_name(member->fenced ? member->fenced : member->result));
        cluster_crash(&world->cluster, i);
        fiber_sleep(world_between(world, NS_PER_MS, RESTART_MAX_NS));
        cluster_restart(&world->cluster, i);
    }
}

void world_hold(struct world *world, uint64_t duration_ns)
{
    uint64_t end_ns = env_now_ns() + duration_ns;
    while (env_now_ns() < end_ns && !world->failed) {
        tend(world);
        fiber_sleep_until(MIN(env_now_ns() + TICK_NS, end_ns));
    }
}

void world_print_map(struct world *world)
{
    const struct map_view *view = map_client_view(world->map);
    for (uint32_t i = 0; view && i < view->header->node_count; i++)
        printf("  node %u: state %u, intent %u, voter %u\n", view->nodes[i].id,
               view->nodes[i].state, view->nodes[i].intent, view->nodes[i].voter);
    for (uint32_t i = 0; view && i < view->header->group_count; i++) {
        const struct map_group *group = &view->groups[i];
        printf("  group %u: epoch %u, primary %u, members (state):", group->id, group->epoch,
               group->primary);
        for (uint32_t m = 0; m < group->member_count; m++)
            printf(" %u (%u)", group->members[m].node, group->members[m].state);
        printf("\n");
    }
}

bool world_is_voter(const struct world *world, uint32_t node)
{
    const struct map_view *view = map_client_view(world->map);
    const struct map_node *row = map_view_node(view, world->cluster.members[node].id);
    return !row || row->voter != 0;
}

bool world_is_full(struct world *world, int result)
{
    bool full = result < 0 && error_to_errno(result) == ENOSPC && world->scenario.small;
    world->refusals += full;
    return full;
}

bool world_wait_whole(struct world *world)
{
    uint64_t begin_ns = env_now_ns();
    while (!world->failed && !cluster_is_whole(&world->cluster, world->map)) {
        if (env_now_ns() > begin_ns + WHOLE_MAX_NS) {
            world_fail(world, "not all copies are in sync %.0f s after the last damage ended",
                       (double)WHOLE_MAX_NS / 1e9);
            world_print_map(world);
            return false;
        }
        tend(world);
        fiber_sleep(TICK_NS);
    }
    world_tell(world, "whole after %.3f s", (double)(env_now_ns() - begin_ns) / 1e9);
    return !world->failed;
}

/* ---- clients ------------------------------------------------------------------------------ */

struct load_run {
    struct world_client *client;
    enum load_kind load;
};

void world_durable_dirs(struct world *world, const char *prefix, uint32_t count, uint64_t *ret_inos)
{
    char name[24];
    struct wire_attr attr = {0};
    int result = 0;
    for (uint32_t i = 0; i < count && result == 0; i++) {
        (void)snprintf(name, sizeof name, "%s%u", prefix, i);
        const struct client_place place = {CFS_ROOT_INO, slice_of(name, strlen(name))};
        result = client_mknod(world->client, &world_root, &place, S_IFDIR | 0755, 0, &attr);
        ret_inos[i] = attr.ino;
        if (result == 0)
            result = client_sync_inode(world->client, attr.ino);
    }
    if (result == 0)
        result = client_sync_inode(world->client, CFS_ROOT_INO);
    if (result < 0)
        world_fail(world, "making and syncing /%s: %s", name, error_name(result));
}

static void load_fiber(void *arg)
{
    struct load_run *run = arg;
    struct world_client *client = run->client;
    struct world *world = client->world;
    while ((client->todo[run->load] > 0 || world->more) && !world->stop) {
        if (client->todo[run->load] == 0) {
            fiber_sleep(TICK_NS);
            continue;
        }
        fiber_sleep(world_between(world, 0, world->scenario.think_ns));
        client->todo[run->load]--;
        world->ops++;
        const struct stalls_op op = stalls_begin(world);
        loads[run->load]->step(client);
        stalls_end(world, &op, client->index, loads[run->load]->name);
    }
    client->running--;
}

static void client_fiber(void *arg)
{
    struct world_client *client = arg;
    struct map_client *map;
    struct load_run runs[LOAD_KINDS];
    client->client = cluster_client(&client->world->cluster, &map);
    for (uint32_t i = 0; i < LOAD_KINDS; i++) {
        if (!(client->world->scenario.loads & (1u << i)))
            continue;
        runs[i] = (struct load_run){client, i};
        client->running++;
        fiber_spawn(loads[i]->name, load_fiber, &runs[i]);
    }
    while (client->running > 0)
        fiber_sleep(TICK_NS);
}

void world_client_start(struct world_client *client)
{
    client->running = 0;
    client->lives++;
    memset(client->files, 0, sizeof client->files);
    reactor_spawn(sim_node_reactor(client->host), "client", client_fiber, client);
}

static bool clients_done(const struct world *world)
{
    for (uint32_t i = 0; i < world->scenario.clients; i++) {
        const struct world_client *client = &world->clients[i];
        if (client->running > 0)
            return false;
        for (uint32_t j = 0; j < LOAD_KINDS; j++) {
            if (client->todo[j] > 0)
                return false;
        }
    }
    return true;
}

/* ---- the run ------------------------------------------------------------------------------ */

/* After a blackout these know what must be there. */
static bool is_judged(const struct world *world, uint32_t load)
{
    return !world->scenario.blackouts || load == LOAD_DURABLE || load == LOAD_FILES ||
           load == LOAD_ENTRIES;
}

static void each_load(struct world *world, bool finish)
{
    for (uint32_t i = 0; i < LOAD_KINDS && !world->failed; i++) {
        void (*fn)(struct world * world) = finish ? loads[i]->finish : loads[i]->setup;
        if (fn && (world->scenario.loads & (1u << i)) && (!finish || is_judged(world, i)))
            fn(world);
    }
}

void world_look(struct world *world)
{
    each_load(world, true);
}

static void wait_clients(struct world *world)
{
    uint64_t end_ns = env_now_ns() + WORK_MAX_NS;
    while (!world->failed && !clients_done(world)) {
        if (env_now_ns() > end_ns) {
            world_fail(world, "clients have not finished %.0f s after the last damage ended",
                       (double)WORK_MAX_NS / 1e9);
            return;
        }
        world_hold(world, TICK_NS);
    }
}

static uint64_t writes_of_all(struct world *world)
{
    uint64_t writes = 0;
    for (uint32_t i = 0; i < world->cluster.node_count; i++)
        writes += sim_disk_writes(world->cluster.sim, world->cluster.members[i].disk);
    return writes;
}

/* Until all that nodes do on their own account (delete, flush, tell each other) has been done. */
static bool wait_quiet(struct world *world)
{
    uint64_t end_ns = env_now_ns() + WHOLE_MAX_NS;
    uint64_t before, now = writes_of_all(world);
    do {
        before = now;
        world_hold(world, QUIET_NS);
        now = writes_of_all(world);
    } while (now != before && env_now_ns() < end_ns && !world->failed);
    if (now != before)
        world_fail(world, "nodes still write %.0f s after the last client",
                   (double)WHOLE_MAX_NS / 1e9);
    return !world->failed;
}

static void director_fiber(void *arg)
{
    struct world *world = arg;
    world->client = cluster_client(&world->cluster, &world->map);
    if (world_wait_whole(world))
        each_load(world, false);
    world->more = world->scenario.blackouts;
    for (uint32_t i = 0; i < world->scenario.clients && !world->failed; i++)
        world_client_start(&world->clients[i]);
    if (!world->failed)
        atlas_run(world);
    world->more = false;
    wait_clients(world);
    if (!world->failed && world_wait_whole(world))
        world_look(world);
    if (!world->failed) {
        client_flush_all(world->client);
        world_hold(world, SETTLE_NS);
        (void)(world_wait_whole(world) && wait_quiet(world)); /* a failure has been told */
    }
    world->done = true;
}

static bool is_over(void *context)
{
    const struct world *world = context;
    return world->done || world->failed || world->wants_node;
}

static void run(struct world *world)
{
    uint64_t end_ns = world_now_ns(world) + RUN_MAX_NS;
    while (sim_run_until(world->cluster.sim, is_over, world, end_ns) && world->wants_node) {
        uint32_t index = cluster_add_node(&world->cluster);
        world_tell(world, "---- host %u joins", index + 1);
        world->wants_node = false;
    }
    if (!world->done && !world->failed)
        world_fail(world, "the run has not ended within %.0f s", (double)RUN_MAX_NS / 1e9);
}

static void make(struct world *world)
{
    const struct scenario *scenario = &world->scenario;
    char ip[32];
    if (scenario->small)
        cluster_start_sized(&world->cluster, scenario->seed, scenario->nodes, scenario->copies,
                            SMALL_BYTES);
    else
        cluster_start(&world->cluster, scenario->seed, scenario->nodes, scenario->copies);
    world->director = sim_node_new(world->cluster.sim, "10.0.2.1");
    for (uint32_t i = 0; i < scenario->clients; i++) {
        struct world_client *client = &world->clients[i];
        (void)snprintf(ip, sizeof ip, "10.0.3.%u", i + 1);
        *client = (struct world_client){.world = world, .index = i};
        client->host = sim_node_new(world->cluster.sim, ip);
        for (uint32_t j = 0; j < LOAD_KINDS; j++)
            client->todo[j] = scenario->loads & (1u << j) ? scenario->ops : 0;
    }
}

static void judge(struct world *world, struct world_result *result)
{
    struct fsck_counts counts = {0};
    for (uint32_t i = 0; i < LOAD_KINDS; i++) {
        if (loads[i]->check && (world->scenario.loads & (1u << i)) && is_judged(world, i))
            result->undecided += loads[i]->check(world);
    }
    uint32_t wrong = world->failed ? 0 : cluster_fsck(&world->cluster, true, &counts);
    /* The data of a file may survive a blackout that its inode did not survive. */
    if (world->scenario.blackouts)
        wrong -= counts.found[FSCK_DATA_NO_INODE];
    if (wrong)
        world_fail(world, "the disks have %u faults", wrong);
}

void world_run(const struct scenario *scenario, bool trace, struct world_result *ret_result)
{
    struct world *world = calloc(1, sizeof *world);
    struct world_result result = {0};
    world->scenario = *scenario;
    world->trace = trace;
    random_init(&world->random, hash_u64(scenario->seed + 1));
    log_set_level(trace ? LOG_DEBUG : LOG_ERROR);
    log_set_sink(log_line, world);
    make(world);
    reactor_spawn(sim_node_reactor(world->director), "director", director_fiber, world);
    run(world);
    judge(world, &result);
    result.failed = world->failed;
    result.hash = sim_trace_hash(world->cluster.sim);
    result.virtual_ns = world_now_ns(world) - NS_PER_S;
    result.ops = world->ops;
    result.longest_ns = world->stalls.longest_ns;
    names_fini(&world->names);
    files_fini(&world->files);
    free(world->appends.list);
    cluster_free(&world->cluster);
    free(world);
    *ret_result = result;
}
