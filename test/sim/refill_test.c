/* SPDX-License-Identifier: MIT */
/* Goal: a node that was away while full disks were emptied and filled again comes back, though its
 * disk is full of what is gone.
 * Method: three nodes, three copies, disks of a few segments. Files of a directory fill the disks,
 * a node dies, the files go, others fill the disks of those that are left; then the node returns.
 * The new files lie in front of the old ones in every table, so what it is sent comes before what
 * it would give up. Virtual time; arguments: seeds (default: a fixed set). */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/mem.h"
#include "cluster.h"

enum { FILES_MAX = 400, FILE_BYTES = 1 << 20, REFUSALS = 3, AWAY = 2 };
#define DISK_BYTES   (288 * MIB)
#define WHOLE_MAX_NS (120 * NS_PER_S)
#define DROP_MAX_NS  (10 * NS_PER_S)

static const struct client_cred root = {.checked = true};

struct run {
    struct cluster cluster;
    struct client *client;
    struct map_client *map;
    const char *failed;
    int error;
    bool done;
};

static void check(struct run *run, const char *what, int result)
{
    if (result < 0 && !run->failed) {
        run->failed = what;
        run->error = result;
    }
}

static void wait_whole(struct run *run)
{
    uint64_t end_ns = env_now_ns() + WHOLE_MAX_NS;
    while (!cluster_is_whole(&run->cluster, run->map) && env_now_ns() < end_ns)
        fiber_sleep(100 * NS_PER_MS);
    check(run, "all copies in sync", cluster_is_whole(&run->cluster, run->map) ? 0 : -ETIME);
}

static struct client_place place_of(uint64_t dir, uint32_t file, char name[32])
{
    (void)snprintf(name, 32, "file%u", file);
    return (struct client_place){dir, slice_of(name, strlen(name))};
}

static int make(struct run *run, uint64_t dir, uint32_t file)
{
    char name[32];
    struct client_file *open;
    const struct client_place place = place_of(dir, file, name);
    int result = client_create(run->client, &root, &place, S_IFREG | 0600, true, &open);
    if (result < 0)
        return result;
    struct buf *buf = buf_new(FILE_BYTES);
    memset(buf->data, (int)file, FILE_BYTES);
    result = client_write(open, 0, (struct buf_slice){buf, 0, FILE_BYTES});
    buf_put(buf);
    int released = client_release(open);
    return result < 0 ? result : released;
}

/* Files until the disks refuse more. Returns how many names there are. */
static uint32_t fill(struct run *run, uint64_t dir)
{
    uint32_t files = 0, refusals = 0;
    while (files < FILES_MAX && refusals < REFUSALS && !run->failed) {
        int result = make(run, dir, files++);
        if (result == -ENOSPC || result == -ERR_NO_SPACE) {
            refusals++;
            fiber_sleep(NS_PER_S); /* what was taken away before may still come back */
        } else {
            check(run, "make", result);
        }
    }
    check(run, "full", refusals == REFUSALS ? 0 : -EFBIG);
    return files;
}

static void drop(struct run *run, uint64_t dir, uint32_t files)
{
    char name[32];
    for (uint32_t i = 0; i < files && !run->failed; i++) {
        const struct client_place place = place_of(dir, i, name);
        uint64_t begin_ns = env_now_ns();
        int result = client_unlink(run->client, &root, place.dir, place.name);
        check(run, "unlink", result == -ENOENT ? 0 : result); /* its creation was refused */
        check(run, "unlink in time", env_now_ns() - begin_ns < DROP_MAX_NS ? 0 : -ETIME);
    }
}

static void refill(void *arg)
{
    struct run *run = arg;
    struct wire_attr attr;
    run->client = cluster_client(&run->cluster, &run->map);
    wait_whole(run);
    const struct client_place dir = {CFS_ROOT_INO, slice_of("dir", 3)};
    check(run, "mkdir", client_mknod(run->client, &root, &dir, S_IFDIR | 0700, 0, &attr));
    uint32_t files = fill(run, attr.ino);
    cluster_crash(&run->cluster, AWAY);
    drop(run, attr.ino, files);
    files = fill(run, CFS_ROOT_INO);
    cluster_restart(&run->cluster, AWAY);
    wait_whole(run);
    drop(run, CFS_ROOT_INO, files);
    run->done = true;
}

static bool run_seed(uint64_t seed, bool asked)
{
    (void)asked;
    struct run *run = calloc(1, sizeof *run);
    cluster_start_sized(&run->cluster, seed, 3, 3, DISK_BYTES);
    struct sim_node *host = sim_node_new(run->cluster.sim, "10.0.0.100");
    bool ended = cluster_run_fiber(&run->cluster, host, refill, run, &run->done);
    bool passed = ended && !run->failed;
    printf("%s refill seed %llu virtual time %.1f s%s%s%s%s\n", passed ? "ok" : "FAILED",
           (unsigned long long)seed, (double)sim_now_ns(run->cluster.sim) / 1e9,
           passed  ? ""
           : ended ? ": "
                   : ": not finished",
           run->failed ? run->failed : "", run->failed ? " = " : "",
           run->failed ? error_name(run->error) : "");
    cluster_free(&run->cluster);
    free(run);
    return passed;
}

int main(int argc, char **argv)
{
    return cluster_test_main(argc, argv, 2, run_seed);
}
