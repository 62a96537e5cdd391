/* SPDX-License-Identifier: MIT */
#include "base/mem.h"
#include "map/plan_internal.h"

/* What one group needs next: a member more, a member less, another primary. Theory and invariants:
 * plan.c. */

enum {
    TOLERANCE = 16, /* the part of its share that a node may have too much or too little */
};

/* ---- writing down --------------------------------------------------------------------------- */

/* The group's next copy, as far as who is busy is concerned. */
static void count_copy(struct planner *planner, const struct map_group *group, uint32_t from,
                       uint32_t to)
{
    uint32_t kind = plan_kind(group);
    planner->places[from].outgoing[kind]++;
    planner->places[to].incoming[kind]++;
    planner->places[to].nodes[kind].load++;
}

bool plan_move(struct planner *planner, const struct map_group *group, uint32_t add, uint32_t drop)
{
    struct plan *plan = planner->plan;
    uint32_t g = (uint32_t)(group - planner->view->groups);
    if (planner->touched[g] || plan->move_count == MAP_COMMAND_MOVES_MAX)
        return false;
    planner->touched[g] = true; /* P1 */
    plan->moves[plan->move_count++] = (struct map_command_move){
        .group = group->id, .epoch = group->epoch, .add = add, .drop = drop};
    if (add != 0)
        count_copy(planner, group, plan_index(planner, group->primary), plan_index(planner, add));
    return true;
}

bool plan_lead_instead(struct planner *planner, const struct map_group *group, uint32_t node)
{
    struct plan *plan = planner->plan;
    if (plan->lead_count == MAP_COMMAND_ELECTS_MAX)
        return false;
    plan->leads[plan->lead_count++] =
        (struct map_command_elect){.group = group->id, .epoch = group->epoch, .node = node};
    planner->places[plan_index(planner, group->primary)].leads[plan_kind(group)]--;
    planner->places[plan_index(planner, node)].leads[plan_kind(group)]++;
    return true;
}

bool plan_lead(struct planner *planner, const struct map_group *group, uint32_t node)
{
    uint32_t g = (uint32_t)(group - planner->view->groups);
    if (planner->touched[g] || !plan_lead_instead(planner, group, node))
        return false;
    planner->touched[g] = true; /* P1 */
    return true;
}

/* ---- copies that are missing, or on nodes that go -------------------------------------------- */

struct plan_company plan_company_of(const struct planner *planner, const struct map_group *group,
                                    int32_t but)
{
    struct plan_company company = {.count = 0};
    for (uint32_t m = 0; m < group->member_count; m++) {
        uint32_t place = plan_place(planner, group, m);
        if (planner->places[place].stays && (int32_t)place != but)
            company.places[company.count++] = place;
    }
    return company;
}

bool plan_shares_host(const struct planner *planner, const struct plan_company *company,
                      uint32_t at)
{
    for (uint32_t i = 0; i < company->count; i++) {
        if (planner->places[company->places[i]].host == planner->places[at].host)
            return true;
    }
    return false;
}

bool plan_shares_domain(const struct planner *planner, const struct plan_company *company,
                        int32_t at)
{
    for (uint32_t i = 0; i < company->count && at >= 0; i++) {
        if (placement_same_domain(&planner->places[company->places[i]].nodes[0],
                                  &planner->places[at].nodes[0]))
            return true;
    }
    return false;
}

uint32_t plan_load_most(const struct plan_place *place, uint32_t kind)
{
    int64_t share = place->share[kind];
    return MAX(place->nodes[kind].load_max, (uint32_t)((share + share / TOLERANCE) / PLAN_ONE));
}

uint32_t plan_load_least(const struct plan_place *place, uint32_t kind)
{
    int64_t slack = place->share[kind] / TOLERANCE;
    return (uint32_t)((place->share[kind] - (slack >= PLAN_ONE ? slack : 0)) / PLAN_ONE);
}

const struct plan_terms plan_terms_of_move = {PLAN_MOVES_PER_NODE, PLAN_MOVES_PER_NODE, false};

bool plan_is_busy(const struct plan_place *place, uint32_t kind, const struct plan_terms *terms)
{
    return place->incoming[0] + place->incoming[1] >= terms->incoming_most || /* P4 */
           place->incoming[kind] >= terms->same_most;
}

/* The best of the candidates, or -1: none, or the good ones are busy. */
static int32_t choose_idle(struct planner *planner, const struct map_group *group,
                           const struct plan_company *company, const struct plan_terms *terms)
{
    uint32_t count = planner->view->header->node_count;
    uint64_t key = plan_key(group);
    struct placement_node *nodes = planner->candidates;
    int32_t best = placement_choose(nodes, count, key, company->places, company->count);
    if (best < 0 || !plan_is_busy(&planner->places[best], plan_kind(group), terms))
        return best;
    bool shares = plan_shares_domain(planner, company, best);
    bool full = nodes[best].load >= nodes[best].load_max;
    for (uint32_t i = 0; i < count; i++) {
        if (plan_is_busy(&planner->places[i], plan_kind(group), terms))
            nodes[i].weight = 0;
    }
    best = placement_choose(nodes, count, key, company->places, company->count);
    bool worse = best >= 0 && ((plan_shares_domain(planner, company, best) && !shares) ||
                               (nodes[best].load >= nodes[best].load_max && !full));
    return worse ? -1 : best;
}

int32_t plan_choose_taker(struct planner *planner, const struct map_group *group,
                          const struct plan_company *company, const struct plan_terms *terms)
{
    uint32_t kind = plan_kind(group);
    for (uint32_t i = 0; i < planner->view->header->node_count; i++) {
        planner->candidates[i] = planner->places[i].nodes[kind];
        if (terms->beyond_share)
            planner->candidates[i].load_max = plan_load_most(&planner->places[i], kind);
    }
    for (uint32_t m = 0; m < group->member_count; m++)
        planner->candidates[plan_place(planner, group, m)].weight = 0;
    return choose_idle(planner, group, company, terms);
}

/* Of the takers that may take in more, what the idlest does of this kind; most: nobody may. */
static uint32_t least_incoming(const struct planner *planner, uint32_t kind, uint32_t most)
{
    const struct plan_terms any = {.incoming_most = most, .same_most = most};
    uint32_t least = most;
    for (uint32_t i = 0; i < planner->view->header->node_count && least > 0; i++) {
        const struct plan_place *place = &planner->places[i];
        if (place->taker && !plan_is_busy(place, kind, &any))
            least = MIN(least, place->incoming[kind]);
    }
    return least;
}

void plan_complete(struct planner *planner, const struct map_group *group, uint32_t in_sync)
{
    uint32_t staying = 0;
    uint32_t dead = 0;
    for (uint32_t m = 0; m < group->member_count; m++) {
        const struct plan_place *place = &planner->places[plan_place(planner, group, m)];
        bool first_of_host = true;
        for (uint32_t o = 0; o < m; o++) {
            uint32_t other = plan_place(planner, group, o);
            first_of_host &=
                !planner->places[other].stays || planner->places[other].host != place->host;
        }
        staying += place->stays && first_of_host; /* P5 */
        if (place->absent && group->members[m].state == MAP_MEMBER_JOINING)
            dead = group->members[m].node;
    }
    if (staying >= planner->copies) {
        if (dead != 0)
            (void)plan_move(planner, group, 0, dead); /* full: in the next plan */
        return;
    }
    bool room = dead != 0 || group->member_count < MAP_MEMBERS_MAX;
    bool missing = in_sync < planner->copies;
    uint32_t most = missing ? PLAN_REPAIRS_PER_NODE : PLAN_MOVES_PER_NODE;
    struct plan_company company = plan_company_of(planner, group, -1);
    int32_t taker = -1;
    for (uint32_t same = least_incoming(planner, plan_kind(group), most) + 1;
         room && taker < 0 && same <= most; same++) { /* P6 */
        const struct plan_terms idlest = {same, same, missing};
        const struct plan_terms idle = {most, same, missing};
        taker = plan_choose_taker(planner, group, &company, &idlest);
        if (taker < 0)
            taker = plan_choose_taker(planner, group, &company, &idle);
    }
    if (taker >= 0)
        (void)plan_move(planner, group, planner->view->nodes[taker].id, dead);
}

uint32_t plan_choose_lead(const struct planner *planner, const struct map_group *group,
                          uint32_t but)
{
    uint32_t best = 0;
    uint32_t fewest = UINT32_MAX;
    int32_t leaver = planner->leavers[group - planner->view->groups];
    for (uint32_t m = 0; m < group->member_count; m++) {
        const struct map_member *member = &group->members[m];
        const struct plan_place *place = &planner->places[plan_place(planner, group, m)];
        if (member->state == MAP_MEMBER_IN_SYNC && place->taker && member->node != but &&
            (int32_t)m != leaver && place->leads[plan_kind(group)] < fewest) {
            best = member->node;
            fewest = place->leads[plan_kind(group)];
        }
    }
    return best;
}

/* ---- copies that are too many ---------------------------------------------------------------- */

void plan_thin_out(struct planner *planner, const struct map_group *group, uint32_t in_sync)
{
    const struct plan_place *primary = &planner->places[plan_index(planner, group->primary)];
    if (!primary->stays) { /* a node that is being drained hands over at once */
        uint32_t heir = plan_choose_lead(planner, group, group->primary);
        if (heir != 0 && plan_lead(planner, group, heir))
            return;
    }
    if (in_sync <= planner->copies)
        return;
    int32_t leaver = planner->leavers[group - planner->view->groups];
    assert(leaver >= 0 && leaver < (int32_t)group->member_count);
    uint32_t node = group->members[leaver].node;
    if (node == group->primary) {
        uint32_t heir = plan_choose_lead(planner, group, node);
        if (heir != 0)
            (void)plan_lead(planner, group, heir); /* full: in the next plan */
        return;
    }
    if (!primary->up)
        return; /* who would hold everything then is not sure to be alive */
    if (group->members[leaver].state == MAP_MEMBER_IN_SYNC &&
        !planner->facts->may_drop(planner->facts->context, group->id, node))
        planner->plan->waits = true;
    else
        (void)plan_move(planner, group, 0, node); /* full: in the next plan */
}
