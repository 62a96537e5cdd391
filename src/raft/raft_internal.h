/* SPDX-License-Identifier: MIT */
#ifndef CFS_RAFT_RAFT_INTERNAL_H
#define CFS_RAFT_RAFT_INTERNAL_H

#include "base/assert.h"
#include "base/errors.h"
#include "base/random.h"
#include "raft/raft.h"

enum {
    RAFT_PEERS_MAX = 2 * RAFT_VOTERS_MAX + RAFT_LEARNERS_MAX,
    RAFT_OUTBOX_MAX = 32,
    RAFT_LOG_RESERVE = 16, /* slots kept for the no-ops and configurations of new leaders */
};

struct raft_slot {
    uint64_t term;
    uint64_t persist_seq; /* of the write that makes it durable */
    uint32_t type;
    uint32_t bytes;
    uint32_t offset; /* of its data in the arena */
    uint32_t zero;
};

/* Entries after the snapshot: a ring of slots and a ring of bytes. */
struct raft_log {
    uint64_t snapshot_index;
    uint64_t snapshot_term;
    uint64_t last_index;
    uint32_t arena_head; /* of the oldest entry */
    uint32_t arena_tail; /* first free byte */
    struct raft_slot slots[RAFT_LOG_ENTRIES_MAX];
    uint8_t arena[RAFT_LOG_BYTES] __attribute__((aligned(8)));
};

/* What a leader (or candidate) knows of another member. */
struct raft_peer {
    uint32_t node;
    bool granted;   /* candidate: has answered yes */
    bool in_flight; /* leader: entries from sent_from on were sent and not yet answered; the next
                       heartbeat sends them again */
    uint64_t match; /* its log equals ours up to here */
    uint64_t next;  /* first entry to send */
    uint64_t sent_from;
    uint64_t commit_sent; /* commit index in the last message */
    uint64_t round;       /* newest heartbeat round it has answered */
    uint64_t ack_ns;      /* when it last answered */
    uint64_t snapshot_ns; /* when a snapshot was last sent */
};

struct raft_held {
    uint64_t persist_seq;
    struct raft_message message;
};

struct raft {
    struct raft_options options;
    struct random random;
    uint64_t now_ns;

    uint64_t term;
    uint32_t vote;
    enum raft_role role;
    uint32_t leader;
    bool leader_gone;       /* proven dead: elections hurry */
    bool forced;            /* candidate by transfer */
    uint64_t heard_ns;      /* when the leader was last heard */
    uint64_t election_ns;   /* deadline, unless leader */
    uint64_t heartbeat_ns;  /* deadline, if leader */
    uint64_t candidate_seq; /* our own vote counts once this is durable */

    uint64_t commit_index;
    uint64_t term_start_index; /* leader: its no-op */
    uint64_t round;
    uint32_t transfer_target;
    uint64_t transfer_ns; /* deadline */

    uint64_t persist_issued;
    uint64_t persist_done;

    struct wire_raft_config config; /* newest in the log */
    uint64_t config_index;          /* where it stands; 0: snapshot or start */
    struct wire_raft_config snapshot_config;

    uint32_t peer_count;
    struct raft_peer peers[RAFT_PEERS_MAX];
    uint32_t read_count;
    struct raft_pending_read {
        uint64_t id;
        uint64_t index;
        uint64_t round;
    } reads[RAFT_READS_MAX];
    uint32_t outbox_count;
    struct raft_held outbox[RAFT_OUTBOX_MAX];

    struct raft_update *update; /* of the step being made */
    struct raft_log log;
};

/* log.c */
void raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term);
bool raft_log_has(const struct raft_log *log, uint64_t index);
uint64_t raft_log_term(const struct raft_log *log,
                       uint64_t index); /* of snapshot_index .. last_index */
uint64_t raft_log_last_term(const struct raft_log *log);
struct raft_slot *raft_log_slot(struct raft_log *log, uint64_t index);
const struct raft_slot *raft_log_slot_peek(const struct raft_log *log, uint64_t index);
/* Room for one more entry, and reserve others after it? */
bool raft_log_room(const struct raft_log *log, uint32_t bytes, uint32_t reserve);
must_check bool raft_log_append(struct raft_log *log, uint64_t term, uint32_t type,
                                struct slice data, uint64_t persist_seq);
void raft_log_truncate(struct raft_log *log, uint64_t last_kept);
void raft_log_trim(struct raft_log *log, uint64_t index); /* drop entries <= index */

/* config.c */
bool raft_config_is_voter(const struct wire_raft_config *config, uint32_t node);
bool raft_config_is_member(const struct wire_raft_config *config, uint32_t node);
bool raft_config_same_voters(const struct wire_raft_config *a, const struct wire_raft_config *b);
void raft_config_rebuild(struct raft *raft); /* find the newest in the log; then peers */
void raft_config_sync_peers(struct raft *raft);
void raft_config_at(const struct raft *raft, uint64_t index, struct wire_raft_config *ret_config);
/* The largest value that a majority (of both halves, if joint) has reached. */
typedef uint64_t (*raft_peer_value_fn)(const struct raft *raft, const struct raft_peer *peer);
uint64_t raft_config_quorum(const struct raft *raft, raft_peer_value_fn value, uint64_t own);
struct raft_peer *raft_peer_find(struct raft *raft, uint32_t node);

/* output.c: the update under construction */
uint64_t raft_persist_seq(struct raft *raft); /* number of this step's write */
uint64_t raft_persist_note(struct raft *raft, uint32_t flags);
void raft_persist_log_from(struct raft *raft, uint64_t first);
struct raft_message raft_message_to(const struct raft *raft, enum raft_message_type type,
                                    uint32_t to);
void raft_send_now(struct raft *raft, const struct raft_message *message);
/* Once all that was changed so far is durable. */
void raft_send_when_durable(struct raft *raft, const struct raft_message *message);
void raft_still_here(struct raft *raft, const struct raft_message *message);
void raft_outbox_release(struct raft *raft);

/* election.c */
void raft_become_follower(struct raft *raft, uint64_t term, uint32_t leader);
void raft_election_arm(struct raft *raft);
void raft_election_hurry(struct raft *raft);
void raft_election_first(struct raft *raft);
void raft_election_start(struct raft *raft); /* pre-vote, or the real one if forced */
void raft_election_count(struct raft *raft);
bool raft_election_log_is_current(const struct raft *raft, uint64_t last_index, uint64_t last_term);
bool raft_election_leader_alive(const struct raft *raft);

/* replicate.c */
void raft_replicate_to(struct raft *raft, struct raft_peer *peer, bool heartbeat);
void raft_replicate_all(struct raft *raft, bool heartbeat);
void raft_heartbeat_round(struct raft *raft);
void raft_commit_advance(struct raft *raft);
void raft_commit_to(struct raft *raft, uint64_t index);
void raft_append_own(struct raft *raft, enum raft_entry_type type, struct slice data);

/* client.c */
int raft_client_propose(struct raft *raft, struct slice data);
int raft_client_config(struct raft *raft, const struct wire_raft_config *wanted);
int raft_client_read(struct raft *raft, uint64_t id, bool urgent);
void raft_client_reads_confirm(struct raft *raft);
void raft_client_reads_fail(struct raft *raft);
int raft_client_transfer(struct raft *raft, uint32_t target);
void raft_client_transfer_go(struct raft *raft);

/* recv_*.c: one per message type; terms have been compared (raft.c) */
void raft_recv_pre_vote(struct raft *raft, const struct raft_message *message);
void raft_recv_pre_vote_reply(struct raft *raft, const struct raft_message *message);
void raft_recv_vote(struct raft *raft, const struct raft_message *message);
void raft_recv_vote_reply(struct raft *raft, const struct raft_message *message);
void raft_recv_append(struct raft *raft, const struct raft_message *message);
void raft_recv_append_reply(struct raft *raft, const struct raft_message *message);
void raft_recv_snapshot(struct raft *raft, const struct raft_message *message);
void raft_recv_snapshot_reply(struct raft *raft, const struct raft_message *message);
void raft_recv_timeout_now(struct raft *raft, const struct raft_message *message);

/* wire.c */
bool raft_entry_next(struct reader *reader, struct wire_raft_entry *ret_head,
                     struct slice *ret_data);

#endif
