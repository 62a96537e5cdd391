/* SPDX-License-Identifier: MIT */
#include "client/client_internal.h"

#include <sys/stat.h>

int client_mknod(struct client *client, const struct client_cred *cred,
                 const struct client_place *place, uint32_t mode, uint32_t rdev,
                 struct wire_attr *ret_attr)
{
    int result = name_check(place->name);
    if (result < 0)
        return result;
    struct meta_call meta = {
        .type = S_ISDIR(mode) ? RPC_MKDIR : RPC_MKNOD,
        .req = {.ino = place->dir, .mode = mode, .rdev = rdev},
        .name = place->name,
    };
    return meta_call_attr(client, cred, &meta, ret_attr);
}

int client_symlink(struct client *client, const struct client_cred *cred,
                   const struct client_place *place, struct slice target,
                   struct wire_attr *ret_attr)
{
    int result = name_check(place->name);
    if (result < 0)
        return result;
    if (target.bytes == 0)
        return -ENOENT;
    if (target.bytes > META_SYMLINK_MAX)
        return -ENAMETOOLONG;
    struct meta_call meta = {
        .type = RPC_SYMLINK, .req.ino = place->dir, .name = place->name, .value = target};
    return meta_call_attr(client, cred, &meta, ret_attr);
}

/* What is there cannot be opened by CREATE: its inode lives in another group. */
static int open_existing(struct client *client, const struct client_cred *cred,
                         const struct client_place *place, struct client_file **ret_file)
{
    struct wire_attr attr;
    int result = client_lookup(client, cred, place->dir, place->name, &attr);
    if (result < 0)
        return result;
    return S_ISREG(attr.mode) ? client_open(client, cred, attr.ino, ret_file) : -ESTALE;
}

int client_create(struct client *client, const struct client_cred *cred,
                  const struct client_place *place, uint32_t mode, bool excl,
                  struct client_file **ret_file)
{
    int result = name_check(place->name);
    if (result < 0)
        return result;
    struct meta_call meta = {
        .type = RPC_CREATE,
        .req = {.ino = place->dir, .mode = mode, .flags = META_OPEN},
        .name = place->name,
    };
    if (excl)
        meta.req.flags |= META_CREATE_EXCL;
    struct wire_attr attr;
    uint64_t asked_ns = env_now_ns();
    result = meta_call_attr(client, cred, &meta, &attr);
    if (result == -ESTALE && !excl)
        return open_existing(client, cred, place, ret_file);
    if (result < 0)
        return result;
    struct client_inode *inode = client_inode_take(client, attr.ino);
    client_inode_learn(inode, &meta, asked_ns);
    if (attr.size == 0 && client_inode_inline(inode))
        client_inode_inline_put(inode, (struct slice){0}, asked_ns);
    *ret_file = client_file_new(inode, &meta);
    return 0;
}
