/* SPDX-License-Identifier: MIT */
/* A joining member takes a run of the primary's table (the rule of order is in scan.c). */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"
#include "group/group_internal.h"

struct install {
    struct group *group;
    struct slice from;
    struct slice to;
    struct reader pairs;
    uint32_t pair_count;
    uint32_t jump_count; /* of the scan that it belongs to */
    struct buf_slice payload;
};

/* The keys must be of the group's content, the lengths inside the message. */
static int parse(struct install *install, const struct rpc_request *request)
{
    struct reader reader;
    reader_init(&reader, request->tail.data, request->tail.bytes);
    install->from.bytes = reader_u16(&reader);
    install->from.data = reader_take(&reader, install->from.bytes);
    install->to.bytes = reader_u16(&reader);
    install->to.data = reader_take(&reader, install->to.bytes);
    if (!reader_ok(&reader) || install->from.bytes < 5 || install->to.bytes < 5 ||
        install->from.bytes > STORE_KEY_MAX + 1 || install->to.bytes > STORE_KEY_MAX + 1 ||
        be32_load(install->from.data) != install->group->id ||
        be32_load(install->to.data) != install->group->id)
        return -ERR_CORRUPT_WIRE;
    install->pairs = reader;
    install->payload = request->payload;
    return 0;
}

/* Everything we have in the range goes. */
static int drop_range(struct install *install, struct store_batch *batch)
{
    struct group *group = install->group;
    struct store_iter *iter = store_iter_new(host_store(group->host));
    struct slice key, value;
    int result;
    if (install->from.bytes <= STORE_KEY_MAX)
        store_iter_seek(iter, PLANT(GROUP_SCAN_KEEPS_ROWS) ? install->to : install->from);
    while ((result = store_iter_next(iter, install->to, &key, &value)) == 1) {
        struct store_extent extent;
        if (slice_compare(key, install->from) < 0)
            continue;
        store_batch_del(batch, key);
        if (group_ops(group)->extent_of(group_context(group), key, value, &extent))
            store_batch_extent_del(batch, extent);
    }
    store_iter_free(iter);
    return result;
}

static int take_pair(struct install *install, struct store_batch *batch, uint32_t *data_offset)
{
    struct group *group = install->group;
    struct install_pair pair;
    uint8_t copy[STORE_VALUE_MAX];
    reader_copy(&install->pairs, &pair, sizeof pair);
    struct slice key = {reader_take(&install->pairs, pair.key_bytes), pair.key_bytes};
    struct slice value = {reader_take(&install->pairs, pair.value_bytes), pair.value_bytes};
    uint32_t blocks = pair.data_bytes / STORE_BLOCK_BYTES;
    if (!reader_ok(&install->pairs) || key.bytes > STORE_KEY_MAX || value.bytes > STORE_VALUE_MAX ||
        slice_compare(key, install->from) < 0 || slice_compare(key, install->to) >= 0 ||
        pair.data_bytes % STORE_BLOCK_BYTES || blocks > STORE_EXTENT_BLOCKS_MAX ||
        pair.data_bytes > install->payload.bytes - *data_offset)
        return -ERR_CORRUPT_WIRE;
    memcpy(copy, value.data, value.bytes);
    struct store_extent extent;
    if (group_ops(group)->extent_of(group_context(group), key, value, &extent) != (blocks > 0) ||
        (blocks > 0 && extent.blocks != blocks))
        return -ERR_CORRUPT_WIRE;
    if (blocks) {
        const struct buf_slice data = {install->payload.buf, install->payload.offset + *data_offset,
                                       pair.data_bytes};
        int result = store_extent_write(host_store(group->host), data, blocks, &extent);
        if (result < 0)
            return result;
        group_ops(group)->rebase(group_context(group), key, copy, value.bytes, extent);
        store_batch_extent_add(batch, extent, key);
        *data_offset += pair.data_bytes;
    }
    store_batch_put(batch, key, slice_of(copy, value.bytes));
    return 0;
}

static bool is_current(const struct install *install)
{
    return install->group->scanning && install->group->jump_count == install->jump_count;
}

/* Room for the chunk. A device that is full because of the old copy has it once the rest of that
 * has gone; it is worth nothing any more (I7). */
static int make_room(const struct install *install)
{
    struct group *group = install->group;
    int result, wiped = 1;
    uint32_t batches = 0;
    do {
        result = store_reserve(host_store(group->host), install->payload.bytes, false);
        if (result == -ERR_NO_SPACE)
            wiped = group_wipe_some(group, install->from);
        batches += result == -ERR_NO_SPACE && wiped > 0;
    } while (result == -ERR_NO_SPACE && wiped > 0 && is_current(install));
    if (batches > 0)
        log_info("group-install", "group=%u batches=%u why=\"no room beside the old copy\"",
                 group->id, batches);
    return wiped < 0 ? wiped : result;
}

static int install_run(struct install *install, uint32_t pair_count)
{
    struct group *group = install->group;
    struct store_batch batch;
    uint32_t data_offset = 0;
    int result = make_room(install);
    if (result < 0)
        return result;
    store_batch_init(&batch);
    if (group_ops(group)->hold) /* what drop_range sees must still be so at the commit */
        group_ops(group)->hold(group_context(group), group, true);
    result = drop_range(install, &batch);
    for (uint32_t i = 0; i < pair_count && result == 0; i++)
        result = take_pair(install, &batch, &data_offset);
    if (result == 0 && !is_current(install))
        result = -ERR_WRONG_EPOCH;
    if (result == 0) {
        group_state_installed(group, &batch);
        group->last_lsn = store_commit(host_store(group->host), &batch);
        group->bytes += batch.extent_bytes;
    } else {
        store_batch_drop_extents(host_store(group->host), &batch);
    }
    if (group_ops(group)->hold)
        group_ops(group)->hold(group_context(group), group, false);
    store_batch_fini(&batch);
    return result;
}

/* Apply everything up to as_of first. 0, -ERR_GAP: not all of it is here; -ERR_WRONG_EPOCH. */
static int apply_to(struct group *group, uint64_t as_of)
{
    uint32_t epoch = group->epoch;
    if (as_of > group_last(group))
        return -ERR_GAP;
    group->commit_seq = MAX(group->commit_seq, as_of);
    group->apply_limit = MAX(group->apply_limit, as_of);
    group_apply_kick(group);
    while (group->epoch == epoch && !group->failed &&
           (group->applied_seq < as_of || group->applying))
        (void)waitq_wait(&group->state_waitq, env_now_ns() + NS_PER_S);
    return group->epoch == epoch && !group->failed ? 0 : -ERR_WRONG_EPOCH;
}

/* A chunk may come twice (its answer was late), even after later ones, or from an earlier scan, or
 * before the one before it. 1: it is the next one; 0: it is in already; -ERR_GAP: it is not its
 * turn; -ERR_WRONG_EPOCH: it is of no use any more. */
static int chunk_order(const struct install *install, const struct wire_install_req *body)
{
    const struct group *group = install->group;
    struct slice next = slice_of(group->install_next, group->install_next_bytes);
    if (!is_current(install) || body->as_of_seq < group->applied_seq)
        return -ERR_WRONG_EPOCH;
    int order = slice_compare(install->from, next);
    return order == 0 ? 1 : order < 0 ? 0 : -ERR_GAP;
}

static int install_chunk(struct install *install, const struct wire_install_req *body)
{
    struct group *group = install->group;
    int result = apply_to(group, body->as_of_seq);
    if (result == 0)
        result = install_run(install, body->pair_count);
    if (result < 0)
        return result;
    memcpy(group->install_next, install->to.data, install->to.bytes);
    group->install_next_bytes = install->to.bytes;
    group->install_ns = env_now_ns();
    if (body->last) {
        group->scanning = false;
        group->apply_limit = UINT64_MAX;
        group_state_set_valid(group, true);
        group_apply_kick(group);
    }
    return 0;
}

void serve_install(void *service, struct rpc_request *request)
{
    const struct wire_install_req *body = request->body;
    struct install install = {0};
    struct group *group = install.group = request_group(service, request);
    if (!group)
        return;
    if (group->role != ROLE_JOINING || !group->scanning) {
        rpc_reply_status(request, -ERR_WRONG_EPOCH);
        return;
    }
    group->install_ns = env_now_ns();
    install.jump_count = group->jump_count;
    int result = parse(&install, request);
    fiber_mutex_lock(&group->install_mutex);
    if (result == 0)
        result = chunk_order(&install, body);
    if (result == 1) {
        result = install_chunk(&install, body);
        if (result == 0)
            group->catch_up_done_bytes += request->payload.bytes + request->tail.bytes;
    }
    fiber_mutex_unlock(&group->install_mutex);
    const struct wire_install_rep reply = {0};
    rpc_reply(request, result, &reply, (struct slice){0}, (struct buf_slice){0});
}
