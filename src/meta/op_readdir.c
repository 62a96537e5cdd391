/* SPDX-License-Identifier: MIT */
/* READDIR. Names come in order of their hash; a cookie says from which hash on to continue. Names
 * with equal hashes are told apart by never starting between them: all but the last of such a run
 * have the run's own hash as cookie, so that resuming repeats names rather than skips them. */
#include <sys/stat.h>

#include "meta/op.h"

enum { READDIR_BYTES_MIN = 1024, READDIR_BYTES_MAX = 64 << 10 };

struct listing {
    struct meta_op *op;
    uint32_t bytes_max;
    uint64_t last_hash;
    uint32_t last_at; /* where the last entry begins in the tail */
    uint32_t count;
};

/* Attributes, if they can be had without waiting. */
static bool entry_attr(struct meta_op *op, uint64_t ino, struct wire_attr *ret_attr)
{
    uint32_t group;
    struct meta_key key;
    struct disk_inode row;
    if (!(op->req->flags & META_WANT_ATTR) || meta_group_of_ino(op->service, ino, &group) < 0 ||
        group != op->mg->id)
        return false;
    key_of_ino(&key, group, META_TABLE_INODE, ino);
    if (meta_lock_wait(op->mg, key_slice(&key), false, env_now_ns()) < 0 ||
        group_get(op->mg->group, key_slice(&key), &row, sizeof row, &op->seen_seq) != sizeof row)
        return false;
    meta_attr(ino, &row, ret_attr);
    return true;
}

static struct wire_dirent *last_entry(struct listing *listing)
{
    return (struct wire_dirent *)(void *)(listing->op->tail.data + listing->last_at);
}

/* 1 added, 0 no room, or an error. */
static int add_entry(struct listing *listing, struct slice key, struct slice value)
{
    struct meta_op *op = listing->op;
    struct disk_dentry row;
    struct wire_attr attr;
    struct slice name;
    uint64_t hash;
    if (!key_dentry_parts(key, &hash, &name) || value.bytes != sizeof row)
        return -ERR_CORRUPT_DISK;
    memcpy(&row, value.data, sizeof row);
    struct wire_dirent head = {
        .ino = row.ino,
        .cookie = hash + 1,
        .mode = row.mode,
        .name_bytes = (uint16_t)name.bytes,
    };
    uint8_t name_copy[META_NAME_MAX + 1] = {0};
    memcpy(name_copy, name.data, name.bytes); /* the key is the iterator's */
    uint32_t name_room = (uint32_t)round_up(name.bytes, 8);
    if (op->tail.bytes + sizeof head + name_room + sizeof attr > listing->bytes_max)
        return 0;
    head.attr_bytes = entry_attr(op, row.ino, &attr) ? sizeof attr : 0;
    if (listing->count > 0 && listing->last_hash == hash)
        last_entry(listing)->cookie = hash;
    listing->last_at = op->tail.bytes;
    listing->last_hash = hash;
    listing->count++;
    memcpy(peer_bytes_add(&op->tail, sizeof head), &head, sizeof head);
    memcpy(peer_bytes_add(&op->tail, name_room), name_copy, name_room);
    if (head.attr_bytes)
        memcpy(peer_bytes_add(&op->tail, sizeof attr), &attr, sizeof attr);
    return 1;
}

static int list_names(struct listing *listing, struct group_iter *iter)
{
    struct meta_op *op = listing->op;
    struct meta_key from, end;
    struct slice key, value;
    key_dentry_from(&from, op->mg->id, op->req->ino, op->req->offset);
    key_dentry_from(&end, op->mg->id, op->req->ino, UINT64_MAX);
    group_iter_seek(iter, key_slice(&from));
    op->rep.cookie = op->req->offset;
    for (;;) {
        int result = group_iter_next(iter, key_slice(&end), &key, &value, &op->seen_seq);
        if (result < 0)
            return result;
        if (result == 0) {
            op->rep.eof = 1;
            break;
        }
        result = add_entry(listing, key, value);
        if (result < 0)
            return result;
        if (result == 0)
            break;
    }
    if (listing->count > 0)
        op->rep.cookie = last_entry(listing)->cookie;
    return 0;
}

int op_readdir(struct meta_op *op)
{
    struct disk_inode dir;
    int result = op_inode(op, op->req->ino, &dir); /* waits for names on their way (T6) */
    if (result < 0)
        return result;
    if (!S_ISDIR(dir.mode))
        return -ENOTDIR;
    result = cred_access(&op->cred, &dir, CRED_READ);
    if (result < 0)
        return result;
    uint64_t bytes = MAX(op->req->size, (uint64_t)READDIR_BYTES_MIN);
    struct listing listing = {
        .op = op,
        .bytes_max = (uint32_t)MIN(bytes, (uint64_t)READDIR_BYTES_MAX),
    };
    struct group_iter *iter = group_iter_new(op->mg->group);
    result = list_names(&listing, iter);
    group_iter_free(iter);
    return result;
}
