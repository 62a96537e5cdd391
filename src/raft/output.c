/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

/* What a step asks of its owner: writes and messages.
 *
 * Raft figure 2: currentTerm, votedFor and log[] are "updated on stable storage before responding
 * to RPCs". A message that depends on them waits here until the owner reports that write durable;
 * a leader's appends need not wait (thesis §10.2.1), because its own copy counts only once it is
 * durable (R4). */

uint64_t raft_persist_seq(struct raft *raft)
{
    struct raft_update *update = raft->update;
    assert(update);
    if (update->persist_seq == 0)
        update->persist_seq = ++raft->persist_issued;
    assert(update->persist_seq == raft->persist_issued);
    return update->persist_seq;
}

uint64_t raft_persist_note(struct raft *raft, uint32_t flags)
{
    assert(flags != 0);
    raft->update->persist |= flags;
    return raft_persist_seq(raft);
}

void raft_persist_log_from(struct raft *raft, uint64_t first)
{
    struct raft_update *update = raft->update;
    assert(first > raft->log.snapshot_index && first <= raft->log.last_index + 1);
    bool named = update->persist & RAFT_PERSIST_LOG;
    raft_persist_note(raft, RAFT_PERSIST_LOG);
    update->log_first = named ? MIN(update->log_first, first) : first;
    update->log_last = raft->log.last_index;
}

struct raft_message raft_message_to(const struct raft *raft, enum raft_message_type type,
                                    uint32_t to)
{
    assert(to != 0 && to != raft->options.node);
    return (struct raft_message){
        .type = type, .from = raft->options.node, .to = to, .term = raft->term};
}

void raft_send_now(struct raft *raft, const struct raft_message *message)
{
    struct raft_update *update = raft->update;
    assert(message->entries.bytes == 0);
    if (update->message_count < RAFT_MESSAGES_MAX)
        update->messages[update->message_count++] = *message;
    /* else lost, like on any network */
}

void raft_send_when_durable(struct raft *raft, const struct raft_message *message)
{
    assert(raft->persist_done <= raft->persist_issued);
    if (raft->persist_done == raft->persist_issued) {
        raft_send_now(raft, message);
        return;
    }
    if (raft->outbox_count == RAFT_OUTBOX_MAX) {
        memmove(&raft->outbox[0], &raft->outbox[1], (RAFT_OUTBOX_MAX - 1) * sizeof raft->outbox[0]);
        raft->outbox_count--;
    }
    raft->outbox[raft->outbox_count++] =
        (struct raft_held){.persist_seq = raft->persist_issued, .message = *message};
}

/* While a slow disk holds the real answer back, tell the leader that we follow it: that the empty
 * prefix matches needs no write. It counts for its majority checks and rounds only: whoever voted
 * for a later leader has that vote durable and does not answer this one. */
void raft_still_here(struct raft *raft, const struct raft_message *message)
{
    assert(message->term == raft->term && raft->role == RAFT_FOLLOWER);
    if (raft->persist_done == raft->persist_issued)
        return; /* the real answer leaves now */
    struct raft_message reply = raft_message_to(raft, RAFT_APPEND_REPLY, message->from);
    reply.round = message->round;
    raft_send_now(raft, &reply);
}

void raft_outbox_release(struct raft *raft)
{
    uint32_t sent = 0;
    while (sent < raft->outbox_count && raft->outbox[sent].persist_seq <= raft->persist_done)
        raft_send_now(raft, &raft->outbox[sent++].message);
    raft->outbox_count -= sent;
    memmove(&raft->outbox[0], &raft->outbox[sent], raft->outbox_count * sizeof raft->outbox[0]);
}
