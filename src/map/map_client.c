/* SPDX-License-Identifier: MIT */
#include "map/client_internal.h"

#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"
#include "map/map_delta.h"

/* Follow the map.
 *
 * One fiber long-polls the leader, because it knows of a change first; while the leader is not
 * known it asks the seeds and the voters of the map in turn, a short while apart. A change is thus
 * here one message after it was committed, and a quiet cluster costs one small request a second.
 * A second fiber hands each new map to the owner's callback, which may take its time. */

#define RETRY_FIRST_NS    (20 * NS_PER_MS)
#define RETRY_MAX_NS      (300 * NS_PER_MS)
#define ASK_TIMEOUT_NS    (400 * NS_PER_MS)
#define SUSPECT_TRIES     8
#define SUSPECT_PAUSE_NS  (60 * NS_PER_MS)
#define CHANGE_TIMEOUT_NS (3 * NS_PER_S)
#define CHANGE_PAUSE_NS   (30 * NS_PER_MS)

struct map_view *map_client_view(struct map_client *client)
{
    return client->view;
}

uint64_t map_client_acting_version(const struct map_client *client)
{
    return client->notified_version;
}

bool map_client_leader(struct map_client *client, struct net_addr *ret_addr)
{
    if (client->leader_known)
        *ret_addr = client->leader;
    return client->leader_known;
}

void map_client_wait_leader(struct map_client *client, uint64_t deadline_ns)
{
    (void)waitq_wait(&client->leader_news, deadline_ns); /* the caller looks again either way */
}

void map_client_leader_failed(struct map_client *client, const struct net_addr *addr)
{
    if (client->leader_known && memcmp(&client->leader, addr, sizeof *addr) == 0)
        client->leader_known = false;
    map_client_poke(client);
}

static void leader_set(struct map_client *client, uint32_t node)
{
    const struct map_node *found =
        client->view && node != 0 ? map_view_node(client->view, node) : NULL;
    if (!found) {
        client->leader_known = false;
        return;
    }
    struct net_addr addr;
    map_node_addr(found, &addr);
    bool same = client->leader_known && memcmp(&addr, &client->leader, sizeof addr) == 0;
    client->leader = addr;
    client->leader_node = node;
    client->leader_known = true;
    if (!same)
        waitq_wake_all(&client->leader_news);
}

/* A process that has died of silence breaks no connection: whoever waits for it is told here. */
static void cut_dead(struct map_client *client, const struct map_view *before,
                     const struct map_view *view)
{
    for (uint32_t i = 0; before && i < before->header->node_count; i++) {
        const struct map_node *was = &before->nodes[i];
        const struct map_node *is = map_view_node(view, was->id);
        if (was->state != MAP_NODE_UP ||
            (is && is->state == MAP_NODE_UP && is->incarnation == was->incarnation))
            continue;
        struct net_addr addr;
        map_node_addr(was, &addr);
        rpc_cut(client->rpc, &addr);
    }
}

static void view_take(struct map_client *client, struct map_view *view)
{
    if (client->view && view->header->version <= client->view->header->version) {
        map_view_put(view);
        return;
    }
    struct map_view *before = client->view;
    client->view = view;
    rpc_set_map_version(client->rpc, view->header->version);
    waitq_wake_all(&client->newer);
    cut_dead(client, before, view);
    map_view_put(before);
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* The next of the seeds and voters. */
static struct net_addr candidate_next(struct map_client *client)
{
    uint32_t voters = 0;
    uint32_t nodes = client->view ? client->view->header->node_count : 0;
    for (uint32_t i = 0; i < nodes; i++)
        voters += client->view->nodes[i].voter == MAP_VOTER_FULL;
    uint32_t at = client->next_candidate++ % (client->seed_count + voters);
    if (at < client->seed_count)
        return client->seeds[at];
    at -= client->seed_count;
    struct net_addr addr = client->seeds[0];
    for (uint32_t i = 0; i < nodes; i++) {
        if (client->view->nodes[i].voter == MAP_VOTER_FULL && at-- == 0) {
            map_node_addr(&client->view->nodes[i], &addr);
            break;
        }
    }
    return addr;
}

static int take_reply(struct map_client *client, const struct rpc_call *call)
{
    struct wire_map_get_rep reply;
    if (!rpc_reply_body(call, &reply, sizeof reply, NULL))
        return -ERR_CORRUPT_WIRE;
    int result = 0;
    uint32_t bytes = call->reply->payload_bytes;
    bool crossed = reply.delta && client->view && client->view->header->version >= reply.version;
    if (bytes > 0 && !crossed) {
        struct map_view *view = NULL;
        const uint8_t *data = call->reply->payload->data;
        if (!reply.delta)
            result = map_view_new(data, bytes, &view);
        else
            result = client->view ? map_delta_apply(client->view, data, bytes, &view)
                                  : -ERR_CORRUPT_WIRE;
        client->wants_whole = result < 0;
        if (result == 0)
            view_take(client, view);
        else
            log_warn("map-get", "error=%s effect=\"asks for the whole map\"", error_name(result));
    }
    leader_set(client, reply.leader);
    return result;
}

/* One MAP_GET. 0, or an error of the call. */
static may_yield int ask(struct map_client *client, const struct net_addr *addr, uint64_t wait_ns)
{
    struct wire_map_get_req body = {
        .version = client->view ? client->view->header->version : 0,
        .wait_ms = (uint32_t)(wait_ns / NS_PER_MS),
        .delta = !client->wants_whole,
    };
    memcpy(body.client_name, client->name, sizeof body.client_name);
    uint64_t timeout = wait_ns > 0 ? wait_ns + MAP_POLL_SLACK_NS : ASK_TIMEOUT_NS;
    struct rpc_call call = {
        .type = RPC_MAP_GET, .body = &body, .deadline_ns = env_now_ns() + timeout};
    int result = rpc_call(client->rpc, addr, &call);
    if (result >= 0)
        result = take_reply(client, &call);
    rpc_call_fini(&call);
    return result;
}

static void poll_fiber(void *arg)
{
    struct map_client *client = arg;
    for (;;) {
        bool to_leader = client->leader_known && client->view;
        struct net_addr addr = to_leader ? client->leader : candidate_next(client);
        int result = ask(client, &addr, to_leader ? MAP_POLL_WAIT_NS : 0);
        if (result < 0 && to_leader && memcmp(&addr, &client->leader, sizeof addr) == 0)
            client->leader_known = false;
        bool settled = result == 0 && client->leader_known && client->view;
        if (settled) {
            client->failures = 0;
            continue;
        }
        uint64_t pause = RETRY_FIRST_NS << MIN(client->failures, 8u);
        client->failures++;
        map_client_wait_leader(client, env_now_ns() + MIN(pause, RETRY_MAX_NS));
    }
}

static void notify_fiber(void *arg)
{
    struct map_client *client = arg;
    for (;;) {
        if (!client->view || client->view->header->version == client->notified_version) {
            (void)waitq_wait(&client->newer, 0); /* as long as nothing changes */
            continue;
        }
        struct map_view *view = map_view_get(client->view);
        if (client->changed)
            client->changed(client->context, view);
        client->notified_version = view->header->version;
        map_view_put(view);
    }
}

static void poke_fiber(void *arg)
{
    struct map_client *client = arg;
    struct net_addr addr = client->leader_known ? client->leader : candidate_next(client);
    if (ask(client, &addr, 0) < 0)
        fiber_sleep(RETRY_FIRST_NS);
    client->poking = false;
}

void map_client_poke(struct map_client *client)
{
    if (client->poking)
        return;
    client->poking = true;
    fiber_spawn("map-poke", poke_fiber, client);
}

int map_client_wait_newer(struct map_client *client, uint64_t version, uint64_t deadline_ns)
{
    while (!client->view || client->view->header->version <= version) {
        if (waitq_wait(&client->newer, deadline_ns) == -ERR_TIMED_OUT)
            return -ERR_TIMED_OUT;
    }
    return 0;
}

struct map_client *map_client_start(struct rpc *rpc, const struct net_addr *seeds,
                                    uint32_t seed_count,
                                    void (*changed)(void *context, struct map_view *view),
                                    void *context)
{
    assert(seed_count > 0);
    struct map_client *client = mem_zalloc(sizeof *client);
    client->rpc = rpc;
    client->seed_count = MIN(seed_count, (uint32_t)CLIENT_SEEDS_MAX);
    memcpy(client->seeds, seeds, client->seed_count * sizeof *seeds);
    client->next_candidate = (uint32_t)(env_entropy_u64() % client->seed_count);
    client->changed = changed;
    client->context = context;
    waitq_init(&client->newer);
    waitq_init(&client->leader_news);
    fiber_spawn("map-poll", poll_fiber, client);
    fiber_spawn("map-notify", notify_fiber, client);
    return client;
}

void map_client_set_name(struct map_client *client, const char *name)
{
    memset(client->name, 0, sizeof client->name);
    size_t count = strlen(name);
    memcpy(client->name, name, MIN(count, sizeof client->name - 1));
}

/* ---- telling the leader ---------------------------------------------------------------------- */

int map_client_call_leader(struct map_client *client, struct rpc_call *call)
{
    struct net_addr addr;
    if (!map_client_leader(client, &addr)) {
        map_client_poke(client);
        return -ERR_NOT_LEADER;
    }
    int result = rpc_call(client->rpc, &addr, call);
    if (result == -ERR_NOT_LEADER || result == -ERR_CONN_LOST || result == -ERR_CONN_REFUSED ||
        result == -ERR_TIMED_OUT) {
        map_client_leader_failed(client, &addr);
        result = -ERR_NOT_LEADER;
    }
    return result;
}

struct suspect {
    struct map_client *client;
    uint32_t node;
    uint64_t incarnation;
};

static void suspect_fiber(void *arg)
{
    struct suspect *suspect = arg;
    struct map_client *client = suspect->client;
    for (uint32_t i = 0; i < SUSPECT_TRIES; i++) {
        const struct map_node *node =
            client->view ? map_view_node(client->view, suspect->node) : NULL;
        if (!node || node->state != MAP_NODE_UP || node->incarnation != suspect->incarnation)
            break; /* known by now */
        struct wire_node_suspect_req body = {.node = suspect->node,
                                             .incarnation = suspect->incarnation};
        struct rpc_call call = {
            .type = RPC_NODE_SUSPECT, .body = &body, .deadline_ns = env_now_ns() + ASK_TIMEOUT_NS};
        int result = map_client_call_leader(client, &call);
        rpc_call_fini(&call);
        if (result == 0)
            break;
        map_client_wait_leader(client, env_now_ns() + SUSPECT_PAUSE_NS);
    }
    client->suspects--;
    mem_free(suspect);
}

void map_client_suspect(struct map_client *client, uint32_t node, uint64_t incarnation)
{
    if (client->suspects == CLIENT_SUSPECTS_MAX)
        return; /* a hint; the lease will tell */
    client->suspects++;
    struct suspect *suspect = mem_alloc(sizeof *suspect);
    *suspect = (struct suspect){client, node, incarnation};
    fiber_spawn("map-suspect", suspect_fiber, suspect);
}

int map_client_change_group(struct map_client *client, uint32_t group, uint32_t epoch,
                            enum group_change_op op, uint32_t node, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t now = env_now_ns();
        if (deadline_ns != 0 && now >= deadline_ns)
            return -ERR_TIMED_OUT;
        uint64_t limit = now + CHANGE_TIMEOUT_NS;
        struct wire_group_change_req body = {
            .group = group, .epoch = epoch, .op = op, .node = node};
        struct rpc_call call = {.type = RPC_GROUP_CHANGE, .body = &body};
        call.deadline_ns = deadline_ns != 0 ? MIN(limit, deadline_ns) : limit;
        int result = map_client_call_leader(client, &call);
        struct wire_group_change_rep reply;
        bool answered = rpc_reply_body(&call, &reply, sizeof reply, NULL);
        rpc_call_fini(&call);
        if (answered && (result == 0 || result == -ERR_CAS_FAILED) && reply.map_version > 0) {
            /* The caller shall see what came of it. */
            map_client_poke(client);
            int seen = map_client_wait_newer(client, reply.map_version - 1, call.deadline_ns);
            return seen < 0 ? seen : result;
        }
        if (result != -ERR_NOT_LEADER && result != -ERR_BUSY)
            return result;
        map_client_wait_leader(client, env_now_ns() + CHANGE_PAUSE_NS);
    }
}
