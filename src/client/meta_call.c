/* SPDX-License-Identifier: MIT */
/* Metadata requests: packing of names, slots for exactly-once, validation of replies. */
#include "client/client_internal.h"

#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"

static bool attr_plausible(const struct wire_attr *attr)
{
    return attr->ino != 0 && attr->size <= META_FILE_SIZE_MAX && (attr->mode & S_IFMT) != 0 &&
           (!(attr->flags & ATTR_INLINE) || attr->size <= META_INLINE_MAX || !S_ISREG(attr->mode));
}

enum { TAIL_MAX = 2 * META_NAME_MAX + META_XATTR_VALUE_MAX + META_GROUPS_MAX * 4 };

static bool is_mutating(enum rpc_type type)
{
    static const uint8_t mutating[RPC_TYPE_MAX + 1] = {
        [RPC_SETATTR] = 1, [RPC_TRUNCATE] = 1,     [RPC_CREATE] = 1,   [RPC_MKNOD] = 1,
        [RPC_MKDIR] = 1,   [RPC_SYMLINK] = 1,      [RPC_LINK] = 1,     [RPC_UNLINK] = 1,
        [RPC_RMDIR] = 1,   [RPC_RENAME] = 1,       [RPC_SETXATTR] = 1, [RPC_REMOVEXATTR] = 1,
        [RPC_GROW] = 1,    [RPC_INLINE_WRITE] = 1,
    };
    assert((uint32_t)type <= RPC_TYPE_MAX);
    return mutating[type];
}

int name_check(struct slice name)
{
    if (name.bytes > META_NAME_MAX)
        return -ENAMETOOLONG;
    if (name.bytes == 0 || memchr(name.data, '/', name.bytes) || memchr(name.data, 0, name.bytes))
        return -EINVAL;
    return 0;
}

static uint32_t pack_tail(struct meta_call *meta, const struct client_cred *cred, uint8_t *room)
{
    struct writer writer;
    writer_init(&writer, room, TAIL_MAX);
    writer_put(&writer, meta->name.data, meta->name.bytes);
    writer_put(&writer, meta->name2.data, meta->name2.bytes);
    writer_put(&writer, meta->value.data, meta->value.bytes);
    meta->req.name_bytes = (uint16_t)meta->name.bytes;
    meta->req.name2_bytes = (uint16_t)meta->name2.bytes;
    meta->req.value_bytes = (uint16_t)meta->value.bytes;
    if (!cred || cred->checked) {
        meta->req.flags |= META_CRED_CHECKED;
    } else {
        meta->req.group_count = (uint16_t)MIN(cred->group_count, (uint32_t)META_GROUPS_MAX);
        writer_put(&writer, cred->groups, meta->req.group_count * sizeof(uint32_t));
    }
    if (cred) {
        meta->req.uid = cred->uid;
        meta->req.gid = cred->gid;
    }
    assert(writer_ok(&writer)); /* the verbs check their arguments */
    return (uint32_t)writer_bytes(&writer);
}

static int unpack_reply(struct meta_call *meta)
{
    struct slice tail;
    if (!rpc_reply_body(&meta->call.rpc, &meta->rep, sizeof meta->rep, &tail) ||
        meta->rep.tail_bytes > tail.bytes)
        return -ERR_CORRUPT_WIRE;
    meta->tail = slice_of(tail.data, meta->rep.tail_bytes);
    return 0;
}

static void note_change(struct client *client, uint64_t ino, const struct client_call *call)
{
    struct client_inode *inode = client_inode_take(client, ino);
    client_dirty_note(inode, call);
    client_inode_put(inode);
}

/* A change was acknowledged, for an fsync of each inode that it concerns to cover: the one that the
 * request names first (of names: their directory), the other one, and one that was made. */
static void note_changes(struct client *client, const struct meta_call *meta, bool answered)
{
    const struct wire_attr *attr = &meta->rep.attr;
    note_change(client, meta->req.ino, &meta->call);
    if (meta->req.ino2 && meta->req.ino2 != meta->req.ino)
        note_change(client, meta->req.ino2, &meta->call);
    if (answered && meta->rep.attr_valid && attr_plausible(attr) && attr->ino != meta->req.ino)
        note_change(client, attr->ino, &meta->call);
}

/* A change went out: the directories that it named are as the answer says, or not known. */
static void learn_dirs(struct client *client, const struct meta_call *meta, bool answered,
                       uint64_t asked_ns)
{
    const struct wire_attr *attr = &meta->rep.dir_attr;
    client_dir_forget(client, meta->req.ino);
    if (meta->req.ino2)
        client_dir_forget(client, meta->req.ino2);
    if (answered && meta->rep.dir_attr_valid && attr->ino == meta->req.ino &&
        attr_plausible(attr) && S_ISDIR(attr->mode))
        client_dir_learn(client, attr, asked_ns);
}

int meta_call(struct client *client, const struct client_cred *cred, struct meta_call *meta)
{
    uint64_t asked_ns = env_now_ns();
    uint8_t room[TAIL_MAX];
    uint32_t tail_bytes = pack_tail(meta, cred, room);
    struct client_slot *slot = NULL;
    meta->req.session = client->session;
    if ((meta->req.flags & META_OPEN) && !meta->req.open_id)
        meta->req.open_id = ++client->open_ids;
    if (is_mutating(meta->type)) {
        client_linger_room(client);
        slot = slot_take(&client->meta_slots);
        meta->req.slot = (uint32_t)slot->index;
        meta->req.slot_seq = slot->seq;
    }
    meta->call = (struct client_call){
        .type = meta->type,
        .route = CLIENT_ROUTE_INO,
        .ino = meta->req.ino,
        .body = &meta->req,
        .tail = slice_of(room, tail_bytes),
        .retry_flags = &meta->req.flags,
        .retry_flag = META_RETRY,
        .deadline_ns = meta->deadline_ns,
    };
    int result = client_call(client, &meta->call);
    bool acknowledged = result >= 0;
    if (acknowledged)
        result = unpack_reply(meta);
    if (slot) {
        if (acknowledged)
            note_changes(client, meta, result == 0);
        slot_give(&client->meta_slots, slot);
        learn_dirs(client, meta, result == 0, asked_ns);
    }
    return result;
}

void meta_call_fini(struct meta_call *meta)
{
    client_call_fini(&meta->call);
}

int meta_call_attr(struct client *client, const struct client_cred *cred, struct meta_call *meta,
                   struct wire_attr *ret_attr)
{
    uint64_t asked_ns = env_now_ns();
    int result = meta_call(client, cred, meta);
    if (result == 0 && (!meta->rep.attr_valid || !attr_plausible(&meta->rep.attr)))
        result = -ERR_CORRUPT_WIRE;
    if (result == 0) {
        client_learn(client, meta, asked_ns);
        *ret_attr = meta->rep.attr;
    }
    meta_call_fini(meta);
    return result;
}

int meta_call_plain(struct client *client, const struct client_cred *cred, struct meta_call *meta)
{
    int result = meta_call(client, cred, meta);
    meta_call_fini(meta);
    return result;
}
