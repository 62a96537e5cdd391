/* SPDX-License-Identifier: MIT */
#include "meta/peer.h"

#include "base/mem.h"
#include "meta/participant.h"
#include "meta/txn.h"

enum { PEER_BACKOFF_MIN_MS = 2, PEER_BACKOFF_MAX_MS = 200, PEER_RETRIES_MAX = 64 };

void peer_bytes_fini(struct peer_bytes *bytes)
{
    mem_free(bytes->data);
    *bytes = (struct peer_bytes){0};
}

void *peer_bytes_add(struct peer_bytes *bytes, uint32_t count)
{
    if (bytes->room - bytes->bytes < count) {
        bytes->room = MAX(2 * bytes->room, bytes->bytes + count);
        bytes->data = mem_realloc(bytes->data, bytes->room);
    }
    void *place = bytes->data + bytes->bytes;
    bytes->bytes += count;
    return place;
}

/* One message to the primary of a group. */
struct peer_call {
    uint32_t group;
    enum rpc_type type;
    const void *body;
    struct slice tail;
    /* The same without a message, if the primary is here. */
    int (*local)(struct meta_group *mg, struct peer_call *call);
    /* What came back, for who asked. */
    struct peer_bytes bytes;
    uint32_t outcome;
};

static int remote(struct meta_service *service, struct peer_call *call,
                  const struct map_group *group, const struct map_node *node, uint64_t deadline_ns)
{
    struct net_addr addr;
    map_node_addr(node, &addr);
    struct rpc_call rpc = {
        .type = call->type,
        .group = call->group,
        .epoch = group->epoch,
        .body = call->body,
        .tail = {call->tail},
        .deadline_ns = deadline_ns,
    };
    uint32_t node_id = node->id;
    uint64_t incarnation = node->incarnation;
    int result = rpc_call(service->rpc, &addr, &rpc);
    if (result >= 0) {
        struct wire_txn_status_rep status;
        struct slice tail;
        if (call->type == RPC_TXN_STATUS) {
            if (!rpc_reply_body(&rpc, &status, sizeof status, &tail))
                result = -ERR_CORRUPT_WIRE;
            else
                call->outcome = status.outcome;
        } else {
            struct wire_txn_lock_rep plain;
            if (!rpc_reply_body(&rpc, &plain, sizeof plain, &tail))
                result = -ERR_CORRUPT_WIRE;
            else if (tail.bytes > 0)
                memcpy(peer_bytes_add(&call->bytes, tail.bytes), tail.data, tail.bytes);
        }
    }
    if (result == -ERR_CONN_REFUSED)
        map_client_suspect(service->map, node_id, incarnation);
    rpc_call_fini(&rpc);
    return result;
}

static int once(struct meta_service *service, struct peer_call *call, uint64_t *ret_map_version,
                uint64_t deadline_ns)
{
    const struct map_view *view = map_client_view(service->map);
    *ret_map_version = view ? view->header->version : 0;
    const struct map_group *group = view ? map_view_group(view, call->group) : NULL;
    const struct map_node *node = group ? map_view_node(view, group->primary) : NULL;
    if (!node)
        return -ERR_STALE_MAP;
    if (node->id != rpc_identity(service->rpc)->node)
        return remote(service, call, group, node, deadline_ns);
    struct meta_group *mg;
    int result = meta_find_serving(service, call->group, 0, call->type != RPC_TXN_STATUS, &mg);
    if (result < 0)
        return result;
    result = call->local(mg, call);
    meta_group_put(mg);
    return result;
}

/* Until an answer is final. Repeating is harmless: see participant.c. */
static int call_peer(struct meta_service *service, struct peer_call *call)
{
    uint64_t deadline_ns = env_now_ns() + META_PEER_PATIENCE_NS;
    uint64_t backoff_ms = PEER_BACKOFF_MIN_MS;
    for (uint32_t i = 0;; i++) {
        uint64_t map_version;
        int result = once(service, call, &map_version, deadline_ns);
        enum retry_class retry = result < 0 ? error_retry_class(result) : RETRY_NEVER;
        uint64_t now_ns = env_now_ns();
        if (retry == RETRY_NEVER || result == -ERR_TXN_ABORTED || now_ns >= deadline_ns ||
            i == PEER_RETRIES_MAX)
            return result;
        peer_bytes_fini(&call->bytes);
        uint64_t until_ns = MIN(deadline_ns, now_ns + backoff_ms * NS_PER_MS);
        if (retry == RETRY_REMAP) {
            map_client_poke(service->map);
            if (map_client_wait_newer(service->map, map_version, until_ns) < 0)
                backoff_ms = MIN(2 * backoff_ms, (uint64_t)PEER_BACKOFF_MAX_MS);
        } else {
            fiber_sleep_until(until_ns);
            backoff_ms = MIN(2 * backoff_ms, (uint64_t)PEER_BACKOFF_MAX_MS);
        }
    }
}

/* A failure that is not the callee's word: run the verb again, elsewhere or later. */
static int as_abort(int result)
{
    return result < 0 && error_retry_class(result) != RETRY_NEVER ? -ERR_TXN_ABORTED : result;
}

static int local_lock(struct meta_group *mg, struct peer_call *call)
{
    const struct wire_txn_lock_req *req = call->body;
    const struct rpc_identity *self = rpc_identity(mg->service->rpc);
    struct part_coordinator from = {self->node, self->incarnation};
    return participant_lock(mg, &req->txn, call->tail, req, from, &call->bytes);
}

int peer_lock_get(struct meta_service *service, const struct wire_txn_id *txn, struct slice key,
                  void *value, uint32_t capacity)
{
    uint8_t tail[sizeof(uint16_t) + META_KEY_MAX];
    struct writer writer;
    writer_init(&writer, tail, sizeof tail);
    writer_u16(&writer, (uint16_t)key.bytes);
    writer_put(&writer, key.data, key.bytes);
    assert(writer_ok(&writer));
    struct wire_txn_lock_req req = {
        .txn = *txn,
        .key_count = 1,
        .wait_ms = META_PEER_LOCK_WAIT_MS,
    };
    struct peer_call call = {
        .group = key_group(key),
        .type = RPC_TXN_LOCK,
        .body = &req,
        .tail = slice_of(tail, writer_bytes(&writer)),
        .local = local_lock,
    };
    int result = call_peer(service, &call);
    if (result >= 0) {
        struct reader reader;
        reader_init(&reader, call.bytes.data, call.bytes.bytes);
        uint32_t bytes = reader_u32(&reader);
        if (!reader_ok(&reader)) {
            result = -ERR_CORRUPT_WIRE;
        } else if (bytes == UINT32_MAX) {
            result = -ENOENT;
        } else {
            const void *found = reader_take(&reader, bytes);
            if (!found)
                result = -ERR_CORRUPT_WIRE;
            else if (bytes > capacity)
                result = -ERANGE;
            else
                memcpy(value, found, result = (int)bytes);
        }
    }
    peer_bytes_fini(&call.bytes);
    return as_abort(result);
}

static int local_prepare(struct meta_group *mg, struct peer_call *call)
{
    const struct wire_txn_prepare_req *req = call->body;
    return participant_prepare(mg, &req->txn, call->tail);
}

int peer_prepare(struct meta_service *service, uint32_t group, const struct wire_txn_id *txn,
                 struct slice changes)
{
    struct wire_txn_prepare_req req = {.txn = *txn};
    struct peer_call call = {
        .group = group,
        .type = RPC_TXN_PREPARE,
        .body = &req,
        .tail = changes,
        .local = local_prepare,
    };
    int result = call_peer(service, &call);
    peer_bytes_fini(&call.bytes);
    return as_abort(result);
}

static int local_finish(struct meta_group *mg, struct peer_call *call)
{
    const struct wire_txn_finish_req *req = call->body;
    return participant_finish(mg, &req->txn, req->commit != 0);
}

int peer_finish(struct meta_service *service, uint32_t group, const struct wire_txn_id *txn,
                bool commit)
{
    struct wire_txn_finish_req req = {.txn = *txn, .commit = commit};
    struct peer_call call = {
        .group = group,
        .type = RPC_TXN_FINISH,
        .body = &req,
        .local = local_finish,
    };
    int result = call_peer(service, &call);
    peer_bytes_fini(&call.bytes);
    return result;
}

static int local_status(struct meta_group *mg, struct peer_call *call)
{
    const struct wire_txn_status_req *req = call->body;
    return txn_outcome(mg, &req->txn, &call->outcome);
}

int peer_status(struct meta_service *service, const struct wire_txn_id *txn, uint32_t *ret_outcome)
{
    struct wire_txn_status_req req = {.txn = *txn};
    struct peer_call call = {
        .group = txn->group,
        .type = RPC_TXN_STATUS,
        .body = &req,
        .local = local_status,
    };
    int result = call_peer(service, &call);
    if (result >= 0)
        *ret_outcome = call.outcome;
    peer_bytes_fini(&call.bytes);
    return result;
}
