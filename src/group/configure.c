/* SPDX-License-Identifier: MIT */
/* A new epoch: the map has changed who takes part. Does not yield; what takes time is left to
 * fibers that look at the epoch again whenever they have waited. */
#include "base/assert.h"
#include "base/log.h"
#include "group/group_internal.h"

static void set_members(struct group *group, const struct map_group *map_group,
                        struct map_view *view, bool stays_primary)
{
    struct member before[MAP_MEMBERS_MAX];
    uint32_t before_count = stays_primary ? group->member_count : 0;
    memcpy(before, group->members, sizeof before);
    group->member_count = 0;
    for (uint32_t i = 0; i < map_group->member_count; i++) {
        const struct map_member *row = &map_group->members[i];
        const struct map_node *node = map_view_node(view, row->node);
        if (row->node == group->host->options.node || row->state == MAP_MEMBER_LOST || !node)
            continue;
        struct member *member = &group->members[group->member_count++];
        *member = (struct member){.group = group, .node = row->node};
        for (uint32_t j = 0; j < before_count; j++) {
            /* What a member has told stays true while its process lives. */
            if (before[j].node == row->node && before[j].incarnation == node->incarnation) {
                *member = before[j];
                member->sent_seq = member->held_seq; /* what is on the way has the old epoch */
                member->asked_seq = member->held_seq;
                member->commit_sent_seq = 0;
            }
        }
        member->state = row->state;
        member->incarnation = node->incarnation;
        member->peer = peer_of(group->host, row->node, node->incarnation);
        member->in_flight = 0;
        member->dropping = false;
        member->promoting = false;
        member->retry_ns = 0;
        member->progress_ns = env_now_ns();
        member->counted = member->flushed = row->state == MAP_MEMBER_IN_SYNC;
        member->scan = 0;
        if (row->state == MAP_MEMBER_JOINING)
            member->reconciled = false; /* it asks with CATCH_UP again */
        map_node_addr(node, &member->addr);
    }
    group->in_sync_count = map_group_in_sync_count(map_group);
}

static void stop_serving(struct group *group)
{
    group->reign++;
    overlay_clear(&group->overlay);
    timer_cancel(&group->send_timer);
    if (group->role == ROLE_PRIMARY)
        group_ops(group)->ceased(group_context(group), group);
}

/* A primary that is named again serves on, if nobody else can have been it meanwhile: what it knows
 * of the members' logs is then still true. */
static enum group_role role_for(const struct group *group, const struct map_group *map_group)
{
    uint32_t self = group->host->options.node;
    switch ((enum map_member_state)map_group_member_state(map_group, self)) {
    case MAP_MEMBER_IN_SYNC:
        if (map_group->primary != self)
            return ROLE_MEMBER;
        return group->role == ROLE_PRIMARY && map_group->epoch == group->epoch + 1
                   ? ROLE_PRIMARY
                   : ROLE_RECOVERING;
    case MAP_MEMBER_JOINING:
        return ROLE_JOINING;
    case MAP_MEMBER_LOST:
    default:
        return ROLE_NONE;
    }
}

void group_configure(struct group *group, const struct map_group *map_group, struct map_view *view)
{
    enum group_role role = role_for(group, map_group);
    assert(map_group->epoch > group->epoch);
    if (group->failed)
        role = ROLE_NONE;
    if (group_is_primary(group) && role != ROLE_PRIMARY)
        stop_serving(group);
    if (role != ROLE_NONE && role != ROLE_JOINING && !group->valid) {
        /* A new group begins with empty members; anything else is no complete copy. */
        if (group_last(group) != 0 || group->applied_seq != 0 || group->scanning) {
            log_error("group-invalid",
                      "group=%u epoch=%u why=\"the map counts on a copy that is "
                      "not complete\" effect=\"this replica stays out\"",
                      group->id, map_group->epoch);
            role = ROLE_NONE;
        } else {
            group_state_set_valid(group, true);
        }
    }
    set_members(group, map_group, view, role == ROLE_PRIMARY);
    log_debug("group-epoch", "group=%u epoch=%u role=%d primary=%u in_sync=%u last=%llu", group->id,
              map_group->epoch, (int)role, map_group->primary, group->in_sync_count,
              (unsigned long long)group_last(group));
    group->epoch = map_group->epoch;
    group->role = role;
    waitq_wake_all(&group->applied_waitq);
    waitq_wake_all(&group->room_waitq);
    waitq_wake_all(&group->state_waitq);
    if (map_group_member_state(map_group, group->host->options.node) == 0)
        fiber_spawn("group-leave", leave_fiber, group);
    if (role == ROLE_RECOVERING)
        fiber_spawn("group-recover", recover_fiber, group);
    if (role == ROLE_JOINING && !group->joining_runs) {
        group->joining_runs = true;
        fiber_spawn("group-join", join_fiber, group);
    }
    if (role == ROLE_PRIMARY) {
        group_reconcile_strangers(group);
        group_send_soon(group);
    }
}
