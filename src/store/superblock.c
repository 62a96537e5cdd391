/* SPDX-License-Identifier: MIT */
/* Superblock: eight slots at the start of the device; the newest valid one is the store.
 *
 * SB1  A slot is written only when everything it points to has been flushed.
 * SB2  Each superblock is written to two slots, flushed in between, so that one bad sector does
 *      not throw the store back to an older state whose blocks may have been reused.
 * SB3  The slots of the superblock before are not touched by the next one (sequence modulo 8).
 * SB4  Before format writes anything that an earlier store on the device might need, it has erased
 *      that store's superblocks, oldest first: a crash leaves that store as it was, or none.
 *
 * A zoned device has two logs in place of the slots: ZN1 in zone.c.
 */
#include "store/store_internal.h"

#include "base/log.h"
#include "base/plant.h"
#include "store/zone.h"

enum {
    SLOTS_BYTES = DISK_SUPER_SLOTS * DISK_SUPER_BYTES,
    SEGMENT_BYTES_MIN = 16 << 20, /* the device likes to be written in large pieces */
    SEGMENTS_WANTED = 256,
};

/* Where the superblock with this sequence goes. */
static uint64_t slot_offset(const struct disk *disk, uint64_t sequence)
{
    uint64_t zone = disk_info(disk)->zone_bytes;
    if (zone == 0)
        return sequence % DISK_SUPER_SLOTS * DISK_SUPER_BYTES;
    uint64_t start = sequence % 2 * zone;
    uint64_t written = disk_zone_written(disk, start);
    return written == zone ? start : start + written;
}

int superblock_slots_read(struct disk *disk, uint8_t *slots)
{
    uint64_t zone = disk_info(disk)->zone_bytes;
    if (zone == 0)
        return disk_read(disk, 0, slots, SLOTS_BYTES);
    memset(slots, 0, SLOTS_BYTES);
    int result = 0;
    for (uint32_t log = 0; log < 2 && result == 0; log++) {
        uint64_t written = disk_zone_written(disk, log * zone);
        uint64_t bytes = MIN(written, (uint64_t)SLOTS_BYTES / 2);
        if (bytes > 0)
            result =
                disk_read(disk, log * zone + written - bytes, slots + log * SLOTS_BYTES / 2, bytes);
    }
    return result;
}

static void super_init(struct disk_superblock *super, const struct disk *disk,
                       const struct store_identity *identity, uint32_t segment_bytes)
{
    super->sequence = 1;
    super->incompat = disk_info(disk)->zone_bytes ? DISK_INCOMPAT_ZONED : 0;
    super->cluster = identity->cluster;
    super->store = identity->store;
    /* Always new: nothing that an earlier store left behind may be taken for ours. */
    super->store_id = env_entropy_u64();
    super->node = identity->node;
    super->slice = identity->slice;
    super->slice_count = identity->slice_count;
    super->slice_bytes = identity->slice_bytes;
    super->segment_blocks = segment_bytes / STORE_BLOCK_BYTES;
    super->segment_count = (uint32_t)(disk_info(disk)->size_bytes / segment_bytes);
    super->journal_lsn = 1;
    super->journal_sequence = 1;
    super->journal_block = super->segment_blocks + 1;
    disk_superblock_seal(super);
}

/* The valid slot with the lowest sequence; DISK_SUPER_SLOTS: there is none. */
static uint32_t oldest_slot(const uint8_t *slots)
{
    uint32_t oldest = DISK_SUPER_SLOTS;
    uint64_t sequence = UINT64_MAX;
    for (uint32_t i = 0; i < DISK_SUPER_SLOTS; i++) {
        const struct disk_superblock *super = (const void *)(slots + i * DISK_SUPER_BYTES);
        if (disk_superblock_check(super) != 0 || super->sequence >= sequence)
            continue;
        oldest = i;
        sequence = super->sequence;
    }
    return oldest;
}

/* SB4. An older superblock must never become the newest: what it refers to has been reused. */
static int erase_slots(struct disk *disk, uint8_t *slots)
{
    int result = 0;
    uint32_t slot;
    while (result == 0 && (slot = oldest_slot(slots)) < DISK_SUPER_SLOTS) {
        uint64_t at = slot * (uint64_t)DISK_SUPER_BYTES;
        memset(slots + at, 0, DISK_SUPER_BYTES);
        result = disk_write(disk, at, slots + at, DISK_SUPER_BYTES);
        if (result == 0)
            result = disk_flush(disk);
    }
    return result;
}

/* SB4 on a zoned device: the log with the newest superblock goes last. Then all other zones. */
static int erase_logs(struct disk *disk, const uint8_t *slots)
{
    uint64_t zone = disk_info(disk)->zone_bytes, newest = 0;
    for (uint32_t i = 0; i < DISK_SUPER_SLOTS; i++) {
        const struct disk_superblock *super = (const void *)(slots + i * DISK_SUPER_BYTES);
        if (disk_superblock_check(super) == 0)
            newest = MAX(newest, super->sequence);
    }
    int result = disk_discard(disk, (newest + 1) % 2 * zone, zone);
    if (result == 0)
        result = disk_flush(disk); /* a device with a cache may forget that it emptied a zone */
    if (result == 0)
        result = disk_discard(disk, newest % 2 * zone, zone);
    if (result == 0)
        result = disk_flush(disk);
    if (result == 0) /* nothing of before may count as partly written */
        result = disk_discard(disk, 2 * zone, disk_info(disk)->size_bytes - 2 * zone);
    return result;
}

int superblock_format(struct disk *disk, const struct store_identity *identity, bool force,
                      uint32_t segment_bytes)
{
    uint64_t size = disk_info(disk)->size_bytes;
    if (segment_bytes == 0 || size / segment_bytes < 8)
        return -ENOSPC;
    assert(segment_bytes % STORE_BLOCK_BYTES == 0 && size / segment_bytes <= UINT32_MAX);
    assert(zone_geometry_fits(disk, segment_bytes / STORE_BLOCK_BYTES));
    uint8_t *slots = mem_alloc_aligned(SLOTS_BYTES, STORE_BLOCK_BYTES);
    int result = superblock_slots_read(disk, slots);
    for (uint32_t i = 0; result == 0 && !force && i < SLOTS_BYTES; i++)
        if (slots[i] != 0)
            result = -EEXIST;
    bool zoned = disk_info(disk)->zone_bytes > 0;
    if (result == 0)
        result = zoned ? erase_logs(disk, slots) : erase_slots(disk, slots);
    memset(slots, 0, SLOTS_BYTES);
    struct disk_superblock *super = (void *)slots;
    super_init(super, disk, identity, segment_bytes);
    struct disk_journal_segment head = {
        .store_id = super->store_id, .sequence = 1, .next_segment = 2};
    disk_journal_segment_seal(&head);
    uint8_t *block = mem_alloc_aligned(STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
    memset(block, 0, STORE_BLOCK_BYTES);
    memcpy(block, &head, sizeof head);
    if (result == 0)
        result = disk_write(disk, segment_bytes, block, STORE_BLOCK_BYTES);
    if (result == 0)
        result = disk_flush(disk);
    if (result == 0)
        result = disk_write(disk, zoned ? slot_offset(disk, super->sequence) : 0, slots,
                            zoned ? DISK_SUPER_BYTES : SLOTS_BYTES);
    if (result == 0)
        result = disk_flush(disk);
    mem_free(block);
    mem_free(slots);
    return result;
}

/* Small disks have small segments: those that are being filled, emptied or kept free would be too
 * large a part of the disk. */
static uint32_t usual_segment_bytes(const struct disk *disk)
{
    uint32_t bytes = STORE_SEGMENT_BYTES;
    if (disk_info(disk)->zone_bytes > 0)
        return zone_segment_bytes(disk);
    while (bytes > SEGMENT_BYTES_MIN && disk_info(disk)->size_bytes / bytes < SEGMENTS_WANTED)
        bytes /= 2;
    return bytes;
}

int store_format(struct disk *disk, const struct store_identity *identity, bool force)
{
    return superblock_format(disk, identity, force, usual_segment_bytes(disk));
}

int superblock_read(struct disk *disk, struct disk_superblock *ret_super)
{
    if (disk_info(disk)->size_bytes < SLOTS_BYTES)
        return -ERR_NOT_FORMATTED;
    uint8_t *slots = mem_alloc_aligned(SLOTS_BYTES, STORE_BLOCK_BYTES);
    int result = superblock_slots_read(disk, slots);
    int worst = -ERR_NOT_FORMATTED;
    const struct disk_superblock *newest = NULL;
    for (uint32_t i = 0; result == 0 && i < DISK_SUPER_SLOTS; i++) {
        const struct disk_superblock *super = (const void *)(slots + i * DISK_SUPER_BYTES);
        int checked = disk_superblock_check(super);
        if (checked == 0 && (!newest || super->sequence > newest->sequence))
            newest = super;
        if (checked < 0 && checked != -ERR_NOT_FORMATTED)
            worst = checked;
    }
    if (result == 0 && !newest)
        result = worst;
    if (result == 0 && (uint64_t)newest->segment_blocks * newest->segment_count >
                           disk_info(disk)->size_bytes / STORE_BLOCK_BYTES) {
        log_error("store-device-small", "bytes=%llu: smaller than the store on it",
                  (unsigned long long)disk_info(disk)->size_bytes);
        result = -ERR_CORRUPT_DISK;
    }
    bool zoned = disk_info(disk)->zone_bytes > 0;
    if (result == 0 && (zoned != ((newest->incompat & DISK_INCOMPAT_ZONED) != 0) ||
                        !zone_geometry_fits(disk, newest->segment_blocks))) {
        log_error("store-device-zones", "the store was made for a device with other zones");
        result = -ERR_CORRUPT_DISK;
    }
    if (result == 0)
        memcpy(ret_super, newest, sizeof *ret_super);
    else
        log_warn("store-no-superblock", "result=%s", error_name(result));
    mem_free(slots);
    return result;
}

int superblock_write(struct store *store, struct disk_superblock *super)
{
    uint8_t *block = mem_alloc_aligned(DISK_SUPER_BYTES, STORE_BLOCK_BYTES);
    int result = 0;
    for (uint32_t copy = 0; copy < 2 && result == 0; copy++) {
        super->sequence = store->super.sequence + 1 + copy;
        disk_superblock_seal(super);
        memcpy(block, super, sizeof *super);
        uint64_t slot = PLANT(STORE_SUPER_ONE_SLOT) ? 0 : super->sequence;
        result = disk_write(store->disk, slot_offset(store->disk, slot), block, DISK_SUPER_BYTES);
        if (result == 0)
            result = disk_flush(store->disk);
    }
    mem_free(block);
    if (result == 0)
        store->super = *super;
    else
        store_fence(store, "superblock write", result);
    return result;
}

static void identity_of(const struct disk_superblock *super, struct store_identity *ret_identity)
{
    *ret_identity = (struct store_identity){
        .cluster = super->cluster,
        .store = super->store,
        .node = super->node,
        .slice = super->slice,
        .slice_count = super->slice_count,
        .slice_bytes = super->slice_bytes,
    };
}

int store_identify(struct disk *disk, struct store_identity *ret_identity)
{
    struct disk_superblock super;
    int result = superblock_read(disk, &super);
    if (result == 0)
        identity_of(&super, ret_identity);
    return result;
}
