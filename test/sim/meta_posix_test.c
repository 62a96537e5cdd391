/* SPDX-License-Identifier: MIT */
/* Goal: the errors, permissions and side effects that POSIX names, and the paths that log lines
 * show. Method: a list of calls with what each has to answer, on a cluster of three nodes. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster_fsck.h"
#include "node/node_internal.h"

#define SILENCE_NS (2 * 3600 * NS_PER_S) /* then results of requests are forgotten */

struct run {
    struct cluster cluster;
    struct sim_node *host;
    struct client *client;
    uint64_t deep; /* an inode whose path is known */
    uint32_t named;
    uint32_t wrong;
    bool done;
};

static const struct client_cred root = {.uid = 0};
static const struct client_cred alice = {.uid = 1000, .gid = 100};
static const struct client_cred bob = {.uid = 1001, .gid = 101};

#define IS(want, call)                                                                             \
    do {                                                                                           \
        int got_ = (call);                                                                         \
        if (got_ != (want)) {                                                                      \
            printf("line %d: %s: %s, not %s\n", __LINE__, #call, error_name(got_),                 \
                   error_name(want));                                                              \
            run->wrong++;                                                                          \
        }                                                                                          \
    } while (0)
#define EQUAL(want, got)                                                                           \
    do {                                                                                           \
        uint64_t got_ = (got), want_ = (want);                                                     \
        if (got_ != want_) {                                                                       \
            printf("line %d: %s is %llo (octal), not %llo\n", __LINE__, #got,                      \
                   (unsigned long long)got_, (unsigned long long)want_);                           \
            run->wrong++;                                                                          \
        }                                                                                          \
    } while (0)

static struct slice text(const char *bytes)
{
    return slice_of(bytes, strlen(bytes));
}

static int make(struct run *run, const struct client_cred *cred, uint64_t dir, const char *name,
                uint32_t mode, uint64_t *ret_ino)
{
    const struct client_place place = {dir, text(name)};
    struct wire_attr attr = {0};
    int result = client_mknod(run->client, cred, &place, mode, 0, &attr);
    if (ret_ino)
        *ret_ino = attr.ino;
    return result;
}

static struct client_place at(uint64_t dir, const char *name)
{
    return (struct client_place){dir, text(name)};
}

static int move(struct run *run, const struct client_cred *cred, struct client_place from,
                struct client_place to, uint32_t flags)
{
    return client_rename(run->client, cred, &from, &to, flags);
}

static int add_link(struct run *run, uint64_t ino, uint64_t dir, const char *name)
{
    const struct client_place place = {dir, text(name)};
    struct wire_attr attr;
    return client_link(run->client, &root, ino, &place, &attr);
}

static int look_up(struct run *run, const struct client_cred *cred, uint64_t dir, const char *name)
{
    struct wire_attr attr;
    return client_lookup(run->client, cred, dir, text(name), &attr);
}

static int set(struct run *run, const struct client_cred *cred, uint64_t ino, uint32_t valid,
               uint64_t value)
{
    const struct client_setattr wanted = {
        .valid = valid,
        .mode = (uint32_t)value,
        .uid = (uint32_t)value,
        .gid = (uint32_t)value,
        .size = value,
        .atime_ns = (int64_t)value,
        .mtime_ns = (int64_t)value,
    };
    struct wire_attr attr;
    return client_setattr(run->client, cred, ino, &wanted, &attr);
}

static struct wire_attr attr_of(struct run *run, uint64_t ino)
{
    struct wire_attr attr = {0};
    IS(0, client_getattr(run->client, &root, ino, &attr));
    return attr;
}

/* ---- names ----------------------------------------------------------------------------------- */

static void test_names(struct run *run)
{
    uint64_t d, e, f, sub;
    char long_name[META_NAME_MAX + 2];
    memset(long_name, 'n', sizeof long_name);
    long_name[META_NAME_MAX + 1] = 0;
    IS(0, make(run, &root, CFS_ROOT_INO, "names", S_IFDIR | 0755, &d));
    IS(-ENAMETOOLONG, make(run, &root, d, long_name, S_IFREG, NULL));
    long_name[META_NAME_MAX] = 0;
    IS(0, make(run, &root, d, long_name, S_IFREG, NULL));
    IS(0, look_up(run, &root, d, long_name));
    IS(-EEXIST, make(run, &root, d, long_name, S_IFDIR, NULL));
    IS(0, client_unlink(run->client, &root, d, text(long_name)));
    IS(-EINVAL, make(run, &root, d, ".", S_IFREG, NULL));
    IS(-EINVAL, make(run, &root, d, "..", S_IFDIR, NULL));
    IS(-EINVAL, make(run, &root, d, "a/b", S_IFREG, NULL));

    IS(0, make(run, &root, d, "f", S_IFREG | 0644, &f));
    IS(0, make(run, &root, d, "e", S_IFDIR | 0755, &e));
    IS(0, make(run, &root, e, "sub", S_IFDIR | 0755, &sub));
    EQUAL(3, attr_of(run, d).nlink);
    EQUAL(3, attr_of(run, e).nlink);
    IS(-ENOTDIR, make(run, &root, f, "x", S_IFREG, NULL));
    IS(-ENOTDIR, look_up(run, &root, f, "x"));
    IS(-ENOENT, look_up(run, &root, d, "x"));
    IS(-EISDIR, client_unlink(run->client, &root, d, text("e")));
    IS(-ENOTDIR, client_rmdir(run->client, &root, d, text("f")));
    IS(-ENOTEMPTY, client_rmdir(run->client, &root, d, text("e")));
    IS(-ENOENT, client_rmdir(run->client, &root, d, text("x")));
    IS(-ENOENT, client_unlink(run->client, &root, d, text("x")));
    IS(-EPERM, add_link(run, e, d, "x"));
    IS(-EEXIST, add_link(run, f, d, "e"));
    IS(0, add_link(run, f, e, "f2"));
    EQUAL(2, attr_of(run, f).nlink);

    IS(-ENOENT, move(run, &root, at(d, "x"), at(d, "y"), 0));
    IS(-EINVAL, move(run, &root, at(d, "e"), at(e, "x"), 0));
    IS(-EINVAL, move(run, &root, at(d, "e"), at(sub, "x"), 0));
    IS(-ENOTEMPTY, move(run, &root, at(e, "sub"), at(d, "e"), 0));
    IS(-ENOTDIR, move(run, &root, at(d, "e"), at(d, "f"), 0));
    IS(-EISDIR, move(run, &root, at(d, "f"), at(d, "e"), 0));
    IS(-EEXIST, move(run, &root, at(d, "f"), at(d, "e"), META_RENAME_NOREPLACE));
    IS(-ENOENT, move(run, &root, at(d, "f"), at(d, "x"), META_RENAME_EXCHANGE));
    IS(-EINVAL, move(run, &root, at(e, "sub"), at(d, "e"), META_RENAME_EXCHANGE));
    IS(0, move(run, &root, at(d, "f"), at(e, "f2"), 0)); /* two names of one file: both stay */
    IS(0, look_up(run, &root, d, "f"));
    IS(0, move(run, &root, at(d, "f"), at(e, "sub"), META_RENAME_EXCHANGE));
    EQUAL(4, attr_of(run, d).nlink);
    EQUAL(2, attr_of(run, e).nlink);
    IS(0, move(run, &root, at(d, "f"), at(d, "sub2"), 0));
    IS(0, client_rmdir(run->client, &root, d, text("sub2")));
    IS(-ESTALE, make(run, &root, sub, "x", S_IFREG, NULL));
}

/* A directory that was removed is below nothing, also while its inode is still there. */
static void test_removed(struct run *run)
{
    uint64_t d, e, sub, f;
    struct client_file *file;
    IS(0, make(run, &root, CFS_ROOT_INO, "removed", S_IFDIR | 0755, &d));
    IS(0, make(run, &root, d, "e", S_IFDIR | 0755, &e));
    IS(0, make(run, &root, e, "sub", S_IFDIR | 0755, &sub));
    IS(0, make(run, &root, e, "f", S_IFREG | 0644, &f));
    IS(-ENOTDIR, move(run, &root, at(d, "e"), at(f, "x"), 0));
    IS(0, client_open(run->client, &root, sub, &file)); /* so the inode stays */
    IS(0, client_rmdir(run->client, &root, e, text("sub")));
    EQUAL(0, attr_of(run, sub).nlink);
    IS(-ENOENT, move(run, &root, at(d, "e"), at(sub, "x"), 0));
    IS(-ENOENT, move(run, &root, at(e, "f"), at(sub, "x"), 0));
    IS(-ENOENT, make(run, &root, sub, "x", S_IFREG, NULL));
    IS(-ENOENT, look_up(run, &root, sub, "x"));
    IS(-EPERM, add_link(run, sub, d, "x"));
    IS(0, client_release(file));
}

static void test_links(struct run *run)
{
    uint64_t d, ino;
    char target[META_SYMLINK_MAX + 2];
    uint32_t bytes;
    struct wire_attr attr;
    IS(0, make(run, &root, CFS_ROOT_INO, "links", S_IFDIR | 0755, &d));
    memset(target, 't', sizeof target);
    const struct client_place place = {d, text("l")};
    IS(-ENAMETOOLONG,
       client_symlink(run->client, &root, &place, slice_of(target, META_SYMLINK_MAX + 1), &attr));
    IS(0, client_symlink(run->client, &root, &place, slice_of(target, META_SYMLINK_MAX), &attr));
    EQUAL(S_IFLNK | 0777, attr.mode);
    IS(0, client_readlink(run->client, &root, attr.ino, target, &bytes));
    EQUAL(META_SYMLINK_MAX, bytes);
    IS(0, make(run, &root, d, "f", S_IFREG | 0644, &ino));
    IS(-EINVAL, client_readlink(run->client, &root, ino, target, &bytes));
    IS(-EINVAL, set(run, &root, attr.ino, META_SET_SIZE, 0));
    IS(-EISDIR, set(run, &root, d, META_SET_SIZE, 0));
    IS(-EFBIG, set(run, &root, ino, META_SET_SIZE, META_FILE_SIZE_MAX + 1));
}

/* ---- rights ---------------------------------------------------------------------------------- */

static void test_rights(struct run *run)
{
    uint64_t closed, shared, f, g;
    IS(0, make(run, &root, CFS_ROOT_INO, "closed", S_IFDIR | 0700, &closed));
    IS(0, make(run, &root, closed, "f", S_IFREG | 0644, &f));
    IS(-EACCES, look_up(run, &alice, closed, "f"));
    IS(-EACCES, make(run, &alice, closed, "g", S_IFREG, NULL));
    IS(-EACCES, client_unlink(run->client, &alice, closed, text("f")));
    IS(-EACCES, make(run, &alice, CFS_ROOT_INO, "x", S_IFDIR, NULL));

    IS(0, make(run, &root, CFS_ROOT_INO, "shared", S_IFDIR | 01777, &shared));
    IS(0, make(run, &alice, shared, "a", S_IFREG | 0644, &f));
    EQUAL(1000, attr_of(run, f).uid);
    EQUAL(100, attr_of(run, f).gid);
    IS(-EPERM, client_unlink(run->client, &bob, shared, text("a")));
    IS(-EPERM, move(run, &bob, at(shared, "a"), at(shared, "b"), 0));
    IS(0, make(run, &bob, shared, "b", S_IFREG | 0600, &g));
    IS(-EPERM, move(run, &bob, at(shared, "b"), at(shared, "a"), 0));
    IS(-EPERM, set(run, &bob, f, META_SET_MODE, 0777));
    IS(-EPERM, set(run, &bob, f, META_SET_UID, 1001));
    IS(-EPERM, set(run, &alice, f, META_SET_UID, 1001));
    IS(-EPERM, set(run, &alice, f, META_SET_GID, 101));
    IS(0, set(run, &alice, f, META_SET_GID, 100));
    IS(-EPERM, set(run, &bob, f, META_SET_MTIME, 5));
    IS(-EACCES, set(run, &bob, f, META_SET_MTIME_NOW, 0));
    IS(-EACCES, set(run, &bob, f, META_SET_SIZE, 0));
    IS(0, set(run, &alice, f, META_SET_MODE, 0666));
    IS(0, set(run, &bob, f, META_SET_MTIME_NOW, 0));
    IS(0, set(run, &bob, f, META_SET_SIZE, 10));
    IS(0, set(run, &alice, f, META_SET_MTIME, 5));
    EQUAL(5, (uint64_t)attr_of(run, f).mtime_ns);

    IS(0, set(run, &alice, f, META_SET_MODE, 06755));
    EQUAL(S_IFREG | 06755, attr_of(run, f).mode);
    IS(0, set(run, &root, f, META_SET_UID | META_SET_GID, 1001));
    EQUAL(S_IFREG | 0755, attr_of(run, f).mode);
    IS(0, set(run, &bob, f, META_SET_MODE, 02755)); /* not in the file's group */
    EQUAL(S_IFREG | 0755, attr_of(run, f).mode);
    IS(0, client_unlink(run->client, &bob, shared, text("a")));
}

static void test_inheritance(struct run *run)
{
    uint64_t d, sub, f;
    IS(0, make(run, &root, CFS_ROOT_INO, "team", S_IFDIR | 0777, &d));
    IS(0, set(run, &root, d, META_SET_GID, 500));
    IS(0, set(run, &root, d, META_SET_MODE, 02777));
    IS(0, make(run, &alice, d, "sub", S_IFDIR | 0755, &sub));
    IS(0, make(run, &alice, d, "f", S_IFREG | 0644, &f));
    EQUAL(S_IFDIR | 02755, attr_of(run, sub).mode);
    EQUAL(500, attr_of(run, sub).gid);
    EQUAL(S_IFREG | 0644, attr_of(run, f).mode);
    EQUAL(500, attr_of(run, f).gid);
    EQUAL(1000, attr_of(run, f).uid);
}

/* ---- attributes and sizes -------------------------------------------------------------------- */

static int set_xattr(struct run *run, const struct client_cred *cred, uint64_t ino,
                     const char *name, uint32_t flags)
{
    return client_setxattr(run->client, cred, ino, text(name), text("value"), flags);
}

static void test_xattrs(struct run *run)
{
    uint64_t d, f, fifo;
    char room[META_XATTR_COUNT_MAX * 16];
    IS(0, make(run, &root, CFS_ROOT_INO, "xattrs", S_IFDIR | 0755, &d));
    IS(0, make(run, &root, d, "f", S_IFREG | 0644, &f));
    IS(0, make(run, &root, d, "fifo", S_IFIFO | 0644, &fifo));
    IS(-ENODATA, set_xattr(run, &root, f, "user.0", META_XATTR_REPLACE));
    IS(0, set_xattr(run, &root, f, "user.0", 0));
    IS(-EEXIST, set_xattr(run, &root, f, "user.0", META_XATTR_CREATE));
    IS(-EACCES, set_xattr(run, &alice, f, "user.0", 0));
    IS(-EPERM, set_xattr(run, &alice, f, "trusted.0", 0));
    IS(-EOPNOTSUPP, set_xattr(run, &root, f, "system.posix_acl_access", 0));
    IS(-EPERM, set_xattr(run, &root, fifo, "user.0", 0));
    for (uint32_t i = 1; i < META_XATTR_COUNT_MAX; i++) {
        char name[24];
        (void)snprintf(name, sizeof name, "user.%u", i);
        IS(0, set_xattr(run, &root, f, name, 0));
    }
    IS(-ENOSPC, set_xattr(run, &root, f, "user.more", 0));
    struct client_bytes names = {room, sizeof room, 0};
    IS(0, client_listxattr(run->client, &root, f, &names));
    uint32_t count = 0;
    for (uint32_t i = 0; i < names.bytes; i++)
        count += room[i] == 0;
    EQUAL(META_XATTR_COUNT_MAX, count);
    IS(0, client_removexattr(run->client, &root, f, text("user.7")));
    IS(-ENODATA, client_removexattr(run->client, &root, f, text("user.7")));
    IS(0, client_unlink(run->client, &root, d, text("f")));
}

static void check_bytes(struct run *run, struct client_file *file, uint64_t offset, uint32_t bytes,
                        uint8_t want)
{
    struct client_data data = {0};
    IS(0, client_read(file, offset, bytes, &data));
    uint8_t *got = mem_zalloc(bytes);
    client_data_copy(&data, got);
    uint32_t wrong = data.bytes != bytes;
    for (uint32_t i = 0; i < data.bytes; i++)
        wrong += got[i] != want;
    EQUAL(0, wrong);
    mem_free(got);
    client_data_fini(&data);
}

static void write_bytes(struct run *run, struct client_file *file, uint64_t offset, uint32_t bytes)
{
    struct buf *buf = buf_new(bytes);
    memset(buf->data, 'w', bytes);
    IS(0, client_write(file, offset, (struct buf_slice){buf, 0, bytes}));
    buf_put(buf);
}

/* Over the border between inline data and objects, both ways; and a file without a name. */
static void test_sizes(struct run *run)
{
    uint64_t d;
    struct client_file *file;
    IS(0, make(run, &root, CFS_ROOT_INO, "sizes", S_IFDIR | 0755, &d));
    const struct client_place place = {d, text("f")};
    IS(0, client_create(run->client, &root, &place, S_IFREG | 0644, true, &file));
    uint64_t ino = client_file_ino(file);
    write_bytes(run, file, 100, 10);
    check_bytes(run, file, 0, 100, 0);
    check_bytes(run, file, 100, 10, 'w');
    EQUAL(ATTR_INLINE, attr_of(run, ino).flags);
    IS(0, set(run, &root, ino, META_SET_SIZE, 105));
    IS(0, set(run, &root, ino, META_SET_SIZE, META_INLINE_MAX));
    EQUAL(ATTR_INLINE, attr_of(run, ino).flags);
    check_bytes(run, file, 100, 5, 'w');
    check_bytes(run, file, 105, META_INLINE_MAX - 105, 0);
    IS(0, set(run, &root, ino, META_SET_SIZE, 10000));
    EQUAL(0, attr_of(run, ino).flags);
    check_bytes(run, file, 100, 5, 'w');
    check_bytes(run, file, 105, 10000 - 105, 0);
    write_bytes(run, file, 9000, 1000);
    IS(0, set(run, &root, ino, META_SET_SIZE, 9500));
    IS(0, set(run, &root, ino, META_SET_SIZE, 12000));
    check_bytes(run, file, 9000, 500, 'w');
    check_bytes(run, file, 9500, 2500, 0);
    IS(0, set(run, &root, ino, META_SET_SIZE, 0));
    EQUAL(0, attr_of(run, ino).flags);
    IS(0, set(run, &root, ino, META_SET_SIZE, 50));
    check_bytes(run, file, 0, 50, 0);
    IS(0, client_unlink(run->client, &root, d, text("f")));
    EQUAL(0, attr_of(run, ino).nlink);
    write_bytes(run, file, 0, 50);
    check_bytes(run, file, 0, 50, 'w');
    client_release(file);
    fiber_sleep(40 * NS_PER_S);
    struct wire_attr attr;
    IS(-ESTALE, client_getattr(run->client, &root, ino, &attr));
}

static void workload(void *arg)
{
    struct run *run = arg;
    struct map_client *map;
    uint64_t d;
    run->client = cluster_client(&run->cluster, &map);
    while (!cluster_all_in_sync(&run->cluster, map))
        fiber_sleep(50 * NS_PER_MS);
    test_names(run);
    test_removed(run);
    test_links(run);
    test_rights(run);
    test_inheritance(run);
    test_xattrs(run);
    test_sizes(run);
    IS(0, make(run, &root, CFS_ROOT_INO, "some", S_IFDIR | 0755, &d));
    IS(0, make(run, &root, d, "path of", S_IFDIR | 0755, &d));
    IS(0, make(run, &root, d, "a file", S_IFREG | 0644, &run->deep));
    run->done = true;
}

/* On every node, wherever the directories are served. */
static void name_fiber(void *arg)
{
    struct cluster_member *member = arg;
    struct run *run = container_of(member->cluster, struct run, cluster);
    char path[128];
    meta_name_inode(member->node->meta, run->deep, path, sizeof path);
    if (strcmp(path, "/some/path of/a file") != 0) {
        printf("node %u names it %s\n", member->id, path);
        run->wrong++;
    }
    run->named++;
}

int main(void)
{
    struct run *run = calloc(1, sizeof *run);
    log_set_level(getenv("CFS_LOG") ? LOG_DEBUG : LOG_ERROR);
    cluster_start(&run->cluster, 1, 3, 2);
    struct sim *sim = run->cluster.sim;
    run->host = sim_node_new(sim, "10.0.0.100");
    bool done = cluster_run_fiber(&run->cluster, run->host, workload, run, &run->done);
    for (uint32_t i = 0; i < run->cluster.node_count; i++)
        reactor_spawn(sim_node_reactor(run->cluster.members[i].sim_node), "name", name_fiber,
                      &run->cluster.members[i]);
    sim_run_for(sim, NS_PER_S);
    struct fsck_counts early = {0}, late = {0};
    run->wrong += cluster_fsck(&run->cluster, true, &early);
    sim_run_for(sim, SILENCE_NS);
    run->wrong += cluster_fsck(&run->cluster, true, &late);
    if (early.requests == 0 || late.requests != 0) {
        printf("results kept: %llu, long after: %llu\n", (unsigned long long)early.requests,
               (unsigned long long)late.requests);
        run->wrong++;
    }
    bool passed = done && run->wrong == 0 && run->named == run->cluster.node_count;
    printf("%s wrong %u\n", passed ? "ok" : "FAILED", run->wrong);
    cluster_free(&run->cluster);
    free(run);
    return passed ? 0 : 1;
}
