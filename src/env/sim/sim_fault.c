/* SPDX-License-Identifier: MIT */
/* What a power loss takes away, and damage on demand.
 *
 * Problem: a write is durable only after a flush submitted after its completion. Until then a
 * power loss may keep it, undo it or tear it, block by block, in any combination.
 *
 * Picture: the present content is in the disk's pages. Each *generation* remembers, for every block
 * written in it, the content before. A flush closes the generation at submission and forgets it,
 * and all older ones, at completion. Power loss goes from the newest to the oldest and undoes
 * blocks by coin; a block that was kept once stays, since older generations hold still older
 * content.
 *
 * I1. The newest generation is open; there is always one.
 * I2. A generation's record of a block is what the block held when the generation began. */
#include <string.h>

#include "env/sim/sim_internal.h"

enum { SECTOR_BYTES = 512 };

struct generation {
    struct list link;
    uint64_t number;
    struct htable blocks; /* struct old_block by page number */
};

struct old_block {
    struct htable_node node;
    uint64_t page;
    uint8_t *content; /* NULL: zeroes */
};

static struct generation *newest(const struct sim_disk *disk)
{
    assert(!list_empty(&disk->generations));
    return list_last(&disk->generations, struct generation, link);
}

void sim_undo_open(struct sim_disk *disk)
{
    struct generation *generation = sim_alloc(sizeof *generation);
    generation->number = disk->generation_next++;
    htable_init(&generation->blocks);
    list_push_back(&disk->generations, &generation->link);
}

/* Page numbers are spread, since the table takes hashes. */
static uint64_t page_hash(uint64_t page)
{
    return hash_u64(page);
}

static bool table_has(const struct htable *table, uint64_t page)
{
    return htable_first(table, page_hash(page)) != NULL; /* hash_u64 is a bijection */
}

void sim_undo_put(struct sim_disk *disk, uint64_t page, uint8_t *content)
{
    struct generation *generation = newest(disk);
    uint8_t *old = sim_disk_page(disk, page);
    if (table_has(&generation->blocks, page)) {
        mem_free(old);
    } else {
        struct mem_heap *heap = mem_heap_set(NULL);
        struct old_block *block = mem_zalloc(sizeof *block);
        block->page = page;
        block->content = old;
        htable_insert(&generation->blocks, &block->node, page_hash(page));
        (void)mem_heap_set(heap); /* the default one, known */
    }
    sim_disk_page_set(disk, page, content);
}

uint64_t sim_undo_mark(struct sim_disk *disk)
{
    uint64_t number = newest(disk)->number;
    sim_undo_open(disk);
    return number;
}

static void generation_free(struct generation *generation)
{
    struct htable_node *node = htable_walk(&generation->blocks, NULL);
    while (node) {
        struct old_block *block = container_of(node, struct old_block, node);
        node = htable_walk(&generation->blocks, node);
        htable_remove(&generation->blocks, &block->node);
        mem_free(block->content);
        mem_free(block);
    }
    assert(generation->blocks.count == 0);
    htable_fini(&generation->blocks);
    list_remove(&generation->link);
    mem_free(generation);
}

void sim_undo_forget(struct sim_disk *disk, uint64_t upto)
{
    struct generation *generation, *after;
    list_for_each_safe (generation, after, &disk->generations, link) {
        if (generation->number <= upto)
            generation_free(generation);
    }
}

/* Parts of the block old, parts new. */
static void tear(struct sim *sim, struct sim_disk *disk, uint64_t page, const uint8_t *old)
{
    uint8_t *now = sim_disk_page_own(disk, page);
    for (uint32_t at = 0; at < DISK_BLOCK_BYTES; at += SECTOR_BYTES) {
        if (random_chance(&sim->random, 1, 2))
            continue;
        if (old)
            memcpy(now + at, old + at, SECTOR_BYTES);
        else
            memset(now + at, 0, SECTOR_BYTES);
    }
}

/* True if the block now is what it was before this generation. */
static bool undo_block(struct sim *sim, struct sim_disk *disk, struct old_block *block)
{
    uint64_t coin = random_below(&sim->random, 8);
    if (coin >= 5)
        return false;
    if (coin == 4 && disk->config.torn_writes) {
        tear(sim, disk, block->page, block->content);
        return false;
    }
    mem_free(sim_disk_page(disk, block->page));
    sim_disk_page_set(disk, block->page, block->content);
    block->content = NULL;
    return true;
}

void sim_undo_settle(struct sim_disk *disk, uint64_t page, uint64_t count)
{
    struct generation *generation;
    for (uint64_t i = page; i < page + count; i++) {
        list_for_each (generation, &disk->generations, link) {
            struct htable_node *node = htable_first(&generation->blocks, page_hash(i));
            if (!node)
                continue;
            struct old_block *block = container_of(node, struct old_block, node);
            htable_remove(&generation->blocks, node);
            mem_free(block->content);
            mem_free(block);
        }
    }
}

void sim_undo_reset(struct sim_disk *disk, uint64_t page, uint64_t count)
{
    sim_undo_settle(disk, page, count);
    for (uint64_t i = page; i < page + count; i++) {
        uint8_t *content = sim_disk_page(disk, i);
        if (content)
            sim_disk_page_set(disk, i, NULL);
        mem_free(content);
    }
}

static bool volatile_page(const struct sim_disk *disk, uint64_t page)
{
    struct generation *generation;
    list_for_each (generation, &disk->generations, link) {
        if (table_has(&generation->blocks, page))
            return true;
    }
    return false;
}

/* Of each zone, a suffix of what was not durable goes. What generations know of a zone's blocks is
 * such a suffix: it was written in order, and durable up to a point. */
static void zones_power_loss(struct sim *sim, struct sim_disk *disk)
{
    uint64_t pages = disk->zone_bytes / DISK_BLOCK_BYTES;
    for (uint64_t i = 0; i < sim_disk_zone_count(disk); i++) {
        struct sim_zone *zone = &disk->zones[i];
        uint64_t written = zone->written / DISK_BLOCK_BYTES, durable = written;
        while (durable > 0 && volatile_page(disk, i * pages + durable - 1))
            durable--;
        uint64_t kept = sim_between(sim, durable, written);
        if (kept == written)
            continue;
        sim_undo_reset(disk, i * pages + kept, written - kept);
        zone->written = kept * DISK_BLOCK_BYTES;
        zone->finished = false;
    }
    sim_undo_forget(disk, UINT64_MAX);
    sim_undo_open(disk);
}

void sim_undo_power_loss(struct sim *sim, struct sim_disk *disk)
{
    struct mem_heap *heap = mem_heap_set(NULL);
    if (disk->zone_bytes) {
        zones_power_loss(sim, disk);
        (void)mem_heap_set(heap); /* the default one, known */
        return;
    }
    struct htable kept;
    struct htable_node *node;
    htable_init(&kept);
    while (!list_empty(&disk->generations)) {
        struct generation *generation = newest(disk);
        for (node = htable_walk(&generation->blocks, NULL); node;
             node = htable_walk(&generation->blocks, node)) {
            struct old_block *block = container_of(node, struct old_block, node);
            if (table_has(&kept, block->page) || undo_block(sim, disk, block))
                continue;
            htable_insert(&kept, mem_zalloc(sizeof(struct htable_node)), node->hash);
        }
        generation_free(generation);
    }
    while ((node = htable_walk(&kept, NULL)) != NULL) {
        htable_remove(&kept, node);
        mem_free(node);
    }
    htable_fini(&kept);
    sim_undo_open(disk);
    (void)mem_heap_set(heap); /* the default one, known */
}

/* ---- damage ------------------------------------------------------------------------------- */

bool sim_broken(const struct sim_disk *disk, uint64_t offset, uint64_t bytes)
{
    struct broken_range *range;
    list_for_each (range, &disk->broken, link) {
        if (offset < range->offset + range->bytes && range->offset < offset + bytes)
            return true;
    }
    return false;
}

/* A write makes the device remap: parts of ranges that it covers are good again. */
void sim_broken_heal(struct sim_disk *disk, uint64_t offset, uint64_t bytes)
{
    struct broken_range *range, *after;
    uint64_t end = offset + bytes;
    list_for_each_safe (range, after, &disk->broken, link) {
        uint64_t range_end = range->offset + range->bytes;
        if (end <= range->offset || range_end <= offset)
            continue;
        if (end < range_end) {
            struct broken_range *rest = sim_alloc(sizeof *rest);
            rest->offset = end;
            rest->bytes = range_end - end;
            list_push_front(&disk->broken, &rest->link);
        }
        if (range->offset < offset) {
            range->bytes = offset - range->offset;
            continue;
        }
        list_remove(&range->link);
        mem_free(range);
    }
}

void sim_disk_break(struct sim *sim, const char *path, uint64_t offset, uint64_t bytes)
{
    struct sim_disk *disk = sim_disk_find(sim, path);
    assert(disk);
    if (bytes == 0) {
        sim_broken_heal(disk, 0, disk->size_bytes);
        return;
    }
    struct broken_range *range = sim_alloc(sizeof *range);
    range->offset = offset;
    range->bytes = bytes;
    list_push_back(&disk->broken, &range->link);
}

void sim_disk_flip_bit(struct sim *sim, const char *path, uint64_t offset, uint32_t bit)
{
    struct sim_disk *disk = sim_disk_find(sim, path);
    assert(disk && bit < 8 && offset < disk->size_bytes);
    if (disk->backing) {
        sim_backing_flip(disk, offset, bit);
        return;
    }
    uint8_t *page = sim_disk_page_own(disk, offset / DISK_BLOCK_BYTES);
    page[offset % DISK_BLOCK_BYTES] ^= (uint8_t)(1u << bit);
}

void sim_disk_rot(struct sim *sim, const char *path)
{
    struct sim_disk *disk = sim_disk_find(sim, path);
    assert(disk);
    if (disk->pages_used == 0)
        return;
    uint64_t nth = random_below(&sim->random, disk->pages_used);
    uint64_t bit = random_below(&sim->random, (uint64_t)DISK_BLOCK_BYTES * 8);
    for (uint64_t page = 0; page < disk->size_bytes / DISK_BLOCK_BYTES; page++) {
        if (!sim_disk_page(disk, page) || nth-- > 0)
            continue;
        sim_disk_flip_bit(sim, path, page * DISK_BLOCK_BYTES + bit / 8, (uint32_t)(bit % 8));
        return;
    }
}

uint64_t sim_disk_blocks_dirty(struct sim *sim, const char *path)
{
    struct sim_disk *disk = sim_disk_find(sim, path);
    struct generation *generation;
    uint64_t count = 0;
    assert(disk);
    list_for_each (generation, &disk->generations, link)
        count += generation->blocks.count;
    return count;
}
