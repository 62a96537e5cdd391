/* SPDX-License-Identifier: MIT */
/* Goal: verbs do what POSIX says through retries, failovers and damaged replies; mutations happen
 * once; requests are no more than needed.
 * Method: a client over the simulator against fake servers that count and fail on demand. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/random.h"
#include "client/fake_server_test.h"
#include "client/split.h"

static const struct client_options options = {.attr_ttl_ns = NS_PER_S};

static struct slice text(const char *string)
{
    return slice_of(string, strlen(string));
}

static struct client_file *create(struct client *client, const char *name)
{
    struct client_place place = {CFS_ROOT_INO, text(name)};
    struct client_file *file = NULL;
    CHECK(client_create(client, &fake_cred, &place, S_IFREG | 0644, false, &file) == 0);
    return file;
}

static int write_at(struct client_file *file, uint64_t offset, const void *bytes, uint32_t count)
{
    struct buf *buf = buf_new(count + 80);
    memcpy(buf->data + 80, bytes, count); /* at an odd place, as from the kernel */
    int result = client_write(file, offset, (struct buf_slice){buf, 80, count});
    buf_put(buf);
    return result;
}

static bool read_is(struct client_file *file, uint64_t offset, uint32_t ask, const void *bytes,
                    uint32_t count)
{
    struct client_data data;
    if (client_read(file, offset, ask, &data) < 0)
        return false;
    bool same = data.bytes == count;
    if (same) {
        uint8_t *copy = mem_alloc(count + 1);
        client_data_copy(&data, copy);
        same = memcmp(copy, bytes, count) == 0;
        mem_free(copy);
    }
    client_data_fini(&data);
    return same;
}

/* ---- splitting --------------------------------------------------------------------------- */

static void split_covers_ranges(void **state)
{
    struct random random;
    random_init(&random, 1);
    for (uint32_t round = 0; round < 20000; round++) {
        uint64_t offset = random_below(&random, 64 * MIB);
        uint32_t bytes = 1 + (uint32_t)random_below(&random, CLIENT_IO_MAX);
        struct split_piece pieces[SPLIT_PIECES_MAX];
        uint32_t count = split_range(offset, bytes, pieces);
        uint64_t at = offset;
        for (uint32_t i = 0; i < count; i++) {
            const struct split_piece *piece = &pieces[i];
            struct split_piece aligned = split_align(piece);
            assert_int_equal(piece->file_offset, at);
            assert_int_equal((uint64_t)piece->index * OBJECT_BYTES + piece->offset, at);
            assert_true(piece->bytes > 0 && piece->bytes <= DATA_IO_MAX);
            assert_true(piece->offset + piece->bytes <= OBJECT_BYTES);
            assert_true(aligned.offset <= piece->offset && aligned.bytes <= DATA_IO_MAX);
            assert_true(aligned.offset % 4096 == 0 && aligned.bytes % 4096 == 0);
            assert_true(aligned.offset + aligned.bytes >= piece->offset + piece->bytes);
            at += piece->bytes;
        }
        assert_int_equal(at, offset + bytes);
    }
}

static void split_checksums_fragments(void **state)
{
    static uint8_t bytes[3 * 4096];
    uint32_t crcs[SPLIT_CRCS_MAX];
    for (uint32_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    assert_int_equal(split_checksums(4000, bytes, 200, crcs), 2);
    assert_int_equal(crcs[0], crc32c(0, bytes, 96));
    assert_int_equal(crcs[1], crc32c(0, bytes + 96, 104));
    assert_int_equal(split_checksums(8192, bytes, 4096, crcs), 1);
    assert_int_equal(split_checksums(1, bytes, 3 * 4096, crcs), 4);
}

#define RELEASED_NS (30 * NS_PER_MS) /* a close is known to the server by then */

/* ---- small files ------------------------------------------------------------------------- */

static void small_file_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "small");
    CHECK(write_at(file, 0, "hello", 5) == 0);
    CHECK(fake.calls[RPC_INLINE_WRITE] == 1 && fake.calls[RPC_GROW] == 0);
    CHECK(read_is(file, 0, 4096, "hello", 5));
    CHECK(read_is(file, 3, 4096, "lo", 2));
    CHECK(read_is(file, 5, 10, "", 0));
    uint64_t ino = client_file_ino(file);
    CHECK(client_release(file) == 0);
    CHECK(fake.opens == 1 && fake.calls[RPC_RELEASE] == 0);
    fiber_sleep(RELEASED_NS);
    CHECK(fake.opens == 0);
    /* open and read: one request */
    uint32_t before = fake.calls[RPC_INLINE_READ];
    CHECK(client_open(client, &fake_cred, ino, &file) == 0);
    CHECK(read_is(file, 0, 4096, "hello", 5));
    CHECK(fake.calls[RPC_INLINE_READ] == before && fake.calls[RPC_GETATTR] == 0);
    /* beyond attr_ttl it is asked again */
    fiber_sleep(2 * NS_PER_S);
    memcpy(fake.data[ino], "HELLO", 5);
    CHECK(read_is(file, 0, 4096, "HELLO", 5));
    CHECK(fake.calls[RPC_INLINE_READ] == before + 1);
    CHECK(client_release(file) == 0);
    CHECK(fake.calls[RPC_OBJ_READ] == 0 && fake.calls[RPC_OBJ_WRITE] == 0);
}

static void small_file(void **state)
{
    fake_start(1);
    fake_run(small_file_body);
    fake_free();
}

static void spill_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "f");
    uint8_t bytes[6000];
    for (uint32_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 13 + 1);
    CHECK(write_at(file, 0, bytes, 3000) == 0);
    CHECK(write_at(file, 3000, bytes + 3000, 3000) == 0); /* across the border: GROW first */
    CHECK(fake.calls[RPC_GROW] >= 1 && fake.calls[RPC_OBJ_WRITE] == 1);
    CHECK(read_is(file, 0, 10000, bytes, 6000));
    CHECK(fake.wrong_crcs == 0);
    /* another client moved the file out while we believed it inline */
    struct client_file *other = create(client, "g");
    CHECK(write_at(other, 0, bytes, 10) == 0);
    struct wire_attr *attr = &fake.inodes[client_file_ino(other)];
    attr->flags = 0;
    attr->change++;
    CHECK(write_at(other, 10, bytes + 10, 100) == 0);
    CHECK(read_is(other, 0, 1000, bytes, 110));
    attr->size = 0; /* and here, read */
    CHECK(client_release(file) == 0 && client_release(other) == 0);
}

static void spill(void **state)
{
    fake_start(2);
    fake_run(spill_body);
    fake_free();
}

static void append_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "log");
    uint64_t ino = client_file_ino(file);
    static uint8_t bytes[20000];
    struct buf *buf = buf_new(1000);
    for (uint32_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i / 1000 + 1);
    for (uint32_t i = 0; i < 20; i++) {
        if (i % 4 == 3) { /* another client was faster: we do not know the end */
            memset(fake.data[ino] + fake.inodes[ino].size, (int)i + 1, 1000);
            fake.inodes[ino].size += 1000;
            fake.inodes[ino].change++;
            if (fake.inodes[ino].size > META_INLINE_MAX)
                fake.inodes[ino].flags = 0;
            continue;
        }
        memset(buf->data, (int)i + 1, 1000);
        CHECK(client_append(file, (struct buf_slice){buf, 0, 1000}) == 0);
    }
    fiber_sleep(2 * NS_PER_S);
    CHECK(read_is(file, 0, 30000, bytes, sizeof bytes));
    /* size and time are told with the place: an fsync has nothing to add */
    uint32_t grows = fake.calls[RPC_GROW];
    CHECK(client_append(file, (struct buf_slice){buf, 0, 1000}) == 0);
    CHECK(client_fsync(file) == 0);
    CHECK(fake.calls[RPC_GROW] == grows + 1);
    buf_put(buf);
    CHECK(client_release(file) == 0);
}

static void append(void **state)
{
    fake_start(13);
    fake_run(append_body);
    fake_free();
}

/* ---- truncated by another client meanwhile ------------------------------------------------- */

static void overtaken_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "overtaken");
    uint8_t *model = mem_zalloc(CLIENT_IO_MAX);
    memset(model, 7, CLIENT_IO_MAX);
    CHECK(write_at(file, 0, model, 100000) == 0);
    /* some parts came before the truncation, one after it: all of it again, knowing more */
    uint64_t before = fake.inodes[client_file_ino(file)].change;
    uint64_t writes = fake.calls[RPC_OBJ_WRITE];
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){1, 1, -ERR_TRUNCATED, false};
    CHECK(write_at(file, OBJECT_BYTES - 8192, model, 16384) == 0);
    CHECK(fake.calls[RPC_OBJ_WRITE] == writes + 4);
    CHECK(fake.inodes[client_file_ino(file)].change >= before + 2);
    CHECK(fake.inodes[client_file_ino(file)].size == OBJECT_BYTES + 8192);
    CHECK(read_is(file, OBJECT_BYTES - 8192, 16384, model, 16384));
    /* the new size was refused */
    writes = fake.calls[RPC_OBJ_WRITE];
    fake.faults[RPC_GROW] = (struct fake_fault){0, 1, -ERR_TRUNCATED, false};
    CHECK(write_at(file, OBJECT_BYTES + 8192, model, 4096) == 0);
    CHECK(fake.calls[RPC_OBJ_WRITE] == writes + 2);
    CHECK(fake.inodes[client_file_ino(file)].size == OBJECT_BYTES + 12288);
    /* an append takes another place */
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){0, 1, -ERR_TRUNCATED, false};
    struct buf *buf = buf_new(4096);
    memset(buf->data, 7, 4096);
    CHECK(client_append(file, (struct buf_slice){buf, 0, 4096}) == 0);
    buf_put(buf);
    CHECK(fake.inodes[client_file_ino(file)].size == OBJECT_BYTES + 20480);
    CHECK(read_is(file, OBJECT_BYTES + 16384, 4096, model, 4096));
    CHECK(client_release(file) == 0);
    mem_free(model);
}

static void overtaken(void **state)
{
    fake_start(14);
    fake_run(overtaken_body);
    fake_free();
}

/* ---- large files ------------------------------------------------------------------------- */

static void large_file_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "large");
    uint8_t *model = mem_zalloc(FAKE_DATA_BYTES);
    struct random random;
    uint64_t size = 0;
    random_init(&random, 3);
    for (uint32_t round = 0; round < 60; round++) {
        uint64_t offset = random_below(&random, FAKE_DATA_BYTES - CLIENT_IO_MAX);
        uint32_t bytes = 1 + (uint32_t)random_below(&random, round % 3 ? 50000 : CLIENT_IO_MAX);
        if (random_chance(&random, 1, 2)) {
            for (uint32_t i = 0; i < bytes; i++)
                model[offset + i] = (uint8_t)(round + i * 31);
            CHECK(write_at(file, offset, model + offset, bytes) == 0);
            size = MAX(size, offset + bytes);
        } else {
            uint32_t expect = offset < size ? (uint32_t)MIN((uint64_t)bytes, size - offset) : 0;
            CHECK(read_is(file, offset, bytes, model + offset, expect));
        }
    }
    CHECK(fake.wrong_crcs == 0);
    CHECK(fake.inodes[client_file_ino(file)].size == size);
    /* fsync asks both data groups and the inode's */
    CHECK(client_fsync(file) == 0);
    CHECK(fake.calls[RPC_OBJ_SYNC] == 2 && fake.calls[RPC_SYNC] == 1);
    CHECK(client_fsync(file) == 0);
    CHECK(fake.calls[RPC_OBJ_SYNC] == 2 && fake.calls[RPC_SYNC] == 2);
    CHECK(client_fallocate(file, 0, 0, 1) == 0);
    CHECK(client_fallocate(file, 3, 100, 5 * MIB) == 0); /* PUNCH_HOLE | KEEP_SIZE */
    memset(model + 100, 0, 5 * MIB);
    CHECK(read_is(file, 0, CLIENT_IO_MAX, model, CLIENT_IO_MAX));
    CHECK(client_fallocate(file, 16, 0, 100) == -EOPNOTSUPP);
    CHECK(client_release(file) == 0);
    mem_free(model);
}

static void large_file(void **state)
{
    fake_start(3);
    fake_run(large_file_body);
    fake_free();
}

static void lazy_mtime_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "f");
    static uint8_t bytes[10000];
    memset(bytes, 7, sizeof bytes);
    CHECK(write_at(file, 0, bytes, sizeof bytes) == 0);
    uint32_t grows = fake.calls[RPC_GROW];
    for (uint32_t i = 0; i < 20; i++)
        CHECK(write_at(file, 100, bytes, 100) == 0);
    CHECK(fake.calls[RPC_GROW] == grows); /* overwrites alone ask for nothing ... */
    struct wire_attr attr;
    uint32_t getattrs = fake.calls[RPC_GETATTR];
    CHECK(client_getattr(client, &fake_cred, client_file_ino(file), &attr) == 0);
    CHECK(client_getattr(client, &fake_cred, client_file_ino(file), &attr) == 0);
    CHECK(fake.calls[RPC_GROW] == grows + 1); /* ... until somebody looks */
    CHECK(fake.calls[RPC_GETATTR] == getattrs);
    CHECK(write_at(file, 100, bytes, 100) == 0);
    fiber_sleep(NS_PER_S + 100 * NS_PER_MS); /* or a second has passed */
    CHECK(fake.calls[RPC_GROW] == grows + 2);
    fiber_sleep(2 * NS_PER_S);
    /* Another client cut the file: the lazy time does not bring the size back, a late write does.
     */
    CHECK(write_at(file, 0, bytes, 100) == 0);
    uint64_t ino = client_file_ino(file);
    CHECK(fake.calls[RPC_GROW] == grows + 3); /* the size was old by now: asked along */
    CHECK(write_at(file, 0, bytes, 100) == 0);
    fake.inodes[ino].size = 0;
    fake.inodes[ino].change++;
    CHECK(client_flush(file) == 0);
    CHECK(fake.inodes[ino].size == 0);
    CHECK(client_release(file) == 0);
}

static void lazy_mtime(void **state)
{
    fake_start(4);
    fake_run(lazy_mtime_body);
    fake_free();
}

/* The answer to a change in a directory tells of the directory, too. */
static void dir_attr_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "f");
    struct wire_attr attr;
    CHECK(client_getattr(client, &fake_cred, CFS_ROOT_INO, &attr) == 0);
    CHECK(attr.change == fake.inodes[CFS_ROOT_INO].change && fake.calls[RPC_GETATTR] == 0);
    /* a change that does not tell: what was known is out of date at once */
    CHECK(client_unlink(client, &fake_cred, CFS_ROOT_INO, text("f")) == 0);
    fake.inodes[CFS_ROOT_INO].change++;
    CHECK(client_getattr(client, &fake_cred, CFS_ROOT_INO, &attr) == 0);
    CHECK(attr.change == fake.inodes[CFS_ROOT_INO].change && fake.calls[RPC_GETATTR] == 1);
    /* another client changes it: seen after a tenth of attr_ttl */
    struct client_place place = {CFS_ROOT_INO, text("g")};
    CHECK(client_mknod(client, &fake_cred, &place, S_IFIFO | 0644, 0, &attr) == 0);
    fake.inodes[CFS_ROOT_INO].change++;
    CHECK(client_getattr(client, &fake_cred, CFS_ROOT_INO, &attr) == 0);
    CHECK(attr.change + 1 == fake.inodes[CFS_ROOT_INO].change);
    fiber_sleep(options.attr_ttl_ns / 10);
    CHECK(client_getattr(client, &fake_cred, CFS_ROOT_INO, &attr) == 0);
    CHECK(attr.change == fake.inodes[CFS_ROOT_INO].change && fake.calls[RPC_GETATTR] == 2);
    CHECK(client_release(file) == 0);
}

static void dir_attr(void **state)
{
    fake_start(8);
    fake_run(dir_attr_body);
    fake_free();
}

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
    CHECK(stats.repeats > 10 && stats.timeouts == 0 && stats.open_files == 0);
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

/* ---- names ------------------------------------------------------------------------------- */

static void names_body(void)
{
    struct client *client = fake_client(&options);
    struct client_place dir = {CFS_ROOT_INO, text("d")};
    struct wire_attr attr, found;
    CHECK(client_mknod(client, &fake_cred, &dir, S_IFDIR | 0755, 0, &attr) == 0);
    struct client_place place = {attr.ino, text("file")};
    CHECK(client_mknod(client, &fake_cred, &place, S_IFREG | 0600, 0, &attr) == 0);
    struct client_place link = {CFS_ROOT_INO, text("link")};
    CHECK(client_symlink(client, &fake_cred, &link, text("d/./file"), &found) == 0);
    CHECK(client_walk(client, &fake_cred, "/d/../link", true, &found) == 0);
    CHECK(found.ino == attr.ino);
    CHECK(client_walk(client, &fake_cred, "//link", false, &found) == 0);
    CHECK(S_ISLNK(found.mode));
    CHECK(client_walk(client, &fake_cred, "/d/file/x", true, &found) == -ENOTDIR);
    CHECK(client_walk(client, &fake_cred, "/none", true, &found) == -ENOENT);
    struct client_place loop = {CFS_ROOT_INO, text("loop")};
    CHECK(client_symlink(client, &fake_cred, &loop, text("/loop"), &found) == 0);
    CHECK(client_walk(client, &fake_cred, "/loop/x", true, &found) == -ELOOP);
    uint64_t parent;
    struct slice name;
    CHECK(client_walk_parent(client, &fake_cred, "/d/new/", &parent, &name) == 0);
    CHECK(parent == place.dir && slice_equal(name, text("new")));
    CHECK(client_walk_parent(client, &fake_cred, "/", &parent, &name) == -EINVAL);
    CHECK(client_lookup(client, &fake_cred, 1, text("a/b"), &found) == -EINVAL);
    char target[META_SYMLINK_MAX + 1];
    uint32_t bytes;
    CHECK(client_readlink(client, &fake_cred, found.ino, target, &bytes) == 0);
    CHECK(strcmp(target, "/loop") == 0 && bytes == 5);
}

static void names(void **state)
{
    fake_start(10);
    fake_run(names_body);
    fake_free();
}

static void readdir_body(void)
{
    struct client *client = fake_client(&options);
    for (uint32_t i = 0; i < 40; i++) {
        char name[16] = {'n', (char)('a' + i / 26), (char)('a' + i % 26)};
        struct client_place place = {CFS_ROOT_INO, text(name)};
        struct wire_attr attr;
        CHECK(client_mknod(client, &fake_cred, &place, S_IFIFO | 0600, 0, &attr) == 0);
    }
    uint32_t seen = 0, pages = 0;
    struct client_readdir what = {CFS_ROOT_INO, 0, 1000, true};
    bool eof = false;
    while (!eof) {
        struct client_dir_page page;
        struct client_dirent entry;
        CHECK(client_readdir(client, &fake_cred, &what, &page) == 0);
        while (client_dir_next(&page, &entry) > 0) {
            CHECK(entry.attr_valid && entry.attr.ino == entry.ino && entry.name.bytes == 3);
            seen++;
        }
        pages++;
        what.cookie = page.cookie;
        eof = page.eof;
        client_dir_page_fini(&page);
    }
    CHECK(seen == 40 && pages > 4);
}

static void readdir_pages(void **state)
{
    fake_start(11);
    fake_run(readdir_body);
    fake_free();
}

static void attributes_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "f");
    uint64_t ino = client_file_ino(file);
    struct wire_attr attr;
    struct client_setattr set = {.valid = META_SET_MODE, .mode = 06755};
    CHECK(client_setattr(client, &fake_cred, ino, &set, &attr) == 0);
    CHECK(attr.mode == (S_IFREG | 06755));
    set = (struct client_setattr){.valid = META_SET_UID, .uid = 5};
    CHECK(client_setattr(client, &fake_cred, ino, &set, &attr) == 0);
    CHECK(attr.mode == (S_IFREG | 0755) && attr.uid == 5); /* a new owner: no set-id bits */
    set = (struct client_setattr){
        .valid = META_SET_SIZE | META_SET_MTIME, .size = 9999, .mtime_ns = 42};
    CHECK(client_setattr(client, &fake_cred, ino, &set, &attr) == 0);
    CHECK(attr.size == 9999 && attr.mtime_ns == 42);
    struct client_data data;
    CHECK(client_read(file, 0, 20000, &data) == 0 && data.bytes == 9999);
    client_data_fini(&data);
    CHECK(client_setxattr(client, &fake_cred, ino, text("user.a"), text("value"), 0) == 0);
    char room[16];
    struct client_bytes bytes = {room, 3, 0};
    CHECK(client_getxattr(client, &fake_cred, ino, text("user.a"), &bytes) == -ERANGE);
    bytes.room = 0;
    CHECK(client_getxattr(client, &fake_cred, ino, text("user.a"), &bytes) == 0);
    CHECK(bytes.bytes == 5);
    bytes.room = sizeof room;
    CHECK(client_listxattr(client, &fake_cred, ino, &bytes) == 0 && bytes.bytes == 7);
    CHECK(client_removexattr(client, &fake_cred, ino, text("user.a")) == 0);
    CHECK(client_getxattr(client, &fake_cred, ino, text("user.a"), &bytes) == -ENODATA);
    CHECK(client_release(file) == 0);
}

static void attributes(void **state)
{
    fake_start(12);
    fake_run(attributes_body);
    fake_free();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_covers_ranges),
        cmocka_unit_test(split_checksums_fragments),
        cmocka_unit_test(small_file),
        cmocka_unit_test(spill),
        cmocka_unit_test(append),
        cmocka_unit_test(overtaken),
        cmocka_unit_test(large_file),
        cmocka_unit_test(lazy_mtime),
        cmocka_unit_test(dir_attr),
        cmocka_unit_test(exactly_once),
        cmocka_unit_test(deadline),
        cmocka_unit_test(damaged_reply),
        cmocka_unit_test(failover),
        cmocka_unit_test(silence),
        cmocka_unit_test(end_waits_for_closed_files),
        cmocka_unit_test(directory_sync_tells_of_loss),
        cmocka_unit_test(names),
        cmocka_unit_test(storm),
        cmocka_unit_test(readdir_pages),
        cmocka_unit_test(attributes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
