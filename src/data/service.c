/* SPDX-License-Identifier: MIT */
/* The object service: file data on data groups.
 *
 * Problem. A file's bytes live in objects of 4 MiB, each in some data group. Clients read and write
 * any range of them; blocks of 4 KiB carry a checksum that the client made; what is acknowledged
 * must be the same on all members and survive them.
 *
 * Picture.
 *
 *     OBJ_WRITE -> lock the blocks -> merge edge blocks -> data to the store (store_extent_write)
 *       -> log record: which blocks, which checksums, which extents (group_append)
 *       -> every member, in log order: rows (data_apply) -> reply
 *     OBJ_READ  -> rows -> device -> checksums -> reply
 *
 * A row (format/disk_data.h) says where a run of up to 64 blocks lies and what its checksums are.
 *
 * Invariants.
 * D1. Rows of one inode in one group do not overlap. Only applied records, in log order, change
 *     which blocks have rows; local commits (cleaner, repair) change only where a row points.
 * D2. What a primary has read, to merge it or to decide what to cut, is used only while its lock is
 *     held and in the epoch in which it was read. In that epoch every change of those blocks goes
 *     through this primary's lock, and a lock is held until the change has been applied.
 * D3. Apply may yield between reading a row and the batch it makes of it, so nothing else may
 *     change that row's place meanwhile: local commits wait while the group is applying (or its
 *     table is being replaced by a scan), and do not yield between their last look at a row and
 *     the commit.
 * D4. A walk over rows may yield, and records may be applied between its steps. Each row it sees
 *     was true at some moment of the walk, which is all that a read promises for a block; but a
 *     hole may be an illusion (a row was split behind the walk's back). So a walk that saw a hole
 *     counts only if nothing was applied since it began. data_group.changes tells; this needs the
 *     group not to yield between apply and store_apply.
 * D5. Bytes leave this service only if they have the checksum that the row names, and that checksum
 *     goes with them.
 *
 * Crash cases. Between the data write and the log record: an extent that nobody refers to; the
 * store takes it back. A deposed primary: its append or wait fails, the caller asks again
 * elsewhere, and what a client asks for happens at most once (replay.c). A removal that was cut
 * short: some of it is gone, the caller asks again.
 *
 * Limits. 1 MiB for each read or write. A write is atomic within one request as far as the log goes
 * (one record), reads of several blocks may see parts of a concurrent write.
 *
 * Not here. Sizes and holes at the end of files (meta); routing and retries of clients (client);
 * replication (group). */
#include "data/data_internal.h"

#include "base/crc32c.h"
#include "base/hash.h"
#include "base/mem.h"

struct data_group *data_group_of(struct data_service *service, uint32_t id)
{
    uint64_t hash = hash_u64(id);
    struct htable_node *node = htable_first(&service->groups, hash); /* hash_u64 is a bijection */
    if (node)
        return container_of(node, struct data_group, node);
    struct data_group *dg = mem_zalloc(sizeof *dg);
    dg->id = id;
    waitq_init(&dg->idle);
    htable_init(&dg->locks);
    htable_init(&dg->callers);
    htable_insert(&service->groups, &dg->node, hash);
    return dg;
}

void data_group_hold(struct data_group *dg)
{
    dg->holds++;
}

void data_group_release(struct data_group *dg)
{
    assert(dg->holds > 0);
    dg->changes++;
    if (--dg->holds == 0)
        waitq_wake_all(&dg->idle);
}

/* ---- reading -------------------------------------------------------------------------------- */

static int check_read(const struct wire_obj_req *body)
{
    if (body->bytes == 0 || body->bytes > DATA_IO_MAX || body->bytes % DATA_BLOCK_BYTES != 0 ||
        body->offset % DATA_BLOCK_BYTES != 0 || body->offset >= OBJECT_BYTES ||
        body->bytes > OBJECT_BYTES - body->offset)
        return -EINVAL;
    return 0;
}

/* What both readers answer; a client's read also repairs, and is the primary's business. */
static int read_object(struct data_service *service, const struct rpc_request *request,
                       struct data_io *io)
{
    const struct wire_header *header = request->header;
    struct group *group;
    if (header->type == RPC_OBJ_FETCH) {
        int result = group_find(service->host, header->group) ? data_read_applied(service, io)
                                                              : -ERR_NOT_PRIMARY;
        return result == 0 && io->bad_count > 0 ? -ERR_CORRUPT_DATA : result;
    }
    int result = group_find_serving(service->host, header->group, header->epoch, false, &group);
    if (result == 0)
        result = data_read(service, io);
    /* The answer is one of a primary only if we still were it when we looked. */
    return result < 0
               ? result
               : group_find_serving(service->host, header->group, header->epoch, false, &group);
}

static void serve_read(struct data_service *service, struct rpc_request *request)
{
    const struct wire_obj_req *body = request->body;
    int result = check_read(body);
    if (result < 0) {
        rpc_reply_status(request, result);
        return;
    }
    struct buf *buf = buf_new(body->bytes);
    struct data_io *io = data_io_take(service);
    io->group = request->header->group;
    io->blocks = body->bytes / DATA_BLOCK_BYTES;
    io->ino = body->ino;
    io->first = data_position(body->index, body->offset / DATA_BLOCK_BYTES);
    io->data = buf->data;
    result = read_object(service, request, io);
    if (result < 0) {
        rpc_reply_status(request, result);
    } else {
        uint32_t blocks = data_io_used(io);
        const struct wire_obj_read_rep reply = {.obj = {.bytes = blocks * DATA_BLOCK_BYTES}};
        struct buf_slice payload = {blocks ? buf : NULL, 0, blocks * DATA_BLOCK_BYTES};
        rpc_reply(request, 0, &reply, slice_of(io->crcs, blocks * sizeof io->crcs[0]), payload);
    }
    data_io_give(service, io);
    buf_put(buf);
}

/* ---- requests ------------------------------------------------------------------------------- */

static void serve_sync(struct data_service *service, struct rpc_request *request)
{
    struct group *group;
    int result = group_find_serving(service->host, request->header->group, request->header->epoch,
                                    false, &group);
    if (result == 0)
        result = group_flush(group);
    const struct wire_obj_sync_rep reply = {0};
    rpc_reply(request, result, result < 0 ? NULL : &reply, (struct slice){0},
              (struct buf_slice){0});
}

static void on_read(void *service, struct rpc_request *request)
{
    serve_read(service, request);
}
static void on_write(void *service, struct rpc_request *request)
{
    data_serve_write(service, request);
}
static void on_truncate(void *service, struct rpc_request *request)
{
    data_serve_truncate(service, request);
}
static void on_punch(void *service, struct rpc_request *request)
{
    data_serve_punch(service, request);
}
static void on_sync(void *service, struct rpc_request *request)
{
    serve_sync(service, request);
}

/* ---- the service ---------------------------------------------------------------------------- */

struct data_service *data_service_new(void)
{
    struct data_service *service = mem_zalloc(sizeof *service);
    static const uint8_t zeroes[DATA_BLOCK_BYTES];
    htable_init(&service->groups);
    htable_init(&service->cuts);
    list_init(&service->cuts_by_age);
    fiber_mutex_init(&service->repair_mutex);
    waitq_init(&service->queue_filled);
    service->zero_crc = crc32c(0, zeroes, sizeof zeroes);
    return service;
}

/* Nothing of this layer is kept in memory that a new primary would have to rebuild: locks are of
 * requests, and those of an earlier reign fail at their next append. */
static int data_serving(void *context, struct group *group)
{
    (void)data_group_of(context, group_id(group));
    return 0;
}

static void data_ceased(void *context, struct group *group)
{
    data_replay_ceased(data_group_of(context, group_id(group)));
}

const struct group_content_ops data_content_ops = {
    .apply = data_apply,
    .serving = data_serving,
    .ceased = data_ceased,
    .extent_of = data_extent_of,
    .rebase = data_rebase,
    .read = data_read_row,
    .hold = data_hold,
};

void data_service_start(struct data_service *service, struct rpc *rpc, struct group_host *host)
{
    assert(!service->rpc);
    service->rpc = rpc;
    service->host = host;
    service->store = group_host_store(host);
    store_set_mover(service->store, data_move, service);
    rpc_register(rpc, RPC_OBJ_READ, on_read, service);
    rpc_register(rpc, RPC_OBJ_FETCH, on_read, service);
    rpc_register(rpc, RPC_OBJ_WRITE, on_write, service);
    rpc_register(rpc, RPC_OBJ_TRUNCATE, on_truncate, service);
    rpc_register(rpc, RPC_OBJ_PUNCH, on_punch, service);
    rpc_register(rpc, RPC_OBJ_SYNC, on_sync, service);
    fiber_spawn("data-repair", data_repair_fiber, service);
    fiber_spawn("data-scrub", data_scrub_fiber, service);
    fiber_spawn("data-replay", data_replay_fiber, service);
}

void data_service_counters(const struct data_service *service, struct data_counters *ret_counters)
{
    *ret_counters = service->counters;
}

void data_service_set_namer(struct data_service *service, data_name_fn fn, void *context)
{
    service->name_fn = fn;
    service->name_context = context;
}
