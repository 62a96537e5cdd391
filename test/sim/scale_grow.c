/* SPDX-License-Identifier: MIT */
/* A large cluster's map, made as the cluster would have made it: formatted with at most 32 nodes
 * (--grow-to its size), then grown node by node. Machine and planner are the real ones; every step
 * happens at once. */
#include <string.h>

#include "base/errors.h"
#include "base/mem.h"
#include "map/map_fixture.h"
#include "map/plan.h"
#include "scale_world.h"

enum { FIRST_NODES_MAX = 32, VOTERS_MANY = 5, STEPS_MAX = 100000 };

static void apply(struct map_view **view, const struct map_command *command, const void *tail,
                  size_t tail_bytes)
{
    int result = fixture_apply(view, command, tail, tail_bytes);
    assert(result == 0);
}

static struct map_node node_of(uint32_t id, uint32_t voters)
{
    struct map_node node = {.id = id, .size_bytes = 100 * GIB};
    struct net_addr addr;
    char text[40];
    scale_addr(id, &addr, text);
    memcpy(node.ip, addr.ip, sizeof node.ip);
    node.port = addr.port;
    node.voter = id <= voters;
    return node;
}

/* later: how many nodes it is to have one day. */
static struct map_view *first_map(uint32_t nodes, uint32_t later, uint32_t voters, uint32_t copies)
{
    struct {
        struct map_header header;
        struct map_node nodes[FIRST_NODES_MAX];
    } tail = {.header = {.level = 1, .copies = copies, .min_in_sync = 1}};
    struct map_command init = {.type = MAP_COMMAND_INIT, .count = nodes};
    map_group_counts(nodes, later, &init.meta_groups, &init.data_groups);
    for (uint32_t i = 0; i < nodes; i++) {
        tail.nodes[i] = node_of(i + 1, voters);
        tail.nodes[i].host = i + 1;
    }
    struct map_view *view = NULL;
    apply(&view, &init, &tail, sizeof tail.header + nodes * sizeof tail.nodes[0]);
    return view;
}

static void node_up(struct map_view **view, uint32_t id)
{
    struct map_command up = {
        .type = MAP_COMMAND_NODE_UP, .node = id, .incarnation = id, .size_bytes = 100 * GIB};
    apply(view, &up, NULL, 0);
}

static void activate(struct map_view **view)
{
    struct map_command elect = {.type = MAP_COMMAND_ELECT};
    struct map_command_elect rows[MAP_COMMAND_ELECTS_MAX];
    uint32_t groups = (*view)->header->group_count;
    for (uint32_t g = 0; g < groups; g += elect.count) {
        elect.count = MIN(groups - g, (uint32_t)ARRAY_COUNT(rows));
        for (uint32_t i = 0; i < elect.count; i++) {
            const struct map_group *group = &(*view)->groups[g + i];
            rows[i] = (struct map_command_elect){group->id, group->epoch,
                                                 group->members[(g + i) % 2].node, 0};
        }
        apply(view, &elect, rows, elect.count * sizeof rows[0]);
    }
}

static bool may_drop(void *context, uint32_t group, uint32_t node)
{
    (void)context;
    (void)group;
    (void)node;
    return true;
}

/* All in one map: a version for each would copy the map a hundred thousand times. */
static void join_all(struct map_view **view)
{
    struct map_draft draft;
    map_draft_copy(&draft, *view);
    for (uint32_t g = 0; g < draft.header->group_count; g++) {
        const struct map_group *group = &draft.groups[g];
        for (uint32_t m = 0; m < group->member_count; m++) {
            if (group->members[m].state != MAP_MEMBER_JOINING)
                continue;
            const struct map_command change = {.type = MAP_COMMAND_GROUP_CHANGE,
                                               .group = group->id,
                                               .epoch = group->epoch,
                                               .op = GROUP_CHANGE_IN_SYNC,
                                               .node = group->members[m].node};
            int result = machine_group_change(&draft, &change);
            assert(result == 0);
            break;
        }
    }
    struct map_view *next = map_draft_finish(&draft, (*view)->header->version + 1);
    map_view_put(*view);
    *view = next;
}

/* Carry out plans until there is nothing left to do. */
static uint64_t settle(struct map_view **view)
{
    uint32_t *ids = mem_alloc(MAP_NODES_MAX * sizeof *ids);
    struct plan *plan = mem_alloc(sizeof *plan);
    uint64_t moves = 0;
    for (uint32_t i = 0; i < (*view)->header->node_count; i++)
        ids[i] = (*view)->nodes[i].id;
    for (uint32_t i = 0; i < STEPS_MAX; i++) {
        const struct plan_facts facts = {.view = *view,
                                         .sure = {ids, (*view)->header->node_count},
                                         .may_drop = may_drop,
                                         .balance = true};
        plan_make(&facts, plan);
        struct map_command lead = {.type = MAP_COMMAND_LEAD, .count = plan->lead_count};
        struct map_command move = {.type = MAP_COMMAND_MOVE, .count = plan->move_count};
        if (plan->lead_count + plan->move_count == 0)
            break;
        if (plan->lead_count > 0)
            apply(view, &lead, plan->leads, plan->lead_count * sizeof plan->leads[0]);
        if (plan->move_count > 0)
            apply(view, &move, plan->moves, plan->move_count * sizeof plan->moves[0]);
        for (uint32_t m = 0; m < plan->move_count; m++)
            moves += plan->moves[m].add != 0;
        join_all(view);
    }
    mem_free(plan);
    mem_free(ids);
    return moves;
}

struct map_view *scale_grow(uint32_t node_count, uint32_t copies, uint64_t *ret_moves)
{
    uint32_t first = MIN(node_count, (uint32_t)FIRST_NODES_MAX);
    struct map_view *view = first_map(first, node_count, node_count >= 7 ? VOTERS_MANY : 3, copies);
    for (uint32_t id = 1; id <= first; id++)
        node_up(&view, id);
    activate(&view);
    (void)settle(&view); /* leads */
    for (uint32_t id = first + 1; id <= node_count; id++) {
        struct map_command add = {.type = MAP_COMMAND_NODE_ADD};
        const struct map_node node = node_of(id, 0);
        apply(&view, &add, &node, sizeof node);
        node_up(&view, id);
    }
    *ret_moves = settle(&view);
    return view;
}
