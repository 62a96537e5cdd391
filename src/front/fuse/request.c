/* SPDX-License-Identifier: MIT */
/* Requests and replies as bytes: decoding with bounds, the table of opcodes, encoding. */
#include "front/fuse/fuse_internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/log.h"

static int op_nothing(struct fuse_request *request)
{
    return fuse_reply(request, NULL, 0);
}

static int op_silent(struct fuse_request *request)
{
    return FUSE_NO_REPLY;
}

static const struct fuse_row rows[FUSE_OPCODE_MAX + 1] = {
    [FUSE_LOOKUP] = {"lookup", fuse_op_lookup, true},
    [FUSE_FORGET] = {"forget", op_silent, false}, /* node ids are inode numbers: nothing is kept */
    [FUSE_BATCH_FORGET] = {"batch-forget", op_silent, false},
    [FUSE_INTERRUPT] = {"interrupt", fuse_op_interrupt, false},
    [FUSE_GETATTR] = {"getattr", fuse_op_getattr, true},
    [FUSE_SETATTR] = {"setattr", fuse_op_setattr, false},
    [FUSE_READLINK] = {"readlink", fuse_op_readlink, true},
    [FUSE_SYMLINK] = {"symlink", fuse_op_symlink, false},
    [FUSE_MKNOD] = {"mknod", fuse_op_mknod, false},
    [FUSE_MKDIR] = {"mkdir", fuse_op_mkdir, false},
    [FUSE_UNLINK] = {"unlink", fuse_op_unlink, false},
    [FUSE_RMDIR] = {"rmdir", fuse_op_rmdir, false},
    [FUSE_RENAME] = {"rename", fuse_op_rename, false},
    [FUSE_RENAME2] = {"rename2", fuse_op_rename2, false},
    [FUSE_LINK] = {"link", fuse_op_link, false},
    [FUSE_OPEN] = {"open", fuse_op_open, true},
    [FUSE_CREATE] = {"create", fuse_op_create, false},
    [FUSE_READ] = {"read", fuse_op_read, true},
    [FUSE_WRITE] = {"write", fuse_op_write, false},
    [FUSE_FLUSH] = {"flush", fuse_op_flush, false},
    [FUSE_FSYNC] = {"fsync", fuse_op_fsync, true},
    [FUSE_RELEASE] = {"release", fuse_op_release, false},
    [FUSE_FALLOCATE] = {"fallocate", fuse_op_fallocate, false},
    [FUSE_STATFS] = {"statfs", fuse_op_statfs, true},
    [FUSE_GETXATTR] = {"getxattr", fuse_op_getxattr, true},
    [FUSE_SETXATTR] = {"setxattr", fuse_op_setxattr, false},
    [FUSE_LISTXATTR] = {"listxattr", fuse_op_listxattr, true},
    [FUSE_REMOVEXATTR] = {"removexattr", fuse_op_removexattr, false},
    [FUSE_INIT] = {"init", fuse_op_init, false},
    [FUSE_DESTROY] = {"destroy", op_nothing, false},
    [FUSE_OPENDIR] = {"opendir", fuse_op_opendir, false},
    [FUSE_READDIR] = {"readdir", fuse_op_readdir, true},
    [FUSE_READDIRPLUS] = {"readdirplus", fuse_op_readdirplus, true},
    [FUSE_RELEASEDIR] = {"releasedir", op_nothing, false},
    [FUSE_FSYNCDIR] = {"fsyncdir", fuse_op_fsyncdir, true},
    /* The rest is answered with -ENOSYS: the kernel then does without, or does it itself (access
     * checks, locks, lseek for holes, copy_file_range, ioctl, poll, bmap). */
};

const struct fuse_row *fuse_row(uint32_t opcode)
{
    if (opcode > FUSE_OPCODE_MAX || !rows[opcode].serve)
        return NULL;
    return &rows[opcode];
}

int fuse_request_begin(struct fuse_request *request, struct buf *buf, uint32_t count)
{
    assert(count <= buf->size);
    if (count < sizeof request->head)
        return -EPROTO;
    memcpy(&request->head, buf->data, sizeof request->head);
    uint32_t extension_bytes = (uint32_t)request->head.total_extlen * 8;
    if (request->head.len != count || extension_bytes > count - sizeof request->head)
        return -EPROTO;
    request->buf = buf;
    reader_init(&request->args, buf->data + sizeof request->head,
                count - sizeof request->head - extension_bytes);
    request->cred = (struct client_cred){
        .uid = request->head.uid,
        .gid = request->head.gid,
        .checked = true, /* mounted with default_permissions */
    };
    return 0;
}

int fuse_take(struct fuse_request *request, void *out, uint32_t bytes)
{
    reader_copy(&request->args, out, bytes);
    return reader_ok(&request->args) ? 0 : -EPROTO;
}

int fuse_take_name(struct fuse_request *request, struct slice *ret_name)
{
    const uint8_t *start = request->args.cursor;
    size_t left = reader_left(&request->args);
    const uint8_t *end = left ? memchr(start, 0, left) : NULL;
    if (!end)
        return -EPROTO;
    const void *name = reader_take(&request->args, (size_t)(end - start) + 1);
    if (!name)
        return -EPROTO;
    *ret_name = slice_of(name, (size_t)(end - start));
    return 0;
}

void fuse_request_serve(struct fuse_request *request)
{
    const struct fuse_row *row = fuse_row(request->head.opcode);
    int result = row ? row->serve(request) : -ENOSYS;
    if (result >= 0 || request->replied)
        return; /* what came of the reply matters to handlers only */
    if (result == -EPROTO)
        log_warn("fuse-request", "opcode=%u bytes=%u effect=\"refused\"", request->head.opcode,
                 request->head.len);
    result = fuse_reply_error(request, result);
    if (result < 0)
        log_debug("fuse-reply", "opcode=%u error=%s", request->head.opcode, error_name(result));
}

/* ---- replies ----------------------------------------------------------------------------- */

static int send_reply(struct fuse_request *request, struct iovec *parts, int count, int error)
{
    assert(count >= 1);
    if (request->replied)
        return -ERR_CANCELED;
    struct fuse_out_header head = {.error = error, .unique = request->head.unique};
    parts[0] = (struct iovec){&head, sizeof head};
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    head.len = (uint32_t)bytes;
    request->replied = true;
    int64_t sent = request->device->writev(request->device, parts, count);
    return sent < 0 ? (int)sent : 0; /* ENOENT: nobody waits any more; ENODEV: the mount is over */
}

int fuse_reply(struct fuse_request *request, const void *data, uint32_t bytes)
{
    struct iovec parts[2] = {{0}, {(void *)(uintptr_t)data, bytes}};
    return send_reply(request, parts, bytes ? 2 : 1, 0);
}

int fuse_reply_error(struct fuse_request *request, int error)
{
    struct iovec parts[1];
    int number = error_to_errno(error);
    assert(error < 0 && number > 0 && number < 512); /* the kernel takes no others */
    return send_reply(request, parts, 1, -number);
}

int fuse_reply_data(struct fuse_request *request, const struct client_data *data)
{
    struct iovec parts[1 + CLIENT_PARTS_MAX];
    for (uint32_t i = 0; i < data->part_count; i++)
        parts[1 + i] = (struct iovec){buf_slice_data(&data->parts[i]), data->parts[i].bytes};
    return send_reply(request, parts, 1 + (int)data->part_count, 0);
}

int fuse_reply_entry(struct fuse_request *request, const struct wire_attr *attr)
{
    struct fuse_entry_out entry;
    fuse_entry_encode(request->front, attr, &entry);
    return fuse_reply(request, &entry, sizeof entry);
}

void fuse_forget_attr(struct fuse_request *request, uint64_t ino)
{
    struct fuse_notify_inval_inode_out what = {.ino = ino, .off = -1}; /* no pages */
    struct fuse_out_header head = {
        .len = sizeof head + sizeof what,
        .error = FUSE_NOTIFY_INVAL_INODE,
    };
    struct iovec parts[2] = {{&head, sizeof head}, {&what, sizeof what}};
    int64_t sent = request->device->writev(request->device, parts, 2);
    if (sent < 0 && sent != -ENOENT) /* ENOENT: the kernel does not know the inode */
        log_debug("fuse-notify", "ino=%llx error=%s", (unsigned long long)ino,
                  error_name((int)sent));
}

/* ---- encoding ---------------------------------------------------------------------------- */

static void time_encode(int64_t ns, uint64_t *ret_seconds, uint32_t *ret_ns)
{
    int64_t seconds = ns / (int64_t)NS_PER_S;
    int64_t rest = ns % (int64_t)NS_PER_S;
    if (rest < 0) { /* before 1970 */
        seconds--;
        rest += (int64_t)NS_PER_S;
    }
    *ret_seconds = (uint64_t)seconds;
    *ret_ns = (uint32_t)rest;
}

void fuse_attr_encode(const struct wire_attr *attr, struct fuse_attr *ret_attr)
{
    *ret_attr = (struct fuse_attr){
        .ino = attr->ino,
        .size = attr->size,
        .blocks = attr->blocks,
        .mode = attr->mode,
        .nlink = attr->nlink,
        .uid = attr->uid,
        .gid = attr->gid,
        .rdev = attr->rdev,
        .blksize = FUSE_BLOCK_BYTES,
    };
    time_encode(attr->atime_ns, &ret_attr->atime, &ret_attr->atimensec);
    time_encode(attr->mtime_ns, &ret_attr->mtime, &ret_attr->mtimensec);
    time_encode(attr->ctime_ns, &ret_attr->ctime, &ret_attr->ctimensec);
}

bool fuse_seen_set(struct fuse_seen *table, const struct wire_attr *attr)
{
    struct fuse_seen *seen = &table[hash_u64(attr->ino) % FUSE_SEEN_COUNT];
    bool same = seen->ino == attr->ino && seen->change == attr->change;
    *seen = (struct fuse_seen){attr->ino, attr->change};
    return same;
}

void fuse_entry_encode(struct fuse_front *front, const struct wire_attr *attr,
                       struct fuse_entry_out *ret_entry)
{
    *ret_entry = (struct fuse_entry_out){.nodeid = attr->ino};
    time_encode((int64_t)front->options.entry_timeout_ns, &ret_entry->entry_valid,
                &ret_entry->entry_valid_nsec);
    time_encode((int64_t)front->options.attr_timeout_ns, &ret_entry->attr_valid,
                &ret_entry->attr_valid_nsec);
    fuse_attr_encode(attr, &ret_entry->attr);
    (void)fuse_seen_set(front->attrs, attr);
}

void fuse_attr_out_encode(struct fuse_front *front, const struct wire_attr *attr,
                          struct fuse_attr_out *ret_attr)
{
    *ret_attr = (struct fuse_attr_out){0};
    time_encode((int64_t)front->options.attr_timeout_ns, &ret_attr->attr_valid,
                &ret_attr->attr_valid_nsec);
    fuse_attr_encode(attr, &ret_attr->attr);
    (void)fuse_seen_set(front->attrs, attr);
}
