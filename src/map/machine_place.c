/* SPDX-License-Identifier: MIT */
#include "base/mem.h"
#include "map/map_internal.h"
#include "map/placement.h"

/* Which nodes hold which group at the first start (later: plan.c). Theory and invariants:
 * machine.c. */

/* Weights of all nodes, as placement wants them. Freed by the caller. */
static struct placement_node *nodes_new(const struct map_draft *draft)
{
    uint32_t count = draft->header->node_count;
    struct placement_node *nodes = mem_zalloc((count + 1) * sizeof *nodes);
    for (uint32_t i = 0; i < count; i++) {
        const struct map_node *node = &draft->nodes[i];
        placement_node_init(&nodes[i], node, MAX(node->size_bytes / GIB, 1ull));
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

/* Add members until there are wanted of them. */
static void fill_group(const struct map_draft *draft, struct map_group *group, uint32_t wanted,
                       struct placement_node *nodes)
{
    uint32_t taken[MAP_MEMBERS_MAX];
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
    }
}

void map_group_counts(uint32_t targets, uint32_t targets_later, uint32_t *ret_meta_groups,
                      uint32_t *ret_data_groups)
{
    enum { GROWTH = 16, DATA_PER_TARGET = 80, DATA_PER_SQUARE = 16, META_SHARE = 4 };
    uint64_t first = MAX(targets, (uint32_t)div_up(targets_later, GROWTH));
    uint64_t least = MAX(first * DATA_PER_TARGET, first * first * DATA_PER_SQUARE);
    uint32_t data = 1;
    assert(targets > 0);
    /* A power of two: metadata groups are to have equally many slots. */
    while (data < MAP_DATA_GROUPS_MAX && data < least)
        data *= 2;
    *ret_data_groups = data;
    *ret_meta_groups = MIN(data / META_SHARE, (uint32_t)MAP_META_SLOTS);
}

void machine_place_all(struct map_draft *draft, uint32_t meta_groups, uint32_t data_groups)
{
    uint32_t count = meta_groups + data_groups;
    assert(count == draft->header->group_count && meta_groups > 0 && data_groups > 0);
    draft->header->meta_groups = meta_groups;
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
        struct placement_node *nodes = nodes_new(draft);
        /* The limit grows with the members placed, so that few groups spread evenly too. */
        for (uint32_t i = 0; i < groups; i++) {
            uint64_t members = (i + 1ull) * draft->header->copies;
            set_limits(nodes, draft->header->node_count, members);
            fill_group(draft, &draft->groups[first + i], draft->header->copies, nodes);
        }
        mem_free(nodes);
    }
    for (uint32_t i = 0; i < MAP_META_SLOTS; i++)
        draft->meta_slots[i] = 1 + i % meta_groups;
}
