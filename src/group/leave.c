/* SPDX-License-Identifier: MIT */
/* A replica that the map has moved away gives its space back.
 *
 * First, durably, it is called incomplete and its log forgotten; then its rows and their extents go
 * in small batches, paced by store_reserve. Whoever comes back to the group meanwhile starts with a
 * scan, and the wiping ends: it looks at the epoch before each batch. After a restart the next map
 * starts it again. */
#include "base/assert.h"
#include "base/log.h"
#include "group/group_internal.h"

enum { LEAVE_BATCH_ROWS = 256 };

static bool still_out(const struct group *group, uint32_t epoch)
{
    return group->epoch == epoch && group->role == ROLE_NONE;
}

int group_wipe_some(struct group *group, struct slice from)
{
    const struct group_content_ops *ops = group_ops(group);
    uint32_t epoch = group->epoch;
    uint8_t end[5];
    be32_store(end, group->id);
    end[4] = SCAN_END_TABLE;
    struct store_batch batch;
    struct slice key, value;
    uint32_t rows = 0;
    int result = store_reserve(host_store(group->host), 0, true);
    if (result < 0)
        return result;
    struct store_iter *iter = store_iter_new(host_store(group->host));
    store_batch_init(&batch);
    if (ops->hold) /* the rows must still be so at the commit */
        ops->hold(group_context(group), group, true);
    store_iter_seek(iter, slice_of(from.data, MIN(from.bytes, (uint32_t)STORE_KEY_MAX)));
    while (rows < LEAVE_BATCH_ROWS &&
           (result = store_iter_next(iter, slice_of(end, sizeof end), &key, &value)) == 1) {
        struct store_extent extent;
        if (slice_compare(key, from) < 0)
            continue;
        store_batch_del(&batch, key);
        if (ops->extent_of(group_context(group), key, value, &extent))
            store_batch_extent_del(&batch, extent);
        rows++;
    }
    if (result >= 0 && rows > 0 && group->epoch == epoch) {
        group_state_installed(group, &batch);
        group->last_lsn = store_commit(host_store(group->host), &batch);
        group->bytes += batch.extent_bytes;
    }
    if (ops->hold)
        ops->hold(group_context(group), group, false);
    store_batch_fini(&batch);
    store_iter_free(iter);
    return result < 0 ? result : rows > 0;
}

void leave_fiber(void *arg)
{
    struct group *group = arg;
    uint32_t epoch = group->epoch;
    while (group->applying && still_out(group, epoch))
        (void)waitq_wait(&group->state_waitq, env_now_ns() + GROUP_RETRY_NS);
    if (!still_out(group, epoch))
        return;
    if (group->valid)
        group_state_set_valid(group, false); /* I7 */
    group->scanning = false;
    group_state_jump(group, 0, 0);
    int result = store_wait_durable(host_store(group->host), group->last_lsn);
    uint32_t batches = 0;
    uint8_t from[5];
    be32_store(from, group->id);
    from[4] = SCAN_FIRST_TABLE;
    while (result >= 0 && still_out(group, epoch)) {
        result = group_wipe_some(group, slice_of(from, sizeof from));
        if (result == 0)
            break;
        batches++;
        fiber_yield();
    }
    if (result < 0)
        log_warn("group-leave", "group=%u error=%s effect=\"its space is kept until a restart\"",
                 group->id, error_name(result));
    else if (batches > 0 && still_out(group, epoch))
        log_info("group-leave", "group=%u epoch=%u batches=%u", group->id, epoch, batches);
}
