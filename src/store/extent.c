/* SPDX-License-Identifier: MIT */
/* Extents: data on its way into the open data segments, and back.
 *
 *   store_extent_write --small--> staged write (gathers up to 256 KiB) --.
 *                      --large--> own write, the caller's buffer          >-- device
 *                                                                        /
 *   both are in extents.writes until done, and are read from there ------
 *
 * A staged write leaves when it is full, when a large one would break its run of blocks, when the
 * journal needs it (extents_push) or after the journal's lazy time.
 *
 * E1  Blocks are handed out once, in rising order inside a segment; a segment that was open at a
 *     crash is never resumed.
 * E2  done_seq: all writes with seq <= done_seq are on the device. The journal waits for it (J3).
 * E3  Until a record names it, an extent is *fresh*: its segment is kept. An owner that gives up
 *     before that says so (store_extent_drop); if it does not, after FRESH_NS it is forgotten.
 * E4  A read holds the segment (users), so it cannot be given to others under it. But an address
 *     that the caller looked up before it yielded may be stale: a checksum mismatch means "look up
 *     again", and only if the address has not changed, damage.
 */
#include "store/store_internal.h"

#include "base/crc32c.h"
#include "base/hash.h"
#include "base/log.h"
#include "store/zone.h"

enum { STAGE_BYTES = 256 << 10, DIRECT_BYTES = 128 << 10 };
#define FRESH_NS (120 * NS_PER_S)

void extents_init(struct store *store)
{
    struct extents *extents = &store->extents;
    list_init(&extents->writes);
    list_init(&extents->fresh_by_age);
    list_init(&extents->spare_writes);
    list_init(&extents->spare_fresh);
    htable_init(&extents->fresh);
    extents->next_seq = 1;
    extents->done_seq = 0;
}

void extents_fini(struct store *store)
{
    struct extents *extents = &store->extents;
    assert(list_empty(&extents->writes));
    struct list *link;
    while ((link = list_pop_front(&extents->fresh_by_age)) != NULL) {
        struct extent_fresh *fresh = list_entry(link, struct extent_fresh, link);
        htable_remove(&extents->fresh, &fresh->hash);
        mem_free(fresh);
    }
    htable_fini(&extents->fresh);
    while ((link = list_pop_front(&extents->spare_fresh)) != NULL)
        mem_free(list_entry(link, struct extent_fresh, link));
    while ((link = list_pop_front(&extents->spare_writes)) != NULL)
        mem_free(list_entry(link, struct extent_write, link));
}

/* ---- fresh ---- */

struct extent_fresh *fresh_find(struct store *store, struct store_extent extent)
{
    struct htable *table = &store->extents.fresh;
    for (struct htable_node *link = htable_first(table, hash_u64(extent.block)); link;
         link = htable_next(link)) {
        struct extent_fresh *fresh = container_of(link, struct extent_fresh, hash);
        if (fresh->block == extent.block)
            return fresh;
    }
    return NULL;
}

static void fresh_add(struct store *store, struct store_extent extent, uint32_t crc, uint64_t seq)
{
    assert(!fresh_find(store, extent));
    struct list *spare = list_pop_front(&store->extents.spare_fresh);
    struct extent_fresh *fresh =
        spare ? list_entry(spare, struct extent_fresh, link) : mem_alloc(sizeof *fresh);
    *fresh = (struct extent_fresh){.block = extent.block,
                                   .blocks = extent.blocks,
                                   .crc = crc,
                                   .data_seq = seq,
                                   .born_ns = env_now_ns()};
    list_init(&fresh->link);
    list_push_back(&store->extents.fresh_by_age, &fresh->link);
    htable_insert(&store->extents.fresh, &fresh->hash, hash_u64(extent.block));
    store->segments[segment_of(store, extent.block)].fresh += extent.blocks;
}

void fresh_drop(struct store *store, struct extent_fresh *fresh)
{
    uint32_t index = segment_of(store, fresh->block);
    assert(store->segments[index].fresh >= fresh->blocks);
    store->segments[index].fresh -= fresh->blocks;
    list_remove(&fresh->link);
    htable_remove(&store->extents.fresh, &fresh->hash);
    list_push_front(&store->extents.spare_fresh, &fresh->link);
    segment_consider(store, index);
}

void fresh_expire(struct store *store)
{
    uint64_t now = env_now_ns();
    while (!list_empty(&store->extents.fresh_by_age)) {
        struct extent_fresh *fresh =
            list_first(&store->extents.fresh_by_age, struct extent_fresh, link);
        if (now < fresh->born_ns + FRESH_NS)
            return;
        fresh_drop(store, fresh);
    }
}

/* ---- write ---- */

static void advance_done(struct extents *extents)
{
    while (!list_empty(&extents->writes)) {
        struct extent_write *write = list_first(&extents->writes, struct extent_write, link);
        if (!write->done)
            return;
        extents->done_seq = write->seq;
        list_remove(&write->link);
        list_push_front(&extents->spare_writes, &write->link);
    }
}

static void write_done(struct disk_io *io)
{
    struct extent_write *write = container_of(io, struct extent_write, io);
    struct store *store = write->store;
    struct extents *extents = &store->extents;
    uint32_t index = segment_of(store, write->block);
    assert(write->submitted && !write->done && store->segments[index].users > 0);
    extents->in_flight -= (uint64_t)write->blocks * STORE_BLOCK_BYTES;
    buf_put(write->buf);
    write->buf = NULL;
    write->done = true;
    if (io->result < 0)
        store_fence(store, "data write", io->result);
    advance_done(extents);
    store->segments[index].users--;
    segment_consider(store, index);
    segment_reclaim(store);
    waitq_wake_all(&store->space);
    journal_kick(store);
}

static void submit(struct store *store, struct extent_write *write, uint8_t *data)
{
    assert(!write->submitted && write->blocks > 0);
    write->submitted = true;
    write->io.op = DISK_WRITE;
    write->io.stream = write->stream == STREAM_CLEANER ? DISK_COLD : DISK_HOT;
    write->io.offset = write->block * STORE_BLOCK_BYTES;
    write->io.data = data;
    write->io.bytes = write->blocks * STORE_BLOCK_BYTES;
    write->io.done = write_done;
    store->health.data_bytes += write->io.bytes;
    disk_submit(store->disk, &write->io);
}

static void push_stream(struct store *store, enum extent_stream stream)
{
    struct extent_write *write = store->extents.staged[stream];
    if (!write)
        return;
    store->extents.staged[stream] = NULL;
    submit(store, write, write->buf->data);
}

void extents_push(struct store *store)
{
    for (int stream = 0; stream < STREAM_COUNT; stream++)
        push_stream(store, stream);
}

static void seal(struct store *store, enum extent_stream stream)
{
    uint32_t index = store->extents.segment[stream];
    if (index == SEGMENT_NONE)
        return;
    push_stream(store, stream);
    store->extents.segment[stream] = SEGMENT_NONE;
    store->segments[index].open = false;
    zone_seal(store, index);
    segment_consider(store, index);
    cleaner_kick(store);
}

/* The next blocks of the stream's open segment, or of a new one. */
static uint64_t place(struct store *store, enum extent_stream stream, uint32_t blocks)
{
    uint32_t index = store->extents.segment[stream];
    if (index == SEGMENT_NONE || store->segments[index].frontier + blocks > store->segment_blocks) {
        enum segment_urgency urgency = stream == STREAM_CLEANER ? URGENCY_CLEANER : URGENCY_MEMBER;
        if (store->segments_free <= segment_floor(store, urgency))
            return 0; /* keep the old one open: smaller extents may still fit */
        seal(store, stream);
        index = segment_take(store, SEGMENT_DATA, urgency);
        if (index == SEGMENT_NONE)
            return 0;
        store->extents.segment[stream] = index;
    }
    struct segment *segment = &store->segments[index];
    uint64_t block = segment_block(store, index) + segment->frontier;
    segment->frontier += blocks;
    assert(segment->frontier <= store->segment_blocks);
    return block;
}

static struct extent_write *write_new(struct store *store, enum extent_stream stream,
                                      uint64_t block, struct buf *buf)
{
    struct extents *extents = &store->extents;
    struct list *spare = list_pop_front(&extents->spare_writes);
    struct extent_write *write =
        spare ? list_entry(spare, struct extent_write, link) : mem_alloc(sizeof *write);
    *write = (struct extent_write){
        .store = store, .stream = stream, .buf = buf, .block = block, .seq = extents->next_seq++};
    list_init(&write->link);
    list_push_back(&extents->writes, &write->link);
    store->segments[segment_of(store, block)].users++;
    return write;
}

static struct extent_write *stage(struct store *store, enum extent_stream stream, uint64_t block,
                                  const uint8_t *data, uint32_t bytes)
{
    struct extents *extents = &store->extents;
    struct extent_write *write = extents->staged[stream];
    if (write && (write->block + write->blocks != block ||
                  write->blocks * STORE_BLOCK_BYTES + bytes > STAGE_BYTES)) {
        push_stream(store, stream);
        write = NULL;
    }
    if (!write) {
        write = write_new(store, stream, block, buf_new(STAGE_BYTES));
        extents->staged[stream] = write;
        if (store->journal.lazy_timer.heap_index == 0)
            timer_arm(&store->journal.lazy_timer, env_now_ns() + 20 * NS_PER_MS);
    }
    memcpy(write->buf->data + write->blocks * STORE_BLOCK_BYTES, data, bytes);
    write->blocks += bytes / STORE_BLOCK_BYTES;
    if (write->blocks * STORE_BLOCK_BYTES == STAGE_BYTES)
        push_stream(store, stream);
    return write;
}

int extents_write(struct store *store, enum extent_stream stream, struct buf_slice data,
                  uint32_t blocks, struct store_extent *ret_extent)
{
    uint32_t bytes = blocks * STORE_BLOCK_BYTES;
    assert(blocks > 0 && blocks <= STORE_EXTENT_BLOCKS_MAX && data.bytes >= bytes);
    if (store->fenced)
        return -ERR_FENCED;
    uint64_t block = place(store, stream, blocks);
    if (block == 0)
        return -ERR_NO_SPACE;
    const uint8_t *from = buf_slice_data(&data);
    uint32_t crc = crc32c(0, from, bytes);
    struct extent_write *write;
    store->extents.in_flight += bytes;
    if (bytes >= DIRECT_BYTES && (uintptr_t)from % STORE_BLOCK_BYTES == 0) {
        push_stream(store, stream);
        write = write_new(store, stream, block, buf_get(data.buf));
        write->blocks = blocks;
        submit(store, write, data.buf->data + data.offset);
    } else {
        write = stage(store, stream, block, from, bytes);
    }
    *ret_extent = (struct store_extent){.block = block, .blocks = blocks};
    fresh_add(store, *ret_extent, crc, write->seq);
    return 0;
}

int store_extent_write(struct store *store, struct buf_slice data, uint32_t blocks,
                       struct store_extent *ret_extent)
{
    return extents_write(store, STREAM_USER, data, blocks, ret_extent);
}

void store_extent_drop(struct store *store, struct store_extent extent)
{
    struct extent_fresh *fresh = fresh_find(store, extent);
    if (fresh)
        fresh_drop(store, fresh);
}

void extents_make_way(struct store *store, uint64_t blocks)
{
    uint32_t index = store->extents.segment[STREAM_USER];
    if (index != SEGMENT_NONE &&
        store->segments[index].frontier + blocks + 2 * STORE_EXTENT_BLOCKS_MAX >
            store->segment_blocks)
        seal(store, STREAM_USER);
}

/* ---- read ---- */

/* The write in flight that block lies in, or, if none does, NULL and in *ret_gap how many of count
 * blocks from there on are surely on the device. */
static const struct extent_write *in_flight_at(const struct store *store, uint64_t block,
                                               uint32_t count, uint32_t *ret_gap)
{
    const struct extent_write *write;
    uint64_t next = block + count;
    list_for_each (write, &store->extents.writes, link) {
        if (write->done || write->block + write->blocks <= block)
            continue;
        if (write->block <= block)
            return write;
        next = MIN(next, write->block);
    }
    *ret_gap = (uint32_t)(next - block);
    return NULL;
}

static int read_device(struct store *store, uint64_t block, uint32_t count, uint8_t *data)
{
    uint32_t bytes = count * STORE_BLOCK_BYTES;
    bool aligned = (uintptr_t)data % DISK_BLOCK_BYTES == 0;
    struct buf *bounce = aligned ? NULL : buf_new(bytes);
    int result =
        disk_read(store->disk, block * STORE_BLOCK_BYTES, aligned ? data : bounce->data, bytes);
    if (bounce) {
        if (result == 0)
            memcpy(data, bounce->data, bytes);
        buf_put(bounce);
    }
    return result < 0 ? -EIO : 0;
}

int store_extent_read(struct store *store, struct store_extent extent, uint32_t first,
                      uint32_t count, void *data)
{
    assert(first + count <= extent.blocks);
    uint64_t block = extent.block + first;
    uint64_t index = block / store->segment_blocks;
    /* The address comes from a value on disk: it may be damaged. */
    if (index == 0 || index >= store->segment_count ||
        (block + count - 1) / store->segment_blocks != index)
        return -EIO;
    struct segment *segment = &store->segments[index];
    uint8_t *place = data;
    int result = 0;
    segment->users++;
    /* The run may span several writes (adjacent extents): each part from where it is now. What is
     * in flight when we look is copied at once; what is not has completed. */
    while (count > 0 && result == 0) {
        uint32_t part = 0;
        const struct extent_write *write = in_flight_at(store, block, count, &part);
        if (write) {
            const uint8_t *base = write->submitted ? write->io.data : write->buf->data;
            uint64_t skip = block - write->block;
            part = (uint32_t)MIN((uint64_t)count, write->blocks - skip);
            memcpy(place, base + skip * STORE_BLOCK_BYTES, (size_t)part * STORE_BLOCK_BYTES);
        } else {
            result = read_device(store, block, part, place);
        }
        block += part;
        count -= part;
        place += (size_t)part * STORE_BLOCK_BYTES;
    }
    segment->users--;
    segment_consider(store, (uint32_t)index);
    segment_reclaim(store);
    return result;
}
