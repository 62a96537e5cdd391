/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

#include "base/plant.h"

static void reply_to(struct raft *raft, const struct raft_message *message, bool reject,
                     uint64_t index)
{
    struct raft_message reply = raft_message_to(raft, RAFT_APPEND_REPLY, message->from);
    reply.reject = reject;
    reply.index = index;
    reply.log_term = raft_log_has(&raft->log, index) ? raft_log_term(&raft->log, index) : 0;
    reply.round = message->round;
    if (reject || PLANT(RAFT_ANSWERS_EARLY)) {
        raft_send_now(raft, &reply); /* promises nothing */
    } else {
        raft_still_here(raft, message);
        raft_send_when_durable(raft, &reply);
    }
}

/* Does our log hold an entry at prev that the leader's log has too? What the snapshot covers is
 * committed, so the leader has it (leader completeness). */
static bool prefix_matches(const struct raft *raft, uint64_t prev, uint64_t prev_term)
{
    if (prev < raft->log.snapshot_index)
        return true;
    return prev <= raft->log.last_index &&
           (raft_log_term(&raft->log, prev) == prev_term || PLANT(RAFT_PREFIX_UNCHECKED));
}

/* §5.3: "If desired, the protocol can be optimized to reduce the number of rejected AppendEntries
 * RPCs": go back over all our entries that are of a later term than the leader's at prev. */
static uint64_t hint_for(const struct raft *raft, uint64_t prev, uint64_t prev_term)
{
    uint64_t index = MIN(prev - 1, raft->log.last_index);
    while (index > raft->log.snapshot_index && raft_log_term(&raft->log, index) > prev_term)
        index--;
    return index;
}

/* "3. If an existing entry conflicts with a new one (same index but different terms), delete the
 *     existing entry and all that follow it.
 *  4. Append any new entries not already in the log".
 * Returns the index up to which our log now equals the leader's. */
static uint64_t take_entries(struct raft *raft, const struct raft_message *message)
{
    struct reader reader;
    reader_init(&reader, message->entries.data, message->entries.bytes);
    uint64_t index = message->index;
    uint64_t changed_from = 0;
    bool config_news = false;
    for (uint32_t i = 0; i < message->entry_count; i++) {
        struct wire_raft_entry head;
        struct slice data;
        bool decoded = raft_entry_next(&reader, &head, &data);
        assert(decoded); /* raft_decode has been through them */
        uint64_t at = index + 1;
        if (at <= raft->log.snapshot_index) {
            index = at;
            continue;
        }
        if (at <= raft->log.last_index) {
            if (raft_log_term(&raft->log, at) == head.term) {
                index = at;
                continue;
            }
            assert(at > raft->commit_index); /* R3: committed entries never conflict */
            config_news |= raft->config_index >= at;
            raft_log_truncate(&raft->log, at - 1);
            changed_from = at;
        }
        if (!raft_log_room(&raft->log, data.bytes, RAFT_LOG_RESERVE))
            break;
        bool appended =
            raft_log_append(&raft->log, head.term, head.type, data, raft_persist_seq(raft));
        assert(appended);
        if (changed_from == 0)
            changed_from = at;
        config_news |= head.type == RAFT_ENTRY_CONFIG;
        index = at;
    }
    if (changed_from != 0)
        raft_persist_log_from(raft, changed_from);
    if (config_news)
        raft_config_rebuild(raft);
    return index;
}

/* Figure 2, AppendEntries receiver. */
void raft_recv_append(struct raft *raft, const struct raft_message *message)
{
    assert(message->term == raft->term);
    if (raft->role == RAFT_LEADER)
        return; /* not from a peer that follows the protocol: R1 */
    /* "If AppendEntries RPC received from new leader: convert to follower". */
    raft_become_follower(raft, message->term, message->from);

    /* "2. Reply false if log doesn't contain an entry at prevLogIndex whose term matches". */
    if (!prefix_matches(raft, message->index, message->log_term)) {
        reply_to(raft, message, true, hint_for(raft, message->index, message->log_term));
        return;
    }
    uint64_t matched = take_entries(raft, message);
    reply_to(raft, message, false, matched);

    /* "5. If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new
     * entry)". */
    uint64_t commit = MIN(message->commit, matched);
    if (commit > raft->commit_index)
        raft_commit_to(raft, commit);
}
