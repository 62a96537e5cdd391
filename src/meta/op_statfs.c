/* SPDX-License-Identifier: MIT */
#include "meta/op.h"

enum { BYTES_PER_FILE = 4096 }; /* inodes are not a resource of their own: an estimate */

/* The nodes' sizes are in the map; how full they are is taken from this node's store, because
 * placement keeps them alike. */
int op_statfs(struct meta_op *op)
{
    const struct map_view *view = map_client_view(op->service->map);
    if (!view)
        return -ERR_STALE_MAP;
    struct store_space space;
    store_space(group_store(op->mg->group), &space);
    uint64_t size_bytes = 0;
    uint32_t nodes = 0;
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        if (view->nodes[i].state != MAP_NODE_UP)
            continue;
        size_bytes += view->nodes[i].size_bytes ? view->nodes[i].size_bytes : space.size_bytes;
        nodes++;
    }
    uint32_t copies = MAX(MIN(view->header->copies, nodes), 1u);
    size_bytes /= copies;
    double free_share =
        space.size_bytes ? (double)space.free_bytes / (double)space.size_bytes : 0.0;
    struct wire_statfs statfs = {
        .size_bytes = size_bytes,
        .free_bytes = (uint64_t)((double)size_bytes * free_share),
    };
    statfs.files = statfs.size_bytes / BYTES_PER_FILE;
    statfs.files_free = statfs.free_bytes / BYTES_PER_FILE;
    memcpy(peer_bytes_add(&op->tail, sizeof statfs), &statfs, sizeof statfs);
    return 0;
}
