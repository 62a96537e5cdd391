/* SPDX-License-Identifier: MIT */
/* One request until its answer: route, send, wait, judge, try again (theory in client.c).
 *
 * An attempt in the air is a *flight*. It is on the heap because its caller may leave before it
 * lands: when a new map names another primary, or the same one restarted, nobody answers from
 * the old place any more, and waiting for the connection to notice would cost the whole lease. */
#include "client/client_internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"

struct flight {
    struct rpc_async async;
    struct list link; /* in client->flights or client->free_flights */
    struct client *client;
    struct waitq wait;
    uint32_t group;
    uint32_t node;
    uint64_t incarnation;
    bool done;
    bool abandoned;
};

/* Where an attempt goes; a copy, because views do not survive a yield. */
struct place {
    struct net_addr addr;
    uint64_t map_version;
    uint64_t incarnation;
    uint32_t group;
    uint32_t epoch;
    uint32_t node;
    uint32_t cold_starts;
};

static struct flight *flight_new(struct client *client)
{
    struct list *link = list_pop_front(&client->free_flights);
    struct flight *flight = link ? list_entry(link, struct flight, link) : NULL;
    if (flight)
        client->free_flight_count--;
    else
        flight = mem_alloc(sizeof *flight);
    memset(flight, 0, sizeof *flight);
    flight->client = client;
    waitq_init(&flight->wait);
    list_init(&flight->link);
    return flight;
}

static void flight_free(struct flight *flight)
{
    struct client *client = flight->client;
    assert(flight->done && waitq_empty(&flight->wait));
    list_remove(&flight->link);
    if (client->free_flight_count >= CLIENT_FREE_FLIGHTS_MAX) {
        mem_free(flight);
        return;
    }
    client->free_flight_count++;
    list_push_front(&client->free_flights, &flight->link);
}

static void flight_landed(struct rpc_async *async)
{
    struct flight *flight = container_of(async, struct flight, async);
    assert(!flight->done);
    flight->done = true;
    if (flight->abandoned) {
        rpc_call_fini(&async->call);
        flight_free(flight);
        return;
    }
    waitq_wake_all(&flight->wait);
}

static const struct map_group *group_of(const struct map_view *view, const struct client_call *call)
{
    switch (call->route) {
    case CLIENT_ROUTE_INO:
        return map_view_of_ino(view, call->ino);
    case CLIENT_ROUTE_OBJECT:
        return map_view_of_object(view, call->ino, call->index);
    case CLIENT_ROUTE_GROUP:
        return map_view_group(view, call->group);
    }
    WRONG("route");
}

/* 0, -ERR_STALE_MAP: no map yet, or nobody leads the group now. map_version is set anyhow. */
static int place_find(struct client *client, const struct client_call *call, struct place *ret)
{
    const struct map_view *view = map_client_view(client->map);
    ret->map_version = view ? view->header->version : 0;
    if (!view)
        return -ERR_STALE_MAP;
    const struct map_group *group = group_of(view, call);
    if (!group)
        return -ERR_STALE_MAP;
    const struct map_node *node = map_view_node(view, group->primary);
    if (!node)
        return -ERR_STALE_MAP;
    ret->group = group->id;
    ret->epoch = group->epoch;
    ret->node = node->id;
    ret->incarnation = node->incarnation;
    ret->cold_starts = group->cold_starts;
    map_node_addr(node, &ret->addr);
    return 0;
}

static bool flight_hopeless(const struct flight *flight)
{
    const struct map_view *view = map_client_view(flight->client->map);
    assert(view);
    const struct map_group *group = map_view_group(view, flight->group);
    const struct map_node *node = map_view_node(view, flight->node);
    return !group || group->primary != flight->node || !node ||
           node->incarnation != flight->incarnation;
}

void client_flights_wake(struct client *client)
{
    struct flight *flight;
    list_for_each (flight, &client->flights, link)
        waitq_wake_all(&flight->wait);
}

/* One attempt. The status; call->rpc has the reply if there was one. */
static int try_once(struct client *client, struct client_call *call, const struct place *place,
                    uint64_t deadline_ns)
{
    struct flight *flight = flight_new(client);
    flight->group = place->group;
    flight->node = place->node;
    flight->incarnation = place->incarnation;
    flight->async.done = flight_landed;
    flight->async.call = (struct rpc_call){
        .type = call->type,
        .group = place->group,
        .epoch = place->epoch,
        .body = call->body,
        .tail = {call->tail},
        .payload = call->payload,
        .deadline_ns = deadline_ns,
    };
    list_push_back(&client->flights, &flight->link);
    client->stats.calls++;
    rpc_send(client->rpc, &place->addr, &flight->async);
    while (!flight->done) {
        (void)waitq_wait(&flight->wait, 0); /* the call has a deadline of its own */
        if (!flight->done && flight_hopeless(flight)) {
            flight->abandoned = true;
            list_remove(&flight->link);
            return -ERR_STALE_MAP;
        }
    }
    call->rpc = flight->async.call;
    flight_free(flight);
    return call->rpc.status;
}

/* Is this the end of the request? If so *status is what the caller of the verb gets. */
static bool is_final(const struct client_call *call, int *status)
{
    if (*status >= 0 || *status == -ERR_NOT_INLINE)
        return true;
    bool by_callee = call->rpc.reply != NULL;
    if (!by_callee) /* our own: only a peer that speaks another language stays so */
        return *status == -ERR_WRONG_VERSION || *status == -ERR_WRONG_CLUSTER;
    return error_retry_class(*status) == RETRY_NEVER;
}

/* Before the next attempt: tell who should know, and wait, but not beyond a newer map. */
static void pause_before_retry(struct client *client, const struct place *place, int status,
                               uint64_t *backoff_ns)
{
    uint64_t until_ns = env_now_ns() + *backoff_ns;
    *backoff_ns = MIN(*backoff_ns * 2, CLIENT_BACKOFF_MAX_NS);
    if (error_retry_class(status) == RETRY_LATER) {
        fiber_sleep_until(until_ns);
        return;
    }
    if (status == -ERR_CONN_REFUSED)
        map_client_suspect(client->map, place->node, place->incarnation);
    const struct map_view *view = map_client_view(client->map);
    if (view && view->header->version > place->map_version)
        return; /* what we tried was known to be old by now */
    map_client_poke(client->map);
    int result = map_client_wait_newer(client->map, place->map_version, until_ns);
    assert(result <= 0); /* newer or not, the next attempt tells */
}

static int give_up(struct client *client, const struct client_call *call, int status)
{
    client->stats.timeouts++;
    log_warn("client-timeout", "request=%s ino=%llx last=%s why=\"%s\" effect=\"EIO\"",
             rpc_row(call->type)->name, (unsigned long long)call->ino, error_name(status),
             error_text(status));
    return -EIO;
}

int client_call(struct client *client, struct client_call *call)
{
    uint64_t deadline_ns = call->deadline_ns;
    if (!deadline_ns && !client->options.hard)
        deadline_ns = env_now_ns() + client->options.io_timeout_ns;
    uint64_t backoff_ns = CLIENT_BACKOFF_MIN_NS;
    bool sent = false;
    for (;;) {
        struct place place = {0};
        call->rpc = (struct rpc_call){0};
        int status = place_find(client, call, &place);
        if (status == 0) {
            if (sent) {
                client->stats.repeats++;
                if (call->retry_flags && !PLANT(CLIENT_RETRY_UNMARKED))
                    *call->retry_flags |= call->retry_flag;
            }
            uint64_t try_ns = env_now_ns() + CLIENT_TRY_TIMEOUT_NS;
            status =
                try_once(client, call, &place, deadline_ns ? MIN(try_ns, deadline_ns) : try_ns);
            sent = true;
            if (is_final(call, &status)) {
                call->answered_by_group = place.group;
                call->answered_by_epoch = place.epoch;
                call->answered_by_node = place.node;
                call->cold_starts = place.cold_starts;
                return status;
            }
        }
        client_call_fini(call);
        if (deadline_ns && env_now_ns() >= deadline_ns)
            return give_up(client, call, status);
        pause_before_retry(client, &place, status, &backoff_ns);
    }
}

void client_call_fini(struct client_call *call)
{
    rpc_call_fini(&call->rpc);
}
