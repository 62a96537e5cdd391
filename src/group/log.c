/* SPDX-License-Identifier: MIT */
/* The tail of a group's log in memory: the prepared window and, behind it, applied records that a
 * member which was away for a moment can be given. A ring indexed by seq; dense (I4). */
#include "base/assert.h"
#include "base/mem.h"
#include "group/group_internal.h"

enum { LOG_ROOM_FIRST = 64 };

struct group_record *record_new(enum map_group_kind group_kind, uint32_t kind, struct slice payload)
{
    struct group_record *record =
        mem_alloc(sizeof *record + sizeof(struct disk_group_record) + payload.bytes);
    *record = (struct group_record){.kind = kind, .refs = 1, .payload_bytes = payload.bytes};
    const struct disk_group_record prefix = {.kind = kind, .group_kind = group_kind};
    memcpy(record->disk, &prefix, sizeof prefix);
    if (payload.bytes)
        memcpy(record->disk + sizeof prefix, payload.data, payload.bytes);
    return record;
}

void record_put(struct group_record *record)
{
    assert(record->refs > 0);
    if (--record->refs > 0)
        return;
    buf_put(record->data.buf);
    mem_free(record);
}

uint64_t record_bytes(const struct group_record *record)
{
    return sizeof *record + record->payload_bytes + (record->data.buf ? record->data.bytes : 0);
}

void log_init(struct group_log *log, uint64_t after_seq)
{
    *log = (struct group_log){.first_seq = after_seq + 1, .last_seq = after_seq};
}

static struct group_record **place(const struct group_log *log, uint64_t seq)
{
    return &log->ring[seq & (log->room - 1)];
}

struct group_record *log_at(const struct group_log *log, uint64_t seq)
{
    if (seq < log->first_seq || seq > log->last_seq)
        return NULL;
    struct group_record *record = *place(log, seq);
    assert(record->seq == seq);
    return record;
}

static void grow(struct group_log *log)
{
    struct group_log bigger = *log;
    bigger.room = log->room ? log->room * 2 : LOG_ROOM_FIRST;
    bigger.ring = mem_alloc(bigger.room * sizeof *bigger.ring);
    for (uint64_t seq = log->first_seq; seq <= log->last_seq; seq++)
        *place(&bigger, seq) = *place(log, seq);
    mem_free(log->ring);
    *log = bigger;
}

void log_push(struct group_log *log, struct group_record *record)
{
    assert(record->seq == log->last_seq + 1);
    if (log->last_seq + 1 - log->first_seq >= log->room)
        grow(log);
    log->last_seq++;
    *place(log, record->seq) = record;
    log->bytes += record_bytes(record);
}

static void drop(struct group_log *log, uint64_t seq)
{
    struct group_record *record = log_at(log, seq);
    log->bytes -= record_bytes(record);
    record_put(record);
}

void log_truncate(struct group_log *log, uint64_t seq)
{
    for (; log->last_seq > seq && log->last_seq >= log->first_seq; log->last_seq--)
        drop(log, log->last_seq);
    if (log->last_seq > seq)
        log_init(log, seq);
}

void log_trim(struct group_log *log, uint64_t before_seq, uint64_t bytes_max)
{
    while (log->bytes > bytes_max && log->first_seq < before_seq &&
           log->first_seq <= log->last_seq) {
        drop(log, log->first_seq);
        log->first_seq++;
    }
}

void log_reset(struct group_log *log, uint64_t after_seq)
{
    while (log->first_seq <= log->last_seq) {
        drop(log, log->first_seq);
        log->first_seq++;
    }
    log->first_seq = after_seq + 1;
    log->last_seq = after_seq;
    assert(log->bytes == 0);
}
