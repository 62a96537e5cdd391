/* SPDX-License-Identifier: MIT */
#include "client/client_internal.h"

/* What is remembered of inodes' link counts and times is older than this. */
static int call_and_note(struct client *client, const struct client_cred *cred,
                         struct meta_call *meta)
{
    client_closed_send(client, meta->req.ino);
    if (meta->req.ino2)
        client_closed_send(client, meta->req.ino2);
    int result = meta_call_plain(client, cred, meta);
    client->links_changed_ns = env_now_ns();
    return result;
}

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
    result = meta_call_attr(client, cred, &meta, ret_attr);
    client->links_changed_ns = env_now_ns();
    return result;
}

int client_unlink(struct client *client, const struct client_cred *cred, uint64_t dir,
                  struct slice name)
{
    int result = name_check(name);
    if (result < 0)
        return result;
    struct meta_call meta = {.type = RPC_UNLINK, .req.ino = dir, .name = name};
    return call_and_note(client, cred, &meta);
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
    return call_and_note(client, cred, &meta);
}
