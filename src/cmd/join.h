/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_JOIN_H
#define CFS_CMD_JOIN_H

/* A further node for a cluster that runs: one token says all it needs to know. */

#include "cmd/session.h"
#include "format/format.h"

enum { JOIN_TOKEN_MAX = 1024 };

/* "cfs1.CLUSTER.SECRET.ADDR,ADDR": cluster id, secret, and some of its addresses. */
struct join_token {
    struct format_uuid cluster;
    uint64_t secret;
    struct session_seeds seeds;
};
void join_token_print(const struct join_token *token, char text[JOIN_TOKEN_MAX]);
/* 0 or -EINVAL. The token borrows text. */
must_check int join_token_parse(const char *text, struct join_token *ret_token);

struct join_disk {
    const char *path;
    uint64_t size_bytes; /* of a file to make */
    bool force;
    const char *addr; /* HOST:PORT to serve at; NULL: where the cluster reaches this machine */
    const char *name; /* "": made from the id */
    const char *rack; /* "": a failure domain of its own */
};
/* Register with the cluster and format the disk; runs a reactor of its own. EX_OK and the node's
 * id, or an exit code after a report. */
must_check int join_cluster(const struct join_token *token, const struct join_disk *disk,
                            uint32_t *ret_node);
/* Is the disk already a node of the token's cluster? */
must_check bool join_is_done(const struct join_token *token, const char *path);

#endif
