/* SPDX-License-Identifier: MIT */
/* The server: one node, one disk. Options, then the steps of a start, then nothing but signals. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/errors.h"
#include "base/log.h"
#include "cmd/command.h"
#include "cmd/demo_dir.h"
#include "cmd/format.h"
#include "cmd/join.h"
#include "cmd/process.h"
#include "cmd/program_log.h"
#include "cmd/report.h"
#include "env/linux.h"
#include "format/disk_node.h"
#include "node/node.h"
#include "store/store.h"

enum { READY_TEXT_MAX = 200 };

struct server {
    struct reactor *reactor;
    struct node_options options;
    struct node *node;
    struct format_uuid cluster; /* that the disk has to belong to, if has_cluster */
    bool has_cluster;
    uint32_t node_id; /* that the disk has to be of; 0: any */
    int ready_fd;     /* -1: nobody waits for us */
    int exit_code;
    bool stopping;
    const char *const *argv; /* to start anew when fenced */
};

/* ---- end ------------------------------------------------------------------------------------ */

/* The cluster has declared this incarnation dead: nothing of its memory may be used again. A new
 * program image in the same process keeps pid and pid file. A failed device ends the process: a
 * new one would fail the same way, and an operator has to look. */
static void fenced(void *context, int why)
{
    struct server *server = context;
    if (why == -ERR_FENCED)
        _exit(EX_IOERR);
    if (why == -ENOENT)
        _exit(EX_OK); /* as wanted; a supervisor need not start it again */
    log_info("server-restart", "why=\"fenced\"");
    (void)syscall(SYS_close_range, 3, ~0u, 0); /* 5.9 and later; what is left is close-on-exec */
    int result = process_exec("/proc/self/exe", server->argv);
    log_error("server-restart",
              "error=\"%s\" effect=\"this node does not run\" "
              "fix=\"start claudefsd again\"",
              strerror(-result));
    _exit(EX_OSERR);
}

static void stop_fiber(void *arg)
{
    struct server *server = arg;
    int result = node_stop(server->node);
    if (result < 0) {
        log_error("server-stop", "error=%s effect=\"what was not flushed is taken from the peers\"",
                  error_name(result));
        server->exit_code = EX_IOERR;
    }
    linux_reactor_stop(server->reactor);
}

static void on_signal(void *context, int signo)
{
    struct server *server = context;
    log_info("server-signal", "signal=%d", signo);
    if (!server->node || server->stopping)
        _exit(EX_OK); /* not started yet, or in a hurry: safe at any moment */
    server->stopping = true;
    fiber_spawn("server-stop", stop_fiber, server);
}

/* ---- start ---------------------------------------------------------------------------------- */

/* Is the disk the one that is meant? What does not fit is refused before anything is served. */
static int check_disk(const struct server *server)
{
    struct disk *disk;
    struct store_identity identity;
    int result = disk_open(server->options.disk_path, 0, 0, &disk);
    if (result < 0)
        return result;
    result = store_identify(disk, &identity);
    disk_close(disk);
    if (result < 0)
        return result;
    if (server->has_cluster &&
        memcmp(&identity.cluster, &server->cluster, sizeof identity.cluster) != 0)
        return -ERR_WRONG_CLUSTER;
    if (server->node_id && identity.node != server->node_id) {
        log_error("server-start", "disk=%s why=\"it is the disk of node %u, not of node %u\"",
                  server->options.disk_path, identity.node, server->node_id);
        return -EINVAL;
    }
    return 0;
}

static void start_fiber(void *arg)
{
    struct server *server = arg;
    int result = check_disk(server);
    if (result < 0)
        log_error("server-start", "disk=%s error=%s why=\"%s\" effect=\"this node does not run\"",
                  server->options.disk_path, error_name(result), error_text(result));
    else
        result = node_start(&server->options, &server->node);
    if (result == 0) {
        process_ready_say(server->ready_fd, "ok");
        return;
    }
    char text[READY_TEXT_MAX];
    snprintf(text, sizeof text, "%s: %s", server->options.disk_path, error_text(result));
    process_ready_say(server->ready_fd, text);
    server->exit_code = report_exit_code(result);
    linux_reactor_stop(server->reactor);
}

static int run_server(struct server *server)
{
    int result = linux_reactor_new(&server->reactor);
    if (result == 0)
        result = linux_reactor_on_signal(server->reactor, SIGTERM, on_signal, server);
    if (result == 0)
        result = linux_reactor_on_signal(server->reactor, SIGINT, on_signal, server);
    if (result < 0)
        return report_error(
            EX_OSERR,
            &(struct report){.what = "cannot use io_uring",
                             .where = "this kernel",
                             .why = error_text(result),
                             .effect = "the server does not start",
                             .fix = "Linux 6.1 or newer, sysctl kernel.io_uring_disabled=0; in a "
                                    "container, a seccomp profile that allows io_uring"});
    reactor_spawn(server->reactor, "server-start", start_fiber, server);
    result = linux_reactor_run(server->reactor);
    return result < 0 ? EX_OSERR : server->exit_code;
}

/* ---- format --------------------------------------------------------------------------------- */

static int bad_plan(const char *why)
{
    return report_error(
        EX_USAGE, &(struct report){.what = "cannot format",
                                   .why = why,
                                   .effect = "nothing was written",
                                   .fix = "--format needs --node N, --cluster UUID and "
                                          "--nodes ADDR,ADDR,... (the same list on every node)"});
}

static int format(const struct command_line *line, const char *disk_path)
{
    struct cluster_plan plan = {.copies = 2};
    struct cluster_disk disk = {.path = disk_path, .force = command_flag(line, "force")};
    uint64_t node = 0;
    uint64_t copies = 2;
    const char *nodes = command_value(line, "nodes");
    const char *cluster = command_value(line, "cluster");
    if (!command_number(line, "node", 1, DISK_NODE_CONFIG_NODES_MAX, &node) ||
        !command_number(line, "copies", 1, 3, &copies) ||
        !command_size(line, "size", 512 * MIB, 1024 * TIB, &disk.size_bytes))
        return EX_USAGE;
    if (!nodes || !cluster || !node)
        return bad_plan("an option is missing");
    if (uuid_parse(cluster, &plan.cluster) < 0)
        return bad_plan("--cluster is not an id (make one with uuidgen)");
    plan.copies = (uint32_t)copies;
    for (const char *at = nodes; *at;) {
        size_t bytes = strcspn(at, ",");
        const char *addr = report_text("%.*s", (int)bytes, at);
        if (cluster_plan_add(&plan, report_text("node%u", plan.node_count + 1), addr,
                             disk.size_bytes) < 0)
            return bad_plan(report_text("'%s' is not an address", addr));
        at += bytes + (at[bytes] == ',');
    }
    if (node > plan.node_count)
        return bad_plan("--node is larger than the number of addresses");
    cluster_plan_finish(&plan);
    int result = cluster_format_disk(&plan, (uint32_t)node, &disk);
    if (result < 0)
        return report_error(
            report_exit_code(result),
            &(struct report){
                .what = "cannot format",
                .where = disk_path,
                .why = result == -EEXIST ? "there is something on it" : error_text(result),
                .effect = "it was left as it is",
                .fix = result == -EEXIST ? "look at it; --force overwrites it" : NULL});
    printf("%s is formatted for node %u of %u\n", disk_path, (unsigned)node, plan.node_count);
    return EX_OK;
}

/* ---- join ----------------------------------------------------------------------------------- */

/* Become a node of the token's cluster, unless the disk is one already. */
static int join(const struct command_line *line, struct server *server)
{
    struct join_token token;
    struct join_disk disk = {.path = server->options.disk_path,
                             .force = command_flag(line, "force"),
                             .addr = command_value(line, "listen"),
                             .name = "",
                             .rack = ""};
    uint32_t node;
    if (join_token_parse(command_value(line, "join"), &token) < 0)
        return report_error(
            EX_USAGE, &(struct report){.what = "--join has no token",
                                       .effect = "nothing was written",
                                       .fix = "claudefs node add, on the cluster, prints one"});
    if (!command_size(line, "size", 512 * MIB, 1024 * TIB, &disk.size_bytes))
        return EX_USAGE;
    if (command_value(line, "name"))
        disk.name = command_value(line, "name");
    if (command_value(line, "rack"))
        disk.rack = command_value(line, "rack");
    server->cluster = token.cluster;
    server->has_cluster = true;
    if (!disk.force && join_is_done(&token, disk.path))
        return EX_OK;
    int exit_code = join_cluster(&token, &disk, &node);
    if (exit_code == EX_OK)
        fprintf(stderr, "joined as node %u\n", node);
    return exit_code;
}

/* ---- main ----------------------------------------------------------------------------------- */

static int run(const struct command_line *line)
{
    struct server server = {.options = {.fenced = fenced}};
    server.options.disk_path = command_value(line, "disk");
    server.options.context = &server;
    if (!server.options.disk_path)
        return report_error(
            EX_USAGE,
            &(struct report){.what = "no disk given", .fix = "claudefsd --disk PATH (see --help)"});
    if (command_flag(line, "format"))
        return format(line, server.options.disk_path);
    if (!command_size(line, "memory", 64 * MIB, 1 * TIB, &server.options.memory_bytes))
        return EX_USAGE;
    const char *memory = command_value(line, "memory");
    const char *cluster = command_value(line, "cluster");
    uint64_t node_number = 0;
    if (!command_number(line, "node", 1, DISK_NODE_CONFIG_NODES_MAX, &node_number))
        return EX_USAGE;
    server.node_id = (uint32_t)node_number;
    server.has_cluster = cluster != NULL;
    if (cluster && uuid_parse(cluster, &server.cluster) < 0)
        return report_error(EX_USAGE,
                            &(struct report){.what = "--cluster is not an id", .where = cluster});
    if (command_value(line, "join")) {
        int exit_code = join(line, &server);
        if (exit_code != EX_OK)
            return exit_code;
    }
    const char *argv[] = {
        "claudefsd", "--disk", server.options.disk_path, memory ? "--memory" : NULL, memory, NULL};
    server.argv = argv;
    server.ready_fd = process_ready_fd(command_value(line, "ready-fd"));
    program_log_start();
    signal(SIGPIPE, SIG_IGN);
    return run_server(&server);
}

static const struct command_option options[] = {
    {"disk", 0, "PATH", "block device or file that holds this node's store"},
    {"memory", 0, "SIZE", "memory budget of the process (default 256M)"},
    {"ready-fd", 0, "FD", "write \"ok\" to this pipe once the node serves, or what is wrong"},
    {"format", 0, NULL, "prepare the disk for a new cluster instead of serving"},
    {"node", 0, "N", "which node this is, from 1; a disk of another one is refused"},
    {"nodes", 0, "ADDR,...", "with --format: HOST:PORT of all nodes, in the same order everywhere"},
    {"cluster", 0, "UUID", "the cluster's id; a disk of another cluster is refused"},
    {"copies", 0, "N", "with --format: copies of everything, 1 to 3 (default 2)"},
    {"size", 0, "SIZE", "with --format or --join: make the disk a file of this size"},
    {"force", 0, NULL, "with --format or --join: overwrite what is on the disk"},
    {"join", 0, "TOKEN",
     "become a node of a running cluster (token: claudefs node add), and serve"},
    {"listen", 0, "ADDR", "with --join: HOST:PORT to serve at (default: chosen)"},
    {"name", 0, "NAME", "with --join: the node's name (default: node and its id)"},
    {"rack", 0, "NAME", "with --join: failure domain; copies go to different ones"},
    {NULL, 0, NULL, NULL},
};

static const struct command claudefsd = {
    .name = "",
    .arguments = "",
    .summary = "Serve one disk as a node of a ClaudeFS cluster",
    .detail =
        "Runs in the foreground and logs to standard error (CFS_LOG=debug says more). SIGTERM\n"
        "flushes and ends; any other death is safe too. The address to serve at and the other\n"
        "nodes are on the disk since --format or --join.",
    .example = "claudefsd --disk /dev/nvme1n1",
    .options = options,
    .run = run,
};

int main(int argc, char **argv)
{
    return command_run("claudefsd", &claudefsd, argc, argv);
}
