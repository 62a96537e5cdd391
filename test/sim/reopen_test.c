/* SPDX-License-Identifier: MIT */
/* Goal: files that a client has open and that have lost their last name survive a change of
 * primary, whatever other groups do. Method: files in directories of several groups are opened and
 * unlinked; both nodes of one group die at once, so that it answers nobody, and the groups that
 * only one of them led get new primaries, which delete files without a name unless they are told
 * within 10 s. Then the dead return, and the silent group's files are there, too. The same when all
 * nodes are cut off from each other and from the client for longer than that. Virtual time;
 * arguments: seeds (default: one). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cluster_fsck.h"

enum { NODES = 7, FILES = 24, LATER_S = 30, CLIENT_LATER_S = 5, BYTES = 3 * 4096 };

struct run {
    struct cluster cluster;
    struct sim_node *host;
    struct client *client;
    struct map_client *map;
    struct client_file *files[FILES];
    uint32_t victims[2]; /* node ids */
    uint32_t moved;      /* files whose group gets a new primary */
    uint32_t silent;     /* files whose group has none now */
    bool dead;           /* the victims */
    bool done;
    int error;
};

static const struct client_cred root = {.checked = true};

static const struct map_group *group_of(const struct run *run, uint32_t file)
{
    return map_view_of_ino(map_client_view(run->map), client_file_ino(run->files[file]));
}

static bool is_victim(const struct run *run, uint32_t node)
{
    return node == run->victims[0] || node == run->victims[1];
}

static bool is_silent(const struct run *run, const struct map_group *group)
{
    return is_victim(run, group->members[0].node) && is_victim(run, group->members[1].node);
}

/* The nodes of the group of file i, if with their death a file behind i, which a client that goes
 * through its files one by one tells later, gets a new primary. */
static bool choose_victims(struct run *run, uint32_t i)
{
    run->moved = 0;
    for (uint32_t j = 0; j < 2; j++)
        run->victims[j] = group_of(run, i)->members[j].node;
    for (uint32_t j = i + 1; j < FILES; j++) {
        const struct map_group *group = group_of(run, j);
        run->moved += is_victim(run, group->primary) && !is_silent(run, group);
    }
    return run->moved > 0;
}

static int write_file(struct client_file *file)
{
    struct buf *buf = buf_new(BYTES);
    memset(buf->data, 'x', BYTES);
    int result = client_write(file, 0, (struct buf_slice){buf, 0, BYTES});
    buf_put(buf);
    return result < 0 ? result : client_fsync(file);
}

static int check_file(struct client_file *file)
{
    uint8_t bytes[BYTES];
    struct client_data data = {0};
    int result = client_read(file, 0, BYTES, &data);
    if (result == 0 && data.bytes != BYTES)
        result = -EBADMSG;
    if (result == 0)
        client_data_copy(&data, bytes);
    for (uint32_t i = 0; i < BYTES && result == 0; i++)
        result = bytes[i] == 'x' ? 0 : -EBADMSG;
    client_data_fini(&data);
    return result;
}

/* Its data may be in a group that is silent. */
static int check_inode(struct run *run, const struct client_file *file)
{
    struct wire_attr attr;
    return client_getattr(run->client, &root, client_file_ino(file), &attr);
}

/* In a directory of its own, so in any group. */
static void make_file(struct run *run, uint32_t file)
{
    char name[16];
    struct wire_attr dir;
    (void)snprintf(name, sizeof name, "d%u", file);
    struct client_place place = {CFS_ROOT_INO, slice_of(name, strlen(name))};
    int result = client_mknod(run->client, &root, &place, S_IFDIR | 0755, 0, &dir);
    place.dir = dir.ino;
    if (result == 0)
        result = client_create(run->client, &root, &place, S_IFREG | 0644, true, &run->files[file]);
    if (result == 0)
        result = write_file(run->files[file]);
    if (result == 0)
        result = client_unlink(run->client, &root, place.dir, place.name);
    if (result == 0) /* both copies of it will lose their memory */
        result = client_sync_inode(run->client, dir.ino);
    run->error = MIN(run->error, result);
}

static void prepare_fiber(void *arg)
{
    struct run *run = arg;
    run->client = cluster_client(&run->cluster, &run->map);
    while (!cluster_all_in_sync(&run->cluster, run->map))
        fiber_sleep(50 * NS_PER_MS);
    for (uint32_t i = 0; i < FILES && run->error == 0; i++)
        make_file(run, i);
    bool chosen = false;
    for (uint32_t i = 0; i < FILES && run->error == 0 && !chosen; i++)
        chosen = choose_victims(run, i);
    run->error = chosen ? run->error : MIN(run->error, -ENOENT);
    run->done = true;
}

static void check_fiber(void *arg)
{
    struct run *run = arg;
    run->silent = 0;
    for (uint32_t i = 0; i < FILES; i++) {
        if (!group_of(run, i)->primary) {
            run->silent++;
            continue;
        }
        int result = run->dead ? check_inode(run, run->files[i]) : check_file(run->files[i]);
        if (result < 0)
            printf("file %u of group %u: %s\n", i, group_of(run, i)->id, error_name(result));
        run->error = MIN(run->error, result);
    }
    run->done = true;
}

static void close_fiber(void *arg)
{
    struct run *run = arg;
    for (uint32_t i = 0; i < FILES; i++)
        run->error = MIN(run->error, client_release(run->files[i]));
    run->done = true;
}

static bool do_fiber(struct run *run, fiber_fn fn)
{
    return cluster_run_fiber(&run->cluster, run->host, fn, run, &run->done) && run->error == 0;
}

static void each_victim(struct run *run, void (*change)(struct cluster *cluster, uint32_t index))
{
    for (uint32_t i = 0; i < run->cluster.node_count; i++) {
        if (is_victim(run, run->cluster.members[i].id))
            change(&run->cluster, i);
    }
    sim_run_for(run->cluster.sim, LATER_S * NS_PER_S);
}

static bool all_survive_deaths(struct run *run)
{
    if (!do_fiber(run, prepare_fiber))
        return false;
    run->dead = true;
    each_victim(run, cluster_crash);
    if (!do_fiber(run, check_fiber) || run->silent == 0)
        return false;
    run->dead = false;
    each_victim(run, cluster_restart);
    return do_fiber(run, check_fiber) && run->silent == 0 && do_fiber(run, close_fiber);
}

static void isolate_all(struct run *run, bool on, uint32_t seconds)
{
    for (uint32_t i = 0; i < run->cluster.node_count; i++)
        sim_isolate(run->cluster.members[i].sim_node, on);
    sim_isolate(run->host, true);
    sim_run_for(run->cluster.sim, seconds * NS_PER_S);
}

/* All lose sight of all, and the primaries, which stay what they are, of their client. It comes
 * back a little later than they. */
static bool all_survive_isolation(struct run *run)
{
    if (!do_fiber(run, prepare_fiber))
        return false;
    isolate_all(run, true, LATER_S);
    isolate_all(run, false, CLIENT_LATER_S);
    sim_isolate(run->host, false);
    sim_run_for(run->cluster.sim, LATER_S * NS_PER_S);
    return do_fiber(run, check_fiber) && run->silent == 0 && do_fiber(run, close_fiber);
}

static bool run_case(uint64_t seed, const char *name, bool (*survive)(struct run *run))
{
    struct run *run = calloc(1, sizeof *run);
    struct fsck_counts found = {0};
    cluster_start(&run->cluster, seed, NODES, 2);
    run->host = sim_node_new(run->cluster.sim, "10.0.0.100");
    bool passed = survive(run);
    sim_run_for(run->cluster.sim, LATER_S * NS_PER_S);
    uint32_t complaints = passed ? cluster_fsck(&run->cluster, true, &found) : 0;
    passed = passed && complaints == 0 && found.orphans == 0;
    printf(
        "%s seed %llu %s: victims %u and %u, files moved %u, silent %u, error %s, orphans %llu\n",
        passed ? "ok" : "FAILED", (unsigned long long)seed, name, run->victims[0], run->victims[1],
        run->moved, run->silent, error_name(run->error), (unsigned long long)found.orphans);
    cluster_free(&run->cluster);
    free(run);
    return passed;
}

static bool run_seed(uint64_t seed, bool asked)
{
    (void)asked;
    bool deaths = run_case(seed, "deaths", all_survive_deaths);
    return run_case(seed, "isolation", all_survive_isolation) && deaths;
}

int main(int argc, char **argv)
{
    return cluster_test_main(argc, argv, 1, run_seed);
}
