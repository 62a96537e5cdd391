/* SPDX-License-Identifier: MIT */
/* At most once: a client's write or punch takes effect once, however often it is sent.
 *
 * Problem. A client that gets no answer (its primary died, a connection broke) sends the request
 * again, to whoever is primary then. The first copy may have been carried out, and others may have
 * written to the same place since: to do it again would take back what they were told is done.
 *
 * Picture. A session numbers the requests of each of its slots and has one at a time in a slot.
 *
 *     OBJ_WRITE (session, slot, seq) -> record (blocks, request) -> every member, in one batch:
 *                                         extent rows, and the REQUEST row (session, slot)
 *     the same with OBJ_RETRY -> lock the blocks -> REQUEST row: done? answer
 *                                                                else go on from there
 *
 * A punch takes several records; each says how far it has come (progress), so a repetition goes on
 * where the first copy ended. What would change nothing is logged all the same: that it is done
 * has to be known.
 *
 * Invariants.
 * R1. The row of a request is in the table exactly where the request's changes are: same record,
 *     same batch. So it is known to a new primary (which has applied all that may have been
 *     acknowledged before it serves), to a member copied by a scan, and after a restart, as far as
 *     the data is.
 * R2. At one primary a repetition comes behind the copies before it: they arrive in order, also
 *     over a broken connection (I6 of net/rpc.c), are queued at the lock in order of arrival, and
 *     keep it until they were applied, or never will be in this reign (D2). So a repetition that
 *     meets its first copy under way waits for it, and finds its row.
 * R3. A copy that is still on its way to, or under way at, an earlier primary does nothing: it
 *     names an epoch, which is looked at when it arrives, when it has its lock, and in the turn in
 *     which it appends. What it had appended before is settled when the next primary serves
 *     (I5 of group/host.c). The same holds at the same primary in a later epoch.
 * R4. Rows of a slot do not go back: the client uses a slot again only when the request before it
 *     was answered, and then no copy of it can still do anything (R2, R3). A slot whose request was
 *     given up is retired (client/slot.c).
 *
 * Cost. A row more in a batch. It is looked for only when OBJ_RETRY says so. Slots in use are as
 * many as a session had requests at a time, and one for each request that it gave up.
 *
 * How long. A primary that sees a session's rows unchanged for DATA_REPLAY_TTL_NS takes it for
 * gone. Rows then go by a record that names what they were: a row that has changed before that
 * record's turn stays. A session repeats nothing for longer than its io_timeout, by default a
 * minute; a mount without one that cannot reach the primary for the whole TTL, though others do,
 * may find its last requests forgotten.
 *
 * The primary of an inode writes once itself: the bytes of a small file that moves to objects. It
 * is a session of its own, the inode, with an order (data.h) for a number: what a primary that is
 * one no more sends late, in whichever epoch of ours, is refused once the next one has written.
 *
 * Not here. Truncations come from the inode's primary and have their own order (cut.c). */
#include "data/data_internal.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/plant.h"

#define DATA_REPLAY_TTL_NS (3600 * NS_PER_S)
enum { SILENT_MAX = 64 };

/* A session that has rows in a group. */
struct data_caller {
    struct htable_node node; /* in data_group.callers */
    uint64_t session;
    uint64_t sum; /* of its rows' seq: grows with every request */
    uint64_t since_ns;
};

int data_replay_look(struct data_change *change, bool retry)
{
    struct disk_data_request *request = &change->request, row;
    assert(change->lock.granted && request->progress == 0);
    if (request->session == 0 || !retry || PLANT(DATA_REPEATS))
        return 0;
    struct data_key key =
        data_request_key(group_id(change->group), request->session, request->slot);
    int bytes = store_get(change->service->store, data_key_slice(&key), &row, sizeof row);
    if (bytes == -ENOENT)
        return 0;
    if (bytes < 0)
        return bytes == -ERANGE ? -ERR_CORRUPT_DISK : bytes;
    int result = data_request_parse(data_key_slice(&key), slice_of(&row, (size_t)bytes), &row);
    if (result < 0 || row.seq < request->seq)
        return result;
    if (row.seq > request->seq)
        return -ERR_CANCELED; /* R4: nobody waits for the answer */
    request->progress = row.progress;
    return row.progress == DATA_PROGRESS_DONE;
}

/* ---- rows, on every member ------------------------------------------------------------------- */

/* With the plant: is this the primary that logged the record? */
static bool is_serving(struct data_service *service, uint32_t group)
{
    struct group *found;
    return service->host && group_find_serving(service->host, group, 0, false, &found) == 0;
}

void data_replay_put(struct data_service *service, uint32_t group,
                     const struct disk_data_request *request, struct store_batch *batch)
{
    if (request->session == 0)
        return;
    if (PLANT(DATA_REQUEST_UNSHARED) && !is_serving(service, group))
        return;
    struct data_key key = data_request_key(group, request->session, request->slot);
    store_batch_put(batch, data_key_slice(&key), slice_of(request, sizeof *request));
}

int data_replay_forget(struct store *store, uint32_t group, const struct data_record *data,
                       struct store_batch *batch)
{
    assert(data->head.kind == DISK_DATA_FORGET);
    for (uint32_t i = 0; i < data->head.blocks; i++) {
        struct disk_data_request old, now;
        memcpy(&old, data->tail + i * sizeof old, sizeof old);
        if (old.session == 0)
            return -ERR_CORRUPT_WIRE;
        struct data_key key = data_request_key(group, old.session, old.slot);
        int bytes = store_get(store, data_key_slice(&key), &now, sizeof now);
        if (bytes < 0 && bytes != -ENOENT)
            return bytes;
        if (bytes == (int)sizeof now && memcmp(&old, &now, sizeof now) == 0)
            store_batch_del(batch, data_key_slice(&key));
    }
    return 0;
}

/* ---- silent sessions, on the primary --------------------------------------------------------- */

/* The walk saw all rows of a session. Has it been silent for long? */
static bool is_silent(struct data_group *dg, uint64_t session, uint64_t sum)
{
    uint64_t now_ns = env_now_ns(), hash = hash_u64(session);
    struct data_caller *caller = NULL;
    struct htable_node *node = htable_first(&dg->callers, hash); /* hash_u64 is a bijection */
    if (node)
        caller = container_of(node, struct data_caller, node);
    if (caller && caller->sum == sum)
        return caller->since_ns + DATA_REPLAY_TTL_NS <= now_ns;
    if (!caller) {
        caller = mem_zalloc(sizeof *caller);
        caller->session = session;
        htable_insert(&dg->callers, &caller->node, hash);
    }
    caller->sum = sum;
    caller->since_ns = now_ns;
    return false;
}

static void caller_drop(struct data_group *dg, uint64_t session)
{
    struct htable_node *node = htable_first(&dg->callers, hash_u64(session));
    if (!node)
        return;
    htable_remove(&dg->callers, node);
    mem_free(container_of(node, struct data_caller, node));
}

void data_replay_ceased(struct data_group *dg)
{
    struct htable_node *node;
    while ((node = htable_walk(&dg->callers, NULL))) {
        htable_remove(&dg->callers, node);
        mem_free(container_of(node, struct data_caller, node));
    }
}

/* Sessions that have been silent, at most SILENT_MAX. Returns the count, or an error. */
static int find_silent(struct data_service *service, struct data_group *dg, uint64_t *silent)
{
    struct data_key from = data_request_key(dg->id, 1, 0);
    struct data_key end = data_request_key(dg->id, UINT64_MAX, UINT64_MAX);
    struct store_iter *iter = data_iter_take(service, service->store);
    struct disk_data_request row;
    struct slice key, value;
    uint64_t session = 0, sum = 0;
    int count = 0, result;
    store_iter_seek(iter, data_key_slice(&from));
    while ((result = store_iter_next(iter, data_key_slice(&end), &key, &value)) == 1) {
        if (data_request_parse(key, value, &row) < 0)
            continue; /* fsck tells */
        if (row.session != session) {
            if (session != 0 && is_silent(dg, session, sum) && count < SILENT_MAX)
                silent[count++] = session;
            session = row.session;
            sum = 0;
        }
        sum += row.seq;
    }
    if (result == 0 && session != 0 && is_silent(dg, session, sum) && count < SILENT_MAX)
        silent[count++] = session;
    data_iter_give(service, iter);
    return result < 0 ? result : count;
}

/* Rows of a session from slot on, up to DATA_FORGET_MAX. Returns the count, or an error. */
static int find_rows(struct data_service *service, uint32_t group, uint64_t session, uint64_t slot,
                     struct disk_data_request *rows)
{
    struct data_key from = data_request_key(group, session, slot);
    struct data_key end = data_request_key(group, session, UINT64_MAX);
    struct store_iter *iter = data_iter_take(service, service->store);
    struct slice key, value;
    int count = 0, result = 0;
    store_iter_seek(iter, data_key_slice(&from));
    while (count < DATA_FORGET_MAX &&
           (result = store_iter_next(iter, data_key_slice(&end), &key, &value)) == 1) {
        if (data_request_parse(key, value, &rows[count]) == 0)
            count++;
    }
    data_iter_give(service, iter);
    return result < 0 ? result : count;
}

static int forget_session(struct data_service *service, uint32_t group, uint64_t session)
{
    struct disk_data_request *rows = mem_alloc(DATA_FORGET_MAX * sizeof *rows);
    uint64_t slot = 0;
    int count;
    do {
        count = find_rows(service, group, session, slot, rows);
        if (count <= 0)
            break;
        slot = rows[count - 1].slot + 1;
        int result = data_append_forget(service, group, rows, (uint32_t)count);
        count = result < 0 ? result : count;
    } while (count == DATA_FORGET_MAX);
    mem_free(rows);
    return MIN(count, 0);
}

/* An error ends it: the next round begins anew. */
static void purge(struct data_service *service, struct data_group *dg)
{
    uint64_t silent[SILENT_MAX];
    int count;
    do {
        struct group *group;
        if (group_find_serving(service->host, dg->id, 0, true, &group) < 0)
            return;
        count = find_silent(service, dg, silent);
        for (int i = 0; i < count; i++) {
            if (forget_session(service, dg->id, silent[i]) < 0)
                return;
            caller_drop(dg, silent[i]);
        }
    } while (count == SILENT_MAX);
}

void data_replay_fiber(void *arg)
{
    struct data_service *service = arg;
    for (;;) {
        fiber_sleep(DATA_REPLAY_TTL_NS / 2);
        for (struct htable_node *node = htable_walk(&service->groups, NULL); node;
             node = htable_walk(&service->groups, node))
            purge(service, container_of(node, struct data_group, node));
    }
}
