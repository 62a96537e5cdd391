/* SPDX-License-Identifier: MIT */
/* A group begins and ends to be served here: rebuild what lives in memory only. */
#include <sys/stat.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"
#include "meta/meta_internal.h"
#include "meta/open.h"
#include "meta/participant.h"
#include "meta/reaper.h"
#include "meta/replay.h"
#include "meta/txn.h"

enum { ROOT_MODE = S_IFDIR | 0755 };

static struct meta_group *group_new(struct meta_service *service, struct group *group)
{
    struct meta_group *mg = mem_zalloc(sizeof *mg);
    mg->service = service;
    mg->group = group;
    mg->id = group_id(group);
    mg->refs = 1;
    htable_init(&mg->locks);
    for (uint32_t i = 0; i < META_LOCK_QUEUES; i++)
        waitq_init(&mg->lock_queues[i]);
    mg->txn_number = env_entropy_u64() >> 2; /* not one that was used before */
    list_init(&mg->running);
    htable_init(&mg->parts);
    list_init(&mg->settled);
    random_init(&mg->random, env_entropy_u64());
    fiber_mutex_init(&mg->ino_mutex);
    htable_init(&mg->opens);
    htable_init(&mg->replays);
    htable_init(&mg->callers);
    timer_init(&mg->purge_timer, meta_replay_purge);
    list_init(&mg->orphans);
    return mg;
}

struct meta_group *meta_group_get(struct meta_group *mg)
{
    assert(mg->refs > 0);
    mg->refs++;
    return mg;
}

void meta_group_put(struct meta_group *mg)
{
    assert(mg->refs > 0);
    if (--mg->refs > 0)
        return;
    assert(mg->dead && list_empty(&mg->running));
    participant_free(mg);
    txn_forget_settled(mg);
    meta_replay_forget(mg);
    assert(mg->locks.count == 0 && mg->opens.count == 0 && mg->prepared_count == 0);
    htable_fini(&mg->locks);
    htable_fini(&mg->opens);
    mem_free(mg);
}

static void die(struct meta_group *mg)
{
    mg->dead = true;
    group_set_user(mg->group, NULL);
    participant_stop(mg);
    timer_cancel(&mg->purge_timer);
    meta_open_forget(mg);
    meta_reaper_forget(mg);
    meta_replay_wake_all(mg);
    meta_lock_wake_all(mg);
    meta_group_put(mg);
}

void meta_ceased(void *context, struct group *group)
{
    (void)context;
    struct meta_group *mg = group_user(group);
    if (mg)
        die(mg);
}

/* ---- rows that memory is made from -------------------------------------------------------- */

typedef int (*row_fn)(struct meta_group *mg, struct slice key, struct slice value);

static int each_row(struct meta_group *mg, enum meta_table table, row_fn fn)
{
    struct group_iter *iter = group_iter_new(mg->group);
    struct meta_key from, end;
    struct slice key, value;
    uint64_t seen_seq = 0;
    int result;
    key_table_only(&from, mg->id, table);
    key_table_only(&end, mg->id, table + 1);
    group_iter_seek(iter, key_slice(&from));
    while ((result = group_iter_next(iter, key_slice(&end), &key, &value, &seen_seq)) > 0) {
        result = fn(mg, key, value);
        if (result < 0)
            break;
    }
    group_iter_free(iter);
    return result;
}

static int resume_prepared(struct meta_group *mg, struct slice key, struct slice value)
{
    struct wire_txn_id id;
    if (key.bytes != META_KEY_PREFIX + 16)
        return -ERR_CORRUPT_DISK;
    key_txn_id(key, &id);
    return participant_resume(mg, &id, value);
}

static int resume_decided(struct meta_group *mg, struct slice key, struct slice value)
{
    struct wire_txn_id id;
    struct disk_decided head;
    uint32_t groups[META_PARTS_MAX];
    struct reader reader;
    if (key.bytes != META_KEY_PREFIX + 16)
        return -ERR_CORRUPT_DISK;
    key_txn_id(key, &id);
    reader_init(&reader, value.data, value.bytes);
    reader_copy(&reader, &head, sizeof head);
    if (!reader_ok(&reader) || head.group_count == 0 || head.group_count > META_PARTS_MAX)
        return -ERR_CORRUPT_DISK;
    reader_copy(&reader, groups, head.group_count * sizeof groups[0]);
    if (!reader_ok(&reader))
        return -ERR_CORRUPT_DISK;
    txn_resume(mg, &id, groups, head.group_count);
    return 0;
}

static int resume_orphan(struct meta_group *mg, struct slice key, struct slice value)
{
    (void)value;
    if (key.bytes != META_KEY_PREFIX + 8)
        return -ERR_CORRUPT_DISK;
    meta_reaper_add(mg, key_ino(key));
    return 0;
}

/* No inode yet, so none can be open: nobody has to be waited for. */
static int end_grace_if_empty(struct meta_group *mg)
{
    struct group_iter *iter = group_iter_new(mg->group);
    struct meta_key from, end;
    struct slice key, value;
    uint64_t seen_seq = 0;
    key_table_only(&from, mg->id, META_TABLE_INODE);
    key_table_only(&end, mg->id, META_TABLE_INODE + 1);
    group_iter_seek(iter, key_slice(&from));
    int result = group_iter_next(iter, key_slice(&end), &key, &value, &seen_seq);
    group_iter_free(iter);
    if (result == 0)
        mg->grace_until_ns = 0;
    return MIN(result, 0);
}

static int root_missing(struct meta_group *mg)
{
    uint32_t group;
    int result = meta_group_of_ino(mg->service, CFS_ROOT_INO, &group);
    if (result < 0 || group != mg->id)
        return result;
    struct meta_key key;
    struct disk_inode row;
    uint64_t seen_seq = 0;
    key_of_ino(&key, mg->id, META_TABLE_INODE, CFS_ROOT_INO);
    result = group_get(mg->group, key_slice(&key), &row, sizeof row, &seen_seq);
    mg->root_missing = result == -ENOENT;
    return result == -ENOENT ? 0 : result;
}

int meta_root_make(struct meta_group *mg)
{
    struct meta_txn txn;
    struct txn_inode *root;
    int64_t now_ns = (int64_t)env_wall_ns();
    txn_begin(&txn, mg, env_now_ns() + META_OP_PATIENCE_NS);
    int result = txn_inode(&txn, CFS_ROOT_INO, &root);
    if (result == -ESTALE) {
        result = txn_inode_new(&txn, CFS_ROOT_INO, &root);
        if (result == 0) {
            root->row = (struct disk_inode){
                .change = 1,
                .atime_ns = now_ns,
                .mtime_ns = now_ns,
                .ctime_ns = now_ns,
                .btime_ns = now_ns,
                .parent = CFS_ROOT_INO,
                .mode = ROOT_MODE,
                .nlink = 2,
            };
            root->dirty = true;
            result = txn_commit(&txn);
        }
    }
    if (result == 0)
        mg->root_missing = false;
    txn_end(&txn);
    return result;
}

uint64_t meta_grace_end_ns(const struct meta_group *mg)
{
    uint64_t regained_ns = group_regained_ns(mg->group);
    if (regained_ns == UINT64_MAX)
        return env_now_ns() + META_REOPEN_GRACE_NS;
    return MAX(mg->grace_until_ns, regained_ns ? regained_ns + META_REOPEN_GRACE_NS : 0);
}

int meta_serving(void *context, struct group *group)
{
    struct meta_service *service = context;
    struct meta_group *mg = group_user(group);
    if (mg) /* a new epoch, and no other primary in between: still, begin anew */
        die(mg);
    mg = group_new(service, group);
    mg->grace_until_ns = env_now_ns() + META_REOPEN_GRACE_NS;
    group_set_user(group, mg);
    meta_group_get(mg);
    int result = root_missing(mg);
    if (result >= 0)
        result = end_grace_if_empty(mg);
    if (result >= 0)
        result = each_row(mg, META_TABLE_PREPARED, resume_prepared);
    if (result >= 0)
        result = each_row(mg, META_TABLE_DECIDED, resume_decided);
    if (result >= 0)
        result = each_row(mg, META_TABLE_ORPHAN, resume_orphan);
    if (result >= 0 && mg->root_missing) {
        int made = meta_root_make(mg);
        if (made < 0)
            log_info("meta-root", "group=%u error=%s effect=\"made with the first request\"",
                     mg->id, error_name(made));
    }
    if (result < 0 && !mg->dead) {
        log_error("meta-serving", "group=%u error=%s effect=\"group cannot be served here\"",
                  mg->id, error_name(result));
        die(mg);
    }
    meta_group_put(mg);
    return result < 0 ? result : 0;
}

/* ---- inode numbers ------------------------------------------------------------------------ */

/* Numbers are given once, also after a loss of all memory: objects of a lost file may be left, and
 * must not be those of another. So that they are reserved is on the media before one is given. */
static int reserve_inos(struct meta_group *mg)
{
    struct meta_key key;
    uint64_t limit = META_INO_FIRST, seen_seq = 0, seq;
    key_table_only(&key, mg->id, META_TABLE_ALLOC);
    int result = group_get(mg->group, key_slice(&key), &limit, sizeof limit, &seen_seq);
    if (result < 0 && result != -ENOENT)
        return result;
    uint64_t next = limit + META_INO_RESERVE;
    if (limit < META_INO_FIRST || next >= META_INO_DIR)
        return -ERR_CORRUPT_DISK;
    struct store_batch batch;
    store_batch_init(&batch);
    store_batch_put(&batch, key_slice(&key), slice_of(&next, sizeof next));
    result = meta_append(mg, &batch, &seq);
    store_batch_fini(&batch);
    if (result == 0 && !PLANT(META_INO_UNFLUSHED))
        result = group_flush(mg->group);
    if (result == 0) {
        mg->ino_next = limit;
        mg->ino_limit = next;
    }
    return result;
}

int meta_ino_new(struct meta_group *mg, uint32_t slot, uint64_t *ret_ino)
{
    assert(slot < MAP_META_SLOTS);
    if (mg->ino_next == mg->ino_limit) {
        fiber_mutex_lock(&mg->ino_mutex);
        int result = mg->ino_next == mg->ino_limit ? reserve_inos(mg) : 0;
        fiber_mutex_unlock(&mg->ino_mutex);
        if (result < 0)
            return result;
        assert(mg->ino_next < mg->ino_limit);
    }
    *ret_ino = (uint64_t)slot << META_INO_BITS | mg->ino_next++;
    return 0;
}

uint64_t meta_ino_guess_dir(struct meta_group *mg)
{
    uint64_t number = random_u64(&mg->random);
    uint64_t slot = hash_u64(number) % MAP_META_SLOTS;
    return slot << META_INO_BITS | META_INO_DIR | (number & (META_INO_DIR - 1));
}
