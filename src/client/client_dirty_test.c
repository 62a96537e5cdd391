/* SPDX-License-Identifier: MIT */
/* What an fsync has to cover (dirty.c), over servers that lose what they have not flushed: the map
 * counts a cold start of a group. The simulator judges the same with real servers (test/sim). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/client_test_util.h"

#define SETTLED_NS (5 * NS_PER_S) /* what was closed is flushed and forgotten by then */
#define DARK_NS    (8 * NS_PER_S) /* no group answers; less than a request waits */

static const struct fake_fault dark = {.count = UINT32_MAX, .error = -ERR_BUSY};

static void lose_memory(uint32_t group)
{
    fake.groups[group - 1].cold_starts++;
    fake_set_primary(group, 1);
}

static struct client_file *open_ino(struct client *client, uint64_t ino)
{
    struct client_file *file = NULL;
    CHECK(client_open(client, &fake_cred, ino, &file) == 0);
    return file;
}

/* A file with one object, written and closed; and the group of that object. */
static uint64_t make(struct client *client, const char *name, uint32_t *ret_group)
{
    static const uint8_t bytes[5000];
    struct client_file *file = create(client, name);
    uint64_t ino = client_file_ino(file);
    CHECK(write_at(file, 0, bytes, sizeof bytes) == 0);
    CHECK(client_release(file) == 0);
    *ret_group = map_view_of_object(&fake.view, ino, 0)->id;
    return ino;
}

/* fsync through a file that is opened for it. */
static int sync_ino(struct client *client, uint64_t ino)
{
    struct client_file *file = open_ino(client, ino);
    int result = client_fsync(file);
    CHECK(client_release(file) == 0);
    return result;
}

static void run(void (*body)(void))
{
    fake_start(21);
    fake_run(body);
    fake_free();
}

/* ---- closed files ---------------------------------------------------------------------------- */

static void closed_body(void)
{
    struct client *client = fake_client(&options);
    uint32_t group;
    uint64_t ino = make(client, "data", &group);
    fake.faults[RPC_OBJ_SYNC] = dark;
    fiber_sleep(DARK_NS);
    lose_memory(group);
    fake.faults[RPC_OBJ_SYNC].count = 0;
    fiber_sleep(DARK_NS);
    CHECK(sync_ino(client, ino) == -EIO);
    CHECK(sync_ino(client, ino) == 0); /* D3: once */

    ino = make(client, "inode", &group);
    lose_memory(FAKE_META_GROUP);
    struct client_file *reader = open_ino(client, ino); /* takes it out of the list */
    CHECK(client_release(reader) == 0);
    fiber_sleep(SETTLED_NS);
    CHECK(sync_ino(client, ino) == -EIO);
    CHECK(sync_ino(client, ino) == 0);
}

static void closed_file_remembers_what_was_lost(void **state)
{
    run(closed_body);
}

static void flushed_body(void)
{
    struct client *client = fake_client(&options);
    uint32_t group;
    uint64_t first = make(client, "first", &group);
    uint64_t second = make(client, "second", &group);
    fiber_sleep(SETTLED_NS);
    CHECK(fake.calls[RPC_OBJ_SYNC] <= 3); /* one a group, however many files */
    fiber_sleep(SETTLED_NS);
    CHECK(fake.calls[RPC_OBJ_SYNC] <= 3); /* and none for what is flushed */
    for (uint32_t i = FAKE_META_GROUP; i <= FAKE_DATA_GROUP_B; i++)
        lose_memory(i);
    CHECK(sync_ino(client, first) == 0 && sync_ino(client, second) == 0);
}

static void closed_file_that_was_flushed_is_forgotten(void **state)
{
    run(flushed_body);
}

static void late_flush_body(void)
{
    struct client *client = fake_client(&options);
    uint32_t group;
    uint64_t ino = make(client, "late", &group);
    /* The flush is asked for before the group loses its memory, and answered after. */
    fake.faults[RPC_OBJ_SYNC] = dark;
    while (fake.calls[RPC_OBJ_SYNC] == 0)
        fiber_sleep(NS_PER_MS);
    lose_memory(group);
    fake.faults[RPC_OBJ_SYNC].count = 0;
    fiber_sleep(SETTLED_NS);
    CHECK(sync_ino(client, ino) == -EIO);
}

static void flush_in_a_later_life_proves_nothing(void **state)
{
    run(late_flush_body);
}

static void cut_by_path_body(void)
{
    struct client *client = fake_client(&options);
    const struct client_setattr cut = {.valid = META_SET_SIZE, .size = 1};
    struct wire_attr attr;
    uint32_t group;
    uint64_t ino = make(client, "cut", &group);
    fiber_sleep(SETTLED_NS);
    CHECK(client_setattr(client, &fake_cred, ino, &cut, &attr) == 0);
    lose_memory(FAKE_META_GROUP);
    CHECK(sync_ino(client, ino) == -EIO);
}

static void truncation_without_an_open_file_counts(void **state)
{
    run(cut_by_path_body);
}

static void gone_back_body(void)
{
    static const uint8_t bytes[5000] = {1};
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "back");
    uint64_t ino = client_file_ino(file);
    CHECK(write_at(file, 0, bytes, 100) == 0);
    struct wire_attr before = fake.inodes[ino];
    for (uint32_t i = 0; i < 4; i++) /* moves it out of the inode, */
        CHECK(write_at(file, i * sizeof bytes, bytes, sizeof bytes) == 0);
    fake.inodes[ino] = before; /* which is lost */
    lose_memory(FAKE_META_GROUP);
    fiber_sleep(2 * options.attr_ttl_ns);
    CHECK(write_at(file, 0, bytes, 50) == 0); /* I5 in client.c */
    CHECK(read_is(file, 0, sizeof bytes, bytes, 100));
    CHECK(client_release(file) == 0);
}

static void open_file_goes_back_with_its_servers(void **state)
{
    run(gone_back_body);
}

/* ---- directories ----------------------------------------------------------------------------- */

static uint64_t make_dir(struct client *client, const char *name)
{
    struct client_place place = {CFS_ROOT_INO, text(name)};
    struct wire_attr attr = {0};
    CHECK(client_mknod(client, &fake_cred, &place, S_IFDIR | 0755, 0, &attr) == 0);
    return attr.ino;
}

static void directories_body(void)
{
    struct client *client = fake_client(&options);
    uint64_t from = make_dir(client, "from"), to = make_dir(client, "to");
    const struct client_place source = {from, text("name")}, target = {to, text("name")};
    struct wire_attr attr;
    CHECK(client_mknod(client, &fake_cred, &source, S_IFREG | 0644, 0, &attr) == 0);
    fiber_sleep(SETTLED_NS);
    CHECK(client_rename(client, &fake_cred, &source, &target, 0) == 0);
    uint64_t made = make_dir(client, "made");
    lose_memory(FAKE_META_GROUP);
    fiber_sleep(SETTLED_NS);
    const uint64_t changed[] = {from, to, made, CFS_ROOT_INO};
    for (uint32_t i = 0; i < ARRAY_COUNT(changed); i++) {
        CHECK(client_sync_inode(client, changed[i]) == -EIO);
        CHECK(client_sync_inode(client, changed[i]) == 0);
    }
    CHECK(client_sync_inode(client, attr.ino) == 0); /* nothing was changed there */
}

static void each_directory_is_told_of_its_loss(void **state)
{
    run(directories_body);
}

/* ---- several fsyncs -------------------------------------------------------------------------- */

struct syncer {
    struct client_file *file;
    int result;
    bool ended;
};

static void sync_fiber(void *arg)
{
    struct syncer *syncer = arg;
    syncer->result = client_fsync(syncer->file);
    syncer->ended = true;
}

static void beside_body(void)
{
    struct client *client = fake_client(&options);
    uint32_t group;
    uint64_t ino = make(client, "beside", &group);
    struct client_file *file = open_ino(client, ino);
    struct syncer syncers[2] = {{.file = file}, {.file = file}};
    fake.faults[RPC_OBJ_SYNC] = dark;
    fiber_spawn("sync", sync_fiber, &syncers[0]);
    fiber_sleep(10 * NS_PER_MS);
    fiber_spawn("sync", sync_fiber, &syncers[1]); /* D2: nothing is durable yet */
    fiber_sleep(NS_PER_S);
    CHECK(!syncers[0].ended && !syncers[1].ended);
    lose_memory(group);
    fake.faults[RPC_OBJ_SYNC].count = 0;
    while (!syncers[0].ended || !syncers[1].ended)
        fiber_sleep(NS_PER_MS);
    CHECK(MIN(syncers[0].result, syncers[1].result) == -EIO);
    CHECK(MAX(syncers[0].result, syncers[1].result) == 0); /* D3: once */
    CHECK(client_release(file) == 0);
}

static void fsyncs_beside_each_other_all_wait(void **state)
{
    run(beside_body);
}

static void failed_body(void)
{
    static const uint8_t byte[1];
    struct client *client = fake_client(&options);
    uint32_t group;
    uint64_t ino = make(client, "failed", &group);
    struct client_file *file = open_ino(client, ino);
    fake.faults[RPC_OBJ_SYNC] = dark;
    CHECK(client_fsync(file) == -EIO); /* after io_timeout */
    lose_memory(group);
    fake.faults[RPC_OBJ_SYNC].count = 0;
    uint32_t asked = fake.calls[RPC_OBJ_SYNC];
    CHECK(client_fsync(file) == 0); /* D3: what was lost was told */
    CHECK(fake.calls[RPC_OBJ_SYNC] > asked);
    CHECK(write_at(file, 0, byte, sizeof byte) == 0);
    lose_memory(group);
    CHECK(client_fsync(file) == -EIO); /* but this is another loss */
    CHECK(client_release(file) == 0);
}

static void failed_fsync_has_told(void **state)
{
    run(failed_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_file_remembers_what_was_lost),
        cmocka_unit_test(closed_file_that_was_flushed_is_forgotten),
        cmocka_unit_test(flush_in_a_later_life_proves_nothing),
        cmocka_unit_test(truncation_without_an_open_file_counts),
        cmocka_unit_test(open_file_goes_back_with_its_servers),
        cmocka_unit_test(each_directory_is_told_of_its_loss),
        cmocka_unit_test(fsyncs_beside_each_other_all_wait),
        cmocka_unit_test(failed_fsync_has_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
