/* SPDX-License-Identifier: MIT */
/* Offline check: transactions that were under way, and paths for people.
 *
 * A share that is PREPARED is committed if the coordinator's group has the DECIDED row, undone
 * otherwise (T4 of txn.c): what the cluster would do when it runs is done here to the stores in
 * memory. One share at a time, because a change of rows ends the walk over them. */
#include <stdio.h>

#include "base/assert.h"
#include "base/mem.h"
#include "meta/fsck_internal.h"

/* One PREPARED row. */
struct share {
    struct meta_key key;
    uint32_t changes_bytes;
    uint8_t changes[STORE_VALUE_MAX];
    bool found;
};

static void take_first(void *context, struct slice key, struct slice value)
{
    struct share *share = context;
    if (share->found || key.bytes != META_KEY_PREFIX + 16 || value.bytes > sizeof share->changes)
        return;
    share->found = true;
    share->key.bytes = key.bytes;
    memcpy(share->key.data, key.data, key.bytes);
    share->changes_bytes = value.bytes;
    memcpy(share->changes, value.data, value.bytes);
}

static bool is_decided(struct fsck *fsck, const struct wire_txn_id *txn)
{
    struct store *store = fsck_store(fsck, txn->group);
    struct meta_key key;
    uint8_t value[STORE_VALUE_MAX];
    key_txn(&key, txn->group, META_TABLE_DECIDED, txn);
    return store && store_get(store, key_slice(&key), value, sizeof value) >= 0;
}

static void settle_share(struct fsck *fsck, uint32_t group, const struct share *share)
{
    struct wire_txn_id txn;
    struct store_batch batch;
    key_txn_id(key_slice(&share->key), &txn);
    bool decided = is_decided(fsck, &txn);
    store_batch_init(&batch);
    if (decided &&
        store_batch_append_bytes(&batch, slice_of(share->changes, share->changes_bytes)) < 0)
        fsck_tell(fsck, FSCK_ROW, "group %u: changes of a prepared transaction", group);
    store_batch_del(&batch, key_slice(&share->key));
    (void)store_commit(fsck_store(fsck, group), &batch);
    store_batch_fini(&batch);
    fsck->counts.prepared++;
    fsck_tell(fsck, FSCK_DOUBT, "group %u: transaction %u.%u.%llx, %s", group, txn.group, txn.epoch,
              (unsigned long long)txn.number,
              decided ? "decided: to be completed" : "not decided: to be undone");
}

void meta_fsck_settle(struct fsck *fsck)
{
    struct share *share = mem_alloc(sizeof *share);
    const struct meta_fsck_rows rows = {take_first, share};
    for (uint32_t i = 0; i < fsck->view->header->group_count; i++) {
        const struct map_group *group = &fsck->view->groups[i];
        if (group->kind != MAP_GROUP_META)
            continue;
        for (share->found = true; share->found;) {
            share->found = false;
            meta_fsck_rows(fsck, group->id, META_TABLE_PREPARED, META_TABLE_PREPARED, &rows);
            if (share->found)
                settle_share(fsck, group->id, share);
        }
    }
    mem_free(share);
}

/* ---- paths ----------------------------------------------------------------------------------- */

enum { PATH_DEPTH_MAX = 64 };

int meta_fsck_inode(struct fsck *fsck, uint64_t ino, struct disk_inode *ret_row)
{
    uint32_t group = map_view_of_ino(fsck->view, ino)->id;
    struct store *store = fsck_store(fsck, group);
    struct meta_key key;
    if (!store)
        return -ENOENT;
    key_of_ino(&key, group, META_TABLE_INODE, ino);
    int bytes = store_get(store, key_slice(&key), ret_row, sizeof *ret_row);
    if (bytes < 0)
        return bytes;
    return bytes == sizeof *ret_row ? 0 : -ERR_CORRUPT_DISK;
}

/* The name of ino in dir, and its length; 0: it has none there. */
static uint32_t name_in(struct fsck *fsck, uint64_t dir, uint64_t ino, uint8_t *ret_name)
{
    uint32_t group = map_view_of_ino(fsck->view, dir)->id;
    struct store *store = fsck_store(fsck, group);
    struct meta_key from, end;
    struct slice key, value, name;
    uint64_t hash;
    uint32_t bytes = 0;
    if (!store)
        return 0;
    key_dentry_from(&from, group, dir, 0);
    key_dentry_from(&end, group, dir, UINT64_MAX);
    struct store_iter *iter = store_iter_new(store);
    store_iter_seek(iter, key_slice(&from));
    while (bytes == 0 && store_iter_next(iter, key_slice(&end), &key, &value) > 0) {
        struct disk_dentry row;
        if (value.bytes != sizeof row || !key_dentry_parts(key, &hash, &name))
            continue;
        memcpy(&row, value.data, sizeof row);
        if (row.ino == ino) {
            bytes = name.bytes;
            memcpy(ret_name, name.data, bytes);
        }
    }
    store_iter_free(iter);
    return bytes;
}

void meta_fsck_path(struct fsck *fsck, uint64_t ino, char *text, uint32_t bytes)
{
    uint8_t name[META_NAME_MAX];
    struct disk_inode row;
    uint32_t at = bytes;
    assert(bytes > 64);
    text[--at] = 0;
    for (uint32_t depth = 0; ino != CFS_ROOT_INO && depth < PATH_DEPTH_MAX; depth++) {
        uint32_t length;
        if (meta_fsck_inode(fsck, ino, &row) < 0 ||
            (length = name_in(fsck, row.parent, ino, name)) == 0 || at < length + 8)
            break;
        at -= length;
        memcpy(text + at, name, length);
        text[--at] = '/';
        ino = row.parent;
    }
    if (at == bytes - 1) { /* the root itself, or nothing is known */
        (void)snprintf(text, bytes, "%s", ino == CFS_ROOT_INO ? "/" : "");
        return;
    }
    const char *head = ino == CFS_ROOT_INO ? "" : "...";
    size_t head_bytes = strlen(head);
    memmove(text + head_bytes, text + at, bytes - at);
    memcpy(text, head, head_bytes);
}
