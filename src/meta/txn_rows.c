/* SPDX-License-Identifier: MIT */
/* Inodes and names as structs under lock; written to the batches by the commit. */
#include "meta/txn.h"

#include "base/plant.h"

#include <sys/stat.h>

#include "meta/open.h"

static struct txn_inode *add_inode(struct meta_txn *txn, uint64_t ino, uint32_t group)
{
    assert(txn->inode_count < TXN_INODES_MAX);
    struct txn_inode *inode = &txn->inodes[txn->inode_count++];
    inode->ino = ino;
    inode->group = group;
    inode->dirty = false;
    inode->row = (struct disk_inode){0};
    return inode;
}

int txn_inode(struct meta_txn *txn, uint64_t ino, struct txn_inode **ret_inode)
{
    for (uint32_t i = 0; i < txn->inode_count; i++) {
        if (txn->inodes[i].ino == ino) {
            *ret_inode = &txn->inodes[i];
            return 0;
        }
    }
    uint32_t group;
    int result = meta_group_of_ino(txn->mg->service, ino, &group);
    if (result < 0)
        return result;
    struct meta_key key;
    struct disk_inode row;
    key_of_ino(&key, group, META_TABLE_INODE, ino);
    result = txn_lock_get(txn, key_slice(&key), &row, sizeof row);
    if (result == -ENOENT)
        return -ESTALE;
    if (result < 0)
        return result == -ERANGE ? -ERR_CORRUPT_DISK : result;
    if (result != sizeof row || row.mode == 0)
        return -ERR_CORRUPT_DISK;
    struct txn_inode *inode = add_inode(txn, ino, group);
    inode->row = row;
    *ret_inode = inode;
    return 0;
}

int txn_inode_new(struct meta_txn *txn, uint64_t ino, struct txn_inode **ret_inode)
{
    uint32_t group;
    int result = meta_group_of_ino(txn->mg->service, ino, &group);
    if (result < 0)
        return result;
    if (group != txn->mg->id || (ino & META_INO_DIR)) { /* files' numbers here are never reused */
        struct meta_key key;
        struct disk_inode row;
        key_of_ino(&key, group, META_TABLE_INODE, ino);
        result = txn_lock_get(txn, key_slice(&key), &row, sizeof row);
        if (result != -ENOENT)
            return result < 0 ? result : -EEXIST;
    }
    *ret_inode = add_inode(txn, ino, group);
    return 0;
}

int txn_dentry(struct meta_txn *txn, uint64_t dir, struct slice name,
               struct txn_dentry **ret_dentry)
{
    for (uint32_t i = 0; i < txn->dentry_count; i++) {
        if (txn->dentries[i].dir == dir && slice_equal(txn->dentries[i].name, name)) {
            *ret_dentry = &txn->dentries[i];
            return 0;
        }
    }
    assert(txn->dentry_count < TXN_DENTRIES_MAX);
    uint32_t group;
    int result = meta_group_of_ino(txn->mg->service, dir, &group);
    if (result < 0)
        return result;
    struct txn_dentry *dentry = &txn->dentries[txn->dentry_count];
    key_dentry(&dentry->key, group, dir, name);
    result = txn_lock_get(txn, key_slice(&dentry->key), &dentry->row, sizeof dentry->row);
    if (result == -ENOENT)
        dentry->row = (struct disk_dentry){0};
    else if (result < 0)
        return result == -ERANGE ? -ERR_CORRUPT_DISK : result;
    else if (result != sizeof dentry->row || dentry->row.ino == 0)
        return -ERR_CORRUPT_DISK;
    dentry->dir = dir;
    dentry->name = name;
    txn->dentry_count++;
    *ret_dentry = dentry;
    return 0;
}

void txn_dentry_set(struct meta_txn *txn, struct txn_dentry *dentry, uint64_t ino, uint32_t mode)
{
    assert(ino != 0);
    dentry->row = (struct disk_dentry){.ino = ino, .mode = mode & S_IFMT};
    txn_put(txn, key_slice(&dentry->key), slice_of(&dentry->row, sizeof dentry->row));
}

void txn_dentry_remove(struct meta_txn *txn, struct txn_dentry *dentry)
{
    assert(dentry->row.ino != 0);
    dentry->row = (struct disk_dentry){0};
    txn_del(txn, key_slice(&dentry->key));
}

/* Nobody has it open, and all that belongs to it can go with one record. */
static bool is_simple(const struct meta_txn *txn, const struct txn_inode *inode)
{
    const struct meta_group *mg = txn->mg;
    if (inode->group != mg->id || env_now_ns() < meta_grace_end_ns(mg) ||
        inode->row.xattr_count > 0 || (meta_open_any(mg, inode->ino) && !PLANT(META_OPEN_DELETED)))
        return false;
    return !S_ISREG(inode->row.mode) || (inode->row.flags & ATTR_INLINE);
}

void txn_inode_drop(struct meta_txn *txn, struct txn_inode *inode)
{
    struct meta_key key;
    inode->row.nlink = 0;
    if (is_simple(txn, inode)) {
        key_of_ino(&key, inode->group, META_TABLE_INODE, inode->ino);
        txn_del(txn, key_slice(&key));
        if (inode->row.size > 0 && !S_ISDIR(inode->row.mode)) {
            key_of_ino(&key, inode->group, META_TABLE_INLINE, inode->ino);
            txn_del(txn, key_slice(&key));
        }
        inode->dirty = false;
        return;
    }
    inode->dirty = true;
    key_of_ino(&key, inode->group, META_TABLE_ORPHAN, inode->ino);
    txn_put(txn, key_slice(&key), slice_of(&inode->row.ctime_ns, sizeof inode->row.ctime_ns));
    if (inode->group == txn->mg->id) {
        assert(txn->orphan_count < TXN_ORPHANS_MAX);
        txn->orphans[txn->orphan_count++] = inode->ino;
    }
}

bool txn_empty(const struct meta_txn *txn)
{
    for (uint32_t i = 0; i < txn->inode_count; i++) {
        if (txn->inodes[i].dirty)
            return false;
    }
    for (uint32_t i = 0; i < txn->part_count; i++) {
        if (txn->parts[i].batch.count > 0)
            return false;
    }
    return txn->batch.count == 0;
}
