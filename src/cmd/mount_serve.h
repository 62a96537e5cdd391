/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_MOUNT_SERVE_H
#define CFS_CMD_MOUNT_SERVE_H

/* The process behind a mount. */
struct mount_serve {
    const char *addresses;
    const char *path;    /* absolute */
    const char *options; /* of -o, or NULL */
    int ready_fd;        /* gets "ok" or a reason, or -1 */
};

/* Serve until unmounted. Returns an exit code. */
int mount_serve(const struct mount_serve *serve);

#endif
