/* SPDX-License-Identifier: MIT */
#include "client/client_internal.h"

#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"

int client_getattr_plain(struct client *client, const struct client_cred *cred, uint64_t ino,
                         struct wire_attr *ret_attr)
{
    struct meta_call meta = {.type = RPC_GETATTR, .req.ino = ino};
    return meta_call_attr(client, cred, &meta, ret_attr);
}

/* Programs write and then look at the size: the answer to the write has it. Only for a fraction of
 * attr_ttl, because the kernel believes what it gets for a whole one; and links to the inode must
 * not have changed through us since. What answers tell of directories is elsewhere (dir_attr.c). */
static bool just_learned(const struct client_inode *inode)
{
    const struct client *client = inode->client;
    return !S_ISDIR(inode->attr.mode) &&
           env_now_ns() < inode->attr_at_ns + client->options.attr_ttl_ns / 10 &&
           inode->attr_at_ns > client->links_changed_ns;
}

int client_getattr(struct client *client, const struct client_cred *cred, uint64_t ino,
                   struct wire_attr *ret_attr)
{
    struct client_inode *inode = client_inode_find(client, ino);
    if (inode && inode->mtime_lazy_ns) { /* the answer to the update is as new as any */
        client_inode_get(inode);
        int result = client_inode_flush(inode);
        if (result == 0)
            *ret_attr = inode->attr;
        client_inode_put(inode);
        return result;
    }
    if (inode && just_learned(inode)) {
        *ret_attr = inode->attr;
        return 0;
    }
    if (client_dir_attr(client, ino, ret_attr))
        return 0;
    return client_getattr_plain(client, cred, ino, ret_attr);
}

/* The name's inode number, and its attributes if they were at hand. 1: they were; 0: they were
 * not. */
static int lookup_once(struct client *client, const struct client_cred *cred, uint64_t dir,
                       struct slice name, struct wire_attr *ret_attr)
{
    struct meta_call meta = {.type = RPC_LOOKUP, .req.ino = dir, .name = name};
    uint64_t asked_ns = env_now_ns();
    int result = meta_call(client, cred, &meta);
    meta_call_fini(&meta);
    if (result < 0)
        return result;
    if (meta.rep.attr.ino == 0)
        return -ERR_CORRUPT_WIRE;
    *ret_attr = meta.rep.attr;
    if (!meta.rep.attr_valid)
        return 0;
    client_learn(client, &meta, asked_ns);
    return 1;
}

int client_lookup(struct client *client, const struct client_cred *cred, uint64_t dir,
                  struct slice name, struct wire_attr *ret_attr)
{
    struct wire_attr attr;
    int result = name_check(name);
    if (result < 0)
        return result;
    for (uint32_t tries = 0; tries < CLIENT_LOOKUP_TRIES; tries++) {
        result = lookup_once(client, cred, dir, name, &attr);
        if (result < 0)
            return result;
        const struct client_inode *inode = client_inode_find(client, attr.ino);
        if (result == 0 || (inode && inode->mtime_lazy_ns))
            result = client_getattr(client, cred, attr.ino, &attr);
        if (result != -ESTALE)
            break; /* else it was removed between the two: what does the name say now? */
    }
    if (result < 0)
        return result;
    *ret_attr = attr;
    return 0;
}

int client_readlink(struct client *client, const struct client_cred *cred, uint64_t ino,
                    char *target, uint32_t *ret_bytes)
{
    struct meta_call meta = {.type = RPC_READLINK, .req.ino = ino};
    int result = meta_call(client, cred, &meta);
    if (result == 0 && (meta.tail.bytes == 0 || meta.tail.bytes > META_SYMLINK_MAX))
        result = -ERR_CORRUPT_WIRE;
    if (result == 0) {
        memcpy(target, meta.tail.data, meta.tail.bytes);
        target[meta.tail.bytes] = 0;
        *ret_bytes = meta.tail.bytes;
    }
    meta_call_fini(&meta);
    return result;
}

int client_statfs(struct client *client, struct wire_statfs *ret_statfs)
{
    struct meta_call meta = {
        .type = RPC_STATFS,
        .req.ino = CFS_ROOT_INO,
        .deadline_ns = env_now_ns() + CLIENT_STATFS_TIMEOUT_NS,
    };
    int result = meta_call(client, NULL, &meta);
    if (result == 0 && meta.tail.bytes < sizeof client->statfs)
        result = -ERR_CORRUPT_WIRE;
    if (result == 0) {
        memcpy(&client->statfs, meta.tail.data, sizeof client->statfs);
        client->statfs_valid = true;
    }
    meta_call_fini(&meta);
    if (!client->statfs_valid)
        return result;
    *ret_statfs = client->statfs;
    return 0;
}
