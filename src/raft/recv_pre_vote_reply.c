/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

/* A yes answers the question about term + 1. A no from a later term has made us its follower
 * already (raft.c); any other no counts for nothing. */
void raft_recv_pre_vote_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_peer *peer = raft_peer_find(raft, message->from);
    if (raft->role != RAFT_PRE_CANDIDATE || !peer || message->reject ||
        message->term != raft->term + 1)
        return;
    peer->granted = true;
    raft_election_count(raft);
}
