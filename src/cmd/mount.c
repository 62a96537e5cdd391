/* SPDX-License-Identifier: MIT */
/* claudefs mount and umount: a background process that serves the kernel, and its end. */
#include "cmd/mount.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "cmd/mount_serve.h"
#include "cmd/process.h"
#include "cmd/report.h"

enum { READY_TIMEOUT_MS = 20000 };

/* ---- what is mounted ------------------------------------------------------------------------ */

/* Octal escapes of /proc/self/mounts. */
static void unescape(char *text)
{
    char *out = text;
    for (const char *in = text; *in; out++) {
        if (*in == '\\' && strlen(in) >= 4) {
            const char digits[4] = {in[1], in[2], in[3], '\0'};
            *out = (char)strtoul(digits, NULL, 8);
            in += 4;
        } else {
            *out = *in++;
        }
    }
    *out = '\0';
}

bool mount_present(const char *path)
{
    char line[4096];
    bool present = false;
    FILE *file = fopen("/proc/self/mounts", "re");
    if (!file)
        return false;
    while (!present && fgets(line, sizeof line, file)) {
        char *place = strchr(line, ' ');
        char *type = place ? strchr(place + 1, ' ') : NULL;
        if (!type)
            continue;
        *type++ = '\0';
        unescape(place + 1);
        present = strcmp(place + 1, path) == 0 && strncmp(type, "fuse.claudefs ", 14) == 0;
    }
    fclose(file);
    return present;
}

/* ---- start ---------------------------------------------------------------------------------- */

static int not_mounted(const struct mount_start *start, const char *why)
{
    return report_error(EX_UNAVAILABLE,
                        &(struct report){.what = "cannot mount",
                                         .where = start->path,
                                         .why = why,
                                         .effect = "nothing is mounted there",
                                         .fix = start->log_path
                                                    ? report_text("read %s", start->log_path)
                                                    : "run it with --foreground, or --log PATH"});
}

static int spawn(const struct mount_start *start, struct process_ready *ready)
{
    char dir[1024];
    int result = process_program_dir(dir, sizeof dir);
    if (result == 0)
        result = process_ready_open(ready);
    if (result < 0)
        return result;
    const char *argv[] = {report_text("%s/claudefs", dir),
                          "mount",
                          "--foreground",
                          "--ready-fd",
                          report_text("%d", ready->write_fd),
                          start->addresses,
                          start->path,
                          start->options ? "-o" : NULL,
                          start->options,
                          NULL};
    const struct process_spawn spawn = {
        .argv = argv,
        .log_path = start->log_path ? start->log_path : "/dev/null",
        .ready_write_fd = ready->write_fd,
    };
    int pid = process_spawn(&spawn);
    if (pid >= 0 && start->pid_path)
        result = process_write(start->pid_path, pid);
    if (pid < 0)
        return pid;
    return result == -ESRCH ? 0 : result; /* an early end shows on the pipe */
}

int mount_start(const struct mount_start *start)
{
    struct process_ready ready;
    char text[256];
    int result = spawn(start, &ready);
    if (result < 0)
        return not_mounted(start, strerror(-result));
    if (!process_ready_wait(&ready, READY_TIMEOUT_MS, text, sizeof text))
        return not_mounted(start, "its process ended, or did not get ready in time");
    return strcmp(text, "ok") == 0 ? EX_OK : not_mounted(start, text);
}

/* ---- end ------------------------------------------------------------------------------------ */

static int run_fusermount(const char *path, enum mount_end how)
{
    int status;
    int pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        execlp("fusermount3", "fusermount3", "-q", how == MOUNT_END_FORCE ? "-uz" : "-u", path,
               (char *)NULL);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) < 0)
        return -errno;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 127 ? -EPERM : -EBUSY;
}

int mount_end(const char *path, enum mount_end how)
{
    if (!mount_present(path))
        return -EINVAL;
    if (geteuid() != 0)
        return run_fusermount(path, how);
    int flags = UMOUNT_NOFOLLOW | (how == MOUNT_END_FORCE ? MNT_FORCE : 0);
    if (umount2(path, flags) == 0)
        return 0;
    if (how == MOUNT_END_FORCE && umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        return 0;
    return -errno;
}

/* ---- commands ------------------------------------------------------------------------------- */

/* An absolute path without links, as the kernel lists it. NULL after a report. */
static const char *absolute(const char *path)
{
    char *resolved = realpath(path, NULL);
    if (resolved)
        return resolved;           /* lives as long as the program */
    (void)report_error(EX_NOINPUT, /* the caller says so by NULL */
                       &(struct report){.what = "no such mount point",
                                        .where = path,
                                        .why = strerror(errno),
                                        .fix = "make the directory first"});
    return NULL;
}

int command_mount(const struct command_line *line)
{
    const char *path = absolute(line->arguments[1]);
    if (!path)
        return EX_NOINPUT;
    if (command_flag(line, "foreground")) {
        const struct mount_serve serve = {
            .addresses = line->arguments[0],
            .path = path,
            .options = command_value(line, "options"),
            .ready_fd = process_ready_fd(command_value(line, "ready-fd")),
        };
        return mount_serve(&serve);
    }
    const struct mount_start start = {
        .addresses = line->arguments[0],
        .path = path,
        .options = command_value(line, "options"),
        .log_path = command_value(line, "log"),
        .pid_path = command_value(line, "pid-file"),
    };
    return mount_start(&start);
}

int command_umount(const struct command_line *line)
{
    const char *path = line->arguments[0];
    if (!mount_present(path)) { /* as given, first: looking at a dead mount would fail */
        path = absolute(path);
        if (!path)
            return EX_NOINPUT;
    }
    int result = mount_end(path, command_flag(line, "force") ? MOUNT_END_FORCE : MOUNT_END_ORDERLY);
    if (result == 0)
        return EX_OK;
    return report_error(
        result == -EPERM ? EX_NOPERM : EX_UNAVAILABLE,
        &(struct report){.what = "cannot unmount",
                         .where = path,
                         .why = result == -EINVAL  ? "no ClaudeFS is mounted there"
                                : result == -EBUSY ? "files are open there, or it is somebody's "
                                                     "working directory"
                                                   : strerror(-result),
                         .effect = "nothing was changed",
                         .fix = result == -EBUSY ? "end those programs (fuser -vm PATH), or --force"
                                                 : NULL});
}
