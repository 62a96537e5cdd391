/* SPDX-License-Identifier: MIT */
/* The process behind a mount: one reactor with a client and the FUSE front on it. */
#include "cmd/mount_serve.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/errors.h"
#include "base/log.h"
#include "client/client.h"
#include "cmd/mount_options.h"
#include "cmd/process.h"
#include "cmd/program_log.h"
#include "cmd/report.h"
#include "cmd/session.h"
#include "env/linux.h"
#include "front/fuse/fuse.h"

#define CONNECT_TIMEOUT_NS (10 * NS_PER_S)

struct serving {
    const struct mount_serve *serve;
    struct mount_options options;
    struct session_seeds seeds;
    int ready_fd;
    bool leaving; /* a signal has asked for the unmount */
};

static void ready(void *context)
{
    struct serving *serving = context;
    log_info("mount-ready", "path=%s", serving->serve->path);
    process_ready_say(serving->ready_fd, "ok");
    serving->ready_fd = -1;
}

/* SIGTERM and SIGINT unmount; what is open stays usable until it is closed. */
static void on_signal(void *context, int signo)
{
    struct serving *serving = context;
    int result = fuse_front_unmount(serving->serve->path);
    log_info("mount-signal", "signal=%d path=%s unmount=%s", signo, serving->serve->path,
             result == 0 ? "done" : error_name(result));
    serving->leaving = true;
}

/* "HOST:PATH", for status. */
static const char *mount_name(const char *path)
{
    char host[65] = "";
    (void)gethostname(host, sizeof host - 1); /* an unknown host has no name */
    return report_text("%s:%s", host, path);
}

static int serve_fiber(void *context)
{
    struct serving *serving = context;
    struct client *client;
    const struct client_options client_options = {
        .io_timeout_ns = serving->options.io_timeout_ns,
        .hard = serving->options.hard,
        .attr_ttl_ns = serving->options.attr_timeout_ns,
    };
    const struct fuse_options fuse_options = {
        .mountpoint = serving->serve->path,
        .source = report_text("claudefs:%s", serving->serve->addresses),
        .entry_timeout_ns = serving->options.attr_timeout_ns,
        .attr_timeout_ns = serving->options.attr_timeout_ns,
        .read_only = serving->options.read_only,
        .private = serving->options.private_mount,
        .channels = serving->options.channels,
        .ready = ready,
        .context = serving,
    };
    int result = linux_reactor_on_signal(reactor_self(), SIGTERM, on_signal, serving);
    if (result == 0)
        result = linux_reactor_on_signal(reactor_self(), SIGINT, on_signal, serving);
    if (result == 0)
        result = session_client(&serving->seeds, mount_name(serving->serve->path),
                                CONNECT_TIMEOUT_NS, &client_options, &client);
    if (result < 0)
        return result;
    result = fuse_front_run(client, &fuse_options);
    client_flush_all(client);
    return result;
}

int mount_serve(const struct mount_serve *serve)
{
    struct serving serving = {.serve = serve, .ready_fd = serve->ready_fd};
    const char *why = NULL;
    int result = session_parse_seeds(serve->addresses, &serving.seeds);
    if (result < 0)
        why = "the addresses are not HOST:PORT[,HOST:PORT...]";
    else
        result = mount_options_parse(serve->options, &serving.options, &why);
    program_log_start();
    signal(SIGPIPE, SIG_IGN);
    if (result == 0)
        result = session_run("mount", serve_fiber, &serving);
    if (result == 0)
        return EX_OK;
    if (!why)
        why = result == -ERR_TIMED_OUT ? "no node answers" : error_text(result);
    process_ready_say(serving.ready_fd, why);
    return report_error(
        EX_UNAVAILABLE,
        &(struct report){.what = "cannot mount",
                         .where = report_text("%s at %s", serve->addresses, serve->path),
                         .why = why,
                         .effect = "nothing is mounted there",
                         .fix = "see the lines above; is the cluster up?"});
}
