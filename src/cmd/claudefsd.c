/* SPDX-License-Identifier: MIT */
/* The server: one device, one reactor per core and slice of it. Options, then the steps of a start,
 * then nothing but signals. The main thread is the first target's; the others': targets.c. */
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
#include "cmd/device_probe.h"
#include "cmd/demo_dir.h"
#include "cmd/format.h"
#include "cmd/join.h"
#include "cmd/process.h"
#include "cmd/program_log.h"
#include "cmd/report.h"
#include "cmd/targets.h"
#include "env/linux.h"
#include "format/disk_node.h"
#include "node/node.h"
#include "store/store.h"

enum { RESTART_ARGUMENTS_MAX = 10, READY_TEXT_MAX = 200 };

struct server {
    struct reactor *reactor;
    struct node_options options; /* of target 0 */
    uint64_t memory_bytes;       /* for all */
    uint32_t reactors;           /* that the disk has to be formatted for; 0: any number */
    struct disk *device;         /* if it is in slices: open for its lock */
    struct node *node;
    struct targets *targets;
    struct format_uuid cluster; /* that the disk has to belong to, if has_cluster */
    bool has_cluster;
    int ready_fd; /* -1: nobody waits for us */
    int exit_code;
    bool stopping;
    const char *const *argv; /* to start anew when fenced */
};

/* ---- end ------------------------------------------------------------------------------------ */

/* The cluster has declared this incarnation dead: nothing of its memory may be used again. A new
 * program image in the same process keeps pid and pid file. A failed device ends the process: a
 * new one would fail the same way, and an operator has to look. On the thread of any target: the
 * others end with it. Descriptors close when the image is replaced and no thread uses them. */
static void fenced(void *context, int why)
{
    const struct server *server = context;
    if (why == -ERR_FENCED)
        _exit(EX_IOERR);
    if (why == -ENOENT)
        _exit(EX_OK); /* as wanted; a supervisor need not start it again */
    log_info("server-restart", "why=\"fenced\"");
    (void)close_range(3, ~0u, CLOSE_RANGE_CLOEXEC); /* 5.11; all of ours are so anyway */
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
    int others = targets_stop(server->targets);
    int result = node_stop(server->node);
    result = result < 0 ? result : others;
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
    if (!server->node || !server->targets || server->stopping)
        _exit(EX_OK); /* not started yet, or in a hurry: safe at any moment */
    server->stopping = true;
    fiber_spawn("server-stop", stop_fiber, server);
}

/* ---- start ---------------------------------------------------------------------------------- */

static int check_reactors(const struct server *server, uint32_t reactors)
{
    if (server->reactors == 0 || server->reactors == reactors)
        return 0;
    log_error(
        "server-start",
        "disk=%s why=\"it is formatted for %u reactors, not %u: each has its own part of it\" "
        "effect=\"this node does not run\" fix=\"leave --reactors out\"",
        server->options.disk_path, reactors, server->reactors);
    return -EINVAL;
}

/* Is the disk the one that is meant? What does not fit is refused before anything is served. */
static int open_device(struct server *server)
{
    struct store_identity identity;
    int result = node_device_open(server->options.disk_path, 0, &server->device, &identity);
    if (result < 0)
        return result;
    if (server->has_cluster &&
        memcmp(&identity.cluster, &server->cluster, sizeof identity.cluster) != 0)
        return -ERR_WRONG_CLUSTER;
    uint32_t reactors = MAX(identity.slice_count, 1u);
    result = check_reactors(server, reactors);
    if (result < 0)
        return result;
    if (reactors > TARGETS_MAX || identity.slice != 0)
        return -ERR_CORRUPT_DISK;
    uint64_t there = disk_info(server->device)->size_bytes;
    if (identity.slice_count > there / MAX(identity.slice_bytes, 1ull) && identity.slice_bytes) {
        log_error("server-start",
                  "disk=%s why=\"it has %llu bytes, less than the %u parts of %llu bytes it was "
                  "formatted for\" effect=\"this node does not run\" fix=\"the whole device\"",
                  server->options.disk_path, (unsigned long long)there, reactors,
                  (unsigned long long)identity.slice_bytes);
        return -EINVAL;
    }
    if (identity.slice_bytes == 0) {
        disk_close(server->device); /* its node opens and locks it */
        server->device = NULL;
    }
    server->options.slice = (struct node_slice){0, identity.slice_count, identity.slice_bytes};
    server->options.incarnation = env_entropy_u64() | 1;
    server->options.memory_bytes = server->memory_bytes / reactors;
    server->options.scrub_rate = div_up(server->options.scrub_rate, reactors);
    if (server->options.memory_bytes >= NODE_MEMORY_MIN)
        return 0;
    log_error("server-start",
              "disk=%s why=\"%u reactors need %llu MiB each\" "
              "effect=\"this node does not run\" fix=\"a larger --memory\"",
              server->options.disk_path, reactors, NODE_MEMORY_MIN / MIB);
    return -EINVAL;
}

static int start_targets(struct server *server)
{
    struct targets *targets;
    struct node *node;
    int result = open_device(server);
    if (result < 0) {
        log_error("server-start", "disk=%s error=%s why=\"%s\" effect=\"this node does not run\"",
                  server->options.disk_path, error_name(result), error_text(result));
        return result;
    }
    result = targets_start(&server->options, &targets);
    if (result == 0)
        result = node_start(&server->options, &node);
    if (result == 0)
        result = targets_wait_started(targets);
    if (result == 0) {
        server->targets = targets;
        server->node = node;
    }
    return result;
}

static void start_fiber(void *arg)
{
    struct server *server = arg;
    int result = start_targets(server);
    if (result == 0) {
        process_ready_say(server->ready_fd, "ok");
        return;
    }
    char text[READY_TEXT_MAX];
    snprintf(text, sizeof text, "%s: %s", server->options.disk_path, error_text(result));
    process_ready_say(server->ready_fd, text);
    /* Other targets may run already: they end with the process, as in a crash. */
    _exit(report_exit_code(result));
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
    int exit_code = device_refuse(disk.path, disk.force);
    if (exit_code == EX_OK)
        exit_code = join_cluster(&token, &disk, &node);
    if (exit_code == EX_OK)
        fprintf(stderr, "joined as node %u\n", node);
    return exit_code;
}

/* ---- main ----------------------------------------------------------------------------------- */

/* Those that hold for the next program image too, with a NULL behind them. */
static void restart_arguments(const struct command_line *line, const char **argv)
{
    static const char *const kept[][2] = {
        {"memory", "--memory"}, {"scrub-rate", "--scrub-rate"}, {"scrub-every", "--scrub-every"}};
    for (uint32_t i = 0; i < ARRAY_COUNT(kept); i++) {
        if (!command_value(line, kept[i][0]))
            continue;
        *argv++ = kept[i][1];
        *argv++ = command_value(line, kept[i][0]);
    }
    *argv = NULL;
}

static bool scrub_options(const struct command_line *line, struct node_options *options)
{
    uint64_t seconds = 86400;
    options->scrub_rate = 32 * MIB;
    if (!command_size(line, "scrub-rate", 0, 1 * TIB, &options->scrub_rate) ||
        !command_number(line, "scrub-every", 1, UINT32_MAX, &seconds))
        return false;
    options->scrub_every_ns = seconds * NS_PER_S;
    return true;
}

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
        return cluster_format_command(line, server.options.disk_path);
    uint64_t reactors = 0;
    server.memory_bytes = NODE_MEMORY_DEFAULT;
    if (!command_size(line, "memory", 64 * MIB, 1 * TIB, &server.memory_bytes) ||
        !command_number(line, "reactors", 1, DISK_NODE_CONFIG_NODES_MAX, &reactors) ||
        !scrub_options(line, &server.options))
        return EX_USAGE;
    server.reactors = (uint32_t)reactors;
    const char *cluster = command_value(line, "cluster");
    uint64_t node_number = 0;
    if (!command_number(line, "node", 1, DISK_NODE_CONFIG_NODES_MAX, &node_number))
        return EX_USAGE;
    server.options.host = (uint32_t)node_number;
    server.has_cluster = cluster != NULL;
    if (cluster && uuid_parse(cluster, &server.cluster) < 0)
        return report_error(EX_USAGE,
                            &(struct report){.what = "--cluster is not an id", .where = cluster});
    if (command_value(line, "join")) {
        int exit_code = join(line, &server);
        if (exit_code != EX_OK)
            return exit_code;
    }
    const char *argv[RESTART_ARGUMENTS_MAX] = {"claudefsd", "--disk", server.options.disk_path};
    restart_arguments(line, argv + 3);
    server.argv = argv;
    server.ready_fd = process_ready_fd(command_value(line, "ready-fd"));
    program_log_start();
    signal(SIGPIPE, SIG_IGN);
    return run_server(&server);
}

static const struct command_option options[] = {
    {"disk", 0, "PATH", "block device or file that holds this node's store"},
    {"memory", 0, "SIZE", "memory budget of the process (default 256M), shared by its reactors"},
    {"reactors", 0, "N",
     "with --format: threads that each serve a part of the disk, at least 1 GiB (default: one per "
     "core, of 4 GiB or more each); the same number on every node. Else: refuse a disk that was "
     "formatted for another number"},
    {"scrub-rate", 0, "SIZE",
     "read everything on the disk and repair what has rotted, at most this much a second "
     "(default 32M; 0: never)"},
    {"scrub-every", 0, "SECONDS", "from the end of a scrub to the next (default 86400)"},
    {"ready-fd", 0, "FD", "write \"ok\" to this pipe once the node serves, or what is wrong"},
    {"format", 0, NULL, "prepare the disk for a new cluster instead of serving"},
    {"node", 0, "N", "which node this is, from 1; a disk of another one is refused"},
    {"nodes", 0, "ADDR,...",
     "with --format: HOST:PORT of all nodes, in the same order everywhere; reactors after the "
     "first "
     "listen at the ports that follow"},
    {"cluster", 0, "UUID", "the cluster's id; a disk of another cluster is refused"},
    {"copies", 0, "N", "with --format: copies of everything, 1 to 3 (default 2)"},
    {"grow-to", 0, "N",
     "with --format: how many nodes the cluster is to have one day, if more than sixteen times as "
     "many as it starts with; at most 64 times"},
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
