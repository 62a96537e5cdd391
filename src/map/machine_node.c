/* SPDX-License-Identifier: MIT */
#include "base/errors.h"
#include "base/mem.h"
#include "base/plant.h"
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
static void demote(struct machine_heirs *heirs, struct map_group *group, struct map_member *member)
{
    assert(member->state == MAP_MEMBER_IN_SYNC);
    uint32_t heir = machine_choose_primary(heirs, group, member->node);
    if (heir == 0) {
        member->state = MAP_MEMBER_LOST;
        machine_set_primary(heirs, group, 0);
    } else {
        member->state = MAP_MEMBER_JOINING;
        lost_to_joining(group);
        if (group->primary == member->node || group->primary == 0)
            machine_set_primary(heirs, group, heir);
    }
    group->epoch++;
}

/* All groups of the node, in one map (M7). */
static void forget_memory(struct map_draft *draft, uint32_t node, struct machine_heirs *heirs,
                          bool restarted)
{
    for (uint32_t i = 0; i < draft->header->group_count; i++) {
        struct map_group *group = &draft->groups[i];
        struct map_member *member = map_group_member(group, node);
        if (!member || map_group_never_active(group) || (restarted && PLANT(MAP_RESTART_IN_SYNC)))
            continue;
        if (member->state == MAP_MEMBER_IN_SYNC)
            demote(heirs, group, member);
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
    if (node->incarnation == command->incarnation || node->intent == MAP_NODE_REMOVE) /* M10 */
        return -ERR_CAS_FAILED; /* up already, or declared dead, or removed */
    node->state = MAP_NODE_UP;
    node->incarnation = command->incarnation;
    if (command->size_bytes > 0)
        node->size_bytes = command->size_bytes;
    struct machine_heirs *heirs = machine_heirs_new(draft, confirmed);
    forget_memory(draft, node->id, heirs, true);
    mem_free(heirs);
    return 0;
}

bool machine_dies_with(const struct map_node *node, const struct map_node *other)
{
    return other->host == node->host && other->incarnation == node->incarnation &&
           other->state == MAP_NODE_UP;
}

int machine_node_down(struct map_draft *draft, const struct map_command *command,
                      const struct map_ids *confirmed)
{
    const struct map_node *node = map_draft_node(draft, command->node);
    uint32_t dead[MAP_NODES_MAX];
    uint32_t dead_count = 0;
    if (!node || command->op > MAP_DOWN_PROCESS)
        return -EINVAL;
    if (node->incarnation != command->incarnation || node->state != MAP_NODE_UP)
        return -ERR_CAS_FAILED;
    for (uint32_t i = 0; i < draft->header->node_count; i++) {
        const struct map_node *other = &draft->nodes[i];
        if (other == node || (command->op == MAP_DOWN_PROCESS && machine_dies_with(node, other)))
            dead[dead_count++] = i;
    }
    assert(dead_count > 0);
    /* First all of them, then their groups: none is to inherit from another (M2). */
    for (uint32_t i = 0; i < dead_count; i++)
        draft->nodes[dead[i]].state = MAP_NODE_DOWN;
    struct machine_heirs *heirs = machine_heirs_new(draft, confirmed);
    for (uint32_t i = 0; i < dead_count; i++)
        forget_memory(draft, draft->nodes[dead[i]].id, heirs, false);
    mem_free(heirs);
    return 0;
}

/* ---- added and removed at run time --------------------------------------------------------- */

static void copy_parts(struct map_draft *draft, const struct map_view *view)
{
    uint32_t nodes = draft->header->node_count;
    uint32_t groups = draft->header->group_count;
    *draft->header = *view->header;
    draft->header->node_count = nodes;
    draft->header->group_count = groups;
    memcpy(draft->groups, view->groups, groups * sizeof draft->groups[0]);
    memcpy(draft->meta_slots, view->meta_slots, MAP_META_SLOTS * sizeof draft->meta_slots[0]);
}

int machine_node_add(const struct map_view *view, const struct map_node *wanted,
                     struct map_draft *ret_draft)
{
    uint32_t count = view->header->node_count;
    if (wanted->id == 0 || wanted->id > MAP_NODES_MAX)
        return -EINVAL;
    if (wanted->id != view->header->last_node + 1 || count == MAP_NODES_MAX) /* M8, M10 */
        return -ERR_CAS_FAILED;
    const struct map_node *sibling = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct map_node *node = &view->nodes[i];
        if (node->host == wanted->host)
            sibling = node;
        if (node->port == wanted->port && memcmp(node->ip, wanted->ip, sizeof node->ip) == 0)
            return -ERR_CAS_FAILED;
    }
    if (wanted->host != 0 && !sibling)
        return -EINVAL;
    map_draft_new(ret_draft, count + 1, view->header->group_count);
    copy_parts(ret_draft, view);
    memcpy(ret_draft->nodes, view->nodes, count * sizeof view->nodes[0]);
    struct map_node *node = &ret_draft->nodes[count];
    *node = *wanted;
    node->state = MAP_NODE_NEW;
    node->voter = MAP_VOTER_NONE;
    /* Hosts never have larger numbers than nodes, so this one is new. */
    node->host = sibling ? sibling->host : node->id;
    node->intent = sibling ? sibling->intent : MAP_NODE_KEEP; /* M11 */
    node->name[MAP_NAME_BYTES - 1] = 0;
    node->rack[MAP_NAME_BYTES - 1] = 0;
    ret_draft->header->last_node = wanted->id;
    return 0;
}

static int may_remove(const struct map_view *view, const struct map_node *found)
{
    uint32_t node = found->id;
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        uint32_t state = map_group_member_state(&view->groups[i], node);
        if (state != 0 && found->state == MAP_NODE_UP)
            return -EBUSY;
        if (state != 0 && view->groups[i].primary == 0)
            return -ERR_NO_QUORUM; /* the group may wait for just this node (M5) */
    }
    return 0;
}

int machine_may_remove(const struct map_view *view, uint32_t node)
{
    const struct map_node *found = map_view_node(view, node);
    if (!found)
        return -ENOENT;
    int result = 0;
    for (uint32_t i = 0; i < view->header->node_count && result == 0; i++) {
        if (view->nodes[i].host == found->host)
            result = may_remove(view, &view->nodes[i]);
    }
    return result;
}

int machine_node_intent(struct map_draft *draft, const struct map_command *command)
{
    const struct map_node *node = map_draft_node(draft, command->node);
    if (!node || command->op > MAP_NODE_REMOVE)
        return -EINVAL;
    if (node->intent == command->op || node->intent == MAP_NODE_REMOVE)
        return -ERR_CAS_FAILED;
    if (command->op == MAP_NODE_REMOVE && machine_may_remove(draft->view, node->id) < 0)
        return -ERR_CAS_FAILED;
    uint32_t host = node->host;
    for (uint32_t i = 0; i < draft->header->node_count; i++) { /* M11 */
        if (draft->nodes[i].host == host)
            draft->nodes[i].intent = command->op;
    }
    return 0;
}

bool machine_is_named(const struct map_view *view, uint32_t node)
{
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        if (map_group_member_state(&view->groups[i], node) != 0)
            return true;
    }
    return false;
}

int machine_node_forget(const struct map_view *view, uint32_t node, struct map_draft *ret_draft)
{
    const struct map_node *found = map_view_node(view, node);
    if (!found)
        return -EINVAL;
    if (found->intent != MAP_NODE_REMOVE || found->voter != MAP_VOTER_NONE ||
        machine_is_named(view, node)) /* M10 */
        return -ERR_CAS_FAILED;
    uint32_t at = (uint32_t)(found - view->nodes);
    uint32_t after = view->header->node_count - at - 1;
    map_draft_new(ret_draft, view->header->node_count - 1, view->header->group_count);
    copy_parts(ret_draft, view);
    memcpy(ret_draft->nodes, view->nodes, at * sizeof view->nodes[0]);
    memcpy(ret_draft->nodes + at, found + 1, after * sizeof view->nodes[0]);
    assert(!map_view_node(ret_draft->view, node));
    return 0;
}

/* What the map says of the map group; Raft's configuration is what counts. */
int machine_voters(struct map_draft *draft, const struct map_ids *ids, uint32_t full_count)
{
    bool changed = false;
    if (full_count == 0 || full_count > ids->count)
        return -EINVAL;
    for (uint32_t i = 0; i < draft->header->node_count; i++) {
        uint16_t voter = MAP_VOTER_NONE;
        for (uint32_t j = 0; j < ids->count; j++) {
            if (ids->ids[j] == draft->nodes[i].id)
                voter = j < full_count ? MAP_VOTER_FULL : MAP_VOTER_LEARNER;
        }
        changed |= draft->nodes[i].voter != voter;
        draft->nodes[i].voter = voter;
    }
    return changed ? 0 : -ERR_CAS_FAILED;
}
