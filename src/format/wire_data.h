/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_WIRE_DATA_H
#define CFS_FORMAT_WIRE_DATA_H

#include "format/rpc.h"

/* File data. An object is OBJECT_BYTES of one file: (inode, index). The group of an object follows
 * from the map (map_view_of_object). */

enum {
    OBJECT_BYTES = 4 << 20,
    DATA_BLOCK_BYTES = 4096,
    DATA_IO_MAX = 1 << 20, /* bytes of one OBJ_READ or OBJ_WRITE */
};

/* OBJ_READ: whole blocks: offset and bytes are multiples of 4096, inside one object.
 * Reply: payload = the blocks; trailing blocks that were never written are left out (they read as
 * zeroes), so payload_bytes <= bytes, a multiple of 4096. Tail: one CRC-32C (u32) per block sent.
 *
 * OBJ_WRITE: any range inside one object. Payload = the bytes. Tail: one CRC-32C per block
 * fragment: the range cut at multiples of 4096 of the object offset.
 *
 * OBJ_FETCH: member to member: like OBJ_READ, from what the member has applied; any member
 * answers.
 *
 * OBJ_TRUNCATE: remove everything of the inode in the addressed group at and behind (index,
 * offset): all extents of objects > index, and of object index from offset on (the edge block is
 * zeroed from offset). (0, 0) removes the file's data in this group. order grows with every
 * truncation of the inode (a repetition keeps it): one that comes when it, or a later one, is
 * done does nothing, for what was written since is not its business.
 *
 * OBJ_WRITE and OBJ_TRUNCATE carry the inode's change: as the writer knows it, and as it will be
 * after the truncation. A write that knows of less than the last truncation here is refused with
 * ERR_TRUNCATED: its bytes would come back when the file is extended again.
 *
 * OBJ_PUNCH: zero the range inside one object; whole blocks are given back.
 *
 * OBJ_SYNC: everything acknowledged in this group is durable when it returns.
 *
 * OBJ_WRITE and OBJ_PUNCH happen at most once per (session, slot, slot_seq): a session has one
 * request at a time in a slot, with a greater number each, and says with OBJ_RETRY that this may be
 * a repetition. A slot whose last request got no answer is never used again. session 0: whoever
 * sends it makes sure that it may happen again. */
enum wire_obj_flags {
    OBJ_RETRY = 1, /* this may be a repetition: see what was done first */
    OBJ_ASK = 2,   /* OBJ_WRITE without a payload: would it be refused? Nothing is written */
};
struct wire_obj_req {
    struct wire_body body;
    uint64_t session;
    uint64_t slot;
    uint64_t slot_seq; /* from 1 */
    uint64_t ino;
    uint32_t index;
    uint32_t offset;
    uint32_t bytes;
    uint32_t flags;  /* enum wire_obj_flags */
    uint64_t order;  /* OBJ_TRUNCATE; 0: none */
    uint64_t change; /* OBJ_WRITE (0: written under the inode's lock), OBJ_TRUNCATE */
};
FORMAT_SIZE(struct wire_obj_req, 72);

struct wire_obj_rep {
    struct wire_body body;
    uint32_t bytes;
    uint32_t zero;
};
FORMAT_SIZE(struct wire_obj_rep, 16);

#define DATA_VERB(name)                                                                            \
    struct wire_##name##_req {                                                                     \
        struct wire_obj_req obj;                                                                   \
    };                                                                                             \
    struct wire_##name##_rep {                                                                     \
        struct wire_obj_rep obj;                                                                   \
    }
DATA_VERB(obj_read);
DATA_VERB(obj_write);
DATA_VERB(obj_fetch);
DATA_VERB(obj_truncate);
DATA_VERB(obj_punch);
DATA_VERB(obj_sync);
#undef DATA_VERB

#endif
