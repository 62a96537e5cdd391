/* SPDX-License-Identifier: MIT */
/* Goal: a write that was done and not answered is not done again, whatever has happened to those
 * who did it. Method: a writer that does not hear any node writes a block; a witness sees
 * that, writes over it and syncs; then the primary lives on, or dies, or dies and comes back before
 * the other member dies, or all lose power. The writer's connections break, it asks again, and what
 * the witness wrote must be there. Virtual time; arguments: seeds (default: one). */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "cluster_fsck.h"

enum { NODES = 3, FILE_BYTES = 64 << 10, BLOCK = 4096 };
#define PATIENCE_NS (120 * NS_PER_S)
#define SILENCE_NS  (6 * NS_PER_S) /* answers on their way are lost by then */

enum blow { NOTHING, DEATH, RETURN, BLACKOUT, BLOWS };

/* A client on a host of its own. */
struct side {
    struct run *run;
    struct sim_node *host;
    struct map_client *map;
    struct client *client;
    struct client_file *file;
    uint8_t fill; /* what it writes */
    bool done;
};

struct run {
    struct cluster cluster;
    struct side writer;
    struct side witness;
    uint64_t ino;
    uint32_t round;
    int error;
};

static const struct client_cred root = {.checked = true};

static void end(struct side *side, int result)
{
    side->run->error = MIN(side->run->error, result);
    side->done = true;
}

static int write_block(struct side *side, uint32_t bytes)
{
    struct buf *buf = buf_new(bytes);
    memset(buf->data, side->fill, bytes);
    int result = client_write(side->file, 0, (struct buf_slice){buf, 0, bytes});
    buf_put(buf);
    return result;
}

/* The first byte of the block, which is to be one of a whole block of them; or an error. */
static int read_block(struct side *side)
{
    uint8_t bytes[BLOCK];
    struct client_data data;
    int result = client_read(side->file, 0, BLOCK, &data);
    if (result < 0)
        return result;
    assert(data.bytes == BLOCK);
    client_data_copy(&data, bytes);
    client_data_fini(&data);
    for (uint32_t i = 0; i < BLOCK; i++) {
        if (bytes[i] != bytes[0])
            return -ERR_CORRUPT_DATA;
    }
    return bytes[0];
}

static void make_fiber(void *arg)
{
    struct side *side = arg;
    struct wire_attr attr;
    const struct client_place place = {CFS_ROOT_INO, slice_of("file", 4)};
    side->client = cluster_client(&side->run->cluster, &side->map);
    int result = client_mknod(side->client, &root, &place, S_IFREG | 0644, 0, &attr);
    if (result == 0)
        result = client_open(side->client, &root, attr.ino, &side->file);
    if (result == 0)
        result = write_block(side, FILE_BYTES);
    if (result == 0)
        side->run->ino = attr.ino;
    end(side, result);
}

static void open_fiber(void *arg)
{
    struct side *side = arg;
    side->client = cluster_client(&side->run->cluster, &side->map);
    end(side, client_open(side->client, &root, side->run->ino, &side->file));
}

/* Connections are there afterwards. */
static void read_fiber(void *arg)
{
    struct side *side = arg;
    end(side, MIN(read_block(side), 0));
}

static void write_fiber(void *arg)
{
    struct side *side = arg;
    end(side, write_block(side, BLOCK));
}

static void overwrite_fiber(void *arg)
{
    struct side *side = arg;
    int seen;
    while ((seen = read_block(side)) >= 0 && seen != side->run->writer.fill)
        fiber_sleep(NS_PER_MS);
    int result = seen < 0 ? seen : write_block(side, BLOCK);
    end(side, result < 0 ? result : client_fsync(side->file));
}

static void check_fiber(void *arg)
{
    struct side *side = arg;
    int seen = read_block(side);
    if (seen >= 0 && seen != side->fill)
        printf("round %u: the block is %c again, %c was written over it\n", side->run->round, seen,
               side->fill);
    end(side, seen == side->fill ? 0 : -ERR_CORRUPT_DATA);
}

static bool is_done(void *context)
{
    return ((struct side *)context)->done;
}

static bool wait_done(struct side *side)
{
    struct sim *sim = side->run->cluster.sim;
    return sim_run_until(sim, is_done, side, sim_now_ns(sim) + PATIENCE_NS) &&
           side->run->error == 0;
}

static void begin(struct side *side, fiber_fn fn)
{
    side->done = false;
    reactor_spawn(sim_node_reactor(side->host), "test", fn, side);
}

static bool perform(struct side *side, fiber_fn fn)
{
    struct run *run = side->run;
    return cluster_run_fiber(&run->cluster, side->host, fn, side, &side->done) && run->error == 0;
}

static bool is_whole(void *context)
{
    const struct run *run = context;
    return cluster_is_whole(&run->cluster, run->witness.map);
}

static bool wait_whole(struct run *run)
{
    struct sim *sim = run->cluster.sim;
    return sim_run_until(sim, is_whole, run, sim_now_ns(sim) + PATIENCE_NS);
}

/* Index of the node that is the primary of the block's group. */
static uint32_t primary_of(const struct run *run)
{
    const struct map_group *group =
        map_view_of_object(map_client_view(run->witness.map), run->ino, 0);
    for (uint32_t i = 0; i < NODES; i++) {
        if (run->cluster.members[i].id == group->primary)
            return i;
    }
    WRONG("whole, so it has one");
}

/* What befalls the primary; the witness follows the map meanwhile. False: not whole in time. */
static bool strike(struct run *run, enum blow blow, uint32_t primary)
{
    struct cluster *cluster = &run->cluster;
    switch (blow) {
    case NOTHING:
        return true;
    case DEATH:
        cluster_crash(cluster, primary);
        return true;
    case RETURN:
        cluster_crash(cluster, primary);
        sim_run_for(cluster->sim, NS_PER_S);
        cluster_restart(cluster, primary);
        if (!wait_whole(run))
            return false;
        cluster_crash(cluster, primary_of(run));
        return true;
    case BLACKOUT:
        for (uint32_t i = 0; i < NODES; i++)
            cluster_power_off(cluster, i);
        for (uint32_t i = 0; i < NODES; i++)
            cluster_restart(cluster, i);
        return true;
    case BLOWS:
        break;
    }
    WRONG("blow");
}

static void hear(struct run *run, bool on)
{
    for (uint32_t i = 0; i < NODES; i++) {
        struct sim_node *node = run->cluster.members[i].sim_node;
        if (on)
            sim_partition(node, run->writer.host, false);
        else
            sim_partition_one_way(node, run->writer.host, true);
    }
}

static bool play(struct run *run, enum blow blow)
{
    run->writer.fill = (uint8_t)('a' + run->round);
    run->witness.fill = (uint8_t)('A' + run->round);
    if (!wait_whole(run) || !perform(&run->writer, read_fiber))
        return false;
    uint32_t primary = primary_of(run);
    hear(run, false);
    begin(&run->writer, write_fiber);
    if (!perform(&run->witness, overwrite_fiber) || run->writer.done)
        return false;
    if (!strike(run, blow, primary))
        return false;
    sim_run_for(run->cluster.sim, SILENCE_NS);
    hear(run, true);
    if (!wait_done(&run->writer) || !perform(&run->witness, check_fiber))
        return false;
    for (uint32_t i = 0; i < NODES; i++) {
        if (!sim_node_up(run->cluster.members[i].sim_node))
            cluster_restart(&run->cluster, i);
    }
    return true;
}

static bool run_seed(uint64_t seed, bool asked)
{
    (void)asked;
    struct run *run = calloc(1, sizeof *run);
    cluster_start(&run->cluster, seed, NODES, 2);
    struct sim *sim = run->cluster.sim;
    run->writer = (struct side){.run = run, .host = sim_node_new(sim, "10.0.0.100")};
    run->witness = (struct side){.run = run, .host = sim_node_new(sim, "10.0.0.101"), .fill = '-'};
    bool passed = perform(&run->witness, make_fiber) && perform(&run->writer, open_fiber);
    for (; passed && run->round < 2 * BLOWS; run->round++)
        passed = play(run, run->round % BLOWS) && passed;
    struct fsck_counts found = {0};
    passed = passed && wait_whole(run) && cluster_fsck(&run->cluster, true, &found) == 0;
    printf("%s seed %llu rounds %u error %d, virtual %.1f s\n", passed ? "ok" : "FAILED",
           (unsigned long long)seed, run->round, run->error, (double)sim_now_ns(sim) / 1e9);
    cluster_free(&run->cluster);
    free(run);
    return passed;
}

int main(int argc, char **argv)
{
    return cluster_test_main(argc, argv, 1, run_seed);
}
