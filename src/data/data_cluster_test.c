/* SPDX-License-Identifier: MIT */
/* Goal: file data survives what happens to nodes: what a writer was told is what readers get, while
 * nodes die, lose power, come back and catch up, and when devices rot. Method: three nodes with
 * everything but metadata (map, groups of two copies, stores) in the simulated world; a caller on a
 * fourth host writes, truncates and reads one file at random and compares it with a flat array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "data/data_internal.h"
#include "env/sim.h"

enum {
    NODES = 3,
    DATA_GROUPS = 5,
    PORT = 7000,
    INO = 77,
    FILE_BYTES = 3 * OBJECT_BYTES,
    WORKERS = 3,
    SPAN = FILE_BYTES / WORKERS - 1234,
    STEPS = 120,
};
#define DISK_BYTES  (2 * GIB)
#define DEADLINE_NS (120 * NS_PER_S)
#define NOTICE_NS   (5 * NS_PER_S)

struct world;

struct member {
    struct world *world;
    struct sim_node *sim_node;
    uint32_t id;
    char disk[16];
    bool formatted;
    uint32_t flipped;
    /* of the running process */
    struct rpc *rpc;
    struct store *store;
    struct data_service *data;
    struct group_host *host;
    struct map_server *server;
    struct map_client *map;
    struct map_lease *lease;
};

struct world {
    struct sim *sim;
    struct map_header header;
    struct map_node nodes[NODES];
    struct member members[NODES];
    struct random random;
    /* the caller's */
    struct rpc *rpc;
    struct map_client *map;
    uint8_t *model;
    uint8_t *noise;
    uint32_t running;
    uint32_t round;
    bool blackout; /* asked for; taken back when all nodes are back */
    const char *wrong;
    int error;
    bool done;
};

static void check(struct world *world, int result, const char *what)
{
    if (result >= 0 || world->wrong)
        return;
    world->wrong = what;
    world->error = result;
}

/* ---- a node without metadata ----------------------------------------------------------------- */

static int none_apply(void *context, struct group *group, const struct store_log_record *record,
                      struct store_batch *batch)
{
    return -ERR_CORRUPT_DISK;
}
static int none_serving(void *context, struct group *group)
{
    return 0;
}
static void none_ceased(void *context, struct group *group)
{
}
static bool none_extent_of(void *context, struct slice key, struct slice value,
                           struct store_extent *ret_extent)
{
    return false;
}
static const struct group_content_ops none_ops = {
    .apply = none_apply,
    .serving = none_serving,
    .ceased = none_ceased,
    .extent_of = none_extent_of,
};

static uint32_t replicas(void *context, struct map_replica_report *reports, uint32_t max)
{
    struct member *member = context;
    return group_host_reports(member->host, reports, max);
}
static void usage(void *context, uint64_t *ret_used_bytes, uint64_t *ret_size_bytes)
{
    *ret_used_bytes = 1;
    *ret_size_bytes = DISK_BYTES;
}
static const struct map_lease_ops lease_ops = {replicas, usage};

static void map_changed(void *context, struct map_view *view)
{
    struct member *member = context;
    group_host_map_changed(member->host, view);
}

static void open_store(struct member *member)
{
    struct disk *disk;
    int result = disk_open(member->disk, DISK_BYTES, DISK_CREATE, &disk);
    if (result == 0 && !member->formatted) {
        const struct store_identity identity = {.node = member->id};
        result = store_format(disk, &identity, false);
        member->formatted = true;
    }
    const struct group_host_options host_options = {
        .node = member->id,
        .store = &member->store,
        .log_memory_bytes = 4 * MIB,
        .content = {[MAP_GROUP_META] = &none_ops, [MAP_GROUP_DATA] = &data_content_ops},
        .content_context = {[MAP_GROUP_META] = NULL, [MAP_GROUP_DATA] = member->data},
    };
    member->host = group_host_new(member->rpc, &host_options);
    const struct store_options store_options = {
        .memory_bytes = 24 * MIB, .log_ops = &group_host_log_ops, .context = member->host};
    if (result == 0)
        result = store_open(disk, &store_options, &member->store);
    if (result == 0)
        result = group_host_load(member->host);
    assert(result == 0);
}

static void member_main(void *arg)
{
    struct member *member = arg;
    struct world *world = member->world;
    const struct rpc_identity identity = {.node = member->id, .incarnation = env_entropy_u64() | 1};
    member->rpc = rpc_new(&identity);
    member->data = data_service_new();
    open_store(member);
    const struct map_server_options options = {
        .node = member->id,
        .header = &world->header,
        .nodes = world->nodes,
        .node_count = NODES,
        .meta_groups = 1,
        .data_groups = DATA_GROUPS,
    };
    int result = map_server_start(member->rpc, member->store, &options, &member->server);
    assert(result == 0);
    struct net_addr seeds[NODES];
    for (uint32_t i = 0; i < NODES; i++)
        map_node_addr(&world->nodes[i], &seeds[i]);
    member->map = map_client_start(member->rpc, seeds, NODES, map_changed, member);
    member->lease = map_lease_start(member->rpc, member->map, member->id, &lease_ops, member);
    group_host_start(member->host, member->map, member->lease);
    data_service_start(member->data, member->rpc, member->host);
    result = rpc_listen(member->rpc, &seeds[member->id - 1]);
    assert(result == 0);
}

static void member_start(struct member *member)
{
    member->lease = NULL;
    reactor_spawn(sim_node_reactor(member->sim_node), "main", member_main, member);
}

/* ---- the caller ------------------------------------------------------------------------------ */

/* One OBJ_READ at whom the map names, again until it is answered; blocks verified. */
static int read_blocks(struct world *world, uint32_t index, uint32_t offset, uint32_t bytes,
                       uint8_t *out)
{
    uint64_t end_ns = env_now_ns() + DEADLINE_NS;
    const struct wire_obj_read_req body = {
        .obj = {.ino = INO, .index = index, .offset = offset, .bytes = bytes}};
    for (;;) {
        const struct map_view *view = map_client_view(world->map);
        const struct map_group *group = map_view_of_object(view, INO, index);
        struct rpc_call call = {.type = RPC_OBJ_READ,
                                .group = group->id,
                                .epoch = group->epoch,
                                .body = &body,
                                .deadline_ns = env_now_ns() + 2 * NS_PER_S};
        struct net_addr addr;
        int result = -ERR_NOT_PRIMARY;
        if (group->primary) {
            map_node_addr(map_view_node(view, group->primary), &addr);
            result = rpc_call(world->rpc, &addr, &call);
        }
        if (result >= 0) {
            struct slice tail;
            struct wire_obj_read_rep reply;
            bool whole = rpc_reply_body(&call, &reply, sizeof reply, &tail);
            uint32_t got = call.reply->payload_bytes;
            memset(out, 0, bytes);
            if (got)
                memcpy(out, call.reply->payload->data, got);
            for (uint32_t i = 0; i < got / DATA_BLOCK_BYTES; i++) {
                uint32_t crc;
                memcpy(&crc, (const uint8_t *)tail.data + 4 * i, sizeof crc);
                if (crc32c(0, out + i * DATA_BLOCK_BYTES, DATA_BLOCK_BYTES) != crc)
                    result = -ERR_CORRUPT_WIRE;
            }
            if (!whole || got > bytes || tail.bytes != got / DATA_BLOCK_BYTES * 4)
                result = -ERR_CORRUPT_WIRE;
            rpc_call_fini(&call);
            return result;
        }
        if (group->primary)
            rpc_call_fini(&call);
        if (error_retry_class(result) == RETRY_NEVER || env_now_ns() > end_ns)
            return result;
        map_client_poke(world->map);
        fiber_sleep(20 * NS_PER_MS);
    }
}

static void check_range(struct world *world, uint64_t at, uint32_t count)
{
    uint64_t first = round_down(at, DATA_BLOCK_BYTES);
    uint64_t end = round_up(at + count, DATA_BLOCK_BYTES);
    uint8_t *got = mem_alloc(end - first);
    check(world,
          read_blocks(world, (uint32_t)(first / OBJECT_BYTES), (uint32_t)(first % OBJECT_BYTES),
                      (uint32_t)(end - first), got),
          "read");
    const uint8_t *want = world->model + at;
    const uint8_t *have = got + (at - first);
    uint32_t same = 0;
    while (same < count && have[same] == want[same])
        same++;
    if (same < count) {
        log_error("test-content", "offset=%llu of %llu+%u want=%02x have=%02x",
                  (unsigned long long)at + same, (unsigned long long)at, count, want[same],
                  have[same]);
        check(world, -EBADMSG, "content");
    }
    mem_free(got);
}

static void check_file(struct world *world)
{
    for (uint64_t at = 0; at < FILE_BYTES && !world->wrong; at += DATA_IO_MAX)
        check_range(world, at, DATA_IO_MAX);
}

static void write_range(struct world *world, uint64_t at, uint32_t count)
{
    const struct data_request request = {.type = RPC_OBJ_WRITE,
                                         .ino = INO,
                                         .index = (uint32_t)(at / OBJECT_BYTES),
                                         .offset = (uint32_t)(at % OBJECT_BYTES),
                                         .bytes = count};
    struct buf *buf = buf_new(count);
    memcpy(buf->data, world->noise + random_below(&world->random, DATA_IO_MAX), count);
    memcpy(world->model + at, buf->data, count);
    check(world,
          data_call(world->rpc, world->map, &request, (struct buf_slice){buf, 0, count},
                    env_now_ns() + DEADLINE_NS),
          "write");
    buf_put(buf);
}

static void punch_range(struct world *world, uint64_t at, uint32_t count)
{
    const struct data_request request = {.type = RPC_OBJ_PUNCH,
                                         .ino = INO,
                                         .index = (uint32_t)(at / OBJECT_BYTES),
                                         .offset = (uint32_t)(at % OBJECT_BYTES),
                                         .bytes = count};
    memset(world->model + at, 0, count);
    check(world,
          data_call(world->rpc, world->map, &request, (struct buf_slice){0},
                    env_now_ns() + DEADLINE_NS),
          "punch");
}

struct worker {
    struct world *world;
    uint64_t from;
};

/* Ranges of the workers meet in the middle of blocks. */
static void worker_fiber(void *arg)
{
    const struct worker *worker = arg;
    struct world *world = worker->world;
    for (uint32_t i = 0; i < STEPS && !world->wrong; i++) {
        fiber_sleep(random_below(&world->random, 150) * NS_PER_MS);
        uint64_t at = worker->from + random_below(&world->random, SPAN);
        uint32_t max = random_chance(&world->random, 1, 4) ? DATA_IO_MAX : 20000;
        uint64_t count = 1 + random_below(&world->random, max);
        count = MIN(count, worker->from + SPAN - at);
        count = MIN(count, OBJECT_BYTES - at % OBJECT_BYTES);
        uint64_t verb = random_below(&world->random, 10);
        log_debug("test-op", "verb=%u at=%llu count=%u", (unsigned)verb, (unsigned long long)at,
                  (unsigned)count);
        if (verb < 6)
            write_range(world, at, (uint32_t)count);
        else if (verb < 7)
            punch_range(world, at, (uint32_t)count);
        else
            check_range(world, at, (uint32_t)MIN(count, 1000000u));
    }
    world->running--;
}

static bool all_in_sync(const struct world *world)
{
    const struct map_view *view = map_client_view(world->map);
    for (uint32_t i = 0; view && i < view->header->group_count; i++) {
        if (!view->groups[i].primary ||
            map_group_in_sync_count(&view->groups[i]) < world->header.copies)
            return false;
    }
    return view != NULL;
}

static void await_sync(struct world *world)
{
    uint64_t end_ns = env_now_ns() + 300 * NS_PER_S;
    while (!all_in_sync(world) && env_now_ns() < end_ns)
        fiber_sleep(50 * NS_PER_MS);
    check(world, all_in_sync(world) ? 0 : -ETIME, "in sync");
}

static void caller_init(struct world *world)
{
    const struct rpc_identity identity = {.incarnation = 1, .session = env_entropy_u64() | 1};
    struct net_addr seeds[NODES];
    for (uint32_t i = 0; i < NODES; i++)
        map_node_addr(&world->nodes[i], &seeds[i]);
    world->rpc = rpc_new(&identity);
    world->map = map_client_start(world->rpc, seeds, NODES, NULL, NULL);
    world->model = mem_zalloc(FILE_BYTES);
    world->noise = mem_alloc(2 * DATA_IO_MAX);
    for (uint32_t i = 0; i < 2 * DATA_IO_MAX; i++)
        world->noise[i] = (uint8_t)random_u64(&world->random);
    await_sync(world);
}

static void work(struct world *world)
{
    struct worker workers[WORKERS];
    world->running = WORKERS;
    for (uint32_t i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){world, (uint64_t)i * SPAN};
        fiber_spawn("worker", worker_fiber, &workers[i]);
    }
    while (world->running > 0)
        fiber_sleep(NS_PER_MS);
}

/* ---- nodes come and go ----------------------------------------------------------------------- */

enum { ROUNDS = 5 };

static void churn_fiber(void *arg)
{
    struct world *world = arg;
    caller_init(world);
    for (world->round = 0; world->round < ROUNDS && !world->wrong; world->round++) {
        work(world);
        check_file(world);
        uint64_t cut = random_below(&world->random, FILE_BYTES);
        memset(world->model + cut, 0, FILE_BYTES - cut);
        const struct data_truncation truncation = {
            .ino = INO, .from_offset = cut, .size = FILE_BYTES, .order = world->round + 1};
        check(world,
              data_truncate_file(world->rpc, world->map, &truncation, env_now_ns() + DEADLINE_NS),
              "truncate");
        check_file(world);
    }
    await_sync(world);
    check_file(world);
    /* what was synced survives the loss of power everywhere */
    for (uint32_t i = 0; i < FILE_BYTES / OBJECT_BYTES; i++) {
        const struct data_request request = {.type = RPC_OBJ_SYNC, .ino = INO, .index = i};
        check(world,
              data_call(world->rpc, world->map, &request, (struct buf_slice){0},
                        env_now_ns() + DEADLINE_NS),
              "sync");
    }
    world->blackout = true;
    while (world->blackout)
        fiber_sleep(10 * NS_PER_MS);
    await_sync(world);
    check_file(world);
    world->done = true;
}

static bool is_done(void *context)
{
    return ((struct world *)context)->done;
}

static void quiet(void *context, enum log_level level, const char *line)
{
    struct world *world = context;
    if (getenv("CFS_TRACE"))
        (void)fprintf(stderr, "%8.3f %s\n", (double)sim_now_ns(world->sim) / 1e9, line);
}

static void world_init(struct world *world, uint64_t seed, fiber_fn caller)
{
    *world = (struct world){.sim = sim_new(seed)};
    random_init(&world->random, seed);
    log_set_sink(quiet, world);
    log_set_level(getenv("CFS_TRACE") ? LOG_DEBUG : LOG_INFO);
    world->header = (struct map_header){.level = 1, .copies = 2, .min_in_sync = 1};
    for (uint32_t i = 0; i < NODES; i++) {
        struct member *member = &world->members[i];
        struct map_node *node = &world->nodes[i];
        char ip[32];
        char text[40];
        struct net_addr addr;
        (void)snprintf(ip, sizeof ip, "10.0.0.%u", i + 1);
        (void)snprintf(text, sizeof text, "%s:%u", ip, PORT);
        (void)snprintf(member->disk, sizeof member->disk, "/disk%u", i + 1);
        assert_int_equal(net_addr_parse(text, &addr), 0);
        *node = (struct map_node){.id = i + 1, .host = i + 1, .port = addr.port, .voter = 1};
        memcpy(node->ip, addr.ip, sizeof node->ip);
        member->world = world;
        member->id = i + 1;
        member->sim_node = sim_node_new(world->sim, ip);
    }
    for (uint32_t i = 0; i < NODES; i++)
        member_start(&world->members[i]);
    struct sim_node *host = sim_node_new(world->sim, "10.0.0.100");
    reactor_spawn(sim_node_reactor(host), "caller", caller, world);
}

static void world_end(struct world *world)
{
    if (world->wrong)
        print_error("round %u: %s: %s\n", world->round, world->wrong, error_name(world->error));
    bool good = world->done && !world->wrong;
    log_set_sink(NULL, NULL);
    sim_free(world->sim);
    assert_true(good);
}

static void run_ms(struct world *world, uint64_t below_ms)
{
    uint64_t wait_ns = random_below(&world->random, below_ms) * NS_PER_MS;
    (void)sim_run_until(world->sim, is_done, world, sim_now_ns(world->sim) + wait_ns);
}

static void restart(struct member *member)
{
    if (sim_node_up(member->sim_node))
        sim_node_crash(member->sim_node);
    sim_node_restart(member->sim_node);
    member_start(member);
}

/* Whatever happened to it, in the end it serves, or is a new process. */
static void trouble(struct world *world, struct member *member)
{
    switch (random_below(&world->random, 5)) {
    case 0:
        sim_node_crash(member->sim_node);
        run_ms(world, 6000);
        restart(member);
        break;
    case 1:
        sim_node_power_off(member->sim_node);
        run_ms(world, 6000);
        restart(member);
        break;
    case 2:
        sim_pause(member->sim_node, true);
        run_ms(world, 5000);
        sim_pause(member->sim_node, false);
        break;
    case 3:
        sim_isolate(member->sim_node, true);
        run_ms(world, 8000);
        sim_isolate(member->sim_node, false);
        break;
    default: {
        const struct member *other = &world->members[member->id % NODES];
        sim_partition(member->sim_node, other->sim_node, true);
        run_ms(world, 8000);
        sim_partition(member->sim_node, other->sim_node, false);
    }
    }
}

static void blackout(struct world *world)
{
    for (uint32_t i = 0; i < NODES; i++) {
        if (sim_node_up(world->members[i].sim_node))
            sim_node_power_off(world->members[i].sim_node);
    }
    run_ms(world, 3000);
    for (uint32_t i = 0; i < NODES; i++)
        restart(&world->members[i]);
    world->blackout = false;
}

/* One node at a time is in trouble, and only while there are two copies of everything; the map
 * needs a moment to notice that there are not. */
static void churn(struct world *world)
{
    uint64_t end_ns = sim_now_ns(world->sim) + 3600 * NS_PER_S;
    while (!world->done && sim_now_ns(world->sim) < end_ns) {
        (void)sim_run_until(world->sim, is_done, world, sim_now_ns(world->sim) + NOTICE_NS);
        run_ms(world, 1500);
        for (uint32_t i = 0; i < NODES; i++) {
            struct member *member = &world->members[i];
            if (member->lease && map_lease_fenced(member->lease))
                restart(member);
        }
        if (world->blackout)
            blackout(world);
        if (!world->done && world->map && world->round < ROUNDS && all_in_sync(world))
            trouble(world, &world->members[random_below(&world->random, NODES)]);
    }
}

static void test_churn(void **state)
{
    uint64_t first = getenv("CFS_SEED") ? strtoull(getenv("CFS_SEED"), NULL, 10) : 1;
    uint64_t count = getenv("CFS_SEEDS") ? strtoull(getenv("CFS_SEEDS"), NULL, 10) : 5;
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct world world;
        world_init(&world, seed, churn_fiber);
        churn(&world);
        if (world.wrong || !world.done)
            print_error("seed %llu\n", (unsigned long long)seed);
        world_end(&world);
    }
}

/* ---- devices rot ----------------------------------------------------------------------------- */

/* On a node of its own: flip a bit in every row it holds of the file. */
static void rot_fiber(void *arg)
{
    struct member *member = arg;
    struct store_iter *iter = store_iter_new(member->store);
    struct slice key, value;
    store_iter_seek(iter, slice_of("\0\0\0\1", 4));
    while (store_iter_next(iter, slice_of("\1", 1), &key, &value) == 1) {
        struct data_row row;
        if (data_row_parse(key, value, &row) < 0)
            continue;
        sim_disk_flip_bit(member->world->sim, member->disk,
                          row.extent.block * DATA_BLOCK_BYTES + row.first % 4096, 5);
        member->flipped++;
    }
    store_iter_free(iter);
}

static void rot_caller(void *arg)
{
    struct world *world = arg;
    caller_init(world);
    work(world);
    await_sync(world);
    fiber_sleep(2 * NS_PER_S); /* all is on the devices */
    world->round = 1;          /* rot happens here */
    fiber_sleep(NS_PER_S);
    check_file(world);
    work(world); /* edges are merged with what is repaired */
    check_file(world);
    world->done = true;
}

static bool wants_rot(void *context)
{
    return ((struct world *)context)->round == 1;
}

static void test_rot(void **state)
{
    struct world world;
    struct data_counters sum = {0};
    world_init(&world, 9, rot_caller);
    assert_true(sim_run_until(world.sim, wants_rot, &world, 300 * NS_PER_S));
    const struct map_view *view = map_client_view(world.map);
    struct member *member =
        &world.members[map_view_of_object(view, INO, 0)->primary - 1]; /* it serves reads */
    reactor_spawn(sim_node_reactor(member->sim_node), "rot", rot_fiber, member);
    (void)sim_run_until(world.sim, is_done, &world, 3600 * NS_PER_S);
    for (uint32_t i = 0; i < NODES; i++) {
        struct data_counters counters;
        data_service_counters(world.members[i].data, &counters);
        sum.repairs += counters.repairs;
        sum.losses += counters.losses;
    }
    uint32_t flipped = member->flipped;
    world_end(&world);
    assert_true(flipped > 10);
    assert_true(sum.repairs > 0);
    assert_int_equal(sum.losses, 0);
}

/* Buffers that a killed node held are nobody's afterwards. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rot),
        cmocka_unit_test(test_churn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
