/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

/* What the owner asks of a leader: proposals, configuration changes, reads, transfer. */

static bool may_append(const struct raft *raft, uint32_t bytes)
{
    return raft->transfer_target == 0 &&
           raft->log.last_index - raft->commit_index < RAFT_UNCOMMITTED_MAX &&
           raft_log_room(&raft->log, bytes, RAFT_LOG_RESERVE);
}

int raft_client_propose(struct raft *raft, struct slice data)
{
    assert(data.bytes > 0 && data.bytes <= RAFT_ENTRY_BYTES_MAX);
    if (raft->role != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    if (!may_append(raft, data.bytes))
        return -ERR_BUSY;
    raft_append_own(raft, RAFT_ENTRY_DATA, data);
    raft->update->index = raft->log.last_index;
    return 0;
}

/* §6: the cluster "first switches to a transitional configuration we call joint consensus". One
 * change at a time, and only after an entry of this term has been committed (the flaw of
 * single-server changes reported on raft-dev in 2015 is thereby excluded here too). Learners alone
 * change without the detour: they do not count. */
int raft_client_config(struct raft *raft, const struct wire_raft_config *wanted)
{
    if (raft->role != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    if (!raft_config_valid(wanted) || wanted->old_count != 0)
        return -EINVAL;
    bool changing = raft->config.old_count > 0 || raft->config_index > raft->commit_index;
    if (changing || !raft_leader_ready(raft) || !may_append(raft, sizeof *wanted))
        return -ERR_BUSY;
    struct wire_raft_config config = *wanted;
    if (!raft_config_same_voters(wanted, &raft->config)) {
        config.old_count = raft->config.voter_count;
        memcpy(config.voters_old, raft->config.voters, sizeof config.voters_old);
    }
    raft_append_own(raft, RAFT_ENTRY_CONFIG, slice_of(&config, sizeof config));
    raft->update->index = raft->log.last_index;
    return 0;
}

static uint64_t peer_round(const struct raft *raft, const struct raft_peer *peer)
{
    return peer->round;
}

/* Thesis §6.4: the leader "needs to make sure it has not been superseded by a newer leader of which
 * it is unaware. It issues a new round of heartbeats and waits for their acknowledgments from a
 * majority of the cluster." */
void raft_client_reads_confirm(struct raft *raft)
{
    assert(raft->role == RAFT_LEADER);
    uint64_t round = raft_config_quorum(raft, peer_round, UINT64_MAX);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < raft->read_count; i++) {
        const struct raft_pending_read read = raft->reads[i];
        if (read.round <= round) {
            struct raft_update *update = raft->update;
            assert(update->read_count < RAFT_READS_MAX);
            update->reads[update->read_count++] = (struct raft_read){read.id, read.index};
        } else {
            raft->reads[kept++] = read;
        }
    }
    raft->read_count = kept;
}

void raft_client_reads_fail(struct raft *raft)
{
    struct raft_update *update = raft->update;
    assert(update->read_count + raft->read_count <= RAFT_READS_MAX);
    for (uint32_t i = 0; i < raft->read_count; i++)
        update->reads[update->read_count++] = (struct raft_read){.id = raft->reads[i].id};
    raft->read_count = 0;
}

/* Thesis §6.4: "If the leader has not yet marked an entry from its current term committed, it waits
 * until it has done so" (here: the caller does); "the leader saves its current commit index in a
 * local variable readIndex". */
int raft_client_read(struct raft *raft, uint64_t id, bool urgent)
{
    if (raft->role != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    if (!raft_leader_ready(raft) || raft->read_count == RAFT_READS_MAX)
        return -ERR_BUSY;
    raft->reads[raft->read_count++] =
        (struct raft_pending_read){.id = id, .index = raft->commit_index, .round = raft->round + 1};
    if (urgent)
        raft_heartbeat_round(raft);
    raft_client_reads_confirm(raft); /* a majority of one needs no answer */
    return 0;
}

/* Thesis §3.10: "1. The prior leader stops accepting new client requests. 2. The prior leader fully
 * updates the target server's log to match its own [...] 3. The prior leader sends a TimeoutNow
 * request to the target server." */
int raft_client_transfer(struct raft *raft, uint32_t target)
{
    if (raft->role != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    if (raft->transfer_target != 0 || raft->config.old_count > 0)
        return -ERR_BUSY;
    if (target == raft->options.node || !raft_config_is_voter(&raft->config, target))
        return -EINVAL;
    raft->transfer_target = target;
    raft->transfer_ns = raft->now_ns + raft->options.election_max_ns;
    raft_client_transfer_go(raft);
    return 0;
}

void raft_client_transfer_go(struct raft *raft)
{
    if (raft->transfer_target == 0)
        return;
    struct raft_peer *peer = raft_peer_find(raft, raft->transfer_target);
    if (!peer || peer->match != raft->log.last_index)
        return;
    struct raft_message message = raft_message_to(raft, RAFT_TIMEOUT_NOW, peer->node);
    message.index = raft->log.last_index;
    message.log_term = raft_log_last_term(&raft->log);
    raft_send_now(raft, &message);
}
