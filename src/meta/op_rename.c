/* SPDX-License-Identifier: MIT */
/* RENAME: one name becomes another, in the same or another directory, replacing what is there, or
 * two names are exchanged.
 *
 * A directory that gets another parent must not end up below itself. All such moves in the cluster
 * are serialized by one lock (a key in the root's group that is never written), so the chain of
 * parents above the target directory stays what it is while it is walked (without locks: nothing
 * else changes parents, and readers wait for moves that are decided but not finished). */
#include <sys/stat.h>

#include "meta/op.h"

#include "base/plant.h"

enum { DEPTH_MAX = 65536 };

struct rename {
    struct meta_op *op;
    struct meta_txn *txn;
    struct txn_dentry *from;
    struct txn_dentry *to;
    struct txn_inode *from_dir;
    struct txn_inode *to_dir;
    struct txn_inode *moved;  /* under from */
    struct txn_inode *target; /* under to, or NULL */
    bool exchange;
};

static int lock_names(struct rename *rename)
{
    const struct meta_op *op = rename->op;
    uint64_t dir = op->req->ino, dir2 = op->req->ino2;
    bool in_order = dir < dir2 || (dir == dir2 && slice_compare(op->name, op->name2) <= 0);
    int result = 0;
    if (in_order)
        result = txn_dentry(rename->txn, dir, op->name, &rename->from);
    if (result == 0)
        result = txn_dentry(rename->txn, dir2, op->name2, &rename->to);
    if (result == 0 && !in_order)
        result = txn_dentry(rename->txn, dir, op->name, &rename->from);
    return result;
}

/* Directories and inodes, in the order of their numbers. */
static int lock_inodes(struct rename *rename)
{
    uint64_t inos[] = {rename->from->dir, rename->to->dir, rename->from->row.ino,
                       rename->to->row.ino};
    struct txn_inode *inode;
    for (uint32_t i = 1; i < ARRAY_COUNT(inos); i++) {
        for (uint32_t j = i; j > 0 && inos[j] < inos[j - 1]; j--) {
            uint64_t swap = inos[j];
            inos[j] = inos[j - 1];
            inos[j - 1] = swap;
        }
    }
    for (uint32_t i = 0; i < ARRAY_COUNT(inos); i++) {
        int result = inos[i] ? txn_inode(rename->txn, inos[i], &inode) : 0;
        if (result < 0)
            return result;
    }
    int result = op_lock_dir(rename->op, rename->txn, rename->from->dir, &rename->from_dir);
    if (result == 0)
        result = op_lock_dir(rename->op, rename->txn, rename->to->dir, &rename->to_dir);
    if (result == 0)
        result = txn_inode(rename->txn, rename->from->row.ino, &rename->moved);
    if (result == 0 && rename->to->row.ino)
        result = txn_inode(rename->txn, rename->to->row.ino, &rename->target);
    return result;
}

/* What is above a live directory is alive: if ino is not, the directory asked about was removed. */
static int read_parent(struct rename *rename, uint64_t ino, uint64_t *ret_parent)
{
    struct meta_group *mg = rename->op->mg;
    const struct wire_txn_id nobody = {0};
    struct disk_inode row;
    struct meta_key key;
    uint32_t group;
    int result = meta_group_of_ino(mg->service, ino, &group);
    if (result < 0)
        return result;
    key_of_ino(&key, group, META_TABLE_INODE, ino);
    if (group == mg->id) {
        result = meta_lock_wait(mg, key_slice(&key), false, env_now_ns() + META_LOCK_PATIENCE_NS);
        if (result == 0)
            result = txn_get(rename->txn, key_slice(&key), &row, sizeof row);
    } else {
        result = peer_lock_get(mg->service, &nobody, key_slice(&key), &row, sizeof row);
    }
    if (result == -ERR_BUSY)
        return -ERR_TXN_ABORTED;
    if (result == -ENOENT)
        return -ESTALE;
    if (result < 0)
        return result;
    if (result != sizeof row || row.parent == 0)
        return -ERR_CORRUPT_DISK;
    if (!S_ISDIR(row.mode))
        return -ENOTDIR;
    if (row.nlink == 0 && !PLANT(META_REMOVED_BELOW)) /* its parent is where it once was */
        return -ENOENT;
    *ret_parent = row.parent;
    return 0;
}

/* Is ino the directory itself or above it? Then -EINVAL. */
static int check_above(struct rename *rename, uint64_t dir, uint64_t ino)
{
    for (uint32_t depth = 0; depth < DEPTH_MAX; depth++) {
        if (dir == ino && !PLANT(META_RENAME_UNCHECKED))
            return -EINVAL;
        if (dir == CFS_ROOT_INO)
            return 0;
        int result = read_parent(rename, dir, &dir);
        if (result < 0)
            return result;
    }
    return -ERR_CORRUPT_DISK;
}

/* Directories that change their parent. */
static int check_tree(struct rename *rename)
{
    const struct txn_dentry *from = rename->from, *to = rename->to;
    bool to_moves = rename->exchange && S_ISDIR(to->row.mode);
    if (from->dir == to->dir || !(S_ISDIR(from->row.mode) || to_moves))
        return 0;
    struct meta_key key;
    uint32_t group;
    uint8_t nothing;
    int result = meta_group_of_ino(rename->op->service, CFS_ROOT_INO, &group);
    if (result < 0)
        return result;
    key_table_only(&key, group, META_TABLE_RENAME);
    result = txn_lock_get(rename->txn, key_slice(&key), &nothing, sizeof nothing);
    if (result != -ENOENT)
        return result < 0 ? result : -ERR_CORRUPT_DISK;
    result = S_ISDIR(from->row.mode) ? check_above(rename, to->dir, from->row.ino) : 0;
    if (result == 0 && to_moves)
        result = check_above(rename, from->dir, to->row.ino);
    return result;
}

static int check_rights(const struct rename *rename)
{
    const struct meta_cred *cred = &rename->op->cred;
    bool other_dir = rename->from_dir != rename->to_dir;
    int result = cred_delete(cred, &rename->from_dir->row, &rename->moved->row);
    if (result == 0 && rename->target)
        result = cred_delete(cred, &rename->to_dir->row, &rename->target->row);
    if (result == 0 && other_dir && S_ISDIR(rename->moved->row.mode)) /* its ".." changes */
        result = cred_access(cred, &rename->moved->row, CRED_WRITE);
    if (result == 0 && other_dir && rename->exchange && S_ISDIR(rename->target->row.mode))
        result = cred_access(cred, &rename->target->row, CRED_WRITE);
    return result;
}

static int check_target(const struct rename *rename)
{
    if (!rename->target || rename->exchange)
        return 0;
    bool is_dir = S_ISDIR(rename->moved->row.mode);
    if (S_ISDIR(rename->target->row.mode)) {
        if (!is_dir)
            return -EISDIR;
        return rename->target->row.entries > 0 ? -ENOTEMPTY : 0;
    }
    return is_dir ? -ENOTDIR : 0;
}

static int is_dir(const struct txn_inode *inode)
{
    return inode && S_ISDIR(inode->row.mode) ? 1 : 0;
}

static void touch_dirs(struct rename *rename)
{
    struct meta_op *op = rename->op;
    int from_names = rename->exchange ? 0 : -1;
    int to_names = rename->target ? 0 : 1;
    int moved = is_dir(rename->moved), target = is_dir(rename->target);
    int from_subdirs = rename->exchange ? target - moved : -moved;
    int to_subdirs = moved - target;
    if (rename->from_dir == rename->to_dir) {
        op_touch_dir(op, rename->to_dir, from_names + to_names, from_subdirs + to_subdirs);
        return;
    }
    op_touch_dir(op, rename->from_dir, from_names, from_subdirs);
    op_touch_dir(op, rename->to_dir, to_names, to_subdirs);
}

static void apply(struct rename *rename)
{
    struct meta_op *op = rename->op;
    struct disk_dentry from = rename->from->row, to = rename->to->row;
    touch_dirs(rename);
    txn_dentry_set(rename->txn, rename->to, from.ino, from.mode);
    rename->moved->row.parent = rename->to->dir;
    op_touch(op, rename->moved);
    if (rename->exchange) {
        txn_dentry_set(rename->txn, rename->from, to.ino, to.mode);
        rename->target->row.parent = rename->from->dir;
        op_touch(op, rename->target);
        return;
    }
    txn_dentry_remove(rename->txn, rename->from);
    if (!rename->target)
        return;
    op_touch(op, rename->target);
    if (!S_ISDIR(rename->target->row.mode) && --rename->target->row.nlink > 0)
        return;
    txn_inode_drop(rename->txn, rename->target);
}

int op_rename(struct meta_op *op, struct meta_txn *txn)
{
    uint32_t flags = op->req->flags & (META_RENAME_NOREPLACE | META_RENAME_EXCHANGE);
    struct rename rename = {
        .op = op,
        .txn = txn,
        .exchange = flags == META_RENAME_EXCHANGE,
    };
    if (op->req->ino2 == 0)
        return -ERR_CORRUPT_WIRE;
    if (flags == (META_RENAME_NOREPLACE | META_RENAME_EXCHANGE))
        return -EINVAL;
    int result = lock_names(&rename);
    if (result < 0)
        return result;
    if (rename.from->row.ino == 0 || (rename.exchange && rename.to->row.ino == 0)) {
        result = op_lock_dir(op, txn, op->req->ino, &rename.from_dir);
        return result < 0 && result != -EACCES ? result : -ENOENT;
    }
    if ((flags & META_RENAME_NOREPLACE) && rename.to->row.ino != 0)
        return -EEXIST;
    result = check_tree(&rename);
    if (result == 0)
        result = lock_inodes(&rename);
    if (result == 0)
        result = check_rights(&rename);
    if (result < 0)
        return result;
    if (rename.moved == rename.target)
        return 0; /* two names of one file, or one name: nothing happens */
    result = check_target(&rename);
    if (result < 0)
        return result;
    if (rename.target && rename.target->row.nlink == 0)
        return -ERR_CORRUPT_DISK;
    apply(&rename);
    return 0;
}
