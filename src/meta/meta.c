/* SPDX-License-Identifier: MIT */
/* The namespace service.
 *
 * Problem. Names, inodes and their attributes, for many clients at once, with the results that
 * POSIX names, on groups that move between nodes and on nodes that die.
 *
 * Picture. A verb on its way:
 *
 *     RPC -> dispatch.c (table of verbs) -> op.c: decode and check, find the group's state
 *       reading:  op_<verb>.c reads applied + prepared rows ---------------+
 *       changing: replay.c (done before?) -> op_<verb>.c in a transaction  |
 *                 (txn.c: lock, read, change, commit; again if aborted)    |
 *       -> group_wait: all that the answer depends on has committed <------+
 *       -> reply
 *
 * Where rows live. An inode number's top 12 bits are its slot, the map gives the slot's group. The
 * names in a directory are in the group of the directory's inode. A file is born in the slot of
 * its directory, so most verbs concern one group; a directory's slot is random, which spreads
 * the load.
 *
 * Invariants (those of transactions are in txn.c).
 * M1. A directory's inode counts its names (entries) and its subdirectories (nlink - 2), in the
 *     same record that changes them. Inode and names are in one group.
 * M2. An inode without names has nlink 0 and an ORPHAN row, or is gone.
 * M3. A file inode's number is used once, even if the group loses all memory: the reservation of
 *     numbers is durable before the first use (serving.c). A directory's is random and checked.
 * M4. A reply leaves when everything that it depends on has committed, from who still serves then.
 * M5. What a changing request did is a row written with it; a repetition reads that row.
 * M6. A file moved to objects never comes back inline; size and data of an inline file change
 *     in one record.
 *
 * Crash cases. All state is in the group's log; memory (locks, opens, results on their way) is
 * rebuilt or given up by the serving hook (serving.c).
 *
 * Limits. A directory is served by one group. Names are scanned to print a path.
 *
 * Not here. Replication (group), data (data), caching and retries (client). */
#include "base/log.h"
#include "base/mem.h"
#include "meta/meta_internal.h"
#include "meta/participant.h"

struct meta_service *meta_service_new(void)
{
    struct meta_service *service = mem_zalloc(sizeof *service);
    htable_init(&service->sessions);
    return service;
}

void meta_service_start(struct meta_service *service, struct rpc *rpc, struct group_host *host,
                        struct map_client *map)
{
    assert(!service->rpc);
    service->rpc = rpc;
    service->host = host;
    service->map = map;
    meta_register_verbs(service);
    meta_register_participant(service);
}

void meta_map_changed(struct meta_service *service, const struct map_view *view)
{
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        const struct map_group *row = &view->groups[i];
        struct group *group =
            row->kind == MAP_GROUP_META ? group_find(service->host, row->id) : NULL;
        struct meta_group *mg = group ? group_user(group) : NULL;
        if (mg)
            participant_map_changed(mg, view);
    }
}

/* Records of meta groups are batches; values hold no extents. */
static int refuse_content(void *context, struct group *group, const struct store_log_record *record,
                          struct store_batch *batch)
{
    (void)context;
    (void)batch;
    log_error("meta-record", "group=%u seq=%llu why=\"not a batch\"", group_id(group),
              (unsigned long long)record->seq);
    return -ERR_CORRUPT_DISK;
}

static bool no_extent(void *context, struct slice key, struct slice value,
                      struct store_extent *ret_extent)
{
    (void)context;
    (void)key;
    (void)value;
    (void)ret_extent;
    return false;
}

static void no_rebase(void *context, struct slice key, void *value, uint32_t value_bytes,
                      struct store_extent extent)
{
    (void)context;
    (void)key;
    (void)value;
    (void)value_bytes;
    (void)extent;
    WRONG("metadata has no extents");
}

const struct group_content_ops meta_content_ops = {
    .apply = refuse_content,
    .serving = meta_serving,
    .ceased = meta_ceased,
    .extent_of = no_extent,
    .rebase = no_rebase,
};

int meta_group_of_ino(const struct meta_service *service, uint64_t ino, uint32_t *ret_group)
{
    const struct map_view *view = service->map ? map_client_view(service->map) : NULL;
    if (!view)
        return -ERR_STALE_MAP;
    *ret_group = map_view_of_ino(view, ino)->id;
    return 0;
}

int meta_find_serving(struct meta_service *service, uint32_t group_number, uint32_t epoch,
                      bool for_write, struct meta_group **ret_mg)
{
    struct group *group;
    int result = group_find_serving(service->host, group_number, epoch, for_write, &group);
    if (result < 0)
        return result;
    struct meta_group *mg = group_user(group);
    if (!mg)
        return -ERR_RECOVERING;
    assert(!mg->dead && mg->group == group);
    *ret_mg = meta_group_get(mg);
    return 0;
}

int meta_append(struct meta_group *mg, const struct store_batch *batch, uint64_t *ret_seq)
{
    const struct group_append append = {
        .kind = GROUP_RECORD_BATCH,
        .payload = slice_of(batch->bytes, batch->used),
    };
    assert(batch->used > 0);
    if (batch->used > GROUP_PAYLOAD_MAX)
        return -E2BIG;
    for (;;) {
        if (mg->dead) /* T8 */
            return -ERR_NOT_PRIMARY;
        int result = group_append(mg->group, &append, ret_seq);
        if (result != -ERR_BUSY)
            return result;
        result = group_wait_room(mg->group);
        if (result < 0)
            return result;
    }
}

int meta_wait(struct meta_group *mg, uint64_t seq)
{
    if (mg->dead)
        return -ERR_NOT_PRIMARY;
    int result = group_wait(mg->group, seq);
    return mg->dead ? -ERR_NOT_PRIMARY : result;
}
