/* SPDX-License-Identifier: MIT */
#ifndef CFS_DATA_DATA_FAKE_H
#define CFS_DATA_DATA_FAKE_H

/* What the tests of data put in the place of store, group and rpc: two members of one group in one
 * reactor. The fake store keeps rows in an array and counts, block by block, what rows refer to, so
 * that every extent_add and extent_del has to be right; freed blocks are overwritten at once, and
 * reads yield at random, so that every assumption about who waits for whom is put to the test. */

#include "base/random.h"
#include "data/data.h"
#include "data/data_internal.h"

enum { FAKE_BLOCKS = 16384, FAKE_ROWS_MAX = 16384, FAKE_GROUP = 7, FAKE_EPOCH = 3 };

struct fake_row {
    uint8_t key[DATA_KEY_BYTES];
    uint32_t value_bytes;
    uint8_t value[DATA_VALUE_BYTES_MAX];
};

enum fake_owner { FAKE_FREE, FAKE_FRESH, FAKE_LIVE };

struct store {
    struct fake_row *rows; /* ascending keys */
    uint32_t row_count;
    uint8_t *device;
    uint8_t owner[FAKE_BLOCKS]; /* enum fake_owner */
    uint32_t cursor;
    struct random random;
    uint32_t yield_percent;
    uint32_t extent_blocks_max; /* how this member cuts what it gets */
    store_move_fn move;
    void *move_context;
};

struct group {
    struct group_host *host;
    uint64_t applied_seq;
    struct waitq applied;
};

struct group_host {
    struct store store;
    struct group group;
    struct data_service *service;
    struct rpc *rpc;
    struct group_host *other;
    bool primary;
    struct list records; /* appended, not applied */
    struct waitq appended;
};

struct rpc {
    rpc_handler_fn handlers[RPC_TYPE_MAX + 1];
    struct group_host *peer; /* where calls go */
};

/* Two members, the first the primary. */
void fake_pair_init(struct group_host hosts[2], struct rpc rpcs[2], uint64_t seed);
/* Check rows against blocks of the device: D1, and every block of a row is live. Returns the number
 * of live blocks. */
uint32_t fake_store_check(const struct store *store);
/* Move one random live row as the cleaner would. */
may_yield void fake_clean_one(struct store *store);

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
