/* SPDX-License-Identifier: MIT */
/* Goal: the reactor over io_uring moves messages of every size in order, refuses nonsense, keeps
 * what it wrote to disk, and sleeps when idle.
 * Method: a main fiber per test talks to a server in the same reactor over loopback; raw sockets
 * play the peer that is no ClaudeFS. */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/random.h"
#include "env/env_test_util.h"
#include "env/linux.h"
#include "env/linux/linux_internal.h"

struct run {
    struct reactor *reactor;
    struct listener *listener;
    struct net_addr addr;
    uint32_t got;
    uint32_t bad;
    uint32_t conns_accepted; /* at the server */
    uint32_t conns_closed;
    int server_error;
    int client_error;
    int results[16];
    uint64_t numbers[4];
    struct conn *conn;
    struct waitq progress;
    fiber_fn fn;
};

static struct run *run_now;

static void main_fiber(void *arg)
{
    struct run *run = arg;
    run->fn(run);
    linux_reactor_stop(run->reactor);
}

/* mode 1: without the shared receive buffers; 2: without copies when sending. */
static void run_start(struct run *run, fiber_fn fn, int mode)
{
    *run = (struct run){.fn = fn};
    waitq_init(&run->progress);
    run_now = run;
    assert_int_equal(linux_reactor_new(&run->reactor), 0);
    struct linux_reactor *internals = linux_of(run->reactor);
    struct io_uring_buf_ring *ring = internals->recv_ring;
    if (mode == 1)
        internals->recv_ring = NULL;
    internals->zerocopy_always = mode == 2;
    reactor_spawn(run->reactor, "main", main_fiber, run);
    assert_int_equal(linux_reactor_run(run->reactor), 0);
    internals->recv_ring = ring;
    linux_reactor_free(run->reactor);
}

/* ---- network ------------------------------------------------------------------------------ */

static void server_message(struct conn *conn, void *context, struct msg *msg)
{
    struct buf_slice payload = {msg->payload, 0, msg->payload_bytes};
    conn_send(conn, msg->header, (uint32_t)sizeof *msg->header + msg->body_bytes, payload);
    msg_free(msg);
}

static void server_closed(struct conn *conn, void *context, int error)
{
    struct run *run = context;
    run->conns_closed++;
    run->server_error = error;
    waitq_wake_all(&run->progress);
}

static const struct conn_ops server_ops = {server_message, server_closed};

static void accepted(struct listener *listener, void *context, struct conn *conn)
{
    struct run *run = context;
    run->conns_accepted++;
    conn_set_ops(conn, &server_ops, context);
}

static void client_message(struct conn *conn, void *context, struct msg *msg)
{
    struct run *run = context;
    run->bad += !test_msg_ok(msg) || msg->header->request_id != run->got;
    run->got++;
    msg_free(msg);
    waitq_wake_all(&run->progress);
}

static void client_closed(struct conn *conn, void *context, int error)
{
    struct run *run = context;
    run->client_error = error;
    run->conn = NULL;
    waitq_wake_all(&run->progress);
}

static const struct conn_ops client_ops = {client_message, client_closed};

static void listen_here(struct run *run)
{
    int error = net_addr_parse("127.0.0.1:0", &run->addr);
    assert(error == 0);
    error = net_listen(&run->addr, accepted, run, &run->listener);
    assert(error == 0);
    listener_addr(run->listener, &run->addr);
    assert(run->addr.port != 0);
}

static int connect_here(struct run *run)
{
    return net_connect(&run->addr, env_now_ns() + NS_PER_S, &client_ops, run, &run->conn);
}

static void wait_for(struct run *run, const uint32_t *counter, uint32_t count)
{
    uint64_t deadline_ns = env_now_ns() + 20 * NS_PER_S;
    while (*counter < count && waitq_wait(&run->progress, deadline_ns) == 0)
        continue;
}

static void echo_sizes(void *arg)
{
    static const uint32_t sizes[] = {0,     1,       4096,    16384,   16385,  65536,  100,
                                     70000, 1 << 20, 4 << 20, 4194303, 131072, 262144, 0};
    struct run *run = arg;
    uint32_t id = 0;
    listen_here(run);
    run->results[0] = connect_here(run);
    for (int round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < ARRAY_COUNT(sizes); i++, id++)
            test_send(run->conn, id, i == 3 ? WIRE_BODY_MAX : i * 100, sizes[i]);
        wait_for(run, &run->got, id);
        for (uint32_t i = 0; i < 300; i++, id++)
            test_send(run->conn, id, i % 7, round == 2 ? i * 10 : 0);
        run->results[1] |= conn_wait_backlog(run->conn, 1, env_now_ns() + NS_PER_S);
    }
    wait_for(run, &run->got, id);
    run->numbers[0] = id;
    run->numbers[1] = conn_backlog(run->conn);
    conn_close(run->conn);
    wait_for(run, &run->conns_closed, 1);
    run->results[2] = run->server_error;
}

static void test_echo(void **state)
{
    for (int mode = 0; mode < 3; mode++) {
        struct run run;
        run_start(&run, echo_sizes, mode);
        assert_int_equal(run.results[0], 0);
        assert_int_equal(run.results[1], 0);
        assert_int_equal(run.got, run.numbers[0]);
        assert_int_equal(run.bad, 0);
        assert_int_equal(run.numbers[1], 0);
        assert_int_equal(run.results[2], -ERR_CONN_LOST);
        assert_int_equal(run.client_error, 0); /* no callback after the own close */
    }
}

static void refused(void *arg)
{
    struct run *run = arg;
    struct net_addr other;
    listen_here(run);
    other = run->addr;
    run->results[0] = net_listen(&other, accepted, run, &run->listener);
    listener_close(run->listener);
    fiber_sleep(10 * NS_PER_MS);
    run->results[1] = connect_here(run);
    run->results[2] = net_listen(&other, accepted, run, &run->listener);
}

static void test_refused(void **state)
{
    struct run run;
    run_start(&run, refused, 0);
    assert_int_equal(run.results[0], -EADDRINUSE);
    assert_int_equal(run.results[1], -ERR_CONN_REFUSED);
    assert_int_equal(run.results[2], 0);
}

static int raw_connect(const struct run *run)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(run->addr.port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert(fd >= 0);
    int error = connect(fd, (struct sockaddr *)&addr, sizeof addr);
    assert(error == 0);
    return fd;
}

static void raw_send(int fd, const void *data, size_t bytes)
{
    (void)!send(fd, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT); /* it may have been closed */
}

static void bad_header(void *arg)
{
    struct run *run = arg;
    listen_here(run);
    for (uint32_t i = 0; i < 5; i++) {
        struct wire_header header = {.type = TEST_RPC_TYPE};
        wire_header_seal(&header, NULL);
        if (i == 0)
            header.magic ^= 1;
        if (i == 1)
            header.version++;
        if (i == 2)
            header.body_bytes = UINT32_MAX;
        if (i == 3)
            header.payload_bytes = WIRE_PAYLOAD_MAX + 1;
        if (i == 4)
            header.head_crc ^= 1;
        int fd = raw_connect(run);
        raw_send(fd, &header, sizeof header);
        wait_for(run, &run->conns_closed, i + 1);
        run->results[i] = run->server_error;
        char byte;
        run->results[5] |= linux_fd_read(fd, &byte, 1) > 0;
        close(fd);
    }
}

static void test_bad_header_closes(void **state)
{
    struct run run;
    const int expected[] = {-ERR_CORRUPT_WIRE, -ERR_WRONG_VERSION, -ERR_CORRUPT_WIRE,
                            -ERR_CORRUPT_WIRE, -ERR_CORRUPT_WIRE,  0};
    run_start(&run, bad_header, 0);
    assert_memory_equal(run.results, expected, sizeof expected);
}

/* A valid message, or a stream of some, with random damage, cut anywhere. */
static size_t noise(struct random *random, uint8_t *data, size_t room)
{
    size_t bytes = 0;
    while (bytes + 5000 < room && random_chance(random, 3, 4)) {
        struct wire_header header = {.type = TEST_RPC_TYPE,
                                     .body_bytes = (uint32_t)random_below(random, 2000),
                                     .payload_bytes = (uint32_t)random_below(random, 2000)};
        uint8_t *body = data + bytes + sizeof header;
        test_pattern(body, header.body_bytes + header.payload_bytes, bytes);
        wire_header_seal(&header, body);
        memcpy(data + bytes, &header, sizeof header);
        bytes += sizeof header + header.body_bytes + header.payload_bytes;
    }
    if (random_chance(random, 1, 3)) {
        bytes = random_below(random, room);
        for (size_t i = 0; i < bytes; i++)
            data[i] = (uint8_t)random_u64(random);
    }
    for (uint64_t i = random_below(random, 4); bytes > 0 && i > 0; i--)
        data[random_below(random, bytes)] ^= (uint8_t)(1u << random_below(random, 8));
    return bytes ? random_below(random, bytes) + 1 : 0;
}

static void fuzz(void *arg)
{
    static uint8_t data[64 << 10];
    struct run *run = arg;
    struct random random;
    random_init(&random, 42);
    listen_here(run);
    enum { ROUNDS = 400 };
    for (uint32_t i = 0; i < ROUNDS; i++) {
        int fd = raw_connect(run);
        size_t bytes = noise(&random, data, sizeof data);
        for (size_t at = 0; at < bytes;) {
            size_t piece = MIN(bytes - at, 1 + random_below(&random, 20000));
            raw_send(fd, data + at, piece);
            at += piece;
            fiber_yield();
        }
        if (random_chance(&random, 1, 2))
            shutdown(fd, SHUT_WR);
        else
            (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, 8); /* reset */
        close(fd);
    }
    fiber_sleep(20 * NS_PER_MS); /* some were reset before they were accepted: not all count */
    wait_for(run, &run->conns_closed, run->conns_accepted);
    run->results[0] = connect_here(run);
    test_send(run->conn, 0, 10, 10);
    wait_for(run, &run->got, 1);
}

static void test_fuzz(void **state)
{
    for (int mode = 0; mode < 2; mode++) {
        struct run run;
        run_start(&run, fuzz, mode);
        assert_int_equal(run.conns_closed, run.conns_accepted - 1);
        assert_true(run.conns_closed > 100);
        assert_int_equal(run.results[0], 0);
        assert_int_equal(run.got, 1);
        assert_int_equal(run.bad, 0);
    }
}

static void closing_message(struct conn *conn, void *context, struct msg *msg)
{
    struct run *run = context;
    if (msg->header->request_id == 3) {
        conn_close(conn); /* with answers queued and more arriving */
        run->conns_closed++;
    } else {
        server_message(conn, context, msg);
        return;
    }
    msg_free(msg);
}

static const struct conn_ops closing_ops = {closing_message, server_closed};

static void closing_accepted(struct listener *listener, void *context, struct conn *conn)
{
    struct run *run = context;
    run->conns_accepted++;
    conn_set_ops(conn, &closing_ops, context);
}

static void backlog_waiter(void *arg)
{
    struct run *run = arg;
    if (run->conn)
        run->bad += conn_wait_backlog(run->conn, 1, env_now_ns() + 5 * NS_PER_S) > 0;
    run->numbers[2]++;
    waitq_wake_all(&run->progress);
}

enum { WINDOW_MESSAGES = 30000, WINDOW_BODY = 440, WINDOW_BYTES = 64 + WINDOW_BODY };

/* Reads all that was sent, in odd pieces, and checks every message of the stream. */
static void window_reader(struct run *run, int fd)
{
    static uint8_t message[WINDOW_BYTES];
    uint32_t have = 0;
    while (run->got < WINDOW_MESSAGES) {
        uint32_t piece = MIN(1 + run->got % 500, WINDOW_BYTES - have);
        int64_t got = linux_fd_read(fd, message + have, piece);
        if (got <= 0)
            return;
        have += (uint32_t)got;
        if (have < WINDOW_BYTES)
            continue;
        const struct wire_header *header = (const struct wire_header *)(const void *)message;
        run->bad += header->request_id != run->got ||
                    !test_pattern_is(message + sizeof *header, WINDOW_BODY, run->got);
        run->got++;
        have = 0;
    }
}

/* Small messages, one a turn, to a peer that does not read until its window is full. */
static void full_window(void *arg)
{
    struct run *run = arg;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t in_bytes = sizeof in;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    run->results[0] = bind(listener, (struct sockaddr *)&in, sizeof in);
    run->results[1] = listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&in, &in_bytes);
    char text[32];
    snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(in.sin_port));
    run->results[2] = net_addr_parse(text, &run->addr);
    run->results[3] = connect_here(run);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    for (uint64_t id = 0; id < WINDOW_MESSAGES; id++) {
        test_send(run->conn, id, WINDOW_BODY, 0);
        fiber_yield();
    }
    fiber_sleep(NS_PER_MS);
    run->numbers[0] = conn_backlog(run->conn);
    window_reader(run, fd);
    fiber_sleep(NS_PER_MS);
    run->numbers[1] = conn_backlog(run->conn);
    conn_close(run->conn);
    close(fd);
    close(listener);
}

static void test_full_window(void **state)
{
    struct run run;
    run_start(&run, full_window, 0);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(run.results[i], 0);
    assert_true(run.numbers[0] > 0); /* it was full */
    assert_int_equal(run.numbers[1], 0);
    assert_int_equal(run.got, WINDOW_MESSAGES);
    assert_int_equal(run.bad, 0);
}

/* Either side closes in the middle of large transfers. */
static void close_anywhere(void *arg)
{
    enum { ROUNDS = 200 };
    struct run *run = arg;
    int error = net_addr_parse("127.0.0.1:0", &run->addr);
    assert(error == 0);
    error = net_listen(&run->addr, closing_accepted, run, &run->listener);
    assert(error == 0);
    listener_addr(run->listener, &run->addr);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        run->results[0] |= connect_here(run);
        run->got = 0;
        for (uint32_t id = 0; run->conn && id < 6; id++) {
            test_send(run->conn, id, 10, (i % 8) * 100000);
            if (id % 2)
                fiber_yield();
        }
        fiber_spawn("backlog", backlog_waiter, run);
        if (i % 3 == 0)
            fiber_yield();
        if (i % 3 == 0 && run->conn) {
            conn_close(run->conn);
            run->conn = NULL;
        }
        while (run->conn && waitq_wait(&run->progress, env_now_ns() + 5 * NS_PER_S) == 0)
            continue;
        run->results[1] += run->conn != NULL;
    }
    while (run->numbers[2] < ROUNDS)
        fiber_yield();
    fiber_sleep(20 * NS_PER_MS); /* some were reset before they were accepted: not all count */
    wait_for(run, &run->conns_closed, run->conns_accepted);
}

static void test_close_anywhere(void **state)
{
    for (int mode = 0; mode < 3; mode++) {
        struct run run;
        run_start(&run, close_anywhere, mode);
        assert_int_equal(run.results[0], 0);
        assert_int_equal(run.results[1], 0);
        assert_int_equal(run.bad, 0);
        assert_int_equal(run.conns_closed, run.conns_accepted);
        assert_true(run.conns_closed > 50);
    }
}

/* ---- disk ---------------------------------------------------------------------------------- */

static char disk_path[64];

static void disk_all(void *arg)
{
    struct run *run = arg;
    struct disk *disk, *again;
    uint8_t *data = mem_alloc_aligned(1 << 20, DISK_BLOCK_BYTES);
    uint8_t *back = mem_alloc_aligned(1 << 20, DISK_BLOCK_BYTES);
    run->results[0] = disk_open(disk_path, 0, 0, &disk);
    run->results[1] = disk_open(disk_path, 64 * MIB, DISK_CREATE, &disk);
    run->results[2] = disk_open(disk_path, 0, 0, &again);
    run->numbers[0] = disk_info(disk)->size_bytes;
    test_pattern(data, 1 << 20, 5);
    run->results[3] = disk_write(disk, 4096, data, 1 << 20);
    run->results[4] = disk_flush(disk);
    run->results[5] = disk_read(disk, 4096, back, 1 << 20);
    run->results[6] = memcmp(data, back, 1 << 20);
    run->results[7] = disk_discard(disk, 4096, 8192);
    run->results[8] = disk_read(disk, 4096, back, 4096);
    run->numbers[1] = back[17];
    run->results[9] = disk_read(disk, 63 * MIB, back, MIB);
    disk_close(disk);
    run->results[10] = disk_open(disk_path, MIB, DISK_CREATE, &disk);
    run->numbers[2] = disk_info(disk)->size_bytes;
    run->results[11] = disk_read(disk, 4096 + 8192, back, 4096);
    run->results[12] = memcmp(data + 8192, back, 4096);
    pid_t child = fork();
    if (child == 0) { /* only the lock matters: no ring is used in the child */
        int other = linux_disk_open(reactor_self(), disk_path, 0, 0, &again);
        _exit(other == -EBUSY ? 0 : 1);
    }
    run->results[13] = waitpid(child, &run->results[14], 0) != child;
    run->results[15] = disk_open("/dev", 0, 0, &again);
    disk_close(disk);
    mem_free(data);
    mem_free(back);
}

static void test_disk(void **state)
{
    const char *folders[] = {".", "/dev/shm"};
    for (size_t i = 0; i < ARRAY_COUNT(folders); i++) {
        struct run run;
        (void)snprintf(disk_path, sizeof disk_path, "%s/env-test-%d", folders[i], getpid());
        run_start(&run, disk_all, 0);
        unlink(disk_path);
        const int expected[16] = {[0] = -ENOENT, [2] = -EBUSY, [15] = -EINVAL};
        assert_memory_equal(run.results, expected, sizeof expected);
        assert_int_equal(run.numbers[0], 64 * MIB);
        assert_int_equal(run.numbers[1], 0);
        assert_int_equal(run.numbers[2], 64 * MIB);
    }
}

struct one_io {
    struct disk_io io;
    struct run *run;
};

static void one_done(struct disk_io *io)
{
    struct one_io *one = container_of(io, struct one_io, io);
    one->run->bad += io->result != 0;
    one->run->got++;
    waitq_wake_all(&one->run->progress);
}

/* More requests than the ring has entries, in one turn. */
static void disk_many(void *arg)
{
    enum { COUNT = 3000 };
    struct run *run = arg;
    struct disk *disk;
    struct one_io *ios = mem_zalloc(COUNT * sizeof *ios);
    uint8_t *data = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    memset(data, 7, DISK_BLOCK_BYTES);
    run->results[0] = disk_open(disk_path, 64 * MIB, DISK_CREATE, &disk);
    for (uint32_t i = 0; i < COUNT; i++) {
        ios[i].io = (struct disk_io){.op = DISK_WRITE,
                                     .offset = (uint64_t)i * DISK_BLOCK_BYTES,
                                     .data = data,
                                     .bytes = DISK_BLOCK_BYTES,
                                     .done = one_done};
        ios[i].run = run;
        disk_submit(disk, &ios[i].io);
    }
    wait_for(run, &run->got, COUNT);
    disk_close(disk);
    mem_free(data);
    mem_free(ios);
}

static void test_disk_many(void **state)
{
    struct run run;
    (void)snprintf(disk_path, sizeof disk_path, "/dev/shm/env-test-%d", getpid());
    run_start(&run, disk_many, 0);
    unlink(disk_path);
    assert_int_equal(run.results[0], 0);
    assert_int_equal(run.got, 3000);
    assert_int_equal(run.bad, 0);
}

/* ---- the rest ------------------------------------------------------------------------------- */

static uint64_t cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

static void idle(void *arg)
{
    struct run *run = arg;
    listen_here(run);
    run->results[0] = connect_here(run);
    uint64_t cpu_start_ns = cpu_ns();
    uint64_t start_ns = env_now_ns();
    fiber_sleep(300 * NS_PER_MS);
    run->numbers[0] = cpu_ns() - cpu_start_ns;
    run->numbers[1] = env_now_ns() - start_ns;
}

static void test_idle_costs_nothing(void **state)
{
    struct run run;
    run_start(&run, idle, 0);
    assert_int_equal(run.results[0], 0);
    assert_true(run.numbers[0] < 5 * NS_PER_MS);
    assert_true(run.numbers[1] >= 300 * NS_PER_MS);
}

static void on_signal(void *context, int signo)
{
    struct run *run = context;
    run->got += (uint32_t)signo;
    waitq_wake_all(&run->progress);
}

static void pipe_writer(void *arg)
{
    int fd = *(int *)arg;
    fiber_sleep(NS_PER_MS);
    struct iovec parts[2] = {{(void *)(uintptr_t) "ab", 2}, {(void *)(uintptr_t) "cde", 3}};
    int64_t put = linux_fd_writev(fd, parts, 2);
    assert(put == 5);
}

static void signals_and_pipes(void *arg)
{
    struct run *run = arg;
    int fds[2];
    char text[8] = "";
    run->results[0] = linux_reactor_on_signal(run->reactor, SIGUSR1, on_signal, run);
    run->results[1] = linux_reactor_on_signal(run->reactor, SIGUSR2, on_signal, run);
    raise(SIGUSR1);
    wait_for(run, &run->got, SIGUSR1);
    raise(SIGUSR2);
    wait_for(run, &run->got, SIGUSR1 + SIGUSR2);
    run->results[2] = pipe2(fds, O_NONBLOCK | O_CLOEXEC);
    run->results[3] = linux_fd_poll(fds[0], POLLIN, env_now_ns() + 10 * NS_PER_MS);
    fiber_spawn("writer", pipe_writer, &fds[1]);
    run->results[4] = (int)linux_fd_read(fds[0], text, sizeof text);
    run->results[5] = memcmp(text, "abcde", 6);
    close(fds[0]);
    close(fds[1]);
}

static void test_signals_and_pipes(void **state)
{
    struct run run;
    run_start(&run, signals_and_pipes, 0);
    const int expected[] = {0, 0, 0, -ERR_TIMED_OUT, 5, 0};
    assert_memory_equal(run.results, expected, sizeof expected);
    assert_int_equal(run.got, SIGUSR1 + SIGUSR2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bad_header_closes),
        cmocka_unit_test(test_fuzz),
        cmocka_unit_test(test_full_window),
        cmocka_unit_test(test_close_anywhere),
        cmocka_unit_test(test_disk),
        cmocka_unit_test(test_disk_many),
        cmocka_unit_test(test_idle_costs_nothing),
        cmocka_unit_test(test_signals_and_pipes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
