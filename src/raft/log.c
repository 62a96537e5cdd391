/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

/* The log in memory: a ring of slots (index modulo capacity) and a ring of data bytes. Data of an
 * entry is contiguous; if it does not fit before the end of the arena it starts again at 0. */

static uint32_t data_room(uint32_t bytes)
{
    return (uint32_t)round_up(MAX(bytes, 1u), 8);
}

static uint64_t entry_count(const struct raft_log *log)
{
    assert(log->last_index >= log->snapshot_index);
    return log->last_index - log->snapshot_index;
}

void raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term)
{
    assert((index == 0) == (term == 0));
    log->snapshot_index = index;
    log->snapshot_term = term;
    log->last_index = index;
    log->arena_head = 0;
    log->arena_tail = 0;
}

bool raft_log_has(const struct raft_log *log, uint64_t index)
{
    return index > log->snapshot_index && index <= log->last_index;
}

struct raft_slot *raft_log_slot(struct raft_log *log, uint64_t index)
{
    assert(raft_log_has(log, index));
    return &log->slots[index % RAFT_LOG_ENTRIES_MAX];
}

const struct raft_slot *raft_log_slot_peek(const struct raft_log *log, uint64_t index)
{
    assert(raft_log_has(log, index));
    return &log->slots[index % RAFT_LOG_ENTRIES_MAX];
}

uint64_t raft_log_term(const struct raft_log *log, uint64_t index)
{
    if (index == log->snapshot_index)
        return log->snapshot_term;
    return raft_log_slot_peek(log, index)->term;
}

uint64_t raft_log_last_term(const struct raft_log *log)
{
    return raft_log_term(log, log->last_index);
}

/* Place for bytes in the arena, or -1. */
static int64_t arena_place(const struct raft_log *log, uint32_t bytes)
{
    uint32_t room = data_room(bytes);
    if (entry_count(log) == 0)
        return room <= RAFT_LOG_BYTES ? 0 : -1;
    if (log->arena_tail > log->arena_head) {
        if (RAFT_LOG_BYTES - log->arena_tail >= room)
            return log->arena_tail;
        return log->arena_head > room ? 0 : -1;
    }
    return log->arena_head - log->arena_tail > room ? (int64_t)log->arena_tail : -1;
}

bool raft_log_room(const struct raft_log *log, uint32_t bytes, uint32_t reserve)
{
    assert(bytes <= RAFT_ENTRY_BYTES_MAX);
    if (entry_count(log) + reserve >= RAFT_LOG_ENTRIES_MAX)
        return false;
    uint32_t reserve_bytes = reserve * (uint32_t)sizeof(struct wire_raft_config);
    return arena_place(log, bytes + reserve_bytes) >= 0;
}

bool raft_log_append(struct raft_log *log, uint64_t term, uint32_t type, struct slice data,
                     uint64_t persist_seq)
{
    assert(term >= raft_log_last_term(log));
    if (!raft_log_room(log, data.bytes, 0))
        return false;
    int64_t place = arena_place(log, data.bytes);
    assert(place >= 0 && (uint64_t)place + data_room(data.bytes) <= RAFT_LOG_BYTES);
    if (entry_count(log) == 0)
        log->arena_head = (uint32_t)place;
    log->last_index++;
    *raft_log_slot(log, log->last_index) = (struct raft_slot){
        .term = term,
        .persist_seq = persist_seq,
        .type = type,
        .bytes = data.bytes,
        .offset = (uint32_t)place,
    };
    if (data.bytes > 0)
        memcpy(log->arena + place, data.data, data.bytes);
    log->arena_tail = (uint32_t)place + data_room(data.bytes);
    return true;
}

void raft_log_truncate(struct raft_log *log, uint64_t last_kept)
{
    assert(last_kept >= log->snapshot_index && last_kept <= log->last_index);
    log->last_index = last_kept;
    if (last_kept == log->snapshot_index) {
        log->arena_head = 0;
        log->arena_tail = 0;
    } else {
        const struct raft_slot *slot = raft_log_slot_peek(log, last_kept);
        log->arena_tail = slot->offset + data_room(slot->bytes);
    }
}

void raft_log_trim(struct raft_log *log, uint64_t index)
{
    assert(raft_log_has(log, index));
    log->snapshot_term = raft_log_term(log, index);
    log->snapshot_index = index;
    if (index == log->last_index) {
        log->arena_head = 0;
        log->arena_tail = 0;
    } else {
        log->arena_head = raft_log_slot_peek(log, index + 1)->offset;
    }
}
