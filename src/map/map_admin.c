/* SPDX-License-Identifier: MIT */
#include "map/client_internal.h"

#include "base/errors.h"

/* An operator's words to the leader. */

#define ADMIN_TIMEOUT_NS (3 * NS_PER_S)
#define ADMIN_PAUSE_NS   (50 * NS_PER_MS)

static bool is_known(struct map_client *client, uint32_t node)
{
    const struct map_view *view = map_client_view(client);
    return view && map_view_node(view, node);
}

int map_client_change_node(struct map_client *client, uint32_t node, enum map_node_intent intent,
                           uint64_t deadline_ns)
{
    for (bool was_there = false;;) {
        uint64_t now = env_now_ns();
        was_there |= is_known(client, node);
        if (now >= deadline_ns)
            return -ERR_TIMED_OUT;
        const struct wire_node_change_req body = {.node = node, .intent = (uint32_t)intent};
        struct rpc_call call = {.type = RPC_NODE_CHANGE,
                                .body = &body,
                                .deadline_ns = MIN(now + ADMIN_TIMEOUT_NS, deadline_ns)};
        int result = map_client_call_leader(client, &call);
        struct wire_node_change_rep reply;
        bool answered = rpc_reply_body(&call, &reply, sizeof reply, NULL);
        rpc_call_fini(&call);
        /* Ids are never given twice: it has been removed, and we have only not been told. */
        if (was_there && result == -ENOENT && intent == MAP_NODE_REMOVE)
            result = 0;
        if (answered && result == 0 && reply.map_version > 0) {
            /* The caller shall see what came of it. */
            map_client_poke(client);
            return map_client_wait_newer(client, reply.map_version - 1, deadline_ns);
        }
        if (result != -ERR_NOT_LEADER && result != -ERR_BUSY && result != -ERR_CAS_FAILED)
            return result;
        map_client_wait_leader(client, env_now_ns() + ADMIN_PAUSE_NS);
    }
}

bool map_node_is_drained(const struct map_view *view, uint32_t node)
{
    const struct map_node *found = map_view_node(view, node);
    for (uint32_t i = 0; found && i < view->header->node_count; i++) {
        const struct map_node *target = &view->nodes[i];
        if (target->host == found->host &&
            (target->intent == MAP_NODE_KEEP || target->voter != MAP_VOTER_NONE ||
             machine_is_named(view, target->id)))
            return false;
    }
    return found != NULL;
}
