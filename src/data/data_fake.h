/* SPDX-License-Identifier: MIT */
#ifndef CFS_DATA_DATA_FAKE_H
#define CFS_DATA_DATA_FAKE_H

/* What the tests of data put in the place of group and rpc: two members of one group in one
 * reactor, which yield at random wherever the real ones may. */

#include "base/random.h"
#include "data/data.h"
#include "data/data_internal.h"

enum { FAKE_GROUP = 7, FAKE_EPOCH = 3, FAKE_YIELD_PERCENT = 30 };

struct group {
    struct group_host *host;
    uint64_t applied_seq;
    struct waitq applied;
};

struct group_host {
    struct store *store;
    struct random random;
    uint32_t extent_blocks_max; /* how this member cuts what it gets */
    /* Gets the extents of an append that was refused; NULL: none is. */
    void (*forget)(struct store *store, const struct store_extent *extents, uint32_t count);
    struct group group;
    struct data_service *service;
    struct rpc *rpc;
    struct group_host *other;
    bool primary;
    uint32_t epoch;      /* as this host, and whoever sends it a request, knows it */
    uint32_t fails_in;   /* the append after so many fails; 0: none */
    struct list records; /* appended, not applied */
    struct waitq appended;
};

struct rpc {
    rpc_handler_fn handlers[RPC_TYPE_MAX + 1];
    struct group_host *peer; /* where calls go */
};

/* Two members, the first the primary. */
void fake_pair_init(struct group_host hosts[2], struct rpc rpcs[2], struct store *stores[2],
                    uint64_t seed);
/* A request served directly. Returns the status; payload and tail of a reply are copied. */
struct fake_reply {
    int status;
    uint32_t bytes;
    uint8_t *data; /* room given by the caller */
    uint32_t crcs[DATA_WRITE_BLOCKS_MAX];
    uint32_t crc_count;
};
may_yield int fake_serve(struct group_host *host, enum rpc_type type,
                         const struct wire_obj_req *body, struct slice bytes,
                         struct fake_reply *reply);

#endif
