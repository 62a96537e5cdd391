/* SPDX-License-Identifier: MIT */
#ifndef CFS_CLIENT_CLIENT_H
#define CFS_CLIENT_CLIENT_H

/* libclaudefs core: the one implementation of client behaviour. Adapters (FUSE, the command line)
 * translate to these verbs.
 *
 * One client per reactor; every function is called from its fibers. All verbs may yield. They
 * return 0 (or a byte count) or a negative error: errno values as POSIX names them for the verb,
 * -EIO when no answer could be had within io_timeout (a mutation may or may not have happened
 * then), -ERR_CORRUPT_DATA when data failed its checksum. error_to_errno() makes an errno of any
 * of them. Outputs are untouched on failure. */

#include "base/buf.h"
#include "base/bytes.h"
#include "format/wire_data.h"
#include "format/wire_meta.h"
#include "map/map.h"
#include "net/rpc.h"

struct client;
struct client_file;

struct client_options {
    uint64_t io_timeout_ns; /* 0: 60 s */
    bool hard;              /* retry for ever instead of -EIO */
    uint64_t attr_ttl_ns;   /* how long attributes and inline data of open files are believed */
};

/* rpc: its identity has a session. Starts fibers. rpc and map outlive the client. Takes
 * rpc_on_peer_lost for itself. */
struct client *client_new(struct rpc *rpc, struct map_client *map,
                          const struct client_options *options);
/* Send what is lazily kept (modification times, closed files). For an orderly end: takes at most
 * two seconds, even if servers do not answer. */
may_yield void client_flush_all(struct client *client);

/* Who asks. checked: permissions have been checked already (kernel, default_permissions). */
struct client_cred {
    uint32_t uid;
    uint32_t gid;
    const uint32_t *groups;
    uint32_t group_count; /* <= META_GROUPS_MAX */
    bool checked;
};

struct client_stats {
    uint64_t calls;   /* RPCs sent */
    uint64_t repeats; /* of these, sent again after a failure */
    uint64_t timeouts;
    uint64_t checksum_errors;
    uint64_t read_bytes;
    uint64_t write_bytes;
    uint32_t open_files;
};
void client_stats(const struct client *client, struct client_stats *ret_stats);

/* ---- names ------------------------------------------------------------------------------- */

/* A name in a directory; the name (one component) is borrowed. */
struct client_place {
    uint64_t dir;
    struct slice name;
};

/* name: one component, borrowed. -ENOENT, -ENOTDIR, -ENAMETOOLONG, -EINVAL (empty, or a '/'). */
may_yield must_check int client_lookup(struct client *client, const struct client_cred *cred,
                                       uint64_t dir, struct slice name, struct wire_attr *ret_attr);
/* Make an object of the kind that mode says (S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK,
 * S_IFDIR). -EEXIST, ... */
may_yield must_check int client_mknod(struct client *client, const struct client_cred *cred,
                                      const struct client_place *place, uint32_t mode,
                                      uint32_t rdev, struct wire_attr *ret_attr);
may_yield must_check int client_symlink(struct client *client, const struct client_cred *cred,
                                        const struct client_place *place, struct slice target,
                                        struct wire_attr *ret_attr);
/* *ret_bytes: length; target has room for META_SYMLINK_MAX + 1; it is terminated. */
may_yield must_check int client_readlink(struct client *client, const struct client_cred *cred,
                                         uint64_t ino, char *target, uint32_t *ret_bytes);
may_yield must_check int client_link(struct client *client, const struct client_cred *cred,
                                     uint64_t ino, const struct client_place *place,
                                     struct wire_attr *ret_attr);
may_yield must_check int client_unlink(struct client *client, const struct client_cred *cred,
                                       uint64_t dir, struct slice name);
may_yield must_check int client_rmdir(struct client *client, const struct client_cred *cred,
                                      uint64_t dir, struct slice name);
/* flags: META_RENAME_NOREPLACE or META_RENAME_EXCHANGE or 0. */
may_yield must_check int client_rename(struct client *client, const struct client_cred *cred,
                                       const struct client_place *from,
                                       const struct client_place *to, uint32_t flags);

/* A path from the root; symbolic links on the way are followed, the last one if follow. -ELOOP. */
may_yield must_check int client_walk(struct client *client, const struct client_cred *cred,
                                     const char *path, bool follow, struct wire_attr *ret_attr);
/* The directory of the path's last component, and that component (points into path).
 * -EINVAL: the path names the root, or ends in "." or "..". */
may_yield must_check int client_walk_parent(struct client *client, const struct client_cred *cred,
                                            const char *path, uint64_t *ret_dir,
                                            struct slice *ret_name);

/* ---- attributes -------------------------------------------------------------------------- */

may_yield must_check int client_getattr(struct client *client, const struct client_cred *cred,
                                        uint64_t ino, struct wire_attr *ret_attr);

enum client_setattr_extra { CLIENT_KILL_PRIV = 1 << 16 }; /* in valid: clear set-id bits */
struct client_setattr {
    uint32_t valid; /* enum wire_meta_valid (not META_SET_CTIME), client_setattr_extra */
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    uint64_t size;
    int64_t atime_ns;
    int64_t mtime_ns;
};
/* A new owner or group clears set-id bits of what is no directory (the server does it). */
may_yield must_check int client_setattr(struct client *client, const struct client_cred *cred,
                                        uint64_t ino, const struct client_setattr *set,
                                        struct wire_attr *ret_attr);

/* Where bytes of unknown length go. */
struct client_bytes {
    void *data;
    uint32_t room;  /* 0: only the length is wanted */
    uint32_t bytes; /* out */
};
/* -ENODATA, -ERANGE (room too small). */
may_yield must_check int client_getxattr(struct client *client, const struct client_cred *cred,
                                         uint64_t ino, struct slice name,
                                         struct client_bytes *value);
/* flags: 0, META_XATTR_CREATE (-EEXIST), META_XATTR_REPLACE (-ENODATA). */
may_yield must_check int client_setxattr(struct client *client, const struct client_cred *cred,
                                         uint64_t ino, struct slice name, struct slice value,
                                         uint32_t flags);
/* Each name ends with a zero byte. */
may_yield must_check int client_listxattr(struct client *client, const struct client_cred *cred,
                                          uint64_t ino, struct client_bytes *names);
may_yield must_check int client_removexattr(struct client *client, const struct client_cred *cred,
                                            uint64_t ino, struct slice name);
/* Never takes longer than about two seconds: then the last answer, or -EIO if there was none. */
may_yield must_check int client_statfs(struct client *client, struct wire_statfs *ret_statfs);

/* ---- directories ------------------------------------------------------------------------- */

struct client_dir_page {
    struct msg *reply; /* private */
    struct reader reader;
    uint64_t cookie; /* where to go on */
    bool eof;
};
struct client_dirent {
    uint64_t ino;
    uint64_t cookie; /* of the entry after this one */
    uint32_t mode;   /* type bits */
    struct slice name;
    bool attr_valid;
    struct wire_attr attr;
};
/* One page of entries. "." and ".." are not among them. ret_page is to be ended with
 * client_dir_page_fini. */
struct client_readdir {
    uint64_t dir;
    uint64_t cookie; /* 0: from the start */
    uint32_t bytes;  /* about how much */
    bool want_attr;
};
may_yield must_check int client_readdir(struct client *client, const struct client_cred *cred,
                                        const struct client_readdir *what,
                                        struct client_dir_page *ret_page);
/* 1 and the next entry (its name lives as long as the page), 0 at the end of the page,
 * -ERR_CORRUPT_WIRE. */
must_check int client_dir_next(struct client_dir_page *page, struct client_dirent *ret_entry);
void client_dir_page_fini(struct client_dir_page *page);

/* ---- files ------------------------------------------------------------------------------- */

/* Open a regular file; client_file_attr is as of now then. The caller ends it with
 * client_release. */
may_yield must_check int client_open(struct client *client, const struct client_cred *cred,
                                     uint64_t ino, struct client_file **ret_file);
/* Make a regular file, or, without excl, open what is there. */
may_yield must_check int client_create(struct client *client, const struct client_cred *cred,
                                       const struct client_place *place, uint32_t mode, bool excl,
                                       struct client_file **ret_file);
uint64_t client_file_ino(const struct client_file *file);
/* The newest attributes known, without asking. */
void client_file_attr(const struct client_file *file, struct wire_attr *ret_attr);
/* Is this the only open file of its inode here? */
bool client_file_only(const struct client_file *file);
/* What close(2) has to wait for. */
may_yield must_check int client_flush(struct client_file *file);
/* Consumes file, whatever the result. */
may_yield int client_release(struct client_file *file);

enum {
    CLIENT_IO_MAX = 4 << 20, /* bytes of one client_read or client_write */
    CLIENT_PARTS_MAX = 16,
};
struct client_data {
    struct buf_slice parts[CLIENT_PARTS_MAX];
    uint32_t part_count;
    uint32_t bytes;
};
/* Up to bytes (<= CLIENT_IO_MAX), less only at the end of the file. Parts hold references: end
 * with client_data_fini. */
may_yield must_check int client_read(struct client_file *file, uint64_t offset, uint32_t bytes,
                                     struct client_data *ret_data);
void client_data_fini(struct client_data *data);
void client_data_copy(const struct client_data *data, void *out);
/* All of data (<= CLIENT_IO_MAX; borrowed) or an error. -EFBIG, -ENOSPC. */
may_yield must_check int client_write(struct client_file *file, uint64_t offset,
                                      struct buf_slice data);
/* The same at the end of the file, wherever other clients have moved it meanwhile: O_APPEND. */
may_yield must_check int client_append(struct client_file *file, struct buf_slice data);
/* Everything acknowledged so far, of this file, is durable when it returns 0. */
may_yield must_check int client_fsync(struct client_file *file);
/* The same for a directory's entries and attributes, or any inode's attributes. */
may_yield must_check int client_sync_inode(struct client *client, uint64_t ino);
/* mode: 0 extends the file if it is shorter (space is not reserved);
 * FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE zeroes. Others: -EOPNOTSUPP. */
may_yield must_check int client_fallocate(struct client_file *file, uint32_t mode, uint64_t offset,
                                          uint64_t bytes);

#endif
