/* SPDX-License-Identifier: MIT */
#include "cmd/demo_nodes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/assert.h"
#include "cmd/mount.h"
#include "cmd/report.h"

enum {
    PORT_FIRST = 20000, /* below the range from which outgoing connections are numbered */
    PORT_COUNT = 12000,
    READY_TIMEOUT_MS = 20000, /* recovery of a large journal included */
    STOP_TIMEOUT_MS = 5000,
    UNMOUNT_TIMEOUT_MS = 3000,
};

static const char memory_budget[] = "512M";

void demo_node_process(const struct demo *demo, uint32_t node, struct process *ret_process)
{
    process_read(demo_node_path(demo, node, "pid"), ret_process);
}

/* ---- places --------------------------------------------------------------------------------- */

static bool port_is_free(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    bool is_free = bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0;
    close(fd);
    return is_free;
}

static bool ports_are_free(uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!port_is_free((uint16_t)(first + i)))
            return false;
    }
    return true;
}

uint32_t demo_port_choose(const struct demo *demo, uint32_t after)
{
    uint32_t at = after ? after - PORT_FIRST
                        : (demo->cluster.bytes[0] * 256u + demo->cluster.bytes[1]) % PORT_COUNT;
    do
        at = (at + demo->reactors) % PORT_COUNT;
    while (!ports_are_free(PORT_FIRST + at, demo->reactors));
    return PORT_FIRST + at;
}

int demo_make_dirs(const char *path)
{
    char part[DEMO_PATH_MAX];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return -ENAMETOOLONG;
    for (char *slash = strchr(part + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash)
            *slash = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -errno;
        if (!slash)
            return 0;
        *slash = '/';
    }
}

static bool port_is_taken(const struct demo *demo, uint32_t port)
{
    for (uint32_t i = 0; i < demo->node_count; i++) {
        if (strcmp(demo->nodes[i].addr, report_text("127.0.0.1:%u", port)) == 0)
            return true;
    }
    return false;
}

int demo_node_plan(const struct demo *demo, uint32_t id, struct demo_node *ret_node)
{
    uint32_t port = demo_port_choose(demo, 0);
    while (port_is_taken(demo, port)) /* by one that is not running just now */
        port = demo_port_choose(demo, port);
    *ret_node = (struct demo_node){.id = id};
    snprintf(ret_node->name, sizeof ret_node->name, "node%u", id);
    snprintf(ret_node->addr, sizeof ret_node->addr, "127.0.0.1:%u", port);
    int result = demo_make_dirs(demo_node_path(demo, id, ""));
    if (result == 0)
        return EX_OK;
    return report_error(EX_CANTCREAT, &(struct report){.what = "cannot make the node's directory",
                                                       .where = demo_node_path(demo, id, ""),
                                                       .why = strerror(-result),
                                                       .effect = "nothing was changed"});
}

int demo_node_forget(struct demo *demo, uint32_t id)
{
    static const char *const files[] = {"disk", "log", "pid"};
    struct process process;
    uint32_t at = 0;
    while (at < demo->node_count && demo->nodes[at].id != id)
        at++;
    if (at == demo->node_count)
        return EX_OK;
    demo_node_process(demo, id, &process);
    if (process.state != PROCESS_GONE && !process_wait_gone(&process, STOP_TIMEOUT_MS))
        (void)process_signal(&process, SIGKILL); /* it has been told to end: nothing is lost */
    for (size_t i = 0; i < ARRAY_COUNT(files); i++)
        (void)unlink(demo_node_path(demo, id, files[i])); /* may be none */
    (void)rmdir(demo_node_path(demo, id, ""));
    demo->node_count--;
    memmove(&demo->nodes[at], &demo->nodes[at + 1],
            (demo->node_count - at) * sizeof demo->nodes[0]);
    int result = demo_dir_save(demo);
    if (result == 0)
        return EX_OK;
    return report_error(EX_CANTCREAT, &(struct report){.what = "cannot note that a node is gone",
                                                       .where = demo->dir,
                                                       .why = strerror(-result)});
}

/* ---- start ---------------------------------------------------------------------------------- */

static int spawn_server(const struct demo *demo, const struct demo_node *node,
                        struct process_ready *ready)
{
    char dir[DEMO_PATH_MAX];
    int result = process_program_dir(dir, sizeof dir);
    if (result == 0)
        result = process_ready_open(ready);
    if (result < 0)
        return result;
    char cluster[37];
    uuid_print(&demo->cluster, cluster);
    const char *argv[] = {report_text("%s/claudefsd", dir),
                          "--cluster",
                          cluster,
                          "--node",
                          report_text("%u", node->id),
                          "--disk",
                          demo_node_path(demo, node->id, "disk"),
                          "--memory",
                          memory_budget,
                          "--ready-fd",
                          report_text("%d", ready->write_fd),
                          NULL};
    const struct process_spawn spawn = {
        .argv = argv,
        .log_path = demo_node_path(demo, node->id, "log"),
        .ready_write_fd = ready->write_fd,
    };
    int pid = process_spawn(&spawn);
    if (pid < 0) {
        process_ready_say(ready->write_fd, "");
        close(ready->read_fd);
        return pid;
    }
    result = process_write(demo_node_path(demo, node->id, "pid"), pid);
    /* A process that has already ended is told apart by its silence on the pipe. */
    return result == -ESRCH ? 0 : result;
}

static int not_started(const struct demo *demo, const struct demo_node *node, const char *why)
{
    return report_error(
        EX_UNAVAILABLE,
        &(struct report){.what = report_text("cannot start %s", node->name),
                         .where = demo_node_path(demo, node->id, ""),
                         .why = why,
                         .effect = "the cluster runs without it as far as the copies allow",
                         .fix = report_text("read %s, then: claudefs demo start %u --dir %s",
                                            demo_node_path(demo, node->id, "log"), node->id,
                                            demo->dir)});
}

int demo_nodes_start(const struct demo *demo, const struct demo_node *only, uint32_t *ret_started)
{
    struct process_ready ready[DEMO_NODES_MAX];
    bool waiting[DEMO_NODES_MAX] = {false};
    uint32_t started = 0;
    int exit_code = EX_OK;
    for (uint32_t i = 0; i < demo->node_count; i++) {
        const struct demo_node *node = &demo->nodes[i];
        struct process process;
        demo_node_process(demo, node->id, &process);
        if ((only && only != node) || process.state != PROCESS_GONE)
            continue;
        int result = spawn_server(demo, node, &ready[i]);
        if (result < 0)
            exit_code = not_started(demo, node, strerror(-result));
        else
            waiting[i] = true;
    }
    for (uint32_t i = 0; i < demo->node_count; i++) {
        char text[256];
        if (!waiting[i])
            continue;
        started++;
        if (!process_ready_wait(&ready[i], READY_TIMEOUT_MS, text, sizeof text))
            exit_code =
                not_started(demo, &demo->nodes[i], "it ended, or did not get ready in time");
        else if (strcmp(text, "ok") != 0) {
            struct process process; /* it says why before it ends; its pid would pass as running */
            demo_node_process(demo, demo->nodes[i].id, &process);
            (void)process_wait_gone(&process, STOP_TIMEOUT_MS);
            exit_code = not_started(demo, &demo->nodes[i], text);
        }
    }
    if (ret_started)
        *ret_started = started;
    return exit_code;
}

/* ---- stop ----------------------------------------------------------------------------------- */

int demo_nodes_stop(const struct demo *demo)
{
    struct process processes[DEMO_NODES_MAX];
    int exit_code = EX_OK;
    for (uint32_t i = 0; i < demo->node_count; i++) {
        demo_node_process(demo, demo->nodes[i].id, &processes[i]);
        if (processes[i].state != PROCESS_GONE)
            (void)process_signal(&processes[i], /* gone meanwhile: as wanted */
                                 processes[i].state == PROCESS_STOPPED ? SIGKILL : SIGTERM);
    }
    for (uint32_t i = 0; i < demo->node_count; i++) {
        const char *pid_path = demo_node_path(demo, demo->nodes[i].id, "pid");
        if (!process_wait_gone(&processes[i], STOP_TIMEOUT_MS))
            (void)process_signal(&processes[i], SIGKILL); /* looked at below */
        if (process_wait_gone(&processes[i], STOP_TIMEOUT_MS))
            (void)unlink(pid_path); /* may not exist */
        else
            exit_code = report_error(
                EX_SOFTWARE,
                &(struct report){.what = report_text("cannot stop %s", demo->nodes[i].name),
                                 .where = report_text("process %d", processes[i].pid),
                                 .why = "it does not end even after SIGKILL (disk wait?)",
                                 .effect = "its files are left in place",
                                 .fix = "see /proc/PID/stack, then run: claudefs demo down"});
    }
    return exit_code;
}

/* ---- mount ---------------------------------------------------------------------------------- */

int demo_mount(const struct demo *demo, const char *path)
{
    const struct mount_start start = {
        .addresses = demo_addresses(demo),
        .path = path,
        .log_path = demo_path(demo, "mount.log"),
        .pid_path = demo_path(demo, "mount.pid"),
    };
    return mount_start(&start);
}

int demo_unmount(const struct demo *demo)
{
    struct process process;
    const char *pid_path = demo_path(demo, "mount.pid");
    process_read(pid_path, &process);
    int result = demo->mount[0] ? mount_end(demo->mount, MOUNT_END_ORDERLY) : 0;
    if (result < 0 && result != -EINVAL && result != -ENOENT) {
        fprintf(stderr,
                "claudefs: %s: %s; it is detached, and files that are still open there fail\n",
                demo->mount, strerror(-result));
        (void)mount_end(demo->mount, MOUNT_END_FORCE); /* seen below: its process ends */
    }
    if (!process_wait_gone(&process, UNMOUNT_TIMEOUT_MS)) {
        (void)process_signal(&process, SIGKILL); /* looked at below */
        if (!process_wait_gone(&process, UNMOUNT_TIMEOUT_MS))
            return report_error(
                EX_SOFTWARE,
                &(struct report){
                    .what = "the mount's process does not end",
                    .where = report_text("process %d, %s", process.pid, demo->mount),
                    .fix = report_text("umount -f %s, then: claudefs demo down", demo->mount)});
    }
    (void)unlink(pid_path); /* may not exist */
    return EX_OK;
}
