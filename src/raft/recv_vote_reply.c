/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

void raft_recv_vote_reply(struct raft *raft, const struct raft_message *message)
{
    assert(message->term == raft->term);
    struct raft_peer *peer = raft_peer_find(raft, message->from);
    if (raft->role != RAFT_CANDIDATE || !peer || message->reject)
        return;
    peer->granted = true;
    raft_election_count(raft);
}
