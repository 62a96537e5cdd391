/* SPDX-License-Identifier: MIT */
/* Goal: what a dead client had open is let go, whatever it was asking when it died. Method: a
 * client that has a file open is killed while it creates another, at moments swept over the whole
 * length of that, while somebody else moves a file between directories, so that creates wait for
 * locks and go on after their client's death. Then all names are removed; once the grace of dead
 * sessions is over no file may be left without a name. Virtual time; arguments: seeds (default:
 * one). */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "cluster_fsck.h"

enum { DEATHS = 48, STEP_US = 17, GRACE_S = 10, DIRS = 4 };

struct run {
    struct cluster cluster;
    struct sim_node *victim;
    struct sim_node *witness;
    struct client *client; /* the witness's */
    uint64_t dirs[DIRS];
    uint32_t moves;
    uint32_t death;
    bool calm;   /* no more moves */
    bool asking; /* the victim is about to send what it will not see answered */
    bool done;
    int error;
};

static const struct client_cred root = {.checked = true};

static struct client_place place_of(uint64_t dir, const char *kind, uint32_t number, char name[32])
{
    (void)snprintf(name, 32, "%s%u", kind, number);
    return (struct client_place){dir, slice_of(name, strlen(name))};
}

static void create(struct run *run, struct client *client, const char *kind)
{
    char name[32];
    struct client_file *file;
    const struct client_place place = place_of(run->dirs[0], kind, run->death, name);
    int result = client_create(client, &root, &place, S_IFREG | 0644, true, &file);
    run->error = MIN(run->error, result);
}

static void victim_fiber(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    struct wire_attr attr;
    struct client *client = cluster_client(&run->cluster, &map);
    if (run->death % 2) /* its session is known there already */
        create(run, client, "open");
    else /* only its connection is */
        run->error = client_getattr(client, &root, run->dirs[0], &attr);
    run->asking = true;
    create(run, client, "last");
}

/* Between directories of different groups: each move locks both for a while. */
static void move_fiber(void *arg)
{
    struct run *run = arg;
    const struct slice ball = slice_of("ball", 4);
    while (!run->calm && run->error == 0) {
        uint32_t at = run->moves++;
        const struct client_place from = {run->dirs[at % DIRS], ball};
        const struct client_place to = {run->dirs[(at + 1) % DIRS], ball};
        run->error = client_rename(run->client, &root, &from, &to, 0);
    }
    run->done = true;
}

static void prepare_fiber(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    struct wire_attr attr = {0};
    run->client = cluster_client(&run->cluster, &map);
    for (uint32_t i = 0; i < DIRS && run->error == 0; i++) {
        char name[32];
        const struct client_place place = place_of(CFS_ROOT_INO, "d", i, name);
        run->error = client_mknod(run->client, &root, &place, S_IFDIR | 0755, 0, &attr);
        run->dirs[i] = attr.ino;
    }
    const struct client_place ball = {run->dirs[0], slice_of("ball", 4)};
    if (run->error == 0)
        run->error = client_mknod(run->client, &root, &ball, S_IFREG | 0644, 0, &attr);
    fiber_spawn("move", move_fiber, run);
    run->asking = true;
}

static void unlink_fiber(void *arg)
{
    struct run *run = arg;
    for (uint32_t i = 0; i < 2 * DEATHS; i++) {
        char name[32];
        const struct client_place place =
            place_of(run->dirs[0], i % 2 ? "open" : "last", i / 2, name);
        int result = client_unlink(run->client, &root, place.dir, place.name);
        if (result < 0 && result != -ENOENT) /* it died before the file was made */
            run->error = result;
    }
    run->done = true;
}

static bool is_asking(void *context)
{
    return ((struct run *)context)->asking;
}

static bool is_done(void *context)
{
    return ((struct run *)context)->done;
}

/* Let the fiber begin, on that node; false: it did not get to where flag is raised. */
static bool begin(struct run *run, struct sim_node *node, fiber_fn fn)
{
    struct sim *sim = run->cluster.sim;
    run->asking = run->done = false;
    reactor_spawn(sim_node_reactor(node), "test", fn, run);
    return sim_run_until(sim, is_asking, run, sim_now_ns(sim) + 60 * NS_PER_S) && run->error == 0;
}

static bool die(struct run *run)
{
    struct sim *sim = run->cluster.sim;
    if (!begin(run, run->victim, victim_fiber))
        return false;
    sim_run_for(sim, run->death * STEP_US * NS_PER_US);
    sim_node_crash(run->victim);
    sim_run_for(sim, 20 * NS_PER_MS);
    sim_node_restart(run->victim);
    return run->error == 0;
}

static bool wait_done(struct run *run)
{
    struct sim *sim = run->cluster.sim;
    return sim_run_until(sim, is_done, run, sim_now_ns(sim) + 60 * NS_PER_S) && run->error == 0;
}

static bool all_die(struct run *run)
{
    if (!begin(run, run->witness, prepare_fiber))
        return false;
    for (; run->death < DEATHS; run->death++) {
        if (!die(run))
            return false;
    }
    run->calm = true;
    if (!wait_done(run))
        return false;
    return cluster_run_fiber(&run->cluster, run->witness, unlink_fiber, run, &run->done) &&
           run->error == 0;
}

static bool run_seed(uint64_t seed, bool asked)
{
    (void)asked;
    struct run *run = calloc(1, sizeof *run);
    struct fsck_counts found = {0};
    cluster_start(&run->cluster, seed, 3, 2);
    struct sim *sim = run->cluster.sim;
    run->victim = sim_node_new(sim, "10.0.0.100");
    run->witness = sim_node_new(sim, "10.0.0.101");
    bool passed = all_die(run);
    sim_run_for(sim, (GRACE_S + 5) * NS_PER_S);
    uint32_t complaints = passed ? cluster_fsck(&run->cluster, true, &found) : 0;
    passed = passed && complaints == 0 && found.orphans == 0;
    printf("%s seed %llu deaths %u moves %u error %d inodes %llu orphans %llu, virtual %.1f s\n",
           passed ? "ok" : "FAILED", (unsigned long long)seed, run->death, run->moves, run->error,
           (unsigned long long)found.inodes, (unsigned long long)found.orphans,
           (double)sim_now_ns(sim) / 1e9);
    cluster_free(&run->cluster);
    free(run);
    return passed;
}

int main(int argc, char **argv)
{
    return cluster_test_main(argc, argv, 1, run_seed);
}
