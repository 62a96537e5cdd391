/* SPDX-License-Identifier: MIT */
#include "base/errors.h"
#include "base/mem.h"
#include "base/plant.h"
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
    struct machine_heirs *heirs = machine_heirs_new(draft, confirmed);
    for (uint32_t i = 0; i < draft->header->group_count; i++) {
        struct map_group *group = &draft->groups[i];
        if (group->primary != 0 || map_group_never_active(group))
            continue;
        uint32_t primary = machine_choose_primary(heirs, group, 0);
        if (primary == 0)
            continue;
        set_states(group, MAP_MEMBER_LOST, MAP_MEMBER_JOINING);
        machine_set_primary(heirs, group, primary);
        group->epoch++;
        changed = true;
    }
    mem_free(heirs);
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
    if ((group->epoch != command->epoch && !PLANT(MAP_EPOCH_IGNORED)) || group->primary == 0)
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

/* ---- moves ---------------------------------------------------------------------------------- */

static bool member_leave(const struct map_draft *draft, struct map_group *group, uint32_t node)
{
    const struct map_member *member = map_group_member(group, node);
    if (!member || node == group->primary || member->state == MAP_MEMBER_LOST)
        return false;
    if (member->state == MAP_MEMBER_IN_SYNC &&
        map_group_in_sync_count(group) <= draft->header->copies) /* M9 */
        return false;
    uint32_t at = (uint32_t)(member - group->members);
    group->member_count--;
    memmove(&group->members[at], &group->members[at + 1],
            (group->member_count - at) * sizeof group->members[0]);
    group->members[group->member_count] = (struct map_member){0};
    return true;
}

static bool member_come(const struct map_draft *draft, struct map_group *group, uint32_t node)
{
    const struct map_node *found = map_view_node(draft->view, node);
    if (!found || found->state != MAP_NODE_UP || found->intent != MAP_NODE_KEEP ||
        map_group_member(group, node) || group->member_count == MAP_MEMBERS_MAX)
        return false;
    group->members[group->member_count++] =
        (struct map_member){.node = node, .state = MAP_MEMBER_JOINING};
    return true;
}

/* The member that will go once the one that comes is in sync is the first of the list. A hint for
 * the next plan; nothing depends on the order. */
static bool member_goes_next(struct map_group *group, uint32_t node)
{
    struct map_member *member = map_group_member(group, node);
    if (!member)
        return false;
    struct map_member first = group->members[0];
    group->members[0] = *member;
    *member = first;
    return true;
}

static bool move_one(const struct map_draft *draft, const struct map_command_move *row)
{
    struct map_group *group = map_draft_group(draft, row->group);
    if (!group || group->epoch != row->epoch || group->primary == 0) /* M8 */
        return false;
    struct map_group next = *group;
    bool gone = row->drop == 0 || member_leave(draft, &next, row->drop) ||
                (row->add != 0 && member_goes_next(&next, row->drop));
    bool come = row->add == 0 || member_come(draft, &next, row->add);
    if (!gone || !come || (row->drop == 0 && row->add == 0))
        return false;
    assert(map_group_member_state(&next, next.primary) == MAP_MEMBER_IN_SYNC);
    next.epoch++;
    *group = next;
    return true;
}

int machine_move(struct map_draft *draft, const struct map_command_move *rows, uint32_t count)
{
    bool changed = false;
    for (uint32_t i = 0; i < count; i++)
        changed |= move_one(draft, &rows[i]);
    return changed ? 0 : -ERR_CAS_FAILED;
}

int machine_lead(struct map_draft *draft, const struct map_command_elect *rows, uint32_t count)
{
    bool changed = false;
    for (uint32_t i = 0; i < count; i++) {
        struct map_group *group = map_draft_group(draft, rows[i].group);
        const struct map_node *node = map_view_node(draft->view, rows[i].node);
        if (!group || !node || group->epoch != rows[i].epoch || group->primary == 0 ||
            group->primary == node->id || node->state != MAP_NODE_UP ||
            map_group_member_state(group, node->id) != MAP_MEMBER_IN_SYNC)
            continue;
        group->primary = node->id; /* M2 */
        group->epoch++;
        changed = true;
    }
    return changed ? 0 : -ERR_CAS_FAILED;
}
