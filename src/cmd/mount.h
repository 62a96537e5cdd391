/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_MOUNT_H
#define CFS_CMD_MOUNT_H

#include "cmd/command.h"

struct mount_start {
    const char *addresses; /* HOST:PORT,... */
    const char *path;
    const char *options;  /* of -o, or NULL */
    const char *log_path; /* NULL: /dev/null */
    const char *pid_path; /* NULL: none */
};

/* Start the FUSE process in the background; returns when the mount is usable. 0 or an exit code
 * after a report. */
must_check int mount_start(const struct mount_start *start);

enum mount_end {
    MOUNT_END_ORDERLY, /* -EBUSY while files are open there */
    MOUNT_END_FORCE,   /* whatever is under way there fails */
};
/* 0, -EINVAL or -ENOENT (nothing is mounted there), -EBUSY, -EPERM. */
int mount_end(const char *path, enum mount_end how);
/* Is a ClaudeFS mounted at path? Does not touch the mount itself. */
bool mount_present(const char *path);

int command_mount(const struct command_line *line);
int command_umount(const struct command_line *line);

#endif
