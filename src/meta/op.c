/* SPDX-License-Identifier: MIT */
/* The way of a request through the service (picture in meta.c). */
#include "meta/op.h"

#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "meta/open.h"
#include "meta/reaper.h"
#include "meta/replay.h"

enum { RETRY_PAUSE_MIN_US = 200, RETRY_PAUSE_MAX_US = 50000 };

/* ---- decoding ----------------------------------------------------------------------------- */

static int check_name(struct slice name)
{
    if (name.bytes > META_NAME_MAX)
        return -ENAMETOOLONG;
    if (name.bytes == 0)
        return -ENOENT;
    const char *text = name.data;
    if (memchr(text, '/', name.bytes) || memchr(text, 0, name.bytes))
        return -EINVAL;
    if (text[0] == '.' && (name.bytes == 1 || (name.bytes == 2 && text[1] == '.')))
        return -EINVAL;
    return 0;
}

static int check_xattr_name(struct slice name)
{
    if (name.bytes == 0 || name.bytes > META_XATTR_NAME_MAX)
        return -ERANGE;
    return memchr(name.data, 0, name.bytes) ? -EINVAL : 0;
}

static int decode(struct meta_op *op, const struct meta_verb *verb, struct slice tail)
{
    const struct wire_meta_req *req = op->req;
    struct reader reader;
    reader_init(&reader, tail.data, tail.bytes);
    op->name = slice_of(reader_take(&reader, req->name_bytes), req->name_bytes);
    op->name2 = slice_of(reader_take(&reader, req->name2_bytes), req->name2_bytes);
    op->value = slice_of(reader_take(&reader, req->value_bytes), req->value_bytes);
    if (!reader_ok(&reader) || req->group_count > META_GROUPS_MAX)
        return -ERR_CORRUPT_WIRE;
    op->cred.uid = req->uid;
    op->cred.gid = req->gid;
    op->cred.checked = req->flags & META_CRED_CHECKED;
    op->cred.group_count = req->group_count;
    reader_copy(&reader, op->cred.groups, req->group_count * sizeof op->cred.groups[0]);
    if (!reader_ok(&reader) || req->ino == 0)
        return -ERR_CORRUPT_WIRE;
    if (verb->change && (req->slot >= META_SLOTS_PER_SESSION || req->slot_seq == 0))
        return -ERR_CORRUPT_WIRE;
    int result = 0;
    if (verb->flags & VERB_NAME)
        result = check_name(op->name);
    if (result == 0 && (verb->flags & VERB_NAME2))
        result = check_name(op->name2);
    if (verb->flags & VERB_XATTR)
        result = check_xattr_name(op->name);
    return result;
}

/* ---- for verbs ---------------------------------------------------------------------------- */

int op_get(struct meta_op *op, struct slice key, void *value, uint32_t capacity)
{
    int result = meta_lock_wait(op->mg, key, false, op->deadline_ns); /* T6 */
    return result < 0 ? result : group_get(op->mg->group, key, value, capacity, &op->seen_seq);
}

int op_inode(struct meta_op *op, uint64_t ino, struct disk_inode *ret_row)
{
    struct meta_key key;
    key_of_ino(&key, op->mg->id, META_TABLE_INODE, ino);
    int result = op_get(op, key_slice(&key), ret_row, sizeof *ret_row);
    if (result == -ENOENT)
        return -ESTALE;
    if (result == -ERANGE || (result >= 0 && result != sizeof *ret_row))
        return -ERR_CORRUPT_DISK;
    return result < 0 ? result : 0;
}

void meta_attr(uint64_t ino, const struct disk_inode *row, struct wire_attr *ret_attr)
{
    bool is_inline = (row->flags & ATTR_INLINE) || S_ISLNK(row->mode);
    *ret_attr = (struct wire_attr){
        .ino = ino,
        .size = S_ISDIR(row->mode) ? DISK_BLOCK_BYTES : row->size,
        .blocks = is_inline ? div_up(row->size, 512) : div_up(row->size, 4096) * 8,
        .atime_ns = row->atime_ns,
        .mtime_ns = row->mtime_ns,
        .ctime_ns = row->ctime_ns,
        .btime_ns = row->btime_ns,
        .change = row->change,
        .mode = row->mode,
        .nlink = row->nlink,
        .uid = row->uid,
        .gid = row->gid,
        .rdev = row->rdev,
        .flags = row->flags,
    };
}

void op_reply_attr(struct meta_op *op, uint64_t ino, const struct disk_inode *row)
{
    assert(row->mode != 0);
    meta_attr(ino, row, &op->rep.attr);
    op->rep.attr_valid = 1;
}

/* ---- serving ------------------------------------------------------------------------------ */

/* What happened the first time, with today's attributes if the inode is here. */
static int reply_again(struct meta_op *op, const struct disk_request *done)
{
    struct disk_inode row;
    uint32_t group;
    if (!done->attr_valid)
        return 0;
    op->rep.attr = done->attr;
    op->rep.attr_valid = 1;
    uint64_t ino = done->attr.ino;
    if (meta_group_of_ino(op->service, ino, &group) == 0 && group == op->mg->id) {
        if (op->req->flags & META_OPEN)
            op->rep.open_id = op_register_open(op, ino);
        bool place = op->req->flags & META_APPEND; /* the size says where: that of then counts */
        if (!place && op_inode(op, ino, &row) == 0)
            op_reply_attr(op, ino, &row);
    }
    return 0;
}

static void put_request_row(struct meta_op *op, const struct meta_verb *verb, struct meta_txn *txn)
{
    struct disk_request row = {
        .slot_seq = op->req->slot_seq,
        .type = verb->type,
        .attr_valid = op->rep.attr_valid,
        .attr = op->rep.attr,
    };
    struct meta_key key;
    key_request(&key, op->mg->id, op->req->session, op->req->slot);
    txn_put(txn, key_slice(&key), slice_of(&row, sizeof row));
}

/* Take back what an attempt that came to nothing left in memory and in the reply. */
static void undo_attempt(struct meta_op *op)
{
    if (op->rep.open_id && !op->mg->dead)
        meta_open_remove(op->mg, op->req->session, op->rep.attr.ino, op->rep.open_id);
    op->rep = (struct wire_meta_rep){0};
    op->tail.bytes = 0;
}

static int attempt(struct meta_op *op, const struct meta_verb *verb)
{
    struct meta_txn txn;
    op->now_ns = (int64_t)env_wall_ns();
    txn_begin(&txn, op->mg, op->deadline_ns);
    int result = verb->change(op, &txn);
    if (result == 0 && !txn_empty(&txn)) {
        put_request_row(op, verb, &txn);
        result = txn_commit(&txn);
    }
    op->seen_seq = MAX(op->seen_seq, txn.seen_seq);
    if (result == 0) {
        for (uint32_t i = 0; i < txn.orphan_count; i++)
            meta_reaper_add(op->mg, txn.orphans[i]);
    } else {
        undo_attempt(op);
    }
    txn_end(&txn);
    return result;
}

/* Run the verb until it was not aborted; longer and longer pauses tell rivals apart. */
static int change(struct meta_op *op, const struct meta_verb *verb)
{
    uint64_t pause_us = RETRY_PAUSE_MIN_US;
    for (;;) {
        int result = attempt(op, verb);
        if (result != -ERR_TXN_ABORTED)
            return result;
        if (op->mg->dead)
            return -ERR_NOT_PRIMARY;
        if (env_now_ns() >= op->deadline_ns)
            return -ERR_BUSY;
        fiber_sleep((pause_us / 2 + random_below(&op->mg->random, pause_us)) * NS_PER_US);
        pause_us = MIN(2 * pause_us, (uint64_t)RETRY_PAUSE_MAX_US);
    }
}

static int change_once(struct meta_op *op, const struct meta_verb *verb)
{
    struct meta_replay *replay;
    struct disk_request done;
    int result = meta_replay_begin(op->mg, op->req, op->deadline_ns, &op->seen_seq, &done, &replay);
    if (result < 0)
        return result;
    if (result == 1) {
        result = done.type == verb->type ? reply_again(op, &done) : -ERR_CORRUPT_WIRE;
        int waited = meta_wait(op->mg, op->seen_seq);
        return waited < 0 ? waited : result;
    }
    bool freeing = verb->flags & VERB_FREEING;
    result = store_reserve(group_store(op->mg->group), 0, freeing);
    if (result == 0 && !freeing)
        result = group_wait_space(op->mg->group, false);
    if (result == 0)
        result = change(op, verb);
    int waited = meta_wait(op->mg, op->seen_seq); /* M4: failures, too */
    meta_replay_end(replay);
    if (waited < 0 && result == 0)
        undo_attempt(op);
    return waited < 0 ? waited : result;
}

static int read_verb(struct meta_op *op, const struct meta_verb *verb)
{
    op->now_ns = (int64_t)env_wall_ns();
    int result = verb->read(op);
    int waited = meta_wait(op->mg, op->seen_seq); /* M4; it is an answer only if we still serve */
    return waited < 0 ? waited : result;
}

/* Is the inode's group the one that was addressed? */
static int check_place(const struct meta_op *op, const struct meta_verb *verb)
{
    uint32_t group;
    if (verb->flags & VERB_ANY_INO)
        return 0;
    int result = meta_group_of_ino(op->service, op->req->ino, &group);
    if (result < 0)
        return result;
    return group == op->mg->id ? 0 : -ERR_STALE_MAP;
}

static int run(struct meta_op *op, const struct meta_verb *verb)
{
    int result = check_place(op, verb);
    if (result < 0)
        return result;
    if (rpc_session_connected(op->request))
        meta_session_touch(op->service, op->req->session);
    if (op->mg->root_missing) {
        result = meta_root_make(op->mg);
        if (result < 0)
            return result;
    }
    return verb->change ? change_once(op, verb) : read_verb(op, verb);
}

void meta_serve(struct meta_service *service, const struct meta_verb *verb,
                struct rpc_request *request)
{
    struct meta_op op = {
        .service = service,
        .req = request->body,
        .request = request,
        .deadline_ns = env_now_ns() + META_OP_PATIENCE_NS,
    };
    int result = meta_find_serving(service, request->header->group, request->header->epoch,
                                   verb->change != NULL, &op.mg);
    if (result == 0) {
        result = decode(&op, verb, request->tail);
        if (result == 0)
            result = run(&op, verb);
        meta_group_put(op.mg);
    }
    if (result < 0) {
        rpc_reply_status(request, result);
    } else {
        op.rep.tail_bytes = op.tail.bytes;
        rpc_reply(request, 0, &op.rep, slice_of(op.tail.data, op.tail.bytes),
                  (struct buf_slice){0});
    }
    peer_bytes_fini(&op.tail);
}
