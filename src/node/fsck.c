/* SPDX-License-Identifier: MIT */
/* The offline check: opens what a stopped cluster has left, and leads through the layers' checks.
 *
 *     disks -> nodes opened to be read only      (journals replayed into memory)
 *           -> each store by itself              store/check.c, data/fsck.c
 *           -> the newest map of all voters      map/stored.c
 *           -> each group: newest member, compared with its equals    group/fsck.c
 *           -> the namespace over the newest members                  meta/fsck.c
 *
 * A disk that cannot be opened is told of, and the rest is checked as far as it goes. */
#include "node/fsck.h"

#include "base/assert.h"
#include "base/mem.h"
#include "data/fsck.h"
#include "meta/fsck.h"
#include "node/node_internal.h"

enum { TABLE_SHARE = 4 }; /* a quarter of the memory is for the table of inodes */

struct look {
    struct fsck fsck;
    struct node **nodes;
    struct group_host **hosts;
    uint32_t count;
    uint32_t node; /* whose store is being checked */
};

uint64_t node_fsck_memory_min(uint32_t disk_count)
{
    return (disk_count + 1) * (uint64_t)NODE_MEMORY_MIN;
}

static void tell_disk(struct look *look, const char *path, int result)
{
    fsck_tell(&look->fsck, result == -ERR_CORRUPT_DISK ? FSCK_DISK_LOST : FSCK_DISK, "%s: %s", path,
              result == -EBUSY ? "a node is running on it" : error_text(result));
}

static void open_part(struct look *look, const struct node_options *options)
{
    struct node *node;
    int result = node_look(options, &node);
    if (result < 0) {
        tell_disk(look, options->disk_path, result);
        return;
    }
    look->nodes = mem_realloc(look->nodes, (look->count + 1) * sizeof(struct node *));
    look->hosts = mem_realloc(look->hosts, (look->count + 1) * sizeof(struct group_host *));
    look->nodes[look->count] = node;
    look->hosts[look->count++] = node->host;
}

static void open_all(struct look *look, const struct node_fsck_options *options)
{
    uint64_t table_bytes =
        options->table_bytes ? options->table_bytes : options->memory_bytes / TABLE_SHARE;
    uint64_t disk_bytes = (options->memory_bytes - table_bytes) / options->disk_count;
    look->fsck.memory_bytes = table_bytes;
    for (uint32_t i = 0; i < options->disk_count; i++) {
        struct node_options node_options = {.disk_path = options->disks[i]};
        struct disk *disk;
        struct store_identity identity;
        int result = node_device_open(options->disks[i], DISK_READ_ONLY, &disk, &identity);
        if (result < 0) {
            tell_disk(look, options->disks[i], result);
            continue;
        }
        uint32_t slices = MAX(identity.slice_count, 1u);
        node_options.memory_bytes = MAX(disk_bytes / slices, (uint64_t)NODE_MEMORY_MIN);
        if (identity.slice_bytes == 0)
            disk_close(disk); /* else it is kept: its lock is that of all slices */
        for (uint32_t at = 0; at < slices; at++) {
            node_options.slice =
                (struct node_slice){at, identity.slice_count, identity.slice_bytes};
            open_part(look, &node_options);
        }
    }
}

static void store_finding(void *context, const char *what, const char *where)
{
    struct look *look = context;
    fsck_tell(&look->fsck, FSCK_STORE, "node %u: %s: %s", look->node, what, where);
}

static void check_store(struct look *look, struct node *node)
{
    struct store_health health;
    look->node = node_id(node);
    int result = store_check_report(node->store, store_finding, look);
    if (result < 0 && result != -ERR_CORRUPT_DISK)
        fsck_tell(&look->fsck, FSCK_READ, "store of node %u: %s", look->node, error_text(result));
    store_health(node->store, &health);
    if (health.journal_damaged)
        fsck_tell(&look->fsck, FSCK_JOURNAL, "node %u, %s", look->node, node->options.disk_path);
}

/* The newest map, or NULL. */
static struct map_view *newest_map(struct look *look)
{
    struct map_stored best = {0};
    for (uint32_t i = 0; i < look->count; i++) {
        struct map_stored stored;
        struct node *node = look->nodes[i];
        int result = map_stored_load(node->store, node_id(node), &stored);
        if (result < 0)
            fsck_tell(&look->fsck, FSCK_READ, "map on node %u: %s", node_id(node),
                      error_text(result));
        if (result < 0 || !stored.view)
            continue;
        bool newer = stored.term > best.term ||
                     (stored.term == best.term && stored.index > best.index) || !best.view;
        map_view_put(newer ? best.view : stored.view);
        if (newer)
            best = stored;
    }
    return best.view;
}

static void check_cluster(struct look *look, struct map_view *view)
{
    struct fsck *fsck = &look->fsck;
    uint32_t groups = view->header->group_count;
    fsck->view = view;
    fsck->stores = mem_zalloc(groups * sizeof(struct store *));
    for (uint32_t i = 0; i < look->count; i++)
        data_fsck_store(fsck, look->nodes[i]->store, node_id(look->nodes[i]));
    for (uint32_t i = 0; i < groups; i++)
        fsck_group(fsck, i, look->hosts, look->count);
    meta_fsck(fsck);
    mem_free(fsck->stores);
}

void node_fsck(const struct node_fsck_options *options, struct fsck_counts *ret_counts)
{
    assert(options->disk_count > 0 && options->disk_count <= NODE_FSCK_DISKS_MAX);
    assert(options->memory_bytes >= node_fsck_memory_min(options->disk_count));
    struct look *look = mem_zalloc(sizeof *look);
    look->fsck.fn = options->fn;
    look->fsck.context = options->context;
    look->fsck.read_data = options->read_data;
    open_all(look, options);
    for (uint32_t i = 0; i < look->count; i++)
        check_store(look, look->nodes[i]);
    struct map_view *view = newest_map(look);
    if (view)
        check_cluster(look, view);
    else
        fsck_tell(&look->fsck, FSCK_NO_MAP, "%u disks", look->count);
    map_view_put(view);
    for (uint32_t i = 0; i < look->count; i++)
        (void)!node_stop(look->nodes[i]); /* of a store that is only read: cannot fail */
    *ret_counts = look->fsck.counts;
    mem_free(look->nodes);
    mem_free(look->hosts);
    mem_free(look);
}
