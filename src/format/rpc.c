/* SPDX-License-Identifier: MIT */
#include "format/rpc.h"

#include "format/wire_data.h"
#include "format/wire_group.h"
#include "format/wire_map.h"
#include "format/wire_meta.h"
#include "format/wire_net.h"

#define X(NAME, name, number, mode)                                                                \
    _Static_assert(sizeof(struct wire_##name##_req) <= WIRE_FIXED_MAX &&                           \
                       sizeof(struct wire_##name##_rep) <= WIRE_FIXED_MAX &&                       \
                       (number) <= RPC_TYPE_MAX,                                                   \
                   #name " fits the limits of a message");
#include "format/rpc_table.h"
#undef X

static const struct rpc_row rows[RPC_TYPE_MAX + 1] = {
#define X(NAME, name, number, mode)                                                                \
    [number] = {#name, RPC_MODE_##mode, sizeof(struct wire_##name##_req),                          \
                sizeof(struct wire_##name##_rep)},
#include "format/rpc_table.h"
#undef X
};

const struct rpc_row *rpc_row(uint32_t type)
{
    static const struct rpc_row none = {0};
    return type <= RPC_TYPE_MAX ? &rows[type] : &none;
}
