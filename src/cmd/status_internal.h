/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_STATUS_INTERNAL_H
#define CFS_CMD_STATUS_INTERNAL_H

#include "cmd/demo_dir.h"
#include "cmd/session.h"
#include "cmd/status.h"
#include "format/wire_map.h"

enum { STATUS_NODES_MAX = MAP_NODES_MAX, STATUS_REASONS_MAX = 16, STATUS_ROWS_MAX = 1024 };

/* One reactor of a node: what the map calls a node. */
struct status_target {
    uint32_t id;
    uint32_t host;
    char addr[NET_ADDR_TEXT_MAX];
    const char *state; /* as below */
    bool answered;
    bool voter;
    bool leaving; /* as the operator wants */
    uint32_t groups;
    uint32_t primaries;
    struct wire_status_rep reply; /* only size_bytes if it did not answer */
};

/* What people call a node: a process, all its targets together. */
struct status_node {
    uint32_t id; /* host */
    char name[MAP_NAME_BYTES];
    char addr[NET_ADDR_TEXT_MAX];
    /* That of the worst: up, joining, new, drains, drained, silent, down, removed, unreachable. */
    const char *state;
    const char *note;
    bool answered; /* one of them did */
    bool voter;
    bool leaving;
    struct wire_status_rep reply; /* sums; zero if none answered */
};

struct status_job {
    uint32_t node; /* host that catches up */
    struct wire_status_group group;
};

struct status_protect {
    uint64_t full_bytes;
    uint64_t degraded_bytes;
    uint64_t lost_bytes;
    uint32_t full_groups;
    uint32_t degraded_groups;
    uint32_t lost_groups;
};

/* All that is known at one moment. */
struct status_view {
    const char *addresses;
    bool has_map;
    struct map_header map;
    uint32_t leader; /* host */
    uint32_t wanted_copies;
    struct status_node nodes[STATUS_NODES_MAX];
    uint32_t node_count;
    struct status_target targets[STATUS_NODES_MAX];
    uint32_t target_count;
    struct status_job jobs[STATUS_ROWS_MAX];
    uint32_t job_count;
    struct wire_status_client clients[STATUS_ROWS_MAX];
    uint32_t client_count;
    struct status_protect protect;
    enum status_health health;
    const char *reasons[STATUS_REASONS_MAX];
    uint32_t reason_count;
};

/* Ask all nodes. Always fills ret_view; a cluster that does not answer is a status too. */
void status_gather(const struct session_seeds *seeds, struct status_view *ret_view);
/* Add what the pid files of a demo know. */
void status_add_demo(struct status_view *view, const struct demo *demo);
void status_print_text(const struct status_view *view);
void status_print_json(const struct status_view *view);

#endif
