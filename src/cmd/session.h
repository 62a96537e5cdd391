/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_SESSION_H
#define CFS_CMD_SESSION_H

/* How a command speaks to a cluster: a reactor for its time, and on it, if wanted, a client. */

#include "base/defs.h"
#include "cmd/command.h"
#include "env/env.h"

/* Run fn in a fiber of a reactor made for it; returns what fn returns. */
must_check int session_run(const char *name, int (*fn)(void *context), void *context);

enum { SESSION_SEEDS_MAX = 32 };

struct session_seeds {
    struct net_addr addrs[SESSION_SEEDS_MAX];
    uint32_t count;
    const char *text; /* as given */
};
/* "HOST:PORT,HOST:PORT". 0 or -EINVAL. */
must_check int session_parse_seeds(const char *text, struct session_seeds *ret_seeds);
/* From the options --cluster ADDR,... or --dir DIR of a command (default: the demo). 0 or an exit
 * code after a report. */
must_check int session_find_seeds(const struct command_line *line, struct session_seeds *ret_seeds);

/* The rows that go with it. */
#define SESSION_OPTIONS                                                                            \
    {"dir", 0, "DIR", "the demo cluster in DIR (default: where demo up puts it)"},                 \
    {                                                                                              \
        "cluster", 0, "ADDR,...", "any cluster, by addresses of some of its nodes"                 \
    }

struct client;
struct client_options;
/* A client of the cluster on the running reactor, connected: the map is there. name: for status,
 * borrowed for as long as the client lives.
 * -ERR_TIMED_OUT: no node answered within timeout_ns. */
may_yield must_check int session_client(const struct session_seeds *seeds, const char *name,
                                        uint64_t timeout_ns, const struct client_options *options,
                                        struct client **ret_client);

#endif
