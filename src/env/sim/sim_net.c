/* SPDX-License-Identifier: MIT */
/* Simulated network: connections as TCP gives them, over virtual time.
 *
 * Picture: a link joins two ends. Each end has the queue of packets that are on the way to it, in
 * order, and one event for the first of them. What a node holds is a sim_conn pointing at its end.
 *
 *     conn_send -> packet in the other end's inbox -> (delay) arrive -> message callback
 *     conn_close, node death -> packet RESET behind the data -> closed callback at the other end
 *
 * I1. Packets of one direction arrive in order, or the connection is lost.
 * I2. end->conn is NULL before accept or connect have finished on that side, and after it closed;
 *     an end whose side is finished takes no packets.
 * I3. Across a cut nothing arrives; the first packet waits. A cut (of one direction, too), or a
 *     silent (powered off) peer, ends the connection on both sides after silence_timeout_ns.
 * I4. A link is freed when neither end has a conn or an unfinished handshake.
 *
 * A process that is paused still has a kernel: connections to it succeed, packets queue.
 *
 * Not here, because a stream connection hides it: a packet lost, doubled or overtaken inside a
 * connection. Loss is delay (slow messages), then the end of the connection; messages of different
 * connections overtake each other; a request comes twice because its sender repeats it. */
#include <string.h>

#include "env/sim/sim_internal.h"

enum { PORT_FIRST = 40000 };
static const uint64_t connect_timeout_ns = 10 * NS_PER_S;
static const uint64_t connect_retry_ns = NS_PER_S;

struct sim_link;

struct sim_conn {
    struct conn base;
    struct sim_end *end;
};

enum end_state {
    END_OPENING, /* not yet accepted, or the answer to connect is on the way */
    END_OPEN,
    END_FINISHED,
};

struct sim_end {
    struct sim_link *link;
    struct sim_node *node;
    struct sim_conn *conn;
    enum end_state state;
    struct sim_event arrival;
    struct list inbox; /* struct sim_packet */
    uint64_t due_last_ns;
};

struct sim_link {
    struct list link;
    struct sim_end ends[2]; /* [0] connected, [1] accepted */
    struct sim_event accept;
    struct sim_event loss; /* silence has lasted too long */
    struct net_addr client;
    struct net_addr server;
    uint32_t busy; /* users that go on after the ends may have finished */
};

struct sim_packet {
    struct list link;
    uint64_t due_ns;
    bool reset; /* end of the connection, no data */
    bool local; /* made by the host itself: crosses no path */
    uint32_t head_bytes;
    uint64_t bytes;
    struct buf *payload;
    uint8_t head[];
};

struct sim_listener {
    struct listener base;
    struct list link;
};

struct sim_attempt {
    struct sim_event event;
    struct list link; /* node->attempts */
    struct sim_node *node;
    struct net_addr target;
    struct sim_link *made; /* the host answered */
    struct waitq waiter;
    struct sim_conn *conn;
    int result; /* 1: not known yet */
};

static struct sim_end *other(struct sim_end *end)
{
    return &end->link->ends[end == &end->link->ends[0]];
}

static bool is_cut(const struct sim *sim, const struct sim_node *from, const struct sim_node *to)
{
    return (sim->cut[from->index][to->index / 64] >> to->index % 64) & 1;
}

/* Both hosts can hear each other. */
static bool path_works(const struct sim *sim, const struct sim_node *a, const struct sim_node *b)
{
    return a->powered && b->powered && !is_cut(sim, a, b) && !is_cut(sim, b, a);
}

static bool hears(const struct sim *sim, const struct sim_node *to, const struct sim_node *from)
{
    return to->powered && from->powered && !is_cut(sim, from, to);
}

static uint64_t delay_ns(struct sim *sim)
{
    uint64_t delay = sim_between(sim, sim->net.delay_min_ns, sim->net.delay_max_ns);
    if (sim_ppm(sim, sim->net.slow_ppm))
        delay += sim_between(sim, 0, sim->net.slow_ns);
    return delay;
}

/* ---- links -------------------------------------------------------------------------------- */

static void inbox_drop(struct sim *sim, struct sim_end *end)
{
    struct list *link;
    while ((link = list_pop_front(&end->inbox)) != NULL) {
        struct sim_packet *packet = list_entry(link, struct sim_packet, link);
        buf_put(packet->payload);
        mem_free(packet);
    }
    sim_event_cancel(sim, &end->arrival);
}

static void link_free(struct sim *sim, struct sim_link *link)
{
    for (uint32_t i = 0; i < 2; i++) {
        assert(!link->ends[i].conn);
        inbox_drop(sim, &link->ends[i]);
    }
    sim_event_cancel(sim, &link->accept);
    sim_event_cancel(sim, &link->loss);
    list_remove(&link->link);
    mem_free(link);
}

static void link_release(struct sim *sim, struct sim_link *link)
{
    assert(link->busy > 0);
    link->busy--;
    bool finished = link->ends[0].state == END_FINISHED && link->ends[1].state == END_FINISHED;
    if (!link->busy && finished)
        link_free(sim, link); /* I4 */
}

/* This side is done: it hears nothing more. The link may be gone afterwards, unless busy. */
static void end_finish(struct sim *sim, struct sim_end *end)
{
    struct sim_link *link = end->link;
    link->busy++;
    end->state = END_FINISHED;
    end->conn = NULL;
    inbox_drop(sim, end);
    link_release(sim, link);
}

/* Its owner can be called. */
static bool end_ready(const struct sim_end *end)
{
    return end->conn && end->conn->base.ops && !end->node->paused;
}

static void arrival_plan(struct sim *sim, struct sim_end *end)
{
    if (!list_empty(&end->inbox) && !end->arrival.heap_index && list_empty(&end->arrival.held))
        sim_event_arm(sim, &end->arrival, list_first(&end->inbox, struct sim_packet, link)->due_ns);
}

/* Put a packet on its way to an end. */
static void packet_post(struct sim *sim, struct sim_end *to, struct sim_packet *packet)
{
    if (to->state == END_FINISHED) {
        buf_put(packet->payload);
        mem_free(packet);
        return;
    }
    uint64_t wire_ns =
        sim->net.bytes_per_us ? packet->bytes * NS_PER_US / sim->net.bytes_per_us : 0;
    uint64_t start_ns = MAX(sim->now_ns + delay_ns(sim), to->due_last_ns);
    to->due_last_ns = start_ns + wire_ns;
    packet->due_ns = to->due_last_ns;
    list_push_back(&to->inbox, &packet->link);
    arrival_plan(sim, to);
}

static void reset_post(struct sim *sim, struct sim_end *to, bool local)
{
    struct sim_packet *packet = sim_alloc(sizeof *packet);
    packet->reset = true;
    packet->local = local;
    packet_post(sim, to, packet);
}

/* The connection ends here and now; calls into the node. */
static void end_lose(struct sim *sim, struct sim_end *end, int error)
{
    struct sim_conn *conn = end->conn;
    struct sim_node *node = end->node;
    end_finish(sim, end); /* the link may be gone: end is not used any more */
    assert(conn);
    conn->end = NULL;
    struct reactor_scope before = sim_node_begin(node);
    conn_over(&conn->base, error);
    mem_free(conn);
    sim_node_end(node, before);
}

/* ---- arrival ------------------------------------------------------------------------------ */

/* 0 and the message, or the reason why the peer's bytes are not one. */
static int packet_to_msg(struct sim_packet *packet, struct msg **ret_msg)
{
    struct wire_header header;
    memcpy(&header, packet->head, sizeof header);
    int error = wire_header_check(&header);
    if (error)
        return error;
    struct msg *msg = msg_new(header.body_bytes);
    *msg->header = header;
    memcpy(msg->body, packet->head + sizeof header, header.body_bytes);
    error = wire_header_check_crc(msg->header, msg->body);
    if (error) {
        msg_free(msg);
        return error;
    }
    msg->payload = packet->payload;
    msg->payload_bytes = header.payload_bytes;
    packet->payload = NULL;
    *ret_msg = msg;
    return 0;
}

/* The sender's kernel has been told that the bytes arrived. */
static void sender_credit(struct sim *sim, struct sim_end *from, uint64_t bytes)
{
    struct sim_node *node = from->node;
    if (!from->conn)
        return;
    if (node->paused) { /* its fibers learn of it when they go on */
        struct reactor_scope before = reactor_enter(&node->reactor);
        conn_sent(&from->conn->base, bytes);
        reactor_leave(before);
        sim_event_arm(sim, &node->turn, sim->now_ns);
        return;
    }
    struct reactor_scope before = sim_node_begin(node);
    conn_sent(&from->conn->base, bytes);
    sim_node_end(node, before);
}

static void deliver(struct sim *sim, struct sim_end *end, struct sim_packet *packet)
{
    struct sim_node *node = end->node;
    struct sim_conn *conn = end->conn;
    struct reactor_scope before = sim_node_begin(node);
    struct msg *msg;
    int error = packet_to_msg(packet, &msg);
    if (!error)
        conn_deliver(&conn->base, msg);
    sim_node_end(node, before);
    if (error && end->conn == conn) {
        reset_post(sim, other(end), false);
        end_lose(sim, end, error);
    }
}

static void arrive(struct sim *sim, struct sim_event *event)
{
    struct sim_end *end = container_of(event, struct sim_end, arrival);
    struct sim_end *from = other(end);
    struct sim_packet *packet = list_first(&end->inbox, struct sim_packet, link);
    if (!packet->local && !hears(sim, end->node, from->node))
        return;            /* planned anew when the path is healed; a loss event is armed */
    if (!end_ready(end)) { /* still opening */
        sim_event_arm(sim, event, sim->now_ns + NS_PER_US);
        return;
    }
    sim_trace(sim, 3000 + end->node->index, packet->bytes);
    list_remove(&packet->link);
    arrival_plan(sim, end);
    end->link->busy++;
    if (packet->reset) {
        end_lose(sim, end, -ERR_CONN_LOST);
    } else {
        deliver(sim, end, packet);
        sender_credit(sim, from, packet->bytes);
    }
    link_release(sim, end->link);
    buf_put(packet->payload);
    mem_free(packet);
}

static void link_lost(struct sim *sim, struct sim_event *event)
{
    struct sim_link *link = container_of(event, struct sim_link, loss);
    sim_trace(sim, 4000, link->ends[0].node->index * 64 + link->ends[1].node->index);
    link->busy++;
    for (uint32_t i = 0; i < 2; i++) {
        struct sim_end *end = &link->ends[i];
        if (end->state == END_FINISHED)
            continue;
        if (end_ready(end)) {
            end_lose(sim, end, -ERR_CONN_LOST);
        } else { /* hears of it as soon as it can */
            inbox_drop(sim, end);
            reset_post(sim, end, true);
        }
    }
    link_release(sim, link);
}

/* ---- listen, connect, accept --------------------------------------------------------------- */

static struct sim_listener *listener_find(struct sim_node *node, uint16_t port)
{
    struct sim_listener *listener;
    list_for_each (listener, &node->listeners, link) {
        if (listener->base.addr.port == port)
            return listener;
    }
    return NULL;
}

static bool addr_is_any(const struct net_addr *addr)
{
    static const uint8_t any4[16] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t any6[16];
    return memcmp(addr->ip, any4, 16) == 0 || memcmp(addr->ip, any6, 16) == 0;
}

static bool addr_is_loopback(const struct net_addr *addr)
{
    static const uint8_t loopback4[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};
    return memcmp(addr->ip, loopback4, sizeof loopback4) == 0;
}

static struct sim_node *node_find(struct sim_node *from, const struct net_addr *addr)
{
    struct sim *sim = from->sim;
    if (addr_is_loopback(addr))
        return from;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (memcmp(sim->nodes[i]->addr.ip, addr->ip, sizeof addr->ip) == 0)
            return sim->nodes[i];
    }
    return NULL;
}

int sim_net_listen(struct reactor *reactor, const struct net_addr *addr,
                   struct listener **ret_listener)
{
    struct sim_node *node = sim_node_of(reactor);
    uint16_t port = addr->port;
    if (!addr_is_any(addr) && node_find(node, addr) != node)
        return -EADDRNOTAVAIL;
    while (port == 0 || (addr->port == 0 && listener_find(node, port)))
        port = node->port_next++ | PORT_FIRST;
    if (listener_find(node, port))
        return -EADDRINUSE;
    struct sim_listener *listener = mem_zalloc(sizeof *listener);
    listener->base.reactor = reactor;
    listener->base.addr = *addr;
    listener->base.addr.port = port;
    list_push_back(&node->listeners, &listener->link);
    *ret_listener = &listener->base;
    return 0;
}

void sim_listener_close(struct listener *base)
{
    struct sim_listener *listener = container_of(base, struct sim_listener, base);
    list_remove(&listener->link);
    mem_free(listener);
}

static struct sim_conn *conn_make(struct sim_end *end, const struct net_addr *peer)
{
    struct sim_conn *conn = mem_zalloc(sizeof *conn);
    conn_init(&conn->base, &end->node->reactor, peer);
    conn->end = end;
    end->conn = conn;
    end->state = END_OPEN;
    return conn;
}

static void accept_event(struct sim *sim, struct sim_event *event)
{
    struct sim_link *link = container_of(event, struct sim_link, accept);
    struct sim_end *end = &link->ends[1];
    struct sim_listener *listener = listener_find(end->node, link->server.port);
    if (!listener) {
        reset_post(sim, other(end), false);
        end_finish(sim, end); /* the link is not used any more */
        return;
    }
    struct reactor_scope before = sim_node_begin(end->node);
    struct sim_conn *conn = conn_make(end, &link->client);
    listener->base.accepted(&listener->base, listener->base.context, &conn->base);
    sim_node_end(event->node, before);
}

static struct sim_link *link_new(struct sim *sim, struct sim_attempt *attempt,
                                 struct sim_node *server)
{
    struct sim_link *link = sim_alloc(sizeof *link);
    struct sim_node *nodes[2] = {attempt->node, server};
    for (uint32_t i = 0; i < 2; i++) {
        link->ends[i].link = link;
        link->ends[i].node = nodes[i];
        sim_event_init(&link->ends[i].arrival, nodes[i], arrive);
        list_init(&link->ends[i].inbox);
    }
    link->client = attempt->node->addr;
    link->client.port = attempt->node->port_next++ | PORT_FIRST;
    link->server = attempt->target;
    sim_event_init(&link->accept, server, accept_event);
    sim_event_init(&link->loss, NULL, link_lost);
    list_push_back(&sim->links, &link->link);
    return link;
}

static void attempt_answered(struct sim *sim, struct sim_event *event)
{
    struct sim_attempt *attempt = container_of(event, struct sim_attempt, event);
    struct sim_node *node = attempt->node;
    sim_trace(sim, 5000 + node->index, (uint64_t)attempt->result);
    struct reactor_scope before = sim_node_begin(node);
    if (attempt->made) {
        attempt->conn = conn_make(&attempt->made->ends[0], &attempt->target);
        attempt->made = NULL;
        attempt->result = 0;
    }
    waitq_wake_all(&attempt->waiter);
    sim_node_end(node, before);
}

/* The request has reached the target's host. */
static void attempt_arrived(struct sim *sim, struct sim_event *event)
{
    struct sim_attempt *attempt = container_of(event, struct sim_attempt, event);
    struct sim_node *server = node_find(attempt->node, &attempt->target);
    if (server && !path_works(sim, attempt->node, server)) {
        sim_event_arm(sim, event, sim->now_ns + connect_retry_ns); /* until the deadline */
        return;
    }
    uint64_t answer_ns = sim->now_ns + delay_ns(sim);
    if (!server) {
        attempt->result = -EHOSTUNREACH;
    } else if (!server->up || !listener_find(server, attempt->target.port)) {
        attempt->result = -ERR_CONN_REFUSED;
    } else {
        attempt->made = link_new(sim, attempt, server);
        attempt->made->ends[0].due_last_ns = answer_ns;
        sim_event_arm(sim, &attempt->made->accept, sim->now_ns);
    }
    sim_event_init(&attempt->event, attempt->node, attempt_answered);
    sim_event_arm(sim, &attempt->event, answer_ns);
}

/* Nobody waits for the attempt any more. */
static void attempt_end(struct sim *sim, struct sim_attempt *attempt)
{
    sim_event_cancel(sim, &attempt->event);
    list_remove(&attempt->link);
    if (attempt->made) {
        struct sim_end *end = &attempt->made->ends[0];
        reset_post(sim, other(end), false);
        end_finish(sim, end); /* the link is not used any more */
    }
    mem_free(attempt);
}

may_yield int sim_net_connect(struct reactor *reactor, const struct net_addr *addr,
                              uint64_t deadline_ns, struct conn **ret_conn)
{
    struct sim_node *node = sim_node_of(reactor);
    struct sim *sim = node->sim;
    struct sim_attempt *attempt = sim_alloc(sizeof *attempt);
    uint64_t limit_ns = env_now_ns() + connect_timeout_ns;
    attempt->node = node;
    attempt->target = *addr;
    attempt->result = 1;
    waitq_init(&attempt->waiter);
    list_push_back(&node->attempts, &attempt->link);
    sim_event_init(&attempt->event, NULL, attempt_arrived);
    sim_event_arm(sim, &attempt->event, sim->now_ns + delay_ns(sim));
    if (deadline_ns)
        limit_ns = MIN(limit_ns, deadline_ns);
    /* One wake-up or the deadline, whichever is first. */
    int result = waitq_wait(&attempt->waiter, limit_ns);
    if (attempt->conn || attempt->result < 0)
        result = attempt->conn ? 0 : attempt->result;
    if (result == 0)
        *ret_conn = &attempt->conn->base;
    attempt_end(sim, attempt);
    return result;
}

/* ---- send and close ----------------------------------------------------------------------- */

void sim_conn_send(struct conn *base, const void *head, uint32_t head_bytes,
                   const struct buf_slice *payload)
{
    struct sim_conn *conn = container_of(base, struct sim_conn, base);
    struct sim *sim = conn->end->node->sim;
    struct sim_packet *packet = sim_alloc(sizeof *packet + head_bytes);
    memcpy(packet->head, head, head_bytes);
    packet->head_bytes = head_bytes;
    packet->bytes = head_bytes + (uint64_t)payload->bytes;
    if (payload->bytes) {
        packet->payload = buf_new(payload->bytes);
        memcpy(packet->payload->data, buf_slice_data(payload), payload->bytes);
    }
    packet_post(sim, other(conn->end), packet);
}

void sim_conn_close(struct conn *base)
{
    struct sim_conn *conn = container_of(base, struct sim_conn, base);
    struct sim_end *end = conn->end;
    if (end) {
        struct sim *sim = end->node->sim;
        reset_post(sim, other(end), false);
        end_finish(sim, end); /* the link is not used any more */
    }
    mem_free(conn);
}

/* ---- failures ----------------------------------------------------------------------------- */

void sim_net_configure(struct sim *sim, const struct sim_net_config *config)
{
    assert(config->delay_min_ns <= config->delay_max_ns);
    sim->net = *config;
}

const struct sim_net_config *sim_net_config(const struct sim *sim)
{
    return &sim->net;
}

/* After a change of who hears whom: let waiting packets go, or start counting the silence. */
static void links_review(struct sim *sim, const struct sim_node *node)
{
    struct sim_link *link;
    list_for_each (link, &sim->links, link) {
        struct sim_node *a = link->ends[0].node;
        struct sim_node *b = link->ends[1].node;
        if (a != node && b != node)
            continue;
        if (path_works(sim, a, b))
            sim_event_cancel(sim, &link->loss);
        else if (!link->loss.heap_index)
            sim_event_arm(sim, &link->loss, sim->now_ns + sim->net.silence_timeout_ns);
        arrival_plan(sim, &link->ends[0]);
        arrival_plan(sim, &link->ends[1]);
    }
}

static void cut_set(const struct sim_node *from, const struct sim_node *to, bool on)
{
    uint64_t *word = &from->sim->cut[from->index][to->index / 64];
    uint64_t bit = (uint64_t)1 << to->index % 64;
    assert(from != to);
    *word = on ? *word | bit : *word & ~bit;
}

void sim_partition_one_way(struct sim_node *from, struct sim_node *to, bool on)
{
    cut_set(from, to, on);
    sim_trace(from->sim, 6002 + on, from->index * SIM_NODES_MAX + to->index);
    links_review(from->sim, from);
}

void sim_partition(struct sim_node *a, struct sim_node *b, bool on)
{
    cut_set(a, b, on);
    cut_set(b, a, on);
    sim_trace(a->sim, 6000 + on, a->index * SIM_NODES_MAX + b->index);
    links_review(a->sim, a);
}

void sim_isolate(struct sim_node *node, bool on)
{
    for (uint32_t i = 0; i < node->sim->node_count; i++) {
        if (node->sim->nodes[i] != node)
            sim_partition(node, node->sim->nodes[i], on);
    }
}

void sim_reset_conns(struct sim_node *a, struct sim_node *b)
{
    struct sim *sim = a->sim;
    struct sim_link *link;
    list_for_each (link, &sim->links, link) {
        struct sim_node *c = link->ends[0].node;
        struct sim_node *s = link->ends[1].node;
        if (!((c == a && s == b) || (c == b && s == a)))
            continue;
        for (uint32_t i = 0; i < 2; i++)
            reset_post(sim, &link->ends[i], false);
    }
}

/* The newest packets of a dying sender may never have left. */
static void outbox_truncate(struct sim *sim, struct sim_end *to)
{
    uint64_t count = 0;
    struct sim_packet *packet;
    list_for_each (packet, &to->inbox, link)
        count++;
    for (uint64_t drop = random_below(&sim->random, count + 1); drop > 0; drop--) {
        packet = list_last(&to->inbox, struct sim_packet, link);
        list_remove(&packet->link);
        buf_put(packet->payload);
        mem_free(packet);
    }
    if (list_empty(&to->inbox))
        sim_event_cancel(sim, &to->arrival);
}

void sim_net_node_died(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct sim_link *link, *after;
    while (!list_empty(&node->attempts))
        attempt_end(sim, list_first(&node->attempts, struct sim_attempt, link));
    list_init(&node->listeners); /* on the node's heap */
    list_for_each_safe (link, after, &sim->links, link) {
        link->busy++;
        for (uint32_t i = 0; i < 2; i++) {
            struct sim_end *end = &link->ends[i];
            if (end->node != node || end->state == END_FINISHED)
                continue;
            if (i == 1)
                sim_event_cancel(sim, &link->accept);
            outbox_truncate(sim, other(end));
            if (node->powered)
                reset_post(sim, other(end), false);
            end_finish(sim, end);
        }
        link_release(sim, link);
    }
    if (!node->powered)
        links_review(sim, node);
}

/* The new kernel knows none of the old connections and resets them at the first packet. */
void sim_net_node_restarted(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct sim_link *link;
    list_for_each (link, &sim->links, link) {
        for (uint32_t i = 0; i < 2; i++) {
            struct sim_end *end = &link->ends[i];
            if (end->node == node && end->state == END_FINISHED)
                reset_post(sim, other(end), false);
        }
    }
    links_review(sim, node);
}

void sim_net_free(struct sim *sim)
{
    while (!list_empty(&sim->links)) {
        struct sim_link *link = list_first(&sim->links, struct sim_link, link);
        assert(!link->ends[0].conn && !link->ends[1].conn);
        link_free(sim, link);
    }
}
