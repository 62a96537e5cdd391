/* SPDX-License-Identifier: MIT */
/* The participant's side of transactions (theory, states and invariants in txn.c).
 *
 * Every message may come twice: LOCK gives a key to who has it already; PREPARE of a prepared
 * share waits for its record; FINISH of an unknown share has been done. */
#include "meta/participant.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "meta/lock.h"
#include "meta/reaper.h"
#include "meta/txn.h"

enum part_state {
    PART_LOCKED,
    PART_PREPARING, /* waits for room in the log */
    PART_PREPARED,
    PART_FINISHED,
};

struct meta_part {
    struct htable_node node; /* in mg->parts */
    struct meta_group *mg;
    struct wire_txn_id id;
    struct part_coordinator coordinator; /* zeroes: not known, found in the table */
    enum part_state state;
    uint32_t users; /* fibers that work on it now */
    bool listed;    /* in mg->parts; else it goes with its last user */
    bool asking;    /* a resolver is under way */
    struct meta_locks locks;
    struct timer timer;
    uint64_t seq; /* of the record that made it PREPARED or FINISHED */
    uint8_t *changes;
    uint32_t changes_bytes;
};

static uint64_t id_hash(const struct wire_txn_id *id)
{
    return hash_bytes(id, sizeof *id, 0);
}

static struct meta_part *part_find(const struct meta_group *mg, const struct wire_txn_id *id)
{
    struct htable_node *node;
    for (node = htable_first(&mg->parts, id_hash(id)); node; node = htable_next(node)) {
        struct meta_part *part = container_of(node, struct meta_part, node);
        if (memcmp(&part->id, id, sizeof *id) == 0)
            return part;
    }
    return NULL;
}

static void part_free(struct meta_part *part)
{
    assert(!part->listed && part->users == 0);
    timer_cancel(&part->timer);
    meta_locks_release(&part->locks);
    mem_free(part->changes);
    mem_free(part);
}

static void part_unlist(struct meta_part *part)
{
    assert(part->listed);
    htable_remove(&part->mg->parts, &part->node);
    part->listed = false;
    timer_cancel(&part->timer);
    meta_locks_release(&part->locks);
}

static void part_use(struct meta_part *part)
{
    part->users++;
}

static void part_unuse(struct meta_part *part)
{
    assert(part->users > 0);
    if (--part->users == 0 && !part->listed)
        part_free(part);
}

static void resolve_fiber(void *arg)
{
    struct meta_part *part = arg;
    struct meta_group *mg = part->mg;
    uint32_t outcome = 2;
    int result = peer_status(mg->service, &part->id, &outcome);
    if (result < 0)
        log_info("meta-in-doubt", "group=%u coordinator=%u error=%s effect=\"keys stay locked\"",
                 mg->id, part->id.group, error_name(result));
    else if (outcome != 2 && part->listed && !mg->dead)
        result = participant_finish(mg, &part->id, outcome == 1);
    part->asking = false;
    if (part->listed && !mg->dead)
        timer_arm(&part->timer, env_now_ns() + META_PART_DOUBT_NS);
    part_unuse(part);
    meta_group_put(mg);
}

/* Nothing was heard of the transaction for a while. */
static void part_overdue(struct timer *timer)
{
    struct meta_part *part = container_of(timer, struct meta_part, timer);
    if (part->state == PART_LOCKED) {
        part_use(part);
        part_unlist(part);
        part_unuse(part);
        return;
    }
    if (part->asking)
        return;
    part->asking = true;
    part_use(part);
    meta_group_get(part->mg);
    fiber_spawn("meta-resolve", resolve_fiber, part);
}

static struct meta_part *part_new(struct meta_group *mg, const struct wire_txn_id *id)
{
    struct meta_part *part = mem_zalloc(sizeof *part);
    part->mg = mg;
    part->id = *id;
    part->state = PART_LOCKED;
    part->listed = true;
    meta_locks_init(&part->locks, mg);
    timer_init(&part->timer, part_overdue);
    htable_insert(&mg->parts, &part->node, id_hash(id));
    return part;
}

/* ---- lock --------------------------------------------------------------------------------- */

/* A key from the wire: one of ours, in a table that is locked by key. */
static int check_key(const struct meta_group *mg, struct slice key)
{
    if (!key.data || key.bytes < META_KEY_PREFIX || key.bytes > META_KEY_MAX)
        return -ERR_CORRUPT_WIRE;
    uint8_t table = key_table(key);
    if (key_group(key) != mg->id)
        return -ERR_CORRUPT_WIRE;
    return table >= META_TABLE_INODE && table <= META_TABLE_RENAME ? 0 : -ERR_CORRUPT_WIRE;
}

static int read_row(struct meta_group *mg, struct slice key, uint64_t *seen_seq,
                    struct peer_bytes *values)
{
    uint8_t value[STORE_VALUE_MAX];
    int bytes = group_get(mg->group, key, value, sizeof value, seen_seq);
    if (bytes < 0 && bytes != -ENOENT)
        return bytes;
    uint32_t length = bytes < 0 ? UINT32_MAX : (uint32_t)bytes;
    memcpy(peer_bytes_add(values, sizeof length), &length, sizeof length);
    if (bytes > 0)
        memcpy(peer_bytes_add(values, (uint32_t)bytes), value, (size_t)bytes);
    return 0;
}

static int lock_keys(struct meta_group *mg, struct meta_part *part, struct slice keys,
                     const struct wire_txn_lock_req *req, struct peer_bytes *values)
{
    uint64_t deadline_ns = env_now_ns() + MIN(req->wait_ms, 1000u) * NS_PER_MS;
    uint64_t seen_seq = 0;
    struct reader reader;
    reader_init(&reader, keys.data, keys.bytes);
    for (uint32_t i = 0; i < req->key_count; i++) {
        uint32_t bytes = reader_u16(&reader);
        struct slice key = slice_of(reader_take(&reader, bytes), bytes);
        int result = reader_ok(&reader) ? check_key(mg, key) : -ERR_CORRUPT_WIRE;
        if (result < 0)
            return result;
        result = part ? meta_lock_take(&part->locks, key, deadline_ns)
                      : meta_lock_wait(mg, key, false, deadline_ns);
        if (result == 0 && part && !part->listed) { /* given up meanwhile */
            meta_locks_release(&part->locks);
            result = -ERR_TXN_ABORTED;
        }
        if (result == 0)
            result = read_row(mg, key, &seen_seq, values);
        if (result < 0)
            return result;
    }
    return meta_wait(mg, seen_seq);
}

int participant_lock(struct meta_group *mg, const struct wire_txn_id *txn, struct slice keys,
                     const struct wire_txn_lock_req *req, struct part_coordinator from,
                     struct peer_bytes *values)
{
    if (txn->number == 0)
        return lock_keys(mg, NULL, keys, req, values);
    struct meta_part *part = part_find(mg, txn);
    if (part && part->state != PART_LOCKED)
        return -ERR_TXN_ABORTED; /* a message from the past */
    if (!part) {
        part = part_new(mg, txn);
        part->coordinator = from;
    }
    part_use(part);
    timer_arm(&part->timer, env_now_ns() + META_PART_LOCK_TTL_NS);
    int result = lock_keys(mg, part, keys, req, values);
    if (result == 0 && !part->listed)
        result = -ERR_TXN_ABORTED;
    if (result < 0 && part->listed && part->state == PART_LOCKED)
        part_unlist(part); /* the coordinator will start over */
    part_unuse(part);
    return result;
}

/* ---- prepare ------------------------------------------------------------------------------ */

/* T3: the share still has the locks on all that it wants to change. */
static int check_changes(const struct meta_part *part, struct slice changes)
{
    uint32_t cursor = 0;
    struct slice key, value;
    int more;
    if (changes.bytes > STORE_VALUE_MAX)
        return -ERR_CORRUPT_WIRE;
    while ((more = store_batch_next(changes, &cursor, &key, &value)) > 0) {
        int result = check_key(part->mg, key);
        if (result < 0)
            return result;
        if (key_table(key) != META_TABLE_ORPHAN && !meta_lock_held(&part->locks, key))
            return -ERR_TXN_ABORTED;
    }
    return more;
}

static int append_prepared(struct meta_part *part)
{
    struct meta_group *mg = part->mg;
    struct meta_key key;
    struct store_batch batch;
    key_txn(&key, mg->id, META_TABLE_PREPARED, &part->id);
    store_batch_init(&batch);
    store_batch_put(&batch, key_slice(&key), slice_of(part->changes, part->changes_bytes));
    int result = meta_append(mg, &batch, &part->seq);
    store_batch_fini(&batch);
    return result;
}

static int prepare(struct meta_part *part, struct slice changes)
{
    int result = check_changes(part, changes);
    if (result < 0)
        return result;
    timer_arm(&part->timer, env_now_ns() + META_PART_LOCK_TTL_NS);
    if (changes.bytes == 0)
        return 0; /* T2: it has only read; it need not survive */
    part->state = PART_PREPARING;
    part->changes = mem_alloc(changes.bytes);
    part->changes_bytes = changes.bytes;
    memcpy(part->changes, changes.data, changes.bytes);
    meta_locks_prepared(&part->locks);
    result = append_prepared(part);
    if (result < 0) {
        if (part->listed)
            part_unlist(part);
        return result;
    }
    part->state = PART_PREPARED;
    timer_arm(&part->timer, env_now_ns() + META_PART_DOUBT_NS);
    return 0;
}

int participant_prepare(struct meta_group *mg, const struct wire_txn_id *txn, struct slice changes)
{
    struct meta_part *part = part_find(mg, txn);
    if (!part || part->state == PART_FINISHED)
        return -ERR_TXN_ABORTED; /* T3 */
    part_use(part);
    int result = store_reserve(group_store(mg->group), 0, true);
    if (result == 0 && part->state == PART_PREPARING)
        result = -ERR_BUSY;
    if (result == 0 && (!part->listed || part->state == PART_FINISHED)) /* T3, meanwhile */
        result = -ERR_TXN_ABORTED;
    if (result == 0 && part->state == PART_LOCKED)
        result = prepare(part, changes);
    uint64_t seq = part->seq;
    if (result == 0 && part->state == PART_PREPARED) {
        result = meta_wait(mg, seq);
        if (result == 0)
            result = group_flush(mg->group); /* T5 */
    }
    part_unuse(part);
    return result;
}

/* ---- finish ------------------------------------------------------------------------------- */

static void note_orphans(struct meta_group *mg, struct slice changes)
{
    uint32_t cursor = 0;
    struct slice key, value;
    while (store_batch_next(changes, &cursor, &key, &value) > 0) {
        if (key_table(key) == META_TABLE_ORPHAN && value.data)
            meta_reaper_add(mg, key_ino(key));
    }
}

/* Append what was decided. The share has a user, so it stays while this waits for room. */
static int append_finish(struct meta_part *part, bool commit)
{
    struct meta_group *mg = part->mg;
    struct slice changes = slice_of(part->changes, part->changes_bytes);
    struct store_batch batch;
    struct meta_key key;
    store_batch_init(&batch);
    key_txn(&key, mg->id, META_TABLE_PREPARED, &part->id);
    int result = commit ? store_batch_append_bytes(&batch, changes) : 0;
    if (result == 0) {
        store_batch_del(&batch, key_slice(&key));
        result = meta_append(mg, &batch, &part->seq);
    }
    store_batch_fini(&batch);
    if (result == 0 && commit)
        note_orphans(mg, changes);
    return result;
}

static int finish(struct meta_part *part, bool commit)
{
    struct meta_group *mg = part->mg;
    part->state = PART_FINISHED;
    int result = append_finish(part, commit);
    if (result < 0) {
        part->state = PART_PREPARED;
        return result;
    }
    if (part->listed)
        part_unlist(part);
    return meta_wait(mg, part->seq);
}

int participant_finish(struct meta_group *mg, const struct wire_txn_id *txn, bool commit)
{
    struct meta_part *part = part_find(mg, txn);
    int result = 0;
    if (part) {
        part_use(part);
        result = -ERR_BUSY; /* another message is at work */
        if (part->state == PART_LOCKED) {
            part_unlist(part);
            result = 0;
        } else if (part->state == PART_PREPARED) {
            result = finish(part, commit);
        }
        part_unuse(part);
    }
    if (result == 0 && commit)
        result = group_flush(mg->group); /* T5: now the coordinator may forget the decision */
    return result;
}

/* ---- new primary -------------------------------------------------------------------------- */

int participant_resume(struct meta_group *mg, const struct wire_txn_id *txn, struct slice changes)
{
    struct meta_part *part = part_new(mg, txn);
    uint32_t cursor = 0;
    struct slice key, value;
    int more, result = 0;
    while (result == 0 && (more = store_batch_next(changes, &cursor, &key, &value)) != 0) {
        result = more < 0 ? more : check_key(mg, key);
        if (result == 0)
            result = meta_lock_take(&part->locks, key, env_now_ns());
    }
    if (result < 0) {
        part_unlist(part);
        part_free(part);
        return -ERR_CORRUPT_DISK;
    }
    part->state = PART_PREPARED;
    part->changes = mem_alloc(MAX(changes.bytes, 1u));
    part->changes_bytes = changes.bytes;
    memcpy(part->changes, changes.data, changes.bytes);
    meta_locks_prepared(&part->locks);
    timer_arm(&part->timer, env_now_ns() + META_PART_DOUBT_NS / 10);
    return 0;
}

/* Is who coordinates the share still the primary, and the same process? */
static bool coordinator_leads(const struct meta_part *part, const struct map_view *view)
{
    const struct map_group *group = map_view_group(view, part->id.group);
    const struct map_node *node = group ? map_view_node(view, group->primary) : NULL;
    return node && node->id == part->coordinator.node &&
           node->incarnation == part->coordinator.incarnation;
}

/* The timers do the work: a share may end here, and the table is being walked. */
void participant_map_changed(struct meta_group *mg, const struct map_view *view)
{
    struct htable_node *node;
    for (node = htable_walk(&mg->parts, NULL); node; node = htable_walk(&mg->parts, node)) {
        struct meta_part *part = container_of(node, struct meta_part, node);
        if (!coordinator_leads(part, view))
            timer_arm(&part->timer, env_now_ns());
    }
}

void participant_stop(struct meta_group *mg)
{
    struct htable_node *node;
    assert(mg->dead);
    for (node = htable_walk(&mg->parts, NULL); node; node = htable_walk(&mg->parts, node))
        timer_cancel(&container_of(node, struct meta_part, node)->timer);
}

void participant_free(struct meta_group *mg)
{
    struct htable_node *node;
    while ((node = htable_walk(&mg->parts, NULL))) {
        struct meta_part *part = container_of(node, struct meta_part, node);
        part_unlist(part);
        part_free(part);
    }
    htable_fini(&mg->parts);
}

/* ---- messages ----------------------------------------------------------------------------- */

/* The addressed group, for an RPC. */
static int addressed(struct meta_service *service, const struct rpc_request *request,
                     bool for_write, struct meta_group **ret_mg)
{
    return meta_find_serving(service, request->header->group, 0, for_write, ret_mg);
}

static void serve_lock(void *context, struct rpc_request *request)
{
    const struct wire_txn_lock_req *req = request->body;
    struct wire_txn_lock_rep reply = {0};
    struct peer_bytes values = {0};
    struct meta_group *mg;
    int result = addressed(context, request, true, &mg);
    if (result == 0) {
        struct part_coordinator from = {request->peer_node, request->peer_incarnation};
        result = participant_lock(mg, &req->txn, request->tail, req, from, &values);
        meta_group_put(mg);
    }
    if (result == 0 && values.bytes > WIRE_BODY_MAX - sizeof reply)
        result = -E2BIG;
    if (result < 0)
        rpc_reply_status(request, result);
    else
        rpc_reply(request, 0, &reply, slice_of(values.data, values.bytes), (struct buf_slice){0});
    peer_bytes_fini(&values);
}

static void serve_prepare(void *context, struct rpc_request *request)
{
    const struct wire_txn_prepare_req *req = request->body;
    struct wire_txn_prepare_rep reply = {0};
    struct meta_group *mg;
    int result = addressed(context, request, true, &mg);
    if (result == 0) {
        result = participant_prepare(mg, &req->txn, request->tail);
        meta_group_put(mg);
    }
    rpc_reply(request, result, &reply, (struct slice){0}, (struct buf_slice){0});
}

static void serve_finish(void *context, struct rpc_request *request)
{
    const struct wire_txn_finish_req *req = request->body;
    struct wire_txn_finish_rep reply = {0};
    struct meta_group *mg;
    int result = addressed(context, request, true, &mg);
    if (result == 0) {
        result = participant_finish(mg, &req->txn, req->commit != 0);
        meta_group_put(mg);
    }
    rpc_reply(request, result, &reply, (struct slice){0}, (struct buf_slice){0});
}

static void serve_status(void *context, struct rpc_request *request)
{
    const struct wire_txn_status_req *req = request->body;
    struct wire_txn_status_rep reply = {0};
    struct meta_group *mg;
    int result = addressed(context, request, false, &mg);
    if (result == 0) {
        if (req->txn.group != mg->id)
            result = -ERR_CORRUPT_WIRE;
        else
            result = txn_outcome(mg, &req->txn, &reply.outcome);
        meta_group_put(mg);
    }
    rpc_reply(request, result, &reply, (struct slice){0}, (struct buf_slice){0});
}

void meta_register_participant(struct meta_service *service)
{
    rpc_register(service->rpc, RPC_TXN_LOCK, serve_lock, service);
    rpc_register(service->rpc, RPC_TXN_PREPARE, serve_prepare, service);
    rpc_register(service->rpc, RPC_TXN_FINISH, serve_finish, service);
    rpc_register(service->rpc, RPC_TXN_STATUS, serve_status, service);
}
