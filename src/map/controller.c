/* SPDX-License-Identifier: MIT */
#include "map/server_internal.h"

#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"
#include "map/plan.h"

/* The leader's decisions: what to propose, and when.
 *
 * One fiber; while we lead and are ready it looks at the map and at the contacts, proposes the
 * first thing that needs doing, waits until it is applied, and looks again; then it sleeps until
 * something happens or the next deadline. What a command does is up to the machine (machine.c),
 * which checks everything again; wrong timing here costs availability, with two exceptions:
 *
 *  C1 A node is declared dead for its silence only LEASE + MARGIN after its last beat arrived and
 *     after our election (S4): its lease has run out on its own clock by then.
 *  C2 Without that wait only on proof: its port refused a connection.
 *     The targets of one process are each proven dead, and then declared dead together.
 *  C3 Once condemned, an incarnation gets no lease any more, even before the command is applied.
 *  C4 After a cold start a group waits until all its last in-sync members have reported, or
 *     MAP_COLD_WAIT after the first did, and takes the newest valid log.
 *  C5 A member that may still believe to be primary (it lost the role while alive) is dropped only
 *     once its beats show a map that says otherwise, or its lease has run out: else it could serve
 *     stale reads while the new primary commits without it.
 *  C6 Who hears no more than half of the nodes is more likely cut off than they are dead: it first
 *     hands over to another voter that it hears, and takes nobody's silence for death meanwhile. If
 *     the lead comes back to it soon, it is believed: they are dead then. */

void controller_poke(struct map_server *server)
{
    server->controller_news = true;
    waitq_wake_all(&server->controller_wake);
}

/* ---- commands ------------------------------------------------------------------------------- */

struct draft_command {
    struct map_command command;
    struct writer writer;
    uint8_t bytes[MAP_COMMAND_BYTES_MAX];
};

static struct draft_command *command_new(enum map_command_type type)
{
    struct draft_command *draft = mem_alloc(sizeof *draft);
    draft->command = (struct map_command){.type = type};
    writer_init(&draft->writer, draft->bytes, sizeof draft->bytes);
    (void)writer_reserve(&draft->writer, sizeof draft->command);
    return draft;
}

static struct slice command_bytes(struct draft_command *draft)
{
    assert(writer_ok(&draft->writer));
    memcpy(draft->bytes, &draft->command, sizeof draft->command);
    return slice_of(draft->bytes, writer_bytes(&draft->writer));
}

static void add_sure_ids(const struct map_server *server, struct draft_command *draft)
{
    uint32_t ids[MAP_NODES_MAX];
    uint32_t count = contact_sure_ids(server, ids);
    writer_put(&draft->writer, ids, count * sizeof ids[0]);
    draft->command.count = count;
}

/* Propose and free. True if the map has changed. */
static bool command_go(struct map_server *server, struct draft_command *draft)
{
    int result = server_propose(server, command_bytes(draft));
    if (result == -EINVAL)
        log_error("map-command", "type=%u why=\"refused as malformed\"", draft->command.type);
    mem_free(draft);
    return result == 0;
}

/* ---- first map ------------------------------------------------------------------------------ */

static bool act_init(struct map_server *server)
{
    struct draft_command *draft = command_new(MAP_COMMAND_INIT);
    draft->command.count = server->options.node_count;
    draft->command.meta_groups = server->options.meta_groups;
    draft->command.data_groups = server->options.data_groups;
    writer_put(&draft->writer, &server->settings, sizeof server->settings);
    writer_put(&draft->writer, server->nodes, server->options.node_count * sizeof server->nodes[0]);
    log_info("map-init", "nodes=%u meta_groups=%u data_groups=%u", server->options.node_count,
             server->options.meta_groups, server->options.data_groups);
    return command_go(server, draft);
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static bool act_node_up(struct map_server *server, const struct map_node *node)
{
    struct contact *contact = contact_of(server, node->id);
    uint64_t incarnation = contact->pending_incarnation;
    contact->pending_incarnation = 0;
    if (incarnation == 0 || incarnation == node->incarnation)
        return false;
    struct draft_command *draft = command_new(MAP_COMMAND_NODE_UP);
    draft->command.node = node->id;
    draft->command.incarnation = incarnation;
    draft->command.size_bytes = contact->pending_size_bytes;
    add_sure_ids(server, draft);
    log_info("node-up", "node=%u incarnation=%lx", node->id, incarnation);
    server->balance_ns = env_now_ns() + MAP_BALANCE_WAIT_NS;
    return command_go(server, draft);
}

uint64_t controller_expiry_ns(const struct map_server *server, const struct map_node *node)
{
    const struct contact *contact = server->contacts[node->id];
    uint64_t heard = server->elected_ns;
    if (contact && contact->incarnation == node->incarnation)
        heard = MAX(heard, contact->beat_ns);
    if (PLANT(MAP_EXPIRY_EARLY))
        return heard + MAP_LEASE_NS / 2;
    return heard + MAP_LEASE_NS + MAP_LEASE_MARGIN_NS;
}

/* May the node be declared dead now (C1, C2)? Else *ret_deadline_ns is lowered to when it may. */
static bool may_condemn(struct map_server *server, const struct map_node *node,
                        uint64_t *ret_deadline_ns)
{
    uint64_t expiry = controller_expiry_ns(server, node);
    bool gone = contact_of(server, node->id)->gone_incarnation == node->incarnation;
    if (!gone && env_now_ns() < expiry) {
        *ret_deadline_ns = MIN(*ret_deadline_ns, expiry);
        return false;
    }
    return true;
}

/* ---- C6 ---- */

static bool heard_lately(const struct map_server *server, const struct map_node *node)
{
    const struct contact *contact = server->contacts[node->id];
    return node->id == server->options.node ||
           (contact && contact->incarnation == node->incarnation &&
            contact->beat_ns + MAP_HEARD_NS > env_now_ns());
}

static bool hears_most(const struct map_server *server)
{
    uint32_t up = 0, heard = 0;
    for (uint32_t i = 0; i < server->view->header->node_count; i++) {
        const struct map_node *node = &server->view->nodes[i];
        up += node->state == MAP_NODE_UP;
        heard += node->state == MAP_NODE_UP && heard_lately(server, node);
    }
    return 2 * heard > up;
}

static void hand_over(struct map_server *server)
{
    for (uint32_t i = 0; i < server->view->header->node_count; i++) {
        const struct map_node *node = &server->view->nodes[i];
        if (node->voter != MAP_VOTER_FULL || node->id == server->options.node ||
            node->state != MAP_NODE_UP || !heard_lately(server, node))
            continue;
        struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .node = node->id};
        server->doubted_ns = env_now_ns();
        server_step(server, &event);
        log_warn("map-doubt",
                 "to=%u result=%d why=\"hears no more than half of the nodes\" "
                 "effect=\"lets another one lead, who may hear them\"",
                 node->id, server->update->result);
        return;
    }
}

/* Shall silence be put down to ourselves? Then *ret_deadline_ns is lowered to when no longer. */
static bool doubts_itself(struct map_server *server, uint64_t *ret_deadline_ns)
{
    if (hears_most(server))
        return false;
    uint64_t now_ns = env_now_ns();
    if (server->doubted_ns == 0 || now_ns >= server->doubted_ns + MAP_DOUBT_PAUSE_NS)
        hand_over(server);
    uint64_t end_ns = server->doubted_ns + MAP_ELECTION_MAX_NS;
    if (server->doubted_ns == 0 || now_ns >= end_ns)
        return false; /* nobody else can lead: they are dead, as far as we can know */
    *ret_deadline_ns = MIN(*ret_deadline_ns, end_ns);
    return true;
}

/* The other targets of its process: *ret_verifying if an address of theirs is being tried (the end
 * of it wakes us), *ret_all if all of them may be declared dead as well. */
static void look_at_process(struct map_server *server, const struct map_node *node,
                            bool *ret_verifying, bool *ret_all)
{
    uint64_t unused_ns = UINT64_MAX;
    bool verifying = false;
    bool all = true;
    for (uint32_t i = 0; i < server->view->header->node_count; i++) {
        const struct map_node *other = &server->view->nodes[i];
        if (other == node || !machine_dies_with(node, other))
            continue;
        bool dead = may_condemn(server, other, &unused_ns);
        verifying |= !dead && contact_of(server, other->id)->verifying;
        all &= dead;
    }
    *ret_verifying = verifying;
    *ret_all = all;
}

static bool act_node_down(struct map_server *server, const struct map_node *node,
                          uint64_t *ret_deadline_ns)
{
    bool verifying;
    bool whole;
    if (node->state != MAP_NODE_UP || !may_condemn(server, node, ret_deadline_ns))
        return false;
    look_at_process(server, node, &verifying, &whole);
    if (verifying)
        return false; /* a moment, and all of it goes in one command (M7) */
    bool gone = contact_of(server, node->id)->gone_incarnation == node->incarnation;
    if (!gone && doubts_itself(server, ret_deadline_ns))
        return false;
    struct draft_command *draft = command_new(MAP_COMMAND_NODE_DOWN);
    draft->command.node = node->id;
    draft->command.incarnation = node->incarnation;
    draft->command.op = whole ? MAP_DOWN_PROCESS : MAP_DOWN_TARGET;
    for (uint32_t i = 0; i < server->view->header->node_count; i++) {
        const struct map_node *other = &server->view->nodes[i];
        if (other == node || (whole && machine_dies_with(node, other)))
            contact_of(server, other->id)->condemned = other->incarnation; /* C3 */
    }
    add_sure_ids(server, draft);
    server->balance_ns = env_now_ns() + MAP_BALANCE_WAIT_NS;
    log_info("node-down", "node=%u host=%u why=\"%s\" scope=%s", node->id, node->host,
             gone ? "proven dead" : "silent", whole ? "process" : "target");
    return command_go(server, draft);
}

static bool act_nodes(struct map_server *server, uint64_t *ret_deadline_ns)
{
    /* Proposing yields and replaces the view: only ids are kept across it. */
    for (uint32_t i = 0; i < server->view->header->node_count; i++) {
        if (act_node_up(server, &server->view->nodes[i]))
            return true;
    }
    for (uint32_t i = 0; i < server->view->header->node_count; i++) {
        if (act_node_down(server, &server->view->nodes[i], ret_deadline_ns))
            return true;
    }
    return false;
}

/* Nobody needs the entry of a removed node any more (M10). */
static bool act_forget(struct map_server *server)
{
    const struct map_view *view = server->view;
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        const struct map_node *node = &view->nodes[i];
        if (node->intent != MAP_NODE_REMOVE || node->voter != MAP_VOTER_NONE ||
            machine_is_named(view, node->id))
            continue;
        struct draft_command *draft = command_new(MAP_COMMAND_NODE_FORGET);
        draft->command.node = node->id;
        log_info("node-forget", "node=%u", node->id);
        return command_go(server, draft);
    }
    return false;
}

/* ---- groups --------------------------------------------------------------------------------- */

/* Waits although a member that is in sync is there? */
static bool is_resolvable(const struct map_server *server, const struct map_group *group)
{
    if (group->primary != 0)
        return false;
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct map_node *node = map_view_node(server->view, group->members[i].node);
        if (group->members[i].state == MAP_MEMBER_IN_SYNC && contact_is_sure(server, node))
            return true;
    }
    return false;
}

static bool act_resolve(struct map_server *server)
{
    bool any = false;
    for (uint32_t i = 0; i < server->view->header->group_count && !any; i++)
        any = is_resolvable(server, &server->view->groups[i]);
    if (!any)
        return false;
    struct draft_command *draft = command_new(MAP_COMMAND_RESOLVE);
    add_sure_ids(server, draft);
    return command_go(server, draft);
}

static bool act_elect(struct map_server *server, uint64_t *ret_deadline_ns)
{
    struct map_command_elect *rows = mem_alloc(MAP_COMMAND_ELECTS_MAX * sizeof *rows);
    uint32_t count = controller_elections(server, rows, ret_deadline_ns);
    bool changed = false;
    if (count > 0) {
        struct draft_command *draft = command_new(MAP_COMMAND_ELECT);
        draft->command.count = count;
        writer_put(&draft->writer, rows, count * sizeof *rows);
        log_info("groups-elect", "groups=%u", count);
        changed = command_go(server, draft);
    }
    mem_free(rows);
    return changed;
}

/* Nodes that have been away for the grace, and when the next one will have been. */
static uint32_t overdue(struct map_server *server, uint32_t *ids, uint64_t *ret_deadline_ns)
{
    uint32_t count = 0;
    uint64_t now = env_now_ns();
    for (uint32_t i = 0; i < server->view->header->node_count; i++) {
        const struct map_node *node = &server->view->nodes[i];
        struct contact *contact = contact_of(server, node->id);
        if (node->state == MAP_NODE_UP) {
            contact->not_up_since_ns = 0;
            continue;
        }
        if (contact->not_up_since_ns == 0)
            contact->not_up_since_ns = now;
        uint64_t due = contact->not_up_since_ns + MAP_REPLACE_GRACE_NS;
        if (now >= due)
            ids[count++] = node->id;
        else
            *ret_deadline_ns = MIN(*ret_deadline_ns, due);
    }
    return count;
}

static bool may_drop(void *context, uint32_t group, uint32_t node)
{
    return controller_drop_is_safe(context, group, node);
}

/* Propose what the plan says, leads first: a primary that has handed over can go next time. */
static bool plan_go(struct map_server *server, const struct plan *plan)
{
    bool leads = plan->lead_count > 0;
    uint32_t count = leads ? plan->lead_count : plan->move_count;
    struct draft_command *draft = command_new(leads ? MAP_COMMAND_LEAD : MAP_COMMAND_MOVE);
    draft->command.count = count;
    if (leads)
        writer_put(&draft->writer, plan->leads, count * sizeof plan->leads[0]);
    else
        writer_put(&draft->writer, plan->moves, count * sizeof plan->moves[0]);
    log_info(leads ? "groups-lead" : "groups-move", "groups=%u version=%lu", count,
             server->view->header->version);
    return command_go(server, draft);
}

/* Is anything new since the last plan that had nothing to do? */
static bool plan_is_due(struct map_server *server, const struct plan_facts *facts)
{
    uint64_t known = (uint64_t)facts->sure.count << 32 | facts->lost.count;
    bool due = server->planned_version != server->view->header->version ||
               server->planned_known != known || (facts->balance && !server->planned_balance);
    server->planned_version = server->view->header->version;
    server->planned_known = known;
    server->planned_balance = facts->balance;
    return due;
}

static bool act_plan(struct map_server *server, uint64_t *ret_deadline_ns)
{
    uint32_t sure[MAP_NODES_MAX];
    uint32_t lost[MAP_NODES_MAX];
    uint64_t now = env_now_ns();
    struct plan_facts facts = {
        .view = server->view,
        .sure = {sure, contact_sure_ids(server, sure)},
        .lost = {lost, overdue(server, lost, ret_deadline_ns)},
        .may_drop = may_drop,
        .context = server,
        .balance = now >= server->balance_ns,
    };
    if (!facts.balance)
        *ret_deadline_ns = MIN(*ret_deadline_ns, server->balance_ns);
    if (!plan_is_due(server, &facts))
        return false;
    struct plan *plan = mem_alloc(sizeof *plan);
    plan_make(&facts, plan);
    bool changed = false;
    if (plan->lead_count + plan->move_count > 0)
        changed = plan_go(server, plan);
    if (plan->waits) {
        server->planned_version = 0;
        *ret_deadline_ns = MIN(*ret_deadline_ns, now + MAP_RAFT_BEAT_NS);
    }
    mem_free(plan);
    return changed;
}

/* ---- formers: C5 ---------------------------------------------------------------------------- */

void controller_map_changed(struct map_server *server, const struct map_view *before)
{
    const struct map_view *view = server->view;
    if (!before || before->header->group_count != view->header->group_count)
        return;
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        uint32_t old = before->groups[i].primary;
        if (old == 0 || old == view->groups[i].primary)
            continue;
        const struct map_node *node = map_view_node(view, old);
        if (node && node->state == MAP_NODE_UP) /* NULL: a snapshot skipped its removal */
            server->formers[i] = (struct former_primary){old, view->header->version};
    }
}

bool controller_drop_is_safe(const struct map_server *server, uint32_t group, uint32_t node)
{
    const struct map_view *view = server->view;
    const struct map_group *found = view ? map_view_group(view, group) : NULL;
    const struct map_node *entry = view ? map_view_node(view, node) : NULL;
    if (!found || !entry || entry->state != MAP_NODE_UP)
        return true; /* the machine will say what is wrong */
    const struct former_primary *former = &server->formers[found - view->groups];
    const struct contact *contact = server->contacts[node];
    uint64_t needed = former->node == node ? former->version : 0;
    needed = MAX(needed, server->history_from_version);
    bool knows = contact && contact->incarnation == entry->incarnation &&
                 contact->beat_map_version >= needed;
    bool gone = contact && contact->gone_incarnation == entry->incarnation;
    return knows || gone || env_now_ns() >= controller_expiry_ns(server, entry);
}

/* ---- the fiber ------------------------------------------------------------------------------ */

/* Do the first thing that needs doing. True: the map has changed, look again. */
static bool act(struct map_server *server, uint64_t *ret_deadline_ns)
{
    if (!server->view)
        return act_init(server);
    return act_nodes(server, ret_deadline_ns) || act_resolve(server) ||
           act_elect(server, ret_deadline_ns) || act_plan(server, ret_deadline_ns) ||
           controller_voters(server, ret_deadline_ns) || act_forget(server);
}

/* A new leader asks at every address: who refuses need not be waited for. */
static void probe_all(struct map_server *server)
{
    for (uint32_t i = 0; server->view && i < server->view->header->node_count; i++) {
        const struct map_node *node = &server->view->nodes[i];
        if (node->state == MAP_NODE_UP && !contact_is_sure(server, node))
            contact_verify(server, node->id);
    }
}

void controller_fiber(void *arg)
{
    struct map_server *server = arg;
    uint64_t probed_term = 0;
    for (;;) {
        uint64_t deadline = 0;
        server->controller_news = false;
        if (server_leads(server)) {
            if (probed_term != server->leader_term) {
                probed_term = server->leader_term;
                probe_all(server);
            }
            deadline = env_now_ns() + MAP_BALANCE_WAIT_NS;
            if (act(server, &deadline))
                continue;
        }
        if (!server->controller_news)
            (void)waitq_wait(&server->controller_wake, deadline); /* both outcomes: look again */
    }
}
