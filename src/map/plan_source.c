/* SPDX-License-Identifier: MIT */
#include "base/mem.h"
#include "map/plan_internal.h"

/* From whom missing copies are made (P6). Theory and invariants: plan.c.
 *
 * The source of a copy is the group's primary; any other member in sync could be it, and leads from
 * then on. So the copies of a plan are edges between nodes, each to be turned towards one of its
 * ends (with more than two members in sync: one of several). As long as a node has more copies to
 * make than another that is reached from it along edges, all edges on the way are turned: the
 * one lowers its number, the other raises it, nobody else notices. What is left has no node too
 * many that could be helped.
 *
 *     a --2-- b --1-- c          a makes two copies, c none: the group of edge 1 is led by c, that
 *      ==> a --1-- b --1-- c      of edge 2 by b, and each makes one */

enum {
    SOURCE_SLACK = 4, /* the part of its copies that a source may have too much */
    NOT_REACHED = -1,
};

struct sourcing {
    struct planner *planner;
    uint32_t kind;
    const struct map_group *groups[MAP_COMMAND_MOVES_MAX]; /* by move; NULL: is not looked at */
    uint32_t sources[MAP_COMMAND_MOVES_MAX];               /* places, by move */
    uint32_t *queue;                                       /* places, each at most once */
    int32_t *reached; /* by place: the move whose source it would become */
};

/* Turn the edges back to where the search began. */
static void turn(struct sourcing *sourcing, uint32_t from, uint32_t to)
{
    struct plan_place *places = sourcing->planner->places;
    for (uint32_t at = to; at != from;) {
        int32_t move = sourcing->reached[at];
        uint32_t before = sourcing->sources[move];
        assert(before != at);
        sourcing->sources[move] = at;
        at = before;
    }
    places[from].outgoing[sourcing->kind]--;
    places[to].outgoing[sourcing->kind]++;
}

/* Reach further places from the ends of one move; the one that ends the search, or -1. */
static int32_t look_beyond(struct sourcing *sourcing, uint32_t move, uint32_t most,
                           uint32_t *queue_count)
{
    const struct planner *planner = sourcing->planner;
    const struct map_group *group = sourcing->groups[move];
    for (uint32_t m = 0; m < group->member_count; m++) {
        uint32_t at = plan_place(planner, group, m);
        if (group->members[m].state != MAP_MEMBER_IN_SYNC || !planner->places[at].taker ||
            sourcing->reached[at] != NOT_REACHED)
            continue;
        sourcing->reached[at] = (int32_t)move;
        if (planner->places[at].outgoing[sourcing->kind] < most)
            return (int32_t)at;
        sourcing->queue[(*queue_count)++] = at;
    }
    return -1;
}

/* Take one copy from a place, if that is of use. */
static bool relieve(struct sourcing *sourcing, uint32_t from)
{
    struct planner *planner = sourcing->planner;
    uint32_t most = planner->places[from].outgoing[sourcing->kind];
    most = most * SOURCE_SLACK / (SOURCE_SLACK + 1);
    if (most == 0)
        return false;
    for (uint32_t i = 0; i < planner->view->header->node_count; i++)
        sourcing->reached[i] = NOT_REACHED;
    sourcing->reached[from] = 0;
    sourcing->queue[0] = from;
    uint32_t count = 1;
    for (uint32_t head = 0; head < count; head++) {
        for (uint32_t move = 0; move < planner->plan->move_count; move++) {
            if (!sourcing->groups[move] || sourcing->sources[move] != sourcing->queue[head])
                continue;
            int32_t to = look_beyond(sourcing, move, most, &count);
            if (to >= 0) {
                turn(sourcing, from, (uint32_t)to);
                return true;
            }
        }
    }
    assert(count <= planner->view->header->node_count);
    return false;
}

static void even_kind(struct sourcing *sourcing)
{
    struct planner *planner = sourcing->planner;
    struct plan *plan = planner->plan;
    for (uint32_t i = 0; i < plan->move_count; i++) {
        const struct map_group *group = map_view_group(planner->view, plan->moves[i].group);
        bool made = plan->moves[i].add != 0 && map_group_in_sync_count(group) < planner->copies;
        sourcing->groups[i] = made && plan_kind(group) == sourcing->kind ? group : NULL;
        sourcing->sources[i] = plan_index(planner, group->primary);
    }
    for (bool again = true; again;) { /* ends: the sum of squares falls with every turn */
        again = false;
        for (uint32_t i = 0; i < planner->view->header->node_count; i++)
            again |= relieve(sourcing, i);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < plan->move_count; i++) {
        uint32_t node = planner->view->nodes[sourcing->sources[i]].id;
        const struct map_group *group = sourcing->groups[i];
        if (!group || node == group->primary || !plan_lead_instead(planner, group, node))
            plan->moves[kept++] = plan->moves[i]; /* P1 */
    }
    plan->move_count = kept;
}

void plan_even_sources(struct planner *planner)
{
    uint32_t nodes = planner->view->header->node_count;
    struct sourcing sourcing = {
        .planner = planner,
        .queue = mem_alloc((nodes + 1) * sizeof(uint32_t)),
        .reached = mem_alloc((nodes + 1) * sizeof(int32_t)),
    };
    for (; sourcing.kind < PLAN_KINDS; sourcing.kind++)
        even_kind(&sourcing);
    mem_free(sourcing.queue);
    mem_free(sourcing.reached);
}
