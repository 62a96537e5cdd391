/* SPDX-License-Identifier: MIT */
/* Goal: fibers, timers, wait queues, mutexes and hooks keep their promises.
 * Method: run them in a one-node world and look at what they recorded. */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "env/env_test_util.h"
#include "env/sim.h"

struct world {
    struct sim *sim;
    struct sim_node *node;
    uint32_t count;
    uint64_t order[64];
    struct waitq queue;
    struct fiber_mutex mutex;
    struct turn_hook hook;
    bool flag;
};

static struct world *world_now; /* for callbacks that carry no context */

static int setup(void **state)
{
    struct world *world = mem_zalloc(sizeof *world);
    world->sim = sim_new(1);
    world->node = sim_node_new(world->sim, "10.0.0.1");
    waitq_init(&world->queue);
    fiber_mutex_init(&world->mutex);
    world_now = world;
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    sim_free(world->sim);
    mem_free(world);
    return 0;
}

static void spawn(struct world *world, fiber_fn fn, void *arg)
{
    reactor_spawn(sim_node_reactor(world->node), "test", fn, arg);
}

static void count_and_yield(void *arg)
{
    struct world *world = arg;
    volatile char stack[512];
    stack[0] = 1;
    fiber_yield();
    world->count += stack[0] == 1;
}

static void spawn_many(void *arg)
{
    for (int i = 0; i < 10000; i++)
        fiber_spawn("many", count_and_yield, arg);
}

static void test_ten_thousand(void **state)
{
    struct world *world = *state;
    for (int round = 0; round < 2; round++) {
        spawn(world, spawn_many, world);
        sim_run_for(world->sim, NS_PER_S);
    }
    assert_int_equal(world->count, 20000);
}

static void sleeper(void *arg)
{
    uint64_t index = (uintptr_t)arg;
    fiber_sleep((20 - index) * NS_PER_MS);
    world_now->order[world_now->count++] = index;
}

static void test_sleep_order(void **state)
{
    struct world *world = *state;
    for (uintptr_t i = 0; i < 20; i++)
        spawn(world, sleeper, (void *)i);
    sim_run_for(world->sim, NS_PER_S);
    assert_int_equal(world->count, 20);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(world->order[i], 19 - i);
}

static void waiter(void *arg)
{
    uint64_t index = (uintptr_t)arg;
    uint64_t deadline_ns = index == 1 ? env_now_ns() + NS_PER_MS : 0;
    int result = waitq_wait(&world_now->queue, deadline_ns);
    world_now->order[world_now->count++] = index * 10 + (result == -ERR_TIMED_OUT);
}

static void waker(void *arg)
{
    fiber_sleep(5 * NS_PER_MS);
    waitq_wake_one(&world_now->queue);
    fiber_sleep(5 * NS_PER_MS);
    waitq_wake_all(&world_now->queue);
    world_now->flag = waitq_empty(&world_now->queue);
}

static void test_waitq(void **state)
{
    struct world *world = *state;
    for (uintptr_t i = 0; i < 4; i++)
        spawn(world, waiter, (void *)i);
    spawn(world, waker, NULL);
    sim_run_for(world->sim, NS_PER_S);
    const uint64_t expected[] = {11, 0, 20, 30};
    assert_int_equal(world->count, 4);
    assert_memory_equal(world->order, expected, sizeof expected);
    assert_true(world->flag);
}

static void locker(void *arg)
{
    for (int i = 0; i < 3; i++) {
        fiber_mutex_lock(&world_now->mutex);
        assert(!world_now->flag);
        world_now->flag = true;
        fiber_sleep(NS_PER_MS);
        world_now->order[world_now->count++] = (uintptr_t)arg;
        world_now->flag = false;
        fiber_mutex_unlock(&world_now->mutex);
    }
}

static void test_mutex_is_fair(void **state)
{
    struct world *world = *state;
    for (uintptr_t i = 0; i < 5; i++)
        spawn(world, locker, (void *)i);
    sim_run_for(world->sim, NS_PER_S);
    assert_int_equal(world->count, 15);
    for (uint64_t i = 0; i < 15; i++)
        assert_int_equal(world->order[i], i % 5);
    assert_null(world->mutex.owner);
}

static void hook_ran(struct turn_hook *hook)
{
    world_now->order[world_now->count++] = 100;
}

static void hooker(void *arg)
{
    turn_hook_schedule(&world_now->hook);
    turn_hook_schedule(&world_now->hook);
    world_now->order[world_now->count++] = (uintptr_t)arg;
}

static void test_hook_runs_once_after_fibers(void **state)
{
    struct world *world = *state;
    turn_hook_init(&world->hook, hook_ran);
    for (uintptr_t i = 0; i < 3; i++)
        spawn(world, hooker, (void *)i);
    sim_run_for(world->sim, NS_PER_S);
    const uint64_t expected[] = {0, 1, 2, 100};
    assert_int_equal(world->count, 4);
    assert_memory_equal(world->order, expected, sizeof expected);
}

enum { TIMERS = 40 };
static struct timer timers[TIMERS];

static void timer_ran(struct timer *timer)
{
    world_now->order[world_now->count++] = (uint64_t)(timer - timers);
}

static void arm_timers(void *arg)
{
    uint64_t now_ns = env_now_ns();
    for (uint64_t i = 0; i < TIMERS; i++) {
        timer_init(&timers[i], timer_ran);
        timer_arm(&timers[i], now_ns + 1 + (i * 17 % TIMERS) * NS_PER_US);
    }
    for (uint64_t i = 0; i < TIMERS; i += 2)
        timer_cancel(&timers[i]);
    timer_cancel(&timers[0]);
    timer_arm(&timers[1], now_ns + NS_PER_S / 2);
}

static void test_timers(void **state)
{
    struct world *world = *state;
    spawn(world, arm_timers, NULL);
    sim_run_for(world->sim, NS_PER_S);
    assert_int_equal(world->count, TIMERS / 2);
    assert_int_equal(world->order[world->count - 1], 1);
    for (uint32_t i = 1; i + 1 < world->count; i++)
        assert_true(world->order[i - 1] * 17 % TIMERS < world->order[i] * 17 % TIMERS);
}

/* Run fn in a fiber of a child process; the signal that ended it. */
static int death_of(fiber_fn fn)
{
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none); /* only spares a core file */
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        (void)!freopen("/dev/null", "w", stderr); /* only spares the log */
        struct sim *sim = sim_new(1);
        struct sim_node *node = sim_node_new(sim, "10.0.0.9");
        reactor_spawn(sim_node_reactor(node), "dies", fn, NULL);
        sim_run_for(sim, NS_PER_S);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void overflow(void *arg)
{
    volatile char big[4096];
    big[0] = (char)(uintptr_t)arg;
    if ((uintptr_t)arg < 10000)
        overflow((void *)((uintptr_t)arg + 1));
    big[1] = big[0];
}

static void yields_when_forbidden(void *arg)
{
    no_yield_begin();
    fiber_yield();
}

static void test_deaths(void **state)
{
    assert_int_equal(death_of(overflow), SIGSEGV);
    assert_int_equal(death_of(yields_when_forbidden), SIGABRT);
}

static void test_addresses(void **state)
{
    struct net_addr addr;
    char text[NET_ADDR_TEXT_MAX];
    const char *good[] = {"1.2.3.4:7000", "[::1]:7000", "0.0.0.0:0", "[fe80::1:2]:65535"};
    const char *bad[] = {"",    "1.2.3.4",       "1.2.3.4:", ":1",           "[::1]", "[::1:7",
                         "a:1", "1.2.3.4:65536", "::1:7000", "1.2.3.4:-1",   "[]:1",  "[",
                         "[:",  "]:1",           "[1.2:3",   "1.2.3.4:7000x"};
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        assert_int_equal(net_addr_parse(good[i], &addr), 0);
        net_addr_print(&addr, text);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_int_equal(net_addr_parse(bad[i], &addr), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ten_thousand, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sleep_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waitq, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mutex_is_fair, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hook_runs_once_after_fibers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timers, setup, teardown),
        cmocka_unit_test(test_deaths),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
