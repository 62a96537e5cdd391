/* SPDX-License-Identifier: MIT */
#include "client/client_internal.h"

#include <string.h>

static int xattr_name_check(struct slice name)
{
    if (name.bytes == 0 || name.bytes > META_XATTR_NAME_MAX)
        return -ERANGE;
    return memchr(name.data, 0, name.bytes) ? -EINVAL : 0;
}

/* A verb that answers with bytes: their length, and themselves if they are wanted. */
static int call_for_bytes(struct client *client, const struct client_cred *cred,
                          struct meta_call *meta, struct client_bytes *out)
{
    int result = meta_call(client, cred, meta);
    if (result == 0 && out->room && meta->tail.bytes > out->room)
        result = -ERANGE;
    if (result == 0) {
        if (out->room && meta->tail.bytes)
            memcpy(out->data, meta->tail.data, meta->tail.bytes);
        out->bytes = meta->tail.bytes;
    }
    meta_call_fini(meta);
    return result;
}

int client_getxattr(struct client *client, const struct client_cred *cred, uint64_t ino,
                    struct slice name, struct client_bytes *value)
{
    int result = xattr_name_check(name);
    if (result < 0)
        return result;
    struct meta_call meta = {.type = RPC_GETXATTR, .req.ino = ino, .name = name};
    return call_for_bytes(client, cred, &meta, value);
}

int client_listxattr(struct client *client, const struct client_cred *cred, uint64_t ino,
                     struct client_bytes *names)
{
    struct meta_call meta = {.type = RPC_LISTXATTR, .req.ino = ino};
    return call_for_bytes(client, cred, &meta, names);
}

int client_setxattr(struct client *client, const struct client_cred *cred, uint64_t ino,
                    struct slice name, struct slice value, uint32_t flags)
{
    int result = xattr_name_check(name);
    if (result < 0)
        return result;
    if (value.bytes > META_XATTR_VALUE_MAX)
        return -E2BIG;
    struct meta_call meta = {
        .type = RPC_SETXATTR,
        .req = {.ino = ino, .flags = flags & (META_XATTR_CREATE | META_XATTR_REPLACE)},
        .name = name,
        .value = value,
    };
    return meta_call_plain(client, cred, &meta);
}

int client_removexattr(struct client *client, const struct client_cred *cred, uint64_t ino,
                       struct slice name)
{
    int result = xattr_name_check(name);
    if (result < 0)
        return result;
    struct meta_call meta = {.type = RPC_REMOVEXATTR, .req.ino = ino, .name = name};
    return meta_call_plain(client, cred, &meta);
}
