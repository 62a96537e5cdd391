/* SPDX-License-Identifier: MIT */
/* What the content does on the primary: find the group, read applied + prepared state, append. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/plant.h"
#include "group/group_internal.h"

int group_find_serving(struct group_host *host, uint32_t id, uint32_t epoch, bool for_write,
                       struct group **ret_group)
{
    struct group *group = group_find(host, id);
    if (!group || !group_is_primary(group)) {
        if (host->map && group && epoch > group->epoch)
            map_client_poke(host->map);
        return -ERR_NOT_PRIMARY;
    }
    if (epoch && epoch != group->epoch) {
        if (epoch > group->epoch)
            map_client_poke(host->map);
        return -ERR_WRONG_EPOCH;
    }
    if (!map_lease_valid(host->lease) && !PLANT(GROUP_LEASE_IGNORED)) /* I3 */
        return -ERR_NO_LEASE;
    if (group->role != ROLE_PRIMARY)
        return -ERR_RECOVERING;
    if (for_write && group->in_sync_count < host->min_in_sync)
        return -ERR_NO_QUORUM;
    *ret_group = group;
    return 0;
}

uint64_t group_regained_ns(const struct group *group)
{
    const struct map_lease *lease = group->host->lease;
    return map_lease_valid(lease) ? map_lease_regained_ns(lease) : UINT64_MAX;
}

uint32_t group_id(const struct group *group)
{
    return group->id;
}
uint32_t group_epoch(const struct group *group)
{
    return group->epoch;
}
void *group_user(const struct group *group)
{
    return group->user;
}
void group_set_user(struct group *group, void *user)
{
    group->user = user;
}
uint64_t group_last_seq(const struct group *group)
{
    return group_last(group);
}

uint32_t group_peers(const struct group *group, struct net_addr *peers, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < group->member_count && count < max; i++) {
        if (group->members[i].state == MAP_MEMBER_IN_SYNC)
            peers[count++] = group->members[i].addr;
    }
    return count;
}

/* ---- reading --------------------------------------------------------------------------------- */

int group_get(struct group *group, struct slice key, void *value, uint32_t capacity,
              uint64_t *seen_seq)
{
    const struct overlay_node *node = overlay_find(&group->overlay, key);
    if (!node)
        return store_get(host_store(group->host), key, value, capacity);
    *seen_seq = MAX(*seen_seq, node->seq);
    if (!node->value.data)
        return -ENOENT;
    if (node->value.bytes > capacity)
        return -ERANGE;
    memcpy(value, node->value.data, node->value.bytes);
    return (int)node->value.bytes;
}

/* Merges the store's walk with the overlay. The pair fetched from the store stays until it is
 * given out, unless a record was applied meanwhile: what has moved from the overlay to the store
 * behind the store walk's back would be missed, so the walk starts again at the position. */
struct group_iter {
    struct group *group;
    struct store_iter *store_iter;
    uint64_t applied_seq; /* when the pair was fetched */
    bool fetched;
    int fetch_result; /* 1: key and value hold a pair; 0: the store has no more */
    struct slice store_key;
    struct slice store_value;
    uint32_t position_bytes;
    uint8_t position[STORE_KEY_MAX + 1]; /* everything below has been given out */
    uint8_t key[STORE_KEY_MAX];
    uint8_t value[STORE_VALUE_MAX];
};

struct group_iter *group_iter_new(struct group *group)
{
    struct group_iter *iter = mem_alloc(sizeof *iter);
    iter->group = group;
    iter->store_iter = store_iter_new(host_store(group->host));
    iter->fetched = false;
    iter->position_bytes = 0;
    return iter;
}

void group_iter_free(struct group_iter *iter)
{
    store_iter_free(iter->store_iter);
    mem_free(iter);
}

void group_iter_seek(struct group_iter *iter, struct slice from)
{
    assert(from.bytes <= STORE_KEY_MAX);
    memcpy(iter->position, from.data, from.bytes);
    iter->position_bytes = from.bytes;
    iter->fetched = false;
}

static struct slice position(const struct group_iter *iter)
{
    return slice_of(iter->position, iter->position_bytes);
}

static int fetch(struct group_iter *iter, struct slice end)
{
    while (!iter->fetched || iter->applied_seq != iter->group->applied_seq) {
        iter->applied_seq = iter->group->applied_seq;
        store_iter_seek(iter->store_iter, position(iter));
        iter->fetch_result =
            store_iter_next(iter->store_iter, end, &iter->store_key, &iter->store_value);
        iter->fetched = true;
    }
    return iter->fetch_result;
}

/* Give out a pair: copied, because the overlay's may go and the store's is the walk's. */
static void give(struct group_iter *iter, struct slice key, struct slice value,
                 struct slice *ret_key, struct slice *ret_value)
{
    memcpy(iter->key, key.data, key.bytes);
    if (value.bytes)
        memcpy(iter->value, value.data, value.bytes);
    *ret_key = slice_of(iter->key, key.bytes);
    *ret_value = slice_of(iter->value, value.bytes);
}

static void advance(struct group_iter *iter, struct slice key)
{
    memmove(iter->position, key.data, key.bytes);
    iter->position[key.bytes] = 0; /* the next possible key */
    iter->position_bytes = key.bytes + 1;
}

/* The store walk goes on behind the pair that was just given out. */
static void fetch_next(struct group_iter *iter, struct slice end)
{
    iter->fetch_result =
        store_iter_next(iter->store_iter, end, &iter->store_key, &iter->store_value);
}

int group_iter_next(struct group_iter *iter, struct slice end, struct slice *ret_key,
                    struct slice *ret_value, uint64_t *seen_seq)
{
    for (;;) {
        int result = fetch(iter, end);
        if (result < 0)
            return result;
        /* No yield from here to the end of this round. */
        struct overlay_node *node = overlay_seek(&iter->group->overlay, position(iter));
        if (node && end.bytes && slice_compare(node->key, end) >= 0)
            node = NULL;
        if (!node && result == 0)
            return 0;
        int order = !node ? 1 : result == 0 ? -1 : slice_compare(node->key, iter->store_key);
        if (order > 0) {
            give(iter, iter->store_key, iter->store_value, ret_key, ret_value);
            advance(iter, *ret_key);
            fetch_next(iter, end);
            return 1;
        }
        *seen_seq = MAX(*seen_seq, node->seq);
        bool deleted = !node->value.data;
        if (!deleted)
            give(iter, node->key, node->value, ret_key, ret_value);
        advance(iter, node->key);
        if (order == 0)
            fetch_next(iter, end);
        if (!deleted)
            return 1;
    }
}

/* ---- appending ------------------------------------------------------------------------------- */

static bool window_full(const struct group *group)
{
    return group_last(group) - group->applied_seq >= GROUP_WINDOW_RECORDS_MAX ||
           group->window_bytes >= GROUP_WINDOW_BYTES_MAX;
}

/* What is new must fit on every member, or one of them would have to leave (I10). NULL, or one in
 * whose node it does not. */
static struct member *member_without_room(struct group *group, bool data)
{
    uint64_t room = data ? GROUP_MEMBER_RESERVE_BYTES : 1;
    for (uint32_t i = 0; i < group->member_count; i++) {
        struct member *member = &group->members[i];
        if (member->counted && member->peer->free_bytes < room)
            return member;
    }
    return NULL;
}

void group_log_add(struct group *group, struct group_record *record)
{
    const struct store_log_record row = {
        .group = group->id,
        .epoch = record->epoch,
        .seq = record->seq,
        .payload = slice_of(record->disk, sizeof(struct disk_group_record) + record->payload_bytes),
        .extents = record->extents,
        .extent_count = record->extent_count,
    };
    group->last_lsn = store_log_append(host_store(group->host), &row);
    group->window_bytes += record->data.bytes;
    log_push(&group->log, record);
}

void group_log_cut(struct group *group, uint64_t seq)
{
    assert(seq >= group->applied_seq); /* what is applied is committed */
    for (uint64_t i = seq + 1; i <= group_last(group); i++)
        group->window_bytes -= log_at(&group->log, i)->data.bytes;
    (void)store_log_truncate(host_store(group->host), group->id, seq);
    log_truncate(&group->log, seq);
    group->commit_seq = MIN(group->commit_seq, seq);
    group->written_seq = MIN(group->written_seq, seq); /* of what takes their place nothing is */
    group->written_target = MIN(group->written_target, seq);
    group->durable_seq = MIN(group->durable_seq, seq);
}

int group_append(struct group *group, const struct group_append *append, uint64_t *ret_seq)
{
    struct group_host *host = group->host;
    assert(append->extent_count <= GROUP_EXTENTS_MAX);
    assert(append->payload.bytes <= GROUP_PAYLOAD_MAX);
    bool noop = append->kind == GROUP_RECORD_NOOP;
    bool early = group->role == ROLE_RECOVERING && (noop || group->in_serving);
    if (group->role != ROLE_PRIMARY && !early)
        return -ERR_NOT_PRIMARY;
    if (!map_lease_valid(host->lease)) /* I3 */
        return -ERR_NO_LEASE;
    if (group->in_sync_count < host->min_in_sync && !noop)
        return -ERR_NO_QUORUM;
    if (window_full(group) && !noop)
        return -ERR_BUSY;
    if (append->extent_count && member_without_room(group, true))
        return -ERR_NO_SPACE;
    struct group_record *record = record_new(group->kind, append->kind, append->payload);
    record->seq = group_last(group) + 1;
    record->epoch = group->epoch;
    record->extent_count = append->extent_count;
    if (append->extent_count) {
        memcpy(record->extents, append->extents, append->extent_count * sizeof record->extents[0]);
        record->data = append->data;
        buf_get(record->data.buf);
    }
    group_log_add(group, record);
    if (append->kind == GROUP_RECORD_BATCH)
        overlay_add(&group->overlay, record);
    group_send_soon(group);
    *ret_seq = record->seq;
    return 0;
}

int group_wait_room(struct group *group)
{
    while (group->role == ROLE_PRIMARY && window_full(group))
        (void)waitq_wait(&group->room_waitq, 0); /* ends with room or with the role */
    return group->role == ROLE_PRIMARY ? 0 : -ERR_NOT_PRIMARY;
}

int group_wait_space(struct group *group, bool data)
{
    uint64_t give_up_ns = env_now_ns() + GROUP_SPACE_ASK_NS;
    struct member *member;
    while (group->role == ROLE_PRIMARY && (member = member_without_room(group, data)) != NULL) {
        struct peer *peer = member->peer;
        uint64_t now_ns = env_now_ns();
        if (now_ns - peer->told_ns < GROUP_SPACE_NEWS_NS || now_ns >= give_up_ns)
            return -ERR_NO_SPACE;
        member_ask(member);
        (void)waitq_wait(&peer->news, give_up_ns); /* told or not, look again */
    }
    return group->role == ROLE_PRIMARY ? 0 : -ERR_NOT_PRIMARY;
}

int group_wait(struct group *group, uint64_t seq)
{
    uint32_t reign = group->reign;
    while (group->applied_seq < seq && !PLANT(GROUP_REPLIES_EARLY)) {
        if (!group_is_primary(group) || group->reign != reign)
            return -ERR_NOT_PRIMARY;
        (void)waitq_wait(&group->applied_waitq, 0); /* ends with the record or with the role */
    }
    /* Applied by us, but in a later life: then it may not be what was appended. */
    if (!group_is_primary(group) || group->reign != reign)
        return -ERR_NOT_PRIMARY;
    bool leased = map_lease_valid(group->host->lease) || PLANT(GROUP_LEASE_IGNORED);
    return leased ? 0 : -ERR_NO_LEASE;
}

struct store *group_store(const struct group *group)
{
    return host_store(group->host);
}
