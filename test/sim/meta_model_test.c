/* SPDX-License-Identifier: MIT */
/* Goal: the namespace of a cluster answers like a POSIX namespace in memory, verb by verb, with
 * directories spread over several groups, while nodes die and come back; and what is on the disks
 * in the end fits together (cluster_fsck). Method: one client, random verbs over few names, every
 * result compared. Arguments: seeds. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/random.h"
#include "cluster_fsck.h"
#include "meta_model.h"

enum { STEPS = 2500, DIRS_MAX = 24 };
#define RESET_MAX_NS (10 * NS_PER_MS)

struct run {
    struct cluster cluster;
    struct sim_node *host;
    struct random random;
    struct client *client;
    struct map_client *map;
    struct model *model;
    uint64_t seed;
    uint32_t crashes; /* at most */
    uint32_t crashed;
    uint32_t steps;
    bool failed;
    bool done;
    uint8_t room[MODEL_DATA + 64];
};

static const struct client_cred root = {.checked = true};
static const char *const names[MODEL_NAMES] = {"a", "bb", "ccc", "a name of some length", "e", "f"};

static struct slice name_of(int name)
{
    return slice_of(names[name], strlen(names[name]));
}

static uint32_t below(struct run *run, uint32_t bound)
{
    return (uint32_t)random_below(&run->random, bound);
}

static bool expect(struct run *run, const char *what, int want, int got)
{
    if (want == got || run->failed)
        return want == got;
    printf("seed %llu step %u: %s: %s, but the model says %s\n", (unsigned long long)run->seed,
           run->steps, what, error_name(got), error_name(want));
    run->failed = true;
    return false;
}

static void expect_equal(struct run *run, const char *what, uint64_t want, uint64_t got)
{
    if (want == got || run->failed)
        return;
    printf("seed %llu step %u: %s: %llx, but the model says %llx\n", (unsigned long long)run->seed,
           run->steps, what, (unsigned long long)got, (unsigned long long)want);
    run->failed = true;
}

static struct client_place place_of(const struct run *run, int dir, int name)
{
    return (struct client_place){run->model->nodes[dir].ino, name_of(name)};
}

static int some_dir(struct run *run)
{
    return model_dir(run->model, random_u64(&run->random));
}

static void check_attr(struct run *run, const struct model_node *node, const struct wire_attr *attr)
{
    expect_equal(run, "ino", node->ino, attr->ino);
    expect_equal(run, "type", node->mode, attr->mode & S_IFMT);
    expect_equal(run, "nlink", node->nlink, attr->nlink);
    if (!S_ISDIR(node->mode))
        expect_equal(run, "size", node->size, attr->size);
}

/* ---- verbs ----------------------------------------------------------------------------------- */

static void step_make(struct run *run)
{
    static const uint32_t types[] = {S_IFREG, S_IFREG, S_IFREG, S_IFDIR, S_IFDIR, S_IFIFO};
    uint32_t type = types[below(run, ARRAY_COUNT(types))];
    int dir = some_dir(run), name = (int)below(run, MODEL_NAMES), node = -1;
    struct wire_attr attr;
    const struct client_place place = place_of(run, dir, name);
    if (type == S_IFDIR && model_dir(run->model, DIRS_MAX) == DIRS_MAX)
        return;
    int want = model_make(run->model, dir, name, type, &node);
    int got = client_mknod(run->client, &root, &place, type | 0644, 0, &attr);
    if (!expect(run, "mknod", want, got) || got < 0)
        return;
    run->model->nodes[node].ino = attr.ino;
    check_attr(run, &run->model->nodes[node], &attr);
}

static void step_symlink(struct run *run)
{
    int dir = some_dir(run), name = (int)below(run, MODEL_NAMES), node = -1;
    uint32_t bytes = 1 + below(run, 300);
    struct wire_attr attr;
    const struct client_place place = place_of(run, dir, name);
    memset(run->room, 'x', bytes);
    int want = model_make(run->model, dir, name, S_IFLNK, &node);
    int got = client_symlink(run->client, &root, &place, slice_of(run->room, bytes), &attr);
    if (!expect(run, "symlink", want, got) || got < 0)
        return;
    run->model->nodes[node].ino = attr.ino;
    run->model->nodes[node].size = bytes;
    check_attr(run, &run->model->nodes[node], &attr);
}

static void step_link(struct run *run)
{
    int dir = some_dir(run), name = (int)below(run, MODEL_NAMES);
    int node = model_file(run->model, random_u64(&run->random), S_IFREG);
    struct wire_attr attr;
    const struct client_place place = place_of(run, dir, name);
    if (node < 0)
        return;
    int want = model_link(run->model, node, dir, name);
    int got = client_link(run->client, &root, run->model->nodes[node].ino, &place, &attr);
    if (expect(run, "link", want, got) && got == 0)
        check_attr(run, &run->model->nodes[node], &attr);
}

static void step_unlink(struct run *run)
{
    int dir = some_dir(run), name = (int)below(run, MODEL_NAMES);
    uint64_t ino = run->model->nodes[dir].ino;
    int want = model_unlink(run->model, dir, name);
    expect(run, "unlink", want, client_unlink(run->client, &root, ino, name_of(name)));
}

static void step_rmdir(struct run *run)
{
    int dir = some_dir(run), name = (int)below(run, MODEL_NAMES);
    uint64_t ino = run->model->nodes[dir].ino;
    int want = model_rmdir(run->model, dir, name);
    expect(run, "rmdir", want, client_rmdir(run->client, &root, ino, name_of(name)));
}

static void step_rename(struct run *run)
{
    static const uint32_t flags[] = {0, 0, 0, META_RENAME_NOREPLACE, META_RENAME_EXCHANGE};
    int dir = some_dir(run), name = (int)below(run, MODEL_NAMES);
    int dir2 = below(run, 3) ? some_dir(run) : dir, name2 = (int)below(run, MODEL_NAMES);
    uint32_t flag = flags[below(run, ARRAY_COUNT(flags))];
    const struct client_place from = place_of(run, dir, name), to = place_of(run, dir2, name2);
    int want = model_rename(run->model, dir, name, dir2, name2, flag);
    expect(run, "rename", want, client_rename(run->client, &root, &from, &to, flag));
}

static void step_lookup(struct run *run)
{
    int dir = some_dir(run), name = (int)below(run, MODEL_NAMES);
    const struct model_node *at = &run->model->nodes[dir];
    struct wire_attr attr;
    int want = at->entries[name] < 0 ? -ENOENT : 0;
    int got = client_lookup(run->client, &root, at->ino, name_of(name), &attr);
    if (expect(run, "lookup", want, got) && got == 0)
        check_attr(run, &run->model->nodes[at->entries[name]], &attr);
}

static void step_write(struct run *run)
{
    int number = model_file(run->model, random_u64(&run->random), S_IFREG);
    if (number < 0)
        return;
    struct model_node *node = &run->model->nodes[number];
    struct client_file *file;
    if (!expect(run, "open", 0, client_open(run->client, &root, node->ino, &file)))
        return;
    uint32_t offset = below(run, below(run, 3) ? 3000 : MODEL_DATA - 1);
    uint32_t bytes = 1 + below(run, MIN(MODEL_DATA - offset, below(run, 4) ? 1000u : MODEL_DATA));
    struct buf *buf = buf_new(bytes);
    memset(buf->data, (int)below(run, 256), bytes);
    if (expect(run, "write", 0, client_write(file, offset, (struct buf_slice){buf, 0, bytes}))) {
        memcpy(node->data + offset, buf->data, bytes);
        node->size = MAX(node->size, offset + bytes);
    }
    buf_put(buf);
    if (below(run, 4) == 0)
        expect(run, "fsync", 0, client_fsync(file));
    expect(run, "release", 0, client_release(file));
}

static void step_read(struct run *run)
{
    int number = model_file(run->model, random_u64(&run->random), S_IFREG);
    if (number < 0)
        return;
    const struct model_node *node = &run->model->nodes[number];
    struct client_file *file;
    struct client_data data;
    if (!expect(run, "open", 0, client_open(run->client, &root, node->ino, &file)))
        return;
    if (expect(run, "read", 0, client_read(file, 0, MODEL_DATA, &data))) {
        expect_equal(run, "bytes", node->size, data.bytes);
        client_data_copy(&data, run->room);
        if (!run->failed)
            expect_equal(run, "data", 0, memcmp(run->room, node->data, node->size) != 0);
        client_data_fini(&data);
    }
    expect(run, "release", 0, client_release(file));
}

static void step_truncate(struct run *run)
{
    int number = model_file(run->model, random_u64(&run->random), S_IFREG);
    if (number < 0)
        return;
    struct model_node *node = &run->model->nodes[number];
    uint32_t size = below(run, below(run, 2) ? 2000 : MODEL_DATA);
    const struct client_setattr set = {.valid = META_SET_SIZE, .size = size};
    struct wire_attr attr;
    if (!expect(run, "truncate", 0, client_setattr(run->client, &root, node->ino, &set, &attr)))
        return;
    if (size < node->size)
        memset(node->data + size, 0, node->size - size);
    node->size = size;
    check_attr(run, node, &attr);
}

static void step_xattr(struct run *run)
{
    int number = model_file(run->model, random_u64(&run->random), S_IFREG);
    struct slice name = slice_of("user.test", 9);
    if (number < 0)
        return;
    struct model_node *node = &run->model->nodes[number];
    struct client_bytes value = {run->room, 64, 0};
    int want = node->xattr ? 0 : -ENODATA;
    int got = client_getxattr(run->client, &root, node->ino, name, &value);
    if (!expect(run, "getxattr", want, got))
        return;
    if (below(run, 2)) {
        want = node->xattr ? -EEXIST : 0;
        got = client_setxattr(run->client, &root, node->ino, name, slice_of("v", 1),
                              META_XATTR_CREATE);
        expect(run, "setxattr", want, got);
        node->xattr = true;
    } else {
        got = client_removexattr(run->client, &root, node->ino, name);
        expect(run, "removexattr", want, got);
        node->xattr = false;
    }
}

/* All names of a directory, in small pages. */
static void step_readdir(struct run *run)
{
    const struct model_node *dir = &run->model->nodes[some_dir(run)];
    struct client_readdir what = {.dir = dir->ino, .bytes = 1, .want_attr = below(run, 2) != 0};
    bool seen[MODEL_NAMES] = {false};
    for (bool eof = false; !eof && !run->failed;) {
        struct client_dir_page page;
        struct client_dirent entry;
        if (!expect(run, "readdir", 0, client_readdir(run->client, &root, &what, &page)))
            return;
        int more;
        while ((more = client_dir_next(&page, &entry)) > 0) {
            int name = 0;
            while (name < MODEL_NAMES && !slice_equal(name_of(name), entry.name))
                name++;
            expect_equal(run, "known name", 1, name < MODEL_NAMES && !seen[name]);
            if (run->failed)
                break;
            seen[name] = true;
            expect_equal(run, "entry", 1, dir->entries[name] >= 0);
            if (dir->entries[name] >= 0) {
                const struct model_node *node = &run->model->nodes[dir->entries[name]];
                expect_equal(run, "entry's ino", node->ino, entry.ino);
                if (entry.attr_valid)
                    check_attr(run, node, &entry.attr);
            }
        }
        expect(run, "page", 0, more);
        what.cookie = page.cookie;
        eof = page.eof;
        client_dir_page_fini(&page);
    }
    for (int i = 0; i < MODEL_NAMES; i++)
        expect_equal(run, "listed", dir->entries[i] >= 0, seen[i]);
}

static void step_getattr(struct run *run)
{
    const struct model_node *dir = &run->model->nodes[some_dir(run)];
    struct wire_attr attr;
    if (expect(run, "getattr", 0, client_getattr(run->client, &root, dir->ino, &attr)))
        check_attr(run, dir, &attr);
}

typedef void (*step_fn)(struct run *run);
static const step_fn steps[] = {
    step_make,  step_make,   step_make,   step_symlink,  step_link,    step_unlink,  step_unlink,
    step_rmdir, step_rename, step_rename, step_rename,   step_lookup,  step_write,   step_write,
    step_read,  step_read,   step_xattr,  step_truncate, step_readdir, step_getattr,
};

static void workload(void *arg)
{
    struct run *run = arg;
    run->client = cluster_client(&run->cluster, &run->map);
    while (!cluster_all_in_sync(&run->cluster, run->map))
        fiber_sleep(50 * NS_PER_MS);
    model_init(run->model, CFS_ROOT_INO);
    for (run->steps = 0; run->steps < STEPS && !run->failed; run->steps++) {
        steps[below(run, ARRAY_COUNT(steps))](run);
        if (run->crashes)
            fiber_sleep(random_below(&run->random, 10 * NS_PER_MS));
    }
    /* Then all is there again, and nobody is in doubt any more. */
    uint64_t end_ns = env_now_ns() + 60 * NS_PER_S;
    while (!cluster_all_in_sync(&run->cluster, run->map) && env_now_ns() < end_ns)
        fiber_sleep(50 * NS_PER_MS);
    run->done = true;
}

/* ---- faults ---------------------------------------------------------------------------------- */

static bool is_done(void *context)
{
    return ((struct run *)context)->done;
}

/* Time passes; now and then the client's connections break, with requests and replies on them. */
static void run_with_resets(struct run *run, uint64_t duration_ns)
{
    struct sim *sim = run->cluster.sim;
    uint64_t end_ns = sim_now_ns(sim) + duration_ns;
    while (!run->done && sim_now_ns(sim) < end_ns) {
        sim_run_until(sim, is_done, run, sim_now_ns(sim) + sim_random_u64(sim) % RESET_MAX_NS);
        uint32_t index = (uint32_t)(sim_random_u64(sim) % run->cluster.node_count);
        sim_reset_conns(run->host, run->cluster.members[index].sim_node);
    }
}

/* Crash a node at some moment, let it be away for a while, start it again. One at a time. */
static void run_with_crashes(struct run *run)
{
    struct sim *sim = run->cluster.sim;
    sim_run_until(sim, is_done, run, sim_now_ns(sim) + 2 * NS_PER_S);
    for (uint32_t i = 0; i < run->crashes && !run->done; i++) {
        uint32_t index = (uint32_t)(sim_random_u64(sim) % run->cluster.node_count);
        cluster_crash(&run->cluster, index);
        run->crashed++;
        run_with_resets(run, sim_random_u64(sim) % (2 * NS_PER_S));
        cluster_restart(&run->cluster, index);
        while (!run->done && !cluster_is_whole(&run->cluster, run->map))
            run_with_resets(run, 100 * NS_PER_MS);
        run_with_resets(run, sim_random_u64(sim) % NS_PER_S);
    }
    sim_run_until(sim, is_done, run, sim_now_ns(sim) + 300 * NS_PER_S);
}

static bool run_seed(uint64_t seed, uint32_t crashes)
{
    struct run *run = calloc(1, sizeof *run);
    struct fsck_counts found = {0};
    run->model = calloc(1, sizeof *run->model);
    run->seed = seed;
    run->crashes = crashes;
    random_init(&run->random, seed * 7919);
    cluster_start(&run->cluster, seed, 3, 2);
    run->host = sim_node_new(run->cluster.sim, "10.0.0.100");
    reactor_spawn(sim_node_reactor(run->host), "workload", workload, run);
    run_with_crashes(run);
    uint32_t complaints = 0;
    if (run->done && !run->failed) {
        sim_run_for(run->cluster.sim, 45 * NS_PER_S); /* beyond the reaper's grace */
        complaints = cluster_fsck(&run->cluster, true, &found);
    }
    bool passed = run->done && !run->failed && complaints == 0 && found.orphans == 0;
    printf(
        "%s seed %llu crashes %u steps %u inodes %llu names %llu orphans %llu open %llu, virtual "
        "%.1f s\n",
        passed ? "ok" : "FAILED", (unsigned long long)seed, run->crashed, run->steps,
        (unsigned long long)found.inodes, (unsigned long long)found.names,
        (unsigned long long)found.orphans, (unsigned long long)(found.prepared + found.decided),
        (double)sim_now_ns(run->cluster.sim) / 1e9);
    cluster_free(&run->cluster);
    free(run->model);
    free(run);
    return passed;
}

static bool one_seed(uint64_t seed, bool asked)
{
    if (!asked)
        return run_seed(seed, seed % 2 ? 0 : 1000);
    bool quiet = run_seed(seed, 0);
    return run_seed(seed, 1000) && quiet;
}

int main(int argc, char **argv)
{
    return cluster_test_main(argc, argv, 4, one_seed);
}
