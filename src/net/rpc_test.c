/* SPDX-License-Identifier: MIT */
/* Goal: what a caller gave up on one connection is not begun after what it sends on the next one
 * (I6), and whoever waits for a process that is known to be dead is told (rpc_cut). Method: two rpc
 * objects that pass for one caller, as the ends of its older and its newer connection would, and a
 * server that counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "env/sim.h"
#include "format/wire_net.h"
#include "net/rpc_internal.h"

enum { PINGS_MAX = 8 };

struct world {
    struct sim *sim;
    struct sim_node *client;
    struct net_addr addr;
    uint32_t served;
    bool deaf; /* the server takes requests and never answers */
    int listening;
    int results[PINGS_MAX];
    uint32_t result_count;
    bool done;
};

static void serve_ping(void *context, struct rpc_request *request)
{
    struct world *world = context;
    const struct wire_ping_rep reply = {0};
    world->served++;
    if (!world->deaf)
        rpc_reply(request, 0, &reply, (struct slice){0}, (struct buf_slice){0});
}

static void server_fiber(void *arg)
{
    struct world *world = arg;
    const struct rpc_identity identity = {.node = 1, .incarnation = 77};
    struct rpc *rpc = rpc_new(&identity);
    rpc_register(rpc, RPC_PING, serve_ping, world);
    world->listening = rpc_listen(rpc, &world->addr);
}

/* The caller, having made so many connections so far. */
static struct rpc *caller(uint64_t session, uint64_t connections)
{
    const struct rpc_identity identity = {.incarnation = 1, .session = session};
    struct rpc *rpc = rpc_new(&identity);
    rpc->connections = connections;
    return rpc;
}

static void ping(struct world *world, struct rpc *rpc)
{
    const struct wire_ping_req body = {0};
    uint64_t begin_ns = env_now_ns();
    struct rpc_call call = {
        .type = RPC_PING, .body = &body, .deadline_ns = begin_ns + 60 * NS_PER_S};
    world->results[world->result_count++] = rpc_call(rpc, &world->addr, &call);
    rpc_call_fini(&call);
}

static bool is_done(void *context)
{
    return ((struct world *)context)->done;
}

static void world_run(struct world *world, fiber_fn body)
{
    *world = (struct world){.sim = sim_new(1)};
    struct sim_node *server = sim_node_new(world->sim, "10.0.0.1");
    world->client = sim_node_new(world->sim, "10.0.0.2");
    assert_int_equal(net_addr_parse("10.0.0.1:7000", &world->addr), 0);
    reactor_spawn(sim_node_reactor(server), "server", server_fiber, world);
    sim_run_for(world->sim, NS_PER_S);
    assert_int_equal(world->listening, 0);
    reactor_spawn(sim_node_reactor(world->client), "client", body, world);
    assert_true(sim_run_until(world->sim, is_done, world, sim_now_ns(world->sim) + 300 * NS_PER_S));
    sim_free(world->sim);
}

static void old_and_new(void *arg)
{
    struct world *world = arg;
    struct rpc *before = caller(5, 0), *now = caller(5, 9), *other = caller(6, 0);
    ping(world, before); /* its connection is the first */
    ping(world, other);
    ping(world, now);    /* the tenth: what comes on the first is void now */
    ping(world, before); /* closed meanwhile, or while this was on the way */
    fiber_sleep(NS_PER_S);
    ping(world, before); /* the second: older, too, and refused at HELLO */
    ping(world, now);
    ping(world, other);
    world->done = true;
}

static void test_old_connection(void **state)
{
    static const int expected[] = {0, 0, 0, -ERR_CONN_LOST, -ERR_CONN_LOST, 0, 0};
    struct world world;
    world_run(&world, old_and_new);
    assert_int_equal(world.result_count, ARRAY_COUNT(expected));
    assert_memory_equal(world.results, expected, sizeof expected);
    assert_int_equal(world.served, 5);
}

static void no_caller(void *arg)
{
    struct world *world = arg;
    struct rpc *one = caller(0, 0), *two = caller(0, 5); /* no session: anybody */
    ping(world, one);
    ping(world, two);
    ping(world, one);
    world->done = true;
}

static void test_no_session(void **state)
{
    struct world world;
    world_run(&world, no_caller);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(world.results[i], 0);
}

struct cutter {
    struct world *world;
    struct rpc *rpc;
};

static void cut_fiber(void *arg)
{
    struct cutter *cutter = arg;
    fiber_sleep(100 * NS_PER_MS);
    rpc_cut(cutter->rpc, &cutter->world->addr);
}

static void cut_one(void *arg)
{
    struct world *world = arg;
    struct cutter cutter = {world, caller(5, 0)};
    rpc_cut(cutter.rpc, &world->addr); /* never spoken to: nothing to do */
    world->deaf = true;
    fiber_spawn("cut", cut_fiber, &cutter);
    ping(world, cutter.rpc);
    world->deaf = false;
    ping(world, cutter.rpc); /* the next call connects anew */
    world->done = true;
}

static void test_cut(void **state)
{
    struct world world;
    world_run(&world, cut_one);
    assert_int_equal(world.results[0], -ERR_CONN_LOST);
    assert_int_equal(world.results[1], 0);
    assert_int_equal(world.served, 2);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_old_connection),
                                       cmocka_unit_test(test_no_session),
                                       cmocka_unit_test(test_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
