/* SPDX-License-Identifier: MIT */
#include "map/server_internal.h"

#include "base/errors.h"
#include "base/log.h"

/* Who is in the map group: chosen by the group itself, changed by joint consensus.
 *
 * Wanted are 1, 3 or 5 members, by the number of hosts that stay; in different racks where there
 * are enough. A member that is drained, removed or away for the grace is replaced by
 * another node. Looked at afresh each time, so a change survives its leader:
 *
 *     VOTERS: the map names the newcomers   -> their nodes start a map server       (node/)
 *     CONFIG: newcomers are learners        -> they get log and snapshot
 *     all of them hold nearly everything    -> CONFIG: the wanted voters (joint, then final)
 *     VOTERS: the map names who is a member
 *
 *  V1 A member that is away but may return is replaced, never just dropped: the map keeps as many
 *     copies as it had.
 *  V2 A newcomer votes only once it has caught up, so a change never costs the quorum.
 *  V3 A leader that is to go hands over first, to a member that stays. */

enum { VOTERS_WANTED_MAX = 5, LAG_ENTRIES_MAX = 16, MANY_NODES = 7 };

struct voters {
    uint32_t count;
    uint32_t ids[RAFT_VOTERS_MAX];
};

static bool has(const uint32_t *ids, uint32_t count, uint32_t id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

static uint32_t wanted_count(const struct map_view *view)
{
    uint32_t nodes = 0;
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        const struct map_node *node = &view->nodes[i];
        nodes += node->intent == MAP_NODE_KEEP && node->target == 0 &&
                 (node->state != MAP_NODE_NEW || node->voter == MAP_VOTER_FULL);
    }
    return nodes >= MANY_NODES ? VOTERS_WANTED_MAX : nodes >= 3 ? 3 : 1;
}

static bool is_overdue(const struct map_server *server, const struct map_node *node)
{
    const struct contact *contact = server->contacts[node->id];
    return node->state == MAP_NODE_DOWN && contact && contact->not_up_since_ns != 0 &&
           env_now_ns() >= contact->not_up_since_ns + MAP_REPLACE_GRACE_NS;
}

static bool shares_rack(const struct map_view *view, const struct voters *voters,
                        const struct map_node *node)
{
    for (uint32_t i = 0; i < voters->count; i++) {
        const struct map_node *other = map_view_node(view, voters->ids[i]);
        if (other && node->rack[0] != 0 && strcmp(other->rack, node->rack) == 0)
            return true;
    }
    return false;
}

/* The best node to become a member, or 0: in a rack of its own, then one that learns already. */
static uint32_t choose_new(const struct map_server *server, const struct voters *voters)
{
    const struct map_view *view = server->view;
    const struct wire_raft_config *config = raft_config(server->raft);
    uint32_t best = 0;
    uint32_t best_rank = 0;
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        const struct map_node *node = &view->nodes[i];
        if (node->intent != MAP_NODE_KEEP || !contact_is_sure(server, node) || node->target != 0 ||
            has(voters->ids, voters->count, node->id))
            continue; /* a process has one vote (ADR-0010) */
        uint32_t rank = 1 + 2u * !shares_rack(view, voters, node) +
                        has(config->learners, config->learner_count, node->id);
        if (rank > best_rank) {
            best = node->id;
            best_rank = rank;
        }
    }
    return best;
}

/* Who should be in, given who is. Empty: nobody can be. */
static void choose_all(const struct map_server *server, struct voters *ret_voters)
{
    const struct wire_raft_config *config = raft_config(server->raft);
    uint32_t wanted = wanted_count(server->view);
    struct voters away = {0};
    *ret_voters = (struct voters){0};
    for (uint32_t i = 0; i < config->voter_count; i++) {
        const struct map_node *node = map_view_node(server->view, config->voters[i]);
        if (!node || node->intent != MAP_NODE_KEEP)
            continue;
        struct voters *list = is_overdue(server, node) ? &away : ret_voters;
        list->ids[list->count++] = node->id;
    }
    while (ret_voters->count < wanted) {
        uint32_t node = choose_new(server, ret_voters);
        if (node == 0)
            break;
        ret_voters->ids[ret_voters->count++] = node;
    }
    for (uint32_t i = 0; i < away.count && ret_voters->count < wanted; i++) /* V1 */
        ret_voters->ids[ret_voters->count++] = away.ids[i];
    for (uint32_t i = ret_voters->count; i-- > 0 && ret_voters->count > wanted;) {
        if (ret_voters->ids[i] != server->options.node)
            ret_voters->ids[i] = ret_voters->ids[--ret_voters->count];
    }
    if (ret_voters->count % 2 == 0 && ret_voters->count > 0)
        ret_voters->count--; /* an even group stops as easily as the odd one below it */
}

static may_yield bool propose_voters(struct map_server *server, const struct voters *full,
                                     const struct voters *learners)
{
    struct {
        struct map_command command;
        uint32_t ids[2 * RAFT_VOTERS_MAX];
    } entry = {.command = {.type = MAP_COMMAND_VOTERS, .op = full->count}};
    entry.command.count = full->count + learners->count;
    memcpy(entry.ids, full->ids, full->count * sizeof full->ids[0]);
    memcpy(entry.ids + full->count, learners->ids, learners->count * sizeof learners->ids[0]);
    size_t bytes = sizeof entry.command + entry.command.count * sizeof entry.ids[0];
    return server_propose(server, slice_of(&entry, bytes)) == 0;
}

/* Does the map say so already? */
static bool map_says(const struct map_view *view, const struct voters *full,
                     const struct voters *learners)
{
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        const struct map_node *node = &view->nodes[i];
        uint32_t voter = has(full->ids, full->count, node->id)           ? MAP_VOTER_FULL
                         : has(learners->ids, learners->count, node->id) ? MAP_VOTER_LEARNER
                                                                         : MAP_VOTER_NONE;
        if (node->voter != voter)
            return false;
    }
    return true;
}

static bool same_ids(const uint32_t *a, uint32_t a_count, const uint32_t *b, uint32_t b_count)
{
    for (uint32_t i = 0; i < a_count; i++) {
        if (!has(b, b_count, a[i]))
            return false;
    }
    return a_count == b_count;
}

static void config_go(struct map_server *server, const struct voters *voters,
                      const struct voters *learners)
{
    struct wire_raft_config config = {.voter_count = voters->count,
                                      .learner_count = learners->count};
    memcpy(config.voters, voters->ids, voters->count * sizeof voters->ids[0]);
    memcpy(config.learners, learners->ids, learners->count * sizeof learners->ids[0]);
    struct raft_event event = {.type = RAFT_EVENT_CONFIG, .config = &config};
    server_step(server, &event);
    log_info("map-voters", "voters=%u learners=%u result=%d", voters->count, learners->count,
             server->update->result);
}

/* The last step: the newcomers have caught up. */
static void switch_over(struct map_server *server, const struct voters *wanted)
{
    const struct voters nobody = {0};
    const struct wire_raft_config *config = raft_config(server->raft);
    if (has(wanted->ids, wanted->count, server->options.node)) {
        config_go(server, wanted, &nobody);
        return;
    }
    for (uint32_t i = 0; i < wanted->count; i++) { /* V3 */
        const struct map_node *node = map_view_node(server->view, wanted->ids[i]);
        if (!has(config->voters, config->voter_count, wanted->ids[i]) ||
            !contact_is_sure(server, node))
            continue;
        struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .node = wanted->ids[i]};
        server_step(server, &event);
        log_info("map-transfer", "to=%u result=%d", wanted->ids[i], server->update->result);
        return;
    }
    config_go(server, wanted, &nobody); /* nobody who stays is a member yet */
}

static bool caught_up(const struct map_server *server, const struct voters *newcomers)
{
    uint64_t last = raft_last_index(server->raft);
    for (uint32_t i = 0; i < newcomers->count; i++) {
        if (raft_match(server->raft, newcomers->ids[i]) + LAG_ENTRIES_MAX < last ||
            raft_match(server->raft, newcomers->ids[i]) == 0)
            return false; /* V2 */
    }
    return true;
}

bool controller_voters(struct map_server *server, uint64_t *ret_deadline_ns)
{
    struct wire_raft_config config = *raft_config(server->raft);
    struct voters now = {.count = config.voter_count};
    struct voters learners = {.count = config.learner_count};
    struct voters wanted;
    struct voters newcomers = {0};
    memcpy(now.ids, config.voters, sizeof now.ids);
    memcpy(learners.ids, config.learners, sizeof learners.ids);
    if (!raft_config_settled(server->raft))
        return false; /* its commitment wakes us */
    choose_all(server, &wanted);
    if (wanted.count == 0)
        return false;
    for (uint32_t i = 0; i < wanted.count; i++) {
        if (!has(now.ids, now.count, wanted.ids[i]))
            newcomers.ids[newcomers.count++] = wanted.ids[i];
    }
    if (!map_says(server->view, &now, &newcomers))
        return propose_voters(server, &now, &newcomers);
    if (!same_ids(learners.ids, learners.count, newcomers.ids, newcomers.count))
        config_go(server, &now, &newcomers);
    else if (same_ids(now.ids, now.count, wanted.ids, wanted.count))
        return false;
    else if (caught_up(server, &newcomers))
        switch_over(server, &wanted);
    *ret_deadline_ns = MIN(*ret_deadline_ns, env_now_ns() + MAP_RAFT_BEAT_NS);
    return false;
}
