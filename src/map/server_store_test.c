/* SPDX-License-Identifier: MIT */
/* Goal: a member of the map group finds its map again, also the largest there can be, which is more
 * than one commit of the store may hold. Method: snapshots are persisted on the simulator's disk as
 * a step of Raft would have it, the store is closed and opened, and what is read is compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#undef assert
#include "env/sim.h"
#include "map/map_fixture.h"
#include "map/server_internal.h"

enum { NODE = 1 };

static struct world {
    struct map_view *maps[3]; /* in the order in which they are persisted */
    struct map_view *found[3];
    bool done;
} world;

static struct store *open_store(struct disk *disk)
{
    static const struct store_log_ops log_ops;
    const struct store_options options = {.memory_bytes = 16 * MIB, .log_ops = &log_ops};
    struct store *store;
    int result = store_open(disk, &options, &store);
    assert(result == 0);
    return store;
}

/* What a step does that brought a snapshot; area: where the one before is. Returns where it is. */
static uint32_t persist(struct store *store, const struct map_view *map, uint64_t index,
                        uint32_t area)
{
    const struct raft_options options = {.node = NODE,
                                         .seed = 1,
                                         .election_min_ns = MAP_ELECTION_MIN_NS,
                                         .election_max_ns = MAP_ELECTION_MAX_NS,
                                         .heartbeat_ns = MAP_RAFT_BEAT_NS,
                                         .gone_stagger_ns = MAP_GONE_STAGGER_NS,
                                         .config = {.voter_count = 1, .voters = {NODE}}};
    struct map_server *server = mem_zalloc(sizeof *server);
    server->store = store;
    server->snapshot_area = area;
    server->raft = raft_new(&options);
    server->update = mem_zalloc(sizeof *server->update);
    waitq_init(&server->persist_wake);
    raft_restore_state(server->raft, 1, 0);
    raft_restore_snapshot(server->raft, index, 1, &options.config);
    server_snapshot_set(server, map_view_bytes(map), map->bytes);
    server->update->persist = RAFT_PERSIST_STATE | RAFT_PERSIST_SNAPSHOT;
    server->update->persist_seq = 1;
    server_persist(server);
    area = server->snapshot_area;
    raft_free(server->raft);
    buf_put(server->snapshot);
    mem_free(server->update);
    mem_free(server);
    return area;
}

static void test_fiber(void *arg)
{
    (void)arg;
    const struct store_identity identity = {.node = NODE};
    struct disk *disk;
    uint32_t area = 0;
    int result = disk_open("/disk", 1 * GIB, DISK_CREATE, &disk);
    if (result == 0)
        result = store_format(disk, &identity, false);
    assert(result == 0);
    for (uint32_t i = 0; i < ARRAY_COUNT(world.maps); i++) {
        struct map_stored stored;
        struct store *store = open_store(disk);
        uint32_t next = persist(store, world.maps[i], i + 1, area);
        assert(next != area); /* what a crash in between must find is not overwritten */
        area = next;
        result = store_close(store);
        assert(result == 0);
        store = open_store(disk);
        result = map_stored_load(store, NODE, &stored);
        assert(result == 0 && stored.index == i + 1);
        world.found[i] = stored.view;
        result = store_close(store);
        assert(result == 0);
    }
    disk_close(disk);
    world.done = true;
}

static bool done(void *context)
{
    return ((struct world *)context)->done;
}

static void test_snapshots(void **state)
{
    (void)state;
    struct sim *sim = sim_new(1);
    struct sim_node *node = sim_node_new(sim, "10.0.0.1");
    uint32_t nodes = MAP_COMMAND_INIT_NODES_MAX;
    world =
        (struct world){.maps = {fixture_first_map(3, 2, 4, 8),
                                fixture_first_map(nodes, 3, MAP_META_SLOTS, MAP_DATA_GROUPS_MAX),
                                fixture_first_map(5, 3, 16, 64)}};
    assert_true(world.maps[1]->bytes > MIB);
    reactor_spawn(sim_node_reactor(node), "test", test_fiber, NULL);
    assert_true(sim_run_until(sim, done, &world, 60 * NS_PER_S));
    for (uint32_t i = 0; i < ARRAY_COUNT(world.maps); i++) {
        assert_int_equal(world.found[i]->bytes, world.maps[i]->bytes);
        assert_memory_equal(map_view_bytes(world.found[i]), map_view_bytes(world.maps[i]),
                            world.maps[i]->bytes);
        map_view_put(world.maps[i]);
    }
    sim_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
