/* SPDX-License-Identifier: MIT */
/* fsync: the size and times, the data groups written to, the inode's group; all at once. */
#include "client/client_internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"

static int sync_meta(struct client *client, uint64_t ino, uint32_t *ret_group)
{
    struct meta_call meta = {.type = RPC_SYNC, .req.ino = ino};
    int result = meta_call(client, NULL, &meta);
    *ret_group = meta.call.answered_by_group;
    meta_call_fini(&meta);
    return result;
}

int client_sync_inode(struct client *client, uint64_t ino)
{
    uint32_t group;
    uint64_t before = client->changes;
    int result = sync_meta(client, ino, &group);
    if (result < 0 || group > MAP_GROUPS_MAX || client->changed[group].since == 0)
        return result;
    struct client_changed *changed = &client->changed[group];
    uint32_t now = 1 + client_cold_starts(client, group);
    bool lost = changed->since != now;
    /* What was acknowledged meanwhile may not be part of this sync: it is left to the next. */
    changed->since = changed->last > before ? now : 0;
    return lost ? -EIO : 0; /* as for files (memory_lost) */
}

struct sync_group {
    struct gather *gather;
    struct client_inode *inode;
    uint32_t group;
};

static void sync_group_fiber(void *arg)
{
    struct sync_group *sync = arg;
    struct wire_obj_req req = {.session = sync->inode->client->session, .ino = sync->inode->ino};
    struct client_call call = {
        .type = RPC_OBJ_SYNC,
        .route = CLIENT_ROUTE_GROUP,
        .ino = sync->inode->ino,
        .group = sync->group,
        .body = &req,
    };
    int result = client_call(sync->inode->client, &call);
    client_call_fini(&call);
    gather_done(sync->gather, result);
}

/* A group that took a change and has lost its memory since cannot promise that the change is
 * there, although it says that all it knows is durable. */
static bool memory_lost(struct client *client, const struct client_dirty *dirty, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (client_cold_starts(client, dirty[i].group) != dirty[i].cold_starts)
            return true;
    }
    return false;
}

static int sync_groups(struct client_inode *inode, const struct client_dirty *dirty, uint32_t count)
{
    struct sync_group *syncs = mem_alloc((count + 1) * sizeof *syncs);
    struct gather gather;
    gather_init(&gather);
    for (uint32_t i = 0; i < count; i++) {
        if (dirty[i].meta || PLANT(CLIENT_FSYNC_PARTIAL))
            continue; /* the SYNC below */
        gather.pending++;
        syncs[i] = (struct sync_group){&gather, inode, dirty[i].group};
        fiber_spawn("client-sync", sync_group_fiber, &syncs[i]);
    }
    uint32_t group;
    int meta_result = sync_meta(inode->client, inode->ino, &group);
    int result = gather_wait(&gather);
    mem_free(syncs);
    return result < 0 ? result : meta_result;
}

static int sync_inode(struct client_inode *inode)
{
    int result = client_inode_flush(inode);
    if (result < 0)
        return result;
    /* Changes from now on begin a new set: they are not part of this fsync. */
    uint32_t count = inode->dirty_count;
    struct client_dirty *dirty = inode->dirty;
    inode->dirty = NULL;
    inode->dirty_count = 0;
    inode->dirty_room = 0;
    result = sync_groups(inode, dirty, count);
    if (result < 0) { /* the next fsync has to ask again */
        for (uint32_t i = 0; i < count; i++)
            client_inode_dirty(inode, dirty[i].group, dirty[i].meta);
    } else if (memory_lost(inode->client, dirty, count)) {
        log_warn("client-fsync",
                 "ino=%llx why=\"all servers of a group restarted since the last write\" "
                 "effect=\"fsync fails once: what was written since the last one may be lost\"",
                 (unsigned long long)inode->ino);
        result = -EIO;
    }
    mem_free(dirty);
    return result;
}

int client_fsync(struct client_file *file)
{
    struct client_inode *inode = client_inode_get(file->inode);
    int result = sync_inode(inode);
    client_inode_put(inode);
    return result;
}
