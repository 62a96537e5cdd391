/* SPDX-License-Identifier: MIT */
#include "map/server_internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"

/* Primaries for groups that have none: on the first start and after a cold start (C4). */

/* How many groups of each kind every node leads, elections under way included. */
struct loads {
    uint32_t of[MAP_GROUP_DATA + 1][MAP_NODES_MAX + 1];
};

static struct loads *loads_new(const struct map_view *view)
{
    struct loads *loads = mem_zalloc(sizeof *loads);
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        const struct map_group *group = &view->groups[i];
        assert(group->kind <= MAP_GROUP_DATA && group->primary <= MAP_NODES_MAX);
        loads->of[group->kind][group->primary]++;
    }
    return loads;
}

static const struct map_replica_report *report_of(const struct contact *contact, uint32_t group)
{
    uint32_t low = 0;
    uint32_t high = contact->report_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (contact->reports[middle].group < group)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < contact->report_count && contact->reports[low].group == group;
    return found ? &contact->reports[low] : NULL;
}

struct candidate {
    uint32_t node; /* 0: none yet */
    uint32_t last_epoch;
    uint64_t last_seq;
    uint32_t load;
};

static bool is_better(const struct candidate *a, const struct candidate *b)
{
    if (b->node == 0 || a->last_epoch != b->last_epoch)
        return b->node == 0 || a->last_epoch > b->last_epoch;
    if (a->last_seq != b->last_seq)
        return (a->last_seq > b->last_seq) != PLANT(MAP_SHORTEST_LOG);
    return a->load < b->load;
}

struct election {
    uint32_t waited_for; /* members whose word counts */
    uint32_t heard;
    uint64_t first_ns; /* when the first of them was heard */
    struct candidate best;
};

static void hear(struct election *election, uint64_t since_ns, const struct candidate *candidate)
{
    election->heard++;
    election->first_ns = election->first_ns == 0 ? since_ns : MIN(election->first_ns, since_ns);
    if (candidate && is_better(candidate, &election->best))
        election->best = *candidate;
}

/* One member's word, if we have it. */
static void ask_member(const struct map_server *server, const struct map_group *group,
                       const struct map_member *member, uint32_t load, struct election *election)
{
    bool fresh = map_group_never_active(group);
    const struct map_node *node = map_view_node(server->view, member->node);
    const struct contact *contact = server->contacts[node->id];
    if (!fresh && member->state != MAP_MEMBER_LOST)
        return;
    election->waited_for++;
    if (!contact_is_sure(server, node))
        return;
    struct candidate candidate = {.node = node->id, .load = load};
    if (fresh) {
        hear(election, contact->sure_since_ns, &candidate);
    } else if (contact->reports_incarnation == node->incarnation) {
        const struct map_replica_report *report = report_of(contact, group->id);
        bool valid = report && report->valid == 1;
        candidate.last_epoch = valid ? report->last_epoch : 0;
        candidate.last_seq = valid ? report->last_seq : 0;
        hear(election, contact->reports_ns, valid ? &candidate : NULL);
    }
}

/* The node that can lead the group now, or 0. */
static uint32_t decide(const struct map_server *server, const struct map_group *group,
                       const struct loads *loads, uint64_t *ret_deadline_ns, bool *ret_lost)
{
    struct election election = {0};
    if (group->primary != 0 || map_group_in_sync_count(group) > 0)
        return 0;
    for (uint32_t i = 0; i < group->member_count; i++) {
        uint32_t load = loads->of[group->kind][group->members[i].node];
        ask_member(server, group, &group->members[i], load, &election);
    }
    if (election.heard < election.waited_for) {
        uint64_t due = election.first_ns + MAP_COLD_WAIT_NS;
        if (election.heard == 0)
            return 0;
        if (env_now_ns() < due) {
            *ret_deadline_ns = MIN(*ret_deadline_ns, due);
            return 0;
        }
    }
    *ret_lost |= election.best.node == 0;
    return election.best.node;
}

/* Everybody has reported and nobody has a complete copy. */
static void tell_lost(struct map_server *server)
{
    uint64_t version = server->view->header->version;
    if (server->lost_version == version)
        return;
    server->lost_version = version;
    log_error("groups-lost", "why=\"no member reports a complete copy of its group\" "
                             "effect=\"the group waits for another member to come back\"");
}

uint32_t controller_elections(struct map_server *server, struct map_command_elect *rows,
                              uint64_t *ret_deadline_ns)
{
    uint32_t count = 0;
    const struct map_view *view = server->view;
    struct loads *loads = loads_new(view);
    bool lost = false;
    for (uint32_t i = 0; i < view->header->group_count && count < MAP_COMMAND_ELECTS_MAX; i++) {
        const struct map_group *group = &view->groups[i];
        uint32_t node = decide(server, group, loads, ret_deadline_ns, &lost);
        if (node == 0)
            continue;
        loads->of[group->kind][node]++;
        rows[count++] =
            (struct map_command_elect){.group = group->id, .epoch = group->epoch, .node = node};
    }
    mem_free(loads);
    if (lost)
        tell_lost(server);
    return count;
}
