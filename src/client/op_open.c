/* SPDX-License-Identifier: MIT */
/* Open files: registered at the inode's primary, so that an unlinked file lives on while open.
 *
 * The registration belongs to our session. A primary that takes over, or one that lost the
 * connection to us, may not have it: reassert_one opens the file again there. If the inode is
 * gone by then (it was unlinked, and nobody else knew it was open), later calls say so. */
#include "client/client_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

/* Note with whom the open is registered, and as what. */
static void file_place(struct client_file *file, const struct meta_call *answer)
{
    file->open_id = answer->rep.open_id;
    file->group = answer->call.answered_by_group;
    file->primary = answer->call.answered_by_node;
    file->incarnation = answer->call.answered_by_incarnation;
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
    struct client_inode *inode = client_inode_take(client, attr);
    client_inode_learn(inode, attr, asked_ns);
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

static void file_place_by_map(struct client_file *file)
{
    const struct map_view *view = map_client_view(file->client->map);
    const struct map_group *group = view ? map_view_of_ino(view, file->inode->ino) : NULL;
    const struct map_node *node = group ? map_view_node(view, group->primary) : NULL;
    if (!node)
        return; /* nobody there: the next map will say */
    file->group = group->id;
    file->primary = node->id;
    file->incarnation = node->incarnation;
}

static bool needs_reassert(const struct client_file *file)
{
    if (file->reasserting)
        return false;
    if (file->lost)
        return true;
    const struct map_view *view = map_client_view(file->client->map);
    const struct map_group *group = view ? map_view_of_ino(view, file->inode->ino) : NULL;
    const struct map_node *node = group ? map_view_node(view, group->primary) : NULL;
    return node && (group->id != file->group || node->id != file->primary ||
                    node->incarnation != file->incarnation);
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

void client_reassert(struct client *client)
{
    /* The list may change with every call, but who is being reasserted stays in it. What is added
     * behind has been told to the newest primary; what a newer map or a lost connection makes of
     * those in front is for the next round. Each settles files or a newer change, so it ends. */
    for (bool again = true; again;) {
        struct client_file *file;
        again = false;
        list_for_each (file, &client->files, link) {
            if (!needs_reassert(file))
                continue;
            reassert_one(file);
            again = true;
        }
    }
}
