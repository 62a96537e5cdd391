/* SPDX-License-Identifier: MIT */
/* Goal: the simulated world is deterministic, its network behaves as TCP, its disks lose on power
 * loss exactly what was not flushed.
 * Method: small clusters; fibers record what they saw. */
#include "base/mem.h"
#include "env/env_test_util.h"
#include "env/sim.h"

enum { PORT = 7000, BLOCK = DISK_BLOCK_BYTES };

/* ---- network: an echo server and a client that checks ------------------------------------- */

struct echo {
    struct sim *sim;
    struct sim_node *server;
    struct sim_node *client;
    struct conn *conn; /* the client's */
    uint32_t got;
    uint32_t bad;
    int connect_result;
    int closed;
    uint64_t closed_ns;
};

static struct echo *echo_now;

static void server_message(struct conn *conn, void *context, struct msg *msg)
{
    struct buf_slice payload = {msg->payload, 0, msg->payload_bytes};
    conn_send(conn, msg->header, (uint32_t)sizeof *msg->header + msg->body_bytes, payload);
    msg_free(msg);
}

static void server_closed(struct conn *conn, void *context, int error)
{
}

static const struct conn_ops server_ops = {server_message, server_closed};

static void accepted(struct listener *listener, void *context, struct conn *conn)
{
    conn_set_ops(conn, &server_ops, NULL);
}

static void server_main(void *arg)
{
    struct net_addr addr;
    struct listener *listener;
    int error = net_addr_parse("0.0.0.0:7000", &addr);
    assert(error == 0);
    error = net_listen(&addr, accepted, NULL, &listener);
    assert(error == 0);
}

static void client_message(struct conn *conn, void *context, struct msg *msg)
{
    struct echo *echo = context;
    echo->bad += !test_msg_ok(msg) || msg->header->request_id != echo->got;
    echo->got++;
    msg_free(msg);
}

static void client_closed(struct conn *conn, void *context, int error)
{
    struct echo *echo = context;
    echo->closed = error;
    echo->closed_ns = sim_now_ns(echo->sim);
    echo->conn = NULL;
}

static const struct conn_ops client_ops = {client_message, client_closed};

static void client_main(void *arg)
{
    static const uint32_t sizes[] = {0, 1, 4095, 4096, 65536, 1 << 20, 4 << 20};
    struct echo *echo = arg;
    struct net_addr addr;
    int error = net_addr_parse("10.0.0.1:7000", &addr);
    assert(error == 0);
    echo->connect_result =
        net_connect(&addr, env_now_ns() + NS_PER_S, &client_ops, echo, &echo->conn);
    if (echo->connect_result)
        return;
    for (uint32_t i = 0; i < ARRAY_COUNT(sizes); i++)
        test_send(echo->conn, i, i * 1000, sizes[i]);
    error = conn_wait_backlog(echo->conn, 1, env_now_ns() + NS_PER_S);
    echo->bad += error == -ERR_TIMED_OUT;
}

static struct echo *echo_new(uint64_t seed)
{
    struct echo *echo = mem_zalloc(sizeof *echo);
    echo->sim = sim_new(seed);
    echo->server = sim_node_new(echo->sim, "10.0.0.1");
    echo->client = sim_node_new(echo->sim, "10.0.0.2");
    echo->connect_result = 1;
    echo_now = echo;
    reactor_spawn(sim_node_reactor(echo->server), "server", server_main, NULL);
    return echo;
}

static void echo_connect(struct echo *echo)
{
    reactor_spawn(sim_node_reactor(echo->client), "client", client_main, echo);
    sim_run_for(echo->sim, NS_PER_S);
}

static void echo_free(struct echo *echo)
{
    sim_free(echo->sim);
    mem_free(echo);
}

static void test_echo_and_determinism(void **state)
{
    uint64_t traces[3];
    for (uint32_t i = 0; i < 3; i++) {
        struct echo *echo = echo_new(i == 2 ? 6 : 5);
        echo_connect(echo);
        assert_int_equal(echo->connect_result, 0);
        assert_int_equal(echo->got, 7);
        assert_int_equal(echo->bad, 0);
        assert_int_equal(conn_backlog(echo->conn), 0);
        traces[i] = sim_trace_hash(echo->sim);
        echo_free(echo);
    }
    assert_true(traces[0] == traces[1]);
    assert_true(traces[0] != traces[2]);
}

static void test_refused_and_lost(void **state)
{
    struct echo *echo = echo_new(1);
    echo_connect(echo);
    uint64_t crash_ns = sim_now_ns(echo->sim);
    sim_node_crash(echo->server);
    sim_run_for(echo->sim, 10 * NS_PER_MS);
    assert_int_equal(echo->closed, -ERR_CONN_LOST);
    assert_true(echo->closed_ns - crash_ns < NS_PER_MS);
    echo_connect(echo);
    assert_int_equal(echo->connect_result, -ERR_CONN_REFUSED);
    sim_node_restart(echo->server);
    echo_connect(echo);
    assert_int_equal(echo->connect_result, -ERR_CONN_REFUSED);
    reactor_spawn(sim_node_reactor(echo->server), "server", server_main, NULL);
    echo->got = 0;
    echo_connect(echo);
    assert_int_equal(echo->connect_result, 0);
    assert_int_equal(echo->got, 7);
    echo_free(echo);
}

static void test_power_off_is_silent(void **state)
{
    struct echo *echo = echo_new(1);
    echo_connect(echo);
    sim_node_power_off(echo->server);
    sim_run_for(echo->sim, NS_PER_S);
    assert_int_equal(echo->closed, 0);
    sim_run_for(echo->sim, 5 * NS_PER_S);
    assert_int_equal(echo->closed, -ERR_CONN_LOST);
    echo_connect(echo);
    sim_run_for(echo->sim, 5 * NS_PER_S);
    assert_int_equal(echo->connect_result, -ERR_TIMED_OUT);
    echo_free(echo);
}

static void client_more(void *arg)
{
    struct echo *echo = arg;
    for (uint32_t i = 0; i < 5; i++)
        test_send(echo->conn, 7 + i, 10, 0);
}

static void test_partition_heals(void **state)
{
    struct echo *echo = echo_new(1);
    echo_connect(echo);
    sim_partition(echo->server, echo->client, true);
    reactor_spawn(sim_node_reactor(echo->client), "more", client_more, echo);
    sim_run_for(echo->sim, 2 * NS_PER_S);
    assert_int_equal(echo->got, 7);
    sim_partition(echo->server, echo->client, false);
    sim_run_for(echo->sim, NS_PER_S);
    assert_int_equal(echo->got, 12);
    assert_int_equal(echo->bad, 0);
    sim_isolate(echo->client, true);
    sim_run_for(echo->sim, 6 * NS_PER_S);
    assert_int_equal(echo->closed, -ERR_CONN_LOST);
    echo_free(echo);
}

/* Answers do not come, though requests arrive; then the connection is lost. */
static void test_one_way(void **state)
{
    struct echo *echo = echo_new(1);
    echo_connect(echo);
    sim_partition_one_way(echo->server, echo->client, true);
    reactor_spawn(sim_node_reactor(echo->client), "more", client_more, echo);
    sim_run_for(echo->sim, 2 * NS_PER_S);
    assert_int_equal(echo->got, 7);
    assert_int_equal(conn_backlog(echo->conn), 0); /* the server has them */
    sim_partition_one_way(echo->server, echo->client, false);
    sim_run_for(echo->sim, NS_PER_S);
    assert_int_equal(echo->got, 12);
    sim_partition_one_way(echo->client, echo->server, true);
    sim_run_for(echo->sim, 6 * NS_PER_S);
    assert_int_equal(echo->closed, -ERR_CONN_LOST);
    echo_free(echo);
}

/* Eight turns at 50 ms: one to accept, one per message. */
static void test_slow_host(void **state)
{
    struct echo *echo = echo_new(1);
    sim_node_set_turn(echo->server, 50 * NS_PER_MS);
    reactor_spawn(sim_node_reactor(echo->client), "client", client_main, echo);
    sim_run_for(echo->sim, 300 * NS_PER_MS);
    assert_in_range(echo->got, 1, 6);
    sim_run_for(echo->sim, 300 * NS_PER_MS);
    assert_int_equal(echo->got, 7);
    assert_int_equal(echo->bad, 0);
    echo_free(echo);
}

static void test_pause(void **state)
{
    struct echo *echo = echo_new(1);
    sim_run_for(echo->sim, NS_PER_MS);
    sim_pause(echo->server, true);
    echo_connect(echo);
    assert_int_equal(echo->connect_result, 0); /* the host's kernel answers */
    assert_int_equal(echo->got, 0);
    sim_pause(echo->server, false);
    sim_run_for(echo->sim, NS_PER_S);
    assert_int_equal(echo->got, 7);
    assert_int_equal(echo->bad, 0);
    reactor_spawn(sim_node_reactor(echo->client), "more", client_more, echo);
    sim_run_for(echo->sim, 10 * NS_PER_US); /* sent, not yet arrived */
    sim_pause(echo->client, true);
    sim_run_for(echo->sim, NS_PER_S);
    sim_pause(echo->client, false);
    sim_run_for(echo->sim, NS_PER_S);
    assert_int_equal(echo->got, 12);
    assert_int_equal(conn_backlog(echo->conn), 0);
    echo_free(echo);
}

/* ---- chaos: anything may happen, nothing may break ----------------------------------------- */

static void chaos_client(void *arg)
{
    struct echo *echo = arg;
    for (;;) {
        struct net_addr addr;
        int error = net_addr_parse("10.0.0.1:7000", &addr);
        assert(error == 0);
        if (!echo->conn) {
            echo->got = 0;
            echo->connect_result =
                net_connect(&addr, env_now_ns() + NS_PER_S, &client_ops, echo, &echo->conn);
        }
        for (uint32_t i = 0; echo->conn && i < 20; i++) {
            test_send(echo->conn, i, 10, i * 100);
            fiber_sleep(100 * NS_PER_US);
        }
        if (echo->conn) {
            conn_close(echo->conn);
            echo->conn = NULL;
        }
        fiber_sleep(100 * NS_PER_US);
    }
}

static void chaos_step(struct echo *echo)
{
    struct sim_node *node = sim_random_u64(echo->sim) % 2 ? echo->server : echo->client;
    switch (sim_random_u64(echo->sim) % 7) {
    case 0:
    case 1:
        if (!sim_node_up(node))
            break;
        if (sim_random_u64(echo->sim) % 2)
            sim_node_crash(node);
        else
            sim_node_power_off(node);
        break;
    case 2:
    case 3:
        if (sim_node_up(node))
            break;
        sim_node_restart(node);
        echo->conn = node == echo->client ? NULL : echo->conn;
        reactor_spawn(sim_node_reactor(node), "again",
                      node == echo->client ? chaos_client : server_main, echo);
        break;
    case 4:
        sim_partition(echo->server, echo->client, sim_random_u64(echo->sim) % 2);
        break;
    case 5:
        if (sim_node_up(node))
            sim_pause(node, sim_random_u64(echo->sim) % 2);
        break;
    default:
        sim_reset_conns(echo->client, echo->server);
    }
    sim_run_for(echo->sim, sim_random_u64(echo->sim) % (50 * NS_PER_MS));
}

static uint64_t chaos_run(uint64_t seed)
{
    struct echo *echo = echo_new(seed);
    reactor_spawn(sim_node_reactor(echo->client), "chaos", chaos_client, echo);
    for (int i = 0; i < 100; i++)
        chaos_step(echo);
    uint64_t trace = sim_trace_hash(echo->sim);
    echo_free(echo);
    return trace;
}

static void test_chaos(void **state)
{
    for (uint64_t seed = 0; seed < 100; seed++) {
        uint64_t trace = chaos_run(seed);
        if (seed < 10)
            assert_true(chaos_run(seed) == trace);
    }
}

/* ---- disk ---------------------------------------------------------------------------------- */

struct disk_test {
    int results[8];
    uint32_t step;
    struct disk_io durable;
};

enum { DURABLE_BLOCK = 40 };

static void fill(uint8_t *block, uint8_t value)
{
    memset(block, value, BLOCK);
}

static void durable_done(struct disk_io *io)
{
    struct disk_test *test = container_of(io, struct disk_test, durable);
    test->results[6] = io->result;
    test->step = 1;
}

static void disk_writer(void *arg)
{
    struct disk_test *test = arg;
    struct disk *disk;
    uint8_t *block = mem_alloc_aligned(BLOCK, BLOCK);
    test->results[0] = disk_open("/a", 1 * MIB, DISK_CREATE, &disk);
    assert(test->results[0] == 0);
    for (uint64_t i = 0; i < 64; i++) {
        fill(block, 1);
        test->results[1] |= disk_write(disk, i * BLOCK, block, BLOCK);
    }
    test->results[2] = disk_flush(disk);
    for (uint64_t i = 0; i < 64; i++) {
        fill(block, 2);
        test->results[3] |= disk_write(disk, i * BLOCK, block, BLOCK);
    }
    struct disk *again;
    test->results[4] = disk_open("/a", 0, 0, &again);
    test->results[5] = disk_open("/none", 0, 0, &again);
    fill(block, 3);
    test->durable = (struct disk_io){.op = DISK_WRITE,
                                     .offset = DURABLE_BLOCK * BLOCK,
                                     .data = block,
                                     .bytes = BLOCK,
                                     .durable = true,
                                     .done = durable_done};
    disk_submit(disk, &test->durable);
    fiber_sleep(0);
    fiber_sleep_until(0);
}

static void disk_power_loss(uint64_t seed, bool power, uint32_t counts[4])
{
    struct disk_test test = {0};
    struct sim *sim = sim_new(seed);
    struct sim_node *node = sim_node_new(sim, "10.0.0.1");
    reactor_spawn(sim_node_reactor(node), "writer", disk_writer, &test);
    sim_run_for(sim, NS_PER_S);
    assert_int_equal(test.step, 1);
    const int expected[] = {0, 0, 0, 0, -EBUSY, -ENOENT, 0};
    assert_memory_equal(test.results, expected, sizeof expected);
    assert_int_equal(sim_disk_blocks_dirty(sim, "/a"), 63);
    if (power)
        sim_node_power_off(node);
    else
        sim_node_crash(node);
    memset(counts, 0, 4 * sizeof *counts);
    for (uint64_t i = 0; i < 64; i++) {
        uint8_t block[BLOCK];
        sim_disk_peek(sim, "/a", i * BLOCK, block, BLOCK);
        bool whole = true;
        for (uint32_t at = 0; at < BLOCK; at++) {
            assert_true(i == DURABLE_BLOCK ? block[at] == 3 : block[at] == 1 || block[at] == 2);
            whole = whole && block[at] == block[0];
        }
        counts[whole ? block[0] : 0]++;
    }
    sim_free(sim);
}

static void test_power_loss(void **state)
{
    uint32_t counts[4];
    disk_power_loss(1, false, counts);
    assert_int_equal(counts[2], 63); /* a killed process loses nothing that was completed */
    for (uint64_t seed = 1; seed < 9; seed++) {
        disk_power_loss(seed, true, counts);
        assert_true(counts[0] > 0 && counts[1] > 0 && counts[2] > 0);
        assert_int_equal(counts[0] + counts[1] + counts[2], 63);
    }
}

static void disk_faults(void *arg)
{
    struct disk_test *test = arg;
    struct disk *disk;
    uint8_t *blocks = mem_alloc_aligned(4 * BLOCK, BLOCK);
    test->results[0] = disk_open("/f", 0, 0, &disk);
    test->results[1] = disk_read(disk, 0, blocks, 4 * BLOCK);
    test->results[2] = disk_read(disk, 0, blocks, BLOCK);
    memset(blocks, 3, 4 * BLOCK);
    test->results[3] = disk_write(disk, 0, blocks, 4 * BLOCK);
    test->results[4] = disk_read(disk, 0, blocks, 4 * BLOCK);
    test->results[5] = disk_discard(disk, 0, 4 * BLOCK);
    disk_close(disk);
    test->results[6] = disk_open("/f", 0, 0, &disk);
}

static void test_disk_faults(void **state)
{
    struct disk_test test = {0};
    struct sim *sim = sim_new(3);
    struct sim_node *node = sim_node_new(sim, "10.0.0.1");
    sim_disk_new(sim, "/f", MIB);
    sim_disk_break(sim, "/f", BLOCK + 100, 10);
    reactor_spawn(sim_node_reactor(node), "faults", disk_faults, &test);
    sim_run_for(sim, NS_PER_S);
    const int expected[] = {0, -EIO, 0, 0, 0, 0, 0};
    assert_memory_equal(test.results, expected, sizeof expected);
    uint8_t byte;
    sim_disk_poke(sim, "/f", 5000, "\x01", 1);
    sim_disk_flip_bit(sim, "/f", 5000, 3);
    sim_disk_peek(sim, "/f", 5000, &byte, 1);
    assert_int_equal(byte, 9);
    uint8_t before[MIB / 16], after[MIB / 16];
    sim_disk_peek(sim, "/f", 0, before, sizeof before);
    sim_disk_rot(sim, "/f");
    sim_disk_peek(sim, "/f", 0, after, sizeof after);
    uint32_t changed = 0;
    for (size_t i = 0; i < sizeof before; i++)
        changed += (uint32_t)__builtin_popcount(before[i] ^ after[i]);
    assert_int_equal(changed, 1);
    sim_free(sim);
}

static void disk_lies(void *arg)
{
    struct disk_test *test = arg;
    struct disk *disk;
    uint8_t *block = mem_alloc_aligned(BLOCK, BLOCK);
    memset(block, 3, BLOCK);
    test->results[0] = disk_open("/f", 0, 0, &disk);
    test->results[1] = disk_write(disk, 64 * BLOCK, block, BLOCK);
    test->results[2] = disk_read(disk, 64 * BLOCK, block, BLOCK);
    test->results[3] = block[0];
}

static void run_lie(uint32_t lost_ppm, uint32_t misdirected_ppm, int byte, uint64_t used)
{
    struct disk_test test = {0};
    struct sim *sim = sim_new(4);
    struct sim_node *node = sim_node_new(sim, "10.0.0.1");
    sim_disk_new(sim, "/f", MIB);
    struct sim_disk_config config = *sim_disk_config(sim, "/f");
    config.lost_ppm = lost_ppm;
    config.misdirected_ppm = misdirected_ppm;
    sim_disk_configure(sim, "/f", &config);
    reactor_spawn(sim_node_reactor(node), "lies", disk_lies, &test);
    sim_run_for(sim, NS_PER_S);
    const int expected[] = {0, 0, 0, byte};
    assert_memory_equal(test.results, expected, sizeof expected);
    assert_int_equal(sim_disk_blocks_used(sim, "/f"), used);
    assert_int_equal(sim_disk_writes(sim, "/f"), 1);
    sim_free(sim);
}

static void test_disk_lies(void **state)
{
    run_lie(0, 0, 3, 1);
    run_lie(1000000, 0, 0, 0);
    run_lie(0, 1000000, 0, 1);
}

/* ---- clock --------------------------------------------------------------------------------- */

static void sleep_one_second(void *arg)
{
    uint64_t start_ns = env_now_ns();
    fiber_sleep(NS_PER_S);
    *(uint64_t *)arg = env_now_ns() - start_ns;
}

static bool is_set(void *context)
{
    return *(uint64_t *)context != 0;
}

static void test_clock_drift(void **state)
{
    uint64_t slept_ns = 0;
    struct sim *sim = sim_new(3);
    struct sim_node *node = sim_node_new(sim, "10.0.0.1");
    sim_node_set_clock(node, 12345, -10000);
    reactor_spawn(sim_node_reactor(node), "sleep", sleep_one_second, &slept_ns);
    uint64_t start_ns = sim_now_ns(sim);
    assert_true(sim_run_until(sim, is_set, &slept_ns, 100 * NS_PER_S));
    uint64_t took_ns = sim_now_ns(sim) - start_ns;
    assert_in_range(slept_ns, NS_PER_S, NS_PER_S + 10);
    assert_in_range(took_ns, NS_PER_S * 1010 / 1000, NS_PER_S * 1011 / 1000);
    sim_free(sim);
}

static void read_wall(void *arg)
{
    *(uint64_t *)arg = env_wall_ns();
}

static void test_wall_jump(void **state)
{
    uint64_t before_ns = 0, after_ns = 0;
    struct sim *sim = sim_new(3);
    struct sim_node *node = sim_node_new(sim, "10.0.0.1");
    reactor_spawn(sim_node_reactor(node), "wall", read_wall, &before_ns);
    sim_run_for(sim, NS_PER_S);
    sim_node_jump_wall(node, -3600 * (int64_t)NS_PER_S);
    reactor_spawn(sim_node_reactor(node), "wall", read_wall, &after_ns);
    sim_run_for(sim, NS_PER_S);
    assert_true(after_ns < before_ns);
    sim_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo_and_determinism),
        cmocka_unit_test(test_refused_and_lost),
        cmocka_unit_test(test_power_off_is_silent),
        cmocka_unit_test(test_partition_heals),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_chaos),
        cmocka_unit_test(test_power_loss),
        cmocka_unit_test(test_disk_faults),
        cmocka_unit_test(test_clock_drift),
        cmocka_unit_test(test_one_way),
        cmocka_unit_test(test_slow_host),
        cmocka_unit_test(test_disk_lies),
        cmocka_unit_test(test_wall_jump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
