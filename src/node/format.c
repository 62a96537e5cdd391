/* SPDX-License-Identifier: MIT */
/* Preparing a device: an empty store with one row, the configuration (format/disk_node.h). */
#include "base/assert.h"
#include "base/log.h"
#include "node/node_internal.h"

struct slice node_config_key(void)
{
    static const uint8_t key[5] = {0, 0, 0, STORE_GROUP_LOCAL, NODE_TABLE_CONFIG};
    return slice_of(key, sizeof key);
}

static int write_config(struct store *store, const struct node_format_options *options)
{
    uint8_t value[sizeof(struct disk_node_config) +
                  DISK_NODE_CONFIG_NODES_MAX * sizeof(struct map_node)];
    struct disk_node_config config = {
        .version = DISK_NODE_CONFIG_VERSION,
        .node = options->node,
        .meta_groups = options->meta_groups,
        .data_groups = options->data_groups,
        .node_count = options->node_count,
        .header = options->header,
    };
    struct writer writer;
    writer_init(&writer, value, sizeof value);
    writer_put(&writer, &config, sizeof config);
    writer_put(&writer, options->nodes, options->node_count * sizeof(struct map_node));
    if (!writer_ok(&writer))
        return -E2BIG;
    struct store_batch batch;
    store_batch_init(&batch);
    store_batch_put(&batch, node_config_key(), slice_of(value, writer_bytes(&writer)));
    uint64_t lsn = store_commit(store, &batch);
    store_batch_fini(&batch);
    return store_wait_durable(store, lsn);
}

/* The store wants an owner of log records; a device being formatted has none. */
static void no_record(void *context, const struct store_log_record *record)
{
    (void)context;
    (void)record;
}
static void no_truncate(void *context, uint32_t group, uint64_t seq)
{
    (void)context;
    (void)group;
    (void)seq;
}
static int no_apply(void *context, uint32_t group, uint64_t seq)
{
    (void)context;
    (void)group;
    (void)seq;
    return -ERR_CORRUPT_DISK;
}
static void no_relog(void *context)
{
    (void)context;
}
static const struct store_log_ops no_log = {
    .replay_record = no_record,
    .replay_truncate = no_truncate,
    .replay_apply = no_apply,
    .relog = no_relog,
};

int node_format(const struct node_format_options *options)
{
    assert(options->node_count <= DISK_NODE_CONFIG_NODES_MAX);
    struct disk *disk;
    const struct node_slice *slice = &options->slice;
    int result = slice->bytes > 0
                     ? disk_open_part(options->disk_path, slice->index * slice->bytes, slice->bytes,
                                      0, &disk)
                     : disk_open(options->disk_path, options->size_bytes, DISK_CREATE, &disk);
    if (result < 0)
        return result;
    struct store_identity identity = {
        .cluster = options->header.cluster,
        .node = options->node,
        .slice = slice->index,
        .slice_count = slice->count,
        .slice_bytes = slice->bytes,
    };
    uint64_t words[2] = {env_entropy_u64(), env_entropy_u64()};
    memcpy(&identity.store, words, sizeof identity.store);
    result = store_format(disk, &identity, options->force);
    if (result == 0) {
        struct store *store;
        const struct store_options store_options = {.memory_bytes = 16 * MIB, .log_ops = &no_log};
        result = store_open(disk, &store_options, &store);
        if (result == 0) {
            result = write_config(store, options);
            int closed = store_close(store);
            result = result < 0 ? result : closed;
        }
    }
    disk_close(disk);
    return result;
}
