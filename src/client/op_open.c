/* SPDX-License-Identifier: MIT */
/* Open files: registered at the inode's primary, so that an unlinked file lives on while open.
 *
 * The registration belongs to our session and is in the memory of one reign of a primary. A new
 * primary does not have it; nor does one that lost the connection to us; nor, perhaps, one that is
 * named again in a newer epoch, for it may have ceased to serve in between (group/configure.c). So
 * in every epoch reassert_one opens the file again. If the inode is gone by then (it was unlinked,
 * and nobody else knew it was open), later calls say so.
 *
 * A new primary waits META_REOPEN_GRACE_NS before it deletes files without a name, so each group is
 * told by fibers of its own (*tellers*), up to GROUP_TELLERS_MAX: one that does not answer holds up
 * nobody else. Only if TELLERS_MAX / GROUP_TELLERS_MAX groups are silent at once, others wait. */
#include "client/client_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

enum { TELLERS_MAX = 256, GROUP_TELLERS_MAX = 4 };

struct teller {
    struct client *client;
    uint32_t group;
};

/* Note with whom the open is registered, and as what. */
static void file_place(struct client_file *file, const struct meta_call *answer)
{
    file->open_id = answer->rep.open_id;
    file->group = answer->call.answered_by_group;
    file->epoch = answer->call.answered_by_epoch;
    file->primary = answer->call.answered_by_node;
    file->lost = false; /* what broke meanwhile was the way to an earlier one */
}

struct client_file *client_file_new(struct client_inode *inode, const struct meta_call *answer)
{
    struct client_file *file = mem_zalloc(sizeof *file);
    file->client = inode->client;
    file->inode = inode;
    file_place(file, answer);
    list_push_back(&file->client->files, &file->link);
    file->client->stats.open_files++;
    inode->files++;
    return file;
}

uint64_t client_file_ino(const struct client_file *file)
{
    return file->inode->ino;
}

bool client_file_only(const struct client_file *file)
{
    return file->inode->files == 1;
}

void client_file_attr(const struct client_file *file, struct wire_attr *ret_attr)
{
    *ret_attr = file->inode->attr;
}

int client_open(struct client *client, const struct client_cred *cred, uint64_t ino,
                struct client_file **ret_file)
{
    struct meta_call meta = {
        .type = RPC_OPEN,
        .req = {.ino = ino, .flags = META_OPEN | META_WANT_DATA},
    };
    uint64_t asked_ns = env_now_ns();
    int result = meta_call(client, cred, &meta);
    const struct wire_attr *attr = &meta.rep.attr;
    if (result == 0 &&
        (!meta.rep.attr_valid || attr->ino != ino || meta.tail.bytes > META_INLINE_MAX))
        result = -ERR_CORRUPT_WIRE;
    if (result < 0) {
        meta_call_fini(&meta);
        return result;
    }
    struct client_inode *inode = client_inode_take(client, ino);
    client_inode_learn(inode, &meta, asked_ns);
    bool newest = inode->attr.change == attr->change;
    if (newest && client_inode_inline(inode) && meta.tail.bytes == attr->size)
        client_inode_inline_put(inode, meta.tail, asked_ns);
    meta_call_fini(&meta);
    *ret_file = client_file_new(inode, &meta);
    return 0;
}

int client_flush(struct client_file *file)
{
    return client_inode_flush(file->inode);
}

int client_release(struct client_file *file)
{
    struct client *client = file->client;
    client_linger_room(client);
    struct client_inode *inode = file->inode;
    int result = client_inode_flush(inode);
    while (file->reasserting) /* it holds the file; it ends, for every call does */
        fiber_sleep(CLIENT_BACKOFF_MIN_NS);
    list_remove(&file->link);
    client->stats.open_files--;
    inode->files--;
    client_closed_add(client, inode->ino, file->open_id);
    mem_free(file);
    client_inode_put(inode);
    return result;
}

static const struct map_group *file_group(const struct client_file *file)
{
    const struct map_group *group = client_inode_home(file->inode);
    assert(group); /* the file was opened by a map */
    return group;
}

static void file_place_by_map(struct client_file *file)
{
    const struct map_group *group = file_group(file);
    file->group = group->id;
    file->epoch = group->epoch;
    file->primary = group->primary;
}

static bool needs_reassert(const struct client_file *file, const struct map_group *group)
{
    if (file->reasserting)
        return false;
    return file->lost ||
           (group->primary && (group->id != file->group || group->epoch != file->epoch));
}

static void reassert_one(struct client_file *file)
{
    assert(!file->reasserting);
    file->reasserting = true;
    file->lost = false;
    struct meta_call meta = {
        .type = RPC_OPEN,
        .req = {.ino = file->inode->ino, .flags = META_OPEN, .open_id = file->open_id},
    };
    int result = meta_call(file->client, NULL, &meta);
    meta_call_fini(&meta);
    if (result == 0)
        file_place(file, &meta);
    else
        file_place_by_map(file); /* not again before the next change */
    if (result < 0)
        log_warn("client-reopen", "ino=%llx error=%s effect=\"open file is not registered\"",
                 (unsigned long long)file->inode->ino, error_name(result));
    file->reasserting = false;
}

/* One walk over the files of one group. The list may change with every call, but who is being
 * reasserted stays in it. */
static void teller_fiber(void *arg)
{
    struct teller *teller = arg;
    struct client *client = teller->client;
    struct client_file *file;
    list_for_each (file, &client->files, link) {
        const struct map_group *group = file_group(file);
        if (group->id == teller->group && needs_reassert(file, group))
            reassert_one(file);
    }
    assert(client->teller_count > 0 && client->group_tellers[teller->group] > 0);
    client->teller_count--;
    client->group_tellers[teller->group]--;
    mem_free(teller);
    waitq_wake_all(&client->lost_wait); /* there may be more by now, and one more place */
}

void client_reassert(struct client *client)
{
    struct client_file *file;
    list_for_each (file, &client->files, link) {
        const struct map_group *group = file_group(file);
        if (client->teller_count == TELLERS_MAX)
            return; /* the next one that ends wakes us */
        if (client->group_tellers[group->id] == GROUP_TELLERS_MAX || !needs_reassert(file, group))
            continue;
        struct teller *teller = mem_alloc(sizeof *teller);
        *teller = (struct teller){client, group->id};
        client->teller_count++;
        client->group_tellers[group->id]++;
        fiber_spawn("client-teller", teller_fiber, teller);
    }
}
