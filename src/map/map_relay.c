/* SPDX-License-Identifier: MIT */
#include "map/client_internal.h"

#include "base/errors.h"
#include "base/log.h"

/* MAP_GET on nodes that are not of the map group: they answer from what they follow, so that any
 * node will do as a first address, and say who leads. */

#define RELAY_WAIT_MAX_NS (30 * NS_PER_S)

void map_client_serve_get(struct map_client *client, struct rpc_request *request)
{
    const struct wire_map_get_req *body = request->body;
    uint64_t wait_ns = MIN(body->wait_ms * NS_PER_MS, RELAY_WAIT_MAX_NS);
    uint64_t deadline = env_now_ns() + wait_ns;
    if (wait_ns > 0 && map_client_wait_newer(client, body->version, deadline) < 0)
        log_debug("map-relay", "version=%lu why=\"nothing newer\"", body->version);
    const struct map_view *view = client->view;
    struct wire_map_get_rep reply = {
        .version = view ? view->header->version : 0,
        .leader = client->leader_known ? client->leader_node : 0,
    };
    struct buf_slice payload = {0};
    if (reply.version > body->version) {
        payload = (struct buf_slice){.buf = buf_new(view->bytes), .bytes = view->bytes};
        memcpy(payload.buf->data, map_view_bytes(view), view->bytes);
    }
    rpc_reply(request, 0, &reply, slice_of(NULL, 0), payload);
    buf_put(payload.buf);
}

static void serve_map_get(void *service, struct rpc_request *request)
{
    map_client_serve_get(service, request);
}

void map_client_relay(struct map_client *client)
{
    rpc_register(client->rpc, RPC_MAP_GET, serve_map_get, client);
}
