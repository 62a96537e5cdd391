/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_WIRE_RAFT_H
#define CFS_FORMAT_WIRE_RAFT_H

#include "format/format.h"

/* Raft between the members of the map group: the tail of an RPC_RAFT request is one struct
 * wire_raft_message, then entry_count times struct wire_raft_entry with its data, each padded to 8
 * bytes. A snapshot's bytes travel as the payload. Log entries, the term and the snapshot are
 * stored with the same structs. */

enum {
    RAFT_VOTERS_MAX = 7,
    RAFT_LEARNERS_MAX = 7,
    RAFT_ENTRY_BYTES_MAX = 5 << 10, /* data of one entry; fits a value of the store */
};

/* Who takes part. Joint consensus while old_count > 0: decisions need a majority of voters and a
 * majority of voters_old. */
struct wire_raft_config {
    uint32_t voter_count;
    uint32_t old_count;
    uint32_t learner_count;
    uint32_t voters[RAFT_VOTERS_MAX];
    uint32_t voters_old[RAFT_VOTERS_MAX];
    uint32_t learners[RAFT_LEARNERS_MAX];
};
FORMAT_SIZE(struct wire_raft_config, 96);

enum wire_raft_flags {
    WIRE_RAFT_REJECT = 1, /* replies: no */
    WIRE_RAFT_FORCE = 2,  /* vote request of a leadership transfer: disregard the live leader */
};

struct wire_raft_message {
    uint32_t type; /* enum raft_message_type */
    uint32_t from;
    uint32_t to;
    uint32_t flags;
    uint64_t term;
    uint64_t index;    /* vote: last log index; append: entry before the first; snapshot: last
                          entry it stands for; replies: match, or a hint where to go on */
    uint64_t log_term; /* term of the entry at index */
    uint64_t commit;
    uint64_t round; /* append: number of the heartbeat round; repeated in the reply */
    uint32_t entry_count;
    uint32_t entry_bytes;           /* of all that follows this struct */
    struct wire_raft_config config; /* snapshot: as of index */
};
FORMAT_SIZE(struct wire_raft_message, 160);

struct wire_raft_entry {
    uint64_t term;
    uint32_t type; /* enum raft_entry_type */
    uint32_t bytes;
};
FORMAT_SIZE(struct wire_raft_entry, 16);

/* Stored: the term and vote. */
struct disk_raft_state {
    uint64_t term;
    uint32_t vote;
    uint32_t zero;
};
FORMAT_SIZE(struct disk_raft_state, 16);

/* Stored: head of the snapshot; its bytes are in chunk rows beside it. */
struct disk_raft_snapshot {
    uint64_t index;
    uint64_t term;
    uint32_t bytes;
    uint32_t chunk_count;
    uint32_t area; /* 0 or 1: which of the two holds the chunks */
    uint32_t zero;
    struct wire_raft_config config;
};
FORMAT_SIZE(struct disk_raft_snapshot, 128);

#endif
