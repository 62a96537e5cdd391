/* SPDX-License-Identifier: MIT */
/* Several clients make, link, move, remove and look at few names in few directories, and give
 * attributes to what has them, so that they meet all the time. Every request and answer goes to
 * world->names. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "format/wire_meta.h"
#include "world.h"

enum { DIRS_WANTED = 6, NEWEST = 12, DIRECTOR = 99 };

static struct slice text_of(uint8_t name)
{
    return slice_of(names_text[name], strlen(names_text[name]));
}

static struct client_place place_of(const struct world *world, uint16_t dir, uint8_t name)
{
    return (struct client_place){world->names.inos[dir], text_of(name)};
}

/* A node whose inode is known, rather one of the newest. */
static uint16_t some_node(struct world *world)
{
    const struct names_history *history = &world->names;
    uint32_t count = MIN(history->nodes, (uint32_t)NEWEST);
    for (int i = 0; i < 4; i++) {
        uint32_t node = history->nodes - 1 - world_below(world, count);
        if (history->inos[node])
            return (uint16_t)node;
    }
    return NAMES_BASE;
}

/* A directory that was made, which may have been removed. */
static uint16_t some_dir(struct world *world)
{
    const struct names_history *history = &world->names;
    uint32_t skip = world_below(world, DIRS_WANTED);
    for (uint32_t i = history->count; i > 0; i--) {
        const struct names_op *op = &history->ops[i - 1];
        if (op->verb == NAMES_MKDIR && op->answered && op->result == 0 && skip-- == 0)
            return op->node;
    }
    return NAMES_BASE;
}

static struct slice xattr_of(const struct names_op *op)
{
    const char *text = names_xattr_text[op->xattr];
    return slice_of(text, strlen(text));
}

static int do_make(struct world_client *client, const struct names_op *op, uint32_t number)
{
    struct world *world = client->world;
    struct wire_attr attr;
    char target[16];
    const struct client_place place = place_of(world, op->dir, op->name);
    uint32_t mode = op->verb == NAMES_MKDIR   ? S_IFDIR | 0755
                    : op->verb == NAMES_MKNOD ? S_IFCHR | 0600
                                              : S_IFREG | 0644;
    int bytes = snprintf(target, sizeof target, "%u", op->node);
    int result = op->verb == NAMES_SYMLINK
                     ? client_symlink(client->client, &world_root, &place,
                                      slice_of(target, (size_t)bytes), &attr)
                     : client_mknod(client->client, &world_root, &place, mode,
                                    op->verb == NAMES_MKNOD ? op->node : 0, &attr);
    if (result == 0)
        names_made(&world->names, number, attr.ino);
    return result;
}

static int do_change(struct world_client *client, const struct names_op *op, uint32_t number)
{
    struct world *world = client->world;
    struct wire_attr attr;
    const struct client_place place = place_of(world, op->dir, op->name);
    const struct client_place place2 = place_of(world, op->dir2, op->name2);
    switch ((enum names_verb)op->verb) {
    case NAMES_CREATE:
    case NAMES_MKDIR:
    case NAMES_SYMLINK:
    case NAMES_MKNOD:
        return do_make(client, op, number);
    case NAMES_LINK:
        return client_link(client->client, &world_root, world->names.inos[op->node], &place, &attr);
    case NAMES_UNLINK:
        return client_unlink(client->client, &world_root, place.dir, place.name);
    case NAMES_RMDIR:
        return client_rmdir(client->client, &world_root, place.dir, place.name);
    case NAMES_RENAME:
        return client_rename(client->client, &world_root, &place, &place2, op->flags);
    case NAMES_SETXATTR:
        return client_setxattr(client->client, &world_root, world->names.inos[op->node],
                               xattr_of(op), slice_of(&op->value, sizeof op->value), op->flags);
    case NAMES_REMOVEXATTR:
        return client_removexattr(client->client, &world_root, world->names.inos[op->node],
                                  xattr_of(op));
    case NAMES_LOOKUP:
    case NAMES_GETATTR:
    case NAMES_READLINK:
    case NAMES_GETXATTR:
        break;
    }
    WRONG("verb");
}

static uint8_t kind_of(const struct wire_attr *attr, uint16_t node)
{
    return S_ISDIR(attr->mode)                         ? NAMES_DIR
           : S_ISLNK(attr->mode)                       ? NAMES_A_SYMLINK
           : S_ISREG(attr->mode)                       ? NAMES_FILE
           : S_ISCHR(attr->mode) && attr->rdev == node ? NAMES_DEVICE
                                                       : NAMES_NO_NODE;
}

static int look_attr(struct world *world, struct client *client, struct names_op *ret_op)
{
    struct wire_attr attr;
    uint64_t ino = world->names.inos[ret_op->node];
    int result = client_getattr(client, &world_root, ino, &attr);
    if (result == 0) {
        ret_op->nlink = attr.nlink;
        ret_op->kind = kind_of(&attr, ret_op->node);
    }
    return result;
}

static int look_target(struct world *world, struct client *client, struct names_op *ret_op)
{
    char target[META_SYMLINK_MAX + 1];
    uint32_t bytes;
    uint64_t ino = world->names.inos[ret_op->node];
    int result = client_readlink(client, &world_root, ino, target, &bytes);
    if (result == 0)
        ret_op->value = (uint16_t)atoi(target);
    return result;
}

static int look_xattr(struct world *world, struct client *client, struct names_op *ret_op)
{
    uint16_t value;
    struct client_bytes bytes = {.data = &value, .room = sizeof value};
    uint64_t ino = world->names.inos[ret_op->node];
    int result = client_getxattr(client, &world_root, ino, xattr_of(ret_op), &bytes);
    if (result == 0)
        ret_op->value = bytes.bytes == sizeof value ? value : 0;
    return result;
}

static void look(struct world *world, struct client *client, const struct names_op *op)
{
    struct wire_attr attr;
    struct names_op seen = *op;
    uint32_t number = names_begin(&world->names, op, world_now_ns(world));
    int result;
    if (op->verb == NAMES_LOOKUP) {
        result = client_lookup(client, &world_root, world->names.inos[op->dir], text_of(op->name),
                               &attr);
        if (result == 0)
            names_saw(&world->names, number, attr.ino);
    } else {
        result = op->verb == NAMES_GETATTR    ? look_attr(world, client, &seen)
                 : op->verb == NAMES_READLINK ? look_target(world, client, &seen)
                                              : look_xattr(world, client, &seen);
        struct names_op *mine = &world->names.ops[number]; /* the list may have moved */
        mine->nlink = seen.nlink;
        mine->kind = seen.kind;
        mine->value = seen.value;
    }
    names_end(&world->names, number, result, world_now_ns(world));
}

/* All names of attributes by one request: a GETXATTR of each. */
static void list_xattrs(struct world *world, struct client *client, uint8_t index, uint16_t node)
{
    uint32_t numbers[NAMES_XATTRS];
    char text[64];
    struct client_bytes names = {.data = text, .room = sizeof text};
    for (uint8_t i = 0; i < NAMES_XATTRS; i++) {
        const struct names_op op = {.verb = NAMES_GETXATTR,
                                    .client = index,
                                    .node = node,
                                    .xattr = i,
                                    .value = NAMES_XATTR_ANY};
        numbers[i] = names_begin(&world->names, &op, world_now_ns(world));
    }
    int result = client_listxattr(client, &world_root, world->names.inos[node], &names);
    for (uint32_t i = 0; i < NAMES_XATTRS; i++) {
        bool there = false;
        for (uint32_t at = 0; result == 0 && at < names.bytes;
             at += (uint32_t)strlen(text + at) + 1)
            there |= strcmp(text + at, names_xattr_text[i]) == 0;
        names_end(&world->names, numbers[i], result == 0 && !there ? -ENODATA : result,
                  world_now_ns(world));
    }
}

/* The whole directory by one request: a LOOKUP of every name. */
static void list(struct world *world, struct client *client, uint8_t index, uint16_t dir)
{
    uint32_t numbers[NAMES];
    uint64_t inos[NAMES] = {0};
    struct client_dir_page page;
    struct client_dirent entry;
    for (uint8_t i = 0; i < NAMES; i++) {
        const struct names_op op = {.verb = NAMES_LOOKUP, .client = index, .dir = dir, .name = i};
        numbers[i] = names_begin(&world->names, &op, world_now_ns(world));
    }
    const struct client_readdir what = {.dir = world->names.inos[dir], .bytes = 64 << 10};
    int result = client_readdir(client, &world_root, &what, &page);
    if (result == 0) {
        while ((result = client_dir_next(&page, &entry)) > 0) {
            for (uint32_t i = 0; i < NAMES; i++) {
                if (slice_compare(entry.name, text_of((uint8_t)i)) == 0)
                    inos[i] = entry.ino;
            }
        }
        client_dir_page_fini(&page);
    }
    for (uint32_t i = 0; i < NAMES; i++) {
        if (result == 0 && inos[i])
            names_saw(&world->names, numbers[i], inos[i]);
        names_end(&world->names, numbers[i], result == 0 && !inos[i] ? -ENOENT : result,
                  world_now_ns(world));
    }
}

static enum names_verb some_verb(struct world *world)
{
    static const enum names_verb verbs[] = {
        NAMES_CREATE,   NAMES_CREATE,   NAMES_CREATE,   NAMES_MKDIR,      NAMES_MKDIR,
        NAMES_LINK,     NAMES_LINK,     NAMES_UNLINK,   NAMES_UNLINK,     NAMES_RMDIR,
        NAMES_RENAME,   NAMES_RENAME,   NAMES_RENAME,   NAMES_RENAME,     NAMES_LOOKUP,
        NAMES_LOOKUP,   NAMES_GETATTR,  NAMES_SYMLINK,  NAMES_MKNOD,      NAMES_READLINK,
        NAMES_GETXATTR, NAMES_SETXATTR, NAMES_SETXATTR, NAMES_REMOVEXATTR};
    return verbs[world_below(world, ARRAY_COUNT(verbs))];
}

static void step(struct world_client *client)
{
    static const uint32_t flags[] = {0, 0, 0, META_RENAME_NOREPLACE, META_RENAME_EXCHANGE};
    static const uint32_t xattr_flags[] = {0, 0, META_XATTR_CREATE, META_XATTR_REPLACE};
    struct world *world = client->world;
    struct names_op op = {
        .verb = (uint8_t)some_verb(world),
        .client = (uint8_t)client->index,
        .name = (uint8_t)world_below(world, NAMES),
        .name2 = (uint8_t)world_below(world, NAMES),
        .dir = some_dir(world),
        .dir2 = some_dir(world),
        .node = some_node(world),
        .xattr = (uint8_t)world_below(world, NAMES_XATTRS),
        .flags = flags[world_below(world, ARRAY_COUNT(flags))],
    };
    if (world_below(world, 20) == 0) {
        list(world, client->client, op.client, op.dir);
        return;
    }
    if (op.verb == NAMES_GETXATTR && world_below(world, 2)) {
        list_xattrs(world, client->client, op.client, op.node);
        return;
    }
    if (op.verb == NAMES_LOOKUP || op.verb == NAMES_GETATTR || op.verb == NAMES_READLINK ||
        op.verb == NAMES_GETXATTR) {
        look(world, client->client, &op);
        return;
    }
    if (op.verb == NAMES_SETXATTR) {
        op.flags = xattr_flags[world_below(world, ARRAY_COUNT(xattr_flags))];
        op.value = (uint16_t)(1 + world->names.count % 60000);
    }
    if (names_makes(op.verb) && !names_room(&world->names))
        return;
    uint32_t number = names_begin(&world->names, &op, world_now_ns(world));
    op = world->names.ops[number]; /* the list may move */
    int result = do_change(client, &op, number);
    names_end(&world->names, number, result, world_now_ns(world));
    if (world->trace)
        names_print(&world->names, &world->names.ops[number]);
}

static void setup(struct world *world)
{
    struct wire_attr attr;
    const struct client_place place = {CFS_ROOT_INO, slice_of("names", 5)};
    int result = client_mknod(world->client, &world_root, &place, S_IFDIR | 0755, 0, &attr);
    if (result < 0) {
        world_fail(world, "mkdir /names: %s", error_name(result));
        return;
    }
    names_init(&world->names, attr.ino);
    world->names.may_be_full = world->scenario.small;
}

static void finish(struct world *world)
{
    uint32_t count = world->names.count;
    list(world, world->client, DIRECTOR, NAMES_BASE);
    for (uint32_t i = 0; i < count; i++) {
        const struct names_op *made = &world->names.ops[i];
        if (!names_makes(made->verb) || !made->answered || made->result < 0)
            continue;
        bool is_dir = made->verb == NAMES_MKDIR, is_link = made->verb == NAMES_SYMLINK;
        struct names_op op = {.verb = NAMES_GETATTR, .client = DIRECTOR, .node = made->node};
        look(world, world->client, &op);
        op.verb = is_link ? NAMES_READLINK : NAMES_GETXATTR;
        look(world, world->client, &op);
        list_xattrs(world, world->client, DIRECTOR, op.node);
        if (is_dir)
            list(world, world->client, DIRECTOR, op.node);
    }
}

static uint32_t check(struct world *world)
{
    enum linear_result result = names_check(&world->names);
    if (result == LINEAR_NO)
        world_fail(world, "the answers about names contradict each other");
    return result == LINEAR_UNDECIDED;
}

const struct load load_names = {"names", setup, step, finish, check};
