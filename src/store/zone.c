/* SPDX-License-Identifier: MIT */
/* The store on a zoned device (env.h, DISK_SEAL): what differs.
 *
 * A segment is a whole number of zones, and so is each of its halves, because a node segment is
 * written at two places, its halves, in turn. Everything else is written to a segment from its
 * start to its end anyway. What is left:
 *
 * ZN1  Superblocks are a log, not slots: those with even sequence in zone 0, odd ones in zone 1,
 *      each behind the one before; when a zone is full, from its start, which empties it. As copies
 *      have sequences that follow each other, one zone always holds the newest while the other is
 *      emptied. The superblock says so (DISK_INCOMPAT_ZONED), since its place does.
 * ZN2  Nothing is overwritten: a bad copy of a tree node stays bad until the node is written anew.
 * ZN3  Writing goes on behind recovery only where the device's pointer says that it can: not behind
 *      a torn or distrusted journal entry (then as after damage, R5), nor in a node segment in
 *      which a checkpoint that never ended has written.
 * ZN4  What takes no more writes is sealed, so at most ZONES_ACTIVE zones are partly written: two
 *      of superblocks, one of journal, two of nodes, two of data.
 * ZN5  A free segment need not be empty: its first write empties each zone (and the cleaner does
 *      so in advance).
 */
#include "store/zone.h"

#include "base/log.h"
#include "store/store_internal.h"

enum { SEGMENT_HALF_MIN = 32 << 20 };

struct seal {
    struct disk_io io;
    struct store *store;
    uint32_t left; /* zones */
};

static bool zoned(const struct store *store)
{
    return disk_info(store->disk)->zone_bytes > 0;
}

uint32_t zone_segment_bytes(const struct disk *disk)
{
    uint64_t zone = disk_info(disk)->zone_bytes;
    assert(zone > 0);
    uint64_t bytes = 2 * zone * div_up(SEGMENT_HALF_MIN, zone);
    return bytes > UINT32_MAX ? 0 : (uint32_t)bytes;
}

bool zone_geometry_fits(const struct disk *disk, uint32_t segment_blocks)
{
    uint64_t zone = disk_info(disk)->zone_bytes;
    return zone == 0 || (uint64_t)segment_blocks * STORE_BLOCK_BYTES % (2 * zone) == 0;
}

static void seal_done(struct disk_io *io)
{
    struct seal *seal = container_of(io, struct seal, io);
    struct store *store = seal->store;
    assert(store->seals > 0);
    if (io->result < 0)
        store_fence(store, "zone finish", io->result);
    store->seals--;
    mem_free(seal);
}

void zone_seal(struct store *store, uint32_t index)
{
    if (!zoned(store) || store->fenced)
        return;
    struct seal *seal = mem_zalloc(sizeof *seal);
    seal->store = store;
    seal->io = (struct disk_io){.op = DISK_SEAL,
                                .offset = segment_block(store, index) * STORE_BLOCK_BYTES,
                                .bytes = store->segment_blocks * STORE_BLOCK_BYTES,
                                .done = seal_done};
    store->seals++;
    disk_submit(store->disk, &seal->io);
}

bool zone_resumable(const struct store *store, uint32_t index, uint32_t block)
{
    if (block >= store->segment_blocks)
        return true; /* full: the next write goes elsewhere */
    return disk_appendable(store->disk, (segment_block(store, index) + block) * STORE_BLOCK_BYTES);
}

/* How much of the segment, or of the half that block lies in, is in use and goes on. */
static uint32_t frontier(const struct store *store, uint32_t index, uint32_t block)
{
    uint32_t half = store->segment_blocks / 2;
    if (index == store->journal.segment)
        return store->journal.header_due ? 0 : store->journal.block;
    return store->segments[index].frontier + (block < half ? 0 : half);
}

/* What becomes of a partly written zone that begins at this block of the segment. */
enum zone_fate { ZONE_GOES_ON, ZONE_UNUSED, ZONE_CLOSED };

static enum zone_fate fate(const struct store *store, uint32_t index, uint32_t block)
{
    if (store->segments[index].state == SEGMENT_FREE)
        return ZONE_UNUSED;
    if (index != store->journal.segment && index != store->node_segment)
        return ZONE_CLOSED;
    return block < frontier(store, index, block) ? ZONE_GOES_ON : ZONE_UNUSED;
}

int zone_settle(struct store *store)
{
    uint64_t zone = disk_info(store->disk)->zone_bytes;
    uint64_t bytes = (uint64_t)store->segment_blocks * STORE_BLOCK_BYTES;
    for (uint32_t i = 1; zoned(store) && i < store->segment_count; i++) {
        for (uint64_t at = i * bytes; at < (i + 1) * bytes; at += zone) {
            uint64_t written = disk_zone_written(store->disk, at);
            uint32_t block = (uint32_t)((at - i * bytes) / STORE_BLOCK_BYTES);
            enum zone_fate end = fate(store, i, block);
            if (written == 0 || written == zone || end == ZONE_GOES_ON)
                continue;
            int result = end == ZONE_UNUSED ? disk_discard(store->disk, at, zone)
                                            : disk_seal(store->disk, at, zone);
            if (result < 0)
                return result;
        }
    }
    return 0;
}
