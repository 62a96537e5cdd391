/* SPDX-License-Identifier: MIT */
#include "base/errors.h"
#include "base/hash.h"
#include "base/mem.h"
#include "map/map_internal.h"
#include "map/placement.h"

/* Which nodes hold which group: at the first start, and in place of nodes that do not come back.
 * Theory and invariants: machine.c. */

/* Loads and weights of all nodes, as placement wants them. Freed by the caller. */
static struct placement_node *nodes_new(const struct map_draft *draft, bool only_up)
{
    uint32_t count = draft->header->node_count;
    struct placement_node *nodes = mem_zalloc((count + 1) * sizeof *nodes);
    for (uint32_t i = 0; i < count; i++) {
        const struct map_node *node = &draft->nodes[i];
        bool usable = node->state == MAP_NODE_UP || (!only_up && node->state == MAP_NODE_NEW);
        uint64_t weight = MAX(node->size_bytes / GIB, 1ull);
        nodes[i] = (struct placement_node){.node = node->id, .weight = usable ? weight : 0};
        if (node->rack[0] != 0)
            nodes[i].rack = (uint32_t)hash_bytes(node->rack, strlen(node->rack), 0) | 1;
    }
    for (uint32_t i = 0; i < draft->header->group_count; i++) {
        const struct map_group *group = &draft->groups[i];
        for (uint32_t m = 0; m < group->member_count; m++) {
            const struct map_node *node = map_view_node(draft->view, group->members[m].node);
            nodes[node - draft->view->nodes].load++;
        }
    }
    return nodes;
}

/* A node may hold its share of so many members before others are preferred. */
static void set_limits(struct placement_node *nodes, uint32_t count, uint64_t members)
{
    uint64_t weights = 0;
    for (uint32_t i = 0; i < count; i++)
        weights += nodes[i].weight;
    for (uint32_t i = 0; i < count && weights > 0; i++) {
        uint64_t share = div_up(members * nodes[i].weight, weights);
        nodes[i].load_max = (uint32_t)share;
    }
}

static uint64_t group_key(const struct map_group *group)
{
    return (uint64_t)group->kind << 32 | group->id;
}

/* Add members until there are wanted of them. True if any was added. */
static bool fill_group(const struct map_draft *draft, struct map_group *group, uint32_t wanted,
                       struct placement_node *nodes)
{
    uint32_t taken[MAP_MEMBERS_MAX];
    bool added = false;
    assert(wanted <= MAP_MEMBERS_MAX);
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct map_node *node = map_view_node(draft->view, group->members[i].node);
        taken[i] = (uint32_t)(node - draft->view->nodes);
    }
    while (group->member_count < wanted) {
        int32_t best = placement_choose(nodes, draft->header->node_count, group_key(group), taken,
                                        group->member_count);
        if (best < 0)
            break;
        nodes[best].load++;
        taken[group->member_count] = (uint32_t)best;
        group->members[group->member_count++] =
            (struct map_member){.node = nodes[best].node, .state = MAP_MEMBER_JOINING};
        added = true;
    }
    return added;
}

void machine_place_all(struct map_draft *draft, uint32_t meta_groups, uint32_t data_groups)
{
    uint32_t count = meta_groups + data_groups;
    assert(count == draft->header->group_count && count > 0);
    for (uint32_t i = 0; i < count; i++) {
        draft->groups[i] = (struct map_group){
            .id = i + 1,
            .kind = i < meta_groups ? MAP_GROUP_META : MAP_GROUP_DATA,
            .epoch = 1,
        };
    }
    /* The two kinds are spread each for itself: their loads differ. */
    for (uint32_t kind = MAP_GROUP_META; kind <= MAP_GROUP_DATA; kind++) {
        uint32_t first = kind == MAP_GROUP_META ? 0 : meta_groups;
        uint32_t groups = kind == MAP_GROUP_META ? meta_groups : data_groups;
        struct placement_node *nodes = nodes_new(draft, false);
        for (uint32_t i = 0; i < draft->header->node_count; i++)
            nodes[i].load = 0;
        /* The limit grows with the members placed, so that few groups spread evenly too. */
        for (uint32_t i = 0; i < groups; i++) {
            uint64_t members = (i + 1ull) * draft->header->copies;
            set_limits(nodes, draft->header->node_count, members);
            (void)fill_group(draft, &draft->groups[first + i], draft->header->copies, nodes);
        }
        mem_free(nodes);
    }
    for (uint32_t i = 0; i < MAP_META_SLOTS; i++)
        draft->meta_slots[i] = 1 + i % meta_groups;
    for (uint32_t i = 0; i < MAP_DATA_SLOTS; i++)
        draft->data_slots[i] = 1 + meta_groups + i % data_groups;
}

/* Take out members that are not waited for any more, as far as others can take their place: what
 * is not in sync is no loss, and LOST ones stay (M5). */
static bool replace_in(const struct map_draft *draft, struct map_group *group,
                       const struct map_ids *lost, struct placement_node *nodes)
{
    struct map_group next = *group;
    struct map_member gone[MAP_MEMBERS_MAX];
    uint32_t gone_count = 0;
    next.member_count = 0;
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct map_member *member = &group->members[i];
        const struct map_node *node = map_view_node(draft->view, member->node);
        bool out = member->state == MAP_MEMBER_JOINING && node->state != MAP_NODE_UP &&
                   map_ids_has(lost, member->node);
        if (out)
            gone[gone_count++] = *member;
        else
            next.members[next.member_count++] = *member;
    }
    uint32_t wanted = MAX(draft->header->copies, next.member_count);
    bool added = fill_group(draft, &next, wanted, nodes);
    /* Nobody to take a place: the old member keeps it, it may still return. */
    for (uint32_t i = 0; i < gone_count && next.member_count < group->member_count; i++)
        next.members[next.member_count++] = gone[i];
    if (!added)
        return false;
    memset(&next.members[next.member_count], 0,
           (MAP_MEMBERS_MAX - next.member_count) * sizeof next.members[0]);
    next.epoch++;
    *group = next;
    return true;
}

int machine_replace(struct map_draft *draft, const struct map_ids *lost)
{
    uint32_t count = draft->header->node_count;
    bool changed = false;
    struct placement_node *nodes = nodes_new(draft, true);
    set_limits(nodes, count, (uint64_t)draft->header->group_count * draft->header->copies);
    for (uint32_t i = 0; i < draft->header->group_count; i++) {
        struct map_group *group = &draft->groups[i];
        if (group->primary != 0)
            changed |= replace_in(draft, group, lost, nodes);
    }
    mem_free(nodes);
    return changed ? 0 : -ERR_CAS_FAILED;
}
