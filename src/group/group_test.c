/* SPDX-License-Identifier: MIT */
/* Goal: a group keeps every acknowledged record through crashes, and its members end equal.
 * Method: three nodes on the simulator with real rpc and store; the map's authority is a small
 * stand-in that hands out configurations (the real one has tests of its own). A writer appends
 * batches through whoever is primary; nodes crash, return, join by log and by scan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "env/sim.h"
#include "format/wire_group.h"
#include "group/group.h"
#include "group/group_fixture.h"

enum { NODES = 3, GROUP = 1, TABLE = 0x10 };

struct host {
    struct world *world;
    uint32_t id;
    struct sim_node *sim_node;
    char disk[16];
    bool alive;
    /* in the node's heap */
    struct rpc *rpc;
    struct store *store;
    struct group_host *groups;
};

struct world {
    struct sim *sim;
    struct host hosts[NODES];
    struct map_group group;
    struct map_group quiet; /* a second one; id 0: there is none */
    uint32_t incarnations[NODES];
    bool started;
};

static struct world world;

/* ---- the stand-in for the map ---------------------------------------------------------------- */

static struct map_view *view_now(void)
{
    static struct map_header header;
    static struct map_node nodes[NODES];
    static struct map_group groups[2];
    static struct map_view view;
    groups[0] = world.group;
    groups[1] = world.quiet;
    header = (struct map_header){.version = world.group.epoch,
                                 .node_count = NODES,
                                 .group_count = 1 + (world.quiet.id != 0),
                                 .copies = 2,
                                 .min_in_sync = 1};
    for (uint32_t i = 0; i < NODES; i++) {
        group_fixture_node(&nodes[i], i + 1, MAP_NODE_UP, world.incarnations[i]);
    }
    view = (struct map_view){.header = &header, .nodes = nodes, .groups = groups, .refs = 1};
    return &view;
}

struct map_view *map_client_view(struct map_client *client)
{
    (void)client;
    return view_now();
}
uint64_t map_lease_regained_ns(const struct map_lease *lease)
{
    (void)lease;
    return 0;
}
bool map_lease_valid(const struct map_lease *lease)
{
    (void)lease;
    return true;
}
void map_client_poke(struct map_client *client)
{
    (void)client;
}

static void tell_fiber(void *arg)
{
    struct host *host = arg;
    fiber_sleep(100 * NS_PER_US);
    if (host->groups)
        group_host_map_changed(host->groups, view_now());
}

static void tell_all(void)
{
    world.group.epoch++;
    for (uint32_t i = 0; i < NODES; i++) {
        if (world.hosts[i].alive)
            reactor_spawn(sim_node_reactor(world.hosts[i].sim_node), "tell", tell_fiber,
                          &world.hosts[i]);
    }
}

static struct map_member *member(uint32_t node)
{
    for (uint32_t i = 0; i < world.group.member_count; i++) {
        if (world.group.members[i].node == node)
            return &world.group.members[i];
    }
    return NULL;
}

int map_client_change_group(struct map_client *client, uint32_t group, uint32_t epoch,
                            enum group_change_op op, uint32_t node, uint64_t deadline_ns)
{
    (void)client;
    (void)deadline_ns;
    if (group != GROUP || epoch != world.group.epoch || !member(node))
        return -ERR_CAS_FAILED;
    member(node)->state = op == GROUP_CHANGE_IN_SYNC ? MAP_MEMBER_IN_SYNC : MAP_MEMBER_JOINING;
    tell_all();
    return 0;
}

/* ---- content: batches, and data that a row of its own keeps ---------------------------------- */

static struct slice key_of(uint8_t key[9], uint32_t number)
{
    be32_store(key, GROUP);
    key[4] = TABLE;
    be32_store(key + 5, number);
    return slice_of(key, 9);
}

static int content_apply(void *context, struct group *group, const struct store_log_record *record,
                         struct store_batch *batch)
{
    (void)context;
    (void)group;
    uint8_t key[9];
    const uint8_t *payload =
        (const uint8_t *)record->payload.data + (record->payload.bytes - sizeof(uint32_t));
    struct slice name = key_of(key, be32_load(payload));
    store_batch_put(batch, name, slice_of("data", 4));
    for (uint32_t i = 0; i < record->extent_count; i++)
        store_batch_extent_add(batch, record->extents[i], name);
    return 0;
}
static int content_serving(void *context, struct group *group)
{
    (void)context;
    (void)group;
    return 0;
}
static void content_ceased(void *context, struct group *group)
{
    (void)context;
    (void)group;
}
static bool content_extent_of(void *context, struct slice key, struct slice value,
                              struct store_extent *ret_extent)
{
    (void)context;
    (void)key;
    (void)value;
    (void)ret_extent;
    return false;
}
static const struct group_content_ops content = {
    content_apply, content_serving, content_ceased, content_extent_of, NULL, NULL, NULL};

/* ---- nodes ----------------------------------------------------------------------------------- */

static void start_fiber(void *arg)
{
    struct host *host = arg;
    const struct group_fixture fixture = {
        .id = host->id,
        .incarnation = world.incarnations[host->id - 1],
        .disk = host->disk,
        .log_memory_bytes = 1 * MIB,
        .content = &content,
        .store = &host->store,
    };
    struct group_host *groups;
    int result = group_fixture_start(&fixture, &host->rpc, &groups);
    assert(result == 0);
    host->groups = groups;
    group_host_start(groups, (struct map_client *)(void *)&world,
                     (struct map_lease *)(void *)&world);
}

static void host_start(struct host *host)
{
    host->alive = true;
    world.incarnations[host->id - 1]++;
    reactor_spawn(sim_node_reactor(host->sim_node), "start", start_fiber, host);
}

static void world_begin(uint64_t seed)
{
    world = (struct world){.sim = sim_new(seed)};
    world.group = (struct map_group){
        .id = GROUP, .kind = MAP_GROUP_META, .epoch = 1, .primary = 1, .member_count = 2};
    world.group.members[0] = (struct map_member){1, MAP_MEMBER_IN_SYNC};
    world.group.members[1] = (struct map_member){2, MAP_MEMBER_IN_SYNC};
    for (uint32_t i = 0; i < NODES; i++) {
        struct host *host = &world.hosts[i];
        char text[32];
        (void)snprintf(text, sizeof text, "10.0.0.%u", i + 1);
        (void)snprintf(host->disk, sizeof host->disk, "/d%u", i + 1);
        host->id = i + 1;
        host->sim_node = sim_node_new(world.sim, text);
        host_start(host);
    }
}

static void world_start(uint64_t seed)
{
    world_begin(seed);
    sim_run_for(world.sim, 200 * NS_PER_MS);
}

/* Kill a node; the map learns, and, as the real one, drops it and moves the primary. */
static void crash(uint32_t id)
{
    struct host *host = &world.hosts[id - 1];
    host->groups = NULL;
    host->alive = false;
    sim_node_crash(host->sim_node);
    if (member(id))
        member(id)->state = MAP_MEMBER_JOINING;
    for (uint32_t i = 0; i < world.group.member_count && world.group.primary == id; i++) {
        if (world.group.members[i].state == MAP_MEMBER_IN_SYNC)
            world.group.primary = world.group.members[i].node;
    }
    tell_all();
}

static void restart(uint32_t id)
{
    sim_node_restart(world.hosts[id - 1].sim_node);
    host_start(&world.hosts[id - 1]);
}

/* ---- the writer ------------------------------------------------------------------------------ */

struct write_run {
    uint32_t from;
    uint32_t count;
    uint32_t done;
    int error;
    bool finished;
};

static void write_fiber(void *arg)
{
    struct write_run *run = arg;
    struct host *host = &world.hosts[world.group.primary - 1];
    for (uint32_t i = run->from; i < run->from + run->count; i++) {
        struct group *group;
        int result;
        for (;;) {
            result = host->groups ? group_find_serving(host->groups, GROUP, 0, true, &group)
                                  : -ERR_NOT_PRIMARY;
            if (result == 0)
                break;
            fiber_sleep(5 * NS_PER_MS);
        }
        uint8_t key[9];
        uint8_t value[100];
        struct store_batch batch;
        uint64_t seq, seen = 0;
        memset(value, (int)i, sizeof value);
        store_batch_init(&batch);
        store_batch_put(&batch, key_of(key, i), slice_of(value, sizeof value));
        if (i > 10)
            store_batch_del(&batch, key_of(key, i - 7));
        const struct group_append append = {.kind = GROUP_RECORD_BATCH,
                                            .payload = slice_of(batch.bytes, batch.used)};
        result = group_append(group, &append, &seq);
        store_batch_fini(&batch);
        if (result == 0) {
            /* prepared state is visible at once */
            if (group_get(group, key_of(key, i), value, sizeof value, &seen) != 100)
                result = -EBADMSG;
        }
        if (result == 0 && i % 8 == 0)
            result = group_wait(group, seq);
        if (result < 0) {
            run->error = result;
            break;
        }
        run->done++;
        if (i + 1 == run->from + run->count)
            run->error = group_flush(group);
    }
    run->finished = true;
}

static bool finished(void *context)
{
    return ((struct write_run *)context)->finished;
}

static void write_some(uint32_t from, uint32_t count)
{
    static struct write_run run;
    run = (struct write_run){.from = from, .count = count};
    reactor_spawn(sim_node_reactor(world.hosts[world.group.primary - 1].sim_node), "write",
                  write_fiber, &run);
    assert_true(sim_run_until(world.sim, finished, &run, sim_now_ns(world.sim) + 60 * NS_PER_S));
    assert_int_equal(run.error, 0);
    assert_int_equal(run.done, count);
}

/* ---- comparing ------------------------------------------------------------------------------- */

struct dump {
    struct host *host;
    uint32_t crc;
    uint32_t count;
    bool finished;
};

static void dump_fiber(void *arg)
{
    struct dump *dump = arg;
    struct store_iter *iter = store_iter_new(dump->host->store);
    struct slice key, value;
    uint8_t from[5], end[5];
    be32_store(from, GROUP);
    from[4] = TABLE;
    be32_store(end, GROUP);
    end[4] = TABLE + 1;
    store_iter_seek(iter, slice_of(from, sizeof from));
    while (store_iter_next(iter, slice_of(end, sizeof end), &key, &value) == 1) {
        dump->crc = crc32c(dump->crc, key.data, key.bytes);
        dump->crc = crc32c(dump->crc, value.data, value.bytes);
        dump->count++;
    }
    store_iter_free(iter);
    dump->finished = true;
}

static bool dumped(void *context)
{
    return ((struct dump *)context)->finished;
}

static struct dump dump_of(uint32_t id)
{
    static struct dump dump;
    dump = (struct dump){.host = &world.hosts[id - 1]};
    reactor_spawn(sim_node_reactor(dump.host->sim_node), "dump", dump_fiber, &dump);
    assert_true(sim_run_until(world.sim, dumped, &dump, sim_now_ns(world.sim) + 10 * NS_PER_S));
    return dump;
}

static void expect_equal(uint32_t a, uint32_t b, uint32_t written)
{
    sim_run_for(world.sim, 500 * NS_PER_MS); /* the commit point reaches the members */
    struct dump first = dump_of(a);
    struct dump second = dump_of(b);
    assert_int_equal(first.count, second.count);
    assert_int_equal(first.crc, second.crc);
    /* each write from 11 on takes one away, but 1 to 3 stay */
    assert_int_equal(first.count, written > 10 ? written - (written - 11) : written);
}

static bool in_sync(void *context)
{
    return member(*(uint32_t *)context)->state == MAP_MEMBER_IN_SYNC;
}

static void wait_in_sync(uint32_t id)
{
    assert_true(sim_run_until(world.sim, in_sync, &id, sim_now_ns(world.sim) + 60 * NS_PER_S));
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void members_are_equal(void **state)
{
    (void)state;
    world_start(1);
    write_some(0, 300);
    expect_equal(1, 2, 300);
    sim_free(world.sim);
}

static void backup_returns_by_log(void **state)
{
    (void)state;
    world_start(2);
    write_some(0, 100);
    crash(2);
    write_some(100, 100);
    restart(2);
    wait_in_sync(2);
    write_some(200, 100);
    expect_equal(1, 2, 300);
    sim_free(world.sim);
}

static void primary_dies_and_returns(void **state)
{
    (void)state;
    for (uint64_t seed = 10; seed < 15; seed++) {
        world_start(seed);
        write_some(0, 100);
        crash(1);
        write_some(100, 100);
        restart(1);
        wait_in_sync(1);
        crash(2);
        write_some(200, 100);
        restart(2);
        wait_in_sync(2);
        expect_equal(1, 2, 300);
        sim_free(world.sim);
    }
}

static void new_member_joins_by_scan(void **state)
{
    (void)state;
    world_start(3);
    write_some(0, 9000); /* more than the log keeps */
    world.group.members[2] = (struct map_member){3, MAP_MEMBER_JOINING};
    world.group.member_count = 3;
    tell_all();
    write_some(9000, 500);
    wait_in_sync(3);
    write_some(9500, 100);
    expect_equal(1, 3, 9600);
    expect_equal(1, 2, 9600);
    sim_free(world.sim);
}

static void all_die_and_nothing_flushed_is_lost(void **state)
{
    (void)state;
    world_start(4);
    write_some(0, 200); /* ends with a flush */
    crash(2);
    crash(1);
    restart(1);
    restart(2);
    world.group.primary = 1;
    member(1)->state = MAP_MEMBER_IN_SYNC;
    tell_all();
    wait_in_sync(2);
    write_some(200, 10);
    expect_equal(1, 2, 210);
    sim_free(world.sim);
}

static bool serves(void *context)
{
    struct group *group;
    const struct host *host = context;
    return host->groups && group_find_serving(host->groups, GROUP, 0, false, &group) == 0;
}

static bool reports_valid(const struct host *host)
{
    struct map_replica_report report;
    return group_host_reports(host->groups, &report, 1) == 1 && report.valid;
}

static void all_lose_power_when_a_new_group_serves(void **state)
{
    (void)state;
    world_begin(7);
    assert_true(sim_run_until(world.sim, serves, &world.hosts[0], 60 * NS_PER_S));
    for (uint32_t id = 1; id <= 2; id++) {
        world.hosts[id - 1].groups = NULL;
        sim_node_power_off(world.hosts[id - 1].sim_node);
        member(id)->state = MAP_MEMBER_LOST;
        restart(id);
    }
    world.group.primary = 0;
    world.group.epoch++;
    sim_run_for(world.sim, 200 * NS_PER_MS);
    assert_true(reports_valid(&world.hosts[0]) && reports_valid(&world.hosts[1]));
    sim_free(world.sim);
}

static void set_flush_time(uint32_t id, uint64_t flush_ns)
{
    const char *disk = world.hosts[id - 1].disk;
    struct sim_disk_config config = *sim_disk_config(world.sim, disk);
    config.flush_min_ns = config.flush_max_ns = flush_ns;
    sim_disk_configure(world.sim, disk, &config);
}

/* A member whose disk hangs takes records, but flushes nothing: who waits for an fsync must not
 * hang with it. It comes back when its disk does. */
static void hung_disk_of_a_member(void **state)
{
    (void)state;
    world_start(6);
    write_some(0, 100);
    set_flush_time(2, 90 * NS_PER_S);
    uint64_t begin_ns = sim_now_ns(world.sim);
    write_some(100, 100); /* ends with a flush */
    assert_true(sim_now_ns(world.sim) - begin_ns < 15 * NS_PER_S);
    assert_int_equal(member(2)->state, MAP_MEMBER_JOINING);
    set_flush_time(2, NS_PER_MS);
    sim_run_for(world.sim, 90 * NS_PER_S);
    wait_in_sync(2);
    write_some(200, 100);
    expect_equal(1, 2, 300);
    sim_free(world.sim);
}

/* ---- messages of another epoch --------------------------------------------------------------- */

struct stray {
    uint32_t from;
    uint32_t epoch;
    int status;
    bool done;
};

/* An empty PREPARE from node to node 2. */
static void stray_fiber(void *arg)
{
    struct stray *stray = arg;
    struct net_addr addr;
    map_node_addr(&view_now()->nodes[1], &addr);
    const struct wire_prepare_req body = {0};
    struct rpc_call call = {.type = RPC_PREPARE,
                            .group = GROUP,
                            .epoch = stray->epoch,
                            .body = &body,
                            .deadline_ns = env_now_ns() + NS_PER_S};
    stray->status = rpc_call(world.hosts[stray->from - 1].rpc, &addr, &call);
    rpc_call_fini(&call);
    stray->done = true;
}

static bool answered(void *context)
{
    return ((struct stray *)context)->done;
}

static int status_of_epoch(uint32_t epoch)
{
    struct stray stray = {.from = 1, .epoch = epoch};
    reactor_spawn(sim_node_reactor(world.hosts[0].sim_node), "stray", stray_fiber, &stray);
    assert_true(sim_run_until(world.sim, answered, &stray, sim_now_ns(world.sim) + 2 * NS_PER_S));
    return stray.status;
}

/* I1: what a primary of yesterday, or one that we have not heard of, sends is refused. */
static void other_epochs_are_refused(void **state)
{
    (void)state;
    world_start(5);
    write_some(0, 10);
    assert_int_equal(status_of_epoch(world.group.epoch), 0);
    assert_int_equal(status_of_epoch(world.group.epoch - 1), -ERR_WRONG_EPOCH);
    assert_int_equal(status_of_epoch(world.group.epoch + 1), -ERR_WRONG_EPOCH);
    sim_free(world.sim);
}

/* The commit point is on its way when the epoch changes, and is refused. Nothing is written then
 * that would bring it along. */
static void commit_point_of_a_former_epoch(void **state)
{
    (void)state;
    world_start(8);
    struct sim_net_config net = *sim_net_config(world.sim);
    net.delay_min_ns = net.delay_max_ns = 5 * NS_PER_MS;
    sim_net_configure(world.sim, &net);
    uint32_t written = 20;
    write_some(0, written);
    for (uint64_t wait_ms = 0; wait_ms <= 60; wait_ms += 3) {
        write_some(written++, 1);
        sim_run_for(world.sim, wait_ms * NS_PER_MS);
        tell_all();
        expect_equal(1, 2, written);
    }
    sim_free(world.sim);
}

/* ---- a member that runs full ----------------------------------------------------------------- */

enum { QUIET = GROUP + 1, FILL_BLOCKS = 64 };

struct filler {
    uint32_t count; /* extents that fill node 2 */
    struct store_extent extents[8192];
    int space;
    bool done;
};

static struct slice fill_key(uint8_t key[9], uint32_t number)
{
    be32_store(key, 77); /* of no group: somebody else's data */
    key[4] = TABLE;
    be32_store(key + 5, number);
    return slice_of(key, 9);
}

static void fill_fiber(void *arg)
{
    struct filler *filler = arg;
    struct store *store = world.hosts[1].store;
    struct buf *buf = buf_new(FILL_BLOCKS * STORE_BLOCK_BYTES);
    uint8_t key[9];
    memset(buf->data, 7, buf->size);
    while (store_reserve(store, buf->bytes, false) == 0) {
        struct store_extent *extent = &filler->extents[filler->count];
        struct store_batch batch;
        int result =
            store_extent_write(store, (struct buf_slice){buf, 0, buf->bytes}, FILL_BLOCKS, extent);
        assert(result == 0 && filler->count < ARRAY_COUNT(filler->extents));
        store_batch_init(&batch);
        store_batch_put(&batch, fill_key(key, filler->count), slice_of("x", 1));
        store_batch_extent_add(&batch, *extent, fill_key(key, filler->count));
        (void)store_commit(store, &batch);
        store_batch_fini(&batch);
        filler->count++;
    }
    buf_put(buf);
    filler->done = true;
}

static void drain_fiber(void *arg)
{
    struct filler *filler = arg;
    uint8_t key[9];
    for (uint32_t i = 0; i < filler->count / 2; i++) {
        struct store_batch batch;
        store_batch_init(&batch);
        store_batch_del(&batch, fill_key(key, i));
        store_batch_extent_del(&batch, filler->extents[i]);
        (void)store_commit(world.hosts[1].store, &batch);
        store_batch_fini(&batch);
    }
    filler->done = true;
}

static void space_fiber(void *arg)
{
    struct filler *filler = arg;
    struct group *group;
    filler->space = group_find_serving(world.hosts[0].groups, QUIET, 0, true, &group);
    if (filler->space == 0)
        filler->space = group_wait_space(group, true);
    filler->done = true;
}

static bool filler_done(void *context)
{
    return ((struct filler *)context)->done;
}

static void run_on(uint32_t node, void (*fn)(void *), struct filler *filler)
{
    filler->done = false;
    reactor_spawn(sim_node_reactor(world.hosts[node - 1].sim_node), "filler", fn, filler);
    assert_true(
        sim_run_until(world.sim, filler_done, filler, sim_now_ns(world.sim) + 600 * NS_PER_S));
}

/* A group knows of a full member what any group here has heard of its node; and "full" is not
 * believed for ever when nothing is written. */
static void a_full_member_is_known_to_all_groups(void **state)
{
    (void)state;
    struct filler *filler = mem_zalloc(sizeof *filler);
    world_start(6);
    world.quiet = world.group;
    world.quiet.id = QUIET;
    tell_all();
    write_some(0, 10);
    run_on(1, space_fiber, filler);
    assert_int_equal(filler->space, 0);
    run_on(2, fill_fiber, filler);
    write_some(10, 10); /* its answers say how much room node 2 has; QUIET writes nothing */
    run_on(1, space_fiber, filler);
    assert_int_equal(filler->space, -ERR_NO_SPACE);
    run_on(2, drain_fiber, filler);
    sim_run_for(world.sim, NS_PER_S);
    run_on(1, space_fiber, filler);
    assert_int_equal(filler->space, 0);
    sim_free(world.sim);
    mem_free(filler);
}

/* Take all that is left for data, without a row that says so. */
static void take_fiber(void *arg)
{
    struct filler *filler = arg;
    struct buf *buf = buf_new(FILL_BLOCKS * STORE_BLOCK_BYTES);
    struct store_extent extent;
    int result;
    do {
        result = store_extent_write(world.hosts[1].store, (struct buf_slice){buf, 0, buf->size},
                                    FILL_BLOCKS, &extent);
        fiber_sleep(NS_PER_US);
    } while (result == 0);
    assert(result == -ERR_NO_SPACE);
    buf_put(buf);
    filler->done = true;
}

static void append_data_fiber(void *arg)
{
    struct filler *filler = arg;
    struct host *host = &world.hosts[0];
    struct group *group;
    uint64_t seq;
    uint8_t number[4];
    struct buf *buf = buf_new(FILL_BLOCKS * STORE_BLOCK_BYTES);
    struct group_append append = {.kind = GROUP_RECORD_CONTENT,
                                  .payload = slice_of(number, sizeof number),
                                  .extents = filler->extents,
                                  .extent_count = 1,
                                  .data = {buf, 0, buf->size}};
    be32_store(number, 5000);
    memset(buf->data, 9, buf->size);
    filler->space = group_find_serving(host->groups, GROUP, 0, true, &group);
    assert(filler->space == 0);
    filler->space = store_extent_write(host->store, append.data, FILL_BLOCKS, &filler->extents[0]);
    if (filler->space == 0)
        filler->space = group_append(group, &append, &seq);
    if (filler->space == 0)
        filler->space = group_wait(group, seq);
    buf_put(buf);
    filler->done = true;
}

/* A member says that it has room, but has no segment for what was admitted: it is left out in time,
 * so that what comes behind does not wait for it, and comes back when it has one. */
static void a_member_without_a_place_is_left_out(void **state)
{
    (void)state;
    struct filler *filler = mem_zalloc(sizeof *filler);
    world_start(7);
    write_some(0, 10);
    run_on(2, take_fiber, filler);
    uint64_t begin_ns = sim_now_ns(world.sim);
    run_on(1, append_data_fiber, filler);
    assert_int_equal(filler->space, 0);
    assert_true(sim_now_ns(world.sim) - begin_ns < 5 * NS_PER_S);
    assert_int_equal(member(2)->state, MAP_MEMBER_JOINING);
    write_some(10, 10);
    sim_run_for(world.sim, 150 * NS_PER_S); /* the store forgets what no record named */
    wait_in_sync(2);
    sim_run_for(world.sim, 500 * NS_PER_MS);
    struct dump first = dump_of(1);
    struct dump second = dump_of(2);
    assert_true(first.crc == second.crc && first.count == second.count && first.count == 12);
    sim_free(world.sim);
    mem_free(filler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_member_without_a_place_is_left_out),
        cmocka_unit_test(other_epochs_are_refused),
        cmocka_unit_test(commit_point_of_a_former_epoch),
        cmocka_unit_test(members_are_equal),
        cmocka_unit_test(backup_returns_by_log),
        cmocka_unit_test(primary_dies_and_returns),
        cmocka_unit_test(new_member_joins_by_scan),
        cmocka_unit_test(a_full_member_is_known_to_all_groups),
        cmocka_unit_test(all_die_and_nothing_flushed_is_lost),
        cmocka_unit_test(all_lose_power_when_a_new_group_serves),
        cmocka_unit_test(hung_disk_of_a_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
