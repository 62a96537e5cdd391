/* SPDX-License-Identifier: MIT */
#ifndef CFS_FRONT_FUSE_FUSE_H
#define CFS_FRONT_FUSE_FUSE_H

/* A mount: the kernel's FUSE requests translated to client verbs.
 *
 * The usual life, in a fiber of a Linux reactor:
 *
 *     result = fuse_front_run(client, &options);   // mounts, serves, returns after the unmount
 *
 * options.ready is called once the kernel has been answered for the first time: the mount works
 * from then on (time to daemonize). Whoever ends the mount (umount, umount -f, fusermount3 -u, the
 * abort file of the fuse control file system, fuse_front_unmount), fuse_front_run returns 0
 * shortly after, even if servers do not answer. */

#include "client/client.h"

struct fuse_options {
    const char *mountpoint; /* absolute, an existing directory */
    const char *source;     /* what mount(8) shows; NULL: "claudefs" */
    /* How long the kernel believes names and attributes. The default of one second holds until
     * leases exist; 0: it asks every time. Should equal client_options.attr_ttl_ns. */
    uint64_t entry_timeout_ns;
    uint64_t attr_timeout_ns;
    bool read_only;
    bool private;      /* only for the mounting user; else for all, as file modes allow */
    uint32_t channels; /* device descriptors served; 0: one */
    void (*ready)(void *context);
    void *context;
};
#define FUSE_TIMEOUT_DEFAULT_NS NS_PER_S

/* Mount (nodev, nosuid) and serve. 0 after an unmount; else nothing is mounted: -EPERM, -EACCES,
 * -ENOENT, -ENOTDIR, -ENODEV (no /dev/fuse), -EPROTO (kernel too old), -EIO (fusermount3 failed).
 * The reason has been logged. */
may_yield must_check int fuse_front_run(struct client *client, const struct fuse_options *options);

/* Ask the kernel to end the mount at once for new users, and for good when nobody uses it any
 * more (lazily). Does not wait. For signal handlers on the reactor. 0 or -errno. */
must_check int fuse_front_unmount(const char *mountpoint);

#endif
