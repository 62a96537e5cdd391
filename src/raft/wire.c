/* SPDX-License-Identifier: MIT */
#include "raft/raft_internal.h"

/* Messages as bytes (format/wire_raft.h). What arrives is checked here once; the rest of the
 * machine asserts. */

static uint32_t padded(uint32_t bytes)
{
    return (uint32_t)round_up(bytes, 8);
}

uint32_t raft_encode(const struct raft *raft, const struct raft_message *message, void *out,
                     uint32_t capacity)
{
    struct writer writer;
    writer_init(&writer, out, capacity);
    struct wire_raft_message *head = writer_reserve(&writer, sizeof *head);
    assert(head && message->entries.bytes == 0);
    static const uint8_t zeroes[8];
    for (uint32_t i = 1; i <= message->entry_count; i++) {
        struct raft_entry entry;
        raft_entry(raft, message->index + i, &entry);
        struct wire_raft_entry entry_head = {
            .term = entry.term, .type = entry.type, .bytes = entry.data.bytes};
        writer_put(&writer, &entry_head, sizeof entry_head);
        writer_put(&writer, entry.data.data, entry.data.bytes);
        writer_put(&writer, zeroes, padded(entry.data.bytes) - entry.data.bytes);
    }
    assert(writer_ok(&writer));
    *head = (struct wire_raft_message){
        .type = message->type,
        .from = message->from,
        .to = message->to,
        .flags = (message->reject ? WIRE_RAFT_REJECT : 0) | (message->force ? WIRE_RAFT_FORCE : 0),
        .term = message->term,
        .index = message->index,
        .log_term = message->log_term,
        .commit = message->commit,
        .round = message->round,
        .entry_count = message->entry_count,
        .entry_bytes = (uint32_t)(writer_bytes(&writer) - sizeof *head),
        .config = message->config,
    };
    return (uint32_t)writer_bytes(&writer);
}

bool raft_entry_next(struct reader *reader, struct wire_raft_entry *ret_head,
                     struct slice *ret_data)
{
    struct wire_raft_entry head;
    reader_copy(reader, &head, sizeof head);
    if (!reader_ok(reader) || head.bytes > RAFT_ENTRY_BYTES_MAX)
        return false;
    const void *data = reader_take(reader, padded(head.bytes));
    if (!reader_ok(reader))
        return false;
    *ret_head = head;
    *ret_data = slice_of(data, head.bytes);
    return true;
}

static bool entry_valid(const struct wire_raft_entry *head, struct slice data)
{
    if (head->type < RAFT_ENTRY_NOOP || head->type > RAFT_ENTRY_CONFIG || head->term == 0)
        return false;
    if (head->type == RAFT_ENTRY_CONFIG) {
        struct wire_raft_config config;
        if (data.bytes != sizeof config)
            return false;
        memcpy(&config, data.data, sizeof config);
        return raft_config_valid(&config);
    }
    return head->type == RAFT_ENTRY_DATA || data.bytes == 0;
}

static bool entries_valid(const struct wire_raft_message *head, const void *bytes)
{
    struct reader reader;
    reader_init(&reader, bytes, head->entry_bytes);
    uint64_t term = head->log_term;
    for (uint32_t i = 0; i < head->entry_count; i++) {
        struct wire_raft_entry entry;
        struct slice data;
        if (!raft_entry_next(&reader, &entry, &data) || !entry_valid(&entry, data) ||
            entry.term < term || entry.term > head->term)
            return false;
        term = entry.term;
    }
    return reader_left(&reader) == 0;
}

int raft_decode(const void *bytes, uint32_t count, struct raft_message *ret_message)
{
    struct wire_raft_message head;
    if (count < sizeof head)
        return -ERR_CORRUPT_WIRE;
    memcpy(&head, bytes, sizeof head);
    if (head.type < RAFT_PRE_VOTE || head.type > RAFT_TIMEOUT_NOW || head.from == 0 ||
        head.to == 0 || head.from == head.to || head.term == 0)
        return -ERR_CORRUPT_WIRE;
    if ((head.index == 0) != (head.log_term == 0) && head.type != RAFT_APPEND_REPLY &&
        head.type != RAFT_SNAPSHOT_REPLY)
        return -ERR_CORRUPT_WIRE;
    if (head.log_term > head.term || head.index > UINT64_MAX / 2)
        return -ERR_CORRUPT_WIRE;
    if (head.entry_bytes != count - sizeof head || head.entry_count > RAFT_APPEND_ENTRIES_MAX ||
        (head.entry_count > 0 && head.type != RAFT_APPEND))
        return -ERR_CORRUPT_WIRE;
    const uint8_t *entries = (const uint8_t *)bytes + sizeof head;
    if (!entries_valid(&head, entries))
        return -ERR_CORRUPT_WIRE;
    if (head.type == RAFT_SNAPSHOT && (!raft_config_valid(&head.config) || head.index == 0))
        return -ERR_CORRUPT_WIRE;
    *ret_message = (struct raft_message){
        .type = head.type,
        .from = head.from,
        .to = head.to,
        .reject = head.flags & WIRE_RAFT_REJECT,
        .force = head.flags & WIRE_RAFT_FORCE,
        .term = head.term,
        .index = head.index,
        .log_term = head.log_term,
        .commit = head.commit,
        .round = head.round,
        .entry_count = head.entry_count,
        .entries = slice_of(entries, head.entry_bytes),
        .config = head.config,
    };
    return 0;
}
