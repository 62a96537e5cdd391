/* SPDX-License-Identifier: MIT */
#include "format/disk_store.h"

#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/errors.h"

/* CRC of bytes with the 4 bytes at hole taken as zero. */
static uint32_t crc_with_hole(const void *bytes, size_t count, size_t hole)
{
    static const uint8_t zero[4];
    assert(hole + 4 <= count);
    uint32_t crc = crc32c(0, bytes, hole);
    crc = crc32c(crc, zero, 4);
    return crc32c(crc, (const uint8_t *)bytes + hole + 4, count - hole - 4);
}

static uint32_t super_crc(const struct disk_superblock *super)
{
    return crc_with_hole(super, sizeof *super, offsetof(struct disk_superblock, crc));
}

void disk_superblock_seal(struct disk_superblock *super)
{
    super->magic = DISK_SUPER_MAGIC;
    super->version = DISK_STORE_VERSION;
    super->crc = super_crc(super);
}

static bool pointer_plausible(const struct disk_pointer *pointer, uint64_t blocks)
{
    if (pointer->block[0] == 0)
        return true;
    uint64_t length = pointer->bytes / 4096;
    return pointer->bytes % 4096 == 0 && length > 0 && pointer->block[0] + length <= blocks &&
           pointer->block[1] + length <= blocks;
}

int disk_superblock_check(const struct disk_superblock *super)
{
    if (super->magic != DISK_SUPER_MAGIC)
        return -ERR_NOT_FORMATTED;
    if (super->crc != super_crc(super))
        return -ERR_CORRUPT_DISK;
    if (super->version != DISK_STORE_VERSION || (super->incompat & ~DISK_INCOMPAT_KNOWN) != 0)
        return -ERR_WRONG_VERSION;
    uint64_t blocks = (uint64_t)super->segment_blocks * super->segment_count;
    if (super->segment_blocks < 64 || super->segment_count < 8 || super->sequence == 0 ||
        super->root_level > DISK_TREE_LEVEL_MAX || super->journal_block >= blocks ||
        super->journal_block < super->segment_blocks)
        return -ERR_CORRUPT_DISK;
    if (super->slice_bytes == 0 ? super->slice_count != 0 : super->slice >= super->slice_count)
        return -ERR_CORRUPT_DISK;
    if (!pointer_plausible(&super->root, blocks) || !pointer_plausible(&super->segments, blocks))
        return -ERR_CORRUPT_DISK;
    return 0;
}

static uint32_t segment_crc(const struct disk_journal_segment *head)
{
    return crc_with_hole(head, sizeof *head, offsetof(struct disk_journal_segment, crc));
}

void disk_journal_segment_seal(struct disk_journal_segment *head)
{
    head->magic = DISK_JOURNAL_SEGMENT_MAGIC;
    head->crc = segment_crc(head);
}

int disk_journal_segment_check(const struct disk_journal_segment *head, uint64_t store_id)
{
    if (head->magic != DISK_JOURNAL_SEGMENT_MAGIC || head->store_id != store_id ||
        head->crc != segment_crc(head))
        return -ERR_CORRUPT_DISK;
    return 0;
}

int disk_journal_entry_check(const struct disk_journal_entry *entry, uint64_t store_id)
{
    if (entry->magic != DISK_JOURNAL_ENTRY_MAGIC || entry->store_id != store_id ||
        entry->bytes < sizeof *entry || entry->lsn == 0 || entry->count == 0)
        return -ERR_CORRUPT_DISK;
    return 0;
}

uint32_t disk_journal_entry_crc(const struct disk_journal_entry *entry)
{
    return crc_with_hole(entry, entry->bytes, offsetof(struct disk_journal_entry, crc));
}

int disk_tree_node_check(const void *node, uint64_t store_id, uint32_t level)
{
    const uint8_t *bytes = node;
    struct disk_tree_header header;
    memcpy(&header, node, sizeof header);
    if (header.magic != DISK_TREE_MAGIC || header.store_id != store_id || header.level != level ||
        header.count == 0 || header.used_bytes > DISK_TREE_NODE_BYTES)
        return -ERR_CORRUPT_DISK;
    uint32_t offsets = (uint32_t)round_up(sizeof header + header.prefix_bytes, 2);
    uint32_t entries = offsets + 2u * header.count;
    if (entries > header.used_bytes)
        return -ERR_CORRUPT_DISK;
    for (uint32_t i = 0; i < header.count; i++) {
        uint16_t at, lengths[2];
        memcpy(&at, bytes + offsets + 2 * i, sizeof at);
        if (at < entries || at + sizeof lengths > header.used_bytes)
            return -ERR_CORRUPT_DISK;
        memcpy(lengths, bytes + at, sizeof lengths);
        if (at + sizeof lengths + lengths[0] + lengths[1] > header.used_bytes)
            return -ERR_CORRUPT_DISK;
        if (level > 0 && lengths[1] != sizeof(struct disk_pointer))
            return -ERR_CORRUPT_DISK;
    }
    return 0;
}
