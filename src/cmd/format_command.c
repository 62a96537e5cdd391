/* SPDX-License-Identifier: MIT */
/* The command line of a format, of claudefsd --format and claudefs device format alike. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/errors.h"
#include "cmd/demo_dir.h"
#include "cmd/device_probe.h"
#include "cmd/format.h"
#include "cmd/report.h"
#include "env/linux.h"

/* Each replica costs memory, and in the beginning few nodes hold all of them. */
enum { GROW_MAX = 64 };

static int bad_plan(const char *why)
{
    return report_error(
        EX_USAGE, &(struct report){.what = "cannot format",
                                   .why = why,
                                   .effect = "nothing was written",
                                   .fix = "needs --node N, --cluster UUID and "
                                          "--nodes ADDR,ADDR,... (the same list on every node)"});
}

/* Add the hosts of a list of addresses. The exit code. */
static int add_nodes(struct cluster_plan *plan, const char *nodes, uint32_t count,
                     uint64_t size_bytes)
{
    for (const char *at = nodes; *at;) {
        size_t bytes = strcspn(at, ",");
        const char *addr = report_text("%.*s", (int)bytes, at);
        int result = cluster_plan_add(plan, addr, size_bytes);
        if (result == -E2BIG)
            return bad_plan(report_text("%u reactors on each of %u nodes are more than %u",
                                        plan->reactors, count, DISK_NODE_CONFIG_NODES_MAX));
        if (result < 0)
            return bad_plan(report_text("'%s' is not an address", addr));
        at += bytes + (at[bytes] == ',');
    }
    return EX_OK;
}

int cluster_format_command(const struct command_line *line, const char *disk_path)
{
    struct cluster_plan plan = {.copies = 2, .reactors = 1};
    struct cluster_disk disk = {.path = disk_path, .force = command_flag(line, "force")};
    uint64_t node = 0;
    uint64_t copies = 2;
    uint64_t reactors = 0;
    uint64_t grow_to = 0;
    const char *nodes = command_value(line, "nodes");
    const char *cluster = command_value(line, "cluster");
    if (!command_number(line, "node", 1, DISK_NODE_CONFIG_NODES_MAX, &node) ||
        !command_number(line, "copies", 1, 3, &copies) ||
        !command_number(line, "reactors", 1, DISK_NODE_CONFIG_NODES_MAX, &reactors) ||
        !command_number(line, "grow-to", 1, MAP_NODES_MAX, &grow_to) ||
        !command_size(line, "size", 512 * MIB, 1024 * TIB, &disk.size_bytes))
        return EX_USAGE;
    if (!nodes || !cluster || !node)
        return bad_plan("an option is missing");
    if (uuid_parse(cluster, &plan.cluster) < 0)
        return bad_plan("--cluster is not an id (make one with uuidgen)");
    plan.copies = (uint32_t)copies;
    plan.grow_to = (uint32_t)grow_to;
    uint32_t node_count = 1;
    for (const char *at = nodes; *at; at++)
        node_count += *at == ',';
    plan.reactors = (uint32_t)reactors;
    if (reactors == 0 && device_is_zoned(disk_path))
        plan.reactors = 1;
    else if (reactors == 0)
        plan.reactors =
            cluster_default_reactors(linux_core_count(), node_count, cluster_disk_bytes(&disk));
    int exit_code = add_nodes(&plan, nodes, node_count, disk.size_bytes);
    if (exit_code != EX_OK)
        return exit_code;
    if (grow_to > (uint64_t)GROW_MAX * plan.host_count)
        return bad_plan(
            report_text("--grow-to is more than %d times the number of addresses", GROW_MAX));
    if (node > plan.host_count)
        return bad_plan("--node is larger than the number of addresses");
    cluster_plan_finish(&plan);
    exit_code = device_refuse(disk_path, disk.force);
    if (exit_code != EX_OK)
        return exit_code;
    int result = cluster_format_disk(&plan, (uint32_t)node, &disk);
    if (result < 0)
        return report_error(
            report_exit_code(result),
            &(struct report){
                .what = "cannot format",
                .where = disk_path,
                .why = result == -EEXIST ? "there is something on it"
                       : result == -ENOSPC
                           ? report_text("it is too small for %u reactors", plan.reactors)
                           : error_text(result),
                .effect = result == -EEXIST || result == -ENOSPC ? "it was left as it is" : NULL,
                .fix = result == -EEXIST   ? "look at it; --force overwrites it"
                       : result == -ENOSPC ? "fewer --reactors: each needs 1 GiB"
                                           : NULL});
    printf("%s is formatted for node %u of %u, %u reactor%s\n", disk_path, (unsigned)node,
           plan.host_count, plan.reactors, plan.reactors == 1 ? "" : "s");
    return EX_OK;
}
