/* SPDX-License-Identifier: MIT */
/* The reaper: a few fibers per group while there is something that they can delete.
 *
 * An ORPHAN row is written with the change that takes the last name; it names the work that is
 * left: data objects, extended attributes, inline data, the inode. The row goes with the inode, in
 * one record, after the data: whatever dies in between is done again. After a change of primary,
 * or if this one was cut off, nothing is deleted until clients have had time to say what they have
 * open.
 *
 * The data are in other groups. If all nodes die, theirs may keep the deletion while ours loses the
 * ORPHAN row, and the name is back: so the row is durable before the data go. One flush serves all
 * orphans that there were when it was asked for. */
#include "meta/reaper.h"

#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"
#include "data/data.h"
#include "meta/open.h"
#include "meta/txn.h"

enum { REAPERS_MAX = 4 };
#define REAP_RETRY_NS (2 * NS_PER_S)

struct meta_orphan {
    struct list link;
    uint64_t ino;
    uint64_t number;        /* of mg->orphans_noted */
    uint64_t not_before_ns; /* after a failure */
    bool taken;             /* a fiber is at it */
};

static int delete_xattrs(struct meta_txn *txn, const struct txn_inode *inode)
{
    struct group_iter *iter = group_iter_new(txn->mg->group);
    struct meta_key from, end;
    struct slice key, value;
    int result;
    key_of_ino(&from, inode->group, META_TABLE_XATTR, inode->ino);
    key_of_ino(&end, inode->group, META_TABLE_XATTR, inode->ino + 1);
    group_iter_seek(iter, key_slice(&from));
    while ((result = group_iter_next(iter, key_slice(&end), &key, &value, &txn->seen_seq)) > 0)
        txn_del(txn, key);
    group_iter_free(iter);
    return result;
}

static int delete_rows(struct meta_txn *txn, struct txn_inode *inode)
{
    static const enum meta_table tables[] = {META_TABLE_INLINE, META_TABLE_INODE,
                                             META_TABLE_ORPHAN};
    int result = inode->row.xattr_count > 0 ? delete_xattrs(txn, inode) : 0;
    if (result < 0)
        return result;
    for (uint32_t i = 0; i < ARRAY_COUNT(tables); i++) {
        struct meta_key key;
        key_of_ino(&key, inode->group, tables[i], inode->ino);
        txn_del(txn, key_slice(&key));
    }
    inode->dirty = false;
    return txn_commit(txn);
}

static int make_durable(struct meta_group *mg, const struct meta_orphan *orphan)
{
    if (orphan->number <= mg->orphans_durable)
        return 0;
    uint64_t covers = mg->orphans_noted;
    int result = group_flush(mg->group);
    if (result == 0)
        mg->orphans_durable = MAX(mg->orphans_durable, covers);
    return result;
}

static int delete_data(struct meta_group *mg, const struct meta_orphan *orphan,
                       const struct txn_inode *inode)
{
    const struct meta_service *service = mg->service;
    if (!S_ISREG(inode->row.mode) || (inode->row.flags & ATTR_INLINE))
        return 0;
    int result = make_durable(mg, orphan);
    if (result < 0)
        return result;
    const struct data_truncation truncation = {
        .ino = inode->ino,
        .size = MAX(inode->row.size, (uint64_t)META_INLINE_MAX),
    };
    return data_truncate_file(service->rpc, service->map, &truncation,
                              env_now_ns() + META_DATA_PATIENCE_NS);
}

/* 0: it is gone, or is no orphan. */
static int reap(struct meta_group *mg, const struct meta_orphan *orphan)
{
    uint64_t ino = orphan->ino;
    struct meta_txn txn;
    struct txn_inode *inode;
    txn_begin(&txn, mg, env_now_ns() + META_OP_PATIENCE_NS);
    int result = txn_inode(&txn, ino, &inode);
    if (result == -ESTALE || (result == 0 && inode->row.nlink > 0)) {
        struct meta_key key;
        key_of_ino(&key, mg->id, META_TABLE_ORPHAN, ino);
        txn_del(&txn, key_slice(&key));
        result = txn_commit(&txn);
    } else if (result == 0) {
        result = delete_data(mg, orphan, inode);
        if (result == 0)
            result = delete_rows(&txn, inode);
    }
    txn_end(&txn);
    return result;
}

static struct meta_orphan *next_due(struct meta_group *mg, uint64_t now_ns, uint64_t *ret_wait_ns)
{
    struct meta_orphan *orphan;
    *ret_wait_ns = 0;
    list_for_each (orphan, &mg->orphans, link) {
        if (orphan->taken || (meta_open_any(mg, orphan->ino) && !PLANT(META_OPEN_DELETED)))
            continue;
        if (orphan->not_before_ns <= now_ns)
            return orphan;
        uint64_t wait_ns = orphan->not_before_ns - now_ns;
        *ret_wait_ns = *ret_wait_ns ? MIN(*ret_wait_ns, wait_ns) : wait_ns;
    }
    return NULL;
}

static void reap_one(struct meta_group *mg, struct meta_orphan *orphan)
{
    orphan->taken = true;
    int result = store_reserve(group_store(mg->group), 0, true);
    if (result == 0)
        result = reap(mg, orphan);
    if (mg->dead)
        return; /* the list has been freed */
    list_remove(&orphan->link);
    orphan->taken = false;
    if (result == 0) {
        mem_free(orphan);
        return;
    }
    log_info("meta-reap", "ino=%llx error=%s effect=\"tried again later\"",
             (unsigned long long)orphan->ino, error_name(result));
    orphan->not_before_ns = env_now_ns() + REAP_RETRY_NS;
    list_push_back(&mg->orphans, &orphan->link);
}

static void reaper_fiber(void *arg)
{
    struct meta_group *mg = arg;
    while (!mg->dead) {
        uint64_t now_ns = env_now_ns(), wait_ns = 0;
        struct meta_orphan *orphan = NULL;
        uint64_t grace_end_ns = meta_grace_end_ns(mg);
        if (now_ns < grace_end_ns)
            wait_ns = grace_end_ns - now_ns;
        else
            orphan = next_due(mg, now_ns, &wait_ns);
        if (orphan)
            reap_one(mg, orphan);
        else if (wait_ns > 0 && mg->reapers == 1)
            fiber_sleep(wait_ns);
        else
            break; /* nothing to do, or another one waits */
    }
    mg->reapers--;
    meta_group_put(mg);
}

void meta_reaper_kick(struct meta_group *mg)
{
    if (mg->reapers == REAPERS_MAX || mg->dead || list_empty(&mg->orphans))
        return;
    mg->reapers++;
    meta_group_get(mg);
    fiber_spawn("meta-reaper", reaper_fiber, mg);
}

void meta_reaper_add(struct meta_group *mg, uint64_t ino)
{
    if (mg->dead)
        return;
    struct meta_orphan *orphan = mem_zalloc(sizeof *orphan);
    orphan->ino = ino;
    orphan->number = ++mg->orphans_noted;
    list_push_back(&mg->orphans, &orphan->link);
    meta_reaper_kick(mg);
}

void meta_reaper_forget(struct meta_group *mg)
{
    struct list *link;
    assert(mg->dead);
    while ((link = list_pop_front(&mg->orphans)))
        mem_free(list_entry(link, struct meta_orphan, link));
}
