/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

static void reply_to(struct raft *raft, const struct raft_message *message, uint64_t index)
{
    struct raft_message reply = raft_message_to(raft, RAFT_SNAPSHOT_REPLY, message->from);
    reply.index = index;
    reply.round = message->round;
    raft_still_here(raft, message);
    raft_send_when_durable(raft, &reply);
}

/* Figure 13, InstallSnapshot receiver; the state is small, so it comes as one message. */
void raft_recv_snapshot(struct raft *raft, const struct raft_message *message)
{
    assert(message->term == raft->term);
    if (raft->role == RAFT_LEADER)
        return; /* not from a peer that follows the protocol: R1 */
    raft_become_follower(raft, message->term, message->from);
    if (message->index <= raft->commit_index) {
        reply_to(raft, message, raft->commit_index);
        return;
    }
    struct raft_log *log = &raft->log;
    bool extends = raft_log_has(log, message->index) &&
                   raft_log_term(log, message->index) == message->log_term;
    raft_persist_note(raft, RAFT_PERSIST_SNAPSHOT);
    if (extends) {
        /* "6. If existing log entry has same index and term as snapshot's last included entry,
         * retain log entries following it". */
        raft_log_trim(log, message->index);
    } else {
        /* "7. Discard the entire log". */
        raft_log_reset(log, message->index, message->log_term);
        raft_persist_log_from(raft, message->index + 1);
    }
    /* "8. Reset state machine using snapshot contents (and load snapshot's cluster
     * configuration)". */
    raft->snapshot_config = message->config;
    raft->commit_index = message->index;
    raft_config_rebuild(raft);
    raft->update->install = true;
    reply_to(raft, message, message->index);
}
