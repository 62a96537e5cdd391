/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_WIRE_NET_H
#define CFS_FORMAT_WIRE_NET_H

#include "format/rpc.h"

/* First message of a connection. cluster all zero: the caller does not know it yet (a client that
 * asks for the map). The reply says who answers. What a caller (node, incarnation and session)
 * sends on a connection is void as soon as its next one to the same place has said HELLO. */
struct wire_hello_req {
    struct wire_body body;
    struct format_uuid cluster;
    uint32_t node;        /* caller's node id, 0 for a client */
    uint32_t level;       /* highest protocol level the caller speaks */
    uint64_t incarnation; /* of the calling process */
    uint64_t session;     /* client session, 0 for a node */
    uint64_t connection;  /* grows with every connection of the caller; 0: it does not count */
};
FORMAT_SIZE(struct wire_hello_req, 56);

struct wire_hello_rep {
    struct wire_body body;
    struct format_uuid cluster;
    uint32_t node;
    uint32_t level;
    uint64_t incarnation;
};
FORMAT_SIZE(struct wire_hello_rep, 40);

struct wire_ping_req {
    struct wire_body body;
};
FORMAT_SIZE(struct wire_ping_req, 8);
struct wire_ping_rep {
    struct wire_body body;
};
FORMAT_SIZE(struct wire_ping_rep, 8);

#endif
