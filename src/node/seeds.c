/* SPDX-License-Identifier: MIT */
/* Where to look for the cluster at the next start. The nodes that a device was formatted with may
 * all be gone by then; the members of the map group as last seen are kept beside them. */
#include "base/assert.h"
#include "base/log.h"
#include "node/node_internal.h"

static struct slice seeds_key(void)
{
    static const uint8_t key[5] = {0, 0, 0, STORE_GROUP_LOCAL, NODE_TABLE_SEEDS};
    return slice_of(key, sizeof key);
}

uint32_t node_seeds_load(struct node *node, struct net_addr seeds[NODE_SEEDS_MAX])
{
    uint32_t count = 0;
    int bytes = store_get(node->store, seeds_key(), node->kept_seeds, sizeof node->kept_seeds);
    if (bytes > 0)
        node->kept_seed_count = (uint32_t)bytes / sizeof node->kept_seeds[0];
    else if (bytes != -ENOENT && bytes != 0)
        log_warn("node-seeds", "error=%s effect=\"looks where it was told at format\"",
                 error_name(bytes));
    node->kept_seed_count = MIN(node->kept_seed_count, (uint32_t)DISK_NODE_SEEDS_MAX);
    for (uint32_t i = 0; i < node->kept_seed_count; i++) {
        seeds[count] = (struct net_addr){.port = node->kept_seeds[i].port};
        memcpy(seeds[count++].ip, node->kept_seeds[i].ip, sizeof seeds[0].ip);
    }
    for (uint32_t i = 0; i < node->config.node_count; i++)
        map_node_addr(&node->nodes[i], &seeds[count++]);
    assert(count > 0 && count <= NODE_SEEDS_MAX);
    return count;
}

void node_seeds_save(struct node *node, const struct map_view *view)
{
    struct disk_node_seed now[DISK_NODE_SEEDS_MAX] = {0};
    uint32_t count = 0;
    for (uint32_t i = 0; i < view->header->node_count && count < DISK_NODE_SEEDS_MAX; i++) {
        if (view->nodes[i].voter != MAP_VOTER_FULL)
            continue;
        now[count].port = view->nodes[i].port;
        memcpy(now[count++].ip, view->nodes[i].ip, sizeof now[0].ip);
    }
    bool same =
        count == node->kept_seed_count && memcmp(now, node->kept_seeds, count * sizeof now[0]) == 0;
    if (same || count == 0)
        return;
    memcpy(node->kept_seeds, now, sizeof now);
    node->kept_seed_count = count;
    struct store_batch batch;
    store_batch_init(&batch);
    store_batch_put(&batch, seeds_key(), slice_of(now, count * sizeof now[0]));
    (void)store_commit(node->store, &batch); /* durable with whatever comes next */
    store_batch_fini(&batch);
}
