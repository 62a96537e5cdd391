/* SPDX-License-Identifier: MIT */
/* Gathering a cluster's status.
 *
 * The newest map that any seed has names the nodes; each node is then asked for itself, all at
 * once and with a short deadline, so that a stopped node delays the answer by a second at most.
 * What is degraded or lost is read from the map (who is in sync); how much that is, from the
 * members' own counts. */
#include "cmd/status.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/errors.h"
#include "base/mem.h"
#include "cmd/process.h"
#include "cmd/report.h"
#include "cmd/status_internal.h"
#include "map/map.h"
#include "net/rpc.h"

#define ASK_TIMEOUT_NS (800 * NS_PER_MS)
#define WAIT_STEP_NS   (50 * NS_PER_MS)
#define BLOCK_BYTES    4096u

/* One question to one address, in a fiber of its own. */
struct question {
    struct gathering *gathering;
    struct net_addr addr;
    struct rpc_call call;
    int result;
};

struct gathering {
    struct rpc *rpc;
    uint32_t open;
    struct waitq done;
};

static void ask_fiber(void *arg)
{
    struct question *question = arg;
    struct gathering *gathering = question->gathering;
    question->call.deadline_ns = env_now_ns() + ASK_TIMEOUT_NS;
    question->result = rpc_call(gathering->rpc, &question->addr, &question->call);
    gathering->open--;
    waitq_wake_all(&gathering->done);
}

static void ask_all(struct gathering *gathering, struct question *questions, uint32_t count)
{
    gathering->open = count;
    for (uint32_t i = 0; i < count; i++) {
        questions[i].gathering = gathering;
        fiber_spawn("status-ask", ask_fiber, &questions[i]);
    }
    while (gathering->open > 0)
        (void)waitq_wait(&gathering->done, 0); /* every question has a deadline */
}

static void add_reason(struct status_view *view, enum status_health health, const char *text)
{
    view->health = MAX(view->health, health);
    if (view->reason_count < STATUS_REASONS_MAX)
        view->reasons[view->reason_count++] = text;
}

/* ---- the map -------------------------------------------------------------------------------- */

static struct map_view *gather_map(struct gathering *gathering, const struct session_seeds *seeds,
                                   struct status_view *view)
{
    struct wire_map_get_req request = {.version = 0};
    struct question questions[SESSION_SEEDS_MAX];
    struct map_view *newest = NULL;
    for (uint32_t i = 0; i < seeds->count; i++)
        questions[i] = (struct question){.addr = seeds->addrs[i],
                                         .call = {.type = RPC_MAP_GET, .body = &request}};
    ask_all(gathering, questions, seeds->count);
    for (uint32_t i = 0; i < seeds->count; i++) {
        struct wire_map_get_rep reply;
        struct map_view *map;
        struct rpc_call *call = &questions[i].call;
        if (questions[i].result >= 0 && rpc_reply_body(call, &reply, sizeof reply, NULL) &&
            call->reply->payload_bytes > 0 &&
            map_view_new(call->reply->payload->data, call->reply->payload_bytes, &map) == 0) {
            if (reply.leader)
                view->leader = reply.leader;
            if (!newest || map->header->version > newest->header->version) {
                if (newest)
                    map_view_put(newest);
                newest = map;
            } else {
                map_view_put(map);
            }
        }
        rpc_call_fini(call);
    }
    return newest;
}

static void nodes_from_seeds(struct status_view *view, const struct session_seeds *seeds)
{
    for (uint32_t i = 0; i < seeds->count && i < STATUS_NODES_MAX; i++) {
        struct status_node *node = &view->nodes[view->node_count++];
        node->id = i + 1;
        node->state = "unreachable";
        snprintf(node->name, sizeof node->name, "node%u", i + 1);
        net_addr_print(&seeds->addrs[i], node->addr);
    }
}

/* ---- the nodes ------------------------------------------------------------------------------ */

static void take_groups(struct status_view *view, struct status_target *node,
                        const struct msg *reply, uint64_t *group_bytes)
{
    const uint8_t *data = reply->payload ? reply->payload->data : NULL;
    struct reader reader;
    reader_init(&reader, data, reply->payload_bytes);
    if (crc32c(0, data, reply->payload_bytes) != node->reply.groups_crc)
        return;
    for (uint32_t i = 0; i < node->reply.group_count; i++) {
        struct wire_status_group group;
        reader_copy(&reader, &group, sizeof group);
        if (!reader_ok(&reader))
            return;
        if (group.group <= MAP_GROUPS_MAX)
            group_bytes[group.group] = MAX(group_bytes[group.group], group.bytes);
        if (group.state == 2 && view->job_count < STATUS_ROWS_MAX)
            view->jobs[view->job_count++] = (struct status_job){node->host, group};
        node->groups++;
        node->primaries += group.role == 1;
    }
}

static void take_clients(struct status_view *view, const struct status_target *node,
                         struct slice tail)
{
    struct reader reader;
    reader_init(&reader, tail.data, tail.bytes);
    for (uint32_t i = 0; i < node->reply.client_count; i++) {
        struct wire_status_client client;
        reader_copy(&reader, &client, sizeof client);
        if (!reader_ok(&reader))
            return;
        client.name[sizeof client.name - 1] = '\0';
        bool known = false;
        for (uint32_t j = 0; j < view->client_count; j++)
            known = known || view->clients[j].session == client.session;
        if (!known && client.session && client.name[0] && view->client_count < STATUS_ROWS_MAX)
            view->clients[view->client_count++] = client;
    }
}

static const char *state_of(const struct map_view *map, const struct map_node *entry,
                            const struct status_target *node)
{
    if (entry->intent == MAP_NODE_REMOVE)
        return "removed"; /* soon */
    if (entry->intent == MAP_NODE_DRAIN && map_node_is_drained(map, entry->id))
        return "drained";
    if (entry->intent == MAP_NODE_DRAIN && entry->state == MAP_NODE_UP && node->answered)
        return "drains";
    switch (entry->state) {
    case MAP_NODE_UP:
        if (!node->answered)
            return "silent";
        return node->reply.lease_valid ? "up" : "joining";
    case MAP_NODE_NEW:
        return node->answered ? "joining" : "new";
    default:
        return node->answered ? "joining" : "down";
    }
}

static void gather_targets(struct gathering *gathering, const struct map_view *map,
                           struct status_view *view, uint64_t *group_bytes)
{
    struct wire_status_req request = {0};
    uint32_t count = map->header->node_count;
    struct question *questions = mem_zalloc(count * sizeof *questions);
    for (uint32_t i = 0; i < count; i++) {
        map_node_addr(&map->nodes[i], &questions[i].addr);
        questions[i].call = (struct rpc_call){.type = RPC_STATUS, .body = &request};
    }
    ask_all(gathering, questions, count);
    for (uint32_t i = 0; i < count; i++) {
        struct status_target *target = &view->targets[view->target_count++];
        const struct map_node *entry = &map->nodes[i];
        struct slice tail;
        struct rpc_call *call = &questions[i].call;
        *target = (struct status_target){.id = entry->id,
                                         .host = entry->host,
                                         .voter = entry->voter == MAP_VOTER_FULL,
                                         .leaving = entry->intent != MAP_NODE_KEEP};
        net_addr_print(&questions[i].addr, target->addr);
        target->answered = questions[i].result >= 0 &&
                           rpc_reply_body(call, &target->reply, sizeof target->reply, &tail);
        if (target->answered) {
            take_groups(view, target, call->reply, group_bytes);
            take_clients(view, target, tail);
        } else {
            target->reply = (struct wire_status_rep){.size_bytes = entry->size_bytes};
        }
        target->state = state_of(map, entry, target);
        rpc_call_fini(call);
    }
    mem_free(questions);
}

static uint32_t badness(const char *state)
{
    static const char *const order[] = {"up",      "joining", "new",  "drains",
                                        "drained", "silent",  "down", "removed"};
    uint32_t rank = 0;
    while (rank < ARRAY_COUNT(order) && strcmp(order[rank], state) != 0)
        rank++;
    return rank;
}

static void add_target(struct status_node *node, const struct status_target *target)
{
    struct wire_status_rep *sum = &node->reply;
    const struct wire_status_rep *reply = &target->reply;
    node->answered |= target->answered;
    node->voter |= target->voter;
    node->leaving |= target->leaving;
    if (!node->state || badness(target->state) > badness(node->state))
        node->state = target->state;
    sum->pid = reply->pid ? reply->pid : sum->pid;
    sum->uptime_ms = MAX(sum->uptime_ms, reply->uptime_ms);
    sum->used_bytes += reply->used_bytes;
    sum->size_bytes += reply->size_bytes;
    sum->memory_bytes += reply->memory_bytes;
    sum->data_errors += reply->data_errors;
    sum->data_repairs += reply->data_repairs;
    sum->data_losses += reply->data_losses;
    sum->node_errors += reply->node_errors;
    sum->node_repairs += reply->node_repairs;
    sum->wire_refused += reply->wire_refused;
}

static struct status_node *node_of_host(struct status_view *view, uint32_t host)
{
    for (uint32_t i = 0; i < view->node_count; i++) {
        if (view->nodes[i].id == host)
            return &view->nodes[i];
    }
    assert(view->node_count < STATUS_NODES_MAX); /* the map has no more nodes than that */
    struct status_node *node = &view->nodes[view->node_count++];
    *node = (struct status_node){.id = host};
    return node;
}

/* Targets of one host are one node to people; its name and address are those of the first. */
static void merge_targets(const struct map_view *map, struct status_view *view)
{
    for (uint32_t i = 0; i < view->target_count; i++) {
        const struct status_target *target = &view->targets[i];
        struct status_node *node = node_of_host(view, target->host);
        if (node->name[0] == 0) {
            memcpy(node->name, map->nodes[i].name, sizeof node->name - 1);
            memcpy(node->addr, target->addr, sizeof node->addr);
        }
        add_target(node, target);
    }
    const struct map_node *leader = view->leader ? map_view_node(map, view->leader) : NULL;
    view->leader = leader ? leader->host : 0;
}

/* ---- judgement ------------------------------------------------------------------------------ */

static void judge_groups(struct status_view *view, const struct map_view *map,
                         const uint64_t *group_bytes)
{
    struct status_protect *protect = &view->protect;
    for (uint32_t i = 0; i < map->header->group_count; i++) {
        const struct map_group *group = &map->groups[i];
        uint32_t in_sync = map_group_in_sync_count(group);
        uint64_t bytes = group->id <= MAP_GROUPS_MAX ? group_bytes[group->id] : 0;
        if (in_sync == 0 || group->primary == 0) {
            protect->lost_groups++;
            protect->lost_bytes += bytes;
        } else if (in_sync < view->wanted_copies) {
            protect->degraded_groups++;
            protect->degraded_bytes += bytes;
        } else {
            protect->full_groups++;
            protect->full_bytes += bytes;
        }
    }
    if (protect->lost_groups)
        add_reason(view, STATUS_ERROR,
                   report_text("%u of %u groups have no copy that can serve", protect->lost_groups,
                               map->header->group_count));
    if (protect->degraded_groups)
        add_reason(view, STATUS_WARN,
                   report_text("%u of %u groups have fewer than %u copies",
                               protect->degraded_groups, map->header->group_count,
                               view->wanted_copies));
}

static void judge_nodes(struct status_view *view)
{
    for (uint32_t i = 0; i < view->node_count; i++) {
        const struct status_node *node = &view->nodes[i];
        const struct wire_status_rep *reply = &node->reply;
        if (strcmp(node->state, "up") != 0 && !node->leaving)
            add_reason(view, STATUS_WARN, report_text("%s is %s", node->name, node->state));
        if (reply->data_losses) {
            view->protect.lost_bytes += reply->data_losses * BLOCK_BYTES;
            add_reason(view, STATUS_ERROR,
                       report_text("%s: %llu blocks have no good copy (its log names the files)",
                                   node->name, (unsigned long long)reply->data_losses));
        }
        if (reply->data_errors > reply->data_repairs + reply->data_losses ||
            reply->node_errors > reply->node_repairs)
            add_reason(view, STATUS_WARN,
                       report_text("%s: damage found that is not repaired yet", node->name));
    }
    if (!view->leader)
        add_reason(view, STATUS_ERROR, "the map group has no leader");
}

void status_gather(const struct session_seeds *seeds, struct status_view *ret_view)
{
    struct rpc_identity identity = {.session = env_entropy_u64() | 1};
    struct gathering gathering = {.rpc = rpc_new(&identity)};
    uint64_t *group_bytes = mem_zalloc((MAP_GROUPS_MAX + 1) * sizeof *group_bytes);
    waitq_init(&gathering.done);
    memset(ret_view, 0, sizeof *ret_view); /* larger than a fiber's stack */
    ret_view->addresses = seeds->text;
    struct map_view *map = gather_map(&gathering, seeds, ret_view);
    if (map) {
        ret_view->has_map = true;
        ret_view->map = *map->header;
        ret_view->wanted_copies = MIN(map->header->copies, map->header->node_count);
        gather_targets(&gathering, map, ret_view, group_bytes);
        merge_targets(map, ret_view);
        judge_groups(ret_view, map, group_bytes);
        judge_nodes(ret_view);
        map_view_put(map);
    } else {
        nodes_from_seeds(ret_view, seeds);
        add_reason(ret_view, STATUS_ERROR,
                   "no node answers: none is running, or the network is cut");
    }
    mem_free(group_bytes);
}

void status_add_demo(struct status_view *view, const struct demo *demo)
{
    for (uint32_t i = 0; i < view->node_count; i++) {
        struct status_node *node = &view->nodes[i];
        struct process process;
        process_read(demo_node_path(demo, node->id, "pid"), &process);
        if (!node->answered && process.state != PROCESS_GONE)
            node->reply.pid = (uint32_t)process.pid;
        if (process.state == PROCESS_STOPPED)
            node->note = report_text("stopped: claudefs demo kill %u --signal CONT", node->id);
        else if (process.state == PROCESS_GONE)
            node->note = report_text("not running: claudefs demo start %u", node->id);
        if (!view->has_map && i < demo->node_count)
            node->reply.size_bytes = demo->size_bytes;
    }
}

/* ---- commands ------------------------------------------------------------------------------- */

struct status_job_context {
    const struct session_seeds *seeds;
    struct status_view *view;
    uint64_t timeout_ms; /* 0: ask once */
};

static int gather_fiber(void *context)
{
    struct status_job_context *job = context;
    uint64_t deadline_ns = env_now_ns() + job->timeout_ms * NS_PER_MS;
    for (;;) {
        status_gather(job->seeds, job->view);
        if (job->view->health == STATUS_OK || env_now_ns() >= deadline_ns)
            return 0;
        fiber_sleep(WAIT_STEP_NS);
    }
}

/* The view, or NULL after a report (the exit code is in ret_exit_code then). */
static struct status_view *gather(const char *addresses, uint64_t timeout_ms, int *ret_exit_code)
{
    struct session_seeds seeds;
    if (session_parse_seeds(addresses, &seeds) < 0) {
        *ret_exit_code =
            report_error(EX_USAGE, &(struct report){.what = "not a list of addresses",
                                                    .where = addresses,
                                                    .fix = "write HOST:PORT[,HOST:PORT...]"});
        return NULL;
    }
    struct status_job_context job = {&seeds, mem_zalloc(sizeof *job.view), timeout_ms};
    int result = session_run("status", gather_fiber, &job);
    job.view->addresses = addresses;
    if (result == 0)
        return job.view;
    *ret_exit_code =
        report_error(report_exit_code(result), &(struct report){.what = "cannot ask the nodes",
                                                                .where = addresses,
                                                                .why = error_text(result)});
    mem_free(job.view);
    return NULL;
}

int status_wait_usable(const char *addresses, uint64_t timeout_ms)
{
    int exit_code;
    struct status_view *view = gather(addresses, timeout_ms, &exit_code);
    if (!view)
        return exit_code;
    exit_code = EX_OK;
    if (view->health == STATUS_ERROR)
        exit_code = report_error(
            EX_UNAVAILABLE, &(struct report){.what = "the cluster does not get ready",
                                             .where = addresses,
                                             .why = view->reasons[0],
                                             .effect = "its processes are left running",
                                             .fix = "see: claudefs status, and the nodes' logs"});
    mem_free(view);
    return exit_code;
}

int status_show(const char *addresses, const struct demo *demo)
{
    int exit_code;
    struct status_view *view = gather(addresses, 0, &exit_code);
    if (!view)
        return STATUS_ERROR;
    if (demo)
        status_add_demo(view, demo);
    status_print_text(view);
    enum status_health health = view->health;
    mem_free(view);
    return health;
}

int command_status(const struct command_line *line)
{
    struct demo demo;
    const char *addresses = command_value(line, "cluster");
    bool is_demo = addresses == NULL;
    int exit_code;
    if (is_demo) {
        if (demo_dir_require(command_value(line, "dir"), &demo) != EX_OK)
            return STATUS_ERROR;
        addresses = demo_addresses(&demo);
    }
    struct status_view *view = gather(addresses, 0, &exit_code);
    if (!view)
        return STATUS_ERROR;
    if (is_demo)
        status_add_demo(view, &demo);
    if (command_flag(line, "json"))
        status_print_json(view);
    else
        status_print_text(view);
    enum status_health health = view->health;
    mem_free(view);
    return health;
}
