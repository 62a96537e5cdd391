/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_RPC_H
#define CFS_FORMAT_RPC_H

#include "format/wire_header.h"

/* The enum, names and size checks that follow from rpc_table.h. */
enum rpc_type {
#define X(NAME, name, number, mode) RPC_##NAME = number,
#include "format/rpc_table.h"
#undef X
};
enum { RPC_TYPE_MAX = 127 };

enum rpc_mode {
    RPC_MODE_NONE, /* number not in the table */
    RPC_MODE_FIBER,
    RPC_MODE_INLINE,
};

/* What the table says of a type; name NULL and mode RPC_MODE_NONE if unknown. */
struct rpc_row {
    const char *name;
    enum rpc_mode mode;
    uint16_t request_bytes; /* sizeof the fixed request struct */
    uint16_t reply_bytes;
};
const struct rpc_row *rpc_row(uint32_t type);

/* Every body begins with this. A receiver that knows a longer struct sees zeroes in the fields
 * that the sender did not know; one that knows a shorter struct skips what it does not know. So
 * levels N-1 and N speak to each other. */
struct wire_body {
    uint16_t fixed_bytes; /* sizeof the sender's fixed struct; the tail follows */
    uint16_t zero[3];
};
FORMAT_SIZE(struct wire_body, 8);

enum { WIRE_FIXED_MAX = 512 };

#endif
