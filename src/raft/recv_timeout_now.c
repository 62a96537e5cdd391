/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

/* Thesis §3.10: the target "starts a new election (incrementing its term and becoming a
 * candidate)"; its requests say that the prior leader wants it, so voters do not refuse for that
 * leader's sake. */
void raft_recv_timeout_now(struct raft *raft, const struct raft_message *message)
{
    assert(message->term == raft->term);
    if (raft->role == RAFT_LEADER || raft->leader != message->from ||
        !raft_config_is_voter(&raft->config, raft->options.node))
        return;
    raft->forced = true;
    raft_election_start(raft);
}
