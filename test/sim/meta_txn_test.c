/* SPDX-License-Identifier: MIT */
/* Goal: a change that concerns two groups happens once and as a whole, and soon, whichever node
 * dies or falls silent at whichever moment of it. Method: verbs between directories of different
 * groups, one at a time; for each, one node is killed or stopped after so many microseconds, swept
 * over the whole length of the transaction; the verb has to succeed before its client would notice
 * more than a stall, the names have to be what it makes of them, and in the end all rows are
 * compared. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "cluster_fsck.h"

enum { DIRS = 4, SWEEP_US = 2600 };
/* A dead process is known by its connections, a silent one by its lease (1.5 s, and an election if
 * it led the map). */
#define DEAD_STALL_MAX_NS   (1500 * NS_PER_MS)
#define SILENT_STALL_MAX_NS (4000 * NS_PER_MS)

enum verb {
    VERB_RENAME_FILE,
    VERB_RENAME_DIR,
    VERB_LINK,
    VERB_UNLINK,
    VERB_MKDIR,
    VERB_RMDIR,
    VERBS
};
static const char *const verb_names[] = {"rename", "rename a directory", "link", "unlink", "mkdir",
                                         "rmdir"};

struct run {
    struct cluster cluster;
    struct sim_node *host;
    struct client *client;
    struct map_client *map;
    uint64_t dirs[DIRS];
    uint64_t file;
    uint64_t dir;
    uint32_t file_at; /* index of the directory that has it */
    uint32_t dir_at;
    enum verb verb;
    uint32_t wrong;
    uint64_t longest_ns; /* from the disturbance to the verb's end */
    bool done;
};

static const struct client_cred root = {.checked = true};

static struct client_place place(uint64_t dir, const char *name)
{
    return (struct client_place){dir, slice_of(name, strlen(name))};
}

static void is(struct run *run, const char *what, int want, int got)
{
    if (want == got)
        return;
    printf("%s: %s: %s, not %s\n", verb_names[run->verb], what, error_name(got), error_name(want));
    run->wrong++;
}

/* Is name in the directory, and is it ino? */
static void check_name(struct run *run, uint64_t dir, const char *name, uint64_t ino)
{
    struct wire_attr attr = {0};
    int got = client_lookup(run->client, &root, dir, slice_of(name, strlen(name)), &attr);
    is(run, name, ino ? 0 : -ENOENT, got);
    if (got == 0 && ino && attr.ino != ino) {
        printf("%s: %s is another inode\n", verb_names[run->verb], name);
        run->wrong++;
    }
}

static void rename_between(struct run *run, const char *name, uint32_t *at, uint64_t ino)
{
    uint32_t to_index = (*at + 1) % DIRS;
    const struct client_place from = place(run->dirs[*at], name);
    const struct client_place to = place(run->dirs[to_index], name);
    is(run, "result", 0, client_rename(run->client, &root, &from, &to, 0));
    check_name(run, run->dirs[*at], name, 0);
    check_name(run, run->dirs[to_index], name, ino);
    *at = to_index;
}

static void run_verb(struct run *run)
{
    uint64_t other = run->dirs[(run->file_at + 1) % DIRS];
    const struct client_place link = place(other, "link"), dir = place(run->dirs[0], "made");
    struct wire_attr attr = {0};
    switch (run->verb) {
    case VERB_RENAME_FILE:
        rename_between(run, "file", &run->file_at, run->file);
        break;
    case VERB_RENAME_DIR:
        rename_between(run, "dir", &run->dir_at, run->dir);
        break;
    case VERB_LINK:
        is(run, "result", 0, client_link(run->client, &root, run->file, &link, &attr));
        check_name(run, other, "link", run->file);
        break;
    case VERB_UNLINK:
        is(run, "result", 0, client_unlink(run->client, &root, link.dir, link.name));
        check_name(run, other, "link", 0);
        break;
    case VERB_MKDIR:
        is(run, "result", 0, client_mknod(run->client, &root, &dir, S_IFDIR | 0755, 0, &attr));
        check_name(run, dir.dir, "made", attr.ino);
        break;
    case VERB_RMDIR:
        is(run, "result", 0, client_rmdir(run->client, &root, dir.dir, dir.name));
        check_name(run, dir.dir, "made", 0);
        break;
    case VERBS:
        break;
    }
}

static void verb_fiber(void *arg)
{
    struct run *run = arg;
    run_verb(run);
    run->done = true;
}

static void prepare_fiber(void *arg)
{
    struct run *run = arg;
    struct wire_attr attr = {0};
    run->client = cluster_client(&run->cluster, &run->map);
    while (!cluster_all_in_sync(&run->cluster, run->map))
        fiber_sleep(50 * NS_PER_MS);
    for (uint32_t i = 0; i < DIRS; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "d%u", i);
        const struct client_place at = place(CFS_ROOT_INO, name);
        is(run, name, 0, client_mknod(run->client, &root, &at, S_IFDIR | 0755, 0, &attr));
        run->dirs[i] = attr.ino;
    }
    const struct client_place file = place(run->dirs[0], "file"), dir = place(run->dirs[0], "dir");
    is(run, "file", 0, client_mknod(run->client, &root, &file, S_IFREG | 0644, 0, &attr));
    run->file = attr.ino;
    is(run, "dir", 0, client_mknod(run->client, &root, &dir, S_IFDIR | 0755, 0, &attr));
    run->dir = attr.ino;
    run->done = true;
}

static void sync_fiber(void *arg)
{
    struct run *run = arg;
    while (!cluster_is_whole(&run->cluster, run->map))
        fiber_sleep(20 * NS_PER_MS);
    run->done = true;
}

static bool is_done(void *context)
{
    return ((struct run *)context)->done;
}

static bool finish(struct run *run, fiber_fn fn, uint64_t limit_ns)
{
    struct sim *sim = run->cluster.sim;
    if (fn) {
        run->done = false;
        reactor_spawn(sim_node_reactor(run->host), "test", fn, run);
    }
    return sim_run_until(sim, is_done, run, sim_now_ns(sim) + limit_ns);
}

/* One verb, one death, sudden or of one that had been silent. */
static bool step(struct run *run, uint32_t victim, uint64_t after_ns, bool silent)
{
    struct sim *sim = run->cluster.sim;
    run->done = false;
    reactor_spawn(sim_node_reactor(run->host), "verb", verb_fiber, run);
    sim_run_for(sim, after_ns);
    if (silent)
        sim_pause(run->cluster.members[victim].sim_node, true);
    else
        cluster_crash(&run->cluster, victim);
    uint64_t begin_ns = sim_now_ns(sim);
    bool done = finish(run, NULL, 60 * NS_PER_S);
    uint64_t stall_ns = sim_now_ns(sim) - begin_ns;
    run->longest_ns = MAX(run->longest_ns, stall_ns);
    if (stall_ns > (silent ? SILENT_STALL_MAX_NS : DEAD_STALL_MAX_NS)) {
        printf("%s: %s node%u after %llu us: stalled for %.2f s\n", verb_names[run->verb],
               silent ? "silent" : "dead", victim + 1, (unsigned long long)(after_ns / NS_PER_US),
               (double)stall_ns / 1e9);
        run->wrong++;
    }
    if (silent)
        cluster_crash(&run->cluster, victim);
    cluster_restart(&run->cluster, victim);
    return done && finish(run, sync_fiber, 60 * NS_PER_S) && run->wrong == 0;
}

static bool sweep(uint64_t seed, uint64_t step_ns, bool silent)
{
    struct run *run = calloc(1, sizeof *run);
    struct fsck_counts found = {0};
    cluster_start(&run->cluster, seed, 3, 2);
    run->host = sim_node_new(run->cluster.sim, "10.0.0.100");
    bool passed = finish(run, prepare_fiber, 60 * NS_PER_S);
    uint32_t steps = 0;
    for (uint64_t after_ns = 0; passed && after_ns < SWEEP_US * NS_PER_US; after_ns += step_ns) {
        for (run->verb = 0; passed && run->verb < VERBS; run->verb++, steps++)
            passed = step(run, steps % run->cluster.node_count, after_ns, silent);
        steps++; /* the next round has other victims */
    }
    sim_run_for(run->cluster.sim, 45 * NS_PER_S);
    uint32_t complaints = passed ? cluster_fsck(&run->cluster, true, &found) : 0;
    passed = passed && complaints == 0 && found.orphans == 0;
    printf("%s seed %llu %s steps %u longest stall %.2f s inodes %llu orphans %llu, "
           "virtual %.1f s\n",
           passed ? "ok" : "FAILED", (unsigned long long)seed, silent ? "silent" : "dead", steps,
           (double)run->longest_ns / 1e9, (unsigned long long)found.inodes,
           (unsigned long long)found.orphans, (double)sim_now_ns(run->cluster.sim) / 1e9);
    cluster_free(&run->cluster);
    free(run);
    return passed;
}

static bool one_seed(uint64_t seed, bool asked)
{
    if (!asked)
        return seed == 1 ? sweep(1, 97 * NS_PER_US, false) : sweep(seed, 103 * NS_PER_US, true);
    bool dead = sweep(seed, 37 * NS_PER_US, false);
    return sweep(seed, 37 * NS_PER_US, true) && dead;
}

int main(int argc, char **argv)
{
    return cluster_test_main(argc, argv, 2, one_seed);
}
