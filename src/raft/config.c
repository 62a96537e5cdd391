/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

/* Who takes part, and what a majority is.
 *
 * Raft §6: "a server always uses the latest configuration in its log, regardless of whether the
 * entry is committed." So the configuration is a function of the log and is searched again when
 * the log is truncated. */

static bool contains(const uint32_t *nodes, uint32_t count, uint32_t node)
{
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i] == node)
            return true;
    }
    return false;
}

static bool distinct(const uint32_t *nodes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i] == 0 || contains(nodes, i, nodes[i]))
            return false;
    }
    return true;
}

bool raft_config_valid(const struct wire_raft_config *config)
{
    if (config->voter_count == 0 || config->voter_count > RAFT_VOTERS_MAX ||
        config->old_count > RAFT_VOTERS_MAX || config->learner_count > RAFT_LEARNERS_MAX)
        return false;
    if (!distinct(config->voters, config->voter_count) ||
        !distinct(config->voters_old, config->old_count) ||
        !distinct(config->learners, config->learner_count))
        return false;
    for (uint32_t i = 0; i < config->learner_count; i++) {
        if (contains(config->voters, config->voter_count, config->learners[i]))
            return false;
    }
    return true;
}

bool raft_config_is_voter(const struct wire_raft_config *config, uint32_t node)
{
    return contains(config->voters, config->voter_count, node) ||
           contains(config->voters_old, config->old_count, node);
}

bool raft_config_is_member(const struct wire_raft_config *config, uint32_t node)
{
    return raft_config_is_voter(config, node) ||
           contains(config->learners, config->learner_count, node);
}

bool raft_config_same_voters(const struct wire_raft_config *a, const struct wire_raft_config *b)
{
    if (a->voter_count != b->voter_count)
        return false;
    for (uint32_t i = 0; i < a->voter_count; i++) {
        if (!contains(b->voters, b->voter_count, a->voters[i]))
            return false;
    }
    return true;
}

static void config_load(const struct raft *raft, uint64_t index,
                        struct wire_raft_config *ret_config)
{
    const struct raft_slot *slot = raft_log_slot_peek(&raft->log, index);
    assert(slot->type == RAFT_ENTRY_CONFIG && slot->bytes == sizeof *ret_config);
    memcpy(ret_config, raft->log.arena + slot->offset, sizeof *ret_config);
    assert(raft_config_valid(ret_config));
}

/* Index of the newest configuration entry <= index, or 0. */
static uint64_t config_find(const struct raft *raft, uint64_t index)
{
    for (; index > raft->log.snapshot_index; index--) {
        if (raft_log_slot_peek(&raft->log, index)->type == RAFT_ENTRY_CONFIG)
            return index;
    }
    return 0;
}

void raft_config_at(const struct raft *raft, uint64_t index, struct wire_raft_config *ret_config)
{
    assert(index >= raft->log.snapshot_index && index <= raft->log.last_index);
    uint64_t found = config_find(raft, index);
    if (found > 0)
        config_load(raft, found, ret_config);
    else
        *ret_config = raft->snapshot_config;
}

void raft_config_rebuild(struct raft *raft)
{
    raft->config_index = config_find(raft, raft->log.last_index);
    raft_config_at(raft, raft->log.last_index, &raft->config);
    raft_config_sync_peers(raft);
}

struct raft_peer *raft_peer_find(struct raft *raft, uint32_t node)
{
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        if (raft->peers[i].node == node)
            return &raft->peers[i];
    }
    return NULL;
}

static void peer_add(struct raft *raft, uint32_t node)
{
    if (node == raft->options.node || raft_peer_find(raft, node))
        return;
    assert(raft->peer_count < RAFT_PEERS_MAX);
    raft->peers[raft->peer_count++] = (struct raft_peer){
        .node = node,
        .next = raft->log.last_index + 1,
        .ack_ns = raft->now_ns,
    };
}

/* Keep what is known of members that stay, start afresh with new ones. */
void raft_config_sync_peers(struct raft *raft)
{
    const struct wire_raft_config *config = &raft->config;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        if (raft_config_is_member(config, raft->peers[i].node))
            raft->peers[kept++] = raft->peers[i];
    }
    raft->peer_count = kept;
    for (uint32_t i = 0; i < config->voter_count; i++)
        peer_add(raft, config->voters[i]);
    for (uint32_t i = 0; i < config->old_count; i++)
        peer_add(raft, config->voters_old[i]);
    for (uint32_t i = 0; i < config->learner_count; i++)
        peer_add(raft, config->learners[i]);
}

static uint64_t majority_value(const struct raft *raft, const uint32_t *nodes, uint32_t count,
                               raft_peer_value_fn value, uint64_t own)
{
    uint64_t values[RAFT_VOTERS_MAX];
    assert(count > 0 && count <= RAFT_VOTERS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t v = 0;
        if (nodes[i] == raft->options.node)
            v = own;
        for (uint32_t p = 0; p < raft->peer_count; p++) {
            if (raft->peers[p].node == nodes[i])
                v = value(raft, &raft->peers[p]);
        }
        uint32_t place = i;
        for (; place > 0 && values[place - 1] < v; place--)
            values[place] = values[place - 1];
        values[place] = v;
    }
    /* Descending: of 3 the second, of 4 the third, of 5 the third has a majority at or above. */
    return values[count / 2];
}

/* Raft §6: during joint consensus, "agreement (for elections and entry commitment) requires
 * separate majorities from both the old and new configurations." */
uint64_t raft_config_quorum(const struct raft *raft, raft_peer_value_fn value, uint64_t own)
{
    const struct wire_raft_config *config = &raft->config;
    uint64_t reached = majority_value(raft, config->voters, config->voter_count, value, own);
    if (config->old_count > 0) {
        uint64_t old = majority_value(raft, config->voters_old, config->old_count, value, own);
        reached = MIN(reached, old);
    }
    return reached;
}
