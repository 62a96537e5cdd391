/* SPDX-License-Identifier: MIT */
/* claudefs demo: clusters of processes on this machine, to try things with. */
#include "cmd/demo.h"

#include <errno.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "cmd/demo_nodes.h"
#include "cmd/report.h"

static int no_such_node(const struct demo *demo, const char *text)
{
    return report_error(EX_USAGE,
                        &(struct report){.what = report_text("there is no node '%s'", text),
                                         .where = demo->dir,
                                         .fix = report_text("use 1 to %u, or node1 to node%u",
                                                            demo->node_count, demo->node_count)});
}

static int signal_number(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } rows[] = {{"KILL", SIGKILL}, {"STOP", SIGSTOP}, {"CONT", SIGCONT}, {"TERM", SIGTERM}};
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].number;
    }
    return -EINVAL;
}

int command_demo_kill(const struct command_line *line)
{
    const char *name = command_value(line, "signal");
    int number = name ? signal_number(name) : SIGKILL;
    if (number < 0)
        return report_error(EX_USAGE,
                            &(struct report){.what = report_text("no such signal: %s", name),
                                             .fix = "use KILL, STOP, CONT or TERM"});
    struct demo demo;
    int exit_code = demo_dir_require(command_value(line, "dir"), &demo);
    if (exit_code != EX_OK)
        return exit_code;
    const struct demo_node *node = demo_find_node(&demo, line->arguments[0]);
    if (!node)
        return no_such_node(&demo, line->arguments[0]);
    struct process process;
    demo_node_process(&demo, node->id, &process);
    int result = process_signal(&process, number);
    if (result < 0)
        return report_error(
            EX_UNAVAILABLE,
            &(struct report){.what = report_text("cannot signal %s", node->name),
                             .where = demo_node_path(&demo, node->id, "pid"),
                             .why = result == -ESRCH ? "it is not running" : strerror(-result),
                             .effect = "nothing was done",
                             .fix = report_text("claudefs demo start %u", node->id)});
    if (number == SIGKILL || number == SIGTERM)
        (void)process_wait_gone(&process, 5000); /* the message says what was done, no more */
    static const char *const texts[] = {[SIGKILL] = "was killed",
                                        [SIGSTOP] = "was stopped",
                                        [SIGCONT] = "goes on",
                                        [SIGTERM] = "was asked to end"};
    printf("%s (process %d) %s\n", node->name, process.pid, texts[number]);
    return EX_OK;
}

int command_demo_start(const struct command_line *line)
{
    struct demo demo;
    int exit_code = demo_dir_require(command_value(line, "dir"), &demo);
    if (exit_code != EX_OK)
        return exit_code;
    const struct demo_node *node = demo_find_node(&demo, line->arguments[0]);
    if (!node)
        return no_such_node(&demo, line->arguments[0]);
    uint32_t started;
    exit_code = demo_nodes_start(&demo, node, &started);
    if (exit_code == EX_OK) {
        struct process process;
        demo_node_process(&demo, node->id, &process);
        printf("%s %s (process %d)\n", node->name, started ? "started" : "is running already",
               process.pid);
    }
    return exit_code;
}

/* Remove exactly what demo up made. */
static int wipe(const struct demo *demo, bool is_default)
{
    static const char *const files[] = {"cluster.json", "mount.log", "mount.pid"};
    static const char *const node_files[] = {"disk", "log", "pid"};
    for (uint32_t i = 0; i < demo->node_count; i++) {
        for (size_t j = 0; j < ARRAY_COUNT(node_files); j++)
            (void)unlink(demo_node_path(demo, demo->nodes[i].id, node_files[j])); /* may be none */
        (void)rmdir(demo_node_path(demo, demo->nodes[i].id, ""));
    }
    for (size_t i = 0; i < ARRAY_COUNT(files); i++)
        (void)unlink(demo_path(demo, files[i]));
    (void)rmdir(demo_path(demo, "mnt"));
    if (rmdir(demo->dir) == 0 || errno == ENOENT) {
        char parent[DEMO_PATH_MAX];
        if (is_default && demo_dir_resolve(NULL, parent) == 0)
            (void)rmdir(dirname(parent)); /* ~/.claudefs, if nothing else is in it */
        return EX_OK;
    }
    return report_error(
        EX_CANTCREAT,
        &(struct report){.what = "some files were left in place",
                         .where = demo->dir,
                         .why = errno == ENOTEMPTY ? "they are not of our making" : strerror(errno),
                         .fix = "look at them and remove the directory"});
}

int command_demo_down(const struct command_line *line)
{
    struct demo demo;
    int exit_code = demo_dir_require(command_value(line, "dir"), &demo);
    if (exit_code != EX_OK)
        return exit_code;
    exit_code = demo_unmount(&demo);
    int stopped = demo_nodes_stop(&demo);
    if (exit_code == EX_OK)
        exit_code = stopped;
    if (exit_code == EX_OK && command_flag(line, "wipe"))
        exit_code = wipe(&demo, command_value(line, "dir") == NULL);
    if (exit_code == EX_OK)
        printf("demo cluster in %s is down%s\n", demo.dir,
               command_flag(line, "wipe") ? ", its files are removed"
                                          : "; its files are kept (--wipe removes them)");
    return exit_code;
}
