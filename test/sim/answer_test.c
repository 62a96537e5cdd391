/* SPDX-License-Identifier: MIT */
/* Goal: what was made and not answered is answered as made when it is asked again, also if the
 * disk has become full since; and a primary whose lease ran out while it was reading gives no
 * answer. Method: requests as a client sends them, each sent once. Virtual time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "cluster.h"
#include "format/wire_meta.h"
#include "net/rpc.h"

enum { LINKS_MAX = 20000, LINKS = 12000, SESSION = 77 };
#define FULL_BYTES     (768 * MIB) /* most of it is reserve */
#define PIECE_BYTES    (1 * MIB)
#define SLOW_READ_NS   (6 * NS_PER_S)
#define ANSWER_WAIT_NS (20 * NS_PER_S)

struct run {
    struct cluster cluster;
    struct sim_node *host;
    struct rpc *rpc;
    struct client *client;
    struct map_client *map;
    uint32_t primary; /* of the root directory: index */
    uint64_t link;    /* the first one that was made */
    int made;
    int full; /* what ended the filling */
    int answer;
    uint64_t took_ns; /* to answer, or not to */
    bool done;
};

static const struct client_cred root = {.checked = true};

/* A request to the root directory's group, sent once, by somebody whom no map tells that the
 * primary has been declared dead. */
static int ask(struct run *run, enum rpc_type type, uint64_t ino, const char *name, uint32_t flags)
{
    const struct map_view *view = map_client_view(run->map);
    const struct map_group *group = map_view_of_ino(view, CFS_ROOT_INO);
    const struct wire_meta_req req = {
        .session = SESSION,
        .slot_seq = 1,
        .flags = META_CRED_CHECKED | flags,
        .ino = ino,
        .mode = S_IFDIR | 0755,
        .name_bytes = (uint16_t)strlen(name),
    };
    struct rpc_call call = {
        .type = type,
        .group = group->id,
        .epoch = group->epoch,
        .body = &req,
        .tail = {slice_of(name, strlen(name))},
        .deadline_ns = env_now_ns() + ANSWER_WAIT_NS,
    };
    struct net_addr addr;
    map_node_addr(map_view_node(view, group->primary), &addr);
    int result = rpc_call(run->rpc, &addr, &call);
    rpc_call_fini(&call);
    return result;
}

static void start_client(struct run *run)
{
    const struct rpc_identity identity = {
        .cluster = run->cluster.header.cluster, .incarnation = 1, .session = SESSION};
    run->rpc = rpc_new(&identity);
    run->client = cluster_client(&run->cluster, &run->map);
    while (!cluster_all_in_sync(&run->cluster, run->map))
        fiber_sleep(50 * NS_PER_MS);
}

/* Symbolic links that are as long as can be, f0 and so on. The first error. */
static int make_links(struct run *run, uint32_t count)
{
    char target[META_SYMLINK_MAX];
    int result = 0;
    memset(target, 'x', sizeof target);
    for (uint32_t i = 0; i < count && result == 0; i++) {
        char name[16];
        struct wire_attr attr = {0};
        (void)snprintf(name, sizeof name, "f%u", i);
        const struct client_place place = {CFS_ROOT_INO, slice_of(name, strlen(name))};
        result = client_symlink(run->client, &root, &place, slice_of(target, sizeof target), &attr);
        run->link = i == 0 ? attr.ino : run->link;
    }
    return result;
}

/* False: the fiber has not ended. */
static bool do_fiber(struct run *run, fiber_fn fn)
{
    return cluster_run_fiber(&run->cluster, run->host, fn, run, &run->done);
}

/* ---- a full disk ----------------------------------------------------------------------------- */

static bool is_full(int result)
{
    return error_to_errno(result) == ENOSPC;
}

static int fill_file(struct run *run)
{
    struct client_file *file;
    const struct client_place place = {CFS_ROOT_INO, slice_of("file", 4)};
    int result = client_create(run->client, &root, &place, S_IFREG | 0644, true, &file);
    if (result < 0)
        return result;
    struct buf *buf = buf_new(PIECE_BYTES);
    memset(buf->data, 'x', PIECE_BYTES);
    for (uint32_t bytes = PIECE_BYTES, at = 0; bytes >= 4096; bytes /= 2) {
        while ((result = client_write(file, at, (struct buf_slice){buf, 0, bytes})) == 0)
            at += bytes;
    }
    buf_put(buf);
    int closed = client_release(file);
    return is_full(result) ? closed : result;
}

static void full_fiber(void *arg)
{
    struct run *run = arg;
    start_client(run);
    run->made = ask(run, RPC_MKDIR, CFS_ROOT_INO, "name", 0);
    run->full = fill_file(run);
    if (run->full == 0)
        run->full = make_links(run, LINKS_MAX);
    run->answer = ask(run, RPC_MKDIR, CFS_ROOT_INO, "name", META_RETRY);
    run->done = true;
}

static bool answers_when_full(struct run *run)
{
    cluster_start_sized(&run->cluster, 1, 1, 1, FULL_BYTES);
    run->host = sim_node_new(run->cluster.sim, "10.0.0.100");
    return do_fiber(run, full_fiber) && run->made == 0 && is_full(run->full) && run->answer == 0;
}

/* ---- a lease that runs out ------------------------------------------------------------------- */

static void links_fiber(void *arg)
{
    struct run *run = arg;
    start_client(run);
    run->made = make_links(run, LINKS); /* more than a node has memory for */
    const struct map_view *view = map_client_view(run->map);
    uint32_t node = map_view_of_ino(view, CFS_ROOT_INO)->primary;
    while (run->cluster.members[run->primary].id != node)
        run->primary++;
    run->done = true;
}

static void read_fiber(void *arg)
{
    struct run *run = arg;
    run->answer = ask(run, RPC_READLINK, run->link, "", 0);
    run->done = true;
}

/* The reads take longer than the lease, and the other nodes do not hear of the primary. */
static bool answers_not_without_lease(struct run *run)
{
    cluster_start(&run->cluster, 1, 3, 2);
    struct sim *sim = run->cluster.sim;
    run->host = sim_node_new(sim, "10.0.0.100");
    if (!do_fiber(run, links_fiber) || run->made < 0)
        return false;
    const struct cluster_member *primary = &run->cluster.members[run->primary];
    struct sim_disk_config slow = *sim_disk_config(sim, primary->disk);
    slow.read_min_ns = slow.read_max_ns = SLOW_READ_NS;
    sim_disk_configure(sim, primary->disk, &slow);
    for (uint32_t i = 0; i < run->cluster.node_count; i++) {
        if (i != run->primary)
            sim_partition(primary->sim_node, run->cluster.members[i].sim_node, true);
    }
    uint64_t begin_ns = sim_now_ns(sim);
    bool done = do_fiber(run, read_fiber);
    run->took_ns = sim_now_ns(sim) - begin_ns;
    return done && run->took_ns >= SLOW_READ_NS && run->took_ns < ANSWER_WAIT_NS &&
           error_retry_class(run->answer) != RETRY_NEVER;
}

/* ---------------------------------------------------------------------------------------------- */

static bool run_one(const char *name, bool (*test)(struct run *run))
{
    struct run *run = calloc(1, sizeof *run);
    bool passed = test(run);
    printf("%s %s: made %s, full %s, answer %s after %.1f s\n", passed ? "ok" : "FAILED", name,
           error_name(run->made), error_name(run->full), error_name(run->answer),
           (double)run->took_ns / 1e9);
    cluster_free(&run->cluster);
    free(run);
    return passed;
}

int main(void)
{
    log_set_level(getenv("CFS_LOG") ? LOG_DEBUG : LOG_ERROR);
    bool full = run_one("full disk", answers_when_full);
    bool lease = run_one("lease over", answers_not_without_lease);
    return full && lease ? 0 : 1;
}
