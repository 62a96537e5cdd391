/* SPDX-License-Identifier: MIT */
/* Verbs on open files. */
#include "front/fuse/fuse_internal.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

/* ---- handles ----------------------------------------------------------------------------- */

uint64_t fuse_handle_add(struct fuse_handles *handles, struct client_file *file)
{
    if (!handles->free) {
        uint32_t room = MAX(handles->room * 2, 64u);
        handles->rows = mem_realloc(handles->rows, room * sizeof handles->rows[0]);
        for (uint32_t i = handles->room; i < room; i++) {
            handles->rows[i] = (struct fuse_handle){.next_free = handles->free};
            handles->free = i + 1;
        }
        handles->room = room;
    }
    uint32_t index = handles->free - 1;
    struct fuse_handle *row = &handles->rows[index];
    assert(!row->file);
    handles->free = row->next_free;
    row->file = file;
    row->generation++;
    return (uint64_t)row->generation << 32 | index;
}

static struct fuse_handle *handle_row(const struct fuse_handles *handles, uint64_t fh)
{
    uint32_t index = (uint32_t)fh;
    if (index >= handles->room)
        return NULL;
    struct fuse_handle *row = &handles->rows[index];
    return row->file && row->generation == fh >> 32 ? row : NULL;
}

struct client_file *fuse_handle_find(const struct fuse_handles *handles, uint64_t fh)
{
    struct fuse_handle *row = handle_row(handles, fh);
    return row ? row->file : NULL;
}

struct client_file *fuse_handle_remove(struct fuse_handles *handles, uint64_t fh)
{
    struct fuse_handle *row = handle_row(handles, fh);
    if (!row)
        return NULL;
    struct client_file *file = row->file;
    row->file = NULL;
    row->next_free = handles->free;
    handles->free = (uint32_t)fh + 1;
    return file;
}

/* Arguments that speak of an open file begin with its handle. */
#define BEGINS_WITH_HANDLE(type) _Static_assert(offsetof(type, fh) == 0, "the handle comes first")
BEGINS_WITH_HANDLE(struct fuse_release_in);
BEGINS_WITH_HANDLE(struct fuse_read_in);
BEGINS_WITH_HANDLE(struct fuse_write_in);
BEGINS_WITH_HANDLE(struct fuse_flush_in);
BEGINS_WITH_HANDLE(struct fuse_fsync_in);
BEGINS_WITH_HANDLE(struct fuse_fallocate_in);

static int take_file(struct fuse_request *request, void *in, uint32_t bytes,
                     struct client_file **ret_file)
{
    uint64_t fh;
    int result = fuse_take(request, in, bytes);
    if (result < 0)
        return result;
    memcpy(&fh, in, sizeof fh);
    struct client_file *file = fuse_handle_find(&request->front->handles, fh);
    if (!file || client_file_ino(file) != request->head.nodeid)
        return -EBADF;
    *ret_file = file;
    return 0;
}

/* The verb has come to this; its answer has nothing in it. */
static int reply_empty(struct fuse_request *request, int result)
{
    return result < 0 ? result : fuse_reply(request, NULL, 0);
}

/* ---- opening ----------------------------------------------------------------------------- */

static void open_encode(struct fuse_front *front, struct client_file *file, uint32_t flags,
                        struct fuse_open_out *ret_open)
{
    struct wire_attr attr;
    client_file_attr(file, &attr);
    *ret_open = (struct fuse_open_out){
        .fh = fuse_handle_add(&front->handles, file),
        /* Writes are answered when they are done: close(2) has nothing to wait for. */
        .open_flags = FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH,
    };
    /* May the kernel keep the pages it has? Yes, if nothing has changed since the file was opened
     * here before: pages are read only while it is open, so they are as new as that. */
    if (fuse_seen_set(front->pages, &attr))
        ret_open->open_flags |= FOPEN_KEEP_CACHE;
    /* Where appended bytes go is known only afterwards: they cannot be in pages before, and each
     * write has to come in one piece. */
    if (flags & O_APPEND)
        ret_open->open_flags |= FOPEN_DIRECT_IO;
}

/* O_TRUNC. The kernel's FUSE_OPEN_KILL_SUIDGID comes along. */
static int open_truncate(struct fuse_request *request, struct client_file *file,
                         uint32_t open_flags)
{
    struct client_setattr set = {.valid = META_SET_SIZE, .size = 0};
    struct wire_attr attr;
    if (open_flags & FUSE_OPEN_KILL_SUIDGID)
        set.valid |= CLIENT_KILL_PRIV;
    return client_setattr(request->front->client, &request->cred, client_file_ino(file), &set,
                          &attr);
}

/* The kernel did not take the answer to an open: nobody will ever release the file. */
static int open_undo(struct fuse_request *request, uint64_t fh, int result)
{
    struct client_file *file = fuse_handle_remove(&request->front->handles, fh);
    assert(file);
    (void)client_release(file);
    return result;
}

/* A file without names that was not open here: the kernel went by a name that it believed, and that
 * means another file by now. Told so, it looks the name up again, and opens that one. */
static bool replaced(const struct client_file *file)
{
    struct wire_attr attr;
    client_file_attr(file, &attr);
    return attr.nlink == 0 && client_file_only(file);
}

int fuse_op_open(struct fuse_request *request)
{
    struct fuse_open_in in;
    struct client_file *file;
    int result = fuse_take(request, &in, sizeof in);
    if (result == 0)
        result = client_open(request->front->client, &request->cred, request->head.nodeid, &file);
    if (result < 0)
        return result;
    if (replaced(file))
        result = -ESTALE;
    else if (request->replied) /* interrupted: truncating is no longer wanted */
        result = -ERR_CANCELED;
    else if (in.flags & O_TRUNC)
        result = open_truncate(request, file, in.open_flags);
    if (result < 0) {
        (void)client_release(file);
        return result;
    }
    struct wire_attr attr;
    struct fuse_open_out out;
    client_file_attr(file, &attr);
    if (!fuse_seen_set(request->front->attrs, &attr))
        fuse_forget_attr(request, attr.ino);
    open_encode(request->front, file, in.flags, &out);
    result = fuse_reply(request, &out, sizeof out);
    return result < 0 ? open_undo(request, out.fh, result) : 0;
}

int fuse_op_create(struct fuse_request *request)
{
    struct fuse_create_in in;
    struct client_place place = {.dir = request->head.nodeid};
    struct client_file *file;
    int result = fuse_take(request, &in, sizeof in);
    if (result == 0)
        result = fuse_take_name(request, &place.name);
    if (result == 0)
        result = client_create(request->front->client, &request->cred, &place,
                               S_IFREG | (in.mode & 07777), in.flags & O_EXCL, &file);
    if (result < 0)
        return result;
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out;
    struct wire_attr attr;
    client_file_attr(file, &attr);
    if ((in.flags & O_TRUNC) && attr.size > 0) /* it was there already */
        result = open_truncate(request, file, in.open_flags);
    if (result < 0) {
        (void)client_release(file);
        return result;
    }
    client_file_attr(file, &attr);
    fuse_entry_encode(request->front, &attr, &out.entry);
    open_encode(request->front, file, in.flags, &out.open);
    result = fuse_reply(request, &out, sizeof out);
    return result < 0 ? open_undo(request, out.open.fh, result) : 0;
}

int fuse_op_release(struct fuse_request *request)
{
    struct fuse_release_in in;
    struct client_file *file;
    int result = take_file(request, &in, sizeof in, &file);
    if (result < 0)
        return result;
    (void)fuse_handle_remove(&request->front->handles, in.fh);
    return reply_empty(request, client_release(file));
}

/* ---- data -------------------------------------------------------------------------------- */

int fuse_op_read(struct fuse_request *request)
{
    struct fuse_read_in in;
    struct client_file *file;
    struct client_data data;
    int result = take_file(request, &in, sizeof in, &file);
    if (result < 0)
        return result;
    if (in.size > FUSE_IO_MAX)
        return -EINVAL;
    result = client_read(file, in.offset, in.size, &data);
    if (result < 0)
        return result;
    result = fuse_reply_data(request, &data);
    client_data_fini(&data);
    return result;
}

static int kill_privilege(struct fuse_request *request, const struct client_file *file)
{
    struct wire_attr attr;
    client_file_attr(file, &attr);
    if (!(attr.mode & (S_ISUID | S_ISGID)))
        return 0;
    const struct client_setattr set = {.valid = CLIENT_KILL_PRIV};
    return client_setattr(request->front->client, &request->cred, attr.ino, &set, &attr);
}

int fuse_op_write(struct fuse_request *request)
{
    struct fuse_write_in in;
    struct client_file *file;
    int result = take_file(request, &in, sizeof in, &file);
    if (result < 0)
        return result;
    const uint8_t *bytes = reader_take(&request->args, in.size);
    if (!bytes || in.size > FUSE_IO_MAX)
        return -EPROTO;
    if (in.write_flags & FUSE_WRITE_KILL_SUIDGID)
        result = kill_privilege(request, file);
    if (result < 0)
        return result;
    struct buf_slice data = {request->buf, (uint32_t)(bytes - request->buf->data), in.size};
    if ((in.flags & O_APPEND) && !(in.write_flags & FUSE_WRITE_CACHE)) /* not from a mapping */
        result = client_append(file, data);
    else
        result = client_write(file, in.offset, data);
    if (result < 0)
        return result;
    struct fuse_write_out out = {.size = in.size};
    return fuse_reply(request, &out, sizeof out);
}

int fuse_op_flush(struct fuse_request *request)
{
    struct fuse_flush_in in;
    struct client_file *file;
    int result = take_file(request, &in, sizeof in, &file);
    return reply_empty(request, result < 0 ? result : client_flush(file));
}

int fuse_op_fsync(struct fuse_request *request)
{
    struct fuse_fsync_in in;
    struct client_file *file;
    int result = take_file(request, &in, sizeof in, &file);
    return reply_empty(request, result < 0 ? result : client_fsync(file));
}

int fuse_op_fallocate(struct fuse_request *request)
{
    struct fuse_fallocate_in in;
    struct client_file *file;
    int result = take_file(request, &in, sizeof in, &file);
    return reply_empty(request,
                       result < 0 ? result : client_fallocate(file, in.mode, in.offset, in.length));
}
