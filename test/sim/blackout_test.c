/* SPDX-License-Identifier: MIT */
/* Goal: when all nodes lose their power at once, a file that was fsynced is whole or, if its last
 * name was taken away, gone: whatever one group did because of a change that another one had not
 * on its media yet. And a new file is not taken for one that was lost. Method: files whose data are
 * on none of the nodes that have their inodes; some change to each, a flush of one side only, and
 * the power goes before the other side flushes by itself. Virtual time; arguments: seeds (default:
 * a fixed set). */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "client/dirty.h"
#include "cluster.h"
#include "plain_file.h"

enum { NODES = 4, FILES = 40, LARGE = 10000, CUT = 3000, SMALL = 3000, REST_S = 60 };
#define FLUSHED_NS (2 * NS_PER_S)  /* all that was written is on media then: as good as fsynced */
#define AT_WORK_NS (5 * NS_PER_MS) /* enough for servers to act, not to flush by themselves */

struct danger {
    const char *name;
    uint32_t bytes; /* of each file */
    uint32_t cut;   /* how many of them are taken away */
    bool may_go;
    may_yield int (*change)(struct client *client, const struct wire_attr *attr, struct slice name);
    may_yield int (*flush)(struct client *client, uint32_t data_group);
};

struct run {
    struct cluster cluster;
    const struct danger *danger;
    uint32_t at_risk;
    uint32_t gone;
    bool done;
    const char *failed;
    int error;
};

static const struct client_cred root = {.checked = true};

/* ---- what is dangerous ----------------------------------------------------------------------- */

/* The reaper deletes the data, and the name comes back. */
static int take_name(struct client *client, const struct wire_attr *attr, struct slice name)
{
    (void)attr;
    return client_unlink(client, &root, CFS_ROOT_INO, name);
}

static int flush_data(struct client *client, uint32_t data_group)
{
    uint32_t cold_starts;
    return client_sync_group(client, data_group, &cold_starts);
}

/* The data move out of the inode, and do not arrive. */
static int extend(struct client *client, const struct wire_attr *attr, struct slice name)
{
    (void)name;
    struct client_file *file;
    int result = client_open(client, &root, attr->ino, &file);
    if (result < 0)
        return result;
    result = client_fallocate(file, 0, 0, LARGE);
    int released = client_release(file);
    return result < 0 ? result : released;
}

/* The new size is known, and the data are still there when the file grows again. */
static int cut_off(struct client *client, const struct wire_attr *attr, struct slice name)
{
    (void)name;
    struct wire_attr after;
    const struct client_setattr set = {.valid = META_SET_SIZE, .size = LARGE - CUT};
    return client_setattr(client, &root, attr->ino, &set, &after);
}

static int flush_inodes(struct client *client, uint32_t data_group)
{
    (void)data_group;
    return client_sync_inode(client, CFS_ROOT_INO);
}

static const struct danger dangers[] = {
    {"last name", LARGE, 0, true, take_name, flush_data},
    {"move out of the inode", SMALL, 0, false, extend, flush_inodes},
    {"truncation", LARGE, CUT, false, cut_off, flush_inodes},
};

/* ---- the run --------------------------------------------------------------------------------- */

static bool share_a_node(const struct map_group *a, const struct map_group *b)
{
    for (uint32_t i = 0; i < a->member_count; i++) {
        for (uint32_t j = 0; j < b->member_count; j++) {
            if (a->members[i].node == b->members[j].node)
                return true;
        }
    }
    return false;
}

/* Change a file that is at risk. Its data group, else 0. */
static uint32_t change(struct run *run, struct client *client, struct map_client *map,
                       uint32_t file)
{
    char text[16];
    struct wire_attr attr;
    (void)snprintf(text, sizeof text, "file%u", file);
    struct slice name = slice_of(text, strlen(text));
    int result = client_lookup(client, &root, CFS_ROOT_INO, name, &attr);
    CHECK(result);
    if (result < 0)
        return 0;
    const struct map_view *view = map_client_view(map);
    const struct map_group *data = map_view_of_object(view, attr.ino, 0);
    uint32_t group = data->id;
    if (share_a_node(data, map_view_of_ino(view, attr.ino)))
        return 0;
    run->at_risk++;
    CHECK(run->danger->change(client, &attr, name));
    return group;
}

static void power_cut(struct run *run)
{
    for (uint32_t i = 0; i < NODES; i++)
        cluster_power_off(&run->cluster, i);
    for (uint32_t i = 0; i < NODES; i++)
        cluster_restart(&run->cluster, i);
}

/* groups: the data groups of the files that were changed, else 0. */
static void blackout(struct run *run, struct client *client, struct map_client *map,
                     uint32_t groups[FILES])
{
    for (uint32_t i = 0; i < FILES; i++)
        groups[i] = change(run, client, map, i);
    fiber_sleep(AT_WORK_NS);
    for (uint32_t i = 0; i < FILES; i++) {
        if (groups[i])
            CHECK(run->danger->flush(client, groups[i]));
    }
    power_cut(run);
}

static void rest(struct run *run, struct map_client *map)
{
    uint64_t end_ns = env_now_ns() + REST_S * NS_PER_S;
    while (!cluster_is_whole(&run->cluster, map) && env_now_ns() < end_ns)
        fiber_sleep(50 * NS_PER_MS);
    CHECK(cluster_is_whole(&run->cluster, map) ? 0 : -ETIME);
}

static void endangered_user(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    struct client *client = cluster_client(&run->cluster, &map);
    uint32_t changed[FILES];
    rest(run, map);
    for (uint32_t i = 0; i < FILES; i++)
        CHECK(plain_file_make(client, i, run->danger->bytes));
    fiber_sleep(FLUSHED_NS);
    blackout(run, client, map, changed);
    rest(run, map);
    for (uint32_t i = 0; i < FILES && !run->failed; i++) {
        uint32_t bytes = run->danger->bytes, cut = changed[i] ? run->danger->cut : 0;
        int result = cut ? plain_file_check_cut(client, i, bytes - cut, bytes)
                         : plain_file_check_start(client, i, bytes);
        bool gone = result == -ENOENT && run->danger->may_go;
        run->gone += gone;
        CHECK(gone ? 0 : result);
    }
    run->done = true;
}

/* The first file of all is lost, before anything is flushed, and a second one made. */
static void lost_inode_user(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    struct client *client = cluster_client(&run->cluster, &map);
    static const char *const names[] = {"file0", "file1"};
    struct wire_attr attr[ARRAY_COUNT(names)];
    rest(run, map);
    for (uint32_t i = 0; i < ARRAY_COUNT(names); i++) {
        struct slice name = slice_of(names[i], strlen(names[i]));
        CHECK(plain_file_make(client, i, SMALL));
        CHECK(client_lookup(client, &root, CFS_ROOT_INO, name, &attr[i]));
        if (i == 0) {
            power_cut(run);
            rest(run, map);
            run->at_risk = client_lookup(client, &root, CFS_ROOT_INO, name, &attr[1]) == -ENOENT;
            run->gone = run->at_risk;
        }
    }
    CHECK(attr[0].ino != attr[1].ino ? 0 : -EEXIST);
    CHECK(plain_file_check(client, 1, SMALL));
    run->done = true;
}

static bool is_over(void *context)
{
    const struct run *run = context;
    return run->done;
}

static bool run_user(uint64_t seed, const struct danger *danger)
{
    struct run *run = calloc(1, sizeof *run);
    run->danger = danger;
    cluster_start(&run->cluster, seed, NODES, 2);
    struct sim_node *host = sim_node_new(run->cluster.sim, "10.0.0.100");
    reactor_spawn(sim_node_reactor(host), "user", danger ? endangered_user : lost_inode_user, run);
    uint64_t end_ns = sim_now_ns(run->cluster.sim) + 3600 * NS_PER_S;
    (void)sim_run_until(run->cluster.sim, is_over, run, end_ns);
    bool good = run->done && !run->failed && run->at_risk > 0;
    printf("seed %llu, %s: %s%s %s, %u of %u files at risk, %u gone\n", (unsigned long long)seed,
           danger ? danger->name : "inode number", good ? "good" : "FAILED ",
           run->failed ? run->failed : "", run->error ? error_name(run->error) : "", run->at_risk,
           (uint32_t)FILES, run->gone);
    cluster_free(&run->cluster);
    free(run);
    return good;
}

static bool run_seed(uint64_t seed, bool asked)
{
    (void)asked;
    bool good = run_user(seed, NULL);
    for (uint32_t i = 0; i < ARRAY_COUNT(dangers); i++)
        good &= run_user(seed, &dangers[i]);
    return good;
}

int main(int argc, char **argv)
{
    return cluster_test_main(argc, argv, 4, run_seed);
}
