/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

#include "base/mem.h"

/* Raft, for the map group.
 *
 * Problem. Three or five nodes must agree on one sequence of small commands (changes of the
 * cluster map) while any minority of them may be dead, slow or cut off, and messages may be lost,
 * doubled and reordered. Ongaro and Ousterhout, "In Search of an Understandable Consensus
 * Algorithm (Extended Version)", and Ongaro's thesis, are followed sentence by sentence: each rule
 * stands under the sentence it implements. Unless a comment names another text, § means the paper.
 *
 * Picture.
 *
 *     owner: map_server          machine: raft_step
 *     ------------------         -------------------------------------------------
 *     timer, message,      -->   raft.c dispatches by event and, for messages, after
 *     durable write,             comparing terms, by type to recv_*.c
 *     proposal, peer gone  <--   update: what to persist, send, apply
 *
 *     log.c        entries after the snapshot           config.c    members, majorities
 *     output.c     writes and messages of a step        election.c  time-outs, candidates
 *     replicate.c  appends, commitment                  client.c    proposals, reads, transfer
 *
 * Roles.   follower --timer--> pre-candidate --majority--> candidate --majority--> leader
 *          any --larger term--> follower; leader --no majority heard for election_max--> follower
 *          follower --TimeoutNow--> candidate
 *
 * Invariants.
 *  R1 Election safety: at most one leader can be elected in a given term.
 *  R2 Log matching: two logs with an entry of the same index and term are equal up to it.
 *  R3 Leader completeness: a committed entry is in the log of every later leader.
 *  R4 Nothing counts before it is durable: votes and append replies leave after the write they
 *     depend on, and our own vote and log count towards a majority only then. (That we follow a
 *     leader at all is said at once: raft_still_here.)
 *  R5 snapshot_index <= commit_index <= last_index, and terms in the log never decrease.
 *  R6 Entries of earlier terms are committed only with one of the leader's own term (figure 8).
 *  R7 A read is confirmed only by answers to messages sent after it came in.
 *
 * Crash. The owner's writes are durable in the order of the steps; a crash loses a suffix of them,
 * and with it only messages that were never sent, and appends of a leader that did not count
 * itself. So any crash looks to the others like messages that were lost.
 *
 * A dead leader. The operating system refuses connections to a dead process's port at once, which
 * proves more than silence does. PEER_GONE lets a follower forget the leader and ask for pre-votes
 * immediately; voters whose connection broke grant them. Safety does not depend on the proof:
 * a wrong one costs a needless election.
 *
 * Limits. Up to RAFT_VOTERS_MAX voters; RAFT_LOG_ENTRIES_MAX entries since the snapshot, so the
 * owner takes a snapshot every hundred or so; the snapshot is one message.
 *
 * Not here: clock, sockets and storage (map/map_server); what commands mean (map/map_machine). */

struct raft *raft_new(const struct raft_options *options)
{
    assert(options->node != 0 && options->election_min_ns < options->election_max_ns);
    assert(options->heartbeat_ns < options->election_min_ns);
    assert(raft_config_valid(&options->config));
    struct raft *raft = mem_zalloc(sizeof *raft);
    raft->options = *options;
    random_init(&raft->random, options->seed);
    raft->snapshot_config = options->config;
    raft_log_reset(&raft->log, 0, 0);
    return raft;
}

void raft_free(struct raft *raft)
{
    mem_free(raft);
}

void raft_restore_state(struct raft *raft, uint64_t term, uint32_t vote)
{
    assert(raft->term == 0 && raft->log.last_index == 0);
    raft->term = term;
    raft->vote = vote;
}

void raft_restore_snapshot(struct raft *raft, uint64_t index, uint64_t term,
                           const struct wire_raft_config *config)
{
    assert(raft->log.last_index == 0 && index > 0 && raft_config_valid(config));
    raft_log_reset(&raft->log, index, term);
    raft->snapshot_config = *config;
    raft->commit_index = index;
}

int raft_restore_entry(struct raft *raft, uint64_t index, uint64_t term, uint32_t type,
                       struct slice data)
{
    if (index != raft->log.last_index + 1 || term < raft_log_last_term(&raft->log) ||
        term > raft->term || term == 0)
        return -ERR_CORRUPT_DISK;
    if (type < RAFT_ENTRY_NOOP || type > RAFT_ENTRY_CONFIG || data.bytes > RAFT_ENTRY_BYTES_MAX)
        return -ERR_CORRUPT_DISK;
    if (type == RAFT_ENTRY_CONFIG) {
        struct wire_raft_config config;
        if (data.bytes != sizeof config)
            return -ERR_CORRUPT_DISK;
        memcpy(&config, data.data, sizeof config);
        if (!raft_config_valid(&config))
            return -ERR_CORRUPT_DISK;
    }
    return raft_log_append(&raft->log, term, type, data, 0) ? 0 : -ERR_CORRUPT_DISK;
}

void raft_start(struct raft *raft, uint64_t now_ns)
{
    assert(raft->role == RAFT_FOLLOWER && raft->peer_count == 0);
    raft->now_ns = now_ns;
    raft_config_rebuild(raft);
    raft_election_first(raft);
    raft_check(raft);
}

/* ---- events ------------------------------------------------------------------------------- */

static uint64_t peer_ack(const struct raft *raft, const struct raft_peer *peer)
{
    return peer->ack_ns;
}

/* Thesis §6.2: "a leader in Raft steps down if an election timeout elapses without a successful
 * round of heartbeats to a majority of its cluster". */
static bool majority_heard(const struct raft *raft)
{
    uint64_t heard = raft_config_quorum(raft, peer_ack, raft->now_ns);
    return raft->now_ns - heard < raft->options.election_max_ns;
}

static void event_tick(struct raft *raft)
{
    if (raft->role != RAFT_LEADER) {
        if (raft->now_ns >= raft->election_ns)
            raft_election_start(raft);
        return;
    }
    /* Thesis §3.10: "If leadership transfer does not complete after about an election timeout, the
     * prior leader aborts the transfer and resumes accepting client requests." */
    if (raft->transfer_target != 0 && raft->now_ns >= raft->transfer_ns)
        raft->transfer_target = 0;
    if (raft->now_ns < raft->heartbeat_ns)
        return;
    if (majority_heard(raft))
        raft_heartbeat_round(raft);
    else
        raft_become_follower(raft, raft->term, 0);
}

static void event_persisted(struct raft *raft, uint64_t seq)
{
    assert(seq <= raft->persist_issued);
    raft->persist_done = MAX(raft->persist_done, seq);
    raft_outbox_release(raft);
    raft_election_count(raft);
    if (raft->role == RAFT_LEADER)
        raft_commit_advance(raft);
}

/* The owner's state as of index stands for all entries up to it (§7). */
static void event_snapshot(struct raft *raft, uint64_t index)
{
    assert(index > raft->log.snapshot_index && index <= raft->commit_index);
    struct wire_raft_config config;
    raft_config_at(raft, index, &config);
    raft->snapshot_config = config;
    raft_log_trim(&raft->log, index);
    raft_config_rebuild(raft);
    raft_persist_note(raft, RAFT_PERSIST_SNAPSHOT);
}

static void event_peer_gone(struct raft *raft, uint32_t node)
{
    assert(node != raft->options.node);
    if (raft->role != RAFT_LEADER && raft->leader == node)
        raft_election_hurry(raft);
}

/* ---- messages ----------------------------------------------------------------------------- */

/* Figure 2: "Reply false if term < currentTerm", so that the sender learns the newer one. */
static void refuse_stale(struct raft *raft, const struct raft_message *message)
{
    enum raft_message_type type = message->type == RAFT_VOTE ? RAFT_VOTE_REPLY : RAFT_APPEND_REPLY;
    if (message->type != RAFT_VOTE && message->type != RAFT_APPEND &&
        message->type != RAFT_SNAPSHOT)
        return;
    struct raft_message reply = raft_message_to(raft, type, message->from);
    reply.reject = true;
    raft_send_when_durable(raft, &reply);
}

/* Compare terms. True if the message is to be handled. */
static bool terms_agree(struct raft *raft, const struct raft_message *message)
{
    if (message->type == RAFT_PRE_VOTE)
        return true; /* asks about a term that nobody is in yet */
    if (message->type == RAFT_PRE_VOTE_REPLY && !message->reject)
        return true;
    if (message->term < raft->term) {
        refuse_stale(raft, message);
        return false;
    }
    if (message->term == raft->term)
        return true;
    /* Thesis §4.2.3: "if a server receives a RequestVote request within the minimum election
     * timeout of hearing from a current leader, it does not update its term or grant its vote",
     * unless it comes of a leadership transfer. */
    if (message->type == RAFT_VOTE && !message->force && raft_election_leader_alive(raft))
        return false;
    bool from_leader = message->type == RAFT_APPEND || message->type == RAFT_SNAPSHOT;
    raft_become_follower(raft, message->term, from_leader ? message->from : 0);
    return true;
}

static void event_message(struct raft *raft, const struct raft_message *message)
{
    assert(message->to == raft->options.node && message->from != raft->options.node);
    if (!terms_agree(raft, message))
        return;
    switch (message->type) {
    case RAFT_PRE_VOTE:
        raft_recv_pre_vote(raft, message);
        break;
    case RAFT_PRE_VOTE_REPLY:
        raft_recv_pre_vote_reply(raft, message);
        break;
    case RAFT_VOTE:
        raft_recv_vote(raft, message);
        break;
    case RAFT_VOTE_REPLY:
        raft_recv_vote_reply(raft, message);
        break;
    case RAFT_APPEND:
        raft_recv_append(raft, message);
        break;
    case RAFT_APPEND_REPLY:
        raft_recv_append_reply(raft, message);
        break;
    case RAFT_SNAPSHOT:
        raft_recv_snapshot(raft, message);
        break;
    case RAFT_SNAPSHOT_REPLY:
        raft_recv_snapshot_reply(raft, message);
        break;
    case RAFT_TIMEOUT_NOW:
        raft_recv_timeout_now(raft, message);
        break;
    }
}

/* ---- step --------------------------------------------------------------------------------- */

static int dispatch(struct raft *raft, const struct raft_event *event)
{
    switch (event->type) {
    case RAFT_EVENT_TICK:
        event_tick(raft);
        return 0;
    case RAFT_EVENT_MESSAGE:
        event_message(raft, event->message);
        return 0;
    case RAFT_EVENT_PERSISTED:
        event_persisted(raft, event->persist_seq);
        return 0;
    case RAFT_EVENT_PROPOSE:
        return raft_client_propose(raft, event->data);
    case RAFT_EVENT_CONFIG:
        return raft_client_config(raft, event->config);
    case RAFT_EVENT_READ:
        return raft_client_read(raft, event->read_id, event->urgent);
    case RAFT_EVENT_TRANSFER:
        return raft_client_transfer(raft, event->node);
    case RAFT_EVENT_SNAPSHOT:
        event_snapshot(raft, event->index);
        return 0;
    case RAFT_EVENT_PEER_GONE:
        event_peer_gone(raft, event->node);
        return 0;
    }
    WRONG("event type");
}

void raft_step(struct raft *raft, const struct raft_event *event, struct raft_update *update)
{
    assert(event->now_ns >= raft->now_ns && raft->update == NULL);
    raft->now_ns = event->now_ns;
    enum raft_role role = raft->role;
    uint64_t term = raft->term;
    uint32_t leader = raft->leader;
    update->result = 0;
    update->index = 0;
    update->persist = 0;
    update->persist_seq = 0;
    update->log_first = 0;
    update->log_last = 0;
    update->install = false;
    update->message_count = 0;
    update->read_count = 0;
    raft->update = update;
    update->result = dispatch(raft, event);
    raft->update = NULL;
    update->commit_index = raft->commit_index;
    update->role_changed = role != raft->role || term != raft->term || leader != raft->leader;
    assert((update->persist == 0) == (update->persist_seq == 0));
    raft_check(raft);
}

uint64_t raft_deadline_ns(const struct raft *raft)
{
    return raft->role == RAFT_LEADER ? raft->heartbeat_ns : raft->election_ns;
}

void raft_check(const struct raft *raft)
{
    const struct raft_log *log = &raft->log;
    assert(log->snapshot_index <= raft->commit_index && raft->commit_index <= log->last_index);
    assert(log->last_index - log->snapshot_index <= RAFT_LOG_ENTRIES_MAX);
    assert(raft_log_last_term(log) <= raft->term);
    assert(raft->persist_done <= raft->persist_issued);
    assert(raft->role != RAFT_LEADER || raft->leader == raft->options.node);
    assert((raft->role != RAFT_LEADER && raft->role != RAFT_CANDIDATE) ||
           raft->vote == raft->options.node);
    assert(raft->role == RAFT_LEADER || raft->read_count == 0);
    assert(raft->config_index == 0 || raft_log_has(log, raft->config_index));
    assert_slow(raft_config_valid(&raft->config));
}

/* ---- looking ------------------------------------------------------------------------------ */

enum raft_role raft_role(const struct raft *raft)
{
    return raft->role;
}

uint64_t raft_term(const struct raft *raft)
{
    return raft->term;
}

uint32_t raft_vote(const struct raft *raft)
{
    return raft->vote;
}

uint32_t raft_leader(const struct raft *raft)
{
    return raft->leader;
}

uint64_t raft_commit_index(const struct raft *raft)
{
    return raft->commit_index;
}

uint64_t raft_last_index(const struct raft *raft)
{
    return raft->log.last_index;
}

uint64_t raft_snapshot_index(const struct raft *raft)
{
    return raft->log.snapshot_index;
}

uint64_t raft_snapshot_term(const struct raft *raft)
{
    return raft->log.snapshot_term;
}

const struct wire_raft_config *raft_snapshot_config(const struct raft *raft)
{
    return &raft->snapshot_config;
}

const struct wire_raft_config *raft_config(const struct raft *raft)
{
    return &raft->config;
}

bool raft_config_settled(const struct raft *raft)
{
    return raft->config.old_count == 0 && raft->config_index <= raft->commit_index;
}

uint64_t raft_match(const struct raft *raft, uint32_t node)
{
    if (raft->role != RAFT_LEADER)
        return 0;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        if (raft->peers[i].node == node)
            return raft->peers[i].match;
    }
    return node == raft->options.node ? raft->log.last_index : 0;
}

uint64_t raft_round(const struct raft *raft)
{
    return raft->round;
}

bool raft_leader_ready(const struct raft *raft)
{
    return raft->role == RAFT_LEADER && raft->commit_index >= raft->term_start_index;
}

void raft_entry(const struct raft *raft, uint64_t index, struct raft_entry *ret_entry)
{
    const struct raft_slot *slot = raft_log_slot_peek(&raft->log, index);
    *ret_entry = (struct raft_entry){
        .index = index,
        .term = slot->term,
        .type = slot->type,
        .data = slice_of(raft->log.arena + slot->offset, slot->bytes),
    };
}
