/* SPDX-License-Identifier: MIT */
#include "cmd/session.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/assert.h"
#include "base/errors.h"
#include "client/client.h"
#include "cmd/demo_dir.h"
#include "cmd/report.h"
#include "env/linux.h"
#include "map/map.h"
#include "net/rpc.h"

struct run {
    struct reactor *reactor;
    int (*fn)(void *context);
    void *context;
    int result;
};

static void run_fiber(void *arg)
{
    struct run *run = arg;
    run->result = run->fn(run->context);
    linux_reactor_stop(run->reactor);
}

int session_run(const char *name, int (*fn)(void *context), void *context)
{
    struct run run = {.fn = fn, .context = context};
    int result = linux_reactor_new(&run.reactor);
    if (result < 0)
        return result;
    reactor_spawn(run.reactor, name, run_fiber, &run);
    result = linux_reactor_run(run.reactor);
    linux_reactor_free(run.reactor);
    return result < 0 ? result : run.result;
}

int session_find_seeds(const struct command_line *line, struct session_seeds *ret_seeds)
{
    struct demo demo;
    const char *addresses = command_value(line, "cluster");
    if (!addresses) {
        int exit_code = demo_dir_require(command_value(line, "dir"), &demo);
        if (exit_code != EX_OK)
            return exit_code;
        addresses = demo_addresses(&demo);
    }
    if (session_parse_seeds(addresses, ret_seeds) == 0)
        return EX_OK;
    return report_error(EX_USAGE, &(struct report){.what = "not a list of addresses",
                                                   .where = addresses,
                                                   .fix = "write HOST:PORT[,HOST:PORT...]"});
}

int session_client(const struct session_seeds *seeds, const char *name, uint64_t timeout_ns,
                   const struct client_options *options, struct client **ret_client)
{
    const struct rpc_identity identity = {.session = env_entropy_u64() | 1};
    struct rpc *rpc = rpc_new(&identity);
    struct map_client *map = map_client_start(rpc, seeds->addrs, seeds->count, NULL, NULL);
    map_client_set_name(map, name);
    int result = map_client_wait_newer(map, 0, env_now_ns() + timeout_ns);
    if (result < 0)
        return result;
    *ret_client = client_new(rpc, map, options);
    return 0;
}
