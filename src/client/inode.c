/* SPDX-License-Identifier: MIT */
/* What the client knows of inodes that it has open or has changed (theory in client.c).
 *
 * An entry lives while it has references, and for longer if there is a modification time to be sent
 * or if there are changes that an fsync through a later open would have to cover (dirty.c). */
#include "client/client_internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"

struct client_inode *client_inode_find(struct client *client, uint64_t ino)
{
    struct htable_node *node;
    for (node = htable_first(&client->inodes, hash_u64(ino)); node; node = htable_next(node)) {
        struct client_inode *inode = container_of(node, struct client_inode, node);
        if (inode->ino == ino)
            return inode;
    }
    return NULL;
}

struct client_inode *client_inode_take(struct client *client, uint64_t ino)
{
    struct client_inode *inode = client_inode_find(client, ino);
    if (!inode) {
        inode = mem_zalloc(sizeof *inode);
        inode->client = client;
        inode->ino = ino;
        fiber_mutex_init(&inode->meta_lock);
        list_init(&inode->lazy_link);
        list_init(&inode->linger_link);
        htable_insert(&client->inodes, &inode->node, hash_u64(ino));
    }
    return client_inode_get(inode);
}

struct client_inode *client_inode_get(struct client_inode *inode)
{
    client_linger_end(inode);
    inode->refs++;
    return inode;
}

void client_inode_free(struct client_inode *inode)
{
    assert(inode->refs == 0 && !inode->mtime_lazy_ns);
    client_linger_end(inode);
    list_remove(&inode->lazy_link);
    htable_remove(&inode->client->inodes, &inode->node);
    mem_free(inode->inline_data);
    mem_free(inode->dirty);
    mem_free(inode);
}

void client_inode_put(struct client_inode *inode)
{
    assert(inode->refs > 0);
    if (--inode->refs > 0)
        return;
    if (inode->mtime_lazy_ns)
        return; /* the lazy fiber will come by, and put it again */
    if (inode->dirty_count)
        client_linger(inode);
    else
        client_inode_free(inode);
}

const struct map_group *client_inode_home(const struct client_inode *inode)
{
    const struct map_view *view = map_client_view(inode->client->map);
    return view ? map_view_of_ino(view, inode->ino) : NULL;
}

/* How often the inode's group had lost its memory when the call was answered. */
static uint32_t life_of(const struct client_inode *inode, const struct client_call *call)
{
    const struct map_group *home = client_inode_home(inode);
    bool by_another = home && home->id != call->answered_by_group;
    return by_another ? home->cold_starts : call->cold_starts;
}

void client_inode_learn(struct client_inode *inode, const struct meta_call *meta, uint64_t asked_ns)
{
    const struct wire_attr *attr = &meta->rep.attr;
    uint32_t life = life_of(inode, &meta->call);
    assert(attr->ino == inode->ino);
    if (life < inode->attr_life || (life == inode->attr_life && attr->change < inode->attr.change))
        return; /* an answer that was overtaken */
    bool changed = life != inode->attr_life || attr->change != inode->inline_change;
    if (inode->inline_data && changed && !PLANT(CLIENT_INLINE_STALE))
        client_inode_inline_drop(inode);
    inode->attr = *attr;
    inode->attr_life = life;
    inode->attr_at_ns = MAX(inode->attr_at_ns, asked_ns);
}

void client_learn(struct client *client, const struct meta_call *meta, uint64_t asked_ns)
{
    struct client_inode *inode = client_inode_find(client, meta->rep.attr.ino);
    if (inode)
        client_inode_learn(inode, meta, asked_ns);
}

bool client_inode_outlived(const struct client_inode *inode)
{
    const struct map_group *home = client_inode_home(inode);
    return home && home->cold_starts > inode->attr_life;
}

bool client_inode_fresh(const struct client_inode *inode)
{
    return !client_inode_outlived(inode) &&
           env_now_ns() < inode->attr_at_ns + inode->client->options.attr_ttl_ns;
}

int client_inode_refresh(struct client_inode *inode)
{
    struct wire_attr attr;
    return client_getattr_plain(inode->client, NULL, inode->ino, &attr);
}

void client_inode_lazy_mtime(struct client_inode *inode, int64_t mtime_ns)
{
    assert(mtime_ns > 0);
    inode->mtime_lazy_ns = MAX(inode->mtime_lazy_ns, mtime_ns);
    if (!list_empty(&inode->lazy_link))
        return; /* the lazy fiber will come by */
    inode->lazy_due_ns = env_now_ns() + CLIENT_LAZY_NS;
    list_push_back(&inode->client->lazy, &inode->lazy_link);
    waitq_wake_all(&inode->client->lazy_wait);
}

static int grow(struct client_inode *inode, uint64_t size, uint64_t change, int64_t mtime_ns)
{
    struct meta_call meta = {
        .type = RPC_GROW,
        .req = {.ino = inode->ino, .size = size, .change = change, .mtime_ns = mtime_ns},
    };
    struct wire_attr attr;
    return meta_call_attr(inode->client, NULL, &meta, &attr);
}

int client_inode_flush(struct client_inode *inode)
{
    if (!inode->mtime_lazy_ns)
        return 0;
    fiber_mutex_lock(&inode->meta_lock);
    int64_t mtime_ns = inode->mtime_lazy_ns;
    inode->mtime_lazy_ns = 0;
    int result = mtime_ns ? grow(inode, 0, 0, mtime_ns) : 0;
    fiber_mutex_unlock(&inode->meta_lock);
    return result;
}

int client_inode_grow(struct client_inode *inode, uint64_t size, uint64_t change)
{
    inode->mtime_lazy_ns = 0; /* the request carries a newer one */
    return grow(inode, size, change, (int64_t)env_wall_ns());
}

void client_inode_inline_drop(struct client_inode *inode)
{
    mem_free(inode->inline_data);
    inode->inline_data = NULL;
    inode->inline_bytes = 0;
}

void client_inode_inline_put(struct client_inode *inode, struct slice data, uint64_t asked_ns)
{
    assert(data.bytes <= META_INLINE_MAX);
    if (!inode->inline_data)
        inode->inline_data = mem_alloc(META_INLINE_MAX);
    if (data.bytes)
        memcpy(inode->inline_data, data.data, data.bytes);
    inode->inline_bytes = data.bytes;
    inode->inline_change = inode->attr.change;
    inode->inline_at_ns = asked_ns;
}

/* The inode's time has come: send what is due. */
static void lazy_visit(struct client_inode *inode)
{
    client_inode_get(inode);
    int result = client_inode_flush(inode);
    if (result < 0 && result != -ENOENT && result != -ESTALE)
        log_warn("client-mtime", "ino=%llx error=%s effect=\"modification time not updated\"",
                 (unsigned long long)inode->ino, error_name(result));
    client_inode_put(inode);
}

void client_lazy_fiber(void *arg)
{
    struct client *client = arg;
    for (;;) {
        if (list_empty(&client->lazy)) {
            (void)waitq_wait(&client->lazy_wait, 0);
            continue;
        }
        struct client_inode *inode = list_first(&client->lazy, struct client_inode, lazy_link);
        if (env_now_ns() < inode->lazy_due_ns) {
            fiber_sleep_until(inode->lazy_due_ns);
            continue; /* the first may be another one by now */
        }
        list_remove(&inode->lazy_link);
        lazy_visit(inode);
    }
}
