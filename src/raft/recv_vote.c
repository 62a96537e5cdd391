/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

#include "base/plant.h"

/* Figure 2, RequestVote receiver: "1. Reply false if term < currentTerm. 2. If votedFor is null or
 * candidateId, and candidate's log is at least as up-to-date as receiver's log, grant vote".
 * The voter need not find itself or the candidate in its configuration (§6: servers "accept
 * requests [...] from servers that are not in their latest configuration"). */
void raft_recv_vote(struct raft *raft, const struct raft_message *message)
{
    bool mine = raft->vote == 0 || raft->vote == message->from || PLANT(RAFT_VOTES_TWICE);
    bool grant = message->term == raft->term && mine &&
                 raft_election_log_is_current(raft, message->index, message->log_term);
    if (grant && raft->vote == 0) {
        /* A vote spent on another candidate is not held by a candidate or leader itself. */
        assert(raft->role == RAFT_FOLLOWER || raft->role == RAFT_PRE_CANDIDATE);
        raft->role = RAFT_FOLLOWER;
        raft->vote = message->from;
        raft_persist_note(raft, RAFT_PERSIST_STATE);
        raft_election_arm(raft);
    }
    struct raft_message reply = raft_message_to(raft, RAFT_VOTE_REPLY, message->from);
    reply.reject = !grant;
    raft_send_when_durable(raft, &reply);
}
