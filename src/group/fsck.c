/* SPDX-License-Identifier: MIT */
/* Offline check of a group: which member is the newest, and do those that should be equal agree.
 *
 * Problem. The disks of a stopped cluster hold several replicas of each group. They were not
 * stopped at the same record; their data lies at different places; what the newest one has
 * prepared counts (a new primary commits all it holds, I5 of host.c).
 *
 * Method. Newest is who has the last record of the highest (epoch, seq), as the map leader chooses.
 * Replicas with the same last record get all their records applied, in memory, and must then hold
 * the same rows, but for the addresses of data. Others lag: that is no error.
 *
 * Not here. What rows mean (data/fsck.c, meta/fsck.c); opening disks (node/fsck.c). */
#include "group/fsck.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/mem.h"
#include "group/group_internal.h"

static const struct {
    enum fsck_level level;
    const char *name;
    const char *what;
    const char *effect;
    const char *fix;
} kinds[FSCK_KINDS] = {
#define X(name, level, what, effect, fix) {FSCK_##level, #name, what, effect, fix},
    FSCK_TABLE(X)
#undef X
};

enum fsck_level fsck_level(enum fsck_kind kind)
{
    assert(kind < FSCK_KINDS);
    return kinds[kind].level;
}

const char *fsck_name(enum fsck_kind kind)
{
    assert(kind < FSCK_KINDS);
    return kinds[kind].name;
}

const char *fsck_what(enum fsck_kind kind)
{
    assert(kind < FSCK_KINDS);
    return kinds[kind].what;
}

const char *fsck_effect(enum fsck_kind kind)
{
    assert(kind < FSCK_KINDS);
    return kinds[kind].effect;
}

const char *fsck_fix(enum fsck_kind kind)
{
    assert(kind < FSCK_KINDS);
    return kinds[kind].fix;
}

void fsck_tell(struct fsck *fsck, enum fsck_kind kind, const char *format, ...)
{
    char where[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(where, sizeof where, format, arguments);
    va_end(arguments);
    assert(kind < FSCK_KINDS);
    fsck->counts.found[kind]++;
    fsck->fn(fsck->context, kind, where);
}

struct store *fsck_store(const struct fsck *fsck, uint32_t group)
{
    const struct map_group *found = map_view_group(fsck->view, group);
    return found ? fsck->stores[found - fsck->view->groups] : NULL;
}

/* ---- which member ---------------------------------------------------------------------------- */

static uint32_t last_epoch(const struct group *group)
{
    const struct group_record *last = log_at(&group->log, group_last(group));
    return last ? last->epoch : group->applied_epoch;
}

static int compare_age(const struct group *a, const struct group *b)
{
    uint32_t epoch_a = last_epoch(a), epoch_b = last_epoch(b);
    if (epoch_a != epoch_b)
        return epoch_a < epoch_b ? -1 : 1;
    if (group_last(a) != group_last(b))
        return group_last(a) < group_last(b) ? -1 : 1;
    return 0;
}

/* The host's replica, if the map calls it a member: others give their space back. */
static struct group *member_of(const struct map_group *map_group, struct group_host *host)
{
    struct group *group = group_find(host, map_group->id);
    if (!group || map_group_member_state(map_group, host->options.node) == 0)
        return NULL;
    group->kind = (enum map_group_kind)map_group->kind;
    return group;
}

static struct group *choose(const struct map_group *map_group, struct group_host *const *hosts,
                            uint32_t count)
{
    struct group *newest = NULL;
    for (uint32_t i = 0; i < count; i++) {
        struct group *group = member_of(map_group, hosts[i]);
        if (group && group->valid && (!newest || compare_age(group, newest) > 0))
            newest = group;
    }
    return newest;
}

/* ---- comparison ------------------------------------------------------------------------------ */

struct side {
    struct store_iter *iter;
    struct slice key;
    struct slice value;
    int result;
    uint8_t copy[STORE_VALUE_MAX];
};

/* The next row, its data as if it lay nowhere. */
static void side_next(struct group *group, struct side *side)
{
    uint8_t end[5];
    struct store_extent extent;
    be32_store(end, group->id);
    end[4] = SCAN_END_TABLE;
    side->result = store_iter_next(side->iter, slice_of(end, sizeof end), &side->key, &side->value);
    if (side->result <= 0 || side->value.bytes > sizeof side->copy)
        return;
    const struct group_content_ops *ops = group_ops(group);
    memcpy(side->copy, side->value.data, side->value.bytes);
    side->value.data = side->copy;
    if (!ops->extent_of || !ops->extent_of(group_context(group), side->key, side->value, &extent))
        return;
    extent.block = 0;
    ops->rebase(group_context(group), side->key, side->copy, side->value.bytes, extent);
}

static void side_open(struct group *group, struct side *side)
{
    uint8_t from[5];
    be32_store(from, group->id);
    from[4] = SCAN_FIRST_TABLE;
    side->iter = store_iter_new(host_store(group->host));
    store_iter_seek(side->iter, slice_of(from, sizeof from));
    side_next(group, side);
}

static uint32_t node_of(const struct group *group)
{
    return group->host->options.node;
}

static void tell_difference(struct fsck *fsck, const struct group *group, const struct group *than,
                            struct slice key)
{
    char text[2 * 32 + 1] = "";
    for (uint32_t i = 4; i < key.bytes && i < 4 + sizeof text / 2; i++)
        (void)snprintf(text + 2 * (i - 4), 3, "%02x", ((const uint8_t *)key.data)[i]);
    fsck_tell(fsck, FSCK_DIFFERS, "group %u: node %u differs from node %u at key %s", group->id,
              node_of(group), node_of(than), text);
}

static void compare(struct fsck *fsck, struct group *group, struct group *newest)
{
    struct side *sides = mem_alloc(2 * sizeof *sides);
    struct side *a = &sides[0], *b = &sides[1];
    side_open(group, a);
    side_open(newest, b);
    while (a->result > 0 && b->result > 0 && slice_equal(a->key, b->key) &&
           slice_equal(a->value, b->value)) {
        side_next(group, a);
        side_next(newest, b);
    }
    if (a->result < 0)
        fsck_tell(fsck, FSCK_READ, "group %u on node %u: %s", group->id, node_of(group),
                  error_text(a->result));
    else if (b->result >= 0 && (a->result > 0 || b->result > 0))
        tell_difference(fsck, group, newest,
                        a->result > 0 && (b->result == 0 || slice_compare(a->key, b->key) < 0)
                            ? a->key
                            : b->key);
    store_iter_free(a->iter);
    store_iter_free(b->iter);
    mem_free(sides);
}

static bool settle(struct fsck *fsck, struct group *group)
{
    int result = group_apply_held(group);
    if (result < 0)
        fsck_tell(fsck, FSCK_READ, "group %u on node %u, record %llu: %s", group->id,
                  node_of(group), (unsigned long long)group->applied_seq + 1, error_text(result));
    return result == 0;
}

static void look_at_member(struct fsck *fsck, struct group *group, struct group *newest)
{
    if (!group->valid)
        fsck_tell(fsck, FSCK_INCOMPLETE, "group %u on node %u", group->id, node_of(group));
    else if (compare_age(group, newest) < 0)
        fsck_tell(fsck, FSCK_LAGS, "group %u: node %u has %llu of epoch %u, node %u %llu of %u",
                  group->id, node_of(group), (unsigned long long)group_last(group),
                  last_epoch(group), node_of(newest), (unsigned long long)group_last(newest),
                  last_epoch(newest));
    else if (settle(fsck, group))
        compare(fsck, group, newest);
}

void fsck_group(struct fsck *fsck, uint32_t index, struct group_host *const *hosts,
                uint32_t host_count)
{
    const struct map_group *map_group = &fsck->view->groups[index];
    assert(!fsck->stores[index]);
    struct group *newest = choose(map_group, hosts, host_count);
    if (!newest) {
        fsck_tell(fsck, FSCK_NO_COPY, "group %u", map_group->id);
        return;
    }
    if (!settle(fsck, newest))
        return;
    fsck->stores[index] = host_store(newest->host);
    for (uint32_t i = 0; i < host_count; i++) {
        struct group *group = member_of(map_group, hosts[i]);
        if (group && group != newest)
            look_at_member(fsck, group, newest);
    }
}
