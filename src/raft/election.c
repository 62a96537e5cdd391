/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

#include "base/plant.h"

/* Time-outs, candidates, becoming leader or follower (Raft §5.2, thesis §4.2.3 and §9.6). */

/* How many voters besides the dead leader have a smaller id: they try first. */
static uint32_t own_rank(const struct raft *raft, uint32_t gone)
{
    uint32_t rank = 0;
    for (uint32_t i = 0; i < raft->config.voter_count; i++) {
        uint32_t node = raft->config.voters[i];
        if (node != gone && node < raft->options.node)
            rank++;
    }
    return rank;
}

/* "Raft uses randomized election timeouts to ensure that split votes are rare". When the leader
 * is known to be dead nobody has to wait for it, only for the other candidates. */
void raft_election_arm(struct raft *raft)
{
    const struct raft_options *options = &raft->options;
    uint64_t least = options->election_min_ns;
    uint64_t spread = options->election_max_ns - options->election_min_ns;
    if (raft->leader_gone) {
        least = 2 * options->gone_stagger_ns;
        spread = 3 * options->gone_stagger_ns;
    }
    assert(raft->role != RAFT_LEADER && spread > 0);
    raft->election_ns = raft->now_ns + least + random_below(&raft->random, spread);
}

/* The leader's process is gone: the voter with the smallest id asks at once, the others in turn,
 * so that they do not split the vote. */
void raft_election_hurry(struct raft *raft)
{
    assert(raft->role != RAFT_LEADER);
    uint32_t gone = raft->leader;
    raft->leader = 0;
    raft->leader_gone = true;
    raft->election_ns = raft->now_ns + own_rank(raft, gone) * raft->options.gone_stagger_ns;
}

/* First election after the start: soon, because a pre-vote disturbs nobody; in turn. */
void raft_election_first(struct raft *raft)
{
    uint64_t turn = 1 + 2ull * own_rank(raft, 0);
    raft->election_ns = raft->now_ns + turn * raft->options.gone_stagger_ns;
    bool alone = raft->config.voter_count == 1 && raft->config.old_count == 0;
    if (alone)
        raft->election_ns = raft->now_ns;
}

bool raft_election_leader_alive(const struct raft *raft)
{
    if (raft->role == RAFT_LEADER)
        return true;
    return raft->leader != 0 && !raft->leader_gone &&
           raft->now_ns - raft->heard_ns < raft->options.election_min_ns;
}

/* §5.4.1: "If the logs have last entries with different terms, then the log with the later term is
 * more up-to-date. If the logs end with the same term, then whichever log is longer is more
 * up-to-date." */
bool raft_election_log_is_current(const struct raft *raft, uint64_t last_index, uint64_t last_term)
{
    uint64_t own_term = raft_log_last_term(&raft->log);
    if (PLANT(RAFT_OLD_LOG_ELECTED))
        return true;
    if (last_term != own_term)
        return last_term > own_term;
    return last_index >= raft->log.last_index;
}

/* Figure 2, all servers: "If RPC request or response contains term T > currentTerm: set currentTerm
 * = T, convert to follower". */
void raft_become_follower(struct raft *raft, uint64_t term, uint32_t leader)
{
    assert(term >= raft->term && leader != raft->options.node);
    bool was_follower = raft->role == RAFT_FOLLOWER;
    if (raft->role == RAFT_LEADER) {
        raft_client_reads_fail(raft);
        raft->transfer_target = 0;
    }
    bool new_term = term > raft->term;
    if (new_term) {
        raft->term = term;
        raft->vote = 0;
        raft_persist_note(raft, RAFT_PERSIST_STATE);
    }
    raft->role = RAFT_FOLLOWER;
    raft->forced = false;
    if (leader != 0) {
        raft->leader = leader;
        raft->leader_gone = false;
        raft->heard_ns = raft->now_ns;
    } else if (new_term || !was_follower) {
        raft->leader = 0;
    }
    if (!was_follower || leader != 0)
        raft_election_arm(raft);
}

static void become_leader(struct raft *raft)
{
    assert(raft->role == RAFT_CANDIDATE && raft->vote == raft->options.node);
    if (!raft_log_room(&raft->log, 0, 1)) {
        raft_become_follower(raft, raft->term, 0);
        return;
    }
    raft->role = RAFT_LEADER;
    raft->leader = raft->options.node;
    raft->leader_gone = false;
    raft->forced = false;
    raft->transfer_target = 0;
    /* "When a leader first comes to power, it initializes all nextIndex values to the index just
     * after the last one in its log". */
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        raft->peers[i] = (struct raft_peer){
            .node = raft->peers[i].node,
            .next = raft->log.last_index + 1,
            .ack_ns = raft->now_ns,
        };
    }
    /* §8: "each leader commit a blank no-op entry into the log at the start of its term". */
    raft->term_start_index = raft->log.last_index + 1;
    raft_append_own(raft, RAFT_ENTRY_NOOP, slice_of(NULL, 0));
    raft_heartbeat_round(raft);
}

static uint64_t peer_granted(const struct raft *raft, const struct raft_peer *peer)
{
    return peer->granted;
}

static void ask_votes(struct raft *raft, enum raft_message_type type, uint64_t term)
{
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        struct raft_peer *peer = &raft->peers[i];
        peer->granted = false;
        if (!raft_config_is_voter(&raft->config, peer->node))
            continue;
        struct raft_message message = raft_message_to(raft, type, peer->node);
        message.term = term;
        message.index = raft->log.last_index;
        message.log_term = raft_log_last_term(&raft->log);
        message.force = raft->forced;
        if (type == RAFT_VOTE)
            raft_send_when_durable(raft, &message);
        else
            raft_send_now(raft, &message);
    }
}

/* "To begin an election, a follower increments its current term and transitions to candidate
 * state. It then votes for itself and issues RequestVote RPCs in parallel". */
static void become_candidate(struct raft *raft)
{
    raft->role = RAFT_CANDIDATE;
    raft->leader = 0;
    raft->term++;
    raft->vote = raft->options.node;
    raft->candidate_seq = raft_persist_note(raft, RAFT_PERSIST_STATE);
    raft_election_arm(raft);
    ask_votes(raft, RAFT_VOTE, raft->term);
}

/* A majority says yes: "A candidate wins an election if it receives votes from a majority of the
 * servers in the full cluster for the same term." Our own vote counts once it is durable. */
void raft_election_count(struct raft *raft)
{
    if (raft->role == RAFT_PRE_CANDIDATE) {
        if (raft_config_quorum(raft, peer_granted, 1) >= 1)
            become_candidate(raft);
    }
    if (raft->role == RAFT_CANDIDATE) {
        bool own = raft->candidate_seq <= raft->persist_done;
        if (raft_config_quorum(raft, peer_granted, own) >= 1)
            become_leader(raft);
    }
}

/* Thesis §4.2.2: "a server that is not part of its own latest configuration should still start new
 * elections, as it might still be needed until the C_new entry is committed [...] It does not count
 * its own vote in elections unless it is part of its latest configuration." */
static bool may_campaign(const struct raft *raft)
{
    if (raft_config_is_voter(&raft->config, raft->options.node))
        return true;
    if (raft->config_index <= raft->commit_index)
        return false;
    struct wire_raft_config committed;
    raft_config_at(raft, raft->commit_index, &committed);
    return raft_config_is_voter(&committed, raft->options.node);
}

/* Thesis §9.6: "a candidate only increments its term if it first learns from a majority of the
 * cluster that they would be willing to grant the candidate their votes". */
void raft_election_start(struct raft *raft)
{
    assert(raft->role != RAFT_LEADER);
    if (!may_campaign(raft)) {
        raft_election_arm(raft);
        return;
    }
    raft->leader = 0;
    if (raft->forced) {
        become_candidate(raft);
        return;
    }
    raft->role = RAFT_PRE_CANDIDATE;
    raft_election_arm(raft);
    ask_votes(raft, RAFT_PRE_VOTE, raft->term + 1);
    raft_election_count(raft);
}
