/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_WIRE_META_H
#define CFS_FORMAT_WIRE_META_H

#include "format/rpc.h"

/* The namespace on the wire. An inode number's top 12 bits are its slot. */

#define CFS_ROOT_INO 0x0000000000000001ull /* slot 0 */

enum {
    META_NAME_MAX = 255,
    META_SYMLINK_MAX = 4095,
    META_XATTR_NAME_MAX = 255,
    META_XATTR_VALUE_MAX = 4096,
    META_XATTR_COUNT_MAX = 64, /* per inode */
    META_LINK_MAX = 65000,
    META_INLINE_MAX = 4096,
    META_SLOTS_PER_SESSION = 256, /* concurrent mutating requests of one session */
    META_GROUPS_MAX = 32,         /* supplementary groups sent with a request */
};
#define META_FILE_SIZE_MAX (1ull << 44) /* 16 TiB: 2^22 objects of 4 MiB */

static inline uint32_t ino_slot(uint64_t ino)
{
    return (uint32_t)(ino >> 52);
}

enum wire_attr_flags {
    ATTR_INLINE = 1, /* the data is in the metadata; never set again once cleared */
};

struct wire_attr {
    uint64_t ino;
    uint64_t size;
    uint64_t blocks; /* of 512 bytes, an estimate from size */
    int64_t atime_ns;
    int64_t mtime_ns;
    int64_t ctime_ns;
    int64_t btime_ns;
    uint64_t change; /* grows with every change of the inode */
    uint32_t mode;   /* type and permissions as in stat(2) */
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint32_t rdev;
    uint32_t flags; /* enum wire_attr_flags */
};
FORMAT_SIZE(struct wire_attr, 88);

enum wire_meta_valid { /* SETATTR: which fields are to be set */
                       META_SET_MODE = 1,
                       META_SET_UID = 2,
                       META_SET_GID = 4,
                       META_SET_SIZE =
                           8, /* grows are done by SETATTR; shrinks go through TRUNCATE */
                       META_SET_ATIME = 16,
                       META_SET_MTIME = 32,
                       META_SET_CTIME = 64,
                       META_SET_ATIME_NOW = 128,
                       META_SET_MTIME_NOW = 256,
};

enum wire_meta_flags {
    META_CRED_CHECKED = 1,     /* the kernel has checked permissions (default_permissions) */
    META_RENAME_NOREPLACE = 2, /* RENAME */
    META_RENAME_EXCHANGE = 4,
    META_CREATE_EXCL = 8, /* CREATE: -EEXIST if there; else open what is there */
    META_OPEN = 16,       /* CREATE, OPEN: register an open file for the session */
    META_WANT_DATA = 32,  /* OPEN, LOOKUP: return inline data in the tail */
    META_WANT_ATTR = 64,  /* READDIR: entries with attributes where at hand */
    META_XATTR_CREATE = 128,
    META_XATTR_REPLACE = 256,
    META_RETRY = 512,      /* this may be a repetition: look the result up first */
    META_APPEND = 1024,    /* INLINE_WRITE, GROW: at the end, wherever that is */
    META_KEEP_SIZE = 2048, /* INLINE_WRITE: what lies behind the end is not written */
};

/* One request layout for all metadata verbs. Fields that a verb does not name below are 0.
 *
 * verb        ino      name      others                                       reply
 * LOOKUP      dir      name                                                   attr [inline data]
 * GETATTR     inode                                                           attr
 * SETATTR     inode              valid mode uid2 gid2 size atime mtime        attr
 * TRUNCATE    inode              size (<= or >= now)                          attr
 * CREATE      dir      name      mode, META_OPEN [open_id], META_CREATE_EXCL  attr, open_id
 * MKNOD       dir      name      mode (type included), rdev                   attr
 * MKDIR       dir      name      mode                                         attr
 * SYMLINK     dir      name      value = target                               attr
 * READLINK    inode                                                           tail: target
 * LINK        dir      name      ino2 = inode                                 attr
 * UNLINK      dir      name                                                   -
 * RMDIR       dir      name                                                   -
 * RENAME      dir      name      ino2 = target dir, name2, flags              -
 * OPEN        inode              META_OPEN [open_id], META_WANT_DATA          attr, open_id, tail
 * RELEASE     inode              value = struct wire_release[], of its group  -
 * READDIR     dir                offset = cookie (0: start), size = bytes     dirents in the tail
 * GETXATTR    inode    name                                                   tail: value
 * SETXATTR    inode    name      value, flags                                 -
 * LISTXATTR   inode                                                           tail: names, each \0
 * REMOVEXATTR inode    name                                                   -
 * STATFS      any                                                             struct in the tail
 * INLINE_READ inode                                                           attr, tail: data
 * INLINE_WRITE inode             offset; value = bytes, end <= META_INLINE_MAX  attr
 * GROW        inode              size = new minimum size, mtime, change       attr
 * SYNC        inode                                                           -
 *
 * With META_OPEN, an open_id chosen by the client (unique in its session) makes a repetition
 * register nothing new; 0: the server chooses one.
 * LOOKUP answers with the entry's inode number and mode type even when the inode lives in another
 * group: attr_valid is 0 then and the caller asks that group with GETATTR.
 * INLINE_WRITE and INLINE_READ answer -ERR_NOT_INLINE once the file has moved to objects. The
 * client asks for the move with GROW(size > META_INLINE_MAX) before its first object write; the
 * server writes inline data to object 0 and then clears ATTR_INLINE.
 * GROW answers -ERR_TRUNCATED if objects of the file were truncated after change.
 * With META_APPEND, INLINE_WRITE ignores offset and writes at the end (-ERR_NOT_INLINE also if that
 * would not fit), and GROW adds size bytes to the file: the caller owns the last size bytes below
 * the size answered, and writes them then. A repetition is answered with the size of the first
 * time. The mutating verbs (all but LOOKUP, GETATTR, READLINK, OPEN, RELEASE, READDIR, GETXATTR,
 * LISTXATTR, STATFS, INLINE_READ, SYNC) happen exactly once per (session, slot, slot_seq). */
struct wire_meta_req {
    struct wire_body body;
    uint64_t session;
    uint64_t slot_seq; /* of the session's slot: from 1, +1 with every new request in the slot */
    uint32_t slot;     /* < META_SLOTS_PER_SESSION */
    uint32_t flags;    /* enum wire_meta_flags */
    uint64_t ino;
    uint64_t ino2;
    uint64_t offset;
    uint64_t size;
    uint64_t open_id;
    int64_t atime_ns;
    int64_t mtime_ns;
    uint32_t valid; /* enum wire_meta_valid */
    uint32_t mode;
    uint32_t rdev;
    uint32_t uid; /* of the caller */
    uint32_t gid;
    uint32_t uid2; /* to be set */
    uint32_t gid2;
    uint16_t name_bytes; /* tail: name, name2, value, group_count * u32 */
    uint16_t name2_bytes;
    uint16_t value_bytes;
    uint16_t group_count;
    uint32_t zero;
    uint64_t change; /* GROW: of the inode, as the caller knows it; 0: whatever it is */
};
FORMAT_SIZE(struct wire_meta_req, 136);

struct wire_meta_rep {
    struct wire_body body;
    struct wire_attr attr;
    uint64_t open_id;
    uint64_t cookie; /* READDIR: where to go on */
    uint32_t attr_valid;
    uint32_t eof; /* READDIR */
    uint32_t tail_bytes;
    uint32_t dir_attr_valid;
    /* Of the directory ino, after the change that was asked for: its owner would only ask. Not with
     * every answer (a repetition has none). */
    struct wire_attr dir_attr;
};
FORMAT_SIZE(struct wire_meta_rep, 216);

/* One directory entry in the tail of READDIR; name follows, padded to 8 bytes. */
struct wire_dirent {
    uint64_t ino;
    uint64_t cookie; /* of the entry after this one */
    uint32_t mode;   /* type bits, as in stat(2) */
    uint16_t name_bytes;
    uint16_t attr_bytes; /* 0, or sizeof(struct wire_attr): it follows the padded name */
};
FORMAT_SIZE(struct wire_dirent, 24);

/* RELEASE: a registration that ends. One that is not known is none any more. */
struct wire_release {
    uint64_t ino;
    uint64_t open_id;
};
FORMAT_SIZE(struct wire_release, 16);

struct wire_statfs {
    uint64_t size_bytes;
    uint64_t free_bytes;
    uint64_t files;
    uint64_t files_free;
};
FORMAT_SIZE(struct wire_statfs, 32);

#define META_VERB(name)                                                                            \
    struct wire_##name##_req {                                                                     \
        struct wire_meta_req meta;                                                                 \
    };                                                                                             \
    struct wire_##name##_rep {                                                                     \
        struct wire_meta_rep meta;                                                                 \
    }
META_VERB(lookup);
META_VERB(getattr);
META_VERB(setattr);
META_VERB(truncate);
META_VERB(create);
META_VERB(mknod);
META_VERB(mkdir);
META_VERB(symlink);
META_VERB(readlink);
META_VERB(link);
META_VERB(unlink);
META_VERB(rmdir);
META_VERB(rename);
META_VERB(open);
META_VERB(release);
META_VERB(readdir);
META_VERB(getxattr);
META_VERB(setxattr);
META_VERB(listxattr);
META_VERB(removexattr);
META_VERB(statfs);
META_VERB(inline_read);
META_VERB(inline_write);
META_VERB(grow);
META_VERB(sync);
#undef META_VERB

/* ---- transactions between groups: coordinator primary to participant primary ---------------- */

struct wire_txn_id {
    uint32_t group; /* the coordinator's group */
    uint32_t epoch; /* in which the coordinator began */
    uint64_t number;
};
FORMAT_SIZE(struct wire_txn_id, 16);

/* TXN_LOCK: lock keys for the transaction and read them. Tail: key_count * (u16 length, key).
 * Reply tail: key_count * (u32 length or 0xffffffff for none, value). -ERR_BUSY: not to be had
 * before the deadline; the coordinator aborts and starts over. txn.number 0: only read what is
 * committed, no locks. */
struct wire_txn_lock_req {
    struct wire_body body;
    struct wire_txn_id txn;
    uint32_t key_count;
    uint32_t wait_ms;
};
FORMAT_SIZE(struct wire_txn_lock_req, 32);
struct wire_txn_lock_rep {
    struct wire_body body;
};
FORMAT_SIZE(struct wire_txn_lock_rep, 8);

/* TXN_PREPARE: log the changes (tail: as in struct store_batch) under the locks taken before. */
struct wire_txn_prepare_req {
    struct wire_body body;
    struct wire_txn_id txn;
};
FORMAT_SIZE(struct wire_txn_prepare_req, 24);
struct wire_txn_prepare_rep {
    struct wire_body body;
};
FORMAT_SIZE(struct wire_txn_prepare_rep, 8);

/* TXN_FINISH: commit or abort what was prepared, release the locks. Idempotent. */
struct wire_txn_finish_req {
    struct wire_body body;
    struct wire_txn_id txn;
    uint32_t commit;
    uint32_t zero;
};
FORMAT_SIZE(struct wire_txn_finish_req, 32);
struct wire_txn_finish_rep {
    struct wire_body body;
};
FORMAT_SIZE(struct wire_txn_finish_rep, 8);

/* TXN_STATUS: asked by a participant in doubt. outcome: 0 aborted, 1 committed, 2 still running. */
struct wire_txn_status_req {
    struct wire_body body;
    struct wire_txn_id txn;
};
FORMAT_SIZE(struct wire_txn_status_req, 24);
struct wire_txn_status_rep {
    struct wire_body body;
    uint32_t outcome;
    uint32_t zero;
};
FORMAT_SIZE(struct wire_txn_status_rep, 16);

#endif
