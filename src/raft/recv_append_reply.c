/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

/* Figure 2, leaders: "If successful: update nextIndex and matchIndex for follower. If AppendEntries
 * fails because of log inconsistency: decrement nextIndex and retry". */
void raft_recv_append_reply(struct raft *raft, const struct raft_message *message)
{
    assert(message->term == raft->term);
    struct raft_peer *peer = raft_peer_find(raft, message->from);
    if (raft->role != RAFT_LEADER || !peer || message->index > raft->log.last_index)
        return;
    peer->ack_ns = raft->now_ns;
    peer->round = MIN(MAX(peer->round, message->round), raft->round);
    if (message->reject) {
        uint64_t next = message->index + 1;
        bool stale = next <= peer->match || next >= peer->next;
        if (!stale) {
            while (next - 1 > raft->log.snapshot_index &&
                   raft_log_term(&raft->log, next - 1) > message->log_term &&
                   next - 1 > peer->match)
                next--;
            peer->next = next;
            peer->in_flight = false;
            raft_replicate_to(raft, peer, false);
        }
    } else {
        if (message->index > peer->match)
            peer->match = message->index;
        if (peer->match + 1 >= peer->next || message->index + 1 >= peer->next) {
            peer->next = peer->match + 1;
            peer->in_flight = false;
        }
        raft_commit_advance(raft);
        if (raft->role == RAFT_LEADER) {
            raft_replicate_to(raft, peer, false);
            raft_client_transfer_go(raft);
        }
    }
    if (raft->role == RAFT_LEADER)
        raft_client_reads_confirm(raft);
}
