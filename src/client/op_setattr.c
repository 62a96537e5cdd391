/* SPDX-License-Identifier: MIT */
/* Attributes set by the user, and the file's size.
 *
 * One call may ask for several things; the size goes first, by a request of its own, because it
 * may fail (-ENOSPC, -EFBIG) and the times that come with it are to be kept. */
#include "client/client_internal.h"

#include <sys/stat.h>

#include "base/assert.h"

enum {
    SET_PLAIN = META_SET_MODE | META_SET_UID | META_SET_GID | META_SET_ATIME | META_SET_MTIME |
                META_SET_ATIME_NOW | META_SET_MTIME_NOW,
};

/* The set-id bits that POSIX and the kernel want gone. */
static uint32_t mode_without_privilege(uint32_t mode)
{
    mode &= ~(uint32_t)S_ISUID;
    if (mode & S_IXGRP)
        mode &= ~(uint32_t)S_ISGID;
    return mode;
}

static int set_size(struct client *client, const struct client_cred *cred, uint64_t ino,
                    uint64_t size, struct wire_attr *ret_attr)
{
    if (size > META_FILE_SIZE_MAX)
        return -EFBIG;
    struct meta_call meta = {.type = RPC_TRUNCATE, .req = {.ino = ino, .size = size}};
    return meta_call_attr(client, cred, &meta, ret_attr);
}

static int set_plain(struct client *client, const struct client_cred *cred, uint64_t ino,
                     const struct client_setattr *set, struct wire_attr *ret_attr)
{
    struct meta_call meta = {
        .type = RPC_SETATTR,
        .req =
            {
                .ino = ino,
                .valid = set->valid & SET_PLAIN,
                .mode = set->mode,
                .uid2 = set->uid,
                .gid2 = set->gid,
                .atime_ns = set->atime_ns,
                .mtime_ns = set->mtime_ns,
            },
    };
    return meta_call_attr(client, cred, &meta, ret_attr);
}

/* Add the mode change that a write by somebody without privilege brings with it. */
static int add_kill_priv(struct client *client, uint64_t ino, struct client_setattr *set)
{
    struct wire_attr attr;
    int result = client_getattr_plain(client, NULL, ino, &attr);
    if (result < 0 || S_ISDIR(attr.mode))
        return result;
    uint32_t mode = mode_without_privilege(attr.mode);
    if (mode != attr.mode) {
        set->valid |= META_SET_MODE;
        set->mode = mode & 07777;
    }
    return 0;
}

static int setattr_locked(struct client *client, const struct client_cred *cred, uint64_t ino,
                          struct client_setattr *set, struct wire_attr *ret_attr)
{
    bool kill_priv = (set->valid & CLIENT_KILL_PRIV) && !(set->valid & META_SET_MODE);
    int result = kill_priv ? add_kill_priv(client, ino, set) : 0;
    if (result == 0 && (set->valid & META_SET_SIZE))
        result = set_size(client, cred, ino, set->size, ret_attr);
    if (result == 0 && (set->valid & SET_PLAIN))
        result = set_plain(client, cred, ino, set, ret_attr);
    if (result == 0 && !(set->valid & (SET_PLAIN | META_SET_SIZE)))
        result = client_getattr_plain(client, cred, ino, ret_attr);
    return result;
}

int client_setattr(struct client *client, const struct client_cred *cred, uint64_t ino,
                   const struct client_setattr *set, struct wire_attr *ret_attr)
{
    struct client_setattr wanted = *set;
    struct wire_attr attr;
    struct client_inode *inode = client_inode_find(client, ino);
    if (!inode) {
        int result = setattr_locked(client, cred, ino, &wanted, &attr);
        if (result == 0)
            *ret_attr = attr;
        return result;
    }
    client_inode_get(inode);
    int result = client_inode_flush(inode); /* I7 */
    fiber_mutex_lock(&inode->meta_lock);
    if (wanted.valid & (META_SET_MTIME | META_SET_MTIME_NOW))
        inode->mtime_lazy_ns = 0; /* what the user says now counts */
    if (result == 0)
        result = setattr_locked(client, cred, ino, &wanted, &attr);
    fiber_mutex_unlock(&inode->meta_lock);
    client_inode_put(inode);
    if (result == 0)
        *ret_attr = attr;
    return result;
}
