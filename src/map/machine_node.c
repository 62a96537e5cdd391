/* SPDX-License-Identifier: MIT */
#include "base/errors.h"
#include "map/map_internal.h"

/* Nodes come and go. Theory and invariants: machine.c. */

static void lost_to_joining(struct map_group *group)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].state == MAP_MEMBER_LOST)
            group->members[i].state = MAP_MEMBER_JOINING;
    }
}

/* The node's memory of the group is gone (M4, M6). */
static void demote(struct map_draft *draft, struct map_group *group, struct map_member *member,
                   const struct map_ids *confirmed)
{
    assert(member->state == MAP_MEMBER_IN_SYNC);
    uint32_t heir = machine_choose_primary(draft, group, confirmed, member->node);
    if (heir == 0) {
        member->state = MAP_MEMBER_LOST;
        group->primary = 0;
    } else {
        member->state = MAP_MEMBER_JOINING;
        lost_to_joining(group);
        if (group->primary == member->node || group->primary == 0)
            group->primary = heir;
    }
    group->epoch++;
}

/* All groups of the node, in one map (M7). */
static void forget_memory(struct map_draft *draft, uint32_t node, const struct map_ids *confirmed,
                          bool restarted)
{
    for (uint32_t i = 0; i < draft->header->group_count; i++) {
        struct map_group *group = &draft->groups[i];
        struct map_member *member = map_group_member(group, node);
        if (!member || map_group_never_active(group))
            continue;
        if (member->state == MAP_MEMBER_IN_SYNC)
            demote(draft, group, member, confirmed);
        else if (member->state == MAP_MEMBER_JOINING && restarted)
            group->epoch++; /* M1: its catch-up so far is void */
        assert(group->primary != node);
    }
}

int machine_node_up(struct map_draft *draft, const struct map_command *command,
                    const struct map_ids *confirmed)
{
    struct map_node *node = map_draft_node(draft, command->node);
    if (!node || command->incarnation == 0)
        return -EINVAL;
    if (node->incarnation == command->incarnation)
        return -ERR_CAS_FAILED; /* up already, or declared dead */
    node->state = MAP_NODE_UP;
    node->incarnation = command->incarnation;
    if (command->size_bytes > 0)
        node->size_bytes = command->size_bytes;
    forget_memory(draft, node->id, confirmed, true);
    return 0;
}

int machine_node_down(struct map_draft *draft, const struct map_command *command,
                      const struct map_ids *confirmed)
{
    struct map_node *node = map_draft_node(draft, command->node);
    if (!node)
        return -EINVAL;
    if (node->incarnation != command->incarnation || node->state != MAP_NODE_UP)
        return -ERR_CAS_FAILED;
    node->state = MAP_NODE_DOWN;
    forget_memory(draft, node->id, confirmed, false);
    return 0;
}
