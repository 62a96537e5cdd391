/* SPDX-License-Identifier: MIT */
/* Damaged blocks: another member's copy replaces them.
 *
 * Problem. A block on our device fails its checksum or cannot be read. The row says what its
 * checksum must be, and the other in-sync members hold the same block at another place.
 *
 * A member's copy is taken only if it has the checksum that *our row* names. So it does not matter
 * that the members apply at different times: a copy that is older or newer than our row does not
 * match, and we try again until theirs or ours has moved on.
 *
 * The whole row is written to a new place, and the row swapped by a local commit, as the cleaner
 * does it (D3). Nothing is written over a damaged place: that is for the store to reuse or not.
 *
 * One repair at a time: damage is rare, and a dying device must not fill memory with repairs. */
#include "data/data_internal.h"

#include <inttypes.h>

#include "base/crc32c.h"
#include "base/hash.h"
#include "base/log.h"

#define FETCH_TIMEOUT_NS (2 * NS_PER_S)
#define RETRY_PAUSE_NS   (20 * NS_PER_MS)
enum { REPAIR_ATTEMPTS = 10, NAME_BYTES = 256 };

_Static_assert(DATA_EXTENT_BLOCKS_MAX == 64, "one bit of a u64 for each block of a row");

/* One row being repaired. */
struct repair {
    uint32_t group;
    struct data_found found;
    struct buf *buf;  /* its blocks */
    uint64_t good;    /* bit per block: buf has what the row says */
    uint64_t damaged; /* bit per block: our own copy was bad */
};

static uint64_t all_of(const struct repair *repair)
{
    return UINT64_MAX >> (DATA_EXTENT_BLOCKS_MAX - repair->found.row.extent.blocks);
}

static uint8_t *block_of(const struct repair *repair, uint32_t index)
{
    assert(index < repair->found.row.extent.blocks);
    return repair->buf->data + (size_t)index * DATA_BLOCK_BYTES;
}

static bool matches(const struct repair *repair, uint32_t index, const uint8_t *block)
{
    return crc32c(0, block, DATA_BLOCK_BYTES) == data_row_crc(&repair->found.row, index);
}

/* Our own copy: as a whole, or, if the device refuses that, block by block. */
static void read_own(struct data_service *service, struct repair *repair)
{
    struct store_extent extent = repair->found.row.extent;
    uint64_t readable = all_of(repair);
    if (store_extent_read(service->store, extent, 0, extent.blocks, repair->buf->data) < 0) {
        readable = 0;
        for (uint32_t i = 0; i < extent.blocks; i++) {
            if (store_extent_read(service->store, extent, i, 1, block_of(repair, i)) == 0)
                readable |= 1ull << i;
        }
    }
    repair->good = 0;
    for (uint32_t i = 0; i < extent.blocks; i++) {
        if ((readable >> i & 1) && matches(repair, i, block_of(repair, i)))
            repair->good |= 1ull << i;
    }
    repair->damaged = all_of(repair) & ~repair->good;
}

/* Ask one member for a run of blocks and take those that match. */
static void fetch_run(struct data_service *service, struct repair *repair,
                      const struct net_addr *peer, uint32_t at, uint32_t count)
{
    uint64_t position = repair->found.row.first + at;
    struct wire_obj_fetch_req body = {
        .obj = {
            .ino = repair->found.row.ino,
            .index = (uint32_t)(position / DATA_OBJECT_BLOCKS),
            .offset = (uint32_t)(position % DATA_OBJECT_BLOCKS) * DATA_BLOCK_BYTES,
            .bytes = count * DATA_BLOCK_BYTES,
        }};
    struct rpc_call call = {
        .type = RPC_OBJ_FETCH,
        .group = repair->group,
        .body = &body,
        .deadline_ns = env_now_ns() + FETCH_TIMEOUT_NS,
    };
    if (rpc_call(service->rpc, peer, &call) >= 0 && call.reply && call.reply->payload) {
        uint32_t blocks = MIN(call.reply->payload_bytes / DATA_BLOCK_BYTES, count);
        for (uint32_t i = 0; i < blocks; i++) {
            const uint8_t *block = call.reply->payload->data + (size_t)i * DATA_BLOCK_BYTES;
            if (!matches(repair, at + i, block))
                continue;
            memcpy(block_of(repair, at + i), block, DATA_BLOCK_BYTES);
            repair->good |= 1ull << (at + i);
        }
    }
    rpc_call_fini(&call);
}

static void fetch_from(struct data_service *service, struct repair *repair,
                       const struct net_addr *peer)
{
    uint32_t blocks = repair->found.row.extent.blocks;
    for (uint32_t at = 0; at < blocks; at++) {
        uint32_t count = 0;
        while (at + count < blocks && !(repair->good >> (at + count) & 1))
            count++;
        if (count == 0)
            continue;
        fetch_run(service, repair, peer, at, count);
        /* A member refuses a run in which one block of its own is bad. */
        for (uint32_t i = at; count > 1 && i < at + count; i++) {
            if (!(repair->good >> i & 1))
                fetch_run(service, repair, peer, i, 1);
        }
        at += count;
    }
}

static void fetch_missing(struct data_service *service, struct repair *repair)
{
    struct net_addr peers[MAP_MEMBERS_MAX];
    struct group *group = group_find(service->host, repair->group);
    uint32_t count = group ? group_peers(group, peers, MAP_MEMBERS_MAX) : 0;
    for (uint32_t i = 0; i < count && repair->good != all_of(repair); i++)
        fetch_from(service, repair, &peers[i]);
}

/* Is the row still what we have read? Then, with all blocks good, swap it. 1: still the same. */
static int swap_row(struct data_service *service, struct repair *repair)
{
    struct data_found now;
    struct store_extent extent;
    uint32_t blocks = repair->found.row.extent.blocks;
    bool complete = repair->good == all_of(repair);
    int space = -ERR_NO_SPACE;
    if (complete)
        space = store_reserve(service->store, (uint64_t)blocks * DATA_BLOCK_BYTES, true);
    int result = data_look_stable(service, data_key_slice(&repair->found.key), &now);
    if (result <= 0)
        return result;
    if (!slice_equal(slice_of(now.value, now.value_bytes),
                     slice_of(repair->found.value, repair->found.value_bytes)))
        return 0;
    if (complete && space == 0)
        space = store_extent_write(service->store,
                                   (struct buf_slice){repair->buf, 0, blocks * DATA_BLOCK_BYTES},
                                   blocks, &extent);
    if (!complete || space < 0)
        return 1; /* stays damaged here; the caller has the bytes */
    struct store_batch batch;
    store_batch_init(&batch);
    store_batch_extent_del(&batch, now.row.extent);
    now.row.extent = extent;
    data_row_put(&batch, repair->group, &now.row);
    (void)store_commit(service->store, &batch); /* not awaited: the old row is as good as it was */
    store_batch_fini(&batch);
    service->counters.repairs += (uint64_t)__builtin_popcountll(repair->damaged);
    return 1;
}

static uint64_t row_hash(const struct repair *repair)
{
    return hash_bytes(&repair->found.key, sizeof repair->found.key, repair->found.row.extent.block);
}

static bool is_known_loss(const struct data_service *service, const struct repair *repair)
{
    uint64_t hash = row_hash(repair);
    for (uint32_t i = 0; i < DATA_LOST_MEMORY; i++) {
        if (service->lost[i] == hash)
            return true;
    }
    return false;
}

/* 1: the row has been read, good says how well; 0: there is no row any more; or an error. */
static int repair_row(struct data_service *service, struct repair *repair, uint64_t ino,
                      uint64_t position)
{
    for (uint32_t attempt = 0;; attempt++) {
        int result = data_look_row(service, repair->group, ino, position, &repair->found);
        if (result <= 0)
            return result;
        read_own(service, repair);
        if (repair->damaged == 0)
            return 1;
        fetch_missing(service, repair);
        result = swap_row(service, repair);
        if (result < 0)
            return result;
        bool last = attempt + 1 == REPAIR_ATTEMPTS || is_known_loss(service, repair);
        bool enough = repair->good == all_of(repair) || last;
        if (result == 1 && enough) {
            uint64_t count = (uint64_t)__builtin_popcountll(repair->damaged);
            service->counters.checksum_errors += count;
            return 1;
        }
        if (last)
            return -ERR_BUSY; /* rewritten faster than we can look */
        fiber_sleep(RETRY_PAUSE_NS);
    }
}

/* Count a loss and tell, once for each row. */
static void report_loss(struct data_service *service, const struct repair *repair)
{
    const struct data_row *row = &repair->found.row;
    if (is_known_loss(service, repair))
        return;
    service->lost[service->lost_next++ % DATA_LOST_MEMORY] = row_hash(repair);
    uint64_t lost = all_of(repair) & ~repair->good;
    uint64_t count = (uint64_t)__builtin_popcountll(lost);
    service->counters.losses += count;
    char name[NAME_BYTES] = "(unknown)";
    if (service->name_fn)
        service->name_fn(service->name_context, row->ino, name, sizeof name);
    log_error("data-loss",
              "file=\"%s\" ino=%" PRIu64 " offset=%" PRIu64 " blocks=%" PRIu64
              " why=\"no member has a copy that matches its checksum\" "
              "effect=\"reads there fail\"",
              name, row->ino, (row->first + (uint64_t)__builtin_ctzll(lost)) * DATA_BLOCK_BYTES,
              count);
}

/* Take from the repaired row what lies in io's range. */
static int take_blocks(const struct repair *repair, struct data_io *io, uint32_t index)
{
    uint64_t first = MAX(repair->found.row.first, io->first);
    uint64_t end = MIN(repair->found.row.end, io->first + io->blocks);
    for (uint64_t position = first; position < end; position++) {
        uint32_t from = (uint32_t)(position - repair->found.row.first);
        uint32_t to = (uint32_t)(position - io->first);
        if (!io->bad[to] || !(repair->good >> from & 1))
            continue;
        memcpy(io->data + (size_t)to * DATA_BLOCK_BYTES, block_of(repair, from), DATA_BLOCK_BYTES);
        io->crcs[to] = data_row_crc(&repair->found.row, from);
        io->bad[to] = false;
    }
    return io->bad[index] ? -ERR_CORRUPT_DATA : 0;
}

/* repair->buf is allocated here and put by the caller. Result as repair_row. */
static int repair_at(struct data_service *service, struct repair *repair, uint64_t ino,
                     uint64_t position)
{
    repair->buf = buf_new(DATA_EXTENT_BLOCKS_MAX * DATA_BLOCK_BYTES);
    fiber_mutex_lock(&service->repair_mutex);
    int result = repair_row(service, repair, ino, position);
    fiber_mutex_unlock(&service->repair_mutex);
    if (result == 1 && repair->good != all_of(repair))
        report_loss(service, repair);
    return result;
}

int data_repair_block(struct data_service *service, struct data_io *io, uint32_t index)
{
    struct repair repair = {.group = io->group};
    assert(index < io->blocks && io->bad[index]);
    int result = repair_at(service, &repair, io->ino, io->first + index);
    if (result == 0) { /* cut away meanwhile */
        memset(io->data + (size_t)index * DATA_BLOCK_BYTES, 0, DATA_BLOCK_BYTES);
        io->crcs[index] = service->zero_crc;
        io->bad[index] = false;
    } else if (result == 1) {
        result = take_blocks(&repair, io, index);
    }
    buf_put(repair.buf);
    return result;
}

/* ---- in the background ---------------------------------------------------------------------- */

void data_repair_queue(struct data_service *service, struct slice key)
{
    assert(data_key_is(key));
    for (uint32_t i = 0; i < service->queue_count; i++) {
        if (slice_equal(data_key_slice(&service->queue[i]), key))
            return;
    }
    if (service->queue_count == DATA_REPAIR_QUEUE_MAX)
        return;
    memcpy(service->queue[service->queue_count++].bytes, key.data, DATA_KEY_BYTES);
    waitq_wake_one(&service->queue_filled);
}

void data_repair_fiber(void *arg)
{
    struct data_service *service = arg;
    for (;;) {
        while (service->queue_count == 0)
            (void)waitq_wait(&service->queue_filled, 0); /* for ever: nothing is damaged */
        struct data_key key = service->queue[--service->queue_count];
        struct slice slice = data_key_slice(&key);
        struct repair repair = {.group = data_key_group(slice)};
        (void)repair_at(service, &repair, data_key_ino(slice),
                        data_key_last(slice)); /* what it could not do, the next finder will */
        buf_put(repair.buf);
    }
}
