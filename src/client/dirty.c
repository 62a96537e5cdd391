/* SPDX-License-Identifier: MIT */
/* What an fsync has to cover, also after the file was closed.
 *
 * Problem. fsync answers for everything that this mount changed in the inode: what it wrote to the
 * file, through whichever open, or which names it made and removed in the directory. Servers flush
 * by themselves within 100 ms; but all members of a group may die before they did. Time proves
 * nothing, for the map tells of deaths late, and of disks that hang never.
 *
 * Way. A change that a group acknowledged is noted with the inode: a *dirty row* per group, with
 * the number of the newest change there, and in which life of the group's memory (the map's
 * cold_starts) the oldest was made. A flush that was asked for after a change had been
 * acknowledged, and that the group answers in the same life, makes it durable. In a later life it
 * may be lost.
 *
 *   open  --last put, dirty-->  lingering  --all groups have flushed-->  forgotten
 *                                   |       --a group has lost its memory-->  lost
 *   An open, or whoever holds a reference, takes the inode out of both lists.
 *
 * Nobody fsyncs most files. So each second the groups that lingering inodes wait for are asked for
 * a flush, each once for all inodes; a lost inode waits for an fsync, which fails.
 *
 * Invariants.
 * D1. An acknowledged change is in the dirty rows of its inode until a flush has made it durable,
 *     or an fsync has failed.
 * D2. An fsync answers 0 only if each group that was dirty when it began has flushed since, in the
 *     life of its oldest change. It takes no row away before: another fsync beside it asks, too.
 * D3. A loss is told once: by -EIO from an fsync. An fsync that fails for any other reason has
 *     told as well that nothing before it is certain; its rows stay, without their life.
 * D4. An inode lingers or is lost only while nobody has a reference.
 *
 * Failures. A group does not answer: its inodes linger, and it is asked again. The client dies:
 * nobody is left to be told.
 *
 * Limits. CLIENT_LINGERING_MAX inodes wait for flushes; then closes and changes wait
 * (client_linger_room). CLIENT_LOST_MAX are remembered as lost, then the oldest are not, and the
 * log says so. Both together are some tens of MiB. A false EIO is possible where memory was lost:
 * an open file remembers its changes until an fsync, though they are flushed by then. */
#include "client/dirty.h"
#include "client/client_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

enum { CLIENT_LINGERING_MAX = 65536, CLIENT_LOST_MAX = 65536 };
#define CLIENT_LINGER_NS NS_PER_S
#define LIFE_TOLD        UINT32_MAX /* a client_dirty.life: whatever was lost has been told */

uint32_t client_cold_starts(struct client *client, uint32_t group)
{
    struct map_view *view = map_client_view(client->map);
    const struct map_group *row = view ? map_view_group(view, group) : NULL;
    return row ? row->cold_starts : 0;
}

/* ---- rows --------------------------------------------------------------------------------- */

static struct client_dirty *row_of(struct client_inode *inode, uint32_t group)
{
    for (uint32_t i = 0; i < inode->dirty_count; i++) {
        if (inode->dirty[i].group == group)
            return &inode->dirty[i];
    }
    return NULL;
}

static void row_drop(struct client_inode *inode, struct client_dirty *row)
{
    assert(inode->dirty_count > 0);
    *row = inode->dirty[--inode->dirty_count];
}

void client_dirty_note(struct client_inode *inode, const struct client_call *call)
{
    uint32_t group = call->answered_by_group;
    struct client_dirty *row = row_of(inode, group);
    if (!row) {
        if (inode->dirty_count == inode->dirty_room) {
            inode->dirty_room = MAX(inode->dirty_room * 2, 2u);
            assert(inode->dirty_room <= 2 * MAP_GROUPS_MAX);
            inode->dirty = mem_realloc(inode->dirty, inode->dirty_room * sizeof inode->dirty[0]);
        }
        row = &inode->dirty[inode->dirty_count++];
        *row = (struct client_dirty){.group = group, .life = LIFE_TOLD};
    }
    if (row->life == LIFE_TOLD)
        row->life = call->cold_starts;
    row->last = ++inode->client->changes;
}

bool client_dirty_flushed(struct client_inode *inode, uint32_t group, uint64_t covers,
                          uint32_t cold_starts)
{
    struct client_dirty *row = row_of(inode, group);
    if (!row)
        return false;
    bool lost = row->life < cold_starts;
    if (row->last <= covers)
        row_drop(inode, row);
    else if (lost)
        row->life = cold_starts;
    return lost;
}

void client_dirty_told(struct client_inode *inode, uint64_t covers)
{
    for (uint32_t i = 0; i < inode->dirty_count; i++) {
        if (inode->dirty[i].last <= covers)
            inode->dirty[i].life = LIFE_TOLD; /* D3 */
    }
}

/* ---- closed inodes -------------------------------------------------------------------------- */

void client_linger(struct client_inode *inode)
{
    struct client *client = inode->client;
    assert(inode->refs == 0 && inode->dirty_count > 0 && list_empty(&inode->linger_link)); /* D4 */
    client_inode_inline_drop(inode);
    list_push_back(&client->lingering, &inode->linger_link);
    client->lingering_count++;
    waitq_wake_all(&client->linger_wait);
}

void client_linger_end(struct client_inode *inode)
{
    struct client *client = inode->client;
    if (list_empty(&inode->linger_link))
        return;
    list_remove(&inode->linger_link);
    if (inode->lost)
        client->lost_count--;
    else
        client->lingering_count--;
    inode->lost = false;
}

void client_linger_room(struct client *client)
{
    while (client->lingering_count >= CLIENT_LINGERING_MAX)
        (void)waitq_wait(&client->linger_room, 0); /* the groups are asked until they answer */
}

struct flush {
    struct client *client;
    uint32_t group;
};

static void flush_fiber(void *arg)
{
    struct flush *flush = arg;
    struct client *client = flush->client;
    struct client_flushed *flushed = &client->flushed[flush->group];
    uint64_t covers = client->changes;
    uint32_t cold_starts;
    if (client_sync_group(client, flush->group, &cold_starts) >= 0) {
        flushed->covers = covers;
        flushed->cold_starts = cold_starts;
    }
    flushed->asking = false;
    mem_free(flush);
}

static void ask(struct client *client, uint32_t group)
{
    if (client->flushed[group].asking)
        return;
    client->flushed[group].asking = true;
    struct flush *flush = mem_alloc(sizeof *flush);
    *flush = (struct flush){client, group};
    fiber_spawn("client-flush", flush_fiber, flush);
}

/* Drop the rows that are durable, ask for the others. True: some are not, and never will be. */
static bool settle(struct client_inode *inode)
{
    struct client *client = inode->client;
    bool lost = false;
    for (uint32_t i = inode->dirty_count; i > 0; i--) {
        struct client_dirty *row = &inode->dirty[i - 1];
        const struct client_flushed *flushed = &client->flushed[row->group];
        if (row->last <= flushed->covers && row->life >= flushed->cold_starts)
            row_drop(inode, row);
        else if (row->life < client_cold_starts(client, row->group))
            lost = true;
        else
            ask(client, row->group);
    }
    return lost;
}

static void lose(struct client_inode *inode)
{
    client_linger_end(inode);
    inode->lost = true;
    list_push_back(&inode->client->lost, &inode->linger_link);
    inode->client->lost_count++;
}

/* Some more have been lost: remember no more than what is allowed. */
static void report_lost(struct client *client, uint32_t lost)
{
    uint32_t forgotten = 0;
    for (; client->lost_count > CLIENT_LOST_MAX; forgotten++)
        client_inode_free(list_first(&client->lost, struct client_inode, linger_link));
    log_warn("client-lost",
             "files=%u forgotten=%u why=\"all servers of a group restarted before they had flushed "
             "what was written\" effect=\"the next fsync of each fails, but of those forgotten\"",
             lost, forgotten);
}

static void settle_all(struct client *client)
{
    struct client_inode *inode, *after;
    uint32_t lost = 0;
    list_for_each_safe (inode, after, &client->lingering, linger_link) {
        if (settle(inode)) {
            lose(inode);
            lost++;
        } else if (inode->dirty_count == 0) {
            client_inode_free(inode);
        }
    }
    if (lost)
        report_lost(client, lost);
    waitq_wake_all(&client->linger_room);
}

void client_linger_fiber(void *arg)
{
    struct client *client = arg;
    for (;;) {
        while (list_empty(&client->lingering))
            (void)waitq_wait(&client->linger_wait, 0); /* until something is closed */
        fiber_sleep(CLIENT_LINGER_NS);
        settle_all(client);
    }
}
