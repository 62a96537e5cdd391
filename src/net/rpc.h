/* SPDX-License-Identifier: MIT */
#ifndef CFS_NET_RPC_H
#define CFS_NET_RPC_H

/* Requests and replies over connections (format/rpc_table.h lists them).
 *
 * One rpc object per process and reactor: it owns the connections to peers (made on demand, one
 * per address, HELLO first) and, once rpc_listen was called, serves requests. */

#include "base/buf.h"
#include "base/bytes.h"
#include "base/htable.h"
#include "env/env.h"
#include "format/rpc.h"
#include "format/wire_header.h"

struct rpc;

struct rpc_identity {
    struct format_uuid cluster; /* all zero: not known yet; learned from the first peer */
    uint32_t node;              /* 0: a client */
    uint64_t incarnation;
    uint64_t session; /* clients */
};

struct rpc *rpc_new(const struct rpc_identity *identity);
const struct rpc_identity *rpc_identity(const struct rpc *rpc);
void rpc_set_cluster(struct rpc *rpc, const struct format_uuid *cluster);
/* Stamped into every header we send. */
void rpc_set_map_version(struct rpc *rpc, uint64_t version);

/* ---- calling ----------------------------------------------------------------------------- */

struct rpc_call {
    /* in */
    enum rpc_type type;
    uint32_t group; /* 0 if none */
    uint32_t epoch;
    const void *body;     /* fixed struct; its struct wire_body is filled in by rpc_call */
    struct slice tail[2]; /* appended to the body, in order */
    struct buf_slice payload;
    uint64_t deadline_ns;
    /* out */
    int status;        /* as returned */
    struct msg *reply; /* owned by the caller (rpc_call_fini); NULL when no reply came */
};

/* Send and wait for the reply. Returns the reply's status (>= 0, or the callee's negative error),
 * or our own: -ERR_CONN_REFUSED (nothing listens: the process is gone), -ERR_CONN_LOST (sent, no
 * reply: it may or may not have happened), -ERR_TIMED_OUT, -ERR_WRONG_CLUSTER.
 * Whatever it returns, call rpc_call_fini. */
may_yield int rpc_call(struct rpc *rpc, const struct net_addr *to, struct rpc_call *call);
void rpc_call_fini(struct rpc_call *call);

/* The fixed reply struct, zero-extended to bytes, into out; the tail behind it. False if there is
 * no reply. */
bool rpc_reply_body(const struct rpc_call *call, void *out, uint32_t bytes, struct slice *ret_tail);

/* The same without a fiber: done runs on the reactor outside fibers when the reply or failure is
 * there (never from within rpc_send). call must live until then; body, tail and payload are
 * consumed before rpc_send returns. */
struct rpc_async {
    struct rpc_call call;
    void (*done)(struct rpc_async *async);
    void *context;
    /* private */
    struct htable_node node; /* in rpc->calls, by request id */
    struct list link;        /* in its peer's calls */
    struct timer timer;
    struct rpc *rpc;
    uint8_t *head; /* the encoded message while the connection is being made */
    uint32_t head_bytes;
};
void rpc_send(struct rpc *rpc, const struct net_addr *to, struct rpc_async *async);
/* The process at that address is known to be dead: nobody shall wait for it longer than that is
 * known. Unanswered calls end with -ERR_CONN_LOST before this returns, the connection closes; the
 * next call makes a new one. */
void rpc_cut(struct rpc *rpc, const struct net_addr *addr);

/* ---- serving ----------------------------------------------------------------------------- */

/* A request being served. Reply exactly once with rpc_reply; the request is freed then. */
struct rpc_request {
    struct list link;
    struct rpc *rpc;
    const struct wire_header *header;
    const void *body;  /* fixed struct, zero-extended to what the table says */
    struct slice tail; /* bounds known, meaning not checked */
    struct buf_slice payload;
    uint32_t peer_node; /* who said HELLO: node id, or 0 and a session */
    uint64_t peer_incarnation;
    uint64_t peer_session;
    struct net_addr peer_addr;
    /* private */
    struct msg *msg;
    struct rpc_conn *conn;
    uint64_t fixed[WIRE_FIXED_MAX / 8];
};

/* status: 0, positive, or negative error. body: fixed reply struct of the table (may be NULL on
 * error). Tail and payload may be empty. */
void rpc_reply(struct rpc_request *request, int status, const void *body, struct slice tail,
               struct buf_slice payload);
/* Only a status. */
void rpc_reply_status(struct rpc_request *request, int status);

/* Handler of one RPC type; must make sure that rpc_reply is called, now or later. FIBER types run
 * in a fiber of their own, INLINE types on the reactor, in arrival order per connection. */
typedef void (*rpc_handler_fn)(void *service, struct rpc_request *request);
void rpc_register(struct rpc *rpc, enum rpc_type type, rpc_handler_fn handler, void *service);
/* So that another handler can take its place. */
void rpc_unregister(struct rpc *rpc, enum rpc_type type);
/* Serve at addr. Errors as net_listen. */
must_check int rpc_listen(struct rpc *rpc, const struct net_addr *addr);

/* Told when a connection to or from a node breaks or is refused: the fast path of failure
 * detection. error: -ERR_CONN_LOST or -ERR_CONN_REFUSED. */
typedef void (*rpc_peer_lost_fn)(void *context, const struct net_addr *addr, uint32_t node,
                                 int error);
void rpc_on_peer_lost(struct rpc *rpc, rpc_peer_lost_fn fn, void *context);

/* Has the session that asked a connection still? (One that closes later is told below.) */
bool rpc_session_connected(const struct rpc_request *request);
/* A client session's connections: called when the last connection of a session has closed. */
typedef void (*rpc_session_fn)(void *context, uint64_t session);
void rpc_on_session_closed(struct rpc *rpc, rpc_session_fn fn, void *context);

struct rpc_stats {
    uint64_t requests; /* served */
    uint64_t calls;    /* made */
    uint64_t refused;  /* malformed messages, unknown types, wrong cluster */
    uint32_t in_flight;
    uint32_t conns;
};
void rpc_stats(const struct rpc *rpc, struct rpc_stats *ret_stats);

#endif
