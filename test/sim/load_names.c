/* SPDX-License-Identifier: MIT */
/* Several clients make, link, move, remove and look at few names in few directories, so that they
 * meet all the time. Every request and answer goes to world->names. */
#include <errno.h>
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

static int do_change(struct world_client *client, const struct names_op *op, uint32_t number)
{
    struct world *world = client->world;
    struct wire_attr attr;
    const struct client_place place = place_of(world, op->dir, op->name);
    const struct client_place place2 = place_of(world, op->dir2, op->name2);
    bool is_dir = op->verb == NAMES_MKDIR;
    int result;
    switch ((enum names_verb)op->verb) {
    case NAMES_CREATE:
    case NAMES_MKDIR:
        result = client_mknod(client->client, &world_root, &place,
                              is_dir ? S_IFDIR | 0755 : S_IFREG | 0644, 0, &attr);
        if (result == 0)
            names_made(&world->names, number, attr.ino);
        return result;
    case NAMES_LINK:
        return client_link(client->client, &world_root, world->names.inos[op->node], &place, &attr);
    case NAMES_UNLINK:
        return client_unlink(client->client, &world_root, place.dir, place.name);
    case NAMES_RMDIR:
        return client_rmdir(client->client, &world_root, place.dir, place.name);
    case NAMES_RENAME:
        return client_rename(client->client, &world_root, &place, &place2, op->flags);
    case NAMES_LOOKUP:
    case NAMES_GETATTR:
        break;
    }
    WRONG("verb");
}

static void look(struct world *world, struct client *client, const struct names_op *op)
{
    struct wire_attr attr;
    uint32_t number = names_begin(&world->names, op, world_now_ns(world));
    int result;
    if (op->verb == NAMES_LOOKUP) {
        result = client_lookup(client, &world_root, world->names.inos[op->dir], text_of(op->name),
                               &attr);
        if (result == 0)
            names_saw(&world->names, number, attr.ino);
    } else {
        result = client_getattr(client, &world_root, world->names.inos[op->node], &attr);
        if (result == 0)
            world->names.ops[number].nlink = attr.nlink;
    }
    names_end(&world->names, number, result, world_now_ns(world));
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
        NAMES_CREATE, NAMES_CREATE, NAMES_CREATE, NAMES_MKDIR,  NAMES_MKDIR,  NAMES_LINK,
        NAMES_LINK,   NAMES_UNLINK, NAMES_UNLINK, NAMES_RMDIR,  NAMES_RENAME, NAMES_RENAME,
        NAMES_RENAME, NAMES_RENAME, NAMES_LOOKUP, NAMES_LOOKUP, NAMES_GETATTR};
    return verbs[world_below(world, ARRAY_COUNT(verbs))];
}

static void step(struct world_client *client)
{
    static const uint32_t flags[] = {0, 0, 0, META_RENAME_NOREPLACE, META_RENAME_EXCHANGE};
    struct world *world = client->world;
    struct names_op op = {
        .verb = (uint8_t)some_verb(world),
        .client = (uint8_t)client->index,
        .name = (uint8_t)world_below(world, NAMES),
        .name2 = (uint8_t)world_below(world, NAMES),
        .dir = some_dir(world),
        .dir2 = some_dir(world),
        .node = some_node(world),
        .flags = flags[world_below(world, ARRAY_COUNT(flags))],
    };
    if (world_below(world, 20) == 0) {
        list(world, client->client, op.client, op.dir);
        return;
    }
    if (op.verb == NAMES_LOOKUP || op.verb == NAMES_GETATTR) {
        look(world, client->client, &op);
        return;
    }
    bool makes = op.verb == NAMES_CREATE || op.verb == NAMES_MKDIR;
    if (makes && !names_room(&world->names))
        return;
    uint32_t number = names_begin(&world->names, &op, world_now_ns(world));
    int result = do_change(client, &world->names.ops[number], number);
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
}

static void finish(struct world *world)
{
    uint32_t count = world->names.count;
    list(world, world->client, DIRECTOR, NAMES_BASE);
    for (uint32_t i = 0; i < count; i++) {
        const struct names_op *made = &world->names.ops[i];
        bool is_dir = made->verb == NAMES_MKDIR;
        if (!(is_dir || made->verb == NAMES_CREATE) || !made->answered || made->result < 0)
            continue;
        const struct names_op op = {.verb = NAMES_GETATTR, .client = DIRECTOR, .node = made->node};
        look(world, world->client, &op);
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
