/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

void raft_recv_snapshot_reply(struct raft *raft, const struct raft_message *message)
{
    assert(message->term == raft->term);
    struct raft_peer *peer = raft_peer_find(raft, message->from);
    if (raft->role != RAFT_LEADER || !peer || message->reject ||
        message->index > raft->log.last_index)
        return;
    peer->ack_ns = raft->now_ns;
    peer->round = MIN(MAX(peer->round, message->round), raft->round);
    peer->snapshot_ns = 0;
    if (message->index > peer->match) {
        peer->match = message->index;
        peer->next = MAX(peer->next, peer->match + 1);
    }
    raft_commit_advance(raft);
    if (raft->role == RAFT_LEADER) {
        raft_replicate_to(raft, peer, false);
        raft_client_reads_confirm(raft);
    }
}
