/* SPDX-License-Identifier: MIT */
/* Device check and dump: a node is put together without network and looked at, as fsck.c does with
 * all disks of a cluster; but here only what one store can know. */
#include "node/device.h"

#include "data/check.h"
#include "node/node_internal.h"

/* One slice of the device, or the whole. */
typedef int (*slice_fn)(struct node *node, struct node_device_options *options, void *context);

static int look(struct node_device_options *options, const struct node_slice *slice, slice_fn fn,
                void *context)
{
    struct node *node;
    struct store_health health;
    uint64_t share_bytes = options->memory_bytes / MAX(slice->count, 1u);
    const struct node_options node_options = {
        .disk_path = options->path,
        .memory_bytes = MAX(share_bytes, (uint64_t)NODE_MEMORY_MIN),
        .slice = *slice,
    };
    int result = node_look(&node_options, &node);
    if (result < 0)
        return result;
    store_health(node->store, &health);
    options->journal_lost = health.journal_damaged;
    result = fn(node, options, context);
    (void)!node_stop(node); /* of a store that is only read: cannot fail */
    return result;
}

/* The worst result: anything else before findings. */
static int look_at_all(struct node_device_options *options, slice_fn fn, void *context)
{
    struct disk *disk;
    struct store_identity identity;
    int worst = node_device_open(options->path, DISK_READ_ONLY, &disk, &identity);
    if (worst < 0)
        return worst;
    for (uint32_t i = 0; i < MAX(identity.slice_count, 1u); i++) {
        const struct node_slice slice = {i, identity.slice_count, identity.slice_bytes};
        int result = look(options, &slice, fn, context);
        if (result < 0 && (worst == 0 || worst == -ERR_CORRUPT_DISK))
            worst = result;
    }
    disk_close(disk);
    return worst;
}

struct checking {
    store_finding_fn fn;
    void *context;
    struct node_device_counts *counts;
};

static int check_slice(struct node *node, struct node_device_options *options, void *context)
{
    const struct checking *checking = context;
    struct data_check_counts counts = {0};
    int result = store_check_report(node->store, checking->fn, checking->context);
    if (options->journal_lost) {
        checking->fn(checking->context, "the journal is damaged",
                     "all behind the damage is lost; the node will be filled anew by its peers");
        result = result < 0 ? result : -ERR_CORRUPT_DISK;
    }
    if (!options->no_data && (result == 0 || result == -ERR_CORRUPT_DISK)) {
        int data_result = data_check_store(node->store, checking->fn, checking->context, &counts);
        result = result < 0 ? result : data_result;
    }
    checking->counts->extents += counts.extents;
    checking->counts->data_bytes += counts.data_bytes;
    return result;
}

int node_device_check(struct node_device_options *options, store_finding_fn fn, void *context,
                      struct node_device_counts *ret_counts)
{
    struct node_device_counts counts = {0};
    struct checking checking = {fn, context, &counts};
    int result = look_at_all(options, check_slice, &checking);
    *ret_counts = counts;
    return result;
}

struct dumping {
    store_line_fn fn;
    void *context;
};

static int dump_slice(struct node *node, struct node_device_options *options, void *context)
{
    const struct dumping *dumping = context;
    int result = 0;
    if (node->options.slice.index > 0) /* the first one's have been shown */
        result = store_dump_super(node->disk, dumping->fn, dumping->context);
    if (result == 0)
        result = store_dump(node->store, options->rows, dumping->fn, dumping->context);
    return result;
}

int node_device_dump(struct node_device_options *options, store_line_fn fn, void *context)
{
    struct disk *disk;
    struct dumping dumping = {fn, context};
    int result = disk_open(options->path, 0, DISK_READ_ONLY, &disk);
    if (result < 0)
        return result;
    result = store_dump_super(disk, fn, context);
    disk_close(disk);
    return result < 0 ? result : look_at_all(options, dump_slice, &dumping);
}
