/* SPDX-License-Identifier: MIT */
/* Verbs on attributes, extended attributes, and the file system as a whole. */
#include "front/fuse/fuse_internal.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/mem.h"

int fuse_op_getattr(struct fuse_request *request)
{
    struct wire_attr attr;
    struct fuse_attr_out out;
    int result =
        client_getattr(request->front->client, &request->cred, request->head.nodeid, &attr);
    if (result < 0)
        return result;
    fuse_attr_out_encode(request->front, &attr, &out);
    return fuse_reply(request, &out, sizeof out);
}

static int64_t time_decode(uint64_t seconds, uint32_t ns)
{
    return (int64_t)(seconds * NS_PER_S + ns); /* wraps beyond the year 2262 */
}

static void setattr_decode(const struct fuse_setattr_in *in, struct client_setattr *ret_set)
{
    struct client_setattr set = {
        .mode = in->mode & 07777,
        .uid = in->uid,
        .gid = in->gid,
        .size = in->size,
        .atime_ns = time_decode(in->atime, in->atimensec),
        .mtime_ns = time_decode(in->mtime, in->mtimensec),
    };
    if (in->valid & FATTR_MODE)
        set.valid |= META_SET_MODE;
    if (in->valid & FATTR_UID)
        set.valid |= META_SET_UID;
    if (in->valid & FATTR_GID)
        set.valid |= META_SET_GID;
    if (in->valid & FATTR_SIZE)
        set.valid |= META_SET_SIZE;
    if (in->valid & FATTR_ATIME_NOW)
        set.valid |= META_SET_ATIME_NOW;
    else if (in->valid & FATTR_ATIME)
        set.valid |= META_SET_ATIME;
    if (in->valid & FATTR_MTIME_NOW)
        set.valid |= META_SET_MTIME_NOW;
    else if (in->valid & FATTR_MTIME)
        set.valid |= META_SET_MTIME;
    if (in->valid & FATTR_KILL_SUIDGID)
        set.valid |= CLIENT_KILL_PRIV;
    *ret_set = set;
}

int fuse_op_setattr(struct fuse_request *request)
{
    struct fuse_setattr_in in;
    struct client_setattr set;
    struct wire_attr attr;
    struct fuse_attr_out out;
    int result = fuse_take(request, &in, sizeof in);
    if (result < 0)
        return result;
    setattr_decode(&in, &set);
    result =
        client_setattr(request->front->client, &request->cred, request->head.nodeid, &set, &attr);
    if (result < 0)
        return result;
    fuse_attr_out_encode(request->front, &attr, &out);
    return fuse_reply(request, &out, sizeof out);
}

int fuse_op_statfs(struct fuse_request *request)
{
    struct wire_statfs statfs;
    int result = client_statfs(request->front->client, &statfs);
    if (result < 0)
        return result;
    struct fuse_statfs_out out = {
        .blocks = statfs.size_bytes / 4096,
        .bfree = statfs.free_bytes / 4096,
        .bavail = statfs.free_bytes / 4096,
        .files = statfs.files,
        .ffree = statfs.files_free,
        .bsize = 4096,
        .frsize = 4096,
        .namelen = META_NAME_MAX,
    };
    return fuse_reply(request, &out, sizeof out);
}

/* ---- extended attributes ----------------------------------------------------------------- */

static bool begins_with(struct slice name, const char *prefix)
{
    size_t bytes = strlen(prefix);
    return name.bytes >= bytes && memcmp(name.data, prefix, bytes) == 0;
}

/* Programs ask for security labels and ACLs of every file they list: no server needs to hear of
 * names that cannot be set. */
static bool xattr_kept(struct slice name)
{
    return begins_with(name, "user.") || begins_with(name, "trusted.");
}

static int reply_bytes(struct fuse_request *request, uint32_t asked, const struct client_bytes *out)
{
    if (asked > 0)
        return fuse_reply(request, out->data, out->bytes);
    struct fuse_getxattr_out length = {.size = out->bytes};
    return fuse_reply(request, &length, sizeof length);
}

int fuse_op_getxattr(struct fuse_request *request)
{
    struct fuse_getxattr_in in;
    struct slice name;
    uint8_t value[META_XATTR_VALUE_MAX];
    int result = fuse_take(request, &in, sizeof in);
    if (result == 0)
        result = fuse_take_name(request, &name);
    if (result < 0)
        return result;
    if (!xattr_kept(name))
        return begins_with(name, "security.") ? -ENODATA : -EOPNOTSUPP;
    struct client_bytes out = {value, MIN(in.size, (uint32_t)sizeof value), 0};
    result =
        client_getxattr(request->front->client, &request->cred, request->head.nodeid, name, &out);
    return result < 0 ? result : reply_bytes(request, in.size, &out);
}

int fuse_op_listxattr(struct fuse_request *request)
{
    enum { ROOM = META_XATTR_COUNT_MAX * (META_XATTR_NAME_MAX + 1) };
    struct fuse_getxattr_in in;
    int result = fuse_take(request, &in, sizeof in);
    if (result < 0)
        return result;
    struct client_bytes out = {mem_alloc(ROOM), MIN(in.size, (uint32_t)ROOM), 0};
    result = client_listxattr(request->front->client, &request->cred, request->head.nodeid, &out);
    if (result == 0)
        result = reply_bytes(request, in.size, &out);
    mem_free(out.data);
    return result;
}

int fuse_op_setxattr(struct fuse_request *request)
{
    struct fuse_setxattr_in in;
    struct slice name;
    int result = fuse_take(request, &in, sizeof in);
    if (result == 0)
        result = fuse_take_name(request, &name);
    if (result < 0)
        return result;
    const void *value = reader_take(&request->args, in.size);
    if (!value && in.size)
        return -EPROTO;
    if (!xattr_kept(name))
        return -EOPNOTSUPP;
    uint32_t flags = 0;
    if (in.flags & XATTR_CREATE)
        flags |= META_XATTR_CREATE;
    if (in.flags & XATTR_REPLACE)
        flags |= META_XATTR_REPLACE;
    result = client_setxattr(request->front->client, &request->cred, request->head.nodeid, name,
                             slice_of(value, in.size), flags);
    return result < 0 ? result : fuse_reply(request, NULL, 0);
}

int fuse_op_removexattr(struct fuse_request *request)
{
    struct slice name;
    int result = fuse_take_name(request, &name);
    if (result < 0)
        return result;
    if (!xattr_kept(name))
        return begins_with(name, "security.") ? -ENODATA : -EOPNOTSUPP;
    result = client_removexattr(request->front->client, &request->cred, request->head.nodeid, name);
    return result < 0 ? result : fuse_reply(request, NULL, 0);
}
