/* SPDX-License-Identifier: MIT */
#include "map/server_internal.h"

#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"

/* Who is alive, as this process has seen it itself.
 *
 * A node is *sure* while we lead if its present incarnation (by the map) was heard in this term.
 * A process is *gone* if a connection to its address was refused: its port would be open if it
 * lived. A broken connection is only a hint: contact_verify tries the address a few times, because
 * a dying process may keep its port for some milliseconds. Where one target of a process is gone
 * the others are tried at once, so that they can be declared dead together. A proof is bound to the
 * incarnation that the map named when the attempts began, and is void if that incarnation is heard
 * meanwhile. */

enum {
    VERIFY_ATTEMPTS = 7,
    VERIFY_ROUNDS_MAX = 3,
    VERIFY_ATTEMPTS_YOUNG = 3, /* refusals wanted of a process that may not listen yet */
};
#define VERIFY_PAUSE_FIRST_NS (5 * NS_PER_MS)
#define VERIFY_PAUSE_YOUNG_NS (100 * NS_PER_MS)
#define VERIFY_CONNECT_NS     (300 * NS_PER_MS)
#define YOUNG_NS              (2 * NS_PER_S)
#define SUSPECT_TIMEOUT_NS    (500 * NS_PER_MS)

struct contact *contact_of(struct map_server *server, uint32_t node)
{
    assert(node != 0 && node <= MAP_NODES_MAX);
    if (!server->contacts[node]) {
        server->contacts[node] = mem_zalloc(sizeof(struct contact));
        server->contacts[node]->node = node;
    }
    return server->contacts[node];
}

bool contact_is_past(const struct contact *contact, uint64_t incarnation)
{
    for (uint32_t i = 0; i < SERVER_PAST_MAX; i++) {
        if (incarnation != 0 && contact->past[i] == incarnation)
            return true;
    }
    return false;
}

void contact_heard(struct map_server *server, uint32_t node, uint64_t incarnation)
{
    struct contact *contact = contact_of(server, node);
    if (contact_is_past(contact, incarnation))
        return; /* a late message of a process that has been replaced */
    uint64_t now = env_now_ns();
    if (contact->incarnation != incarnation) {
        memmove(&contact->past[1], &contact->past[0],
                (SERVER_PAST_MAX - 1) * sizeof contact->past[0]);
        contact->past[0] = contact->incarnation;
        contact->incarnation = incarnation;
        contact->first_heard_ns = now;
        contact->heard_term = 0;
        contact->beat_ns = 0;
        contact->beat_map_version = 0;
    }
    if (contact->gone_incarnation == incarnation)
        contact->gone_incarnation = 0; /* it speaks */
    if (server->leader_term != 0 && contact->heard_term != server->leader_term) {
        contact->heard_term = server->leader_term;
        contact->sure_since_ns = now;
        controller_poke(server);
    }
}

bool contact_is_sure(const struct map_server *server, const struct map_node *node)
{
    if (node->state != MAP_NODE_UP || node->id > MAP_NODES_MAX || server->leader_term == 0)
        return false;
    const struct contact *contact = server->contacts[node->id];
    return contact && contact->incarnation == node->incarnation &&
           contact->heard_term == server->leader_term &&
           contact->gone_incarnation != node->incarnation &&
           contact->condemned != node->incarnation;
}

uint32_t contact_sure_ids(const struct map_server *server, uint32_t *ids)
{
    uint32_t count = 0;
    const struct map_view *view = server->view;
    for (uint32_t i = 0; view && i < view->header->node_count; i++) {
        if (contact_is_sure(server, &view->nodes[i]))
            ids[count++] = view->nodes[i].id;
    }
    return count;
}

/* What a former leadership knew is void, except proofs of death. */
void contact_reset_all(struct map_server *server)
{
    for (uint32_t i = 1; i <= MAP_NODES_MAX; i++) {
        struct contact *contact = server->contacts[i];
        if (!contact)
            continue;
        contact->heard_term = 0;
        contact->beat_ns = 0;
        contact->beat_map_version = 0;
        contact->condemned = 0;
        contact->pending_incarnation = 0;
        contact->not_up_since_ns = 0;
        contact->reports_incarnation = 0;
    }
    contact_heard(server, server->options.node, rpc_identity(server->rpc)->incarnation);
}

/* ---- proof of death ------------------------------------------------------------------------- */

struct verify {
    struct map_server *server;
    uint32_t node;
    uint64_t incarnation;
};

static void probe_message(struct conn *conn, void *context, struct msg *msg)
{
    msg_free(msg);
}

static void probe_closed(struct conn *conn, void *context, int error)
{
}

static const struct conn_ops probe_ops = {probe_message, probe_closed};

/* One attempt. 0: something listens; else the error of net_connect. */
static int probe_once(const struct net_addr *addr)
{
    struct conn *conn;
    int result = net_connect(addr, env_now_ns() + VERIFY_CONNECT_NS, &probe_ops, NULL, &conn);
    if (result == 0)
        conn_close(conn);
    return result;
}

static void suspect_done(struct rpc_async *async)
{
    rpc_call_fini(&async->call);
    mem_free(async);
}

/* A follower tells the leader. */
static void suspect_tell(struct map_server *server, uint32_t node, uint64_t incarnation)
{
    struct net_addr addr;
    uint32_t leader = raft_leader(server->raft);
    if (leader == 0 || leader == node || leader == server->options.node ||
        !server_addr(server, leader, &addr))
        return;
    struct wire_node_suspect_req body = {.node = node, .incarnation = incarnation};
    struct rpc_async *async = mem_zalloc(sizeof *async);
    async->done = suspect_done;
    async->call = (struct rpc_call){
        .type = RPC_NODE_SUSPECT, .body = &body, .deadline_ns = env_now_ns() + SUSPECT_TIMEOUT_NS};
    rpc_send(server->rpc, &addr, async);
}

static void node_gone(struct map_server *server, uint32_t node, uint64_t incarnation)
{
    struct contact *contact = contact_of(server, node);
    if (contact->gone_incarnation != incarnation)
        log_info("node-gone", "node=%u by=%u why=\"connection refused\"", node,
                 server->options.node);
    contact->gone_incarnation = incarnation;
    struct raft_event event = {.type = RAFT_EVENT_PEER_GONE, .node = node};
    server_step(server, &event);
    controller_poke(server);
    if (server->leader_term == 0)
        suspect_tell(server, node, incarnation);
}

/* The incarnation at the node's address: by the map, or last heard if the map has none. */
static uint64_t incarnation_of(struct map_server *server, uint32_t node)
{
    const struct map_node *found = server->view ? map_view_node(server->view, node) : NULL;
    if (found && found->incarnation != 0)
        return found->incarnation;
    return contact_of(server, node)->incarnation;
}

/* 1: its address refuses, as often as it takes to believe it; 0: somebody listens; else the error
 * of an attempt, which proves nothing. */
static int refuses(const struct net_addr *addr, bool young)
{
    uint32_t wanted = young ? VERIFY_ATTEMPTS_YOUNG : 1;
    uint64_t pause = young ? VERIFY_PAUSE_YOUNG_NS : VERIFY_PAUSE_FIRST_NS;
    uint32_t refusals = 0;
    for (uint32_t i = 0; i < VERIFY_ATTEMPTS && refusals < wanted; i++) {
        /* No pause after the last refusal wanted: this is the fast path of failover. */
        int result = probe_once(addr);
        if (result == -ERR_CONN_REFUSED)
            refusals++;
        else if (result < 0)
            return result;
        if (refusals < wanted && i + 1 < VERIFY_ATTEMPTS)
            fiber_sleep(pause);
        if (!young)
            pause *= 2;
    }
    return refusals >= wanted;
}

static bool sibling_is_gone(struct map_server *server, uint32_t node)
{
    const struct map_view *view = server->view;
    const struct map_node *found = view ? map_view_node(view, node) : NULL;
    for (uint32_t i = 0; found && i < view->header->node_count; i++) {
        const struct map_node *other = &view->nodes[i];
        if (other != found && machine_dies_with(found, other) &&
            contact_of(server, other->id)->gone_incarnation == other->incarnation)
            return true;
    }
    return false;
}

/* A beat that arrives meanwhile voids the proof, but it may have been under way when the process
 * died; so may an attempt have been that ended in silence. Both are tried again, the latter where
 * another target of the process is known to be gone. Other silence is left to the lease. */
static bool is_gone(const struct verify *verify, const struct net_addr *addr)
{
    const struct contact *contact = contact_of(verify->server, verify->node);
    for (uint32_t i = 0; i < VERIFY_ROUNDS_MAX; i++) {
        uint64_t start = env_now_ns();
        bool young = contact->incarnation == verify->incarnation &&
                     start - contact->first_heard_ns < YOUNG_NS;
        int refused = refuses(addr, young);
        bool heard = contact->incarnation == verify->incarnation && contact->beat_ns > start;
        if (refused > 0 && !heard)
            return true;
        if (refused == 0 || (refused < 0 && !sibling_is_gone(verify->server, verify->node)))
            return false;
    }
    return false;
}

static void verify_process(struct map_server *server, uint32_t node, uint64_t incarnation)
{
    const struct map_view *view = server->view;
    const struct map_node *gone = view ? map_view_node(view, node) : NULL;
    for (uint32_t i = 0; gone && i < view->header->node_count; i++) {
        const struct map_node *other = &view->nodes[i];
        if (other != gone && gone->incarnation == incarnation && machine_dies_with(gone, other))
            contact_verify(server, other->id);
    }
}

static void verify_fiber(void *arg)
{
    struct verify *verify = arg;
    struct map_server *server = verify->server;
    struct net_addr addr;
    struct contact *contact = contact_of(server, verify->node);
    bool gone;
    do { /* what was found may be older than the newest hint */
        contact->verify_again = false;
        verify->incarnation = incarnation_of(server, verify->node);
        gone = server_addr(server, verify->node, &addr) && is_gone(verify, &addr);
    } while (!gone && contact->verify_again);
    contact->verifying = false;
    if (gone) {
        verify_process(server, verify->node, verify->incarnation);
        node_gone(server, verify->node, verify->incarnation);
    }
    controller_poke(server); /* it may have waited for the outcome */
    mem_free(verify);
}

void contact_verify(struct map_server *server, uint32_t node)
{
    struct contact *contact = contact_of(server, node);
    uint64_t incarnation = incarnation_of(server, node);
    const struct map_node *found = server->view ? map_view_node(server->view, node) : NULL;
    bool leads = raft_leader(server->raft) == node;
    bool known = contact->gone_incarnation == incarnation && incarnation != 0;
    bool matters = leads || (found && found->state == MAP_NODE_UP && !known);
    contact->verify_again = contact->verifying;
    if (contact->verifying || !matters || node == server->options.node || server->failed)
        return;
    contact->verifying = true;
    struct verify *verify = mem_alloc(sizeof *verify);
    *verify = (struct verify){server, node, incarnation};
    fiber_spawn("map-verify", verify_fiber, verify);
}

static uint32_t node_at(const struct map_server *server, const struct net_addr *addr)
{
    uint32_t count = server->view ? server->view->header->node_count : server->options.node_count;
    const struct map_node *nodes = server->view ? server->view->nodes : server->nodes;
    for (uint32_t i = 0; i < count; i++) {
        struct net_addr at;
        map_node_addr(&nodes[i], &at);
        if (memcmp(&at, addr, sizeof at) == 0)
            return nodes[i].id;
    }
    return 0;
}

void contact_peer_lost(void *context, const struct net_addr *addr, uint32_t node, int error)
{
    struct map_server *server = context;
    uint32_t id = node != 0 ? node : node_at(server, addr);
    if (id != 0 && id <= MAP_NODES_MAX)
        contact_verify(server, id);
}
