/* SPDX-License-Identifier: MIT */
#ifndef CFS_GROUP_GROUP_FIXTURE_H
#define CFS_GROUP_GROUP_FIXTURE_H

/* What the tests of groups share: nodes at fixed addresses, each with a store and a group host. */

#include "format/map_format.h"
#include "group/group.h"

/* The map's entry of node id: it serves at 10.0.0.ID:7000. */
void group_fixture_node(struct map_node *ret_node, uint32_t id, enum map_node_state state,
                        uint64_t incarnation);

struct group_fixture {
    uint32_t id;
    uint64_t incarnation;
    const char *disk; /* made and formatted if it is not there */
    uint64_t log_memory_bytes;
    const struct group_content_ops *content; /* of both kinds of groups */
    void *context;                           /* its */
    struct store **store;                    /* where the store goes; stays valid */
};
/* Open the store, load its groups, and listen. Errors of store_open; asserts on others. */
may_yield must_check int group_fixture_start(const struct group_fixture *fixture,
                                             struct rpc **ret_rpc, struct group_host **ret_groups);

#endif
