/* SPDX-License-Identifier: MIT */
/* RPC sessions: what calling (rpc_client.c) and serving (rpc_server.c) share.
 *
 * Problem. Layers above want to say "ask that address this, wait until then"; and to serve what
 * the table lists, without touching bytes, connections or lengths.
 *
 * Picture.   rpc_call -> rpc_send -> peer (one per address) -> conn -> ... -> rpc_conn -> handler
 *                 ^------ calls (by request id) <- reply  <---------------- rpc_reply
 *
 * Invariants.
 * I1. Each accepted call ends exactly once: reply, deadline, or loss of its connection.
 * I2. done() never runs inside rpc_send: the caller's state is settled before it is told.
 * I3. Each request is answered at most once; an answer after its connection has gone is dropped.
 * I4. The first message on a connection is HELLO; nothing else is looked at before it.
 * I5. A length from the wire is checked before it is used (env checks the header, rpc_split_body
 *     the fixed part; handlers check the meaning).
 * I6. Requests of one caller are begun in the order in which it sent them, also over a broken
 *     connection: when a newer one of it has said HELLO, nothing is taken from an older one. So a
 *     request that was given up and repeated cannot come late and undo what followed.
 *
 * Limits. RPC_REQUESTS_MAX and RPC_REQUEST_BYTES_MAX bound what is being served; beyond them the
 * answer is -ERR_BUSY at once, so callers back off and memory stays bounded.
 *
 * Not here. Retries, routing by map: client/ and group/. Framing and checksums: env/. */
#include "net/rpc_internal.h"

#include "base/assert.h"
#include "base/mem.h"

struct rpc *rpc_new(const struct rpc_identity *identity)
{
    struct rpc *rpc = mem_zalloc(sizeof *rpc);
    rpc->identity = *identity;
    htable_init(&rpc->peers);
    htable_init(&rpc->calls);
    list_init(&rpc->conns);
    list_init(&rpc->free_requests);
    /* Ids start anywhere, so that a reply meant for an earlier process never matches. */
    rpc->next_request_id = env_entropy_u64() & 0xffffffffffffull;
    return rpc;
}

const struct rpc_identity *rpc_identity(const struct rpc *rpc)
{
    return &rpc->identity;
}

void rpc_set_cluster(struct rpc *rpc, const struct format_uuid *cluster)
{
    rpc->identity.cluster = *cluster;
}

void rpc_set_map_version(struct rpc *rpc, uint64_t version)
{
    rpc->map_version = version;
}

void rpc_register(struct rpc *rpc, enum rpc_type type, rpc_handler_fn handler, void *service)
{
    assert(rpc_row(type)->mode != RPC_MODE_NONE && !rpc->handlers[type].fn);
    rpc->handlers[type] = (struct rpc_handler){handler, service};
}

void rpc_unregister(struct rpc *rpc, enum rpc_type type)
{
    rpc->handlers[type] = (struct rpc_handler){0};
}

void rpc_on_peer_lost(struct rpc *rpc, rpc_peer_lost_fn fn, void *context)
{
    rpc->peer_lost = fn;
    rpc->peer_lost_context = context;
}

void rpc_on_session_closed(struct rpc *rpc, rpc_session_fn fn, void *context)
{
    rpc->session_closed = fn;
    rpc->session_closed_context = context;
}

void rpc_stats(const struct rpc *rpc, struct rpc_stats *ret_stats)
{
    *ret_stats = rpc->stats;
    ret_stats->in_flight = rpc->requests_now;
}

uint32_t rpc_encode(struct rpc *rpc, struct wire_header *header, const void *fixed,
                    uint32_t fixed_bytes, const struct slice *tails, uint32_t tail_count)
{
    struct writer writer;
    writer_init(&writer, rpc->scratch, sizeof rpc->scratch);
    struct wire_header *place = writer_reserve(&writer, sizeof *header);
    if (fixed) {
        assert(fixed_bytes >= sizeof(struct wire_body));
        struct wire_body *body = (struct wire_body *)(void *)writer.cursor;
        writer_put(&writer, fixed, fixed_bytes);
        *body = (struct wire_body){.fixed_bytes = (uint16_t)fixed_bytes};
        for (uint32_t i = 0; i < tail_count; i++)
            writer_put(&writer, tails[i].data, tails[i].bytes);
    }
    assert(writer_ok(&writer)); /* callers keep within WIRE_BODY_MAX */
    uint32_t head_bytes = (uint32_t)writer_bytes(&writer);
    header->body_bytes = head_bytes - (uint32_t)sizeof *header;
    header->map_version = rpc->map_version;
    wire_header_seal(header, place + 1);
    *place = *header;
    return head_bytes;
}

int rpc_split_body(const struct msg *msg, void *out, uint32_t known, struct slice *ret_tail)
{
    struct wire_body body;
    if (msg->body_bytes < sizeof body)
        return -ERR_CORRUPT_WIRE;
    memcpy(&body, msg->body, sizeof body);
    if (body.fixed_bytes < sizeof body || body.fixed_bytes > msg->body_bytes)
        return -ERR_CORRUPT_WIRE;
    uint32_t common = MIN((uint32_t)body.fixed_bytes, known);
    memcpy(out, msg->body, common);
    memset((uint8_t *)out + common, 0, known - common);
    *ret_tail = slice_of(msg->body + body.fixed_bytes, msg->body_bytes - body.fixed_bytes);
    return 0;
}
