/* SPDX-License-Identifier: MIT */
/* Goal: verbs do what POSIX says, with no more requests than needed.
 * Method: a client over the simulator against fake servers that count (failures:
 * client_failure_test.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "client/client_test_util.h"
#include "client/split.h"

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
    /* One part was refused, the other is there: that one is asked for, and not written again. */
    uint64_t before = fake.inodes[client_file_ino(file)].change;
    uint64_t writes = fake.calls[RPC_OBJ_WRITE];
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){1, 1, -ERR_TRUNCATED, false};
    fake.faults[RPC_GROW] = (struct fake_fault){0, 1, -ERR_TRUNCATED, false};
    CHECK(write_at(file, OBJECT_BYTES - 8192, model, 16384) == 0);
    CHECK(fake.calls[RPC_OBJ_WRITE] == writes + 4 && !(fake.changes[0].flags & OBJ_ASK));
    CHECK((fake.changes[1].flags & OBJ_ASK) && fake.changes[1].index != fake.changes[0].index);
    CHECK(fake.inodes[client_file_ino(file)].change >= before + 2);
    CHECK(fake.inodes[client_file_ino(file)].size == OBJECT_BYTES + 8192);
    CHECK(read_is(file, OBJECT_BYTES - 8192, 16384, model, 16384));
    /* The new size was refused, the data are there. */
    writes = fake.calls[RPC_OBJ_WRITE];
    fake.faults[RPC_GROW] = (struct fake_fault){0, 1, -ERR_TRUNCATED, false};
    CHECK(write_at(file, OBJECT_BYTES + 8192, model, 4096) == 0);
    CHECK(fake.calls[RPC_OBJ_WRITE] == writes + 2 && (fake.changes[0].flags & OBJ_ASK));
    CHECK(fake.inodes[client_file_ino(file)].size == OBJECT_BYTES + 12288);
    /* An append keeps its place. */
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){0, 1, -ERR_TRUNCATED, false};
    struct buf *buf = buf_new(4096);
    memset(buf->data, 7, 4096);
    CHECK(client_append(file, (struct buf_slice){buf, 0, 4096}) == 0);
    buf_put(buf);
    CHECK(fake.inodes[client_file_ino(file)].size == OBJECT_BYTES + 16384);
    CHECK(read_is(file, OBJECT_BYTES + 12288, 4096, model, 4096));
    CHECK(client_release(file) == 0);
    mem_free(model);
}

static void overtaken(void **state)
{
    fake_start(14);
    fake_run(overtaken_body);
    fake_free();
}

/* Another client sees that the file has grown, and cuts it to a block more than it had. */
static void cut_fiber(void *arg)
{
    struct wire_attr *inode = arg;
    uint64_t size = inode->size;
    while (inode->size <= size)
        fiber_sleep(NS_PER_US);
    inode->size = size + 4096;
    inode->change++;
}

static void overtaken_whole_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "whole");
    struct wire_attr *inode = &fake.inodes[client_file_ino(file)];
    static uint8_t bytes[16384];
    memset(bytes, 7, sizeof bytes);
    CHECK(write_at(file, 0, bytes, 8192) == 0);
    uint64_t writes = fake.calls[RPC_OBJ_WRITE];
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){0, 1, -ERR_TRUNCATED, false};
    fiber_spawn("cut", cut_fiber, inode);
    CHECK(write_at(file, OBJECT_BYTES, bytes, 8192) == 0);
    CHECK(fake.calls[RPC_OBJ_WRITE] == writes + 1); /* nothing of it is left */
    CHECK(inode->size == 8192 + 4096);
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){0, 1, -ERR_TRUNCATED, false};
    fiber_spawn("cut", cut_fiber, inode);
    CHECK(write_at(file, 8192, bytes, sizeof bytes) == 0);
    CHECK(fake.calls[RPC_OBJ_WRITE] == writes + 3); /* the first half is */
    CHECK(inode->size == 8192 + 8192);
    CHECK(read_is(file, 8192, 8192, bytes, 8192));
    CHECK(client_release(file) == 0);
}

/* What was written has been cut since, and the size refused: the truncation came later. */
static void overtaken_cut_body(void)
{
    struct client *client = fake_client(&options);
    struct client_file *file = create(client, "cut");
    struct wire_attr *inode = &fake.inodes[client_file_ino(file)];
    static uint8_t bytes[16384];
    memset(bytes, 7, sizeof bytes);
    CHECK(write_at(file, 0, bytes, 16384) == 0);
    uint64_t writes = fake.calls[RPC_OBJ_WRITE];
    fake.faults[RPC_GROW] = (struct fake_fault){0, 1, -ERR_TRUNCATED, false};
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){1, 1, -ERR_TRUNCATED, false};
    CHECK(write_at(file, 8192, bytes, 16384) == 0);
    CHECK(fake.calls[RPC_OBJ_WRITE] == writes + 2 && (fake.changes[0].flags & OBJ_ASK));
    CHECK(inode->size == 16384);
    /* The second piece, refused, is written as far as the file reaches. */
    writes = fake.calls[RPC_OBJ_WRITE];
    inode->size = OBJECT_BYTES + 4096;
    inode->change++;
    fake.faults[RPC_GROW] = (struct fake_fault){0, 1, -ERR_TRUNCATED, false};
    fake.faults[RPC_OBJ_WRITE] = (struct fake_fault){1, 2, -ERR_TRUNCATED, false};
    CHECK(write_at(file, OBJECT_BYTES - 8192, bytes, 16384) == 0);
    CHECK(fake.calls[RPC_OBJ_WRITE] == writes + 4);
    CHECK(fake.changes[0].bytes == 4096 && inode->size == OBJECT_BYTES + 4096);
    CHECK(client_release(file) == 0);
}

static void overtaken_cut(void **state)
{
    fake_start(16);
    fake_run(overtaken_cut_body);
    fake_free();
}

static void overtaken_whole(void **state)
{
    fake_start(15);
    fake_run(overtaken_whole_body);
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
        cmocka_unit_test(overtaken_whole),
        cmocka_unit_test(overtaken_cut),
        cmocka_unit_test(large_file),
        cmocka_unit_test(lazy_mtime),
        cmocka_unit_test(dir_attr),
        cmocka_unit_test(names),
        cmocka_unit_test(readdir_pages),
        cmocka_unit_test(attributes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
