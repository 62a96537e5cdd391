/* SPDX-License-Identifier: MIT */
#ifndef CFS_MAP_PLAN_H
#define CFS_MAP_PLAN_H

/* What the leader should propose next so that every group has its copies, on the right nodes. A
 * pure function of the map and of what the leader knows. Theory: plan.c. */

#include "map/map_internal.h"

/* What the leader knows beyond the map. */
struct plan_facts {
    const struct map_view *view;
    struct map_ids sure; /* up, and heard by this leader; ascending */
    struct map_ids lost; /* away for so long that nobody waits for them; ascending */
    /* May the in-sync member be dropped now, or could it still believe to be primary? */
    bool (*may_drop)(void *context, uint32_t group, uint32_t node);
    void *context;
    bool balance; /* also even out */
};

struct plan {
    bool waits; /* for may_drop: look again soon */
    uint32_t move_count;
    uint32_t lead_count;
    struct map_command_move moves[MAP_COMMAND_MOVES_MAX];
    struct map_command_elect leads[MAP_COMMAND_ELECTS_MAX];
};

/* At most one change of a group, the most urgent first. Nothing to do: both counts are 0. */
void plan_make(const struct plan_facts *facts, struct plan *ret_plan);

#endif
