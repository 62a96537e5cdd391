/* SPDX-License-Identifier: MIT */
/* Goal: the kernel's bytes are understood, ours are what the kernel expects, and malformed ones
 * are refused.
 * Method: requests as byte strings into the dispatcher, with a client on fake servers behind it;
 * replies compared as structs and, for the wire layout, as bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "client/fake_server_test.h"
#include "front/fuse/fuse_internal.h"

/* ---- a device that remembers what was written to it ---------------------------------------- */

struct test_device {
    struct fuse_device device;
    uint8_t reply[2 << 20];
    size_t reply_bytes;
    uint32_t replies;
    uint32_t notes; /* messages that answer nothing */
    int64_t result;
};

static struct test_device device;
static struct fuse_front front;

static int64_t test_writev(struct fuse_device *self, const struct iovec *parts, int count)
{
    struct fuse_out_header head;
    memcpy(&head, parts[0].iov_base, sizeof head);
    if (head.unique == 0) {
        device.notes++;
        return head.len;
    }
    device.replies++;
    device.reply_bytes = 0;
    for (int i = 0; i < count; i++) {
        assert(device.reply_bytes + parts[i].iov_len <= sizeof device.reply);
        if (parts[i].iov_len)
            memcpy(device.reply + device.reply_bytes, parts[i].iov_base, parts[i].iov_len);
        device.reply_bytes += parts[i].iov_len;
    }
    return device.result ? device.result : (int64_t)device.reply_bytes;
}

static void front_start(void)
{
    const struct client_options options = {.attr_ttl_ns = NS_PER_S};
    memset(&device, 0, sizeof device);
    memset(&front, 0, sizeof front);
    device.device.writev = test_writev;
    front.client = fake_client(&options);
    front.options = (struct fuse_options){
        .mountpoint = "/mnt",
        .entry_timeout_ns = 1500 * NS_PER_MS,
        .attr_timeout_ns = NS_PER_S,
    };
    waitq_init(&front.idle);
    list_init(&front.serving);
}

/* ---- requests ------------------------------------------------------------------------------ */

struct call {
    uint32_t opcode;
    uint64_t nodeid;
    struct slice parts[3];
};

static void serve_bytes(const void *bytes, uint32_t count)
{
    struct fuse_request request = {.front = &front, .device = &device.device};
    struct buf *buf = buf_new(count);
    memcpy(buf->data, bytes, count);
    device.replies = 0;
    device.reply_bytes = 0;
    if (fuse_request_begin(&request, buf, count) == 0)
        fuse_request_serve(&request);
    buf_put(buf);
}

/* The error of the reply (0 or -errno); 1: no reply. */
static int serve(const struct call *call)
{
    static uint8_t bytes[FUSE_READ_BUFFER];
    struct writer writer;
    struct fuse_in_header head = {
        .opcode = call->opcode,
        .unique = 99,
        .nodeid = call->nodeid,
        .uid = 1000,
        .gid = 1000,
    };
    writer_init(&writer, bytes, sizeof bytes);
    writer_put(&writer, &head, sizeof head);
    for (uint32_t i = 0; i < ARRAY_COUNT(call->parts); i++)
        writer_put(&writer, call->parts[i].data, call->parts[i].bytes);
    head.len = (uint32_t)writer_bytes(&writer);
    memcpy(bytes, &head, sizeof head);
    serve_bytes(bytes, head.len);
    if (device.replies == 0)
        return 1;
    struct fuse_out_header out;
    memcpy(&out, device.reply, sizeof out);
    CHECK(device.replies == 1 && out.len == device.reply_bytes && out.unique == 99);
    CHECK(out.error == 0 || device.reply_bytes == sizeof out);
    return out.error;
}

#define OF(value) slice_of(&(value), sizeof(value))

static struct slice string(const char *text)
{
    return slice_of(text, strlen(text) + 1);
}

static void reply_copy(void *out, size_t bytes)
{
    CHECK(device.reply_bytes == sizeof(struct fuse_out_header) + bytes);
    memcpy(out, device.reply + sizeof(struct fuse_out_header), bytes);
}

/* ---- layout ---------------------------------------------------------------------------------- */

static void attr_layout_body(void)
{
    front_start();
    struct wire_attr attr = {.ino = 0x0102030405060708,
                             .size = 9,
                             .blocks = 8,
                             .mode = 0100644,
                             .nlink = 2,
                             .uid = 3,
                             .gid = 4,
                             .rdev = 5,
                             .atime_ns = -1,
                             .mtime_ns = 1000000007,
                             .ctime_ns = 0};
    struct fuse_entry_out entry;
    fuse_entry_encode(&front, &attr, &entry);
    const uint8_t expect[] = {
        8,    7,    6,    5,    4,    3,    2,    1,    0, 0, 0, 0,
        0,    0,    0,    0, /* node id, generation */
        1,    0,    0,    0,    0,    0,    0,    0,    1, 0, 0, 0,
        0,    0,    0,    0,                         /* 1.5 s of the name, 1 s of attributes */
        0x00, 0x65, 0xcd, 0x1d, 0,    0,    0,    0, /* 500000000 ns, 0 */
        8,    7,    6,    5,    4,    3,    2,    1,    9, 0, 0, 0,
        0,    0,    0,    0,                            /* ino, size */
        8,    0,    0,    0,    0,    0,    0,    0,    /* blocks */
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* atime: -1 s ... */
        1,    0,    0,    0,    0,    0,    0,    0,    0, 0, 0, 0,
        0,    0,    0,    0,                                        /* mtime, ctime */
        0xff, 0xc9, 0x9a, 0x3b, 7,    0,    0,    0,    0, 0, 0, 0, /* ... and 999999999 ns; 7; 0 */
        0xa4, 0x81, 0,    0,    2,    0,    0,    0,    3, 0, 0, 0, /* mode, nlink, uid */
        4,    0,    0,    0,    5,    0,    0,    0,    0, 0, 2, 0,
        0,    0,    0,    0, /* gid, rdev, 128 KiB, flags */
    };
    CHECK(sizeof expect == sizeof entry && memcmp(expect, &entry, sizeof entry) == 0);
}

static void init_body(void)
{
    front_start();
    struct fuse_init_in in = {7, 45, 131072, 0xffffffff};
    uint8_t rest[48] = {0}; /* what newer kernels send along */
    CHECK(serve(&(struct call){FUSE_INIT, 0, {OF(in), OF(rest)}}) == 0);
    struct fuse_init_out out;
    reply_copy(&out, sizeof out);
    CHECK(out.major == 7 && out.minor == 38 && out.max_write == 1 << 20 && out.max_pages == 256);
    CHECK(out.flags & FUSE_HANDLE_KILLPRIV_V2 && out.flags & FUSE_ATOMIC_O_TRUNC);
    CHECK(!(out.flags & 1u << 16) && !(out.flags & 1u << 20)); /* writeback cache, POSIX ACLs */
    CHECK(!(out.flags & 1u << 1) && !(out.flags & 1u << 10));  /* locks: the kernel's own */
    CHECK(front.started);
    in.flags = 0;
    CHECK(serve(&(struct call){FUSE_INIT, 0, {OF(in)}}) == 0);
    reply_copy(&out, sizeof out);
    CHECK(out.flags == 0);
    in.minor = 30;
    CHECK(serve(&(struct call){FUSE_INIT, 0, {OF(in)}}) == -EPROTO);
    CHECK(front.result == -EPROTO);
}

/* ---- a file's life --------------------------------------------------------------------------- */

struct created {
    struct fuse_entry_out entry;
    struct fuse_open_out open;
};

static struct created create(const char *name)
{
    struct created created = {0};
    struct fuse_create_in in = {.flags = O_CREAT | O_RDWR, .mode = S_IFREG | 0644};
    CHECK(serve(&(struct call){FUSE_CREATE, 1, {OF(in), string(name)}}) == 0);
    reply_copy(&created, sizeof created);
    return created;
}

static int write_file(const struct created *file, uint64_t offset, const void *bytes, uint32_t size)
{
    struct fuse_write_in in = {.fh = file->open.fh, .offset = offset, .size = size};
    return serve(&(struct call){FUSE_WRITE, file->entry.nodeid, {OF(in), slice_of(bytes, size)}});
}

static bool read_file(const struct created *file, uint64_t offset, uint32_t size,
                      const void *expect, size_t expect_bytes)
{
    struct fuse_read_in in = {.fh = file->open.fh, .offset = offset, .size = size};
    if (serve(&(struct call){FUSE_READ, file->entry.nodeid, {OF(in)}}) != 0)
        return false;
    return device.reply_bytes == 16 + expect_bytes &&
           memcmp(device.reply + 16, expect, expect_bytes) == 0;
}

/* Closes are told together, some milliseconds later. */
static bool opens_are_none(void)
{
    fiber_sleep(30 * NS_PER_MS);
    return fake.opens == 0;
}

static int release(const struct created *file)
{
    struct fuse_release_in in = {.fh = file->open.fh};
    return serve(&(struct call){FUSE_RELEASE, file->entry.nodeid, {OF(in)}});
}

static void file_body(void)
{
    static uint8_t bytes[FUSE_IO_MAX];
    front_start();
    for (uint32_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 11 + (i >> 9));
    struct created file = create("file");
    CHECK(file.entry.nodeid == file.entry.attr.ino && file.entry.attr.mode == (S_IFREG | 0644));
    CHECK(write_file(&file, 0, "abc", 3) == 0);
    struct fuse_write_out wrote;
    reply_copy(&wrote, sizeof wrote);
    CHECK(wrote.size == 3);
    CHECK(read_file(&file, 0, 4096, "abc", 3));
    CHECK(write_file(&file, 100, bytes, sizeof bytes) == 0);
    CHECK(read_file(&file, 100, sizeof bytes, bytes, sizeof bytes));
    CHECK(fake.wrong_crcs == 0);
    struct fuse_flush_in flush = {.fh = file.open.fh};
    CHECK(serve(&(struct call){FUSE_FLUSH, file.entry.nodeid, {OF(flush)}}) == 0);
    struct fuse_fsync_in fsync = {.fh = file.open.fh};
    CHECK(serve(&(struct call){FUSE_FSYNC, file.entry.nodeid, {OF(fsync)}}) == 0);
    CHECK(fake.calls[RPC_SYNC] == 1 && fake.calls[RPC_OBJ_SYNC] > 0);
    struct fuse_fallocate_in space = {.fh = file.open.fh, .offset = 0, .length = 2 * MIB};
    CHECK(serve(&(struct call){FUSE_FALLOCATE, file.entry.nodeid, {OF(space)}}) == 0);
    CHECK(fake.inodes[file.entry.nodeid].size == 2 * MIB);
    space.mode = 8; /* collapse */
    CHECK(serve(&(struct call){FUSE_FALLOCATE, file.entry.nodeid, {OF(space)}}) == -EOPNOTSUPP);
    /* O_TRUNC with the open; pages are kept over an open only if nothing changed */
    struct fuse_open_in open = {.flags = O_RDWR | O_TRUNC};
    struct fuse_open_out opened;
    CHECK(serve(&(struct call){FUSE_OPEN, file.entry.nodeid, {OF(open)}}) == 0);
    reply_copy(&opened, sizeof opened);
    CHECK(fake.inodes[file.entry.nodeid].size == 0);
    CHECK(!(opened.open_flags & FOPEN_KEEP_CACHE));
    open.flags = O_RDONLY;
    struct fuse_open_out again;
    CHECK(serve(&(struct call){FUSE_OPEN, file.entry.nodeid, {OF(open)}}) == 0);
    reply_copy(&again, sizeof again);
    CHECK(again.open_flags & FOPEN_KEEP_CACHE);
    CHECK(opened.fh != file.open.fh && fake.opens == 3);
    /* another client changed it: the kernel's attributes and pages are old; then not again */
    fake.inodes[file.entry.nodeid].change++;
    uint32_t notes = device.notes;
    struct created third = file, fourth = file;
    CHECK(serve(&(struct call){FUSE_OPEN, file.entry.nodeid, {OF(open)}}) == 0);
    reply_copy(&third.open, sizeof third.open);
    CHECK(device.notes == notes + 1 && !(third.open.open_flags & FOPEN_KEEP_CACHE));
    CHECK(serve(&(struct call){FUSE_OPEN, file.entry.nodeid, {OF(open)}}) == 0);
    reply_copy(&fourth.open, sizeof fourth.open);
    CHECK(device.notes == notes + 1 && (fourth.open.open_flags & FOPEN_KEEP_CACHE));
    CHECK(release(&third) == 0 && release(&fourth) == 0);
    CHECK(release(&file) == 0);
    CHECK(release(&file) == -EBADF); /* a handle is valid once */
    CHECK(!read_file(&file, 0, 10, "", 0));
    file.open = opened;
    CHECK(read_file(&file, 0, 10, "", 0));
    CHECK(release(&file) == 0);
    file.open = again;
    CHECK(release(&file) == 0 && opens_are_none());
    /* the caller was killed before the answer: not an open file for ever */
    device.result = -ENOENT;
    CHECK(serve(&(struct call){FUSE_OPEN, file.entry.nodeid, {OF(open)}}) == 0);
    CHECK(opens_are_none());
    device.result = 0;
    /* replaced by another client: look the name up again */
    fake.inodes[file.entry.nodeid].nlink = 0;
    CHECK(serve(&(struct call){FUSE_OPEN, file.entry.nodeid, {OF(open)}}) == -ESTALE);
    CHECK(opens_are_none());
}

static void names_body(void)
{
    front_start();
    struct fuse_mkdir_in dir = {.mode = 0755};
    CHECK(serve(&(struct call){FUSE_MKDIR, 1, {OF(dir), string("d")}}) == 0);
    struct fuse_entry_out entry, found;
    reply_copy(&entry, sizeof entry);
    CHECK(S_ISDIR(entry.attr.mode));
    CHECK(serve(&(struct call){FUSE_MKDIR, 1, {OF(dir), string("d")}}) == -EEXIST);
    CHECK(serve(&(struct call){FUSE_LOOKUP, 1, {string("d")}}) == 0);
    reply_copy(&found, sizeof found);
    CHECK(found.nodeid == entry.nodeid);
    CHECK(serve(&(struct call){FUSE_LOOKUP, entry.nodeid, {string(".")}}) == 0);
    CHECK(serve(&(struct call){FUSE_LOOKUP, 1, {string("none")}}) == -ENOENT);
    struct fuse_mknod_in node = {.mode = S_IFIFO | 0600};
    CHECK(serve(&(struct call){FUSE_MKNOD, 1, {OF(node), string("p")}}) == 0);
    CHECK(serve(&(struct call){FUSE_SYMLINK, 1, {string("s"), string("to/where")}}) == 0);
    reply_copy(&entry, sizeof entry);
    CHECK(serve(&(struct call){FUSE_READLINK, entry.nodeid, {{0}}}) == 0);
    CHECK(device.reply_bytes == 24 && memcmp(device.reply + 16, "to/where", 8) == 0);
    struct fuse_link_in link = {.oldnodeid = entry.nodeid};
    CHECK(serve(&(struct call){FUSE_LINK, 1, {OF(link), string("s2")}}) == 0);
    struct fuse_rename2_in move = {.newdir = found.nodeid, .flags = 1};
    CHECK(serve(&(struct call){FUSE_RENAME2, 1, {OF(move), string("s2"), string("p")}}) == 0);
    CHECK(serve(&(struct call){FUSE_RENAME2, 1, {OF(move), string("s"), string("p")}}) == -EEXIST);
    move.flags = 4;
    CHECK(serve(&(struct call){FUSE_RENAME2, 1, {OF(move), string("s"), string("p")}}) == -EINVAL);
    struct fuse_rename_in old = {.newdir = 1};
    CHECK(serve(&(struct call){FUSE_RENAME, 1, {OF(old), string("s"), string("t")}}) == 0);
    CHECK(serve(&(struct call){FUSE_UNLINK, 1, {string("t")}}) == 0);
    CHECK(serve(&(struct call){FUSE_UNLINK, 1, {string("t")}}) == -ENOENT);
    CHECK(serve(&(struct call){FUSE_RMDIR, 1, {string("d")}}) == 0);
}

static void attributes_body(void)
{
    front_start();
    struct created file = create("f");
    uint64_t ino = file.entry.nodeid;
    struct fuse_setattr_in set = {
        .valid = FATTR_MODE | FATTR_MTIME, .mode = S_IFREG | 04711, .mtime = 12, .mtimensec = 34};
    struct fuse_attr_out out;
    CHECK(serve(&(struct call){FUSE_SETATTR, ino, {OF(set)}}) == 0);
    reply_copy(&out, sizeof out);
    CHECK(out.attr.mode == (S_IFREG | 04711) && out.attr.mtime == 12 && out.attr.mtimensec == 34);
    struct fuse_write_in write = {
        .fh = file.open.fh, .size = 1, .write_flags = FUSE_WRITE_KILL_SUIDGID};
    CHECK(serve(&(struct call){FUSE_WRITE, ino, {OF(write), slice_of("x", 1)}}) == 0);
    struct fuse_getattr_in get = {0};
    CHECK(serve(&(struct call){FUSE_GETATTR, ino, {OF(get)}}) == 0);
    reply_copy(&out, sizeof out);
    CHECK(out.attr.mode == (S_IFREG | 0711) && out.attr.size == 1 && out.attr_valid == 1);
    struct fuse_setxattr_in setx = {.size = 3};
    CHECK(serve(&(struct call){
              FUSE_SETXATTR, ino, {OF(setx), string("user.k"), slice_of("val", 3)}}) == 0);
    struct fuse_getxattr_in getx = {.size = 0};
    CHECK(serve(&(struct call){FUSE_GETXATTR, ino, {OF(getx), string("user.k")}}) == 0);
    struct fuse_getxattr_out length;
    reply_copy(&length, sizeof length);
    CHECK(length.size == 3);
    getx.size = 100;
    CHECK(serve(&(struct call){FUSE_GETXATTR, ino, {OF(getx), string("user.k")}}) == 0);
    CHECK(device.reply_bytes == 19 && memcmp(device.reply + 16, "val", 3) == 0);
    getx.size = 2;
    CHECK(serve(&(struct call){FUSE_GETXATTR, ino, {OF(getx), string("user.k")}}) == -ERANGE);
    uint32_t asked = fake.calls[RPC_GETXATTR];
    CHECK(serve(&(struct call){FUSE_GETXATTR, ino, {OF(getx), string("security.capability")}}) ==
          -ENODATA);
    CHECK(serve(&(struct call){
              FUSE_GETXATTR, ino, {OF(getx), string("system.posix_acl_access")}}) == -EOPNOTSUPP);
    CHECK(fake.calls[RPC_GETXATTR] == asked);
    CHECK(serve(&(struct call){FUSE_STATFS, 1, {{0}}}) == 0);
    struct fuse_statfs_out statfs;
    reply_copy(&statfs, sizeof statfs);
    CHECK(statfs.blocks == GIB / 4096 && statfs.namelen == 255 && statfs.bsize == 4096);
    CHECK(release(&file) == 0);
}

/* ---- directories ----------------------------------------------------------------------------- */

static void directory_body(void)
{
    front_start();
    for (uint32_t i = 0; i < 50; i++) {
        char name[8] = {'e', (char)('0' + i / 10), (char)('0' + i % 10)};
        struct fuse_mknod_in node = {.mode = S_IFSOCK | 0600};
        CHECK(serve(&(struct call){FUSE_MKNOD, 1, {OF(node), string(name)}}) == 0);
    }
    for (uint32_t plus = 0; plus < 2; plus++) {
        struct fuse_read_in in = {.size = 700};
        uint32_t seen = 0, dots = 0;
        for (;;) {
            CHECK(serve(&(struct call){plus ? FUSE_READDIRPLUS : FUSE_READDIR, 1, {OF(in)}}) == 0);
            if (device.reply_bytes == 16)
                break;
            CHECK(device.reply_bytes <= 16 + 700);
            struct reader reader;
            reader_init(&reader, device.reply + 16, device.reply_bytes - 16);
            while (reader_left(&reader) > 0) {
                struct fuse_entry_out entry = {0};
                struct fuse_dirent dirent;
                if (plus)
                    reader_copy(&reader, &entry, sizeof entry);
                reader_copy(&reader, &dirent, sizeof dirent);
                const char *name = reader_take(&reader, round_up(dirent.namelen, 8));
                CHECK(reader_ok(&reader) && dirent.off > in.offset);
                in.offset = dirent.off;
                bool dot = name[0] == '.';
                CHECK(dot || dirent.type == S_IFSOCK >> 12);
                CHECK(!plus || (dot ? entry.nodeid == 0 : entry.nodeid == dirent.ino));
                dots += dot;
                seen++;
            }
        }
        CHECK(seen == 52 && dots == 2);
    }
    struct fuse_read_in tiny = {.size = 20};
    CHECK(serve(&(struct call){FUSE_READDIR, 1, {OF(tiny)}}) == -EINVAL);
    struct fuse_open_in open = {0};
    CHECK(serve(&(struct call){FUSE_OPENDIR, 1, {OF(open)}}) == 0);
    struct fuse_fsync_in fsync = {0};
    CHECK(serve(&(struct call){FUSE_FSYNCDIR, 1, {OF(fsync)}}) == 0 && fake.calls[RPC_SYNC] == 1);
}

/* ---- malformed ------------------------------------------------------------------------------- */

static void malformed_body(void)
{
    front_start();
    log_set_level(LOG_ERROR);
    struct fuse_in_header head = {.len = 40, .opcode = FUSE_LOOKUP, .unique = 1, .nodeid = 1};
    serve_bytes(&head, 39);
    CHECK(device.replies == 0);
    head.len = 41; /* not what was read */
    serve_bytes(&head, 40);
    CHECK(device.replies == 0);
    head.len = 40;
    head.total_extlen = 1; /* longer than the request */
    serve_bytes(&head, 40);
    CHECK(device.replies == 0);
    CHECK(serve(&(struct call){FUSE_LOOKUP, 1, {slice_of("abc", 3)}}) == -EPROTO); /* no zero */
    CHECK(serve(&(struct call){FUSE_RENAME, 1, {slice_of("abc", 3)}}) == -EPROTO);
    struct fuse_write_in write = {.fh = 0, .size = 100};
    CHECK(serve(&(struct call){FUSE_WRITE, 1, {OF(write)}}) == -EBADF);
    struct created file = create("f");
    write.fh = file.open.fh;
    CHECK(serve(&(struct call){FUSE_WRITE, file.entry.nodeid, {OF(write)}}) == -EPROTO);
    CHECK(serve(&(struct call){FUSE_WRITE, 1, {OF(write)}}) == -EBADF); /* of another node */
    CHECK(serve(&(struct call){34 /* ACCESS */, 1, {{0}}}) == -ENOSYS);
    CHECK(serve(&(struct call){46 /* LSEEK */, 1, {{0}}}) == -ENOSYS);
    CHECK(serve(&(struct call){4096 /* CUSE_INIT */, 1, {{0}}}) == -ENOSYS);
    CHECK(serve(&(struct call){FUSE_FORGET, 1, {{0}}}) == 1); /* no reply */
    CHECK(serve(&(struct call){FUSE_BATCH_FORGET, 1, {{0}}}) == 1);
    CHECK(serve(&(struct call){FUSE_INTERRUPT, 1, {{0}}}) == 1);
    struct random random;
    random_init(&random, 7);
    for (uint32_t round = 0; round < 3000; round++) { /* anything but a crash */
        uint8_t bytes[200];
        for (uint32_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)random_u64(&random);
        head = (struct fuse_in_header){
            .len = 40 + (uint32_t)random_below(&random, 100),
            .opcode = (uint32_t)random_below(&random, 64),
            .unique = 1,
            .nodeid = random_below(&random, 3),
        };
        if (head.opcode == FUSE_MKNOD || head.opcode == FUSE_CREATE ||
            head.opcode == FUSE_SYMLINK || head.opcode == FUSE_MKDIR || head.opcode == FUSE_SETATTR)
            continue; /* the fake would run full */
        memcpy(bytes, &head, sizeof head);
        serve_bytes(bytes, head.len);
        CHECK(device.replies <= 1);
    }
    log_set_level(LOG_INFO);
}

static void run(void (*body)(void))
{
    fake_start(20);
    fake_run(body);
    fake_free();
}

#define TEST(name)                                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        run(name##_body);                                                                          \
    }
TEST(attr_layout)
TEST(init)
TEST(file)
TEST(names)
TEST(attributes)
TEST(directory)
TEST(malformed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attr_layout), cmocka_unit_test(init),       cmocka_unit_test(file),
        cmocka_unit_test(names),       cmocka_unit_test(attributes), cmocka_unit_test(directory),
        cmocka_unit_test(malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
