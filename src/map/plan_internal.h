/* SPDX-License-Identifier: MIT */
#ifndef CFS_MAP_PLAN_INTERNAL_H
#define CFS_MAP_PLAN_INTERNAL_H

/* A plan being made. Theory and invariants: plan.c. */

#include "map/placement.h"
#include "map/plan.h"

enum {
    PLAN_MOVES_PER_NODE = 4,
    PLAN_REPAIRS_PER_NODE = 16,
    PLAN_KINDS = 2, /* metadata, data */
};
#define PLAN_ONE (1 << 16) /* a replica, in shares */

struct plan_place {
    struct placement_node nodes[PLAN_KINDS]; /* as placement wants them; load is who will stay */
    int64_t share[PLAN_KINDS];               /* of its kind's replicas, in PLAN_ONE */
    uint64_t weight;
    uint32_t host;
    uint32_t incoming[PLAN_KINDS]; /* replicas that are catching up there */
    uint32_t outgoing[PLAN_KINDS]; /* replicas that catch up from it: it leads their groups */
    uint32_t leads[PLAN_KINDS];
    bool up;     /* and sure */
    bool taker;  /* may get replicas */
    bool stays;  /* shall hold replicas: has a share */
    bool absent; /* not waited for */
};

struct planner {
    const struct plan_facts *facts;
    const struct map_view *view;
    struct plan *plan;
    struct plan_place *places; /* by index of the node */
    struct placement_node *candidates;
    bool *touched;                        /* groups, by index */
    uint64_t *host_weights;               /* of the nodes that stay, by host */
    uint16_t *indexes;                    /* of nodes, by id */
    uint8_t *in_sync;                     /* groups, by index: members in sync */
    int8_t *leavers;                      /* groups, by index: member that will go, -1: none */
    uint16_t (*members)[MAP_MEMBERS_MAX]; /* groups, by index: places of the members */
    uint32_t copies;
    bool repairing;                        /* copies that were missing are being made */
    bool domains_shared;                   /* nodes may have a failure domain in common */
    uint32_t domains[MAP_MEMBERS_MAX + 1]; /* one taker of each, of so many at most */
    uint32_t domain_count;
};

/* Places of the members that stay, but for one. */
struct plan_company {
    uint32_t places[MAP_MEMBERS_MAX];
    uint32_t count;
};

/* On what terms a node takes one more replica. */
struct plan_terms {
    uint32_t incoming_most; /* with it, of both kinds */
    uint32_t same_most;     /* with it, of its kind */
    /* Where copies are missing everybody helps who would not have to give some away afterwards:
     * who has less than its share may be few. */
    bool beyond_share;
};

/* ---- names of things ------------------------------------------------------------------------ */

static inline uint32_t plan_index(const struct planner *planner, uint32_t node)
{
    uint32_t index = planner->indexes[node];
    assert(planner->view->nodes[index].id == node);
    return index;
}

static inline uint32_t plan_place(const struct planner *planner, const struct map_group *group,
                                  uint32_t m)
{
    assert(m < group->member_count);
    return planner->members[group - planner->view->groups][m];
}

static inline uint32_t plan_kind(const struct map_group *group)
{
    assert(group->kind == MAP_GROUP_META || group->kind == MAP_GROUP_DATA);
    return group->kind - MAP_GROUP_META;
}

static inline uint64_t plan_key(const struct map_group *group)
{
    return (uint64_t)group->kind << 32 | group->id;
}

/* What the place has above its share, in PLAN_ONE. */
static inline int64_t plan_excess(const struct planner *planner, uint32_t kind, uint32_t place)
{
    const struct plan_place *at = &planner->places[place];
    return (int64_t)at->nodes[kind].load * PLAN_ONE - at->share[kind];
}

/* ---- plan_step.c: one group ----------------------------------------------------------------- */

/* Write down a change, unless the group has one already (P1) or the plan is full: false. */
bool plan_move(struct planner *planner, const struct map_group *group, uint32_t add, uint32_t drop);
bool plan_lead(struct planner *planner, const struct map_group *group, uint32_t node);
/* As plan_lead, instead of the change that the group has: the caller takes that one back. */
bool plan_lead_instead(struct planner *planner, const struct map_group *group, uint32_t node);

struct plan_company plan_company_of(const struct planner *planner, const struct map_group *group,
                                    int32_t but);
bool plan_shares_host(const struct planner *planner, const struct plan_company *company,
                      uint32_t at);
bool plan_shares_domain(const struct planner *planner, const struct plan_company *company,
                        int32_t at);
/* What a node may have before it gives some away, and has to have before it wants none: else every
 * node that comes or goes, and moves all shares across a whole number, would have all nodes move
 * something. */
uint32_t plan_load_most(const struct plan_place *place, uint32_t kind);
uint32_t plan_load_least(const struct plan_place *place, uint32_t kind);
bool plan_is_busy(const struct plan_place *place, uint32_t kind, const struct plan_terms *terms);
extern const struct plan_terms plan_terms_of_move;
/* The best node for one more member beside these, or -1: none, or the good ones are busy. */
int32_t plan_choose_taker(struct planner *planner, const struct map_group *group,
                          const struct plan_company *company, const struct plan_terms *terms);
/* Another member to lead, with the fewest groups to lead; 0: none can. */
uint32_t plan_choose_lead(const struct planner *planner, const struct map_group *group,
                          uint32_t but);
/* What a group lacks; what it has too many of. */
void plan_complete(struct planner *planner, const struct map_group *group, uint32_t in_sync);
void plan_thin_out(struct planner *planner, const struct map_group *group, uint32_t in_sync);

/* ---- others --------------------------------------------------------------------------------- */

/* Who copies (P6); plan_source.c. */
void plan_even_sources(struct planner *planner);
/* Even out, where nothing is missing; plan_balance.c. */
void plan_balance(struct planner *planner);

#endif
