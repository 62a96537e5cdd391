/* SPDX-License-Identifier: MIT */
#include "client/client_internal.h"

int client_link(struct client *client, const struct client_cred *cred, uint64_t ino,
                const struct client_place *place, struct wire_attr *ret_attr)
{
    int result = name_check(place->name);
    if (result < 0)
        return result;
    struct meta_call meta = {
        .type = RPC_LINK,
        .req = {.ino = place->dir, .ino2 = ino},
        .name = place->name,
    };
    return meta_call_attr(client, cred, &meta, ret_attr);
}

int client_unlink(struct client *client, const struct client_cred *cred, uint64_t dir,
                  struct slice name)
{
    int result = name_check(name);
    if (result < 0)
        return result;
    struct meta_call meta = {.type = RPC_UNLINK, .req.ino = dir, .name = name};
    return meta_call_plain(client, cred, &meta);
}

int client_rmdir(struct client *client, const struct client_cred *cred, uint64_t dir,
                 struct slice name)
{
    int result = name_check(name);
    if (result < 0)
        return result;
    struct meta_call meta = {.type = RPC_RMDIR, .req.ino = dir, .name = name};
    return meta_call_plain(client, cred, &meta);
}

int client_rename(struct client *client, const struct client_cred *cred,
                  const struct client_place *from, const struct client_place *to, uint32_t flags)
{
    int result = name_check(from->name);
    if (result == 0)
        result = name_check(to->name);
    if (result == 0 && flags != 0 && flags != META_RENAME_NOREPLACE &&
        flags != META_RENAME_EXCHANGE)
        result = -EINVAL;
    if (result < 0)
        return result;
    struct meta_call meta = {
        .type = RPC_RENAME,
        .req = {.ino = from->dir, .ino2 = to->dir, .flags = flags},
        .name = from->name,
        .name2 = to->name,
    };
    return meta_call_plain(client, cred, &meta);
}
