/* SPDX-License-Identifier: MIT */
#ifndef CFS_FRONT_FUSE_FUSE_INTERNAL_H
#define CFS_FRONT_FUSE_FUSE_INTERNAL_H

#include <sys/uio.h>

#include "front/fuse/fuse.h"
#include "front/fuse/fuse_abi.h"

enum {
    FUSE_IO_MAX = 1 << 20,
    FUSE_PAGES_MAX = FUSE_IO_MAX / 4096,
    FUSE_READ_BUFFER = FUSE_IO_MAX + 4096, /* the largest request */
    FUSE_SMALL_REQUEST = 16 << 10,         /* is copied out of the large buffer */
    FUSE_REQUESTS_MAX = 512,               /* served at once; then the kernel keeps them */
    FUSE_CHANNELS_MAX = 16,
    FUSE_BACKGROUND_MAX = 128,
    FUSE_SEEN_COUNT = 4096,
    FUSE_BLOCK_BYTES = 128 << 10, /* st_blksize: what programs buffer by */
    FUSE_DIR_SELF = 1,            /* readdir offsets: behind ".", behind "..", then ours */
    FUSE_DIR_PARENT = 2,
    FUSE_DIR_FIRST = 2, /* cookie c of the servers is offset c + FUSE_DIR_FIRST */
};

/* Device access, so that tests can feed bytes and look at replies. */
struct fuse_device {
    may_yield int64_t (*read)(struct fuse_device *device, void *data, size_t bytes);
    may_yield int64_t (*writev)(struct fuse_device *device, const struct iovec *parts, int count);
    /* Is the mount over? */
    may_yield bool (*gone)(struct fuse_device *device);
    int fd;
};

/* Open files by the number the kernel knows them by. */
struct fuse_handle {
    struct client_file *file; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};
struct fuse_handles {
    struct fuse_handle *rows;
    uint32_t room;
    uint32_t free; /* index + 1; 0: none */
};
uint64_t fuse_handle_add(struct fuse_handles *handles, struct client_file *file);
/* NULL: no such handle. */
struct client_file *fuse_handle_find(const struct fuse_handles *handles, uint64_t fh);
struct client_file *fuse_handle_remove(struct fuse_handles *handles, uint64_t fh);

/* Which state of an inode something belongs to, as far as remembered. */
struct fuse_seen {
    uint64_t ino;
    uint64_t change;
};

struct fuse_front {
    struct client *client;
    struct fuse_options options;
    struct fuse_handles handles;
    struct fuse_seen pages[FUSE_SEEN_COUNT]; /* the pages that the kernel may have of a file */
    struct fuse_seen attrs[FUSE_SEEN_COUNT]; /* the attributes it was told last */
    uint32_t readers;
    uint32_t requests;
    int result;
    bool started; /* INIT has been answered */
    bool ended;
    struct list serving; /* requests */
    struct waitq idle;   /* a reader or a request has ended, or started was set */
};

struct fuse_channel {
    struct fuse_front *front;
    struct fuse_device *device;
};

struct fuse_request {
    struct list link; /* in front->serving */
    struct fuse_front *front;
    struct fuse_device *device;
    struct buf *buf;
    struct fuse_in_header head;
    struct reader args; /* what follows the header */
    struct client_cred cred;
    uint64_t begun_ns;
    bool replied;
};

/* ---- requests (request.c) -------------------------------------------------------------------- */

/* Take over a request of count bytes in buf. 0, or -EPROTO if it is no request. */
must_check int fuse_request_begin(struct fuse_request *request, struct buf *buf, uint32_t count);
/* The next argument struct, copied out. -EPROTO if it is not there. */
must_check int fuse_take(struct fuse_request *request, void *out, uint32_t bytes);
/* The next string; the slice is without its zero. -EPROTO. */
must_check int fuse_take_name(struct fuse_request *request, struct slice *ret_name);
/* Serve the request and answer it. */
may_yield void fuse_request_serve(struct fuse_request *request);
/* Replies: the first counts; these may yield. 0, or a negative error of the device; -ERR_CANCELED:
 * the request has been answered already (interrupted). */
may_yield int fuse_reply(struct fuse_request *request, const void *data, uint32_t bytes);
may_yield int fuse_reply_error(struct fuse_request *request, int error);
may_yield int fuse_reply_data(struct fuse_request *request, const struct client_data *data);
may_yield int fuse_reply_entry(struct fuse_request *request, const struct wire_attr *attr);
void fuse_attr_encode(const struct wire_attr *attr, struct fuse_attr *ret_attr);
/* For a reply: it is remembered what the kernel is told. */
void fuse_entry_encode(struct fuse_front *front, const struct wire_attr *attr,
                       struct fuse_entry_out *ret_entry);
void fuse_attr_out_encode(struct fuse_front *front, const struct wire_attr *attr,
                          struct fuse_attr_out *ret_attr);

/* Note that something belongs to this state of the inode. True if it did before. */
bool fuse_seen_set(struct fuse_seen *table, const struct wire_attr *attr);
/* Have the kernel ask for the attributes of an inode when it needs them next. */
may_yield void fuse_forget_attr(struct fuse_request *request, uint64_t ino);

/* Handlers: answer and return 0, or return a negative error, which is then the answer;
 * FUSE_NO_REPLY: there is none. */
enum { FUSE_NO_REPLY = 1 };
typedef may_yield int (*fuse_handler_fn)(struct fuse_request *request);
struct fuse_row {
    const char *name;
    fuse_handler_fn serve;
    bool interruptible; /* changes nothing: may be answered before it is done */
};
const struct fuse_row *fuse_row(uint32_t opcode); /* NULL: -ENOSYS */

int fuse_op_init(struct fuse_request *request);
int fuse_op_interrupt(struct fuse_request *request);

int fuse_op_lookup(struct fuse_request *request);
int fuse_op_readlink(struct fuse_request *request);
int fuse_op_symlink(struct fuse_request *request);
int fuse_op_mknod(struct fuse_request *request);
int fuse_op_mkdir(struct fuse_request *request);
int fuse_op_unlink(struct fuse_request *request);
int fuse_op_rmdir(struct fuse_request *request);
int fuse_op_rename(struct fuse_request *request);
int fuse_op_rename2(struct fuse_request *request);
int fuse_op_link(struct fuse_request *request);

int fuse_op_getattr(struct fuse_request *request);
int fuse_op_setattr(struct fuse_request *request);
int fuse_op_statfs(struct fuse_request *request);
int fuse_op_getxattr(struct fuse_request *request);
int fuse_op_setxattr(struct fuse_request *request);
int fuse_op_listxattr(struct fuse_request *request);
int fuse_op_removexattr(struct fuse_request *request);

int fuse_op_open(struct fuse_request *request);
int fuse_op_create(struct fuse_request *request);
int fuse_op_read(struct fuse_request *request);
int fuse_op_write(struct fuse_request *request);
int fuse_op_flush(struct fuse_request *request);
int fuse_op_fsync(struct fuse_request *request);
int fuse_op_release(struct fuse_request *request);
int fuse_op_fallocate(struct fuse_request *request);

int fuse_op_opendir(struct fuse_request *request);
int fuse_op_readdir(struct fuse_request *request);
int fuse_op_readdirplus(struct fuse_request *request);
int fuse_op_fsyncdir(struct fuse_request *request);

/* ---- mounting (mount.c) ---------------------------------------------------------------------- */

/* Mount; *ret_fd is the device. Errors as fuse_front_run. Blocks for some milliseconds. */
must_check int fuse_mount(const struct fuse_options *options, int *ret_fd);
/* Let the kernel read ahead as much as one request carries. 0 or -errno (not root). */
must_check int fuse_readahead_set(const char *mountpoint);
/* Another descriptor of the same connection. The descriptor or -errno. */
must_check int fuse_device_clone(int fd);

#endif
