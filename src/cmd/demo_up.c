/* SPDX-License-Identifier: MIT */
/* claudefs demo up: from nothing, or from a cluster that was put down, to a mounted file system. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/errors.h"
#include "cmd/demo.h"
#include "cmd/demo_nodes.h"
#include "cmd/format.h"
#include "cmd/mount.h"
#include "cmd/report.h"
#include "cmd/status.h"
#include "env/linux.h"

enum {
    SIZE_MIN = 1 << 30, /* the store's reserves need most of what is smaller */
    REACTORS_MAX = 16,
    USABLE_TIMEOUT_MS = 15000,
};

static void choose_addresses(struct demo *demo)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < demo->node_count; i++) {
        at = demo_port_choose(demo, at);
        struct demo_node *node = &demo->nodes[i];
        node->id = i + 1;
        snprintf(node->name, sizeof node->name, "node%u", node->id);
        snprintf(node->addr, sizeof node->addr, "127.0.0.1:%u", at);
    }
}

static int format_disks(const struct demo *demo)
{
    struct cluster_plan plan = {
        .cluster = demo->cluster, .copies = demo->copies, .reactors = demo->reactors};
    for (uint32_t i = 0; i < demo->node_count; i++) {
        int result = cluster_plan_add(&plan, demo->nodes[i].addr, demo->size_bytes);
        if (result < 0)
            return result;
    }
    cluster_plan_finish(&plan);
    for (uint32_t i = 0; i < demo->node_count; i++) {
        const struct cluster_disk disk = {
            .path = demo_node_path(demo, i + 1, "disk"),
            .size_bytes = demo->size_bytes,
            .force = true, /* left over from a demo up that was interrupted: no cluster.json yet */
        };
        int result = demo_make_dirs(demo_node_path(demo, i + 1, ""));
        if (result == 0)
            result = cluster_format_disk(&plan, i + 1, &disk);
        if (result < 0)
            return result;
    }
    return 0;
}

static const char *why_not(const struct demo *demo, int result)
{
    if (result == -E2BIG)
        return report_text("%u nodes with %u reactors each are too many", demo->node_count,
                           demo->reactors);
    if (result == -ENOSPC)
        return report_text("no space, or --size is too small for %u reactors of 1 GiB",
                           demo->reactors);
    return error_text(result);
}

static int create(const struct command_line *line, struct demo *demo)
{
    uint64_t nodes = 3;
    uint64_t copies = 2;
    uint64_t reactors = 0;
    demo->size_bytes = 8 * GIB;
    if (!command_number(line, "nodes", 1, DEMO_NODES_MAX, &nodes) ||
        !command_number(line, "copies", 1, 3, &copies) ||
        !command_number(line, "reactors", 1, REACTORS_MAX, &reactors) ||
        !command_size(line, "size", SIZE_MIN, 64 * TIB, &demo->size_bytes))
        return EX_USAGE;
    demo->node_count = (uint32_t)nodes;
    demo->copies = (uint32_t)MIN(copies, nodes);
    demo->size_bytes = round_down(demo->size_bytes, 4096);
    demo->reactors = (uint32_t)reactors;
    if (reactors == 0) /* the nodes share this machine */
        demo->reactors = cluster_default_reactors(linux_core_count() / demo->node_count,
                                                  demo->node_count, demo->size_bytes);
    cluster_new_id(&demo->cluster);
    choose_addresses(demo);
    int result = demo_make_dirs(demo->dir);
    if (result == 0)
        result = format_disks(demo);
    if (result == 0)
        result = demo_dir_save(demo);
    if (result < 0)
        return report_error(
            report_exit_code(result),
            &(struct report){.what = "cannot make a demo cluster",
                             .where = demo->dir,
                             .why = why_not(demo, result),
                             .effect = "nothing was started",
                             .fix = "choose other options, or another directory with --dir"});
    return EX_OK;
}

static int load_or_create(const struct command_line *line, struct demo *demo)
{
    char path[DEMO_PATH_MAX];
    const char *why;
    int result = demo_dir_resolve(command_value(line, "dir"), path);
    if (result == 0)
        result = demo_dir_load(path, demo, &why);
    if (result != -ENOENT) {
        int exit_code = demo_dir_require(command_value(line, "dir"), demo);
        if (exit_code == EX_OK && (command_flag(line, "nodes") || command_flag(line, "copies") ||
                                   command_flag(line, "size") || command_flag(line, "reactors")))
            return report_error(
                EX_USAGE,
                &(struct report){.what = "there is a demo cluster already, made with other options",
                                 .where = demo->dir,
                                 .effect = "nothing was started or changed",
                                 .fix = "start it without --nodes, --copies, --size, --reactors; "
                                        "or remove it with: claudefs demo down --wipe"});
        return exit_code;
    }
    *demo = (struct demo){0};
    memcpy(demo->dir, path, sizeof demo->dir);
    return create(line, demo);
}

static int mount_it(const struct command_line *line, struct demo *demo)
{
    const char *given = command_value(line, "mount");
    const char *path = given ? given : demo_path(demo, "mnt");
    if (demo->mount[0] && mount_present(demo->mount))
        return EX_OK;
    if (given && given[0] != '/') {
        char here[DEMO_PATH_MAX];
        if (getcwd(here, sizeof here))
            path = report_text("%s/%s", here, given);
    }
    int result = demo_make_dirs(path);
    if (result == 0 && snprintf(demo->mount, sizeof demo->mount, "%s", path) >= DEMO_PATH_MAX)
        result = -ENAMETOOLONG;
    if (result == 0)
        result = demo_dir_save(demo); /* before mounting, so that demo down knows */
    if (result < 0)
        return report_error(report_exit_code(result),
                            &(struct report){.what = "cannot make the mount point",
                                             .where = path,
                                             .why = strerror(-result),
                                             .effect = "the cluster runs, but is not mounted",
                                             .fix = "name another one with --mount PATH"});
    return demo_mount(demo, path);
}

static void print_next(const struct demo *demo, bool is_default)
{
    const char *dir = is_default ? "" : report_text(" --dir %s", demo->dir);
    const char *name = process_program_name();
    printf("\ntry next:\n");
    if (demo->mount[0] && mount_present(demo->mount))
        printf("  cp -a /usr/include %s/        work in it as in any directory\n", demo->mount);
    else
        printf("  %s cp -r /usr/include cfs:/%s\n", name, dir);
    printf("  %s demo kill 2%s     a node dies; nothing is lost, nothing stops for long\n"
           "  %s status%s\n"
           "  %s demo start 2%s    it comes back and catches up\n"
           "  %s demo add%s        a further server; its share of the data moves there\n"
           "  %s demo down%s       stop all; --wipe removes every trace\n",
           name, dir, name, dir, name, dir, name, dir, name, dir);
}

int command_demo_up(const struct command_line *line)
{
    struct demo demo;
    uint64_t begin_ms = process_now_ms();
    int exit_code = load_or_create(line, &demo);
    if (exit_code != EX_OK)
        return exit_code;
    exit_code = demo_nodes_start(&demo, NULL, NULL);
    if (exit_code != EX_OK)
        return exit_code;
    exit_code = status_wait_usable(demo_addresses(&demo), USABLE_TIMEOUT_MS);
    if (exit_code != EX_OK)
        return exit_code;
    if (!command_flag(line, "no-mount"))
        exit_code = mount_it(line, &demo);
    if (exit_code != EX_OK) {
        fprintf(stderr,
                "claudefs: the cluster runs, without a mount: claudefs ls, cp, cat ... work; "
                "claudefs demo down stops it\n");
        return exit_code;
    }
    double seconds = (double)(process_now_ms() - begin_ms) / 1000;
    exit_code = status_show(demo_addresses(&demo), &demo);
    printf("\nready in %.1f s", seconds);
    if (demo.mount[0] && mount_present(demo.mount))
        printf(", mounted at %s", demo.mount);
    printf("\n");
    print_next(&demo, command_value(line, "dir") == NULL);
    return exit_code == 2 ? EX_UNAVAILABLE : EX_OK;
}
