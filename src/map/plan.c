/* SPDX-License-Identifier: MIT */
#include "map/plan.h"

#include "base/mem.h"
#include "map/plan_internal.h"

/* Where replicas should be, and the next steps towards it.
 *
 * Problem. Nodes are added, drained, lost and come back empty; each group shall have its copies on
 * nodes that stay, every node its share of groups (by its size), each group's copies in different
 * failure domains; and to get there as little as possible shall be copied, never a copy given up
 * before its successor is there, and never so much at once that users feel it.
 *
 * Picture. Looked at afresh after every change of the map; nothing is remembered between two looks,
 * so a plan survives the death of the leader and every fault on the way:
 *
 *     fewer than copies stay        --MOVE add b-->   b JOINING  --its primary's word-->  b IN_SYNC
 *     more than copies are IN_SYNC  --MOVE drop a-->  a's replica is deleted by its node
 *     a is to go, and is primary    --LEAD-->         another IN_SYNC member leads
 *
 * So a move is "one more", and then "one less": who goes is found anew when the time has come (the
 * one on a node that is being drained, else the one whose node has most above its share; the first
 * of the list was meant, and stays so unless another has become the better one by far).
 *
 * Invariants.
 *  P1 A plan holds one change per group at most, made for the epoch that the facts' map shows.
 *  P2 Members are added to groups with the fewest copies first, to ones that have all of them last.
 *  P3 A move for balance is made only if it brings the two nodes' loads closer to their shares. The
 *     sum of squared differences falls with every one, so balancing ends.
 *  P4 A node takes PLAN_MOVES_PER_NODE replicas at a time, PLAN_REPAIRS_PER_NODE where copies are
 *     missing; nothing is moved for balance while copies are missing that can be made.
 *  P5 Copies are on different hosts. Only while a replica moves between two targets of one host
 *     the host has two, and one of the two is the next to go.
 *  P6 Missing copies are made by as many devices as there are: a node gets its second replica of a
 *     kind when all others that may have a first one, and who gets none of the other kind comes
 *     first; and of the members in sync that one leads, and so is the source, that has no more
 *     copies to make than another, but for a quarter (plan_source.c). Who gets what does not
 *     depend on who leads, so once leads have changed the next plan finds none to change.
 *
 * Minimal movement. A new node gets replicas until it has its share, but for a sixteenth, and
 * nobody else does. Which groups come is decided by rendezvous hashing: those that hash best to it.
 *
 * Limits. Loads are counted in groups of a kind, not in bytes: hashing spreads files and
 * objects evenly over groups.
 *
 * Time. The leader makes a plan after every change of the map: nothing may look at all pairs of
 * groups and nodes. A plan passes over the groups some times, and over the nodes some times for
 * each of its changes; evening out has a bound of its own (plan_balance.c).
 *
 * Not here: when to look (controller.c), whether a step is safe (machine_group.c). */

static bool list_has(const struct map_ids *list, uint32_t *cursor, uint32_t node)
{
    while (*cursor < list->count && list->ids[*cursor] < node)
        (*cursor)++;
    return *cursor < list->count && list->ids[*cursor] == node;
}

/* ---- looking -------------------------------------------------------------------------------- */

static void look_at_domain(struct planner *planner, const struct map_node *node, uint32_t at)
{
    bool known = planner->domain_count == ARRAY_COUNT(planner->domains);
    for (uint32_t i = 0; i < planner->domain_count && !known; i++)
        known = placement_same_domain(&planner->places[planner->domains[i]].nodes[0],
                                      &planner->places[at].nodes[0]);
    if (!known && planner->places[at].taker)
        planner->domains[planner->domain_count++] = at;
    planner->domains_shared |= node->rack[0] != 0 || node->target > 0;
}

static void look_at_nodes(struct planner *planner)
{
    uint32_t sure = 0;
    uint32_t lost = 0;
    for (uint32_t i = 0; i < planner->view->header->node_count; i++) {
        const struct map_node *node = &planner->view->nodes[i];
        struct plan_place *place = &planner->places[i];
        planner->indexes[node->id] = (uint16_t)i;
        bool is_lost = list_has(&planner->facts->lost, &lost, node->id);
        place->up = list_has(&planner->facts->sure, &sure, node->id) && node->state == MAP_NODE_UP;
        place->taker = place->up && node->intent == MAP_NODE_KEEP;
        place->absent = node->state != MAP_NODE_UP && (is_lost || node->intent == MAP_NODE_REMOVE);
        place->stays =
            node->intent == MAP_NODE_KEEP && node->state != MAP_NODE_NEW && !place->absent;
        place->weight = MAX(node->size_bytes / GIB, 1ull);
        place->host = node->host;
        planner->host_weights[node->host] += place->stays ? place->weight : 0;
        for (uint32_t kind = 0; kind < PLAN_KINDS; kind++)
            placement_node_init(&place->nodes[kind], node, place->taker ? place->weight : 0);
        look_at_domain(planner, node, i);
    }
}

/* All targets of a host that stay share what it can have. */
static void share_fix(struct planner *planner, uint32_t kind, uint32_t host, uint64_t share)
{
    for (uint32_t i = 0; i < planner->view->header->node_count; i++) {
        struct plan_place *place = &planner->places[i];
        if (place->stays && place->host == host)
            place->share[kind] = (int64_t)(share * place->weight / planner->host_weights[host]);
    }
}

/* Give every node that stays its share by weight; no host can use more than one replica a group. */
static void share_out(struct planner *planner, uint32_t kind, uint32_t groups)
{
    uint32_t count = planner->view->header->node_count;
    uint64_t left = (uint64_t)groups * planner->copies * PLAN_ONE;
    uint64_t weights = 0;
    uint64_t most = (uint64_t)groups * PLAN_ONE;
    for (uint32_t i = 0; i < count; i++)
        weights += planner->places[i].stays ? planner->places[i].weight : 0;
    for (bool again = true; again && weights > 0;) {
        again = false;
        for (uint32_t i = 0; i < count; i++) {
            struct plan_place *place = &planner->places[i];
            uint64_t of_host = planner->host_weights[place->host];
            if (!place->stays || place->share[kind] != 0 || left / weights * of_host < most)
                continue;
            share_fix(planner, kind, place->host, most);
            left -= MIN(left, most); /* it can have no more: the others share the rest */
            weights -= of_host;
            again = weights > 0;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        struct plan_place *place = &planner->places[i];
        if (place->stays && place->share[kind] == 0 && weights > 0)
            place->share[kind] = (int64_t)(left * place->weight / weights);
        place->nodes[kind].load_max = (uint32_t)div_up((uint64_t)place->share[kind], PLAN_ONE);
    }
}

/* How urgently a member of a group that has too many should go. */
static uint32_t leaver_rank(const struct planner *planner, const struct map_group *group,
                            uint32_t member)
{
    const struct plan_place *place = &planner->places[plan_place(planner, group, member)];
    uint32_t rank = place->stays ? 0 : 2;
    bool shares_host = false;
    for (uint32_t m = 0; m < group->member_count; m++) {
        const struct plan_place *other = &planner->places[plan_place(planner, group, m)];
        if (m == member)
            continue;
        shares_host |= other->host == place->host;
        if (rank == 0 && placement_same_domain(&place->nodes[0], &other->nodes[0]))
            rank = 1;
    }
    return rank + (shares_host ? 4 : 0); /* P5: else two copies would be left on one host */
}

/* Of the members of a group that has too many, the one to go; -1: none. in_sync_only: not one
 * that is still catching up. */
static int32_t choose_leaver(const struct planner *planner, const struct map_group *group,
                             bool in_sync_only)
{
    int32_t best = -1;
    uint32_t best_rank = 0;
    int64_t best_excess = 0;
    for (uint32_t m = 0; m < group->member_count; m++) {
        if (in_sync_only && group->members[m].state != MAP_MEMBER_IN_SYNC)
            continue;
        uint32_t place = plan_place(planner, group, m);
        uint32_t rank = leaver_rank(planner, group, m);
        /* All else equal, not the primary: it would have to hand over first. */
        bool leads = group->members[m].node == group->primary;
        int64_t more = plan_excess(planner, plan_kind(group), place) - leads;
        int64_t least = best_excess + (best == 0 ? PLAN_ONE : 0); /* the first was meant to go */
        if (best < 0 || rank > best_rank || (rank == best_rank && more > least)) {
            best = (int32_t)m;
            best_rank = rank;
            best_excess = more;
        }
    }
    return best;
}

static void look_at_groups(struct planner *planner)
{
    uint32_t groups[PLAN_KINDS] = {0};
    const struct map_view *view = planner->view;
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        const struct map_group *group = &view->groups[g];
        uint32_t kind = plan_kind(group);
        uint32_t in_sync = map_group_in_sync_count(group);
        uint32_t coming = 0;
        planner->in_sync[g] = (uint8_t)in_sync;
        groups[kind]++;
        for (uint32_t m = 0; m < group->member_count; m++) {
            planner->members[g][m] = (uint16_t)plan_index(planner, group->members[m].node);
            struct plan_place *place = &planner->places[plan_place(planner, group, m)];
            place->nodes[kind].load++;
            bool comes = group->members[m].state == MAP_MEMBER_JOINING && place->up;
            place->incoming[kind] += comes && group->primary != 0;
            coming += comes;
        }
        planner->repairing |= coming > 0 && in_sync < planner->copies;
        if (group->primary != 0) {
            struct plan_place *source = &planner->places[plan_index(planner, group->primary)];
            source->leads[kind]++;
            source->outgoing[kind] += coming;
        }
    }
    for (uint32_t kind = 0; kind < PLAN_KINDS; kind++)
        share_out(planner, kind, groups[kind]);
    /* Who will go is not counted where it still is. */
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        const struct map_group *group = &view->groups[g];
        planner->leavers[g] = -1;
        if (group->member_count <= planner->copies || group->primary == 0)
            continue;
        bool complete = planner->in_sync[g] > planner->copies;
        int32_t leaver = choose_leaver(planner, group, !complete);
        planner->leavers[g] = (int8_t)leaver;
        if (leaver >= 0)
            planner->places[plan_place(planner, group, (uint32_t)leaver)]
                .nodes[plan_kind(group)]
                .load--;
    }
}

/* ---- the plan -------------------------------------------------------------------------------- */

static void plan_groups(struct planner *planner)
{
    const struct map_view *view = planner->view;
    for (uint32_t in_sync = 1; in_sync <= MAP_MEMBERS_MAX; in_sync++) { /* P2 */
        for (uint32_t g = 0; g < view->header->group_count; g++) {
            const struct map_group *group = &view->groups[g];
            if (group->primary == 0 || planner->in_sync[g] != in_sync)
                continue;
            plan_thin_out(planner, group, in_sync);
            if (!planner->touched[g])
                plan_complete(planner, group, in_sync);
        }
    }
    bool moves = planner->plan->move_count > 0;
    plan_even_sources(planner);
    if (!planner->facts->balance || planner->repairing || moves)
        return; /* P4 */
    plan_balance(planner);
}

void plan_make(const struct plan_facts *facts, struct plan *ret_plan)
{
    uint32_t nodes = facts->view->header->node_count;
    struct planner planner = {
        .facts = facts,
        .view = facts->view,
        .plan = ret_plan,
        .places = mem_zalloc((nodes + 1) * sizeof(struct plan_place)),
        .candidates = mem_zalloc((nodes + 1) * sizeof(struct placement_node)),
        .touched = mem_zalloc(facts->view->header->group_count + 1),
        .in_sync = mem_zalloc(facts->view->header->group_count + 1),
        .leavers = mem_zalloc(facts->view->header->group_count + 1),
        .members =
            mem_zalloc((facts->view->header->group_count + 1) * sizeof(uint16_t[MAP_MEMBERS_MAX])),
        .indexes = mem_zalloc((MAP_NODES_MAX + 1) * sizeof(uint16_t)),
        .host_weights = mem_zalloc((MAP_NODES_MAX + 1) * sizeof(uint64_t)),
        .copies = facts->view->header->copies,
    };
    ret_plan->waits = false;
    ret_plan->move_count = 0;
    ret_plan->lead_count = 0;
    look_at_nodes(&planner);
    look_at_groups(&planner);
    plan_groups(&planner);
    assert(ret_plan->move_count + ret_plan->lead_count <= facts->view->header->group_count);
    mem_free(planner.places);
    mem_free(planner.candidates);
    mem_free(planner.touched);
    mem_free(planner.in_sync);
    mem_free(planner.leavers);
    mem_free(planner.members);
    mem_free(planner.indexes);
    mem_free(planner.host_weights);
}
