/* SPDX-License-Identifier: MIT */
#include "base/errors.h"
#include "base/mem.h"
#include "map/map_internal.h"

/* The map machine: committed commands in, new maps out.
 *
 * Problem. Every member of the map group must compute the same map from the same commands; and a
 * group of replicas must never lose an acknowledged operation, whatever sequence of deaths,
 * restarts and leader changes leads there. So everything that decides over data is here, as pure
 * functions of (map, command); the controller (controller.c) only chooses when to propose what.
 *
 * A group's life. Members are IN_SYNC (hold everything acknowledged), JOINING (catching up), or
 * LOST (were in sync when the group lost all its memory; their logs may be the newest).
 *
 *     never active          all JOINING, primary 0
 *        | ELECT: all who are up are empty, hence equal -> IN_SYNC
 *     active                primary p, p IN_SYNC, no LOST           <---------------+
 *        |                  MOVE: members come (JOINING) and, when enough others  |
 *        |                  are in sync, go; LEAD: another IN_SYNC one leads      |
 *        | last sure in-sync member dies or restarts                                |
 *     suspended             primary 0, at least one LOST                            |
 *        | RESOLVE: an IN_SYNC member proves to be alive; LOST -> JOINING ----------+
 *        | ELECT: no IN_SYNC left, the reports name the newest log -----------------+
 *
 * A node is *sure* if the leader has heard its present incarnation since it leads; the set of sure
 * nodes travels in the command (confirmed).
 *
 * Invariants.
 *  M1 An epoch grows with every change of its group, and when a joining member's process changes
 *     (what it had caught up in memory is gone).
 *  M2 A primary is IN_SYNC and its node was UP when it was chosen. LOST members exist only while
 *     primary is 0.
 *  M3 A member that is not IN_SYNC becomes so only by its primary's word (GROUP_CHANGE, on epoch),
 *     by ELECT of a LOST one with a valid log, or when the group has never been active.
 *  M4 A member leaves the in-sync set of a group only if a sure in-sync member remains, or by
 *     becoming LOST. So whoever is LOST was in sync when the group last served, and any one LOST
 *     member with a valid log holds all that was flushed.
 *  M5 A LOST member is not replaced and not forgotten, except by an election.
 *  M6 A new incarnation is in sync with nothing by memory.
 *  M7 The death of a node changes all its groups in one map version; so does the death of a
 *     process with several targets (map_node; NODE_DOWN with MAP_DOWN_PROCESS).
 *  M8 Commands name what they are about (incarnation, epoch); if that has changed since they were
 *     proposed they do nothing.
 *  M9 A move takes an IN_SYNC member out only if as many as there are to be copies stay in sync;
 *     never the primary. Which node is to hold what is not decided here: plan.c proposes.
 *  M10 A node leaves the map only when no group names it and it is no member of the map group; its
 *     id is not given again. From the moment that is intended it does not come up any more.
 *  M11 All targets of a host have the same intent.
 *
 * First start. A fresh cluster's groups are never active: an empty replica is complete then. Once
 * active, M3 needs a report of a valid log, and a disk that was wiped reports none.
 *
 * Not here: leases and timers (controller.c), agreement (raft), transport (server.c). */

bool map_ids_has(const struct map_ids *ids, uint32_t node)
{
    for (uint32_t i = 0; i < ids->count; i++) {
        if (ids->ids[i] == node)
            return true;
    }
    return false;
}

struct machine_heirs *machine_heirs_new(const struct map_draft *draft,
                                        const struct map_ids *confirmed)
{
    struct machine_heirs *heirs = mem_zalloc(sizeof *heirs);
    for (uint32_t i = 0; i < confirmed->count; i++) {
        if (confirmed->ids[i] <= MAP_NODES_MAX)
            heirs->sure[confirmed->ids[i]] = true;
    }
    for (uint32_t i = 0; i < draft->header->node_count; i++)
        heirs->sure[draft->nodes[i].id] &= draft->nodes[i].state == MAP_NODE_UP;
    for (uint32_t i = 0; i < draft->header->group_count; i++) {
        const struct map_group *group = &draft->groups[i];
        heirs->leads[group->kind][group->primary]++;
    }
    return heirs;
}

uint32_t machine_choose_primary(const struct machine_heirs *heirs, const struct map_group *group,
                                uint32_t but)
{
    uint32_t best = 0;
    uint32_t best_count = UINT32_MAX;
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct map_member *member = &group->members[i];
        uint32_t count = heirs->leads[group->kind][member->node];
        if (member->state == MAP_MEMBER_IN_SYNC && member->node != but &&
            heirs->sure[member->node] && count < best_count) {
            best = member->node;
            best_count = count;
        }
    }
    assert(best == 0 || map_group_member_state(group, best) == MAP_MEMBER_IN_SYNC);
    return best;
}

void machine_set_primary(struct machine_heirs *heirs, struct map_group *group, uint32_t primary)
{
    assert(heirs->leads[group->kind][group->primary] > 0);
    heirs->leads[group->kind][group->primary]--;
    heirs->leads[group->kind][primary]++;
    group->primary = primary;
}

/* ---- the first map ------------------------------------------------------------------------- */

static bool settings_valid(const struct map_header *settings)
{
    return settings->copies >= 1 && settings->copies <= MAP_MEMBERS_MAX &&
           settings->min_in_sync >= 1 && settings->min_in_sync <= settings->copies;
}

static bool first_nodes_valid(const struct map_node *nodes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i].id == 0 || nodes[i].id > MAP_NODES_MAX ||
            (i > 0 && nodes[i].id <= nodes[i - 1].id) || nodes[i].voter > 1 || nodes[i].host == 0 ||
            nodes[i].host > MAP_NODES_MAX)
            return false;
    }
    return count > 0;
}

static int apply_init(const struct map_command *command, struct reader *tail,
                      struct map_view **ret_view)
{
    struct map_header settings;
    struct map_node nodes[MAP_COMMAND_INIT_NODES_MAX];
    if (command->count > MAP_COMMAND_INIT_NODES_MAX || command->meta_groups == 0 ||
        command->data_groups == 0 || command->meta_groups > MAP_META_SLOTS ||
        command->data_groups > MAP_DATA_GROUPS_MAX)
        return -EINVAL;
    reader_copy(tail, &settings, sizeof settings);
    reader_copy(tail, nodes, command->count * sizeof nodes[0]);
    if (!reader_ok(tail) || !settings_valid(&settings) || !first_nodes_valid(nodes, command->count))
        return -EINVAL;

    struct map_draft draft;
    map_draft_new(&draft, command->count, command->meta_groups + command->data_groups);
    draft.header->level = settings.level;
    draft.header->cluster = settings.cluster;
    draft.header->copies = settings.copies;
    draft.header->min_in_sync = settings.min_in_sync;
    draft.header->inline_bytes_max = settings.inline_bytes_max;
    draft.header->join_secret = settings.join_secret;
    draft.header->last_node = nodes[command->count - 1].id;
    for (uint32_t i = 0; i < command->count; i++) {
        draft.nodes[i] = nodes[i];
        draft.nodes[i].state = MAP_NODE_NEW;
        draft.nodes[i].incarnation = 0;
        draft.nodes[i].intent = MAP_NODE_KEEP;
        draft.nodes[i].name[MAP_NAME_BYTES - 1] = 0;
        draft.nodes[i].rack[MAP_NAME_BYTES - 1] = 0;
    }
    machine_place_all(&draft, command->meta_groups, command->data_groups);
    *ret_view = map_draft_finish(&draft, 1);
    return 0;
}

/* ---- dispatch ------------------------------------------------------------------------------ */

/* Commands whose tail is rows. */
static int apply_rows(struct map_draft *draft, const struct map_command *command,
                      struct reader *tail)
{
    struct map_command_elect elects[MAP_COMMAND_ELECTS_MAX];
    struct map_command_move moves[MAP_COMMAND_MOVES_MAX];
    _Static_assert(MAP_COMMAND_ELECTS_MAX == MAP_COMMAND_MOVES_MAX, "one bound for both");
    if (command->count > MAP_COMMAND_MOVES_MAX)
        return -EINVAL;
    if (command->type == MAP_COMMAND_MOVE)
        reader_copy(tail, moves, command->count * sizeof moves[0]);
    else
        reader_copy(tail, elects, command->count * sizeof elects[0]);
    if (!reader_ok(tail))
        return -EINVAL;
    if (command->type == MAP_COMMAND_MOVE)
        return machine_move(draft, moves, command->count);
    if (command->type == MAP_COMMAND_LEAD)
        return machine_lead(draft, elects, command->count);
    return machine_elect(draft, elects, command->count);
}

/* Commands whose tail is node ids, or nothing. */
static int apply_ids(struct map_draft *draft, const struct map_command *command,
                     struct reader *tail)
{
    uint32_t ids[MAP_COMMAND_BYTES_MAX / sizeof(uint32_t)];
    struct map_ids list = {.ids = ids, .count = command->count};
    if (command->count > ARRAY_COUNT(ids))
        return -EINVAL;
    reader_copy(tail, ids, command->count * sizeof ids[0]);
    if (!reader_ok(tail))
        return -EINVAL;
    switch (command->type) {
    case MAP_COMMAND_NODE_UP:
        return machine_node_up(draft, command, &list);
    case MAP_COMMAND_NODE_DOWN:
        return machine_node_down(draft, command, &list);
    case MAP_COMMAND_RESOLVE:
        return machine_resolve(draft, &list);
    case MAP_COMMAND_GROUP_CHANGE:
        return machine_group_change(draft, command);
    case MAP_COMMAND_NODE_INTENT:
        return machine_node_intent(draft, command);
    case MAP_COMMAND_VOTERS:
        return machine_voters(draft, &list, command->op);
    default:
        return -EINVAL;
    }
}

static int apply_to(const struct map_view *view, const struct map_command *command,
                    struct reader *tail, struct map_draft *draft)
{
    struct map_node node;
    int result;
    switch (command->type) {
    case MAP_COMMAND_NODE_ADD:
        reader_copy(tail, &node, sizeof node);
        return reader_ok(tail) ? machine_node_add(view, &node, draft) : -EINVAL;
    case MAP_COMMAND_NODE_FORGET:
        return machine_node_forget(view, command->node, draft);
    case MAP_COMMAND_ELECT:
    case MAP_COMMAND_MOVE:
    case MAP_COMMAND_LEAD:
        map_draft_copy(draft, view);
        result = apply_rows(draft, command, tail);
        break;
    default:
        map_draft_copy(draft, view);
        result = apply_ids(draft, command, tail);
    }
    if (result < 0)
        map_draft_drop(draft);
    return result;
}

int map_apply(const struct map_view *view, struct slice bytes, struct map_view **ret_view)
{
    struct reader tail;
    struct map_command command;
    reader_init(&tail, bytes.data, bytes.bytes);
    reader_copy(&tail, &command, sizeof command);
    if (!reader_ok(&tail))
        return -EINVAL;
    if (command.type == MAP_COMMAND_INIT)
        return view ? -ERR_CAS_FAILED : apply_init(&command, &tail, ret_view);
    if (!view)
        return -ERR_CAS_FAILED;
    struct map_draft draft;
    int result = apply_to(view, &command, &tail, &draft);
    if (result < 0)
        return result;
    *ret_view = map_draft_finish(&draft, view->header->version + 1);
    return 0;
}
