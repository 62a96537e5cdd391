/* SPDX-License-Identifier: MIT */
/* Goal: verbs keep their word through retries, failovers, damaged replies and the end of a mount;
 * mutations happen once, and what was lost is told.
 * Method: a client over the simulator against fake servers that fail on demand. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "client/client_test_util.h"

/* ---- failures ---------------------------------------------------------------------------- */

static void exactly_once_body(void)
{
    struct client *client = fake_client(&options);
    struct wire_attr attr;
    struct client_place place = {CFS_ROOT_INO, text("dir")};
    /* The reply is lost twice: the third answer is that of the first execution. */
    fake.faults[RPC_MKDIR] = (struct fake_fault){0, 2, -ERR_RECOVERING, true};
    CHECK(client_mknod(client, &fake_cred, &place, S_IFDIR | 0755, 0, &attr) == 0);
    CHECK(fake.calls[RPC_MKDIR] == 3 && fake.applied[RPC_MKDIR] == 1);
    CHECK(client_mknod(client, &fake_cred, &place, S_IFDIR | 0755, 0, &attr) == -EEXIST);
    fake.faults[RPC_RENAME] = (struct fake_fault){0, 1, -ERR_TXN_ABORTED, false};
    struct client_place to = {CFS_ROOT_INO, text("dir2")};
    CHECK(client_rename(client, &fake_cred, &place, &to, 0) == 0);
    CHECK(fake.calls[RPC_RENAME] == 2 && fake.applied[RPC_RENAME] == 1);
    fake.faults[RPC_RMDIR] = (struct fake_fault){0, 1, -ERR_BUSY, true};
    CHECK(client_rmdir(client, &fake_cred, CFS_ROOT_INO, text("dir2")) == 0);
    CHECK(client_rmdir(client, &fake_cred, CFS_ROOT_INO, text("dir2")) == -ENOENT);
}

static void exactly_once(void **state)
{
    fake_start(5);
    fake_run(exactly_once_body);
    fake_free();
}

static bool same_request(const struct wire_obj_req *a, const struct wire_obj_req *b)
{
    return a->session == b->session && a->slot == b->slot && a->slot_seq == b->slot_seq;
}

static void object_once_body(void)
{
    struct client_options short_options = {.io_timeout_ns = 3 * NS_PER_S};
    struct client *client = fake_client(&short_options);
    struct client_file *file = create(client, "f");
    const struct wire_obj_req *last = fake.changes; /* the newest first */
    static uint8_t bytes[20000];
    CHECK(write_at(file, 0, bytes, sizeof bytes) == 0);
    CHECK(last[0].session != 0 && last[0].slot_seq > 0 && !(last[0].flags & OBJ_RETRY));
    /* a lost reply: the same request, and it says so */
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){0, 1, -ERR_RECOVERING, true};
    CHECK(write_at(file, 0, bytes, 100) == 0);
    CHECK(same_request(&last[0], &last[1]) && !same_request(&last[1], &last[2]));
    CHECK((last[0].flags & OBJ_RETRY) && !(last[1].flags & OBJ_RETRY));
    fake.faults[RPC_OBJ_PUNCH] = (struct fake_fault){0, 1, -ERR_RECOVERING, true};
    CHECK(client_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100) == 0);
    CHECK(same_request(&last[0], &last[1]) && (last[0].flags & OBJ_RETRY));
    /* damaged on the way, though an earlier copy may have been whole */
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){0, 1, -ERR_CORRUPT_DATA, false};
    CHECK(write_at(file, 0, bytes, 100) == 0);
    CHECK(same_request(&last[0], &last[1]) && (last[0].flags & OBJ_RETRY));
    /* refused: the slot goes on; given up: it does not */
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){0, 1, -ENOSPC, false};
    CHECK(write_at(file, 0, bytes, 100) == -ENOSPC);
    CHECK(write_at(file, 0, bytes, 100) == 0);
    CHECK(last[0].slot == last[1].slot && last[0].slot_seq == last[1].slot_seq + 1);
    uint64_t slot = last[0].slot;
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){0, 1u << 30, -ERR_NO_QUORUM, false};
    CHECK(write_at(file, 0, bytes, 100) == -EIO);
    fake.faults[RPC_OBJ_WRITE].count = 0;
    CHECK(last[0].slot == slot);
    CHECK(write_at(file, 0, bytes, 100) == 0);
    CHECK(last[0].slot != slot && last[0].slot_seq == 1 && !(last[0].flags & OBJ_RETRY));
    CHECK(client_release(file) == 0);
}

static void object_once(void **state)
{
    fake_start(5);
    fake_run(object_once_body);
    fake_free();
}

static void deadline_body(void)
{
    struct client_options short_options = {.io_timeout_ns = 3 * NS_PER_S};
    struct client *client = fake_client(&short_options);
    struct wire_attr attr;
    fake.faults[RPC_GETATTR] = (struct fake_fault){0, 1u << 30, -ERR_NO_QUORUM, false};
    uint64_t start_ns = env_now_ns();
    CHECK(client_getattr(client, &fake_cred, CFS_ROOT_INO, &attr) == -EIO);
    uint64_t took_ns = env_now_ns() - start_ns;
    CHECK(took_ns >= 3 * NS_PER_S && took_ns < 4 * NS_PER_S);
    CHECK(fake.calls[RPC_GETATTR] < 200); /* with pauses */
    struct wire_statfs statfs;
    CHECK(client_statfs(client, &statfs) == 0);
    fake.faults[RPC_STATFS] = (struct fake_fault){0, 1u << 30, -ERR_NO_QUORUM, false};
    start_ns = env_now_ns();
    CHECK(client_statfs(client, &statfs) == 0 && statfs.size_bytes == GIB);
    CHECK(env_now_ns() - start_ns < 3 * NS_PER_S);
}

static void deadline(void **state)
{
    fake_start(6);
    fake_run(deadline_body);
    fake_free();
}

static void damaged_reply_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "f");
    static uint8_t bytes[20000];
    memset(bytes, 9, sizeof bytes);
    CHECK(write_at(file, 0, bytes, sizeof bytes) == 0);
    struct client_data data;
    fake.flip_reads = 1;
    CHECK(read_is(file, 0, sizeof bytes, bytes, sizeof bytes));
    fake.flip_reads = 100;
    CHECK(client_read(file, 0, sizeof bytes, &data) == -ERR_CORRUPT_DATA);
    struct client_stats stats;
    client_stats(client, &stats);
    CHECK(stats.checksum_errors == 3);
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){0, 1, -ENOSPC, false};
    CHECK(write_at(file, 0, bytes, 100) == -ENOSPC);
    fake.faults[RPC_OBJ_WRITE].count = 1;
    CHECK(write_at(file, 30000, bytes, 100) == -ENOSPC);
    CHECK(fake.inodes[client_file_ino(file)].size == sizeof bytes);
    CHECK(write_at(file, 30000, bytes, 100) == 0);
    CHECK(fake.inodes[client_file_ino(file)].size == 30100);
    CHECK(client_release(file) == 0);
}

static void damaged_reply(void **state)
{
    fake_start(7);
    fake_run(damaged_reply_body);
    fake_free();
}

static void take_over_fiber(void *arg)
{
    fiber_sleep(300 * NS_PER_MS);
    fake_set_primary(FAKE_META_GROUP, 2);
    fake_set_primary(FAKE_DATA_GROUP_A, 2);
}

static void failover_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "f");
    static uint8_t bytes[3 << 20];
    memset(bytes, 5, sizeof bytes);
    CHECK(write_at(file, 0, bytes, sizeof bytes) == 0);
    CHECK(fake.opens == 1);
    sim_node_crash(fake.server[0]);
    fiber_spawn("controller", take_over_fiber, NULL);
    uint64_t start_ns = env_now_ns();
    memset(bytes, 6, sizeof bytes);
    CHECK(write_at(file, 2 << 20, bytes, sizeof bytes) == 0);
    CHECK(env_now_ns() - start_ns < 500 * NS_PER_MS);
    CHECK(fake.suspects > 0);
    CHECK(read_is(file, 2 << 20, sizeof bytes, bytes, sizeof bytes));
    fiber_sleep(100 * NS_PER_MS);
    CHECK(fake.calls[RPC_OPEN] == 1); /* registered again with the new primary, as the same one */
    CHECK(fake.opens == 1);
    CHECK(client_release(file) == 0);
}

static void failover(void **state)
{
    fake_start(8);
    fake_run(failover_body);
    fake_free();
}

/* The primary ceases to serve, and is named again before the client sees that nobody leads. */
static void named_again_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "f");
    CHECK(fake.opens == 1);
    memset(fake.open_ids, 0, sizeof fake.open_ids);
    fake.opens = 0;
    fake_set_primary(FAKE_META_GROUP, 1);
    fiber_sleep(100 * NS_PER_MS);
    CHECK(fake.opens == 1);
    CHECK(client_release(file) == 0);
}

static void named_again(void **state)
{
    fake_start(14);
    fake_run(named_again_body);
    fake_free();
}

static void silent_fiber(void *arg)
{
    fiber_sleep(3 * NS_PER_S);
    fake_set_primary(FAKE_META_GROUP, 2);
}

/* The primary hangs: the call in the air is given up when the map changes, not at its deadline. */
static void silence_body(void)
{
    struct client *client = fake_client(&options);
    struct wire_attr attr;
    CHECK(client_getattr(client, &fake_cred, CFS_ROOT_INO, &attr) == 0);
    sim_pause(fake.server[0], true);
    fiber_spawn("controller", silent_fiber, NULL);
    uint64_t start_ns = env_now_ns();
    CHECK(client_getattr(client, &fake_cred, CFS_ROOT_INO, &attr) == 0);
    CHECK(env_now_ns() - start_ns < 3200 * NS_PER_MS);
    sim_pause(fake.server[0], false);
    fiber_sleep(20 * NS_PER_S); /* the abandoned call ends, too */
}

static void silence(void **state)
{
    fake_start(9);
    fake_run(silence_body);
    fake_free();
}

/* ---- everything at once --------------------------------------------------------------------- */

enum { STORM_WORKERS = 4, STORM_OPS = 150 };

struct worker {
    struct client *client;
    struct client_file *file;
    struct random random;
    uint8_t *model;
    uint64_t size;
    uint32_t index;
};

static struct random storm_random;
static uint32_t storm_ended;
static uint64_t storm_repeats; /* of all seeds */

static void storm_step(void)
{
    static const uint8_t types[] = {RPC_OBJ_WRITE, RPC_OBJ_READ, RPC_GROW,   RPC_INLINE_WRITE,
                                    RPC_TRUNCATE,  RPC_MKDIR,    RPC_RENAME, RPC_RMDIR};
    static const int errors[] = {-ERR_BUSY, -ERR_NO_LEASE, -ERR_STALE_MAP, -ERR_CONN_LOST};
    switch (random_below(&storm_random, 4)) {
    case 0:
        fake_set_primary(1 + (uint32_t)random_below(&storm_random, 3),
                         1 + (uint32_t)random_below(&storm_random, 2));
        break;
    case 1:
        sim_reset_conns(fake.client_node, fake.server[random_below(&storm_random, 2)]);
        break;
    case 2: {
        uint32_t index = (uint32_t)random_below(&storm_random, 2);
        sim_node_crash(fake.server[index]);
        for (uint32_t group = 1; group <= 3; group++)
            fake_set_primary(group, 2 - index);
        sim_node_restart(fake.server[index]);
        fake_server_spawn(index);
        break;
    }
    default:
        fake.faults[types[random_below(&storm_random, ARRAY_COUNT(types))]] = (struct fake_fault){
            .count = 1 + (uint32_t)random_below(&storm_random, 3),
            .error = errors[random_below(&storm_random, ARRAY_COUNT(errors))],
            .after = random_chance(&storm_random, 1, 2),
        };
    }
}

static void storm_write(struct worker *worker)
{
    uint64_t offset = random_below(
        &worker->random, random_chance(&worker->random, 1, 2) ? 5000 : FAKE_DATA_BYTES - MIB);
    uint32_t bytes = 1 + (uint32_t)random_below(&worker->random, 20000);
    for (uint32_t i = 0; i < bytes; i++)
        worker->model[offset + i] = (uint8_t)random_u64(&worker->random);
    CHECK(write_at(worker->file, offset, worker->model + offset, bytes) == 0);
    worker->size = MAX(worker->size, offset + bytes);
}

static void storm_truncate(struct worker *worker)
{
    struct client_setattr set = {.valid = META_SET_SIZE,
                                 .size = random_below(&worker->random, MIB)};
    struct wire_attr attr;
    CHECK(client_setattr(worker->client, &fake_cred, client_file_ino(worker->file), &set, &attr) ==
          0);
    CHECK(attr.size == set.size);
    if (set.size < worker->size)
        memset(worker->model + set.size, 0, worker->size - set.size);
    worker->size = set.size;
}

static void storm_names(struct worker *worker)
{
    char name[4] = {'x', (char)('a' + worker->index)}, other[4] = {'y', name[1]};
    struct client_place from = {CFS_ROOT_INO, text(name)}, to = {CFS_ROOT_INO, text(other)};
    struct wire_attr attr;
    CHECK(client_mknod(worker->client, &fake_cred, &from, S_IFDIR | 0700, 0, &attr) == 0);
    CHECK(client_rename(worker->client, &fake_cred, &from, &to, 0) == 0);
    CHECK(client_rmdir(worker->client, &fake_cred, to.dir, to.name) == 0);
}

static void storm_worker(void *arg)
{
    struct worker *worker = arg;
    for (uint32_t i = 0; i < STORM_OPS; i++) {
        fiber_sleep(random_below(&worker->random, 2 * NS_PER_MS));
        switch (random_below(&worker->random, 5)) {
        case 0:
        case 1:
            storm_write(worker);
            break;
        case 2:
            storm_truncate(worker);
            break;
        case 3:
            storm_names(worker);
            break;
        default: {
            uint64_t offset = random_below(&worker->random, MIB);
            uint64_t left = MAX(worker->size, offset) - offset;
            CHECK(read_is(worker->file, offset, 30000, worker->model + offset,
                          (uint32_t)MIN(left, (uint64_t)30000)));
        }
        }
    }
    CHECK(client_fsync(worker->file) == 0);
    CHECK(fake.inodes[client_file_ino(worker->file)].size == worker->size);
    CHECK(client_release(worker->file) == 0);
    storm_ended++;
}

static void storm_body(void)
{
    static struct worker workers[STORM_WORKERS];
    struct client *client = fake_client(&options);
    storm_ended = 0;
    for (uint32_t i = 0; i < STORM_WORKERS; i++) {
        char name[4] = {'f', (char)('a' + i)};
        workers[i] = (struct worker){
            .client = client,
            .file = create(client, name),
            .model = mem_zalloc(FAKE_DATA_BYTES),
            .index = i,
        };
        random_init(&workers[i].random, random_u64(&storm_random));
        fiber_spawn("worker", storm_worker, &workers[i]);
    }
    while (storm_ended < STORM_WORKERS)
        fiber_sleep(10 * NS_PER_MS);
    fiber_sleep(3 * NS_PER_S);
    struct client_stats stats;
    client_stats(client, &stats);
    storm_repeats += stats.repeats;
    CHECK(stats.timeouts == 0 && stats.open_files == 0);
    CHECK(fake.wrong_crcs == 0 && fake.opens == 0);
    for (uint32_t i = 0; i < STORM_WORKERS; i++)
        mem_free(workers[i].model);
}

static void storm(void **state)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        random_init(&storm_random, seed);
        fake_start(seed);
        fake_run_with(storm_body, storm_step);
        fake_free();
    }
    assert_true(storm_repeats > 200);
}

/* ---- the end of a mount ---------------------------------------------------------------------- */

static void end_body(void)
{
    struct client *client = fake_client(&options);
    CHECK(client_release(create(client, "closed")) == 0);
    fake.faults[RPC_RELEASE] = (struct fake_fault){.count = 2, .error = -ERR_BUSY};
    client_flush_all(client);
    CHECK(fake.opens == 0);
}

static void end_waits_for_closed_files(void **state)
{
    fake_start(13);
    fake_run(end_body);
    fake_free();
}

/* ---- directory syncs ------------------------------------------------------------------------- */

static int dir_sync_result;
static bool dir_sync_ended;

static void dir_sync_fiber(void *arg)
{
    dir_sync_result = client_sync_inode(arg, CFS_ROOT_INO);
    dir_sync_ended = true;
}

static void make_dir(struct client *client, const char *name)
{
    struct client_place place = {CFS_ROOT_INO, text(name)};
    struct wire_attr attr;
    CHECK(client_mknod(client, &fake_cred, &place, S_IFDIR | 0755, 0, &attr) == 0);
}

/* All members of the group of names have lost their memory. */
static void lose_memory(void)
{
    fake.groups[FAKE_META_GROUP - 1].cold_starts++;
    fake_set_primary(FAKE_META_GROUP, 1);
}

static void dir_sync_body(void)
{
    struct client *client = fake_client(&options);
    make_dir(client, "before");
    lose_memory();
    CHECK(client_sync_inode(client, CFS_ROOT_INO) == -EIO); /* once */
    CHECK(client_sync_inode(client, CFS_ROOT_INO) == 0);
    /* A name that is made while a sync is under way may not be part of it. */
    make_dir(client, "first");
    dir_sync_ended = false;
    fake.faults[RPC_SYNC] = (struct fake_fault){.count = 4, .error = -ERR_BUSY};
    fiber_spawn("sync", dir_sync_fiber, client);
    fiber_sleep(NS_PER_MS);
    make_dir(client, "meanwhile");
    CHECK(!dir_sync_ended);
    while (!dir_sync_ended)
        fiber_sleep(NS_PER_MS);
    CHECK(dir_sync_result == 0);
    lose_memory();
    CHECK(client_sync_inode(client, CFS_ROOT_INO) == -EIO);
    lose_memory();
    CHECK(client_sync_inode(client, CFS_ROOT_INO) == 0); /* nothing was changed since */
}

static void directory_sync_tells_of_loss(void **state)
{
    fake_start(12);
    fake_run(dir_sync_body);
    fake_free();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exactly_once),
        cmocka_unit_test(object_once),
        cmocka_unit_test(deadline),
        cmocka_unit_test(damaged_reply),
        cmocka_unit_test(failover),
        cmocka_unit_test(named_again),
        cmocka_unit_test(silence),
        cmocka_unit_test(end_waits_for_closed_files),
        cmocka_unit_test(directory_sync_tells_of_loss),
        cmocka_unit_test(storm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
