/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_MOUNT_OPTIONS_H
#define CFS_CMD_MOUNT_OPTIONS_H

#include "base/defs.h"

/* What "-o a,b=c" asks for. */
struct mount_options {
    bool read_only;
    bool private_mount;     /* only for the user who mounts */
    bool hard;              /* wait for ever instead of failing after io_timeout */
    uint64_t io_timeout_ns; /* 0: default */
    uint64_t attr_timeout_ns;
    uint32_t channels;
};

/* list may be NULL. 0, or -EINVAL with a sentence in ret_why. */
must_check int mount_options_parse(const char *list, struct mount_options *ret_options,
                                   const char **ret_why);

#endif
