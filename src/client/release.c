/* SPDX-License-Identifier: MIT */
/* Closed files, told to the servers together.
 *
 * Problem. Each close ends a registration at the inode's primary (op_open.c). Nobody waits for it,
 * but a request of its own costs two wake-ups, as much as the answer to a lookup.
 *
 * Way. Closes wait CLIENT_RELEASE_NS for company; then each group gets one RELEASE with all of its
 * own. A name of ours that goes away (unlink, rename) sends those of its group at once, ahead of
 * itself on the same connection: the server then finds the file closed, and frees it without making
 * it an orphan first.
 *
 * Invariants.
 * R1. A registration of a closed file is in closed[], in a flight, or released. A flight that fails
 *     puts it back: a RELEASE may come twice, which is harmless.
 * R2. closed[] is bounded: client_release waits for room.
 * R3. While closed[] is not empty the timer is armed.
 *
 * Failures. The primary is gone: asked again, at whatever primary the map then names, every
 * CLIENT_RELEASE_NS. The client dies, or gives up: the registrations end with its session. */
#include "client/client_internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

enum { RELEASE_ROWS_MAX = CLIENT_CLOSED_MAX / 4 }; /* in one request */
#define CLIENT_RELEASE_NS (20 * NS_PER_MS)

struct flight {
    struct rpc_async async;
    struct client *client;
    uint32_t count;
    struct wire_release rows[RELEASE_ROWS_MAX];
};

static void arm(struct client_closed *closed)
{
    if (closed->count > 0 && closed->timer.heap_index == 0)
        timer_arm(&closed->timer, env_now_ns() + CLIENT_RELEASE_NS);
}

static void flight_landed(struct rpc_async *async)
{
    struct flight *flight = container_of(async, struct flight, async);
    struct client_closed *closed = &flight->client->closed;
    bool again = async->call.status < 0 && error_retry_class(async->call.status) != RETRY_NEVER;
    for (uint32_t i = 0; again && i < flight->count; i++)
        closed->rows[closed->count++] = flight->rows[i];
    closed->flying -= flight->count;
    assert(closed->count + closed->flying <= CLIENT_CLOSED_MAX);
    rpc_call_fini(&async->call);
    mem_free(flight);
    arm(closed); /* R3 */
    waitq_wake_all(&closed->room);
}

/* Move the rows of one group from closed[] into flight. */
static void gather_rows(struct client_closed *closed, const struct map_view *view,
                        const struct map_group *group, struct flight *flight)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < closed->count; i++) {
        if (flight->count < RELEASE_ROWS_MAX && map_view_of_ino(view, closed->rows[i].ino) == group)
            flight->rows[flight->count++] = closed->rows[i];
        else
            closed->rows[kept++] = closed->rows[i];
    }
    closed->count = kept;
    closed->flying += flight->count;
}

/* False: nobody leads the group now. */
static bool send_group(struct client *client, const struct map_view *view,
                       const struct map_group *group)
{
    const struct map_node *node = map_view_node(view, group->primary);
    if (!node)
        return false;
    struct flight *flight = mem_alloc(sizeof *flight);
    flight->client = client;
    flight->count = 0;
    gather_rows(&client->closed, view, group, flight);
    assert(flight->count > 0);
    struct wire_meta_req req = {
        .session = client->session,
        .flags = META_CRED_CHECKED,
        .ino = flight->rows[0].ino,
        .value_bytes = (uint16_t)(flight->count * sizeof flight->rows[0]),
    };
    flight->async = (struct rpc_async){
        .done = flight_landed,
        .call = {.type = RPC_RELEASE,
                 .group = group->id,
                 .epoch = group->epoch,
                 .body = &req,
                 .tail = {slice_of(flight->rows, req.value_bytes)},
                 .deadline_ns = env_now_ns() + CLIENT_TRY_TIMEOUT_NS},
    };
    struct net_addr addr;
    map_node_addr(node, &addr);
    client->stats.calls++;
    rpc_send(client->rpc, &addr, &flight->async);
    return true;
}

static void send_all(struct client *client)
{
    const struct map_view *view = map_client_view(client->map);
    struct client_closed *closed = &client->closed;
    uint32_t i = view ? closed->count : 0;
    while (i > 0) {
        if (send_group(client, view, map_view_of_ino(view, closed->rows[i - 1].ino)))
            i = closed->count; /* what is left has moved up */
        else
            i--;
    }
    arm(closed);
}

static void timer_due(struct timer *timer)
{
    send_all(container_of(timer, struct client, closed.timer));
}

void client_closed_init(struct client *client)
{
    timer_init(&client->closed.timer, timer_due);
    waitq_init(&client->closed.room);
}

void client_closed_add(struct client *client, uint64_t ino, uint64_t open_id)
{
    struct client_closed *closed = &client->closed;
    while (closed->count + closed->flying >= CLIENT_CLOSED_MAX) { /* R2 */
        send_all(client);
        (void)waitq_wait(&closed->room, 0); /* every flight lands, and R3 sends the rest */
    }
    closed->rows[closed->count++] = (struct wire_release){.ino = ino, .open_id = open_id};
    arm(closed);
}

void client_closed_send(struct client *client, uint64_t ino)
{
    const struct map_view *view = map_client_view(client->map);
    const struct map_group *group = view ? map_view_of_ino(view, ino) : NULL;
    struct client_closed *closed = &client->closed;
    for (uint32_t i = 0; group && i < closed->count; i++) {
        if (map_view_of_ino(view, closed->rows[i].ino) == group) {
            (void)send_group(client, view, group); /* nobody leads it: the timer asks again */
            return;
        }
    }
}

void client_closed_drain(struct client *client, uint64_t deadline_ns)
{
    struct client_closed *closed = &client->closed;
    send_all(client);
    while (closed->count + closed->flying > 0 && env_now_ns() < deadline_ns) /* R3 sends again */
        (void)waitq_wait(&closed->room, deadline_ns);
}
