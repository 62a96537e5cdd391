/* SPDX-License-Identifier: MIT */
/* Simulated disks: sparse, in memory, named by path; they survive the nodes.
 *
 * A request takes effect when it completes, a random time after its submission, so requests in
 * flight together are reordered. What is durable is kept by sim_fault.c.
 *
 * I1. A disk is open on at most one live node (disk->owner). Those who only read are not counted:
 *     they see what has completed, also while its owner is at work (so a test can look at the disks
 *     of a quiet cluster).
 * I2. Requests in flight are in node->disk_ops; the bytes they name belong to the node. */
#include <string.h>

#include "env/sim/sim_internal.h"

enum { CHUNK_PAGES = 512, ASTRAY_PAGES = 256 };

/* What a node holds. */
struct sim_handle {
    struct disk base;
    struct sim_disk *disk;
};

struct sim_disk_op {
    struct sim_event event;
    struct list link;
    struct sim_disk *disk;
    struct disk_io *io;
    uint64_t flush_upto;
};

/* ---- content ------------------------------------------------------------------------------ */

static uint64_t chunk_count(const struct sim_disk *disk)
{
    return div_up(disk->size_bytes, (uint64_t)CHUNK_PAGES * DISK_BLOCK_BYTES);
}

uint8_t *sim_disk_page(const struct sim_disk *disk, uint64_t page)
{
    assert(page < disk->size_bytes / DISK_BLOCK_BYTES);
    uint8_t **chunk = disk->chunks[page / CHUNK_PAGES];
    return chunk ? chunk[page % CHUNK_PAGES] : NULL;
}

void sim_disk_page_set(struct sim_disk *disk, uint64_t page, uint8_t *content)
{
    uint8_t ***chunk = &disk->chunks[page / CHUNK_PAGES];
    if (!*chunk)
        *chunk = sim_alloc(CHUNK_PAGES * sizeof(uint8_t *));
    uint8_t **place = &(*chunk)[page % CHUNK_PAGES];
    disk->pages_used -= *place != NULL;
    disk->pages_used += content != NULL;
    *place = content;
}

uint8_t *sim_disk_page_own(struct sim_disk *disk, uint64_t page)
{
    uint8_t *content = sim_disk_page(disk, page);
    if (!content) {
        content = sim_alloc(DISK_BLOCK_BYTES);
        sim_disk_page_set(disk, page, content);
    }
    return content;
}

static void apply_page(struct sim_disk *disk, uint64_t page, const void *data)
{
    uint8_t *content = sim_alloc(DISK_BLOCK_BYTES);
    memcpy(content, data, DISK_BLOCK_BYTES);
    sim_undo_put(disk, page, content);
}

static void read_pages(const struct sim_disk *disk, const struct disk_io *io)
{
    for (uint32_t at = 0; at < io->bytes; at += DISK_BLOCK_BYTES) {
        const uint8_t *content = sim_disk_page(disk, (io->offset + at) / DISK_BLOCK_BYTES);
        uint8_t *place = (uint8_t *)io->data + at;
        if (content)
            memcpy(place, content, DISK_BLOCK_BYTES);
        else
            memset(place, 0, DISK_BLOCK_BYTES);
    }
}

/* ---- requests ----------------------------------------------------------------------------- */

static int do_read(struct sim *sim, struct sim_disk *disk, const struct disk_io *io)
{
    if (sim_broken(disk, io->offset, io->bytes) || sim_ppm(sim, disk->config.read_error_ppm))
        return -EIO;
    int result = 0;
    if (disk->backing)
        result = sim_backing_perform(disk, DISK_READ, io->offset, io->data, io->bytes);
    else
        read_pages(disk, io);
    if (sim_ppm(sim, disk->config.read_flip_ppm)) {
        uint64_t bit = random_below(&sim->random, (uint64_t)io->bytes * 8);
        ((uint8_t *)io->data)[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    return result;
}

static struct sim_zone *zone_at(const struct sim_disk *disk, uint64_t offset)
{
    return &disk->zones[offset / disk->zone_bytes];
}

uint64_t sim_disk_zone_count(const struct sim_disk *disk)
{
    return disk->zone_bytes ? disk->size_bytes / disk->zone_bytes : 0;
}

/* Does the zoned device take this write? If so, the first bytes of it are on it now. */
static bool zone_append(struct sim_disk *disk, const struct disk_io *io, uint32_t bytes)
{
    struct sim_zone *zone = zone_at(disk, io->offset);
    uint32_t active = 0;
    for (uint64_t i = 0; i < sim_disk_zone_count(disk); i++)
        active += disk->zones[i].written > 0 && !disk->zones[i].finished;
    if (zone->finished || io->offset % disk->zone_bytes != zone->written ||
        zone->written + io->bytes > disk->zone_bytes ||
        (zone->written == 0 && disk->zones_active_max > 0 && active >= disk->zones_active_max))
        return false;
    zone->written += bytes;
    zone->finished = zone->written == disk->zone_bytes;
    return true;
}

static void zone_reset(struct sim_disk *disk, uint64_t offset)
{
    sim_undo_reset(disk, offset / DISK_BLOCK_BYTES, disk->zone_bytes / DISK_BLOCK_BYTES);
    *zone_at(disk, offset) = (struct sim_zone){0};
}

/* Where a misdirected write goes: not where it should. */
static uint64_t wrong_place(struct sim *sim, const struct sim_disk *disk, const struct disk_io *io)
{
    uint64_t page = io->offset / DISK_BLOCK_BYTES;
    uint64_t last = (disk->size_bytes - io->bytes) / DISK_BLOCK_BYTES;
    uint64_t low = page - MIN(page, (uint64_t)ASTRAY_PAGES);
    uint64_t place = low + random_below(&sim->random, MIN(page + ASTRAY_PAGES, last) - low + 1);
    return place * DISK_BLOCK_BYTES;
}

static int do_write(struct sim *sim, struct sim_disk *disk, const struct disk_io *io)
{
    uint64_t offset = io->offset;
    disk->writes++;
    if (disk->zone_bytes && !zone_append(disk, io, io->bytes))
        return -EIO;
    if (sim_ppm(sim, disk->config.lost_ppm))
        return 0;
    if (sim_ppm(sim, disk->config.misdirected_ppm))
        offset = wrong_place(sim, disk, io);
    bool fails = sim_ppm(sim, disk->config.write_error_ppm);
    for (uint32_t at = 0; at < io->bytes; at += DISK_BLOCK_BYTES) {
        if (disk->backing || (fails && random_chance(&sim->random, 1, 2)))
            continue;
        apply_page(disk, (offset + at) / DISK_BLOCK_BYTES, (const uint8_t *)io->data + at);
    }
    if (fails)
        return -EIO;
    if (disk->backing) {
        int result = sim_backing_perform(disk, DISK_WRITE, io->offset, io->data, io->bytes);
        if (result < 0)
            return result;
    }
    if (io->durable && disk->backing) {
        int result = sim_backing_perform(disk, DISK_FLUSH, 0, NULL, 0);
        if (result < 0)
            return result;
    }
    if (io->durable && !disk->config.ignore_flush)
        sim_undo_settle(disk, offset / DISK_BLOCK_BYTES, io->bytes / DISK_BLOCK_BYTES);
    sim_broken_heal(disk, offset, io->bytes);
    return 0;
}

static void do_discard(struct sim *sim, struct sim_disk *disk, const struct disk_io *io)
{
    for (uint32_t at = 0; at < io->bytes; at += DISK_BLOCK_BYTES) {
        uint64_t page = (io->offset + at) / DISK_BLOCK_BYTES;
        if (sim_disk_page(disk, page) && random_chance(&sim->random, 7, 8))
            sim_undo_put(disk, page, NULL);
    }
}

static void perform(struct sim *sim, struct sim_disk_op *op)
{
    struct disk_io *io = op->io;
    io->result = 0;
    if (op->disk->backing && io->op != DISK_READ && io->op != DISK_WRITE)
        io->result = sim_backing_perform(op->disk, io->op, io->offset, NULL, io->bytes);
    switch (io->op) {
    case DISK_READ:
        io->result = do_read(sim, op->disk, io);
        break;
    case DISK_WRITE:
        io->result = do_write(sim, op->disk, io);
        break;
    case DISK_DISCARD:
        if (op->disk->zone_bytes)
            zone_reset(op->disk, io->offset);
        else
            do_discard(sim, op->disk, io);
        break;
    case DISK_SEAL:
        zone_at(op->disk, io->offset)->finished = true;
        break;
    case DISK_FLUSH:
        if (!op->disk->config.ignore_flush)
            sim_undo_forget(op->disk, op->flush_upto);
        break;
    }
}

static void op_done(struct sim *sim, struct sim_event *event)
{
    struct sim_disk_op *op = container_of(event, struct sim_disk_op, event);
    struct sim_node *node = event->node;
    struct disk_io *io = op->io;
    sim_trace(sim, 2000 + node->index, io->offset * 4 + io->op);
    perform(sim, op);
    list_remove(&op->link);
    mem_free(op);
    struct reactor_scope before = sim_node_begin(node);
    io->done(io);
    sim_node_end(node, before);
}

static uint64_t latency_ns(struct sim *sim, const struct sim_disk *disk, enum disk_op op)
{
    const struct sim_disk_config *config = &disk->config;
    switch (op) {
    case DISK_READ:
        return sim_between(sim, config->read_min_ns, config->read_max_ns);
    case DISK_FLUSH:
        return sim_between(sim, config->flush_min_ns, config->flush_max_ns);
    case DISK_WRITE:
    case DISK_DISCARD:
    case DISK_SEAL:
        return sim_between(sim, config->write_min_ns, config->write_max_ns);
    }
    WRONG("disk op");
}

void sim_disk_submit(struct disk *base, struct disk_io *io)
{
    struct sim_handle *handle = container_of(base, struct sim_handle, base);
    struct sim_node *node = sim_node_of(base->reactor);
    struct sim_disk_op *op = sim_alloc(sizeof *op);
    assert(handle->disk->owner == node || base->info.read_only);
    op->disk = handle->disk;
    op->io = io;
    if (io->op == DISK_FLUSH)
        op->flush_upto = sim_undo_mark(handle->disk);
    list_push_back(&node->disk_ops, &op->link);
    uint64_t done_ns = node->sim->now_ns + latency_ns(node->sim, handle->disk, io->op);
    if (io->durable)
        done_ns += latency_ns(node->sim, handle->disk, DISK_FLUSH);
    sim_event_init(&op->event, node, op_done);
    sim_event_arm(node->sim, &op->event, done_ns);
}

/* Each block of a write in flight reaches the medium or not. */
static void op_interrupted(struct sim *sim, struct sim_disk_op *op)
{
    const struct disk_io *io = op->io;
    if (io->op != DISK_WRITE)
        return;
    if (op->disk->backing) { /* whole or not */
        if (random_chance(&sim->random, 1, 2))
            (void)!do_write(sim, op->disk, io); /* nobody waits for it */
        return;
    }
    if (op->disk->zone_bytes) { /* a prefix */
        uint32_t bytes = (uint32_t)sim_between(sim, 0, io->bytes / DISK_BLOCK_BYTES);
        bytes *= DISK_BLOCK_BYTES;
        if (!zone_append(op->disk, io, bytes))
            return;
        for (uint32_t at = 0; at < bytes; at += DISK_BLOCK_BYTES)
            apply_page(op->disk, (io->offset + at) / DISK_BLOCK_BYTES,
                       (const uint8_t *)io->data + at);
        return;
    }
    for (uint32_t at = 0; at < io->bytes; at += DISK_BLOCK_BYTES) {
        if (random_chance(&sim->random, 1, 2))
            apply_page(op->disk, (io->offset + at) / DISK_BLOCK_BYTES,
                       (const uint8_t *)io->data + at);
    }
}

void sim_disk_node_died(struct sim_node *node, bool power_lost)
{
    struct sim *sim = node->sim;
    struct sim_disk *disk;
    struct list *link;
    while ((link = list_pop_front(&node->disk_ops)) != NULL) {
        struct sim_disk_op *op = list_entry(link, struct sim_disk_op, link);
        op_interrupted(sim, op);
        sim_event_cancel(sim, &op->event);
        mem_free(op);
    }
    list_for_each (disk, &sim->disks, link) {
        if (disk->owner != node)
            continue;
        disk->owner = NULL;
        if (power_lost)
            sim_undo_power_loss(sim, disk);
    }
}

/* ---- open and close ----------------------------------------------------------------------- */

struct sim_disk *sim_disk_find(struct sim *sim, const char *path)
{
    struct sim_disk *disk;
    list_for_each (disk, &sim->disks, link) {
        if (strcmp(disk->path, path) == 0)
            return disk;
    }
    return NULL;
}

void sim_disk_new(struct sim *sim, const char *path, uint64_t size_bytes)
{
    struct sim_disk *disk = sim_alloc(sizeof *disk);
    assert(!sim_disk_find(sim, path) && strlen(path) < sizeof disk->path);
    assert(size_bytes > 0 && size_bytes % DISK_BLOCK_BYTES == 0);
    memcpy(disk->path, path, strlen(path) + 1);
    disk->size_bytes = size_bytes;
    disk->config = (struct sim_disk_config){.read_min_ns = 50 * NS_PER_US,
                                            .read_max_ns = 150 * NS_PER_US,
                                            .write_min_ns = 20 * NS_PER_US,
                                            .write_max_ns = 100 * NS_PER_US,
                                            .flush_min_ns = 200 * NS_PER_US,
                                            .flush_max_ns = NS_PER_MS,
                                            .torn_writes = true};
    disk->chunks = sim_alloc(chunk_count(disk) * sizeof *disk->chunks);
    list_init(&disk->generations);
    list_init(&disk->broken);
    list_init(&disk->flips);
    sim_undo_open(disk);
    list_push_back(&sim->disks, &disk->link);
}

void sim_disk_new_zoned(struct sim *sim, const char *path, uint64_t size_bytes, uint32_t zone_bytes,
                        uint32_t active_max)
{
    assert(zone_bytes > 0 && zone_bytes % DISK_BLOCK_BYTES == 0 && size_bytes % zone_bytes == 0);
    sim_disk_new(sim, path, size_bytes);
    struct sim_disk *disk = sim_disk_find(sim, path);
    disk->zone_bytes = zone_bytes;
    disk->zones_active_max = active_max;
    disk->zones = sim_alloc(sim_disk_zone_count(disk) * sizeof *disk->zones);
}

static void open_zones(struct disk *base, const struct sim_disk *disk)
{
    base->info.zone_bytes = disk->zone_bytes;
    base->info.zones_active_max = disk->zones_active_max;
    base->zones = disk_zones_new(base);
    for (uint64_t i = 0; i < sim_disk_zone_count(disk); i++)
        disk_zone_found(base, i,
                        disk->zones[i].finished ? disk->zone_bytes : disk->zones[i].written);
}

int sim_disk_open(struct reactor *reactor, const char *path, uint64_t size_bytes, uint32_t flags,
                  struct disk **ret_disk)
{
    struct sim_node *node = sim_node_of(reactor);
    struct sim_disk *disk = sim_disk_find(node->sim, path);
    if (flags & DISK_UNLOCKED)
        return -EOPNOTSUPP; /* a simulated node has one reactor: it needs no parts */
    if (!disk) {
        if (!(flags & DISK_CREATE))
            return -ENOENT;
        if (size_bytes == 0)
            return -EINVAL;
        sim_disk_new(node->sim, path, size_bytes);
        disk = sim_disk_find(node->sim, path);
    }
    bool read_only = flags & DISK_READ_ONLY;
    if (disk->owner && !read_only)
        return -EBUSY;
    if (!read_only)
        disk->owner = node;
    struct sim_handle *handle = mem_zalloc(sizeof *handle);
    handle->base.reactor = reactor;
    handle->base.info.size_bytes = disk->size_bytes;
    handle->base.info.read_only = read_only;
    memcpy(handle->base.info.kind, "sim", 4);
    memcpy(handle->base.info.path, disk->path, sizeof disk->path);
    handle->base.info.block_bytes = DISK_BLOCK_BYTES;
    handle->disk = disk;
    if (disk->zone_bytes)
        open_zones(&handle->base, disk);
    *ret_disk = &handle->base;
    return 0;
}

void sim_disk_close(struct disk *base)
{
    struct sim_handle *handle = container_of(base, struct sim_handle, base);
    struct sim_disk_op *op;
    struct sim_node *node = sim_node_of(base->reactor);
    assert(handle->disk->owner == node || base->info.read_only);
    list_for_each (op, &node->disk_ops, link)
        assert(op->disk != handle->disk); /* a closed disk has nothing in flight */
    if (!base->info.read_only)
        handle->disk->owner = NULL;
    if (base->zones)
        disk_zones_free(base);
    mem_free(handle);
}

static void disk_free(struct sim_disk *disk)
{
    struct list *link;
    sim_undo_forget(disk, UINT64_MAX);
    sim_backing_free(disk);
    while ((link = list_pop_front(&disk->broken)) != NULL)
        mem_free(list_entry(link, struct broken_range, link));
    for (uint64_t i = 0; i < chunk_count(disk); i++) {
        for (uint32_t j = 0; disk->chunks[i] && j < CHUNK_PAGES; j++)
            mem_free(disk->chunks[i][j]);
        mem_free(disk->chunks[i]);
    }
    mem_free(disk->chunks);
    mem_free(disk->zones);
    mem_free(disk);
}

void sim_disks_free(struct sim *sim)
{
    struct list *link;
    while ((link = list_pop_front(&sim->disks)) != NULL)
        disk_free(list_entry(link, struct sim_disk, link));
}

/* ---- for tests ---------------------------------------------------------------------------- */

void sim_disk_configure(struct sim *sim, const char *path, const struct sim_disk_config *config)
{
    struct sim_disk *disk = sim_disk_find(sim, path);
    assert(disk);
    disk->config = *config;
}

const struct sim_disk_config *sim_disk_config(struct sim *sim, const char *path)
{
    struct sim_disk *disk = sim_disk_find(sim, path);
    assert(disk);
    return &disk->config;
}

void sim_disk_peek(struct sim *sim, const char *path, uint64_t offset, void *data, size_t bytes)
{
    struct sim_disk *disk = sim_disk_find(sim, path);
    assert(disk && offset + bytes <= disk->size_bytes);
    if (disk->backing) {
        sim_backing_peek(disk, offset, data, bytes);
        return;
    }
    for (size_t i = 0; i < bytes; i++) {
        const uint8_t *page = sim_disk_page(disk, (offset + i) / DISK_BLOCK_BYTES);
        ((uint8_t *)data)[i] = page ? page[(offset + i) % DISK_BLOCK_BYTES] : 0;
    }
}

void sim_disk_poke(struct sim *sim, const char *path, uint64_t offset, const void *data,
                   size_t bytes)
{
    struct sim_disk *disk = sim_disk_find(sim, path);
    assert(disk && !disk->backing && offset + bytes <= disk->size_bytes);
    for (size_t i = 0; i < bytes; i++) {
        uint8_t *page = sim_disk_page_own(disk, (offset + i) / DISK_BLOCK_BYTES);
        page[(offset + i) % DISK_BLOCK_BYTES] = ((const uint8_t *)data)[i];
    }
}

uint64_t sim_disk_writes(struct sim *sim, const char *path)
{
    struct sim_disk *disk = sim_disk_find(sim, path);
    assert(disk);
    return disk->writes;
}

uint64_t sim_disk_blocks_used(struct sim *sim, const char *path)
{
    struct sim_disk *disk = sim_disk_find(sim, path);
    assert(disk);
    return disk->pages_used;
}
