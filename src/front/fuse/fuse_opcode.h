/* SPDX-License-Identifier: MIT */
#ifndef CFS_FRONT_FUSE_FUSE_OPCODE_H
#define CFS_FRONT_FUSE_FUSE_OPCODE_H

/* Numbers and flags of the kernel's FUSE protocol, level 7.38, as far as it is spoken here. */

enum {
    FUSE_MAJOR = 7,
    FUSE_MINOR = 38,
    FUSE_MINOR_MIN = 31, /* what we reply to INIT with has this shape since then */
    FUSE_READ_BUFFER_MIN = 8192,
};

enum fuse_opcode {
    FUSE_LOOKUP = 1,
    FUSE_FORGET = 2, /* no reply */
    FUSE_GETATTR = 3,
    FUSE_SETATTR = 4,
    FUSE_READLINK = 5,
    FUSE_SYMLINK = 6,
    FUSE_MKNOD = 8,
    FUSE_MKDIR = 9,
    FUSE_UNLINK = 10,
    FUSE_RMDIR = 11,
    FUSE_RENAME = 12,
    FUSE_LINK = 13,
    FUSE_OPEN = 14,
    FUSE_READ = 15,
    FUSE_WRITE = 16,
    FUSE_STATFS = 17,
    FUSE_RELEASE = 18,
    FUSE_FSYNC = 20,
    FUSE_SETXATTR = 21,
    FUSE_GETXATTR = 22,
    FUSE_LISTXATTR = 23,
    FUSE_REMOVEXATTR = 24,
    FUSE_FLUSH = 25,
    FUSE_INIT = 26,
    FUSE_OPENDIR = 27,
    FUSE_READDIR = 28,
    FUSE_RELEASEDIR = 29,
    FUSE_FSYNCDIR = 30,
    FUSE_CREATE = 35,
    FUSE_INTERRUPT = 36, /* no reply */
    FUSE_DESTROY = 38,
    FUSE_BATCH_FORGET = 42, /* no reply */
    FUSE_FALLOCATE = 43,
    FUSE_READDIRPLUS = 44,
    FUSE_RENAME2 = 45,
    FUSE_OPCODE_MAX = 63,
};

enum fuse_notify_code {
    FUSE_NOTIFY_INVAL_INODE = 2,
};

/* INIT */
#define FUSE_ASYNC_READ         (1u << 0)
#define FUSE_ATOMIC_O_TRUNC     (1u << 3)
#define FUSE_EXPORT_SUPPORT     (1u << 4)
#define FUSE_BIG_WRITES         (1u << 5)
#define FUSE_AUTO_INVAL_DATA    (1u << 12)
#define FUSE_DO_READDIRPLUS     (1u << 13)
#define FUSE_READDIRPLUS_AUTO   (1u << 14)
#define FUSE_ASYNC_DIO          (1u << 15)
#define FUSE_PARALLEL_DIROPS    (1u << 18)
#define FUSE_MAX_PAGES          (1u << 22)
#define FUSE_CACHE_SYMLINKS     (1u << 23)
#define FUSE_HANDLE_KILLPRIV_V2 (1u << 28)

/* SETATTR: fuse_setattr_in.valid */
#define FATTR_MODE         (1u << 0)
#define FATTR_UID          (1u << 1)
#define FATTR_GID          (1u << 2)
#define FATTR_SIZE         (1u << 3)
#define FATTR_ATIME        (1u << 4)
#define FATTR_MTIME        (1u << 5)
#define FATTR_ATIME_NOW    (1u << 7)
#define FATTR_MTIME_NOW    (1u << 8)
#define FATTR_KILL_SUIDGID (1u << 11)

#define FOPEN_DIRECT_IO              (1u << 0)
#define FOPEN_KEEP_CACHE             (1u << 1) /* fuse_open_out.open_flags */
#define FOPEN_NOFLUSH                (1u << 5)
#define FOPEN_PARALLEL_DIRECT_WRITES (1u << 6)
#define FUSE_OPEN_KILL_SUIDGID       (1u << 0) /* fuse_open_in.open_flags */
#define FUSE_WRITE_CACHE             (1u << 0) /* fuse_write_in.write_flags: pages written back */
#define FUSE_WRITE_KILL_SUIDGID      (1u << 2) /* fuse_write_in.write_flags */

/* Ioctl on a newly opened device: join the connection of the device whose descriptor is given. */
#define FUSE_DEV_IOC_CLONE 0x8004e500u

#endif
