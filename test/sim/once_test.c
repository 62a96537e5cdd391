/* SPDX-License-Identifier: MIT */
/* Goal: a change that was made and not answered is answered as made, also when the disk has become
 * full since. Method: a request as a client sends it, twice; in between the only node's disk is
 * filled until nothing can be made any more. Virtual time; arguments: seeds (default: one). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "client/client_internal.h"
#include "cluster.h"

enum { NAMES_MAX = 20000 };
#define DISK_BYTES  (768 * MIB) /* most of it is reserve */
#define PIECE_BYTES (1 * MIB)

struct run {
    struct cluster cluster;
    struct client *client;
    struct map_client *map;
    int first;
    int full; /* what ended the filling */
    int again;
    bool done;
};

static const struct client_cred root = {.checked = true};

/* MKDIR in the root directory, in a slot that the client itself does not come to. */
static int send_mkdir(struct run *run, uint32_t flags)
{
    const struct map_view *view = map_client_view(run->map);
    const struct map_group *group = map_view_of_ino(view, CFS_ROOT_INO);
    const struct slice name = slice_of("name", 4);
    const struct wire_meta_req req = {
        .session = run->client->session,
        .slot = META_SLOTS_PER_SESSION - 1,
        .slot_seq = 1,
        .flags = META_CRED_CHECKED | flags,
        .ino = CFS_ROOT_INO,
        .mode = S_IFDIR | 0755,
        .name_bytes = (uint16_t)name.bytes,
    };
    struct rpc_call call = {
        .type = RPC_MKDIR,
        .group = group->id,
        .epoch = group->epoch,
        .body = &req,
        .tail = {name},
        .deadline_ns = env_now_ns() + 10 * NS_PER_S,
    };
    struct net_addr addr;
    map_node_addr(map_view_node(view, group->primary), &addr);
    int result = rpc_call(run->client->rpc, &addr, &call);
    rpc_call_fini(&call);
    return result;
}

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

/* The first error of making symbolic links that are as long as can be. */
static int fill_names(struct run *run)
{
    char target[META_SYMLINK_MAX];
    int result = 0;
    memset(target, 'x', sizeof target);
    for (uint32_t i = 0; i < NAMES_MAX && result == 0; i++) {
        char name[16];
        struct wire_attr attr;
        (void)snprintf(name, sizeof name, "f%u", i);
        const struct client_place place = {CFS_ROOT_INO, slice_of(name, strlen(name))};
        result = client_symlink(run->client, &root, &place, slice_of(target, sizeof target), &attr);
    }
    return result;
}

static void workload(void *arg)
{
    struct run *run = arg;
    run->client = cluster_client(&run->cluster, &run->map);
    while (!cluster_all_in_sync(&run->cluster, run->map))
        fiber_sleep(50 * NS_PER_MS);
    run->first = send_mkdir(run, 0);
    run->full = fill_file(run);
    if (run->full == 0)
        run->full = fill_names(run);
    run->again = send_mkdir(run, META_RETRY);
    run->done = true;
}

static bool is_done(void *context)
{
    return ((struct run *)context)->done;
}

static bool run_seed(uint64_t seed, bool asked)
{
    (void)asked;
    struct run *run = calloc(1, sizeof *run);
    cluster_start_sized(&run->cluster, seed, 1, 1, DISK_BYTES);
    struct sim *sim = run->cluster.sim;
    struct sim_node *host = sim_node_new(sim, "10.0.0.100");
    reactor_spawn(sim_node_reactor(host), "workload", workload, run);
    bool done = sim_run_until(sim, is_done, run, sim_now_ns(sim) + 600 * NS_PER_S);
    bool passed = done && run->first == 0 && is_full(run->full) && run->again == 0;
    printf("%s seed %llu: first %s, then %s, again %s\n", passed ? "ok" : "FAILED",
           (unsigned long long)seed, error_name(run->first), error_name(run->full),
           error_name(run->again));
    cluster_free(&run->cluster);
    free(run);
    return passed;
}

int main(int argc, char **argv)
{
    return cluster_test_main(argc, argv, 1, run_seed);
}
