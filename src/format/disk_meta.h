/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_DISK_META_H
#define CFS_FORMAT_DISK_META_H

#include "format/wire_meta.h"

/* The namespace as rows of a meta group's table. Keys: u32 group, u8 table, then as below; numbers
 * in keys are big-endian.
 *
 * table     key                                   value
 * INODE     u64 ino                               struct disk_inode
 * DENTRY    u64 dir, u64 hash of name, name       struct disk_dentry
 * XATTR     u64 ino, name                         the value's bytes
 * INLINE    u64 ino                               the file's bytes, or a symlink's target
 * ORPHAN    u64 ino                               i64: since when no name is left; to be deleted
 * REQUEST   u64 session, u32 slot                 struct disk_request: what the slot did last
 * PREPARED  u32 group, u32 epoch, u64 number      changes of a transaction, as in store_batch
 * DECIDED   u32 group, u32 epoch, u64 number      struct disk_decided, u32 group per participant
 * ALLOC     -                                     u64: file inode numbers below it may be in use
 * RENAME    -                                     never stored: the lock of directory moves */
enum meta_table {
    META_TABLE_INODE = 0x10,
    META_TABLE_DENTRY = 0x11,
    META_TABLE_XATTR = 0x12,
    META_TABLE_INLINE = 0x13,
    META_TABLE_ORPHAN = 0x14,
    META_TABLE_REQUEST = 0x15,
    META_TABLE_PREPARED = 0x16,
    META_TABLE_DECIDED = 0x17,
    META_TABLE_ALLOC = 0x18,
    META_TABLE_RENAME = 0x19,
};

enum {
    META_KEY_PREFIX = 5,
    META_KEY_MAX = META_KEY_PREFIX + 16 + META_NAME_MAX,
    META_PARTS_MAX = 8, /* groups that take part in a transaction besides the coordinator's */
    META_INO_BITS = 52, /* below the slot; directories have the highest of them set */
};
#define META_INO_DIR (1ull << (META_INO_BITS - 1))

struct disk_inode {
    uint64_t size;
    uint64_t change;
    int64_t atime_ns;
    int64_t mtime_ns;
    int64_t ctime_ns;
    int64_t btime_ns;
    uint64_t parent; /* directories: of ".."; files: where it was born or last renamed to */
    union {
        uint64_t entries;   /* directories: how many names are in it */
        uint64_t truncated; /* regular files: change, as of the last truncation of objects */
    };
    uint32_t mode;
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint32_t rdev;
    uint32_t flags;       /* enum wire_attr_flags */
    uint32_t xattr_count; /* may be too high, never too low */
    uint32_t zero;
};
FORMAT_SIZE(struct disk_inode, 96);

struct disk_dentry {
    uint64_t ino;
    uint32_t mode; /* type bits */
    uint32_t zero;
};
FORMAT_SIZE(struct disk_dentry, 16);

struct disk_request {
    uint64_t slot_seq;
    uint32_t type;       /* enum rpc_type */
    uint32_t attr_valid; /* 1: attr is what the reply carried */
    struct wire_attr attr;
};
FORMAT_SIZE(struct disk_request, 104);

struct disk_decided {
    uint32_t group_count;
    uint32_t zero;
};
FORMAT_SIZE(struct disk_decided, 8);

#endif
