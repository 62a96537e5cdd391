/* SPDX-License-Identifier: MIT */
/* Replicated groups: one log, one primary, in-sync members (PacificA).
 *
 * Problem. A change that was acknowledged must survive the death of any node but the last in-sync
 * one, cost one message each way, and leave all members equal; who takes part is the map's word.
 *
 * Picture.
 *     content --append--> primary's log --PREPARE--> members' logs      (replicate.c, member.c)
 *                              |  all in-sync members hold it: committed
 *                              v
 *                            apply to the store, in order, on each member          (apply.c)
 *
 * State diagram of a replica (group_configure unless said otherwise):
 *     none -> member, joining, recovering     the map names us
 *     member -> recovering                    the map makes us primary
 *     recovering -> primary                   recover_fiber: members equal, no-op committed
 *     joining -> member                       the map says in sync, after join_fiber and promotion
 *     any -> member, joining, none            the map says so
 *
 * Invariants.
 * I1. A message of another epoch is refused; who learns of a newer one asks for the map.
 * I2. A record is committed when every counted member (in sync, or about to be) holds it.
 * I3. A primary appends and answers only while the node's lease is valid.
 * I4. Sequence numbers are dense: record n+1 is taken only after n.
 * I5. A new primary commits everything it holds: it was in sync, so it holds all that was
 *     acknowledged. Members drop a record only if the primary's log ends before it, or when the
 *     primary's record of that number, of another epoch, takes its place.
 *     Same (seq, epoch) means same bytes: the epoch is the one in which the record was made.
 * I6. applied <= committed <= last.
 * I7. Applied position and epoch history change in the batch that applies a record; validity is a
 *     row of its own, cleared durably before a scan overwrites anything.
 * I8. An acknowledgement means: in memory, and handed to the store. Of a lone member it means:
 *     handed to the device.
 * I9. A replica acts only on maps that know this process (by incarnation). An older map may call it
 *     in sync, or primary, because of what an earlier process had in memory.
 *
 * I10. What needs space is admitted while the devices of all counted members, as last told, have
 *     room, data while they have GROUP_MEMBER_RESERVE_BYTES; what frees always is. What is in the
 *     log is no longer refused: a member takes it from segments that its own users may not have
 *     (store/segment.c), and if it has none, answers ERR_NO_SPACE and is asked again. Without
 *     progress for GROUP_SILENCE_NS it is left out, like one that does not answer, so neither
 *     deletes nor other records wait longer; it comes back when it has room.
 *
 * Crash cases. A member that restarts has forgotten an unflushed suffix: the map makes it joining,
 * and it starts from what it has applied. The whole group restarted: the map picks the longest
 * log; what was fsynced is on every in-sync member's media. A joining member that dies during a
 * scan is invalid and starts the scan anew.
 *
 * Limits. GROUP_WINDOW_* prepared records; log memory for catch-up is shared by all groups.
 *
 * Not here. Who is a member and which node is dead (map); what records mean (meta, data). */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"
#include "group/group_internal.h"

struct group *group_find(struct group_host *host, uint32_t id)
{
    struct htable_node *node = htable_first(&host->groups, id);
    return node ? container_of(node, struct group, node) : NULL;
}

struct group *group_new(struct group_host *host, uint32_t id)
{
    struct group *group = mem_zalloc(sizeof *group);
    group->host = host;
    group->id = id;
    group->apply_limit = UINT64_MAX;
    log_init(&group->log, 0);
    overlay_init(&group->overlay);
    waitq_init(&group->applied_waitq);
    waitq_init(&group->room_waitq);
    waitq_init(&group->state_waitq);
    fiber_mutex_init(&group->flush_mutex);
    fiber_mutex_init(&group->install_mutex);
    store_batch_init(&group->batch);
    group_send_init(group);
    htable_insert(&host->groups, &group->node, id);
    host->group_count++;
    return group;
}

struct peer *peer_of(struct group_host *host, uint32_t node, uint64_t incarnation)
{
    struct htable_node *link = htable_first(&host->peers, node);
    struct peer *peer = link ? container_of(link, struct peer, node) : NULL;
    if (!peer) {
        peer = mem_zalloc(sizeof *peer);
        peer->id = node;
        waitq_init(&peer->news);
        htable_insert(&host->peers, &peer->node, node);
    }
    assert(peer->id == node);
    if (peer->incarnation != incarnation) {
        peer->incarnation = incarnation;
        peer->free_bytes = UINT64_MAX;
        peer->told_ns = 0;
    }
    return peer;
}

bool group_is_primary(const struct group *group)
{
    return group->role == ROLE_RECOVERING || group->role == ROLE_PRIMARY;
}

void group_check(const struct group *group)
{
    assert(group->applied_seq <= group->commit_seq); /* I6 */
    assert(group->commit_seq <= group_last(group));
    assert(group->log.first_seq <= group->applied_seq + 1);
    assert(group->member_count < MAP_MEMBERS_MAX);
    assert(group->role != ROLE_PRIMARY || group->valid);
}

struct group_host *group_host_new(struct rpc *rpc, const struct group_host_options *options)
{
    struct group_host *host = mem_zalloc(sizeof *host);
    host->options = *options;
    host->rpc = rpc;
    host->min_in_sync = 1;
    htable_init(&host->groups);
    htable_init(&host->peers);
    rpc_register(rpc, RPC_PREPARE, serve_prepare, host);
    rpc_register(rpc, RPC_RECONCILE, serve_reconcile, host);
    rpc_register(rpc, RPC_CATCH_UP, serve_catch_up, host);
    rpc_register(rpc, RPC_INSTALL, serve_install, host);
    rpc_register(rpc, RPC_GROUP_FLUSH, serve_group_flush, host);
    return host;
}

struct store *group_host_store(struct group_host *host)
{
    return host_store(host);
}

/* ---- recovery -------------------------------------------------------------------------------- */

static void replay_record(void *context, const struct store_log_record *found)
{
    struct group_host *host = context;
    struct disk_group_record prefix;
    if (found->payload.bytes < sizeof prefix || found->extent_count > GROUP_EXTENTS_MAX)
        return; /* the journal's checksum held, so an older format: the gap ends the log here */
    memcpy(&prefix, found->payload.data, sizeof prefix);
    if (prefix.group_kind != MAP_GROUP_META && prefix.group_kind != MAP_GROUP_DATA)
        return;
    struct group *group = group_find(host, found->group);
    if (!group)
        group = group_new(host, found->group);
    if (found->seq <= group_last(group))
        log_truncate(&group->log, found->seq - 1); /* replaced (I5) */
    if (found->seq != group_last(group) + 1)
        log_reset(&group->log, found->seq - 1); /* the log jumped: a scan began */
    group->kind = (enum map_group_kind)prefix.group_kind;
    struct group_record *record =
        record_new(group->kind, prefix.kind,
                   slice_of((const uint8_t *)found->payload.data + sizeof prefix,
                            found->payload.bytes - sizeof prefix));
    record->seq = found->seq;
    record->epoch = found->epoch;
    record->extent_count = found->extent_count;
    if (found->extent_count)
        memcpy(record->extents, found->extents, found->extent_count * sizeof record->extents[0]);
    log_push(&group->log, record);
}

static void replay_truncate(void *context, uint32_t id, uint64_t seq)
{
    struct group *group = group_find(context, id);
    if (group)
        log_truncate(&group->log, seq);
}

static void relog(void *context)
{
    struct group_host *host = context;
    for (struct htable_node *node = htable_walk(&host->groups, NULL); node;
         node = htable_walk(&host->groups, node)) {
        struct group *group = container_of(node, struct group, node);
        /* Before group_host_load, of a group with no mark in the journal: it holds nothing that is
         * applied. */
        uint64_t first = MAX(group->applied_seq + 1, group->log.first_seq);
        for (uint64_t seq = first; seq <= group_last(group); seq++) {
            const struct group_record *record = log_at(&group->log, seq);
            const struct store_log_record again = {
                .group = group->id,
                .epoch = record->epoch,
                .seq = record->seq,
                .payload = slice_of(record->disk,
                                    sizeof(struct disk_group_record) + record->payload_bytes),
                .extents = record->extents,
                .extent_count = record->extent_count,
            };
            group->last_lsn = store_log_append(host_store(host), &again);
        }
    }
}

int group_host_load(struct group_host *host)
{
    struct store *store = host_store(host);
    /* Each replica has a validity row: find them by their groups' first keys. */
    struct store_iter *iter = store_iter_new(store);
    uint32_t id = 1;
    int result;
    for (;;) {
        uint8_t from[4];
        struct slice key, value;
        be32_store(from, id);
        store_iter_seek(iter, slice_of(from, sizeof from));
        result = store_iter_next(iter, (struct slice){0}, &key, &value);
        if (result <= 0 || key.bytes < 5)
            break;
        id = be32_load(key.data);
        struct group *group = group_find(host, id);
        if (!group)
            group = group_new(host, id);
        if (id == UINT32_MAX)
            break;
        id++;
    }
    store_iter_free(iter);
    for (struct htable_node *node = htable_walk(&host->groups, NULL); node && result >= 0;
         node = htable_walk(&host->groups, node)) {
        struct group *group = container_of(node, struct group, node);
        result = group_state_load(group); /* anew: the journal may end with a scan's changes */
        if (group->log.last_seq < group->applied_seq ||
            group->log.first_seq > group->applied_seq + 1)
            log_reset(&group->log, group->applied_seq);
        group->commit_seq = group->applied_seq;
        group_check(group);
    }
    struct store_health health;
    store_health(store, &health);
    for (struct htable_node *node = htable_walk(&host->groups, NULL);
         node && health.journal_damaged; node = htable_walk(&host->groups, node)) {
        struct group *group = container_of(node, struct group, node);
        if (group->valid)
            group_state_set_valid(group, false); /* an unknown part of the log is gone */
    }
    return MIN(result, 0);
}

const struct store_log_ops group_host_log_ops = {
    .replay_record = replay_record,
    .replay_truncate = replay_truncate,
    .replay_apply = group_replay_apply,
    .relog = relog,
};

/* ---- running --------------------------------------------------------------------------------- */

void group_host_start(struct group_host *host, struct map_client *map, struct map_lease *lease)
{
    host->map = map;
    host->lease = lease;
    struct map_view *view = map_client_view(map);
    if (view)
        group_host_map_changed(host, view);
}

void group_host_map_changed(struct group_host *host, struct map_view *view)
{
    if (!host->lease)
        return; /* group_host_start will look */
    const struct map_node *self = map_view_node(view, host->options.node);
    if (!self || self->incarnation != rpc_identity(host->rpc)->incarnation)
        return; /* I9 */
    host->min_in_sync = MAX(view->header->min_in_sync, 1u);
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        const struct map_group *map_group = &view->groups[i];
        struct group *group = group_find(host, map_group->id);
        bool ours = map_group_member_state(map_group, host->options.node) != 0;
        if (!group && !ours)
            continue;
        if (!group)
            group = group_new(host, map_group->id);
        group->kind = (enum map_group_kind)map_group->kind;
        if (map_group->epoch > group->epoch)
            group_configure(group, map_group, view);
    }
}

uint32_t group_host_reports(struct group_host *host, struct map_replica_report *reports,
                            uint32_t max)
{
    uint32_t count = 0;
    for (struct htable_node *node = htable_walk(&host->groups, NULL); node && count < max;
         node = htable_walk(&host->groups, node)) {
        const struct group *group = container_of(node, struct group, node);
        const struct group_record *last = log_at(&group->log, group_last(group));
        reports[count++] = (struct map_replica_report){
            .group = group->id,
            .valid = group->valid && !group->failed,
            .last_epoch = last ? last->epoch : group->applied_epoch,
            .last_seq = group_last(group),
        };
    }
    return count;
}

uint32_t group_host_status(struct group_host *host, struct wire_status_group *rows, uint32_t max)
{
    uint32_t count = 0;
    for (struct htable_node *node = htable_walk(&host->groups, NULL); node && count < max;
         node = htable_walk(&host->groups, node)) {
        const struct group *group = container_of(node, struct group, node);
        if (group->role == ROLE_NONE)
            continue;
        uint64_t since_ns = env_now_ns() - group->catch_up_since_ns;
        rows[count++] = (struct wire_status_group){
            .group = group->id,
            .epoch = group->epoch,
            .role = group_is_primary(group),
            .state = group->role == ROLE_RECOVERING ? 1
                     : group->role == ROLE_JOINING  ? 2
                                                    : 0,
            .bytes = group->bytes > 0 ? (uint64_t)group->bytes : 0,
            .catch_up_done_bytes = group->catch_up_done_bytes,
            .catch_up_total_bytes = group->catch_up_total_bytes,
            .catch_up_rate = group->scanning && since_ns > NS_PER_MS
                                 ? group->catch_up_done_bytes * 1000 / (since_ns / NS_PER_MS)
                                 : 0,
        };
    }
    return count;
}

struct group *request_group(struct group_host *host, struct rpc_request *request)
{
    struct group *group = group_find(host, request->header->group);
    bool other = group && request->header->epoch != group->epoch && !PLANT(GROUP_EPOCH_IGNORED);
    if (!group || group->role == ROLE_NONE || other) { /* I1 */
        if (host->map && (!group || request->header->epoch > group->epoch))
            map_client_poke(host->map);
        rpc_reply_status(request, -ERR_WRONG_EPOCH);
        return NULL;
    }
    return group;
}
