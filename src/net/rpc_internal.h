/* SPDX-License-Identifier: MIT */
#ifndef CFS_NET_RPC_INTERNAL_H
#define CFS_NET_RPC_INTERNAL_H

#include "net/rpc.h"

enum {
    RPC_REQUESTS_MAX = 8192,           /* being served at once; more are answered "busy" */
    RPC_REQUEST_BYTES_MAX = 256 << 20, /* of their payloads */
    RPC_FREE_REQUESTS_MAX = 256,       /* kept for reuse */
    RPC_HEAD_MAX = sizeof(struct wire_header) + WIRE_BODY_MAX,
};
#define RPC_CONNECT_TIMEOUT_NS (2 * NS_PER_S)

struct rpc_handler {
    rpc_handler_fn fn;
    void *service;
};

/* Who we call at one address. */
struct rpc_peer {
    struct htable_node node; /* in rpc->peers, by hash of addr */
    struct rpc *rpc;
    struct net_addr addr;
    struct conn *conn; /* NULL while not connected */
    bool connecting;
    uint32_t peer_node; /* from its HELLO */
    struct list calls;  /* sent, or waiting for the connection */
};

/* A connection that calls us. Lives while connected or while a request of it is being served. */
struct rpc_conn {
    struct list link; /* in rpc->conns */
    struct rpc *rpc;
    struct conn *conn; /* NULL once closed */
    uint32_t refs;
    bool greeted;
    int refusal; /* every request is refused with this error, if not 0 */
    uint32_t peer_node;
    uint64_t peer_incarnation;
    uint64_t peer_session;
    uint64_t number; /* among those of the same peer */
    struct net_addr peer_addr;
};

struct rpc {
    struct rpc_identity identity;
    uint64_t map_version;
    uint64_t next_request_id;
    uint64_t connections; /* made to others so far */
    struct rpc_handler handlers[RPC_TYPE_MAX + 1];
    struct htable peers;
    struct htable calls;
    struct list conns;
    struct listener *listener;
    struct list free_requests;
    uint32_t free_request_count;
    uint32_t requests_now;
    uint64_t request_bytes_now;
    rpc_peer_lost_fn peer_lost;
    void *peer_lost_context;
    rpc_session_fn session_closed;
    void *session_closed_context;
    struct rpc_stats stats;
    uint8_t scratch[RPC_HEAD_MAX]; /* a message head being encoded; never held over a yield */
};

/* Encode header, fixed body and tails into rpc->scratch; header's lengths and crc are set here.
 * Returns the head's length. */
uint32_t rpc_encode(struct rpc *rpc, struct wire_header *header, const void *fixed,
                    uint32_t fixed_bytes, const struct slice *tails, uint32_t tail_count);
/* Split a received body into its fixed struct, zero-extended to known bytes in out, and its tail.
 * 0 or -ERR_CORRUPT_WIRE. */
must_check int rpc_split_body(const struct msg *msg, void *out, uint32_t known,
                              struct slice *ret_tail);

#endif
