/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

#include "base/plant.h"

/* The leader's side of replication and commitment (Raft §5.3, §5.4.2). */

static uint32_t entries_to_send(const struct raft *raft, uint64_t first)
{
    uint32_t count = 0;
    uint32_t bytes = sizeof(struct wire_raft_message);
    while (count < RAFT_APPEND_ENTRIES_MAX && first + count <= raft->log.last_index) {
        const struct raft_slot *slot = raft_log_slot_peek(&raft->log, first + count);
        bytes += (uint32_t)(sizeof(struct wire_raft_entry) + round_up(slot->bytes, 8));
        if (bytes > RAFT_APPEND_BYTES_MAX)
            break;
        count++;
    }
    return count;
}

/* §7: "the leader must occasionally send snapshots to followers that lag behind. This happens when
 * the leader has already discarded the next log entry that it needs to send". */
static void send_snapshot(struct raft *raft, struct raft_peer *peer)
{
    assert(raft->log.snapshot_index > 0);
    struct raft_message message = raft_message_to(raft, RAFT_SNAPSHOT, peer->node);
    message.index = raft->log.snapshot_index;
    message.log_term = raft->log.snapshot_term;
    message.config = raft->snapshot_config;
    message.round = raft->round;
    peer->snapshot_ns = raft->now_ns;
    raft_send_now(raft, &message);
}

static void send_append(struct raft *raft, struct raft_peer *peer, uint64_t prev, uint32_t count)
{
    struct raft_message message = raft_message_to(raft, RAFT_APPEND, peer->node);
    message.index = prev;
    message.log_term = prev > 0 ? raft_log_term(&raft->log, prev) : 0;
    message.commit = raft->commit_index;
    message.round = raft->round;
    message.entry_count = count;
    if (count > 0) {
        peer->in_flight = true;
        peer->sent_from = prev + 1;
        peer->next = prev + 1 + count;
    }
    peer->commit_sent = raft->commit_index;
    raft_send_now(raft, &message);
}

/* Send what the peer lacks. Not a heartbeat: nothing if it has all, or still owes an answer. */
void raft_replicate_to(struct raft *raft, struct raft_peer *peer, bool heartbeat)
{
    assert(raft->role == RAFT_LEADER && peer->next > 0);
    if (peer->in_flight) {
        if (!heartbeat)
            return;
        peer->next = MIN(peer->next, MAX(peer->sent_from, peer->match + 1));
    }
    if (peer->next <= raft->log.snapshot_index) {
        bool due = peer->snapshot_ns == 0 ||
                   raft->now_ns - peer->snapshot_ns >= raft->options.election_max_ns;
        if (due)
            send_snapshot(raft, peer);
        else if (heartbeat)
            send_append(raft, peer, 0, 0); /* the empty prefix always matches */
        return;
    }
    uint32_t count = entries_to_send(raft, peer->next);
    bool news = peer->commit_sent < raft->commit_index;
    if (count > 0 || heartbeat || news)
        send_append(raft, peer, peer->next - 1, count);
}

void raft_replicate_all(struct raft *raft, bool heartbeat)
{
    for (uint32_t i = 0; i < raft->peer_count; i++)
        raft_replicate_to(raft, &raft->peers[i], heartbeat);
}

/* A numbered round of heartbeats: a reply to round r proves that its sender still took us for the
 * leader after r began (read index). */
void raft_heartbeat_round(struct raft *raft)
{
    assert(raft->role == RAFT_LEADER);
    raft->round++;
    raft->heartbeat_ns = raft->now_ns + raft->options.heartbeat_ns;
    raft_replicate_all(raft, true);
}

static uint64_t peer_match(const struct raft *raft, const struct raft_peer *peer)
{
    return peer->match;
}

/* How far our own log is durable. */
static uint64_t own_match(const struct raft *raft)
{
    uint64_t index = raft->log.last_index;
    while (index > raft->log.snapshot_index &&
           raft_log_slot_peek(&raft->log, index)->persist_seq > raft->persist_done)
        index--;
    return index;
}

/* §6: "Once C_old,new has been committed [...] it is now safe for the leader to create a log entry
 * describing C_new"; a leader that is not in C_new "steps down (returns to follower state) once it
 * has committed the C_new log entry". */
static void config_committed(struct raft *raft)
{
    if (raft->config.old_count > 0) {
        struct wire_raft_config config = raft->config;
        config.old_count = 0;
        memset(config.voters_old, 0, sizeof config.voters_old);
        if (raft_log_room(&raft->log, sizeof config, 0))
            raft_append_own(raft, RAFT_ENTRY_CONFIG, slice_of(&config, sizeof config));
    } else if (!raft_config_is_voter(&raft->config, raft->options.node)) {
        raft_replicate_all(raft, true);
        raft_become_follower(raft, raft->term, 0);
    }
}

void raft_commit_to(struct raft *raft, uint64_t index)
{
    assert(index >= raft->commit_index && index <= raft->log.last_index);
    uint64_t before = raft->commit_index;
    raft->commit_index = index;
    bool config_news = raft->config_index > before && raft->config_index <= index;
    /* A former leader may have committed C_old,new and died before it could go on. */
    bool joint_left = raft->config.old_count > 0 && raft->config_index <= index;
    if (raft->role == RAFT_LEADER && (config_news || joint_left))
        config_committed(raft);
}

/* §5.4.2, figure 8: "Raft never commits log entries from previous terms by counting replicas. Only
 * log entries from the leader's current term are committed by counting replicas". */
void raft_commit_advance(struct raft *raft)
{
    assert(raft->role == RAFT_LEADER);
    uint64_t index = raft_config_quorum(raft, peer_match, own_match(raft));
    if (index <= raft->commit_index ||
        (raft_log_term(&raft->log, index) != raft->term && !PLANT(RAFT_COMMITS_OLD_TERM)))
        return;
    raft_commit_to(raft, index);
    if (raft->role == RAFT_LEADER)
        raft_replicate_all(raft, false);
}

void raft_append_own(struct raft *raft, enum raft_entry_type type, struct slice data)
{
    assert(raft->role == RAFT_LEADER);
    bool appended = raft_log_append(&raft->log, raft->term, type, data, raft_persist_seq(raft));
    assert(appended); /* the callers have looked for room */
    raft_persist_log_from(raft, raft->log.last_index);
    if (type == RAFT_ENTRY_CONFIG)
        raft_config_rebuild(raft);
    raft_replicate_all(raft, false);
}
