/* SPDX-License-Identifier: MIT */
#include "base/mem.h"
#include "map/plan_internal.h"

/* Moving replicas and leads so that everybody has its share. Theory and invariants: plan.c.
 *
 * Time. With 70 000 groups and 1000 nodes nothing here may look at all pairs of them. Who gives is
 * found among the nodes first, and then only its groups are looked at; and a plan looks at so many
 * nodes and groups at most. What is left out comes in a later plan: each begins at another node
 * and group. */

enum {
    LOOKS_MAX = 1 << 18, /* at a node or a group, in one plan: some milliseconds */
};

struct balancing {
    struct planner *planner;
    uint32_t kind;
    uint32_t looks_left;
    /* The groups that have a member at place p: groups[first[p]] to groups[first[p + 1] - 1]. */
    uint32_t *first;
    uint32_t *groups;
    bool *tried; /* places that have nothing to give, in one search */
};

/* Is there time to look at so many more? */
static bool has_time(struct balancing *balancing, uint32_t looks)
{
    bool has = balancing->looks_left >= looks;
    balancing->looks_left -= has ? looks : balancing->looks_left;
    return has;
}

static bool is_off(const struct planner *planner, uint32_t kind, uint32_t place)
{
    const struct plan_place *at = &planner->places[place];
    return (at->taker && at->nodes[kind].load < plan_load_least(at, kind)) ||
           (at->stays && at->nodes[kind].load > plan_load_most(at, kind));
}

/* Who holds what, by counting and then filling in. */
static void list_groups(struct balancing *balancing)
{
    const struct planner *planner = balancing->planner;
    const struct map_view *view = planner->view;
    uint32_t nodes = view->header->node_count;
    memset(balancing->first, 0, (nodes + 2) * sizeof balancing->first[0]);
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        for (uint32_t m = 0; m < view->groups[g].member_count; m++)
            balancing->first[planner->members[g][m] + 2] +=
                plan_kind(&view->groups[g]) == balancing->kind;
    }
    for (uint32_t i = 2; i <= nodes; i++)
        balancing->first[i + 1] += balancing->first[i];
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        for (uint32_t m = 0; m < view->groups[g].member_count; m++) {
            if (plan_kind(&view->groups[g]) == balancing->kind)
                balancing->groups[balancing->first[planner->members[g][m] + 1]++] = g;
        }
    }
    assert(balancing->first[0] == 0);
}

/* May the group give the replica on `from` to `to`? */
static bool fits(const struct planner *planner, const struct map_group *group, uint32_t from,
                 uint32_t to)
{
    if (group->member_count != planner->copies || planner->touched[group - planner->view->groups])
        return false;
    for (uint32_t m = 0; m < group->member_count; m++) {
        uint32_t place = plan_place(planner, group, m);
        if (place == to || group->members[m].state != MAP_MEMBER_IN_SYNC)
            return false;
    }
    struct plan_company company = plan_company_of(planner, group, (int32_t)from);
    if (plan_shares_host(planner, &company, to))
        return false; /* P5 */
    return group->primary != 0 && (plan_shares_domain(planner, &company, (int32_t)from) ||
                                   !plan_shares_domain(planner, &company, (int32_t)to));
}

/* False: the plan is full. */
static bool give(struct planner *planner, const struct map_group *group, uint32_t from, uint32_t to)
{
    const struct map_node *nodes = planner->view->nodes;
    if (!plan_move(planner, group, nodes[to].id, nodes[from].id))
        return false;
    planner->places[from].nodes[plan_kind(group)].load--;
    return true;
}

/* Who has most above its share of those not tried yet, at least so much; -1: nobody. */
static int32_t richest(const struct balancing *balancing, uint32_t to, int64_t least)
{
    const struct planner *planner = balancing->planner;
    uint32_t to_id = planner->view->nodes[to].id;
    int32_t best = -1;
    uint64_t best_hash = 0;
    for (uint32_t i = 0; i < planner->view->header->node_count; i++) {
        int64_t more = plan_excess(planner, balancing->kind, i);
        if (more < least || balancing->tried[i])
            continue;
        uint64_t hash = placement_hash(planner->view->nodes[i].id, to_id);
        if (best >= 0 && more == least && hash <= best_hash)
            continue; /* all else equal, not always the same one */
        best = (int32_t)i;
        best_hash = hash;
        least = more;
    }
    return best;
}

/* Of the groups that one can give the other the one that hashes best to that; NULL: none. */
static const struct map_group *choose_gift(const struct balancing *balancing, uint32_t from,
                                           uint32_t to)
{
    const struct planner *planner = balancing->planner;
    uint32_t to_id = planner->view->nodes[to].id;
    const struct map_group *best = NULL;
    uint64_t best_hash = 0;
    for (uint32_t i = balancing->first[from]; i < balancing->first[from + 1]; i++) {
        const struct map_group *group = &planner->view->groups[balancing->groups[i]];
        uint64_t hash = placement_hash(plan_key(group), to_id);
        if ((!best || hash > best_hash) && fits(planner, group, from, to)) {
            best = group;
            best_hash = hash;
        }
    }
    return best;
}

/* Bring one replica to a node that has less than its share. False if there is none. */
static bool fetch_one(struct balancing *balancing, uint32_t to)
{
    struct planner *planner = balancing->planner;
    int64_t least = plan_excess(planner, balancing->kind, to) + PLAN_ONE; /* P3 */
    memset(balancing->tried, 0, planner->view->header->node_count);
    while (has_time(balancing, planner->view->header->node_count)) {
        int32_t from = richest(balancing, to, least);
        if (from < 0 || !has_time(balancing, balancing->first[from + 1] - balancing->first[from]))
            return false;
        const struct map_group *group = choose_gift(balancing, (uint32_t)from, to);
        if (group)
            return give(planner, group, (uint32_t)from, to);
        balancing->tried[from] = true;
    }
    return false;
}

/* Take one replica from a node that has more than its share. */
static bool send_one(struct balancing *balancing, uint32_t from)
{
    struct planner *planner = balancing->planner;
    int64_t most = plan_excess(planner, balancing->kind, from) - PLAN_ONE; /* P3 */
    uint32_t first = balancing->first[from];
    uint32_t count = balancing->first[from + 1] - first;
    for (uint32_t i = 0; i < count && has_time(balancing, planner->view->header->node_count); i++) {
        uint32_t at = first + (uint32_t)((planner->view->header->version + i) % count);
        const struct map_group *group = &planner->view->groups[balancing->groups[at]];
        struct plan_company company = plan_company_of(planner, group, (int32_t)from);
        int32_t to = plan_choose_taker(planner, group, &company, &plan_terms_of_move);
        if (to < 0 || plan_excess(planner, balancing->kind, (uint32_t)to) >= most ||
            !fits(planner, group, from, (uint32_t)to))
            continue;
        return give(planner, group, from, (uint32_t)to);
    }
    return false;
}

/* Two copies in one failure domain, though there is another domain by now. */
static void spread(struct balancing *balancing, const struct map_group *group)
{
    struct planner *planner = balancing->planner;
    for (uint32_t m = 0; m < group->member_count; m++) {
        uint32_t from = plan_place(planner, group, m);
        struct plan_company company = plan_company_of(planner, group, (int32_t)from);
        bool others = false;
        for (uint32_t i = 0; i < planner->domain_count && !others; i++)
            others = !plan_shares_domain(planner, &company, (int32_t)planner->domains[i]);
        if (!others || !plan_shares_domain(planner, &company, (int32_t)from))
            continue;
        if (!has_time(balancing, planner->view->header->node_count))
            return;
        int32_t to = plan_choose_taker(planner, group, &company, &plan_terms_of_move);
        if (to >= 0 && !plan_shares_domain(planner, &company, to) &&
            fits(planner, group, from, (uint32_t)to)) {
            (void)give(planner, group, from, (uint32_t)to); /* full: in the next plan */
            return;
        }
    }
}

static void spread_all(struct balancing *balancing)
{
    const struct map_view *view = balancing->planner->view;
    uint32_t count = view->header->group_count;
    for (uint32_t i = 0; i < count && balancing->planner->domains_shared; i++)
        spread(balancing, &view->groups[(view->header->version + i) % count]);
}

static void balance_replicas(struct balancing *balancing)
{
    struct planner *planner = balancing->planner;
    uint32_t kind = balancing->kind;
    uint32_t count = planner->view->header->node_count;
    bool off = false;
    for (uint32_t i = 0; i < count; i++)
        off |= is_off(planner, kind, i);
    if (!off)
        return;
    list_groups(balancing);
    uint32_t start = (uint32_t)(planner->view->header->version % count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t to = (start + i) % count;
        const struct plan_place *place = &planner->places[to];
        while (place->taker && !plan_is_busy(place, kind, &plan_terms_of_move) &&
               place->nodes[kind].load < plan_load_least(place, kind)) {
            if (!fetch_one(balancing, to))
                break;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from = (start + i) % count;
        const struct plan_place *place = &planner->places[from];
        while (place->stays && place->nodes[kind].load > plan_load_most(place, kind)) {
            if (!send_one(balancing, from))
                break;
        }
    }
}

/* Move the lead to the in-sync member with the fewest, where that evens the load out. */
static void balance_lead(struct planner *planner, const struct map_group *group)
{
    uint32_t kind = plan_kind(group);
    uint32_t heir = plan_choose_lead(planner, group, group->primary);
    if (heir == 0)
        return;
    uint32_t now = planner->places[plan_index(planner, group->primary)].leads[kind];
    if (now >= planner->places[plan_index(planner, heir)].leads[kind] + 2)
        (void)plan_lead(planner, group, heir); /* full: in the next plan */
}

void plan_balance(struct planner *planner)
{
    const struct map_view *view = planner->view;
    struct balancing balancing = {
        .planner = planner,
        .looks_left = LOOKS_MAX,
        .first = mem_alloc((view->header->node_count + 2) * sizeof(uint32_t)),
        .groups = mem_alloc((size_t)view->header->group_count * MAP_MEMBERS_MAX * sizeof(uint32_t)),
        .tried = mem_alloc(view->header->node_count + 1),
    };
    spread_all(&balancing);
    for (; balancing.kind < PLAN_KINDS; balancing.kind++)
        balance_replicas(&balancing);
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        if (view->groups[g].primary != 0 && !planner->touched[g] && planner->leavers[g] < 0)
            balance_lead(planner, &view->groups[g]);
    }
    mem_free(balancing.first);
    mem_free(balancing.groups);
    mem_free(balancing.tried);
}
