/* SPDX-License-Identifier: MIT */
/* Making the disks of a new cluster: every node is told all nodes, so the first start needs no
 * further word from anyone. */
#include "cmd/format.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/assert.h"
#include "cmd/session.h"
#include "format/wire_meta.h"
#include "node/node.h"

enum {
    META_GROUPS_PER_NODE = 2,
    DATA_GROUPS_PER_NODE = 4,
    VOTERS_MAX = 3,
    PROTOCOL_LEVEL = 1,
};

void cluster_new_id(struct format_uuid *ret_uuid)
{
    while (getrandom(ret_uuid->bytes, sizeof ret_uuid->bytes, 0) != sizeof ret_uuid->bytes)
        assert(errno == EINTR);
}

int cluster_plan_add(struct cluster_plan *plan, const char *name, const char *addr,
                     uint64_t size_bytes)
{
    struct net_addr net_addr;
    if (plan->node_count == ARRAY_COUNT(plan->nodes))
        return -E2BIG;
    int result = net_addr_parse(addr, &net_addr);
    if (result < 0)
        return result;
    struct map_node *node = &plan->nodes[plan->node_count];
    *node = (struct map_node){
        .id = plan->node_count + 1,
        .host = plan->node_count + 1,
        .state = MAP_NODE_NEW,
        .port = net_addr.port,
        .size_bytes = size_bytes,
    };
    memcpy(node->ip, net_addr.ip, sizeof node->ip);
    snprintf(node->name, sizeof node->name, "%s", name);
    plan->node_count++;
    return 0;
}

void cluster_plan_finish(struct cluster_plan *plan)
{
    assert(plan->node_count > 0);
    uint32_t voters = plan->node_count >= VOTERS_MAX ? VOTERS_MAX : 1;
    for (uint32_t i = 0; i < plan->node_count; i++)
        plan->nodes[i].voter = i < voters;
    plan->copies = MIN(plan->copies, plan->node_count);
}

/* The first map takes that of whoever makes it. */
static uint64_t new_secret(void)
{
    struct format_uuid random;
    uint64_t secret;
    cluster_new_id(&random);
    memcpy(&secret, random.bytes, sizeof secret);
    return secret | 1;
}

static int format_fiber(void *context)
{
    const struct node_format_options *options = context;
    return node_format(options);
}

int cluster_format_disk(const struct cluster_plan *plan, uint32_t node,
                        const struct cluster_disk *disk)
{
    struct node_format_options options = {
        .disk_path = disk->path,
        .size_bytes = disk->size_bytes,
        .force = disk->force,
        .node = node,
        .meta_groups = META_GROUPS_PER_NODE * plan->node_count,
        .data_groups = DATA_GROUPS_PER_NODE * plan->node_count,
        .header =
            {
                .level = PROTOCOL_LEVEL,
                .join_secret = new_secret(),
                .cluster = plan->cluster,
                .copies = plan->copies,
                .min_in_sync = 1,
                .inline_bytes_max = META_INLINE_MAX,
            },
        .nodes = plan->nodes,
        .node_count = plan->node_count,
    };
    return session_run("format", format_fiber, &options);
}
