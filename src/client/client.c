/* SPDX-License-Identifier: MIT */
/* libclaudefs core.
 *
 * Problem. Programs want POSIX calls that end; the cluster offers requests to primaries that move,
 * die and lose replies. In between: find the right primary, repeat without doing twice, cut files
 * into objects, check every byte, and know as little as possible so that little can be stale.
 *
 * Picture.
 *   op_<verb>.c   one file per verb or tight family
 *     meta_call.c   names packed, slot for exactly-once, reply validated
 *     data_io.c     pieces of objects in parallel, CRC per block      split.c  the arithmetic
 *       call.c        route by map, send, judge, wait, repeat until io_timeout
 *   release.c     closed files, told to the servers together
 *   inode.c       what is known of inodes, open or changed: attributes, inline bytes, lazy mtime
 *   dirty.c       what an fsync has to cover, also of closed ones
 *   four fibers: map (a new map wakes stuck calls), lazy (late mtimes), reassert (open files),
 *   linger (flushes for closed ones)
 *
 * Invariants.
 * I1. A mutating request keeps its (slot, slot_seq) through all repetitions, whoever answers; the
 *     slot is used by nobody else meanwhile; the sequence grows by one per request. Writes and
 *     punches of objects have slots of their own; one whose request was given up is not used again.
 * I2. A verb ends by io_timeout (unless hard) with an answer, or -EIO; transport errors and
 *     retry classes never reach the caller.
 * I3. Attributes never go back: an answer with an older change number is dropped. (Unless their
 *     group lost its memory since, and the change.)
 * I4. Bytes are returned only after their block's checksum matched, and only below the size that
 *     is believed; a size is believed for attr_ttl.
 * I5. No object write is sent for a file that is believed inline: GROW moved it out before.
 * I6. A write beyond the believed size, or by a belief older than attr_ttl, is acknowledged only
 *     once GROW is; so no acknowledged byte lies behind the end of the file (unless another client
 *     truncated it within attr_ttl and the object's primary changed since).
 * I7. A lazy modification time carries no size, so it cannot undo another client's truncate; it is
 *     sent before our own truncate, setattr, fsync, flush and release.
 * I8. All parts of a write come before another client's truncate, or all after it; and each part
 *     happens once. Parts carry the change number that was known when they were sent, and whoever
 *     knows of a later truncate refuses them (data/cut.c, meta/op_truncate.c). Then what is known
 *     decides (op_write.c): the new size was accepted, or a part was and has been cut since? So the
 *     truncate came later: of the rest, what lies below the end of the file is written, and the
 *     size stays. Else the truncate came first: what was accepted is there, the rest follows.
 *     Left over: a part that was cut while another, beyond what the truncate knew of, was not, is
 *     written again; so is one whose group has another primary since, which cannot say.
 *
 * Failures. Primary dies: refused connection -> suspect reported -> new map -> attempts still in
 * the air are abandoned and repeated (call.c). Reply lost: repeated with a flag. Open files are
 * registered again with the new primary, or with the same one after a lost connection or in a new
 * epoch. The client dies: servers drop its session; nothing of it is on disk here.
 *
 * Limits. 256 changes of metadata and 256 of objects at once (more wait); CLIENT_IO_MAX per read or
 * write.
 *
 * Not here. Caches coherent by leases, path permission checks (server or kernel), page cache. */
#include "client/client_internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

static void map_fiber(void *arg)
{
    struct client *client = arg;
    uint64_t version = 0;
    for (;;) {
        int result = map_client_wait_newer(client->map, version, 0);
        const struct map_view *view = map_client_view(client->map);
        if (result < 0 || !view || view->header->version <= version) {
            fiber_sleep(CLIENT_BACKOFF_MAX_NS);
            continue;
        }
        version = view->header->version;
        rpc_set_map_version(client->rpc, version);
        client_flights_wake(client);
        waitq_wake_all(&client->lost_wait);
    }
}

/* The node's connection broke: it may have dropped our open files. */
static void files_lost(struct client *client, const struct net_addr *addr)
{
    const struct map_view *view = map_client_view(client->map);
    struct client_file *file;
    list_for_each (file, &client->files, link) {
        const struct map_node *node = view ? map_view_node(view, file->primary) : NULL;
        struct net_addr node_addr;
        if (!node)
            continue;
        map_node_addr(node, &node_addr);
        if (memcmp(&node_addr, addr, sizeof *addr) == 0)
            file->lost = true;
    }
}

static void peer_lost(void *context, const struct net_addr *addr, uint32_t node, int error)
{
    struct client *client = context;
    files_lost(client, addr);
    waitq_wake_all(&client->lost_wait);
}

static void reassert_fiber(void *arg)
{
    struct client *client = arg;
    for (;;) {
        (void)waitq_wait(&client->lost_wait, 0); /* woken by a new map or a lost connection */
        client_reassert(client);
    }
}

struct client *client_new(struct rpc *rpc, struct map_client *map,
                          const struct client_options *options)
{
    struct client *client = mem_zalloc(sizeof *client);
    client->rpc = rpc;
    client->map = map;
    client->options = *options;
    if (!client->options.io_timeout_ns)
        client->options.io_timeout_ns = CLIENT_IO_TIMEOUT_NS;
    client->session = rpc_identity(rpc)->session;
    assert(client->session != 0);
    slots_init(&client->meta_slots);
    slots_init(&client->data_slots);
    list_init(&client->flights);
    list_init(&client->free_flights);
    htable_init(&client->inodes);
    list_init(&client->lazy);
    waitq_init(&client->lazy_wait);
    list_init(&client->lingering);
    list_init(&client->lost);
    waitq_init(&client->linger_wait);
    waitq_init(&client->linger_room);
    list_init(&client->files);
    client_closed_init(client);
    waitq_init(&client->lost_wait);
    client->zeroes = buf_new(DATA_IO_MAX);
    memset(client->zeroes->data, 0, DATA_IO_MAX);
    rpc_on_peer_lost(rpc, peer_lost, client);
    fiber_spawn("client-map", map_fiber, client);
    fiber_spawn("client-lazy", client_lazy_fiber, client);
    fiber_spawn("client-linger", client_linger_fiber, client);
    fiber_spawn("client-reassert", reassert_fiber, client);
    return client;
}

static struct client_inode *lazy_find(struct client *client)
{
    struct client_inode *inode;
    list_for_each (inode, &client->lazy, lazy_link) {
        if (inode->mtime_lazy_ns)
            return inode;
    }
    return NULL;
}

struct flush_all {
    struct client *client;
    struct waitq wait;
    uint32_t refs;
    bool done;
};

static void flush_all_put(struct flush_all *flush)
{
    assert(flush->refs > 0);
    if (--flush->refs == 0)
        mem_free(flush);
}

static void flush_all_fiber(void *arg)
{
    struct flush_all *flush = arg;
    struct client_inode *inode;
    while ((inode = lazy_find(flush->client)) != NULL) { /* each round clears one, even in vain */
        client_inode_get(inode);
        if (client_inode_flush(inode) < 0)
            log_warn("client-mtime", "ino=%llx effect=\"modification time not updated\"",
                     (unsigned long long)inode->ino);
        client_inode_put(inode);
    }
    flush->done = true;
    waitq_wake_all(&flush->wait);
    flush_all_put(flush);
}

void client_flush_all(struct client *client)
{
    uint64_t deadline_ns = env_now_ns() + CLIENT_END_NS;
    if (lazy_find(client)) {
        struct flush_all *flush = mem_zalloc(sizeof *flush);
        flush->client = client;
        flush->refs = 2; /* ours and the fiber's: it may outlive our patience */
        waitq_init(&flush->wait);
        fiber_spawn("client-flush", flush_all_fiber, flush);
        while (!flush->done && env_now_ns() < deadline_ns)
            (void)waitq_wait(&flush->wait, deadline_ns);
        flush_all_put(flush);
    }
    client_closed_drain(client, deadline_ns);
}

void client_stats(const struct client *client, struct client_stats *ret_stats)
{
    *ret_stats = client->stats;
}
