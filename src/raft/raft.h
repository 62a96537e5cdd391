/* SPDX-License-Identifier: MIT */
#ifndef CFS_RAFT_RAFT_H
#define CFS_RAFT_RAFT_H

/* Raft as a pure machine: raft_step takes one event and says what its owner must now persist, send
 * and apply. No I/O, no clock, no allocation in a step; time and randomness come from outside, so
 * the same events give the same run. Theory and invariants: raft.c.
 *
 * Contract of the owner, after each step:
 *   1. persist, in this order and as one atomic change, what update->persist names; start that
 *      write before the next step's, and report RAFT_EVENT_PERSISTED once it is durable;
 *   2. send update->messages (encode them before the next step; losing some is fine);
 *   3. apply the entries up to update->commit_index that it has not applied yet.
 */

#include "base/bytes.h"
#include "base/defs.h"
#include "format/wire_raft.h"

enum {
    RAFT_LOG_ENTRIES_MAX = 512,
    RAFT_LOG_BYTES = 1 << 20,
    RAFT_UNCOMMITTED_MAX = 128, /* proposals beyond are refused with -ERR_BUSY */
    RAFT_MESSAGES_MAX = 48,     /* that one step can send */
    RAFT_READS_MAX = 64,
    RAFT_APPEND_ENTRIES_MAX = 64,
    RAFT_APPEND_BYTES_MAX = 64 << 10,
    RAFT_MESSAGE_BYTES_MAX = RAFT_APPEND_BYTES_MAX + (8 << 10), /* encoded, without snapshot */
};

struct raft;

enum raft_role {
    RAFT_FOLLOWER,
    RAFT_PRE_CANDIDATE, /* asks whether an election could be won, disturbing nobody */
    RAFT_CANDIDATE,
    RAFT_LEADER,
};

enum raft_entry_type {
    RAFT_ENTRY_NOOP = 1,   /* first entry of a leader's term */
    RAFT_ENTRY_DATA = 2,   /* the owner's */
    RAFT_ENTRY_CONFIG = 3, /* struct wire_raft_config */
};

struct raft_entry {
    uint64_t index;
    uint64_t term;
    enum raft_entry_type type;
    struct slice data; /* inside the machine: valid until the next step */
};

enum raft_message_type {
    RAFT_PRE_VOTE = 1,
    RAFT_PRE_VOTE_REPLY = 2,
    RAFT_VOTE = 3,
    RAFT_VOTE_REPLY = 4,
    RAFT_APPEND = 5,
    RAFT_APPEND_REPLY = 6,
    RAFT_SNAPSHOT = 7,
    RAFT_SNAPSHOT_REPLY = 8,
    RAFT_TIMEOUT_NOW = 9,
};

/* Fields as in struct wire_raft_message. */
struct raft_message {
    enum raft_message_type type;
    uint32_t from;
    uint32_t to;
    bool reject;
    bool force;
    uint64_t term;
    uint64_t index;
    uint64_t log_term;
    uint64_t commit;
    uint64_t round;
    uint32_t entry_count;           /* append: sent, log entries index + 1 .. index + count */
    struct slice entries;           /* append: received, as encoded; checked by raft_decode */
    struct wire_raft_config config; /* snapshot */
};

enum raft_event_type {
    RAFT_EVENT_TICK,      /* now_ns has reached raft_deadline_ns */
    RAFT_EVENT_MESSAGE,   /* message; of a snapshot, the bytes have been found good */
    RAFT_EVENT_PERSISTED, /* all up to persist_seq is durable */
    RAFT_EVENT_PROPOSE,   /* data -> update->index */
    RAFT_EVENT_CONFIG,    /* config: the wanted voters and learners */
    RAFT_EVENT_READ,      /* read_id: confirm that we lead, see update->reads */
    RAFT_EVENT_TRANSFER,  /* node: the follower that shall lead */
    RAFT_EVENT_SNAPSHOT, /* index: the owner's state as of that applied entry may replace the log */
    RAFT_EVENT_PEER_GONE, /* node: its process is proven dead */
};

struct raft_event {
    enum raft_event_type type;
    uint64_t now_ns;
    uint32_t node;
    bool urgent; /* READ: start a heartbeat round at once instead of using the next one */
    const struct raft_message *message;
    uint64_t persist_seq;
    struct slice data;
    const struct wire_raft_config *config;
    uint64_t read_id;
    uint64_t index;
};

enum raft_persist_flags {
    RAFT_PERSIST_STATE = 1,    /* term and vote */
    RAFT_PERSIST_SNAPSHOT = 2, /* snapshot_*, with the owner's bytes; delete entries <= its index */
    RAFT_PERSIST_LOG = 4,      /* entries log_first .. log_last; delete all with a larger index */
};

struct raft_read {
    uint64_t id;
    uint64_t index; /* state as of this entry answers the read; 0: we do not lead any more */
};

struct raft_update {
    int result;     /* of PROPOSE, CONFIG, READ, TRANSFER; else 0 */
    uint64_t index; /* PROPOSE: of the new entry */

    uint32_t persist;     /* enum raft_persist_flags */
    uint64_t persist_seq; /* number of this write, if persist != 0 */
    uint64_t log_first;
    uint64_t log_last;
    bool install; /* the snapshot in the event's message replaces the owner's state */

    uint64_t commit_index;
    bool role_changed; /* role, term or known leader differ from before the step */

    uint32_t message_count;
    uint32_t read_count;
    struct raft_message messages[RAFT_MESSAGES_MAX];
    struct raft_read reads[RAFT_READS_MAX];
};

struct raft_options {
    uint32_t node;
    uint64_t seed; /* of election timeouts */
    uint64_t election_min_ns;
    uint64_t election_max_ns;
    uint64_t heartbeat_ns;
    uint64_t gone_stagger_ns;       /* after PEER_GONE: delay between the candidates */
    struct wire_raft_config config; /* of a cluster that has neither log nor snapshot */
};

/* ---- life -------------------------------------------------------------------------------- */

/* A machine that has nothing stored. Free with raft_free. */
struct raft *raft_new(const struct raft_options *options);
void raft_free(struct raft *raft);
/* Before the first step: what was stored, in this order. */
void raft_restore_state(struct raft *raft, uint64_t term, uint32_t vote);
void raft_restore_snapshot(struct raft *raft, uint64_t index, uint64_t term,
                           const struct wire_raft_config *config);
/* Entries in order, without gaps. -ERR_CORRUPT_DISK: index, term, type or config make no sense. */
must_check int raft_restore_entry(struct raft *raft, uint64_t index, uint64_t term, uint32_t type,
                                  struct slice data);
/* Arm the timers. */
void raft_start(struct raft *raft, uint64_t now_ns);

/* ---- step -------------------------------------------------------------------------------- */

/* update is overwritten. Results of PROPOSE, CONFIG, READ, TRANSFER: 0, -ERR_NOT_LEADER, -ERR_BUSY
 * (log or read queue full, a transfer or configuration change under way, nothing committed yet in
 * this term), -EINVAL (config, target). */
void raft_step(struct raft *raft, const struct raft_event *event, struct raft_update *update);
/* When the next TICK is due. */
uint64_t raft_deadline_ns(const struct raft *raft);
/* Assert the invariants. */
void raft_check(const struct raft *raft);

/* ---- looking ----------------------------------------------------------------------------- */

enum raft_role raft_role(const struct raft *raft);
uint64_t raft_term(const struct raft *raft);
uint32_t raft_vote(const struct raft *raft);
uint32_t raft_leader(const struct raft *raft); /* 0: not known */
uint64_t raft_commit_index(const struct raft *raft);
uint64_t raft_last_index(const struct raft *raft);
uint64_t raft_snapshot_index(const struct raft *raft);
uint64_t raft_snapshot_term(const struct raft *raft);
const struct wire_raft_config *raft_snapshot_config(const struct raft *raft);
const struct wire_raft_config *raft_config(const struct raft *raft);
/* Is the newest configuration committed, and not a joint one? */
bool raft_config_settled(const struct raft *raft);
/* Leader: how far the member's log is known to equal ours; 0: unknown, or no member. */
uint64_t raft_match(const struct raft *raft, uint32_t node);
/* Number of the newest heartbeat round: reads asked for between two rounds share an answer. */
uint64_t raft_round(const struct raft *raft);
/* Leader that has committed an entry of its own term: what it knows is all that was committed. */
bool raft_leader_ready(const struct raft *raft);
/* The entry at index, snapshot_index < index <= last_index. */
void raft_entry(const struct raft *raft, uint64_t index, struct raft_entry *ret_entry);

/* ---- bytes ------------------------------------------------------------------------------- */

/* Encode a message of the last update (its entries are taken from the log). Returns the bytes,
 * at most RAFT_MESSAGE_BYTES_MAX. */
uint32_t raft_encode(const struct raft *raft, const struct raft_message *message, void *out,
                     uint32_t capacity);
/* Check bytes from the wire; ret_message borrows them. 0, -ERR_CORRUPT_WIRE. */
must_check int raft_decode(const void *bytes, uint32_t count, struct raft_message *ret_message);
/* Are counts in range, nodes non-zero and distinct, and is there a voter? */
bool raft_config_valid(const struct wire_raft_config *config);

#endif
