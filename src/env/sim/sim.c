/* SPDX-License-Identifier: MIT */
/* The simulated world: virtual time and nodes.
 *
 * Problem: a whole cluster must run in one thread, deterministically, faster than real time, with
 * crashes that leave nothing of a node but its disks.
 *
 * Picture: one heap of events ordered by (time, sequence). An event of a node enters its reactor,
 * makes the callbacks, and runs one turn; if fibers are still runnable the next turn comes
 * TURN_NS later (so that a fiber that polls lets time pass), else at the node's next timer.
 *
 * I1. Nothing but the seed and the test's calls decides what happens: no addresses, no real clock,
 *     no thread.
 * I2. What the world owns (events, links, packets, disks) is on the default heap; what a node's
 *     code sees (conn, disk, listener, messages) is on the node's heap and dies with it.
 * I3. An event whose node is paused is held, in order, until the node continues; one whose node is
 *     still busy with its last turn (slow hosts) comes when it is not.
 *
 * Not here: sim_net.c (connections), sim_disk.c (disks), sim_fault.c (what a crash leaves). */
#include <string.h>

#include "env/sim/sim_internal.h"

enum { TURN_NS = 1000, EVENT_ROOM_FIRST = 256 };
static const uint64_t time_first_ns = NS_PER_S;
static const uint64_t wall_first_ns = 1700000000ull * NS_PER_S;

void *sim_alloc(size_t bytes)
{
    struct mem_heap *before = mem_heap_set(NULL);
    void *memory = mem_zalloc(bytes);
    (void)mem_heap_set(before); /* the default one, known */
    return memory;
}

/* ---- events ------------------------------------------------------------------------------- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->sequence < b->sequence;
}

static void place(struct sim *sim, struct sim_event *event, uint32_t index)
{
    sim->events[index] = event;
    event->heap_index = index;
}

static void sift(struct sim *sim, struct sim_event *event, uint32_t index)
{
    while (index > 1 && before(event, sim->events[index / 2])) {
        place(sim, sim->events[index / 2], index);
        index /= 2;
    }
    for (;;) {
        uint32_t child = index * 2;
        if (child > sim->event_count)
            break;
        if (child < sim->event_count && before(sim->events[child + 1], sim->events[child]))
            child++;
        if (!before(sim->events[child], event))
            break;
        place(sim, sim->events[child], index);
        index = child;
    }
    place(sim, event, index);
}

void sim_event_init(struct sim_event *event, struct sim_node *node,
                    void (*fn)(struct sim *sim, struct sim_event *event))
{
    *event = (struct sim_event){.node = node, .fn = fn};
    list_init(&event->held);
}

static void events_grow(struct sim *sim)
{
    struct mem_heap *heap = mem_heap_set(NULL);
    sim->event_room = sim->event_room ? sim->event_room * 2 : EVENT_ROOM_FIRST;
    sim->events = mem_realloc(sim->events, sim->event_room * sizeof(struct sim_event *));
    (void)mem_heap_set(heap); /* the default one, known */
}

void sim_event_cancel(struct sim *sim, struct sim_event *event)
{
    list_remove(&event->held);
    if (!event->heap_index)
        return;
    assert(sim->events[event->heap_index] == event);
    uint32_t index = event->heap_index;
    struct sim_event *last = sim->events[sim->event_count--];
    event->heap_index = 0;
    if (last != event)
        sift(sim, last, index);
}

void sim_event_arm(struct sim *sim, struct sim_event *event, uint64_t at_ns)
{
    sim_event_cancel(sim, event);
    if (sim->event_count + 1 >= sim->event_room)
        events_grow(sim);
    event->at_ns = MAX(at_ns, sim->now_ns);
    event->sequence = sim->sequence++;
    sim->event_count++;
    sift(sim, event, sim->event_count);
}

void sim_trace(struct sim *sim, uint64_t what, uint64_t value)
{
    sim->trace =
        hash_u64(sim->trace ^ hash_u64(sim->now_ns + what) ^ value * 0x9e3779b97f4a7c15ull);
}

uint64_t sim_between(struct sim *sim, uint64_t min, uint64_t max)
{
    assert(min <= max);
    return min + random_below(&sim->random, max - min + 1);
}

bool sim_ppm(struct sim *sim, uint32_t ppm)
{
    return ppm != 0 && random_chance(&sim->random, ppm, 1000000);
}

/* ---- a node's clock and turns -------------------------------------------------------------- */

struct sim_node *sim_node_of(struct reactor *reactor)
{
    return container_of(reactor, struct sim_node, reactor);
}

static uint64_t node_now_ns(struct reactor *reactor)
{
    const struct sim_node *node = sim_node_of(reactor);
    __int128 drift = (__int128)node->sim->now_ns * node->clock_drift_ppm / 1000000;
    return node->sim->now_ns + (uint64_t)node->clock_offset_ns + (uint64_t)drift;
}

/* The first virtual time at which the node's clock shows at least local_ns. */
static uint64_t virtual_of(const struct sim_node *node, uint64_t local_ns)
{
    __int128 numerator = ((__int128)local_ns - node->clock_offset_ns) * 1000000;
    __int128 time = numerator / (1000000 + node->clock_drift_ppm);
    if (time < 0)
        return 0;
    return (uint64_t)time + (node->clock_drift_ppm != 0);
}

static uint64_t node_wall_ns(struct reactor *reactor)
{
    int64_t offset_ns = sim_node_of(reactor)->wall_offset_ns;
    return wall_first_ns + node_now_ns(reactor) + (uint64_t)offset_ns;
}

static uint64_t node_entropy(struct reactor *reactor)
{
    return random_u64(&sim_node_of(reactor)->sim->random);
}

static uint32_t node_pid(struct reactor *reactor)
{
    const struct sim_node *node = sim_node_of(reactor);
    return (node->index + 1) * 1000 + node->lives;
}

static void turn_plan(struct sim_node *node)
{
    struct sim *sim = node->sim;
    uint64_t deadline_ns = reactor_next_deadline(&node->reactor);
    if (reactor_runnable(&node->reactor))
        sim_event_arm(sim, &node->turn, sim->now_ns + TURN_NS);
    else if (deadline_ns)
        sim_event_arm(sim, &node->turn, virtual_of(node, deadline_ns));
    else
        sim_event_cancel(sim, &node->turn);
}

struct reactor_scope sim_node_begin(struct sim_node *node)
{
    assert(node->up && !node->paused && !reactor_current());
    return reactor_enter(&node->reactor);
}

void sim_node_end(struct sim_node *node, struct reactor_scope before_scope)
{
    reactor_turn(&node->reactor);
    reactor_leave(before_scope);
    node->busy_until_ns = node->sim->now_ns + node->turn_ns;
    turn_plan(node);
}

static void turn_event(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = event->node;
    sim_trace(sim, node->index + 1, node->reactor.switches);
    sim_node_end(node, sim_node_begin(node));
}

static void node_kick(struct reactor *reactor)
{
    struct sim_node *node = sim_node_of(reactor);
    if (reactor_current() != reactor)
        sim_event_arm(node->sim, &node->turn, node->sim->now_ns);
}

const struct env_backend sim_backend = {
    .now_ns = node_now_ns,
    .wall_ns = node_wall_ns,
    .entropy = node_entropy,
    .pid = node_pid,
    .kick = node_kick,
    .disk_open = sim_disk_open,
    .disk_close = sim_disk_close,
    .disk_submit = sim_disk_submit,
    .net_connect = sim_net_connect,
    .net_listen = sim_net_listen,
    .listener_close = sim_listener_close,
    .conn_send = sim_conn_send,
    .conn_close = sim_conn_close,
};

/* ---- nodes -------------------------------------------------------------------------------- */

struct sim_node *sim_node_new(struct sim *sim, const char *ip)
{
    struct sim_node *node = sim_alloc(sizeof *node);
    char text[NET_ADDR_TEXT_MAX];
    size_t bytes = strlen(ip);
    assert(sim->node_count < SIM_NODES_MAX && bytes + 3 <= sizeof text);
    memcpy(text, ip, bytes);
    memcpy(text + bytes, ":0", 3);
    int error = net_addr_parse(text, &node->addr);
    assert(error == 0);
    node->sim = sim;
    node->index = sim->node_count;
    sim->nodes[sim->node_count++] = node;
    node->up = true;
    node->powered = true;
    node->port_next = 40000;
    sim_event_init(&node->turn, node, turn_event);
    list_init(&node->held);
    list_init(&node->disk_ops);
    list_init(&node->listeners);
    list_init(&node->attempts);
    reactor_init(&node->reactor, &sim_backend, mem_heap_new(true));
    return node;
}

struct reactor *sim_node_reactor(struct sim_node *node)
{
    assert(node->up);
    return &node->reactor;
}

bool sim_node_up(const struct sim_node *node)
{
    return node->up;
}

uint64_t sim_node_heap_bytes(const struct sim_node *node)
{
    return node->up ? mem_heap_bytes(node->reactor.heap) : 0;
}

static void node_die(struct sim_node *node, bool power_lost)
{
    struct sim *sim = node->sim;
    struct list *link;
    assert(node->up && reactor_current() != &node->reactor);
    sim_trace(sim, 1000 + node->index, power_lost);
    node->up = false;
    node->powered = !power_lost;
    node->paused = false;
    sim_event_cancel(sim, &node->turn);
    sim_disk_node_died(node, power_lost);
    sim_net_node_died(node);
    while ((link = list_pop_front(&node->held)) != NULL)
        sim_event_cancel(sim, list_entry(link, struct sim_event, held));
    reactor_drop(&node->reactor);
    mem_heap_destroy(node->reactor.heap);
    node->reactor.heap = NULL;
}

void sim_node_crash(struct sim_node *node)
{
    node_die(node, false);
}

void sim_node_power_off(struct sim_node *node)
{
    node_die(node, true);
}

void sim_node_restart(struct sim_node *node)
{
    assert(!node->up && list_empty(&node->held) && list_empty(&node->disk_ops));
    node->reactor.heap = mem_heap_new(true);
    node->up = true;
    node->powered = true;
    node->lives++;
    sim_net_node_restarted(node);
}

void sim_pause(struct sim_node *node, bool on)
{
    struct list *link;
    struct list run;
    assert(node->up && reactor_current() != &node->reactor);
    if (node->paused == on)
        return;
    node->paused = on;
    if (on)
        return;
    list_init(&run);
    while ((link = list_pop_front(&node->held)) != NULL)
        list_push_back(&run, link);
    while ((link = list_pop_front(&run)) != NULL)
        sim_event_arm(node->sim, list_entry(link, struct sim_event, held), node->sim->now_ns);
}

void sim_node_set_clock(struct sim_node *node, int64_t offset_ns, int32_t drift_ppm)
{
    assert(drift_ppm > -100000 && drift_ppm < 100000);
    node->clock_offset_ns = offset_ns;
    node->clock_drift_ppm = drift_ppm;
}

void sim_node_jump_wall(struct sim_node *node, int64_t by_ns)
{
    assert(by_ns > -(int64_t)wall_first_ns / 2 && by_ns < (int64_t)wall_first_ns / 2);
    node->wall_offset_ns += by_ns;
}

void sim_node_set_turn(struct sim_node *node, uint64_t turn_ns)
{
    assert(turn_ns < NS_PER_S);
    node->turn_ns = turn_ns;
}

/* ---- the world ---------------------------------------------------------------------------- */

struct sim *sim_new(uint64_t seed)
{
    struct sim *sim = sim_alloc(sizeof *sim);
    random_init(&sim->random, seed);
    sim->now_ns = time_first_ns;
    sim->net = (struct sim_net_config){.delay_min_ns = 20 * NS_PER_US,
                                       .delay_max_ns = 80 * NS_PER_US,
                                       .bytes_per_us = 1000,
                                       .silence_timeout_ns = 5 * NS_PER_S};
    list_init(&sim->links);
    list_init(&sim->disks);
    return sim;
}

void sim_free(struct sim *sim)
{
    assert(!reactor_current());
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (sim->nodes[i]->up)
            node_die(sim->nodes[i], false);
    }
    sim_net_free(sim);
    sim_disks_free(sim);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        reactor_fini(&sim->nodes[i]->reactor);
        mem_free(sim->nodes[i]);
    }
    mem_free(sim->events);
    mem_free(sim);
}

uint64_t sim_now_ns(const struct sim *sim)
{
    return sim->now_ns;
}

uint64_t sim_random_u64(struct sim *sim)
{
    return random_u64(&sim->random);
}

uint64_t sim_trace_hash(const struct sim *sim)
{
    return sim->trace;
}

static void step(struct sim *sim)
{
    struct sim_event *event = sim->events[1];
    assert(event->at_ns >= sim->now_ns);
    sim->now_ns = event->at_ns;
    sim_event_cancel(sim, event);
    if (event->node && event->node->paused) /* I3 */
        list_push_back(&event->node->held, &event->held);
    else if (event->node && event->node->busy_until_ns > sim->now_ns)
        sim_event_arm(sim, event, event->node->busy_until_ns);
    else
        event->fn(sim, event);
}

bool sim_run_until(struct sim *sim, bool (*done)(void *context), void *context, uint64_t until_ns)
{
    assert(!reactor_current());
    for (;;) {
        if (done && done(context))
            return true;
        if (sim->event_count == 0 || sim->events[1]->at_ns > until_ns)
            break;
        step(sim);
    }
    sim->now_ns = MAX(sim->now_ns, until_ns);
    return false;
}

void sim_run_for(struct sim *sim, uint64_t duration_ns)
{
    (void)sim_run_until(sim, NULL, NULL, sim->now_ns + duration_ns); /* no condition */
}
