/* SPDX-License-Identifier: MIT */
#include "cluster_fsck.h"

#include <stdio.h>

#include "base/assert.h"

enum { TOLD_MAX = 20, MEMORY_MIB = 256, TABLE_BYTES = 16 << 10 /* so it takes several passes */ };

struct check {
    struct cluster *cluster;
    struct fsck_counts *counts;
    uint32_t wrong;
    bool whole;
    bool done;
};

static void found(void *context, enum fsck_kind kind, const char *where)
{
    struct check *check = context;
    bool lags = kind == FSCK_LAGS || kind == FSCK_INCOMPLETE;
    bool wrong = fsck_level(kind) != FSCK_NOTE || kind == FSCK_DOUBT || (lags && check->whole);
    if (wrong && check->wrong++ < TOLD_MAX)
        printf("fsck: %s: %s\n", fsck_what(kind), where);
}

static void check_fiber(void *arg)
{
    struct check *check = arg;
    const char *disks[CLUSTER_NODES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < check->cluster->node_count; i++) {
        if (!check->cluster->members[i].removed)
            disks[count++] = check->cluster->members[i].disk;
    }
    const struct node_fsck_options options = {
        .disks = disks,
        .disk_count = count,
        .memory_bytes = MAX(MEMORY_MIB * MIB, node_fsck_memory_min(check->cluster->node_count)),
        .table_bytes = TABLE_BYTES,
        .read_data = true,
        .fn = found,
        .context = check,
    };
    node_fsck(&options, check->counts);
    check->done = true;
}

static bool is_done(void *context)
{
    return ((struct check *)context)->done;
}

uint32_t cluster_fsck(struct cluster *cluster, bool whole, struct fsck_counts *ret_counts)
{
    struct check check = {.cluster = cluster, .counts = ret_counts, .whole = whole};
    struct sim *sim = cluster->sim;
    if (cluster->inspector)
        sim_node_restart(cluster->inspector);
    else
        cluster->inspector = sim_node_new(sim, "10.0.1.1");
    reactor_spawn(sim_node_reactor(cluster->inspector), "fsck", check_fiber, &check);
    bool checked = sim_run_until(sim, is_done, &check, sim_now_ns(sim) + 600 * NS_PER_S);
    assert(checked);
    sim_node_crash(cluster->inspector); /* with all it holds */
    return check.wrong;
}
