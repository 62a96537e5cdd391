/* SPDX-License-Identifier: MIT */
#include "cmd/join.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/errors.h"
#include "cmd/demo_dir.h"
#include "cmd/report.h"
#include "node/node.h"
#include "store/store.h"

enum { PORT_FIRST = 7400, PORT_COUNT = 100, JOIN_TIMEOUT_S = 30 };

static const char prefix[] = "cfs1.";

void join_token_print(const struct join_token *token, char text[JOIN_TOKEN_MAX])
{
    char hex[33];
    for (size_t i = 0; i < sizeof token->cluster.bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", token->cluster.bytes[i]);
    int used = snprintf(text, JOIN_TOKEN_MAX, "%s%s.%016" PRIx64 ".", prefix, hex, token->secret);
    for (uint32_t i = 0; i < token->seeds.count; i++) {
        char addr[NET_ADDR_TEXT_MAX];
        net_addr_print(&token->seeds.addrs[i], addr);
        if (used + (int)strlen(addr) + 2 > JOIN_TOKEN_MAX)
            break;
        used +=
            snprintf(text + used, JOIN_TOKEN_MAX - (size_t)used, "%s%s", i > 0 ? "," : "", addr);
    }
}

int join_token_parse(const char *text, struct join_token *ret_token)
{
    struct join_token token;
    if (strncmp(text, prefix, strlen(prefix)) != 0)
        return -EINVAL;
    text += strlen(prefix);
    const char *secret = strchr(text, '.');
    const char *seeds = secret ? strchr(secret + 1, '.') : NULL;
    if (!seeds || secret - text != 32 || seeds - secret != 17 ||
        uuid_parse(report_text("%.32s", text), &token.cluster) < 0)
        return -EINVAL;
    char *end;
    token.secret = strtoull(secret + 1, &end, 16);
    if (end != seeds || session_parse_seeds(seeds + 1, &token.seeds) < 0)
        return -EINVAL;
    *ret_token = token;
    return 0;
}

/* ---- where to serve -------------------------------------------------------------------------- */

static bool port_is_free(const struct net_addr *addr)
{
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons(addr->port)};
    memcpy(&name.sin6_addr, addr->ip, sizeof name.sin6_addr);
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool is_free = bind(fd, (struct sockaddr *)&name, sizeof name) == 0;
    close(fd);
    return is_free;
}

/* The address from which this machine speaks to the cluster. */
static int own_addr(const struct net_addr *seed, struct net_addr *ret_addr)
{
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons(seed->port)};
    socklen_t bytes = sizeof name;
    memcpy(&name.sin6_addr, seed->ip, sizeof name.sin6_addr);
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int result = 0;
    if (connect(fd, (struct sockaddr *)&name, sizeof name) < 0 ||
        getsockname(fd, (struct sockaddr *)&name, &bytes) < 0)
        result = -errno;
    close(fd);
    if (result < 0)
        return result;
    memcpy(ret_addr->ip, &name.sin6_addr, sizeof ret_addr->ip);
    for (uint32_t i = 0; i < PORT_COUNT; i++) {
        ret_addr->port = (uint16_t)(PORT_FIRST + i);
        if (port_is_free(ret_addr))
            return 0;
    }
    return -EADDRINUSE;
}

/* ---- joining --------------------------------------------------------------------------------- */

struct joining {
    struct node_join_options options;
    uint32_t node;
};

static int join_fiber(void *context)
{
    struct joining *joining = context;
    joining->options.deadline_ns = env_now_ns() + JOIN_TIMEOUT_S * NS_PER_S;
    joining->options.nonce = env_entropy_u64() | 1;
    return node_join(&joining->options, &joining->node);
}

static int not_joined(const struct join_token *token, const struct join_disk *disk,
                      const char *addr, int result)
{
    struct report report = {.what = "cannot join the cluster",
                            .where = token->seeds.text,
                            .why = error_text(result),
                            .effect = "the disk was left as it is"};
    if (result == -ERR_TIMED_OUT) {
        report.why = "no map leader answers at these addresses";
        report.fix = "is the cluster up? claudefs status --cluster ADDR; then try again";
    } else if (result == -EACCES) {
        report.why = "the token's secret is not the cluster's";
        report.fix = "make a new token: claudefs node add";
    } else if (result == -EADDRINUSE) {
        report.why = report_text("another node of the cluster has the address %s", addr);
        report.fix = "choose another one with --listen HOST:PORT, or remove that node";
    } else if (result == -EEXIST) {
        report.where = disk->path;
        report.why = "there is a store on it";
        report.fix = "look at it; --force overwrites it";
    } else if (result == -ENOSPC) {
        report.why = "the cluster has given out all its node ids, or the disk is full";
    }
    return report_error(report_exit_code(result), &report);
}

int join_cluster(const struct join_token *token, const struct join_disk *disk, uint32_t *ret_node)
{
    struct joining joining = {.options = {.disk_path = disk->path,
                                          .size_bytes = disk->size_bytes,
                                          .force = disk->force,
                                          .cluster = token->cluster,
                                          .secret = token->secret,
                                          .seeds = token->seeds.addrs,
                                          .seed_count = token->seeds.count,
                                          .name = disk->name,
                                          .rack = disk->rack}};
    int result = disk->addr ? net_addr_parse(disk->addr, &joining.options.addr)
                            : own_addr(&token->seeds.addrs[0], &joining.options.addr);
    if (result < 0)
        return report_error(EX_USAGE,
                            &(struct report){.what = "cannot tell at which address to serve",
                                             .where = disk->addr,
                                             .why = error_text(result),
                                             .effect = "nothing was written",
                                             .fix = "name it with --listen HOST:PORT"});
    char addr[NET_ADDR_TEXT_MAX];
    net_addr_print(&joining.options.addr, addr);
    result = session_run("join", join_fiber, &joining);
    if (result < 0)
        return not_joined(token, disk, addr, result);
    *ret_node = joining.node;
    return EX_OK;
}

/* ---- joined already? ------------------------------------------------------------------------- */

struct look {
    const struct join_token *token;
    const char *path;
};

static int look_fiber(void *context)
{
    const struct look *look = context;
    struct disk *disk;
    struct store_identity identity;
    int result = disk_open(look->path, 0, 0, &disk);
    if (result < 0)
        return result;
    result = store_identify(disk, &identity);
    disk_close(disk);
    if (result < 0)
        return result;
    return memcmp(&identity.cluster, &look->token->cluster, sizeof identity.cluster) == 0
               ? 0
               : -ERR_WRONG_CLUSTER;
}

bool join_is_done(const struct join_token *token, const char *path)
{
    struct look look = {token, path};
    return session_run("look", look_fiber, &look) == 0;
}
