/* SPDX-License-Identifier: MIT */
/* Zones: makes a device that must be written in order look like one that is appended to.
 *
 * Problem. In a zone a write must start where the one before it ended, but requests in flight
 * together may reach the device in any order. An empty zone must exist before it is written, and
 * only so many zones may be partly written at a time.
 *
 *   submit -> pieces, none across a zone's end -> queue of the zone -> one at a time -> device
 *
 *   EMPTY --first write--> ACTIVE --write of the last block, or DISK_SEAL--> FULL
 *     ^____________________ DISK_DISCARD, or a write to its start ____________|
 *
 * Z1  A zone has at most one write, reset or finish on the device, in the order of submission.
 * Z2  At submission, a write starts where all submitted before it end (next), or at the zone's
 *     start: our owner's duty, asserted. At its turn it starts at what is written, or it fails:
 *     what comes behind a failed write fails too, until the zone is emptied.
 * Z3  At most zones_active_max zones are ACTIVE. A write that would open one more waits until one
 *     that is about to end has ended; if none is, it fails with -ENOSPC rather than wait for ever.
 * Z4  Reads and flushes pass; a read is cut at the ends of zones, whose addresses need not adjoin
 *     on the device.
 *
 * Limit: one write at a time per zone, so a stream's speed is its write size by the device's
 * latency. What a device holds behind a crash is told by the backend when it opens. */
#include "env/reactor_internal.h"

struct disk_zone {
    uint64_t written; /* on the device */
    uint64_t next;    /* when all that is queued is done */
    bool active;
    bool busy;           /* something of it is on the device */
    struct list queue;   /* struct zone_piece */
    struct list waiting; /* zones.waiting */
    struct disk_io reset;
};

struct disk_zones {
    struct disk *disk;
    uint32_t count;
    uint32_t active;
    struct disk_zone *admitted; /* whose turn it is, of those */
    struct list waiting;  /* zones that wait for an active one to end, first come first served */
    struct list finished; /* pieces with nothing to do, to be completed by the hook */
    struct turn_hook hook;
    struct disk_zone zone[];
};

struct zone_request {
    struct disk *disk;
    struct disk_io *io;
    uint32_t left;
    int result;
};

struct zone_piece {
    struct disk_io io;
    struct list link;
    struct zone_request *request;
    struct disk_zone *zone; /* NULL: a read */
    bool ends;
};

static void pump(struct disk_zones *zones, struct disk_zone *zone);

static uint64_t start_of(const struct disk_zones *zones, const struct disk_zone *zone)
{
    return (uint64_t)(zone - zones->zone) * zones->disk->info.zone_bytes;
}

static void piece_complete(struct zone_piece *piece, int result)
{
    struct zone_request *request = piece->request;
    if (result < 0 && request->result == 0)
        request->result = result;
    mem_free(piece);
    assert(request->left > 0);
    if (--request->left > 0)
        return;
    struct disk_io *io = request->io;
    io->result = request->result;
    mem_free(request);
    io->done(io);
}

static bool slot_free(const struct disk_zones *zones)
{
    uint32_t most = zones->disk->info.zones_active_max;
    return most == 0 || zones->active < most;
}

/* Is an active zone about to end? Looks at all, but only when no more may be active. */
static bool slot_coming(const struct disk_zones *zones)
{
    const struct zone_piece *piece;
    for (uint32_t i = 0; i < zones->count; i++) {
        if (!zones->zone[i].active)
            continue;
        list_for_each (piece, &zones->zone[i].queue, link) {
            if (piece->ends)
                return true;
        }
    }
    return false;
}

static void pump_waiting(struct disk_zones *zones)
{
    struct list *link;
    while (slot_free(zones) && (link = list_pop_front(&zones->waiting)) != NULL) {
        list_init(link);
        zones->admitted = list_entry(link, struct disk_zone, waiting);
        pump(zones, zones->admitted);
        zones->admitted = NULL;
    }
    /* Nothing is about to end any more: let the first one say so. */
    while (!list_empty(&zones->waiting) && !slot_coming(zones)) {
        link = list_pop_front(&zones->waiting);
        list_init(link);
        pump(zones, list_entry(link, struct disk_zone, waiting));
    }
}

/* What is written of the zone has changed. */
static void note(struct disk_zones *zones, struct disk_zone *zone, uint64_t written)
{
    bool active = written > 0 && written < zones->disk->info.zone_bytes;
    zones->active += (uint32_t)active - (uint32_t)zone->active;
    zone->active = active;
    zone->written = written;
}

/* The zone's first piece is over. */
static void piece_over(struct disk_zones *zones, struct zone_piece *piece, int result)
{
    struct disk_zone *zone = piece->zone;
    list_remove(&piece->link);
    piece_complete(piece, result);
    pump(zones, zone);
    pump_waiting(zones);
}

static void piece_done(struct disk_io *io)
{
    struct zone_piece *piece = container_of(io, struct zone_piece, io);
    struct disk_zone *zone = piece->zone;
    if (!zone) {
        piece_complete(piece, io->result);
        return;
    }
    struct disk_zones *zones = piece->request->disk->zones;
    zone->busy = false;
    if (io->result == 0 && io->op == DISK_WRITE)
        note(zones, zone, zone->written + io->bytes);
    else if (io->result == 0)
        note(zones, zone, io->op == DISK_DISCARD ? 0 : zones->disk->info.zone_bytes);
    piece_over(zones, piece, io->result);
}

static void reset_done(struct disk_io *io)
{
    struct disk_zone *zone = container_of(io, struct disk_zone, reset);
    struct zone_piece *piece = list_first(&zone->queue, struct zone_piece, link);
    struct disk_zones *zones = piece->request->disk->zones;
    zone->busy = false;
    if (io->result < 0) {
        piece_over(zones, piece, io->result);
        return;
    }
    zone->written = 0;
    pump(zones, zone);
}

static void send(struct disk_zones *zones, struct disk_zone *zone, struct disk_io *io)
{
    struct disk *disk = zones->disk;
    zone->busy = true;
    disk->reactor->backend->disk_submit(disk, io);
}

/* Complete the piece outside of our caller. */
static void finish_later(struct disk_zones *zones, struct zone_piece *piece, int result)
{
    piece->io.result = result;
    piece->zone->busy = true;
    list_remove(&piece->link);
    list_push_back(&zones->finished, &piece->link);
    turn_hook_schedule(&zones->hook);
}

static void hook_fired(struct turn_hook *hook)
{
    struct disk_zones *zones = container_of(hook, struct disk_zones, hook);
    struct list *link;
    while ((link = list_pop_front(&zones->finished)) != NULL) {
        struct zone_piece *piece = list_entry(link, struct zone_piece, link);
        list_init(&piece->link);
        piece->zone->busy = false;
        piece_over(zones, piece, piece->io.result);
    }
}

static bool may_open(const struct disk_zones *zones, const struct disk_zone *zone)
{
    return slot_free(zones) && (list_empty(&zones->waiting) || zones->admitted == zone);
}

static void pump_write(struct disk_zones *zones, struct disk_zone *zone, struct zone_piece *piece)
{
    uint64_t at = piece->io.offset - start_of(zones, zone);
    if (at != 0 && at != zone->written) { /* Z2 */
        finish_later(zones, piece, -EIO);
    } else if (!zone->active && !may_open(zones, zone)) {
        if (slot_coming(zones))
            list_push_back(&zones->waiting, &zone->waiting);
        else
            finish_later(zones, piece, -ENOSPC);
    } else {
        zones->active += !zone->active;
        zone->active = true; /* from here on, also while it is emptied */
        bool reset = at == 0 && zone->written > 0;
        if (reset)
            zone->reset = (struct disk_io){.op = DISK_DISCARD,
                                           .offset = piece->io.offset,
                                           .bytes = zones->disk->info.zone_bytes,
                                           .done = reset_done};
        list_init(&zone->reset.link);
        send(zones, zone, reset ? &zone->reset : &piece->io);
    }
}

static void pump(struct disk_zones *zones, struct disk_zone *zone)
{
    if (zone->busy || !list_empty(&zone->waiting) || list_empty(&zone->queue))
        return;
    struct zone_piece *piece = list_first(&zone->queue, struct zone_piece, link);
    if (piece->io.op == DISK_WRITE)
        pump_write(zones, zone, piece);
    else if (piece->io.op == DISK_SEAL && !zone->active)
        finish_later(zones, piece, 0); /* a finish of an empty zone would use it up */
    else
        send(zones, zone, &piece->io);
}

static void queue(struct disk_zones *zones, struct zone_piece *piece)
{
    struct disk_io *io = &piece->io;
    uint64_t zone_bytes = zones->disk->info.zone_bytes;
    struct disk_zone *zone = &zones->zone[io->offset / zone_bytes];
    uint64_t at = io->offset % zone_bytes;
    piece->zone = zone;
    if (io->op == DISK_WRITE) {
        assert(at == 0 || at == zone->next); /* Z2 */
        zone->next = at + io->bytes;
        piece->ends = zone->next == zone_bytes;
    } else {
        assert(at == 0 && io->bytes == zone_bytes);
        zone->next = io->op == DISK_DISCARD || zone->next == 0 ? 0 : zone_bytes;
        piece->ends = true;
    }
    list_push_back(&zone->queue, &piece->link);
    pump(zones, zone);
}

void disk_zones_submit(struct disk *disk, struct disk_io *io)
{
    struct disk_zones *zones = disk->zones;
    uint64_t zone_bytes = disk->info.zone_bytes;
    bool read = io->op == DISK_READ;
    uint64_t room = zone_bytes - io->offset % zone_bytes;
    if (io->op == DISK_FLUSH || (read && io->bytes <= room)) {
        disk->reactor->backend->disk_submit(disk, io);
        return;
    }
    struct zone_request *request = mem_alloc(sizeof *request);
    *request = (struct zone_request){.disk = disk, .io = io, .left = 1};
    for (uint64_t done = 0; done < io->bytes;) {
        uint64_t offset = io->offset + done;
        uint64_t bytes = MIN(zone_bytes - offset % zone_bytes, io->bytes - done);
        struct zone_piece *piece = mem_zalloc(sizeof *piece);
        piece->io = (struct disk_io){.op = io->op,
                                     .stream = io->stream,
                                     .offset = offset,
                                     .data = io->data ? (uint8_t *)io->data + done : NULL,
                                     .bytes = (uint32_t)bytes,
                                     .done = piece_done};
        piece->request = request;
        list_init(&piece->io.link);
        list_init(&piece->link);
        done += bytes;
        request->left += done < io->bytes;
        if (read)
            disk->reactor->backend->disk_submit(disk, &piece->io);
        else
            queue(zones, piece);
    }
}

struct disk_zones *disk_zones_new(struct disk *disk)
{
    uint64_t count = disk->info.size_bytes / disk->info.zone_bytes;
    assert(disk->info.zone_bytes % DISK_BLOCK_BYTES == 0 && count <= UINT32_MAX);
    struct disk_zones *zones = mem_zalloc(sizeof *zones + count * sizeof zones->zone[0]);
    zones->disk = disk;
    zones->count = (uint32_t)count;
    list_init(&zones->finished);
    list_init(&zones->waiting);
    turn_hook_init(&zones->hook, hook_fired);
    for (uint32_t i = 0; i < zones->count; i++) {
        list_init(&zones->zone[i].queue);
        list_init(&zones->zone[i].waiting);
    }
    return zones;
}

void disk_zone_found(struct disk *disk, uint64_t zone, uint64_t written)
{
    assert(zone < disk->zones->count && written <= disk->info.zone_bytes);
    note(disk->zones, &disk->zones->zone[zone], written);
    disk->zones->zone[zone].next = written;
}

void disk_zones_free(struct disk *disk)
{
    struct disk_zones *zones = disk->zones;
    for (uint32_t i = 0; i < zones->count; i++)
        assert(list_empty(&zones->zone[i].queue) && !zones->zone[i].busy);
    mem_free(zones);
    disk->zones = NULL;
}

uint64_t disk_zone_written(const struct disk *disk, uint64_t offset)
{
    assert(disk->zones && offset < disk->info.size_bytes);
    return disk->zones->zone[offset / disk->info.zone_bytes].written;
}

bool disk_appendable(const struct disk *disk, uint64_t offset)
{
    if (!disk->zones)
        return true;
    uint64_t at = offset % disk->info.zone_bytes;
    return at == 0 || disk_zone_written(disk, offset) == at;
}
