/* SPDX-License-Identifier: MIT */
#include "map/plan.h"

#include "base/hash.h"
#include "base/mem.h"
#include "map/placement.h"

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
 *  P4 A node takes MOVES_PER_NODE replicas at a time, REPAIRS_PER_NODE where copies are missing;
 *     nothing is moved for balance while copies are missing that can be made.
 *  P5 Copies are on different hosts. Only while a replica moves between two targets of one host
 *     the host has two, and one of the two is the next to go.
 *
 * Minimal movement. A new node gets replicas until it has its share, but for a sixteenth, and
 * nobody else does. Which groups come is decided by rendezvous hashing: those that hash best to it.
 *
 * Limits. Loads are counted in groups of a kind, not in bytes: hashing spreads files and
 * objects evenly over groups.
 *
 * Not here: when to look (controller.c), whether a step is safe (machine_group.c). */

enum {
    MOVES_PER_NODE = 4,
    REPAIRS_PER_NODE = 16,
    BALANCE_ROWS_MAX = 64, /* of one plan: finding them takes time */
    TOLERANCE = 16,        /* the part of its share that a node may have too much or too little */
    KINDS = 2,
};
#define ONE (1 << 16) /* a replica, in shares */

struct place {
    struct placement_node nodes[KINDS]; /* as placement wants them; load is who will stay */
    int64_t share[KINDS];               /* of its kind's replicas, in ONE */
    uint64_t weight;
    uint32_t host;
    uint32_t incoming; /* replicas that are catching up there */
    uint32_t leads[KINDS];
    bool up;     /* and sure */
    bool taker;  /* may get replicas */
    bool stays;  /* shall hold replicas: has a share */
    bool absent; /* not waited for */
};

struct planner {
    const struct plan_facts *facts;
    const struct map_view *view;
    struct plan *plan;
    struct place *places; /* by index of the node */
    struct placement_node *candidates;
    bool *touched;                        /* groups, by index */
    uint64_t *host_weights;               /* of the nodes that stay, by host */
    int8_t *leavers;                      /* groups, by index: member that will go, -1: none */
    uint16_t (*members)[MAP_MEMBERS_MAX]; /* groups, by index: places of the members */
    uint32_t copies;
    bool repairing;
};

static uint32_t index_of(const struct planner *planner, uint32_t node)
{
    const struct map_node *found = map_view_node(planner->view, node);
    assert(found);
    return (uint32_t)(found - planner->view->nodes);
}

static uint32_t place_of(const struct planner *planner, const struct map_group *group, uint32_t m)
{
    assert(m < group->member_count);
    return planner->members[group - planner->view->groups][m];
}

static uint32_t kind_of(const struct map_group *group)
{
    assert(group->kind == MAP_GROUP_META || group->kind == MAP_GROUP_DATA);
    return group->kind - MAP_GROUP_META;
}

static uint64_t group_key(const struct map_group *group)
{
    return (uint64_t)group->kind << 32 | group->id;
}

static int64_t excess(const struct planner *planner, uint32_t kind, uint32_t place)
{
    const struct place *at = &planner->places[place];
    return (int64_t)at->nodes[kind].load * ONE - at->share[kind];
}

static bool list_has(const struct map_ids *list, uint32_t *cursor, uint32_t node)
{
    while (*cursor < list->count && list->ids[*cursor] < node)
        (*cursor)++;
    return *cursor < list->count && list->ids[*cursor] == node;
}

/* ---- looking -------------------------------------------------------------------------------- */

static void look_at_nodes(struct planner *planner)
{
    uint32_t sure = 0;
    uint32_t lost = 0;
    for (uint32_t i = 0; i < planner->view->header->node_count; i++) {
        const struct map_node *node = &planner->view->nodes[i];
        struct place *place = &planner->places[i];
        bool is_lost = list_has(&planner->facts->lost, &lost, node->id);
        place->up = list_has(&planner->facts->sure, &sure, node->id) && node->state == MAP_NODE_UP;
        place->taker = place->up && node->intent == MAP_NODE_KEEP;
        place->absent = node->state != MAP_NODE_UP && (is_lost || node->intent == MAP_NODE_REMOVE);
        place->stays =
            node->intent == MAP_NODE_KEEP && node->state != MAP_NODE_NEW && !place->absent;
        place->weight = MAX(node->size_bytes / GIB, 1ull);
        place->host = node->host;
        planner->host_weights[node->host] += place->stays ? place->weight : 0;
        for (uint32_t kind = 0; kind < KINDS; kind++)
            placement_node_init(&place->nodes[kind], node, place->taker ? place->weight : 0);
    }
}

/* All targets of a host that stay share what it can have. */
static void share_fix(struct planner *planner, uint32_t kind, uint32_t host, uint64_t share)
{
    for (uint32_t i = 0; i < planner->view->header->node_count; i++) {
        struct place *place = &planner->places[i];
        if (place->stays && place->host == host)
            place->share[kind] = (int64_t)(share * place->weight / planner->host_weights[host]);
    }
}

/* Give every node that stays its share by weight; no host can use more than one replica a group. */
static void share_out(struct planner *planner, uint32_t kind, uint32_t groups)
{
    uint32_t count = planner->view->header->node_count;
    uint64_t left = (uint64_t)groups * planner->copies * ONE;
    uint64_t weights = 0;
    uint64_t most = (uint64_t)groups * ONE;
    for (uint32_t i = 0; i < count; i++)
        weights += planner->places[i].stays ? planner->places[i].weight : 0;
    for (bool again = true; again && weights > 0;) {
        again = false;
        for (uint32_t i = 0; i < count; i++) {
            struct place *place = &planner->places[i];
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
        struct place *place = &planner->places[i];
        if (place->stays && place->share[kind] == 0 && weights > 0)
            place->share[kind] = (int64_t)(left * place->weight / weights);
        place->nodes[kind].load_max = (uint32_t)div_up((uint64_t)place->share[kind], ONE);
    }
}

/* How urgently a member of a group that has too many should go. */
static uint32_t leaver_rank(const struct planner *planner, const struct map_group *group,
                            uint32_t member)
{
    const struct place *place = &planner->places[place_of(planner, group, member)];
    uint32_t rank = place->stays ? 0 : 2;
    bool shares_host = false;
    for (uint32_t m = 0; m < group->member_count; m++) {
        const struct place *other = &planner->places[place_of(planner, group, m)];
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
        uint32_t place = place_of(planner, group, m);
        uint32_t rank = leaver_rank(planner, group, m);
        /* All else equal, not the primary: it would have to hand over first. */
        bool leads = group->members[m].node == group->primary;
        int64_t more = excess(planner, kind_of(group), place) - leads;
        int64_t least = best_excess + (best == 0 ? ONE : 0); /* the first was meant to go */
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
    uint32_t groups[KINDS] = {0};
    const struct map_view *view = planner->view;
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        const struct map_group *group = &view->groups[g];
        uint32_t kind = kind_of(group);
        uint32_t in_sync = map_group_in_sync_count(group);
        groups[kind]++;
        for (uint32_t m = 0; m < group->member_count; m++) {
            planner->members[g][m] = (uint16_t)index_of(planner, group->members[m].node);
            struct place *place = &planner->places[place_of(planner, group, m)];
            place->nodes[kind].load++;
            bool comes = group->members[m].state == MAP_MEMBER_JOINING && place->up;
            place->incoming += comes && group->primary != 0;
            planner->repairing |= comes && in_sync < planner->copies;
        }
        if (group->primary != 0)
            planner->places[index_of(planner, group->primary)].leads[kind]++;
    }
    for (uint32_t kind = 0; kind < KINDS; kind++)
        share_out(planner, kind, groups[kind]);
    /* Who will go is not counted where it still is. */
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        const struct map_group *group = &view->groups[g];
        bool complete = map_group_in_sync_count(group) > planner->copies;
        planner->leavers[g] = -1;
        if (group->member_count <= planner->copies || group->primary == 0)
            continue;
        int32_t leaver = choose_leaver(planner, group, !complete);
        planner->leavers[g] = (int8_t)leaver;
        if (leaver >= 0)
            planner->places[place_of(planner, group, (uint32_t)leaver)]
                .nodes[kind_of(group)]
                .load--;
    }
}

/* ---- writing down --------------------------------------------------------------------------- */

static bool move_add(struct planner *planner, const struct map_group *group, uint32_t add,
                     uint32_t drop)
{
    struct plan *plan = planner->plan;
    uint32_t g = (uint32_t)(group - planner->view->groups);
    if (planner->touched[g] || plan->move_count == MAP_COMMAND_MOVES_MAX)
        return false;
    planner->touched[g] = true; /* P1 */
    plan->moves[plan->move_count++] = (struct map_command_move){
        .group = group->id, .epoch = group->epoch, .add = add, .drop = drop};
    if (add != 0) {
        struct place *place = &planner->places[index_of(planner, add)];
        place->incoming++;
        place->nodes[kind_of(group)].load++;
    }
    return true;
}

static bool lead_add(struct planner *planner, const struct map_group *group, uint32_t node)
{
    struct plan *plan = planner->plan;
    uint32_t g = (uint32_t)(group - planner->view->groups);
    if (planner->touched[g] || plan->lead_count == MAP_COMMAND_ELECTS_MAX)
        return false;
    planner->touched[g] = true; /* P1 */
    plan->leads[plan->lead_count++] =
        (struct map_command_elect){.group = group->id, .epoch = group->epoch, .node = node};
    planner->places[index_of(planner, group->primary)].leads[kind_of(group)]--;
    planner->places[index_of(planner, node)].leads[kind_of(group)]++;
    return true;
}

/* ---- copies that are missing, or on nodes that go -------------------------------------------- */

/* Places of the members that stay, but for one. */
struct company {
    uint32_t places[MAP_MEMBERS_MAX];
    uint32_t count;
};

static struct company company_of(const struct planner *planner, const struct map_group *group,
                                 int32_t but)
{
    struct company company = {.count = 0};
    for (uint32_t m = 0; m < group->member_count; m++) {
        uint32_t place = place_of(planner, group, m);
        if (planner->places[place].stays && (int32_t)place != but)
            company.places[company.count++] = place;
    }
    return company;
}

static bool shares_host(const struct planner *planner, const struct company *company, uint32_t at)
{
    for (uint32_t i = 0; i < company->count; i++) {
        if (planner->places[company->places[i]].host == planner->places[at].host)
            return true;
    }
    return false;
}

static bool shares_domain(const struct planner *planner, const struct company *company, int32_t at)
{
    for (uint32_t i = 0; i < company->count && at >= 0; i++) {
        if (placement_same_domain(&planner->places[company->places[i]].nodes[0],
                                  &planner->places[at].nodes[0]))
            return true;
    }
    return false;
}

/* What a node may have before it gives some away, and has to have before it wants none: else every
 * node that comes or goes, and moves all shares across a whole number, would have all nodes move
 * something. */
static uint32_t load_most(const struct place *place, uint32_t kind)
{
    int64_t share = place->share[kind];
    return MAX(place->nodes[kind].load_max, (uint32_t)((share + share / TOLERANCE) / ONE));
}

static uint32_t load_least(const struct place *place, uint32_t kind)
{
    int64_t slack = place->share[kind] / TOLERANCE;
    return (uint32_t)((place->share[kind] - (slack >= ONE ? slack : 0)) / ONE);
}

/* The best of the candidates, or -1: none, or the good ones are busy. */
static int32_t choose_idle(struct planner *planner, const struct map_group *group,
                           const struct company *company, uint32_t per_node)
{
    uint32_t count = planner->view->header->node_count;
    uint64_t key = group_key(group);
    struct placement_node *nodes = planner->candidates;
    int32_t best = placement_choose(nodes, count, key, company->places, company->count);
    if (best < 0 || planner->places[best].incoming < per_node)
        return best;
    bool shares = shares_domain(planner, company, best);
    bool full = nodes[best].load >= nodes[best].load_max;
    for (uint32_t i = 0; i < count; i++) {
        if (planner->places[i].incoming >= per_node) /* P4 */
            nodes[i].weight = 0;
    }
    best = placement_choose(nodes, count, key, company->places, company->count);
    bool worse = best >= 0 && ((shares_domain(planner, company, best) && !shares) ||
                               (nodes[best].load >= nodes[best].load_max && !full));
    return worse ? -1 : best;
}

/* Where copies are missing everybody helps who would not have to give some away afterwards: who has
 * less than its share may be few. */
enum room { ROOM_IN_SHARE, ROOM_IN_TOLERANCE };

/* The best node for one more member beside these, or -1: none, or the good ones are busy.
 * per_node: how many it may be taking in then. */
static int32_t choose_taker(struct planner *planner, const struct map_group *group,
                            const struct company *company, uint32_t per_node, enum room room)
{
    uint32_t kind = kind_of(group);
    for (uint32_t i = 0; i < planner->view->header->node_count; i++) {
        planner->candidates[i] = planner->places[i].nodes[kind];
        if (room == ROOM_IN_TOLERANCE)
            planner->candidates[i].load_max = load_most(&planner->places[i], kind);
    }
    for (uint32_t m = 0; m < group->member_count; m++)
        planner->candidates[place_of(planner, group, m)].weight = 0;
    return choose_idle(planner, group, company, per_node);
}

/* What a group lacks. */
static void complete(struct planner *planner, const struct map_group *group, uint32_t in_sync)
{
    uint32_t staying = 0;
    uint32_t dead = 0;
    for (uint32_t m = 0; m < group->member_count; m++) {
        const struct place *place = &planner->places[place_of(planner, group, m)];
        bool first_of_host = true;
        for (uint32_t o = 0; o < m; o++) {
            uint32_t other = place_of(planner, group, o);
            first_of_host &=
                !planner->places[other].stays || planner->places[other].host != place->host;
        }
        staying += place->stays && first_of_host; /* P5 */
        if (place->absent && group->members[m].state == MAP_MEMBER_JOINING)
            dead = group->members[m].node;
    }
    if (staying >= planner->copies) {
        if (dead != 0)
            (void)move_add(planner, group, 0, dead); /* full: in the next plan */
        return;
    }
    bool room = dead != 0 || group->member_count < MAP_MEMBERS_MAX;
    bool repair = in_sync < planner->copies;
    uint32_t per_node = repair ? REPAIRS_PER_NODE : MOVES_PER_NODE;
    struct company company = company_of(planner, group, -1);
    int32_t taker = -1;
    /* Who takes in less than others first: each has one device to write to. */
    for (uint32_t most = 1; room && taker < 0 && most <= per_node; most *= 2)
        taker = choose_taker(planner, group, &company, most,
                             repair ? ROOM_IN_TOLERANCE : ROOM_IN_SHARE);
    if (taker >= 0)
        (void)move_add(planner, group, planner->view->nodes[taker].id, dead);
}

/* Another member to lead, with the fewest groups to lead; 0: none can. */
static uint32_t choose_lead(const struct planner *planner, const struct map_group *group,
                            uint32_t but)
{
    uint32_t best = 0;
    uint32_t fewest = UINT32_MAX;
    int32_t leaver = planner->leavers[group - planner->view->groups];
    for (uint32_t m = 0; m < group->member_count; m++) {
        const struct map_member *member = &group->members[m];
        const struct place *place = &planner->places[place_of(planner, group, m)];
        if (member->state == MAP_MEMBER_IN_SYNC && place->taker && member->node != but &&
            (int32_t)m != leaver && place->leads[kind_of(group)] < fewest) {
            best = member->node;
            fewest = place->leads[kind_of(group)];
        }
    }
    return best;
}

/* ---- copies that are too many ---------------------------------------------------------------- */

static void thin_out(struct planner *planner, const struct map_group *group, uint32_t in_sync)
{
    const struct place *primary = &planner->places[index_of(planner, group->primary)];
    if (!primary->stays) { /* a node that is being drained hands over at once */
        uint32_t heir = choose_lead(planner, group, group->primary);
        if (heir != 0 && lead_add(planner, group, heir))
            return;
    }
    if (in_sync <= planner->copies)
        return;
    int32_t leaver = planner->leavers[group - planner->view->groups];
    assert(leaver >= 0 && leaver < (int32_t)group->member_count);
    uint32_t node = group->members[leaver].node;
    if (node == group->primary) {
        uint32_t heir = choose_lead(planner, group, node);
        if (heir != 0)
            (void)lead_add(planner, group, heir); /* full: in the next plan */
        return;
    }
    if (!primary->up)
        return; /* who would hold everything then is not sure to be alive */
    if (group->members[leaver].state == MAP_MEMBER_IN_SYNC &&
        !planner->facts->may_drop(planner->facts->context, group->id, node))
        planner->plan->waits = true;
    else
        (void)move_add(planner, group, 0, node); /* full: in the next plan */
}

/* ---- balance --------------------------------------------------------------------------------- */

/* May the group give the replica on `from` to `to`? */
static bool fits(const struct planner *planner, const struct map_group *group, uint32_t from,
                 uint32_t to)
{
    if (group->member_count != planner->copies || planner->touched[group - planner->view->groups])
        return false;
    for (uint32_t m = 0; m < group->member_count; m++) {
        uint32_t place = place_of(planner, group, m);
        if (place == to || group->members[m].state != MAP_MEMBER_IN_SYNC)
            return false;
    }
    struct company company = company_of(planner, group, (int32_t)from);
    if (shares_host(planner, &company, to))
        return false; /* P5 */
    return group->primary != 0 && (shares_domain(planner, &company, (int32_t)from) ||
                                   !shares_domain(planner, &company, (int32_t)to));
}

static void give(struct planner *planner, const struct map_group *group, uint32_t from, uint32_t to)
{
    const struct map_node *nodes = planner->view->nodes;
    if (move_add(planner, group, nodes[to].id, nodes[from].id))
        planner->places[from].nodes[kind_of(group)].load--;
}

/* Bring one replica to a node that has less than its share: from whoever has most above its own;
 * of those the group that hashes best. False if there is none. */
static bool fetch_one(struct planner *planner, uint32_t kind, uint32_t to)
{
    const struct map_group *best = NULL;
    uint32_t best_from = 0;
    int64_t best_excess = excess(planner, kind, to) + ONE; /* P3 */
    uint64_t best_hash = 0;
    const struct map_view *view = planner->view;
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        const struct map_group *group = &view->groups[g];
        for (uint32_t m = 0; m < group->member_count && kind_of(group) == kind; m++) {
            uint32_t from = place_of(planner, group, m);
            int64_t more = excess(planner, kind, from);
            if (more < best_excess || (best == NULL && more == best_excess))
                continue;
            uint64_t hash = placement_hash(group_key(group), view->nodes[to].id);
            if (best && more == best_excess && hash <= best_hash)
                continue;
            if (!fits(planner, group, from, to))
                continue;
            best = group;
            best_from = from;
            best_excess = more;
            best_hash = hash;
        }
    }
    if (best)
        give(planner, best, best_from, to);
    return best != NULL;
}

/* Take one replica from a node that has more than its share. */
static bool send_one(struct planner *planner, uint32_t kind, uint32_t from)
{
    const struct map_view *view = planner->view;
    int64_t most = excess(planner, kind, from) - ONE; /* P3 */
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        const struct map_group *group = &view->groups[g];
        if (kind_of(group) != kind || map_group_member_state(group, view->nodes[from].id) == 0)
            continue;
        struct company company = company_of(planner, group, (int32_t)from);
        int32_t to = choose_taker(planner, group, &company, MOVES_PER_NODE, ROOM_IN_SHARE);
        if (to < 0 || excess(planner, kind, (uint32_t)to) >= most ||
            !fits(planner, group, from, (uint32_t)to))
            continue;
        give(planner, group, from, (uint32_t)to);
        return true;
    }
    return false;
}

/* Two copies in one failure domain, though there is another domain by now. */
static void spread(struct planner *planner, const struct map_group *group)
{
    for (uint32_t m = 0; m < group->member_count; m++) {
        uint32_t from = place_of(planner, group, m);
        struct company company = company_of(planner, group, (int32_t)from);
        if (!shares_domain(planner, &company, (int32_t)from))
            continue;
        int32_t to = choose_taker(planner, group, &company, MOVES_PER_NODE, ROOM_IN_SHARE);
        if (to >= 0 && !shares_domain(planner, &company, to) &&
            fits(planner, group, from, (uint32_t)to)) {
            give(planner, group, from, (uint32_t)to);
            return;
        }
    }
}

static void balance_replicas(struct planner *planner, uint32_t kind)
{
    uint32_t count = planner->view->header->node_count;
    for (uint32_t i = 0; i < count; i++) {
        struct place *place = &planner->places[i];
        while (place->taker && place->incoming < MOVES_PER_NODE &&
               place->nodes[kind].load < load_least(place, kind) &&
               planner->plan->move_count < BALANCE_ROWS_MAX) {
            if (!fetch_one(planner, kind, i))
                break;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        while (planner->places[i].stays &&
               planner->places[i].nodes[kind].load > load_most(&planner->places[i], kind) &&
               planner->plan->move_count < BALANCE_ROWS_MAX) {
            if (!send_one(planner, kind, i))
                break;
        }
    }
}

/* Move the lead to the in-sync member with the fewest, where that evens the load out. */
static void balance_lead(struct planner *planner, const struct map_group *group)
{
    uint32_t kind = kind_of(group);
    uint32_t heir = choose_lead(planner, group, group->primary);
    if (heir == 0)
        return;
    uint32_t now = planner->places[index_of(planner, group->primary)].leads[kind];
    if (now >= planner->places[index_of(planner, heir)].leads[kind] + 2)
        (void)lead_add(planner, group, heir); /* full: in the next plan */
}

/* ---- the plan -------------------------------------------------------------------------------- */

static void plan_groups(struct planner *planner)
{
    const struct map_view *view = planner->view;
    for (uint32_t in_sync = 1; in_sync <= MAP_MEMBERS_MAX; in_sync++) { /* P2 */
        for (uint32_t g = 0; g < view->header->group_count; g++) {
            const struct map_group *group = &view->groups[g];
            if (group->primary == 0 || map_group_in_sync_count(group) != in_sync)
                continue;
            thin_out(planner, group, in_sync);
            if (!planner->touched[g])
                complete(planner, group, in_sync);
        }
    }
    if (!planner->facts->balance || planner->repairing || planner->plan->move_count > 0)
        return; /* P4 */
    for (uint32_t g = 0; g < view->header->group_count; g++)
        spread(planner, &view->groups[g]);
    for (uint32_t kind = 0; kind < KINDS; kind++)
        balance_replicas(planner, kind);
    for (uint32_t g = 0; g < view->header->group_count; g++) {
        if (view->groups[g].primary != 0 && !planner->touched[g] && planner->leavers[g] < 0)
            balance_lead(planner, &view->groups[g]);
    }
}

void plan_make(const struct plan_facts *facts, struct plan *ret_plan)
{
    uint32_t nodes = facts->view->header->node_count;
    struct planner planner = {
        .facts = facts,
        .view = facts->view,
        .plan = ret_plan,
        .places = mem_zalloc((nodes + 1) * sizeof(struct place)),
        .candidates = mem_zalloc((nodes + 1) * sizeof(struct placement_node)),
        .touched = mem_zalloc(facts->view->header->group_count + 1),
        .leavers = mem_zalloc(facts->view->header->group_count + 1),
        .members =
            mem_zalloc((facts->view->header->group_count + 1) * sizeof(uint16_t[MAP_MEMBERS_MAX])),
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
    mem_free(planner.leavers);
    mem_free(planner.members);
    mem_free(planner.host_weights);
}
