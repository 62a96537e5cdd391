/* SPDX-License-Identifier: MIT */
#include "base/errors.h"
#include "map/map_internal.h"

/* Changes of single groups. Theory and invariants: machine.c. */

static bool has_lost(const struct map_group *group)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].state == MAP_MEMBER_LOST)
            return true;
    }
    return false;
}

static void set_states(struct map_group *group, enum map_member_state from,
                       enum map_member_state to)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].state == (uint32_t)from)
            group->members[i].state = to;
    }
}

/* Groups that wait although a member is in sync and alive: it has everything (M4). */
int machine_resolve(struct map_draft *draft, const struct map_ids *confirmed)
{
    bool changed = false;
    for (uint32_t i = 0; i < draft->header->group_count; i++) {
        struct map_group *group = &draft->groups[i];
        if (group->primary != 0 || map_group_never_active(group))
            continue;
        uint32_t primary = machine_choose_primary(draft, group, confirmed, 0);
        if (primary == 0)
            continue;
        set_states(group, MAP_MEMBER_LOST, MAP_MEMBER_JOINING);
        group->primary = primary;
        group->epoch++;
        changed = true;
    }
    return changed ? 0 : -ERR_CAS_FAILED;
}

/* First activation: nobody holds anything, so all who are there hold everything (M3). */
static bool activate(struct map_draft *draft, struct map_group *group, uint32_t primary)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        struct map_member *member = &group->members[i];
        const struct map_node *node = map_view_node(draft->view, member->node);
        if (node->state == MAP_NODE_UP)
            member->state = MAP_MEMBER_IN_SYNC;
    }
    assert(map_group_member_state(group, primary) == MAP_MEMBER_IN_SYNC);
    group->primary = primary;
    group->epoch++;
    return true;
}

static bool elect_one(struct map_draft *draft, const struct map_command_elect *row)
{
    struct map_group *group = map_draft_group(draft, row->group);
    const struct map_node *node = map_view_node(draft->view, row->node);
    if (!group || !node || group->epoch != row->epoch || group->primary != 0)
        return false; /* M8 */
    struct map_member *member = map_group_member(group, row->node);
    if (!member || node->state != MAP_NODE_UP)
        return false;
    if (map_group_never_active(group))
        return activate(draft, group, row->node);
    if (member->state != MAP_MEMBER_LOST || map_group_in_sync_count(group) > 0)
        return false;
    set_states(group, MAP_MEMBER_LOST, MAP_MEMBER_JOINING);
    member->state = MAP_MEMBER_IN_SYNC;
    group->primary = row->node;
    group->cold_starts++;
    group->epoch++;
    return true;
}

int machine_elect(struct map_draft *draft, const struct map_command_elect *rows, uint32_t count)
{
    bool changed = false;
    for (uint32_t i = 0; i < count; i++)
        changed |= elect_one(draft, &rows[i]);
    return changed ? 0 : -ERR_CAS_FAILED;
}

static int member_in_sync(const struct map_draft *draft, struct map_member *member)
{
    const struct map_node *node = map_view_node(draft->view, member->node);
    if (member->state != MAP_MEMBER_JOINING || node->state != MAP_NODE_UP)
        return -ERR_CAS_FAILED;
    member->state = MAP_MEMBER_IN_SYNC;
    return 0;
}

/* The primary goes on without the member; it asks before it commits anything alone (M4: it is the
 * sure one). */
static int member_drop(const struct map_group *group, struct map_member *member)
{
    if (member->node == group->primary)
        return -EINVAL;
    if (member->state != MAP_MEMBER_IN_SYNC)
        return -ERR_CAS_FAILED;
    member->state = MAP_MEMBER_JOINING;
    return 0;
}

int machine_group_change(struct map_draft *draft, const struct map_command *command)
{
    struct map_group *group = map_draft_group(draft, command->group);
    struct map_member *member = group ? map_group_member(group, command->node) : NULL;
    if (!member)
        return -EINVAL;
    if (group->epoch != command->epoch || group->primary == 0)
        return -ERR_CAS_FAILED; /* M8 */
    assert(!has_lost(group));   /* M2 */
    int result = -EINVAL;
    if (command->op == GROUP_CHANGE_IN_SYNC)
        result = member_in_sync(draft, member);
    else if (command->op == GROUP_CHANGE_DROP)
        result = member_drop(group, member);
    if (result == 0)
        group->epoch++;
    return result;
}

/* ---- primaries ----------------------------------------------------------------------------- */

static uint32_t *primary_counts(const struct map_draft *draft, uint32_t kind, uint32_t *counts)
{
    memset(counts, 0, draft->header->node_count * sizeof *counts);
    for (uint32_t i = 0; i < draft->header->group_count; i++) {
        const struct map_group *group = &draft->groups[i];
        if (group->kind == kind && group->primary != 0) {
            const struct map_node *node = map_view_node(draft->view, group->primary);
            counts[node - draft->view->nodes]++;
        }
    }
    return counts;
}

/* Move the group's primary to the in-sync member with the fewest, if that evens the load out. */
static bool balance_one(const struct map_draft *draft, struct map_group *group,
                        const struct map_ids *confirmed, uint32_t *counts)
{
    const struct map_node *nodes = draft->view->nodes;
    uint32_t from = (uint32_t)(map_view_node(draft->view, group->primary) - nodes);
    uint32_t best = from;
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct map_member *member = &group->members[i];
        if (member->state != MAP_MEMBER_IN_SYNC || !machine_is_sure(draft, confirmed, member->node))
            continue;
        uint32_t at = (uint32_t)(map_view_node(draft->view, member->node) - nodes);
        if (counts[at] < counts[best])
            best = at;
    }
    if (counts[from] < counts[best] + 2)
        return false;
    counts[from]--;
    counts[best]++;
    group->primary = nodes[best].id;
    group->epoch++;
    return true;
}

int machine_balance(struct map_draft *draft, const struct map_ids *confirmed)
{
    uint32_t counts[MAP_NODES_MAX];
    bool changed = false;
    for (uint32_t kind = MAP_GROUP_META; kind <= MAP_GROUP_DATA; kind++) {
        primary_counts(draft, kind, counts);
        for (uint32_t i = 0; i < draft->header->group_count; i++) {
            struct map_group *group = &draft->groups[i];
            if (group->kind == kind && group->primary != 0)
                changed |= balance_one(draft, group, confirmed, counts);
        }
    }
    return changed ? 0 : -ERR_CAS_FAILED;
}
