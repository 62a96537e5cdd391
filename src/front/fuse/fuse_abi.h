/* SPDX-License-Identifier: MIT */
#ifndef CFS_FRONT_FUSE_FUSE_ABI_H
#define CFS_FRONT_FUSE_FUSE_ABI_H

/* The structs of the kernel's FUSE protocol, level 7.38, as far as it is spoken here: requests are
 * read from the device, one per read, replies written, one per write. */

#include "format/format.h"
#include "front/fuse/fuse_opcode.h"

struct fuse_in_header {
    uint32_t len;
    uint32_t opcode;
    uint64_t unique;
    uint64_t nodeid;
    uint32_t uid;
    uint32_t gid;
    uint32_t pid;
    uint16_t total_extlen; /* of extensions at the end, in units of 8 bytes */
    uint16_t padding;
};
FORMAT_SIZE(struct fuse_in_header, 40);

struct fuse_out_header {
    uint32_t len;
    int32_t error; /* 0 or -errno */
    uint64_t unique;
};
FORMAT_SIZE(struct fuse_out_header, 16);

struct fuse_attr {
    uint64_t ino;
    uint64_t size;
    uint64_t blocks;
    uint64_t atime;
    uint64_t mtime;
    uint64_t ctime;
    uint32_t atimensec;
    uint32_t mtimensec;
    uint32_t ctimensec;
    uint32_t mode;
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint32_t rdev;
    uint32_t blksize;
    uint32_t flags;
};
FORMAT_SIZE(struct fuse_attr, 88);

struct fuse_entry_out {
    uint64_t nodeid; /* 0: no such name, to be remembered as such */
    uint64_t generation;
    uint64_t entry_valid; /* s */
    uint64_t attr_valid;
    uint32_t entry_valid_nsec;
    uint32_t attr_valid_nsec;
    struct fuse_attr attr;
};
FORMAT_SIZE(struct fuse_entry_out, 128);

struct fuse_attr_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec;
    uint32_t dummy;
    struct fuse_attr attr;
};
FORMAT_SIZE(struct fuse_attr_out, 104);

struct fuse_getattr_in {
    uint32_t getattr_flags;
    uint32_t dummy;
    uint64_t fh;
};
FORMAT_SIZE(struct fuse_getattr_in, 16);

struct fuse_setattr_in {
    uint32_t valid;
    uint32_t padding;
    uint64_t fh;
    uint64_t size;
    uint64_t lock_owner;
    uint64_t atime;
    uint64_t mtime;
    uint64_t ctime;
    uint32_t atimensec;
    uint32_t mtimensec;
    uint32_t ctimensec;
    uint32_t mode;
    uint32_t unused4;
    uint32_t uid;
    uint32_t gid;
    uint32_t unused5;
};
FORMAT_SIZE(struct fuse_setattr_in, 88);

struct fuse_mknod_in {
    uint32_t mode;
    uint32_t rdev;
    uint32_t umask;
    uint32_t padding;
};
FORMAT_SIZE(struct fuse_mknod_in, 16);

struct fuse_mkdir_in {
    uint32_t mode;
    uint32_t umask;
};
FORMAT_SIZE(struct fuse_mkdir_in, 8);

struct fuse_rename_in {
    uint64_t newdir;
};
FORMAT_SIZE(struct fuse_rename_in, 8);

struct fuse_rename2_in {
    uint64_t newdir;
    uint32_t flags; /* as in renameat2(2) */
    uint32_t padding;
};
FORMAT_SIZE(struct fuse_rename2_in, 16);

struct fuse_link_in {
    uint64_t oldnodeid;
};
FORMAT_SIZE(struct fuse_link_in, 8);

struct fuse_open_in {
    uint32_t flags; /* as in open(2) */
    uint32_t open_flags;
};
FORMAT_SIZE(struct fuse_open_in, 8);

struct fuse_create_in {
    uint32_t flags;
    uint32_t mode;
    uint32_t umask;
    uint32_t open_flags;
};
FORMAT_SIZE(struct fuse_create_in, 16);

struct fuse_open_out {
    uint64_t fh;
    uint32_t open_flags;
    uint32_t padding;
};
FORMAT_SIZE(struct fuse_open_out, 16);

struct fuse_release_in {
    uint64_t fh;
    uint32_t flags;
    uint32_t release_flags;
    uint64_t lock_owner;
};
FORMAT_SIZE(struct fuse_release_in, 24);

struct fuse_flush_in {
    uint64_t fh;
    uint32_t unused;
    uint32_t padding;
    uint64_t lock_owner;
};
FORMAT_SIZE(struct fuse_flush_in, 24);

struct fuse_read_in { /* READ, READDIR, READDIRPLUS */
    uint64_t fh;
    uint64_t offset;
    uint32_t size;
    uint32_t read_flags;
    uint64_t lock_owner;
    uint32_t flags;
    uint32_t padding;
};
FORMAT_SIZE(struct fuse_read_in, 40);

struct fuse_write_in {
    uint64_t fh;
    uint64_t offset;
    uint32_t size;
    uint32_t write_flags;
    uint64_t lock_owner;
    uint32_t flags;
    uint32_t padding;
};
FORMAT_SIZE(struct fuse_write_in, 40);

struct fuse_write_out {
    uint32_t size;
    uint32_t padding;
};
FORMAT_SIZE(struct fuse_write_out, 8);

struct fuse_statfs_out {
    uint64_t blocks;
    uint64_t bfree;
    uint64_t bavail;
    uint64_t files;
    uint64_t ffree;
    uint32_t bsize;
    uint32_t namelen;
    uint32_t frsize;
    uint32_t padding;
    uint32_t spare[6];
};
FORMAT_SIZE(struct fuse_statfs_out, 80);

struct fuse_fsync_in {
    uint64_t fh;
    uint32_t fsync_flags;
    uint32_t padding;
};
FORMAT_SIZE(struct fuse_fsync_in, 16);

struct fuse_setxattr_in { /* the short form: FUSE_SETXATTR_EXT is not negotiated */
    uint32_t size;
    uint32_t flags; /* as in setxattr(2) */
};
FORMAT_SIZE(struct fuse_setxattr_in, 8);

struct fuse_getxattr_in { /* GETXATTR, LISTXATTR */
    uint32_t size;        /* 0: the length is asked for */
    uint32_t padding;
};
FORMAT_SIZE(struct fuse_getxattr_in, 8);

struct fuse_getxattr_out {
    uint32_t size;
    uint32_t padding;
};
FORMAT_SIZE(struct fuse_getxattr_out, 8);

struct fuse_fallocate_in {
    uint64_t fh;
    uint64_t offset;
    uint64_t length;
    uint32_t mode;
    uint32_t padding;
};
FORMAT_SIZE(struct fuse_fallocate_in, 32);

struct fuse_interrupt_in {
    uint64_t unique; /* of the request that the caller no longer wants */
};
FORMAT_SIZE(struct fuse_interrupt_in, 8);

struct fuse_init_in {
    uint32_t major;
    uint32_t minor;
    uint32_t max_readahead;
    uint32_t flags;
};
FORMAT_SIZE(struct fuse_init_in, 16);

struct fuse_init_out {
    uint32_t major;
    uint32_t minor;
    uint32_t max_readahead;
    uint32_t flags;
    uint16_t max_background;
    uint16_t congestion_threshold;
    uint32_t max_write;
    uint32_t time_gran; /* ns */
    uint16_t max_pages;
    uint16_t map_alignment;
    uint32_t flags2;
    uint32_t unused[7];
};
FORMAT_SIZE(struct fuse_init_out, 64);

/* A reply with request 0 and a notification code in place of the error.
 * off < 0: attributes only. */
struct fuse_notify_inval_inode_out {
    uint64_t ino;
    int64_t off;
    int64_t len;
};
FORMAT_SIZE(struct fuse_notify_inval_inode_out, 24);

/* The name follows, without a zero, padded to 8 bytes. */
struct fuse_dirent {
    uint64_t ino;
    uint64_t off; /* of the entry after this one */
    uint32_t namelen;
    uint32_t type; /* S_IFMT bits >> 12 */
};
FORMAT_SIZE(struct fuse_dirent, 24);

#endif
