/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_WIRE_GROUP_H
#define CFS_FORMAT_WIRE_GROUP_H

#include "format/rpc.h"

/* Member-to-member messages of a group. header.group and header.epoch address it. */

/* One log record inside PREPARE: then its payload padded to 8 bytes, then extent_count u32 block
 * counts padded to 8 bytes. Its data is in the message's payload, at data_offset. */
struct wire_group_record {
    uint64_t seq;
    uint32_t epoch; /* in which it was made */
    uint32_t kind;  /* enum group_record_kind */
    uint32_t payload_bytes;
    uint32_t data_offset;
    uint32_t data_bytes; /* multiple of 4096: the sum of its extents */
    uint32_t extent_count;
};
FORMAT_SIZE(struct wire_group_record, 32);

/* PREPARE: primary to in-sync and joining members. Tail: records in ascending seq. */
struct wire_prepare_req {
    struct wire_body body;
    uint64_t commit_seq; /* everything up to here is committed */
    uint32_t record_count;
    uint32_t zero;
};
FORMAT_SIZE(struct wire_prepare_req, 24);
struct wire_prepare_rep {
    struct wire_body body;
    uint64_t held_seq;   /* the member holds every record up to here */
    uint64_t free_bytes; /* on its device, for new data */
};
FORMAT_SIZE(struct wire_prepare_rep, 24);

/* RECONCILE: a new primary asks a member what it holds, and tells it where the log ends. Reply
 * tail: struct wire_group_held[held_count], the member's prepared records. */
struct wire_reconcile_req {
    struct wire_body body;
    uint64_t last_seq; /* of the new primary: records above are void */
    uint64_t commit_seq;
};
FORMAT_SIZE(struct wire_reconcile_req, 24);
struct wire_reconcile_rep {
    struct wire_body body;
    uint64_t applied_seq;
    uint32_t applied_epoch; /* epoch of the record at applied_seq */
    uint32_t held_count;
    uint32_t valid; /* 0: an incomplete copy, needs a scan */
    uint32_t zero;
};
FORMAT_SIZE(struct wire_reconcile_rep, 32);
struct wire_group_held {
    uint64_t seq;
    uint32_t epoch;
    uint32_t zero;
};
FORMAT_SIZE(struct wire_group_held, 16);

/* CATCH_UP: a joining member asks the primary for what it lacks. */
enum wire_catch_up_state {
    CATCH_UP_INVALID = 0, /* an incomplete copy */
    CATCH_UP_VALID = 1,   /* complete as of applied_seq */
    CATCH_UP_EMPTIED = 2, /* has forgotten everything and waits for a scan from applied_seq on */
};
struct wire_catch_up_req {
    struct wire_body body;
    uint64_t applied_seq;
    uint32_t applied_epoch;
    uint32_t state;      /* enum wire_catch_up_state */
    uint64_t held_seq;   /* the last record held, prepared ones included */
    uint32_t held_epoch; /* in which that was made */
    uint32_t zero;
};
FORMAT_SIZE(struct wire_catch_up_req, 40);
struct wire_catch_up_rep {
    struct wire_body body;
    uint64_t start_seq;   /* held_seq: PREPAREs follow. Less: forget what is behind, ask again.
                             by_scan: forget everything, go on from here, ask again */
    uint32_t by_scan;     /* 1: the log does not reach back; INSTALL messages follow */
    uint32_t start_epoch; /* of record start_seq */
    uint64_t total_bytes; /* by_scan: about how much data will come */
};
FORMAT_SIZE(struct wire_catch_up_rep, 32);

/* INSTALL: a run of the primary's table, for a member that joins by scan. Tail: from and to key
 * (u16 length + bytes each), then pairs (u16 key length, u16 value length, u32 data bytes, key,
 * value), data in the payload in the same order. The member first applies all records up to
 * as_of_seq, then replaces everything in [from, to). -ERR_GAP: it does not hold them yet. */
struct wire_install_req {
    struct wire_body body;
    uint64_t as_of_seq; /* the run shows the state after this record */
    uint32_t pair_count;
    uint32_t last; /* 1: the scan is complete */
};
FORMAT_SIZE(struct wire_install_req, 24);
struct wire_install_rep {
    struct wire_body body;
};
FORMAT_SIZE(struct wire_install_rep, 8);

/* GROUP_FLUSH: make every record up to seq durable on the member's device. */
struct wire_group_flush_req {
    struct wire_body body;
    uint64_t seq;
};
FORMAT_SIZE(struct wire_group_flush_req, 16);
struct wire_group_flush_rep {
    struct wire_body body;
    uint64_t durable_seq;
};
FORMAT_SIZE(struct wire_group_flush_rep, 16);

#endif
