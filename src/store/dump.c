/* SPDX-License-Identifier: MIT */
/* Dump: what is on the device, for people. One line at a time, so memory does not grow with it. */
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "store/store_internal.h"

enum { LINE_MAX_BYTES = 512, HEX_MAX = 96 };

struct dump {
    store_line_fn fn;
    void *context;
};

static void line(const struct dump *dump, const char *format, ...) printf_like(2, 3);

static void line(const struct dump *dump, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    dump->fn(dump->context, text);
}

/* ---- superblocks ---- */

static void super_line(const struct dump *dump, uint32_t slot, const struct disk_superblock *super)
{
    int checked = disk_superblock_check(super);
    if (checked == -ERR_NOT_FORMATTED)
        return;
    if (checked < 0) {
        line(dump, "superblock slot=%u error=%s", slot, error_name(checked));
        return;
    }
    line(dump,
         "superblock slot=%u sequence=%llu node=%u store_id=%016llx segments=%u x %u blocks "
         "root=%llu level=%u table=%llu journal_lsn=%llu journal_block=%llu flushed_lsn=%llu%s",
         slot, (unsigned long long)super->sequence, super->node,
         (unsigned long long)super->store_id, super->segment_count, super->segment_blocks,
         (unsigned long long)super->root.block[0], super->root_level,
         (unsigned long long)super->segments.block[0], (unsigned long long)super->journal_lsn,
         (unsigned long long)super->journal_block, (unsigned long long)super->flushed_lsn,
         super->incompat & DISK_INCOMPAT_ZONED ? " zoned" : "");
}

int store_dump_super(struct disk *disk, store_line_fn fn, void *context)
{
    const struct dump dump = {fn, context};
    const struct disk_info *info = disk_info(disk);
    line(&dump, "device path=%s kind=%s bytes=%llu zone_bytes=%u", info->path, info->kind,
         (unsigned long long)info->size_bytes, info->zone_bytes);
    uint8_t *slots = mem_alloc_aligned(DISK_SUPER_SLOTS * DISK_SUPER_BYTES, STORE_BLOCK_BYTES);
    int result = superblock_slots_read(disk, slots);
    for (uint32_t i = 0; i < DISK_SUPER_SLOTS && result == 0; i++)
        super_line(&dump, i, (const void *)(slots + i * DISK_SUPER_BYTES));
    mem_free(slots);
    return result;
}

/* ---- segments ---- */

static const char *state_name(uint32_t state)
{
    static const char *const names[] = {
        [SEGMENT_FREE] = "free", [SEGMENT_SUPER] = "super", [SEGMENT_JOURNAL] = "journal",
        [SEGMENT_NODE] = "node", [SEGMENT_DATA] = "data",   [SEGMENT_DISCARDING] = "discarding",
    };
    assert(state < ARRAY_COUNT(names));
    return names[state];
}

static void dump_segments(struct store *store, const struct dump *dump)
{
    for (uint32_t i = 0; i < store->segment_count; i++) {
        const struct segment *segment = &store->segments[i];
        if (segment->state == SEGMENT_FREE)
            continue;
        line(dump, "segment index=%u state=%s live=%u frontier=%u pinned=%u%s", i,
             state_name(segment->state), segment->live, segment->frontier, segment->pinned,
             segment->open ? " open" : "");
    }
    line(dump, "segments count=%u free=%u live_data_blocks=%llu live_node_blocks=%llu",
         store->segment_count, store->segments_free, (unsigned long long)store->live_data,
         (unsigned long long)store->live_nodes);
}

/* ---- rows ---- */

static void hex(char *text, size_t room, struct slice bytes)
{
    const uint8_t *data = bytes.data;
    size_t used = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < bytes.bytes && used + 4 < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%02x", data[i]);
    if (used + 4 >= room && used > 0)
        (void)snprintf(text + used, room - used, "...");
}

static int dump_rows(struct store *store, const struct dump *dump)
{
    struct store_iter *iter = store_iter_new(store);
    struct slice key, value;
    uint64_t rows = 0;
    int result;
    store_iter_seek(iter, slice_of("", 0));
    while ((result = store_iter_next(iter, slice_of("", 0), &key, &value)) > 0) {
        char key_text[2 * HEX_MAX], value_text[HEX_MAX];
        const uint8_t *bytes = key.data;
        uint32_t head = MIN(key.bytes, 5u);
        hex(key_text, sizeof key_text, slice_of(bytes + head, key.bytes - head));
        hex(value_text, sizeof value_text, value);
        line(dump, "row group=%u table=0x%02x key=%s bytes=%u value=%s",
             head >= 4 ? be32_load(bytes) : 0, head == 5 ? bytes[4] : 0, key_text, value.bytes,
             value_text);
        rows++;
    }
    store_iter_free(iter);
    line(dump, "rows count=%llu%s%s", (unsigned long long)rows, result < 0 ? " ended by " : "",
         result < 0 ? error_name(result) : "");
    return result;
}

int store_dump(struct store *store, bool rows, store_line_fn fn, void *context)
{
    const struct dump dump = {fn, context};
    const struct journal *journal = &store->journal;
    line(&dump, "journal first_lsn=%llu next_lsn=%llu segments=%u prepared=%u%s",
         (unsigned long long)store->super.journal_lsn,
         (unsigned long long)MAX(journal->next_lsn, store->super.journal_lsn), journal->chain_count,
         (uint32_t)journal->prepared.count, store->health.journal_damaged ? " damaged" : "");
    dump_segments(store, &dump);
    return rows ? dump_rows(store, &dump) : 0;
}
