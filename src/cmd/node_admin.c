/* SPDX-License-Identifier: MIT */
/* claudefs node list, add, drain, remove: an operator's word to the map leader, and what came of
 * it. A node here is a host of the map, with all its targets; it is named by its host number.
 */
#include "cmd/node_admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/errors.h"
#include "cmd/demo_nodes.h"
#include "cmd/join.h"
#include "cmd/report.h"
#include "map/map.h"
#include "net/rpc.h"

#define CONNECT_TIMEOUT_NS (5 * NS_PER_S)
#define CHANGE_TIMEOUT_NS  (15 * NS_PER_S)
#define WATCH_PERIOD_NS    (250 * NS_PER_MS)

/* One conversation with the cluster. */
struct talk {
    struct session_seeds seeds;
    const char *node_text; /* as the user named it */
    enum map_node_intent intent;
    bool wait;
    int (*act)(struct talk *talk, struct map_client *map);
    uint32_t node; /* first target of the host */
    uint32_t host;
    struct join_token token;
    uint32_t next_node;
};

static int talk_fiber(void *context)
{
    struct talk *talk = context;
    const struct rpc_identity identity = {.session = env_entropy_u64() | 1};
    struct rpc *rpc = rpc_new(&identity);
    struct map_client *map =
        map_client_start(rpc, talk->seeds.addrs, talk->seeds.count, NULL, NULL);
    int result = map_client_wait_newer(map, 0, env_now_ns() + CONNECT_TIMEOUT_NS);
    if (result < 0)
        return report_error(EX_UNAVAILABLE, &(struct report){.what = "cannot reach the cluster",
                                                             .where = talk->seeds.text,
                                                             .why = "no node answers",
                                                             .effect = "nothing was changed",
                                                             .fix = "see: claudefs status"});
    return talk->act(talk, map);
}

static int talk_go(struct talk *talk)
{
    int exit_code = session_run("node", talk_fiber, talk);
    return exit_code >= 0 ? exit_code
                          : report_error(report_exit_code(exit_code),
                                         &(struct report){.what = "cannot ask the cluster",
                                                          .why = error_text(exit_code)});
}

static int talk_run(const struct command_line *line, struct talk *talk)
{
    int exit_code = session_find_seeds(line, &talk->seeds);
    return exit_code == EX_OK ? talk_go(talk) : exit_code;
}

/* By host number, or by name: its first target. */
static const struct map_node *find_node(const struct map_view *view, const char *text)
{
    char *end;
    unsigned long id = strtoul(text, &end, 10);
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        const struct map_node *node = &view->nodes[i];
        if ((end != text && *end == '\0' && node->host == id) || strcmp(node->name, text) == 0)
            return node;
    }
    return NULL;
}

static int no_such_node(const char *text)
{
    return report_error(EX_USAGE, &(struct report){.what = report_text("no node '%s'", text),
                                                   .why = "the map has none of this id or name",
                                                   .effect = "nothing was changed",
                                                   .fix = "claudefs node list shows all"});
}

/* ---- list ------------------------------------------------------------------------------------ */

static uint32_t replicas_of(const struct map_view *view, uint32_t node, uint32_t *ret_leads)
{
    uint32_t count = 0;
    *ret_leads = 0;
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        count += map_group_member_state(&view->groups[i], node) != 0;
        *ret_leads += view->groups[i].primary == node;
    }
    return count;
}

static const char *state_text(const struct map_view *view, const struct map_node *node)
{
    if (node->intent == MAP_NODE_REMOVE)
        return "removing";
    if (node->intent == MAP_NODE_DRAIN)
        return map_node_is_drained(view, node->id) ? "drained" : "draining";
    return node->state == MAP_NODE_UP ? "up" : node->state == MAP_NODE_NEW ? "new" : "down";
}

/* All targets of a host in one line. */
static void print_host(const struct map_view *view, const struct map_node *first)
{
    struct net_addr addr;
    char text[NET_ADDR_TEXT_MAX];
    uint32_t leads = 0;
    uint32_t replicas = 0;
    uint64_t size_bytes = 0;
    bool voter = false;
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        const struct map_node *node = &view->nodes[i];
        uint32_t node_leads = 0;
        if (node->host != first->host)
            continue;
        replicas += replicas_of(view, node->id, &node_leads);
        leads += node_leads;
        size_bytes += node->size_bytes;
        voter |= node->voter == MAP_VOTER_FULL;
    }
    map_node_addr(first, &addr);
    net_addr_print(&addr, text);
    printf("%4u  %-16.16s %-9s %-5s  %8u  %5u  %10s  %s\n", first->host, first->name,
           state_text(view, first), voter ? "yes" : "no", replicas, leads, report_bytes(size_bytes),
           text);
}

static int act_list(struct talk *talk, struct map_client *map)
{
    const struct map_view *view = map_client_view(map);
    (void)talk;
    printf("  ID  NAME             STATE     VOTER  REPLICAS  LEADS        SIZE  ADDR\n");
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        bool seen = false;
        for (uint32_t j = 0; j < i; j++)
            seen |= view->nodes[j].host == view->nodes[i].host;
        if (!seen)
            print_host(view, &view->nodes[i]);
    }
    return EX_OK;
}

int command_node_list(const struct command_line *line)
{
    struct talk talk = {.act = act_list};
    return talk_run(line, &talk);
}

/* ---- add ------------------------------------------------------------------------------------- */

static int act_token(struct talk *talk, struct map_client *map)
{
    const struct map_view *view = map_client_view(map);
    talk->token =
        (struct join_token){.cluster = view->header->cluster, .secret = view->header->join_secret};
    struct session_seeds *seeds = &talk->token.seeds;
    for (uint32_t pass = 0; pass < 2; pass++) { /* members of the map group first */
        for (uint32_t i = 0; i < view->header->node_count && seeds->count < 6; i++) {
            const struct map_node *node = &view->nodes[i];
            if ((node->voter == MAP_VOTER_FULL) == (pass == 0) && node->intent == MAP_NODE_KEEP)
                map_node_addr(node, &seeds->addrs[seeds->count++]);
        }
    }
    seeds->text = talk->seeds.text;
    talk->next_node = view->header->last_node + 1;
    return EX_OK;
}

int command_node_add(const struct command_line *line)
{
    struct talk talk = {.act = act_token};
    int exit_code = talk_run(line, &talk);
    if (exit_code != EX_OK)
        return exit_code;
    char text[JOIN_TOKEN_MAX];
    join_token_print(&talk.token, text);
    printf("on the new machine, with its disk or a file:\n\n"
           "  claudefsd --disk /dev/DISK --join %s\n\n"
           "it registers itself, formats the disk and serves; replicas move there by themselves\n"
           "(claudefs node list shows them). Keep the token to yourselves.\n",
           text);
    return EX_OK;
}

/* ---- drain and remove ------------------------------------------------------------------------ */

static uint32_t hosts_left(const struct map_view *view, uint32_t but)
{
    uint32_t hosts = 0;
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        const struct map_node *node = &view->nodes[i];
        hosts += node->intent == MAP_NODE_KEEP && node->target == 0 && node->host != but;
    }
    return hosts;
}

static int not_changed(const struct talk *talk, int result)
{
    struct report report = {.what = report_text("cannot %s node %s",
                                                talk->intent == MAP_NODE_REMOVE  ? "remove"
                                                : talk->intent == MAP_NODE_DRAIN ? "drain"
                                                                                 : "keep",
                                                talk->node_text),
                            .why = error_text(result),
                            .effect = "nothing was changed"};
    if (result == -EBUSY) {
        report.why = "it is up and holds replicas, or is being removed already";
        report.fix = report_text("claudefs node drain %s --wait", talk->node_text);
    } else if (result == -ERR_NO_QUORUM) {
        report.why = "a group without a primary waits for what only this node may hold";
        report.fix = "bring its disk back; or wait some seconds, if it died just now";
    } else if (result == -ERR_TIMED_OUT) {
        report.why = "the map group has no leader";
        report.fix = "see: claudefs status";
    }
    bool later = result == -EBUSY || result == -ERR_NO_QUORUM;
    return report_error(later ? EX_TEMPFAIL : report_exit_code(result), &report);
}

static uint32_t host_replicas(const struct map_view *view, uint32_t host)
{
    uint32_t count = 0;
    uint32_t leads;
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        if (view->nodes[i].host == host)
            count += replicas_of(view, view->nodes[i].id, &leads);
    }
    return count;
}

/* Until it is drained, or gone. */
static void watch(struct talk *talk, struct map_client *map)
{
    uint32_t before = UINT32_MAX;
    for (;;) {
        const struct map_view *view = map_client_view(map);
        const struct map_node *node = map_view_node(view, talk->node);
        if (!node || (talk->intent == MAP_NODE_DRAIN && map_node_is_drained(view, talk->node)))
            return;
        uint32_t left = host_replicas(view, node->host);
        if (left != before)
            fprintf(stderr, "%u replicas left\n", left);
        before = left;
        fiber_sleep(WATCH_PERIOD_NS);
    }
}

static int act_change(struct talk *talk, struct map_client *map)
{
    const struct map_node *node = find_node(map_client_view(map), talk->node_text);
    if (!node)
        return no_such_node(talk->node_text);
    talk->node = node->id;
    talk->host = node->host;
    const char *name = report_text("%s", node->name);
    uint32_t left = hosts_left(map_client_view(map), node->host);
    uint32_t copies = map_client_view(map)->header->copies;
    int result =
        map_client_change_node(map, talk->node, talk->intent, env_now_ns() + CHANGE_TIMEOUT_NS);
    if (result < 0)
        return not_changed(talk, result);
    if (talk->intent != MAP_NODE_KEEP && left < copies)
        fprintf(stderr,
                "claudefs: %u copies need %u nodes, and %u would be left: what is here stays "
                "until a node is added\n",
                copies, copies, left);
    if (talk->wait)
        watch(talk, map);
    static const char *const done[] = {"is used again", "is drained", "is removed"};
    static const char *const begun[] = {"is used again", "is being drained", "is being removed"};
    printf("%s %s\n", name, talk->wait ? done[talk->intent] : begun[talk->intent]);
    return EX_OK;
}

int command_node_drain(const struct command_line *line)
{
    struct talk talk = {.act = act_change,
                        .node_text = line->arguments[0],
                        .intent = command_flag(line, "undo") ? MAP_NODE_KEEP : MAP_NODE_DRAIN,
                        .wait = command_flag(line, "wait") && !command_flag(line, "undo")};
    return talk_run(line, &talk);
}

int command_node_remove(const struct command_line *line)
{
    struct talk talk = {.act = act_change,
                        .node_text = line->arguments[0],
                        .intent = MAP_NODE_REMOVE,
                        .wait = true};
    int exit_code = talk_run(line, &talk);
    struct demo demo;
    if (exit_code != EX_OK || command_value(line, "cluster"))
        return exit_code;
    exit_code = demo_dir_require(command_value(line, "dir"), &demo);
    return exit_code == EX_OK ? demo_node_forget(&demo, talk.host) : exit_code;
}

/* ---- demo add -------------------------------------------------------------------------------- */

int command_demo_add(const struct command_line *line)
{
    struct demo demo;
    struct talk talk = {.act = act_token};
    int exit_code = demo_dir_require(command_value(line, "dir"), &demo);
    if (exit_code == EX_OK && session_parse_seeds(demo_addresses(&demo), &talk.seeds) < 0)
        exit_code = report_error(
            EX_CONFIG, &(struct report){.what = "cannot read its addresses", .where = demo.dir});
    if (exit_code == EX_OK)
        exit_code = talk_go(&talk);
    if (exit_code != EX_OK)
        return exit_code;
    if (demo.node_count == DEMO_NODES_MAX)
        return report_error(EX_USAGE, &(struct report){.what = "cannot add a node",
                                                       .where = demo.dir,
                                                       .why = "a demo has 16 at most"});
    struct demo_node *node = &demo.nodes[demo.node_count];
    exit_code = demo_node_plan(&demo, talk.next_node, node);
    if (exit_code != EX_OK)
        return exit_code;
    const struct join_disk disk = {
        .path = demo_node_path(&demo, node->id, "disk"),
        .size_bytes = demo.size_bytes,
        .force = true, /* left over from an attempt that was interrupted: not in cluster.json */
        .addr = node->addr,
        .name = node->name,
        .rack = "",
    };
    uint32_t id = 0;
    exit_code = join_cluster(&talk.token, &disk, &id);
    if (exit_code != EX_OK)
        return exit_code;
    if (id != node->id)
        return report_error(EX_TEMPFAIL,
                            &(struct report){.what = "another node was added at the same time",
                                             .effect = report_text("node %u never comes", id),
                                             .fix = report_text("claudefs node remove %u, and "
                                                                "try again",
                                                                id)});
    demo.node_count++;
    int result = demo_dir_save(&demo);
    if (result < 0)
        return report_error(EX_CANTCREAT, &(struct report){.what = "cannot note the new node",
                                                           .where = demo.dir,
                                                           .why = error_text(result)});
    exit_code = demo_nodes_start(&demo, node, NULL);
    if (exit_code == EX_OK)
        printf("%s joined at %s; its share of the replicas moves there: claudefs node list\n",
               node->name, node->addr);
    return exit_code;
}
