/* SPDX-License-Identifier: MIT */
#include "map/server_internal.h"

#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"

/* One member of the map group.
 *
 * Problem. Turn the pure machines (raft/, machine.c) into a service: persist, send and time what
 * they ask for; let the leader decide (controller.c) and everybody read.
 *
 * Picture.
 *
 *     RPC_RAFT, timer, store, peer lost --> server_step --> raft_step
 *                                               |
 *        store_commit <- persist   messages -> rpc_send   committed -> map_apply -> view
 *             |                                                           |
 *        persist fiber: durable -> PERSISTED            long polls, proposals, controller wake
 *
 *     server.c         steps, proposals, start        server_rpc.c    requests of nodes, clients
 *     server_store.c   Raft's state in the store      contact.c       who is alive, proofs of death
 *     server_raft.c    messages between members       controller*.c   the leader's decisions
 *
 * Invariants.
 *  S1 Every raft_step happens in server_step, which never yields: writes are handed to the store in
 *     the order of steps, and a message is encoded before the next step.
 *  S2 PERSISTED is reported only for writes that are durable (store_wait_durable).
 *  S3 view is the result of exactly the committed entries up to applied.
 *  S4 A lease is granted only after a majority confirmed our leadership by messages sent after the
 *     beat arrived (server_confirm). So a leader elected later was elected after that beat was
 *     sent, and waiting out lease + margin from its election covers every lease given before it.
 *
 * Failure of our device: the store fences itself, we stop stepping (a member that cannot persist
 * must not vote), and the node leaves.
 *
 * Limits: RAFT_UNCOMMITTED_MAX proposals and RAFT_READS_MAX confirmations in flight; beyond,
 * callers get -ERR_BUSY and come again. All beats between two rounds of heartbeats share one
 * confirmation, so the number of nodes does not count. */

struct proposal {
    struct list link;
    uint64_t index;
    uint64_t term;
    int result;
    bool done;
    struct waitq waitq;
};

struct read_wait {
    struct list link;
    uint64_t id;
    int result;
    bool done;
    struct waitq waitq;
};

bool server_leads(const struct map_server *server)
{
    return !server->failed && raft_leader_ready(server->raft);
}

bool map_server_is_leader(const struct map_server *server)
{
    return server_leads(server);
}

/* Members of the map group count from the moment they are in the log, and it may be up to this one
 * to have it committed: after all have restarted, nobody else tells where the others are. */
static const struct map_node *node_by_log(struct map_server *server, uint32_t node)
{
    uint64_t last = raft_last_index(server->raft);
    if (server->outlook_index != last) {
        map_view_put(server->outlook);
        server->outlook = server_outlook(server);
        server->outlook_index = last;
    }
    return server->outlook ? map_view_node(server->outlook, node) : NULL;
}

bool server_addr(struct map_server *server, uint32_t node, struct net_addr *ret_addr)
{
    const struct map_node *found = server->view ? map_view_node(server->view, node) : NULL;
    const struct map_view *followed = server->client ? map_client_view(server->client) : NULL;
    if (!found && followed) /* a newcomer has no map of its own yet */
        found = map_view_node(followed, node);
    for (uint32_t i = 0; !found && i < server->options.node_count; i++) {
        if (server->nodes[i].id == node)
            found = &server->nodes[i];
    }
    if (!found)
        found = node_by_log(server, node);
    if (found)
        map_node_addr(found, ret_addr);
    return found != NULL;
}

/* ---- the state machine ---------------------------------------------------------------------- */

static void view_set(struct map_server *server, struct map_view *view)
{
    struct map_view *before = server->view;
    server->view = view;
    buf_put(server->view_buf);
    server->view_buf = NULL;
    map_history_note(&server->history, before, view);
    controller_map_changed(server, before);
    map_view_put(before);
    waitq_wake_all(&server->changed);
    controller_poke(server);
}

static void proposal_end(struct map_server *server, const struct raft_entry *entry, int result)
{
    struct proposal *proposal;
    struct proposal *after;
    list_for_each_safe (proposal, after, &server->proposals, link) {
        if (proposal->index != entry->index)
            continue;
        list_remove(&proposal->link);
        proposal->result = proposal->term == entry->term ? result : -ERR_NOT_LEADER;
        proposal->done = true;
        waitq_wake_all(&proposal->waitq);
    }
}

static void apply_committed(struct map_server *server)
{
    uint64_t commit = raft_commit_index(server->raft);
    assert(server->applied <= commit);
    while (server->applied < commit) {
        struct raft_entry entry;
        raft_entry(server->raft, ++server->applied, &entry);
        int result = 0;
        if (entry.type == RAFT_ENTRY_CONFIG)
            controller_poke(server);
        if (entry.type == RAFT_ENTRY_DATA) {
            struct map_view *next = NULL;
            result = map_apply(server->view, entry.data, &next);
            if (result == 0)
                view_set(server, next);
        }
        proposal_end(server, &entry, result);
    }
}

/* ---- steps ---------------------------------------------------------------------------------- */

static void reads_end(struct map_server *server)
{
    const struct raft_update *update = server->update;
    for (uint32_t i = 0; i < update->read_count; i++) {
        struct read_wait *read;
        struct read_wait *after;
        if (update->reads[i].id == server->read_id)
            server->read_open = false;
        list_for_each_safe (read, after, &server->reads, link) {
            if (read->id != update->reads[i].id)
                continue;
            list_remove(&read->link);
            read->result = update->reads[i].index != 0 ? 0 : -ERR_NOT_LEADER;
            read->done = true;
            waitq_wake_all(&read->waitq);
        }
    }
}

/* Proposals of an ended leadership: whether they come to pass is not for us to know. */
static void proposals_fail(struct map_server *server)
{
    struct list *link;
    while ((link = list_pop_front(&server->proposals)) != NULL) {
        struct proposal *proposal = list_entry(link, struct proposal, link);
        proposal->result = -ERR_NOT_LEADER;
        proposal->done = true;
        waitq_wake_all(&proposal->waitq);
    }
}

void server_fail(struct map_server *server)
{
    assert(!server->stepping);
    server->failed = true;
    server->leader_term = 0;
    timer_cancel(&server->timer);
    proposals_fail(server);
    struct list *link;
    server->read_open = false;
    while ((link = list_pop_front(&server->reads)) != NULL) {
        struct read_wait *read = list_entry(link, struct read_wait, link);
        read->result = -ERR_NOT_LEADER;
        read->done = true;
        waitq_wake_all(&read->waitq);
    }
    waitq_wake_all(&server->changed);
}

static void role_changed(struct map_server *server)
{
    bool leads = raft_role(server->raft) == RAFT_LEADER;
    uint64_t term = leads ? raft_term(server->raft) : 0;
    if (term != server->leader_term) {
        if (server->leader_term != 0)
            proposals_fail(server);
        server->leader_term = term;
        if (leads) {
            server->elected_ns = env_now_ns();
            contact_reset_all(server);
            log_info("map-leader", "node=%u term=%lu", server->options.node, term);
        }
    }
    waitq_wake_all(&server->changed);
    controller_poke(server);
}

static void step_once(struct map_server *server, struct raft_event *event)
{
    assert(!server->stepping);
    server->stepping = true;
    event->now_ns = env_now_ns();
    bool was_ready = raft_leader_ready(server->raft);
    raft_step(server->raft, event, server->update);
    if (server->update->install) {
        server->applied = raft_snapshot_index(server->raft);
        struct map_view *incoming = server->incoming;
        server->incoming = NULL;
        server_snapshot_set(server, incoming ? map_view_bytes(incoming) : NULL,
                            incoming ? incoming->bytes : 0);
        if (incoming) {
            server->history_from_version = incoming->header->version;
            view_set(server, incoming);
        }
    }
    if (server->update->persist)
        server_persist(server);
    server_send_messages(server);
    apply_committed(server);
    reads_end(server);
    if (server->update->role_changed)
        role_changed(server);
    if (!was_ready && raft_leader_ready(server->raft))
        controller_poke(server);
    server->stepping = false;
}

/* Who is no member keeps quiet: it answers, but its time-outs mean nothing. */
static void tick_later(struct map_server *server)
{
    if (server->member)
        timer_arm(&server->timer, raft_deadline_ns(server->raft));
    else
        timer_cancel(&server->timer);
}

void map_server_set_member(struct map_server *server, bool member)
{
    server->member = member;
    if (server->failed)
        return;
    if (member)
        rpc_on_peer_lost(server->rpc, contact_peer_lost, server);
    tick_later(server);
}

void map_server_follow(struct map_server *server, struct map_client *client)
{
    server->client = client;
}

void server_step(struct map_server *server, struct raft_event *event)
{
    if (server->failed)
        return;
    step_once(server, event);
    if (server->applied - raft_snapshot_index(server->raft) > SERVER_SNAPSHOT_EVERY) {
        server_snapshot_set(server, server->view ? map_view_bytes(server->view) : NULL,
                            server->view ? server->view->bytes : 0);
        /* Results of the step before are consumed except for these two. */
        int result = server->update->result;
        uint64_t index = server->update->index;
        struct raft_event snapshot = {.type = RAFT_EVENT_SNAPSHOT, .index = server->applied};
        step_once(server, &snapshot);
        server->update->result = result;
        server->update->index = index;
    }
    tick_later(server);
}

static void timer_fired(struct timer *timer)
{
    struct map_server *server = container_of(timer, struct map_server, timer);
    struct raft_event event = {.type = RAFT_EVENT_TICK};
    server_step(server, &event);
}

int server_propose(struct map_server *server, struct slice command)
{
    struct raft_event event = {.type = RAFT_EVENT_PROPOSE, .data = command};
    if (server->failed)
        return -ERR_NOT_LEADER;
    server_step(server, &event);
    if (server->update->result < 0)
        return server->update->result;
    struct proposal *proposal = mem_zalloc(sizeof *proposal);
    proposal->index = server->update->index;
    proposal->term = raft_term(server->raft);
    assert(proposal->index > server->applied); /* our own copy is not durable yet */
    waitq_init(&proposal->waitq);
    list_push_back(&server->proposals, &proposal->link);
    while (!proposal->done)
        (void)waitq_wait(&proposal->waitq, 0); /* ends with the leadership at the latest */
    int result = proposal->result;
    mem_free(proposal);
    return result;
}

int server_confirm(struct map_server *server, bool urgent)
{
    if (server->failed)
        return -ERR_NOT_LEADER;
    struct read_wait *read = mem_zalloc(sizeof *read);
    waitq_init(&read->waitq);
    list_push_back(&server->reads, &read->link);
    int result = 0;
    bool shares = !urgent && server->read_round == raft_round(server->raft) && server->read_open &&
                  server_leads(server);
    if (shares) {
        read->id = server->read_id; /* its round of heartbeats has not begun yet (S4) */
    } else {
        read->id = ++server->read_id;
        server->read_open = true;
        struct raft_event event = {.type = RAFT_EVENT_READ, .read_id = read->id, .urgent = urgent};
        server->read_round = raft_round(server->raft);
        server_step(server, &event);
        result = server->update->result;
    }
    if (result < 0) {
        server->read_open = false;
        list_remove(&read->link);
    } else {
        while (!read->done)
            (void)waitq_wait(&read->waitq, 0); /* ends with the leadership at the latest */
        result = read->result;
    }
    mem_free(read);
    return result;
}

/* ---- start ---------------------------------------------------------------------------------- */

static void initial_config(const struct map_server *server, struct wire_raft_config *ret_config)
{
    struct wire_raft_config config = {0};
    for (uint32_t i = 0; i < server->options.node_count; i++) {
        if (server->nodes[i].voter == MAP_VOTER_FULL && config.voter_count < RAFT_VOTERS_MAX)
            config.voters[config.voter_count++] = server->nodes[i].id;
    }
    *ret_config = config;
}

int map_server_start(struct rpc *rpc, struct store *store, const struct map_server_options *options,
                     struct map_server **ret_server)
{
    assert(options->node != 0 && options->node <= MAP_NODES_MAX);
    if (options->node_count == 0 || options->node_count > MAP_COMMAND_INIT_NODES_MAX)
        return -EINVAL;
    struct map_server *server = mem_zalloc(sizeof *server);
    server->rpc = rpc;
    server->store = store;
    server->options = *options;
    server->settings = *options->header;
    memcpy(server->nodes, options->nodes, options->node_count * sizeof server->nodes[0]);
    server->update = mem_zalloc(sizeof *server->update);
    server->scratch = mem_alloc(RAFT_MESSAGE_BYTES_MAX);
    server->clients = mem_zalloc(SERVER_CLIENTS_MAX * sizeof server->clients[0]);
    server->formers = mem_zalloc(MAP_GROUPS_MAX * sizeof server->formers[0]);
    waitq_init(&server->persist_wake);
    waitq_init(&server->changed);
    waitq_init(&server->controller_wake);
    list_init(&server->proposals);
    list_init(&server->reads);
    timer_init(&server->timer, timer_fired);

    struct raft_options raft_options = {
        .node = options->node,
        .seed = env_entropy_u64(),
        .election_min_ns = MAP_ELECTION_MIN_NS,
        .election_max_ns = MAP_ELECTION_MAX_NS,
        .heartbeat_ns = MAP_RAFT_BEAT_NS,
        .gone_stagger_ns = MAP_GONE_STAGGER_NS,
    };
    initial_config(server, &raft_options.config);
    if (!raft_config_valid(&raft_options.config))
        return -EINVAL;
    server->raft = raft_new(&raft_options);
    int result = server_load(server);
    if (result < 0)
        return result;
    server->history_from_version = server->view ? server->view->header->version : 0;
    raft_start(server->raft, env_now_ns());
    map_server_set_member(server, true);
    server_register(server);
    fiber_spawn("map-persist", server_persist_fiber, server);
    fiber_spawn("map-controller", controller_fiber, server);
    *ret_server = server;
    return 0;
}
