/* SPDX-License-Identifier: MIT */
/* Goal: an inode number is given once, whatever is lost: under it there may still be data of a file
 * that nobody has any more, which a new file of that number would show. Method: the first file of
 * a directory is created and written, and all nodes lose their power before anything is flushed;
 * then files are created again. Virtual time; arguments: seeds. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cluster.h"

enum { NODES = 3, COPIES = 2, FILES = 4 };

struct run {
    struct cluster cluster;
    struct sim_node *host;
    struct client *client;
    struct map_client *map;
    uint64_t dir;
    uint64_t inos[FILES];
    uint32_t given; /* of inos */
    bool done;
    int error;
};

static const struct client_cred root = {.checked = true};

static void create_fiber(void *arg)
{
    struct run *run = arg;
    char name[16];
    struct client_file *file = NULL;
    (void)snprintf(name, sizeof name, "f%u", run->given);
    const struct client_place place = {run->dir, slice_of(name, strlen(name))};
    run->error = client_create(run->client, &root, &place, S_IFREG | 0644, true, &file);
    if (run->error == 0)
        run->inos[run->given++] = client_file_ino(file);
    run->done = true;
}

static void prepare_fiber(void *arg)
{
    struct run *run = arg;
    struct wire_attr attr;
    const struct client_place place = {CFS_ROOT_INO, slice_of("d", 1)};
    run->client = cluster_client(&run->cluster, &run->map);
    while (!cluster_all_in_sync(&run->cluster, run->map))
        fiber_sleep(50 * NS_PER_MS);
    run->error = client_mknod(run->client, &root, &place, S_IFDIR | 0755, 0, &attr);
    if (run->error == 0)
        run->error = client_sync_inode(run->client, attr.ino);
    if (run->error == 0)
        run->error = client_sync_inode(run->client, CFS_ROOT_INO);
    run->dir = attr.ino;
    run->done = true;
}

static bool do_fiber(struct run *run, fiber_fn fn)
{
    return cluster_run_fiber(&run->cluster, run->host, fn, run, &run->done) && run->error == 0;
}

static bool all_differ(struct run *run)
{
    if (!do_fiber(run, prepare_fiber))
        return false;
    while (run->given < FILES) {
        if (!do_fiber(run, create_fiber))
            return false;
        for (uint32_t i = 0; i + 1 < run->given; i++) {
            if (run->inos[i] == run->inos[run->given - 1])
                return false;
        }
        for (uint32_t i = 0; i < NODES; i++)
            cluster_power_off(&run->cluster, i);
        sim_run_for(run->cluster.sim, NS_PER_S);
        for (uint32_t i = 0; i < NODES; i++)
            cluster_restart(&run->cluster, i);
    }
    return true;
}

static bool run_seed(uint64_t seed, bool asked)
{
    (void)asked;
    struct run *run = calloc(1, sizeof *run);
    cluster_start(&run->cluster, seed, NODES, COPIES);
    run->host = sim_node_new(run->cluster.sim, "10.0.0.100");
    bool passed = all_differ(run);
    printf("%s seed %llu files %u, numbers %llx %llx, error %s\n", passed ? "ok" : "FAILED",
           (unsigned long long)seed, run->given, (unsigned long long)run->inos[0],
           (unsigned long long)run->inos[1], error_name(run->error));
    cluster_free(&run->cluster);
    free(run);
    return passed;
}

int main(int argc, char **argv)
{
    return cluster_test_main(argc, argv, 2, run_seed);
}
