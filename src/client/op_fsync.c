/* SPDX-License-Identifier: MIT */
/* fsync: the size and times, the data groups written to, the inode's group; all at once. */
#include "client/client_internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"

static int sync_meta(struct client *client, uint64_t ino, uint32_t *ret_group,
                     uint32_t *ret_cold_starts)
{
    struct meta_call meta = {.type = RPC_SYNC, .req.ino = ino};
    int result = meta_call(client, NULL, &meta);
    *ret_group = meta.call.answered_by_group;
    *ret_cold_starts = meta.call.cold_starts;
    meta_call_fini(&meta);
    return result;
}

int client_sync_group(struct client *client, uint32_t group, uint32_t *ret_cold_starts)
{
    struct wire_obj_req req = {.session = client->session};
    struct client_call call = {
        .type = RPC_OBJ_SYNC,
        .route = CLIENT_ROUTE_GROUP,
        .group = group,
        .body = &req,
    };
    int result = client_call(client, &call);
    if (result >= 0)
        *ret_cold_starts = call.cold_starts;
    client_call_fini(&call);
    return result;
}

struct sync_group {
    struct gather *gather;
    struct client *client;
    uint32_t group;
    uint32_t cold_starts; /* when it answered */
};

static void sync_group_fiber(void *arg)
{
    struct sync_group *sync = arg;
    int result = PLANT(CLIENT_FSYNC_PARTIAL)
                     ? 0
                     : client_sync_group(sync->client, sync->group, &sync->cold_starts);
    gather_done(sync->gather, result < 0 ? result : 0);
}

/* Ask the groups of the dirty rows and the inode's own; syncs: room for all of them. */
static int ask_groups(struct client_inode *inode, struct sync_group *syncs, uint32_t *ret_count)
{
    struct gather gather;
    uint32_t count = 0;
    gather_init(&gather);
    const struct map_group *home = client_inode_home(inode);
    uint32_t home_id = home ? home->id : 0;
    for (uint32_t i = 0; i < inode->dirty_count; i++) {
        const struct client_dirty *dirty = &inode->dirty[i];
        if (dirty->group == home_id)
            continue; /* the SYNC below */
        gather.pending++;
        syncs[count] = (struct sync_group){&gather, inode->client, dirty->group, dirty->life};
        fiber_spawn("client-sync", sync_group_fiber, &syncs[count++]);
    }
    struct sync_group *own = &syncs[count++];
    int own_result = sync_meta(inode->client, inode->ino, &own->group, &own->cold_starts);
    int result = gather_wait(&gather);
    *ret_count = count;
    return result < 0 ? result : own_result;
}

static int sync_groups(struct client_inode *inode)
{
    uint64_t covers = inode->client->changes;
    struct sync_group *syncs = mem_alloc((inode->dirty_count + 1) * sizeof *syncs);
    uint32_t count;
    bool lost = false;
    int result = ask_groups(inode, syncs, &count);
    for (uint32_t i = 0; result == 0 && i < count; i++)
        lost |= client_dirty_flushed(inode, syncs[i].group, covers, syncs[i].cold_starts);
    mem_free(syncs);
    if (!lost)
        return result;
    log_warn("client-fsync",
             "ino=%llx why=\"all servers of a group restarted since the last write\" "
             "effect=\"fsync fails once: what was written since the last one may be lost\"",
             (unsigned long long)inode->ino);
    return -EIO;
}

int client_sync_inode(struct client *client, uint64_t ino)
{
    struct client_inode *inode = client_inode_take(client, ino);
    uint64_t began = client->changes;
    int result = client_inode_flush(inode);
    if (result == 0)
        result = sync_groups(inode);
    if (result < 0)
        client_dirty_told(inode, began);
    client_inode_put(inode);
    return result;
}

int client_fsync(struct client_file *file)
{
    return client_sync_inode(file->client, file->inode->ino);
}
