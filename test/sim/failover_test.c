/* SPDX-License-Identifier: MIT */
/* Goal: three nodes hold a tree through the death of each of them in turn, and of all at once.
 * Method: a client makes and writes files while nodes crash and come back; what it was told is
 * compared with what it reads, while a node is away and after all copies are back. In the second
 * part the client fsyncs each file, and all nodes are killed in one moment, several times: every
 * file whose fsync succeeded must be there. Virtual time; arguments: seeds (default: a fixed
 * set). */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "cluster.h"

enum { FILES = 60, DIRS = 5, BIG_BYTES = 300000, ALL_ROUNDS = 4 };

struct run {
    struct cluster cluster;
    struct sim_node *host;
    uint64_t seed;
    uint32_t crash_next; /* 1 + index of the node to crash now; set by the client's fiber */
    uint32_t restart_next;
    bool crash_all_next;
    uint32_t crashes;     /* of all nodes */
    uint64_t crash_at_ns; /* second part: when the nodes die */
    const char *failed;
    int error;
    bool done;
};

static const struct client_cred root = {.checked = true};

#define CHECK(expression)                                                                          \
    do {                                                                                           \
        int check_result_ = (expression);                                                          \
        if (check_result_ < 0 && !run->failed) {                                                   \
            run->failed = #expression;                                                             \
            run->error = check_result_;                                                            \
        }                                                                                          \
    } while (0)

static void fill(uint8_t *bytes, uint32_t count, uint32_t file)
{
    for (uint32_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(file * 31 + i * 7 + (i >> 9));
}

/* Every third file is big, every third fits inline, every third is empty. */
static uint32_t file_bytes(uint32_t file)
{
    return file % 3 == 0 ? BIG_BYTES : file % 3 == 1 ? 1000 : 0;
}

static struct client_place place_of(const uint64_t *dirs, uint32_t file, char name[32])
{
    (void)snprintf(name, 32, "file%u", file);
    return (struct client_place){dirs[file % DIRS], slice_of(name, strlen(name))};
}

static void make_file(struct run *run, struct client *client, const uint64_t *dirs, uint32_t file,
                      bool sync)
{
    char name[32];
    struct client_file *open;
    const struct client_place place = place_of(dirs, file, name);
    CHECK(client_create(client, &root, &place, S_IFREG | 0644, true, &open));
    if (run->failed)
        return;
    uint32_t bytes = file_bytes(file);
    if (bytes) {
        struct buf *buf = buf_new(bytes);
        fill(buf->data, bytes, file);
        CHECK(client_write(open, 0, (struct buf_slice){buf, 0, bytes}));
        buf_put(buf);
    }
    if (sync)
        CHECK(client_fsync(open));
    CHECK(client_release(open));
}

static void check_file(struct run *run, struct client *client, const uint64_t *dirs, uint32_t file)
{
    char name[32];
    struct wire_attr attr;
    struct client_file *open;
    const struct client_place place = place_of(dirs, file, name);
    CHECK(client_lookup(client, &root, place.dir, place.name, &attr));
    if (run->failed)
        return;
    uint32_t bytes = file_bytes(file);
    if (attr.size != bytes)
        CHECK(-EBADMSG);
    CHECK(client_open(client, &root, attr.ino, &open));
    if (run->failed)
        return;
    if (bytes) {
        struct client_data data;
        CHECK(client_read(open, 0, BIG_BYTES, &data));
        if (!run->failed) {
            uint8_t *got = mem_alloc(BIG_BYTES);
            uint8_t *want = mem_alloc(BIG_BYTES);
            fill(want, bytes, file);
            client_data_copy(&data, got);
            if (data.bytes != bytes || memcmp(got, want, bytes) != 0)
                CHECK(-EBADMSG);
            client_data_fini(&data);
            mem_free(got);
            mem_free(want);
        }
    }
    CHECK(client_release(open));
}

static void wait_in_sync(struct run *run, struct map_client *map)
{
    uint64_t end_ns = env_now_ns() + 60 * NS_PER_S;
    while (!cluster_all_in_sync(&run->cluster, map) && env_now_ns() < end_ns)
        fiber_sleep(50 * NS_PER_MS);
    if (!cluster_all_in_sync(&run->cluster, map))
        CHECK(-ETIME);
}

static void make_dirs(struct run *run, struct client *client, uint64_t *dirs)
{
    for (uint32_t i = 0; i < DIRS && !run->failed; i++) {
        char name[32];
        struct wire_attr attr = {0};
        (void)snprintf(name, sizeof name, "dir%u", i);
        const struct client_place place = {CFS_ROOT_INO, slice_of(name, strlen(name))};
        CHECK(client_mknod(client, &root, &place, S_IFDIR | 0755, 0, &attr));
        dirs[i] = attr.ino;
    }
}

/* All nodes die at a moment that the client does not choose; it goes on until it has made its
 * files, and then looks for all of them. */
static void workload_all(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    struct client *client = cluster_client(&run->cluster, &map);
    uint64_t dirs[DIRS];
    uint32_t made = 0;
    bool answered[ALL_ROUNDS * FILES / 2] = {0};
    wait_in_sync(run, map);
    make_dirs(run, client, dirs);
    for (uint32_t i = 0; i < DIRS && !run->failed; i++)
        CHECK(client_sync_inode(client, dirs[i]));
    CHECK(client_sync_inode(client, CFS_ROOT_INO));
    for (uint32_t round = 0; round < ALL_ROUNDS && !run->failed; round++) {
        run->crash_at_ns =
            sim_now_ns(run->cluster.sim) + sim_random_u64(run->cluster.sim) % (200 * NS_PER_MS);
        for (uint32_t i = 0; i < FILES / 2 && !run->failed; i++) {
            uint32_t before = run->crashes;
            make_file(run, client, dirs, made, true);
            answered[made++] = !run->failed;
            if (run->failed && run->crashes != before)
                run->failed = NULL; /* lost before its fsync: allowed, and it was told */
        }
        run->crash_all_next = true;
        fiber_sleep(10 * NS_PER_MS);
        for (uint32_t i = 0; i < made && !run->failed; i++) {
            if (answered[i])
                check_file(run, client, dirs, i);
        }
    }
    run->done = true;
}

static void workload(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    struct client *client = cluster_client(&run->cluster, &map);
    uint64_t dirs[DIRS];
    wait_in_sync(run, map);
    make_dirs(run, client, dirs);
    uint32_t made = 0;
    for (uint32_t round = 0; round < run->cluster.node_count && !run->failed; round++) {
        for (uint32_t i = 0; i < FILES && !run->failed; i++) {
            if (i == FILES / 3)
                run->crash_next = 1 + round;
            make_file(run, client, dirs, made++, false);
        }
        for (uint32_t i = 0; i < made && !run->failed; i++)
            check_file(run, client, dirs, i);
        run->restart_next = 1 + round;
        fiber_sleep(100 * NS_PER_MS);
        if (!run->failed)
            wait_in_sync(run, map);
        for (uint32_t i = 0; i < made && !run->failed; i++)
            check_file(run, client, dirs, i);
    }
    run->done = true;
}

static bool wants_something(void *context)
{
    struct run *run = context;
    return run->done || run->crash_next || run->restart_next || run->crash_all_next ||
           (run->crash_at_ns && sim_now_ns(run->cluster.sim) >= run->crash_at_ns);
}

static void crash_all(struct run *run)
{
    run->crashes++;
    for (uint32_t i = 0; i < run->cluster.node_count; i++)
        cluster_crash(&run->cluster, i);
    sim_run_for(run->cluster.sim, sim_random_u64(run->cluster.sim) % (300 * NS_PER_MS));
    for (uint32_t i = 0; i < run->cluster.node_count; i++)
        cluster_restart(&run->cluster, i);
}

static void do_what_is_wanted(struct run *run)
{
    if (run->crash_next)
        cluster_crash(&run->cluster, run->crash_next - 1);
    if (run->restart_next)
        cluster_restart(&run->cluster, run->restart_next - 1);
    bool due = run->crash_at_ns && sim_now_ns(run->cluster.sim) >= run->crash_at_ns;
    if (due)
        run->crash_at_ns = 0;
    if (run->crash_all_next || due)
        crash_all(run);
    run->crash_next = run->restart_next = 0;
    run->crash_all_next = false;
}

static bool run_seed(uint64_t seed, const char *name, fiber_fn work)
{
    struct run *run = calloc(1, sizeof *run);
    run->seed = seed;
    cluster_start(&run->cluster, seed, 3, 2);
    run->host = sim_node_new(run->cluster.sim, "10.0.0.100");
    reactor_spawn(sim_node_reactor(run->host), "workload", work, run);
    uint64_t end_ns = sim_now_ns(run->cluster.sim) + 600 * NS_PER_S;
    while (!run->done && sim_run_until(run->cluster.sim, wants_something, run, end_ns))
        do_what_is_wanted(run);
    bool passed = run->done && !run->failed;
    printf("%s %s seed %llu virtual time %.1f s%s%s%s%s\n", passed ? "ok" : "FAILED", name,
           (unsigned long long)seed, (double)sim_now_ns(run->cluster.sim) / 1e9,
           run->failed ? ": " : "", run->failed ? run->failed : "",
           run->failed ? " = "
           : run->done ? ""
                       : ": not finished",
           run->failed ? error_name(run->error) : "");
    cluster_free(&run->cluster);
    free(run);
    return passed;
}

static bool run_both(uint64_t seed)
{
    bool passed = run_seed(seed, "one-by-one", workload);
    return run_seed(seed, "all-at-once", workload_all) && passed;
}

int main(int argc, char **argv)
{
    static const uint64_t fixed[] = {1, 2, 3, 4, 5};
    bool passed = true;
    log_set_level(getenv("CFS_LOG") ? LOG_DEBUG : LOG_ERROR);
    if (argc > 1) {
        for (int i = 1; i < argc; i++)
            passed &= run_both(strtoull(argv[i], NULL, 10));
    } else {
        for (size_t i = 0; i < ARRAY_COUNT(fixed); i++)
            passed &= run_both(fixed[i]);
    }
    return passed ? 0 : 1;
}
