/* SPDX-License-Identifier: MIT */
/* Verbs on names. */
#include "front/fuse/fuse_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int take_place(struct fuse_request *request, struct client_place *ret_place)
{
    ret_place->dir = request->head.nodeid;
    return fuse_take_name(request, &ret_place->name);
}

int fuse_op_lookup(struct fuse_request *request)
{
    struct client_place place;
    struct wire_attr attr;
    int result = take_place(request, &place);
    if (result < 0)
        return result;
    struct client *client = request->front->client;
    if (slice_equal(place.name, slice_of(".", 1))) /* a file handle is being resolved */
        result = client_getattr(client, &request->cred, place.dir, &attr);
    else
        result = client_lookup(client, &request->cred, place.dir, place.name, &attr);
    return result < 0 ? result : fuse_reply_entry(request, &attr);
}

int fuse_op_readlink(struct fuse_request *request)
{
    char target[META_SYMLINK_MAX + 1];
    uint32_t bytes;
    int result = client_readlink(request->front->client, &request->cred, request->head.nodeid,
                                 target, &bytes);
    return result < 0 ? result : fuse_reply(request, target, bytes);
}

int fuse_op_symlink(struct fuse_request *request)
{
    struct client_place place;
    struct slice target;
    struct wire_attr attr;
    int result = take_place(request, &place);
    if (result == 0)
        result = fuse_take_name(request, &target);
    if (result == 0)
        result = client_symlink(request->front->client, &request->cred, &place, target, &attr);
    return result < 0 ? result : fuse_reply_entry(request, &attr);
}

int fuse_op_mknod(struct fuse_request *request)
{
    struct fuse_mknod_in in;
    struct client_place place;
    struct wire_attr attr;
    int result = fuse_take(request, &in, sizeof in);
    if (result == 0)
        result = take_place(request, &place);
    if (result == 0)
        result =
            client_mknod(request->front->client, &request->cred, &place, in.mode, in.rdev, &attr);
    return result < 0 ? result : fuse_reply_entry(request, &attr);
}

int fuse_op_mkdir(struct fuse_request *request)
{
    struct fuse_mkdir_in in;
    struct client_place place;
    struct wire_attr attr;
    int result = fuse_take(request, &in, sizeof in);
    if (result == 0)
        result = take_place(request, &place);
    if (result == 0)
        result = client_mknod(request->front->client, &request->cred, &place,
                              S_IFDIR | (in.mode & 07777), 0, &attr);
    return result < 0 ? result : fuse_reply_entry(request, &attr);
}

int fuse_op_unlink(struct fuse_request *request)
{
    struct client_place place;
    int result = take_place(request, &place);
    if (result == 0)
        result = client_unlink(request->front->client, &request->cred, place.dir, place.name);
    return result < 0 ? result : fuse_reply(request, NULL, 0);
}

int fuse_op_rmdir(struct fuse_request *request)
{
    struct client_place place;
    int result = take_place(request, &place);
    if (result == 0)
        result = client_rmdir(request->front->client, &request->cred, place.dir, place.name);
    return result < 0 ? result : fuse_reply(request, NULL, 0);
}

static int rename_to(struct fuse_request *request, uint64_t target_dir, uint32_t flags)
{
    struct client_place from, to = {.dir = target_dir};
    int result = take_place(request, &from);
    if (result == 0)
        result = fuse_take_name(request, &to.name);
    if (result == 0)
        result = client_rename(request->front->client, &request->cred, &from, &to, flags);
    return result < 0 ? result : fuse_reply(request, NULL, 0);
}

int fuse_op_rename(struct fuse_request *request)
{
    struct fuse_rename_in in;
    int result = fuse_take(request, &in, sizeof in);
    return result < 0 ? result : rename_to(request, in.newdir, 0);
}

int fuse_op_rename2(struct fuse_request *request)
{
    struct fuse_rename2_in in;
    int result = fuse_take(request, &in, sizeof in);
    if (result < 0)
        return result;
    switch (in.flags) {
    case 0:
        return rename_to(request, in.newdir, 0);
    case RENAME_NOREPLACE:
        return rename_to(request, in.newdir, META_RENAME_NOREPLACE);
    case RENAME_EXCHANGE:
        return rename_to(request, in.newdir, META_RENAME_EXCHANGE);
    default:
        return -EINVAL;
    }
}

int fuse_op_link(struct fuse_request *request)
{
    struct fuse_link_in in;
    struct client_place place;
    struct wire_attr attr;
    int result = fuse_take(request, &in, sizeof in);
    if (result == 0)
        result = take_place(request, &place);
    if (result == 0)
        result = client_link(request->front->client, &request->cred, in.oldnodeid, &place, &attr);
    return result < 0 ? result : fuse_reply_entry(request, &attr);
}
