/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

/* Thesis §9.6: a server grants a pre-vote if it would grant the vote, and §4.2.3: not if it
 * "receives a RequestVote request within the minimum election timeout of hearing from a current
 * leader". Nothing is promised, so nothing is persisted. */
void raft_recv_pre_vote(struct raft *raft, const struct raft_message *message)
{
    bool grant = message->term > raft->term && !raft_election_leader_alive(raft) &&
                 raft_election_log_is_current(raft, message->index, message->log_term);
    struct raft_message reply = raft_message_to(raft, RAFT_PRE_VOTE_REPLY, message->from);
    reply.reject = !grant;
    if (grant)
        reply.term = message->term; /* the term that is asked about */
    assert(reply.term > 0 || raft->term == 0);
    if (reply.term > 0)
        raft_send_now(raft, &reply);
}
