/* SPDX-License-Identifier: MIT */
/* Paths for callers that have no kernel to walk them. */
#include "client/client_internal.h"

#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/mem.h"

enum { PATH_BYTES_MAX = 4096, DEPTH_MAX = 256 };

/* A walk in progress: the directories entered so far (for ".."), and the text still to go. */
struct walk {
    struct client *client;
    const struct client_cred *cred;
    struct wire_attr stack[DEPTH_MAX]; /* stack[depth - 1] is where we are */
    uint32_t depth;
    uint32_t links;
    char rest[2 * PATH_BYTES_MAX]; /* symbolic links are put in front */
    char target[META_SYMLINK_MAX + 1];
};

static int put_link_in_front(struct walk *walk, const char *after, const struct wire_attr *link)
{
    uint32_t bytes;
    if (++walk->links > CLIENT_SYMLINKS_MAX)
        return -ELOOP;
    int result = client_readlink(walk->client, walk->cred, link->ino, walk->target, &bytes);
    if (result < 0)
        return result;
    size_t after_bytes = strlen(after) + 1;
    if (bytes + 1 + after_bytes > sizeof walk->rest)
        return -ENAMETOOLONG;
    memmove(walk->rest + bytes + 1, after, after_bytes);
    memcpy(walk->rest, walk->target, bytes);
    walk->rest[bytes] = '/';
    if (walk->target[0] == '/')
        walk->depth = 1;
    return 0;
}

/* One component. *ret_restart: a link was put in front, start over with walk->rest. */
static int step(struct walk *walk, struct slice name, const char *after, bool follow,
                bool *ret_restart)
{
    struct wire_attr *here = &walk->stack[walk->depth - 1];
    if (!S_ISDIR(here->mode))
        return -ENOTDIR;
    if (name.bytes == 1 && memcmp(name.data, ".", 1) == 0)
        return 0;
    if (name.bytes == 2 && memcmp(name.data, "..", 2) == 0) {
        walk->depth = MAX(walk->depth, 2u) - 1;
        return 0;
    }
    struct wire_attr attr;
    int result = client_lookup(walk->client, walk->cred, here->ino, name, &attr);
    if (result < 0)
        return result;
    bool last = after[strspn(after, "/")] == 0;
    if (S_ISLNK(attr.mode) && (!last || follow)) {
        *ret_restart = true;
        return put_link_in_front(walk, after, &attr);
    }
    if (walk->depth == DEPTH_MAX)
        return -ENAMETOOLONG;
    walk->stack[walk->depth++] = attr;
    return 0;
}

static int walk_run(struct walk *walk, bool follow)
{
    const char *cursor = walk->rest;
    for (;;) {
        cursor += strspn(cursor, "/");
        if (!*cursor)
            return 0;
        struct slice name = slice_of(cursor, strcspn(cursor, "/"));
        bool restart = false;
        int result = step(walk, name, cursor + name.bytes, follow, &restart);
        if (result < 0)
            return result;
        cursor = restart ? walk->rest : cursor + name.bytes;
    }
}

int client_walk(struct client *client, const struct client_cred *cred, const char *path,
                bool follow, struct wire_attr *ret_attr)
{
    size_t bytes = strlen(path) + 1;
    if (bytes > PATH_BYTES_MAX)
        return -ENAMETOOLONG;
    struct walk *walk = mem_zalloc(sizeof *walk); /* too large for a fiber's stack */
    walk->client = client;
    walk->cred = cred;
    memcpy(walk->rest, path, bytes);
    int result = client_getattr(client, cred, CFS_ROOT_INO, &walk->stack[0]);
    walk->depth = 1;
    if (result == 0)
        result = walk_run(walk, follow);
    if (result == 0)
        *ret_attr = walk->stack[walk->depth - 1];
    mem_free(walk);
    return result;
}

int client_walk_parent(struct client *client, const struct client_cred *cred, const char *path,
                       uint64_t *ret_dir, struct slice *ret_name)
{
    size_t end = strlen(path);
    if (end >= PATH_BYTES_MAX)
        return -ENAMETOOLONG;
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    struct slice name = slice_of(path + start, end - start);
    if (name.bytes == 0 || slice_equal(name, slice_of(".", 1)) ||
        slice_equal(name, slice_of("..", 2)))
        return -EINVAL;
    char *parent = mem_alloc(start + 1);
    memcpy(parent, path, start);
    parent[start] = 0;
    struct wire_attr attr;
    int result = client_walk(client, cred, parent, true, &attr);
    mem_free(parent);
    if (result == 0 && !S_ISDIR(attr.mode))
        result = -ENOTDIR;
    if (result < 0)
        return result;
    *ret_dir = attr.ino;
    *ret_name = name;
    return 0;
}
