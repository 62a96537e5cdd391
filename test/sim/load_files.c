/* SPDX-License-Identifier: MIT */
/* Several clients write, truncate and read the same few files, at places where something happens:
 * the size at which a file leaves its inode, the border of two extents, of two objects. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/mem.h"
#include "world.h"

enum { SMALL_FILES = 2, CELLS_OF_BLOCK = 4096 / CELL_BYTES };

/* In cells: where a window begins, and how many it has. */
static const struct window {
    uint32_t first;
    uint32_t count;
} windows[] = {
    {0, 40}, /* the first block, and a little more: all that small files have */
    {0, 128},
    {(256 << 10) / CELL_BYTES - 64, 128},
    {(4 << 20) / CELL_BYTES - 64, 128},
};

static const struct window *some_window(struct world *world, uint32_t file)
{
    return file < SMALL_FILES ? &windows[0]
                              : &windows[1 + world_below(world, ARRAY_COUNT(windows) - 1)];
}

static int file_open(struct world_client *client, uint32_t file)
{
    if (client->files[file])
        return 0;
    struct client_file *open;
    int result = client_open(client->client, &world_root, client->world->file_inos[file], &open);
    if (result == 0)
        client->files[file] = open;
    return result;
}

static int do_write(struct client_file *file, const struct files_op *op)
{
    uint32_t bytes = op->count * CELL_BYTES;
    struct buf *buf = buf_new(bytes);
    for (uint32_t i = 0; i < op->count; i++)
        cell_fill(buf->data + i * CELL_BYTES, op->stamp, op->cell + i);
    int result =
        client_write(file, (uint64_t)op->cell * CELL_BYTES, (struct buf_slice){buf, 0, bytes});
    buf_put(buf);
    return result;
}

static int do_read(struct world *world, struct client_file *file, uint32_t number)
{
    const struct files_op *op = &world->files.ops[number];
    uint32_t cell = op->cell;
    struct client_data data;
    int result = client_read(file, (uint64_t)cell * CELL_BYTES, op->count * CELL_BYTES, &data);
    if (result < 0)
        return result;
    uint8_t *bytes = mem_alloc(data.bytes + 1);
    client_data_copy(&data, bytes);
    struct files_op *mine = &world->files.ops[number]; /* the list may have moved */
    mine->got = data.bytes / CELL_BYTES;
    mine->seen = calloc(mine->got + 1, sizeof *mine->seen);
    if (data.bytes % CELL_BYTES)
        world_fail(world, "a read ended at byte %u: no write ended there", data.bytes);
    for (uint32_t i = 0; i < mine->got; i++) {
        mine->seen[i] = cell_stamp(bytes + i * CELL_BYTES, cell + i);
        if (mine->seen[i] == CELL_TORN) {
            files_print(mine);
            world_fail(world, "cell %u of file %u is not what anybody wrote", cell + i, mine->file);
        }
    }
    mem_free(bytes);
    client_data_fini(&data);
    return 0;
}

static int do_truncate(struct world_client *client, const struct files_op *op)
{
    struct wire_attr attr;
    const struct client_setattr set = {.valid = META_SET_SIZE,
                                       .size = (uint64_t)op->size * CELL_BYTES};
    return client_setattr(client->client, &world_root, client->world->file_inos[op->file], &set,
                          &attr);
}

static int do_size(struct world *world, struct client *client, uint32_t number)
{
    struct wire_attr attr;
    int result =
        client_getattr(client, &world_root, world->file_inos[world->files.ops[number].file], &attr);
    if (result == 0)
        world->files.ops[number].size = (uint32_t)(attr.size / CELL_BYTES);
    return result;
}

static int perform(struct world_client *client, uint32_t number)
{
    struct world *world = client->world;
    const struct files_op op = world->files.ops[number];
    switch ((enum files_verb)op.verb) {
    case FILES_WRITE:
        return do_write(client->files[op.file], &op);
    case FILES_READ:
        return do_read(world, client->files[op.file], number);
    case FILES_TRUNCATE:
        return do_truncate(client, &op);
    case FILES_SIZE:
        return do_size(world, client->client, number);
    case FILES_FSYNC:
        return client_fsync(client->files[op.file]);
    case FILES_PUNCH:
        return client_fallocate(client->files[op.file], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (uint64_t)op.cell * CELL_BYTES, op.count * CELL_BYTES);
    }
    WRONG("verb");
}

static void choose(struct world *world, struct files_op *op)
{
    static const enum files_verb verbs[] = {FILES_WRITE, FILES_WRITE,    FILES_WRITE, FILES_WRITE,
                                            FILES_READ,  FILES_READ,     FILES_READ,  FILES_READ,
                                            FILES_SIZE,  FILES_TRUNCATE, FILES_PUNCH};
    op->verb = (uint8_t)verbs[world_below(world, ARRAY_COUNT(verbs))];
    op->file = (uint8_t)world_below(world, FILES);
    const struct window *window = some_window(world, op->file);
    uint32_t first = world_below(world, window->count);
    uint32_t count = 1 + world_below(world, window->count - first);
    if (world_below(world, 3) == 0) { /* whole blocks */
        first = first / CELLS_OF_BLOCK * CELLS_OF_BLOCK;
        count = CELLS_OF_BLOCK;
    }
    op->cell = window->first + first;
    op->count = MIN(count, (uint32_t)FILES_CELLS_MAX);
    op->size = world_below(world, 3) == 0 ? 0 : op->cell;
}

static void report(struct world *world, uint32_t number, int result)
{
    files_end(&world->files, number, result, world_now_ns(world));
    if (world->trace)
        files_print(&world->files.ops[number]);
    const struct files_op *op = &world->files.ops[number];
    bool writes = op->verb == FILES_WRITE || op->verb == FILES_PUNCH ||
                  (op->verb == FILES_TRUNCATE && op->size > 0); /* edges are written */
    bool unknown = result == -EIO && (op->verb != FILES_FSYNC || world->blackouts > 0);
    if (result < 0 && !unknown && !(writes && world_is_full(world, result))) {
        files_print(op);
        world_fail(world, "the last operation failed: %s", error_name(result));
    }
}

static void step(struct world_client *client)
{
    struct world *world = client->world;
    struct files_op op = {.client = (uint8_t)client->index};
    choose(world, &op);
    int result = file_open(client, op.file);
    if (result < 0) {
        world_fail(world, "open of file %u: %s", op.file, error_name(result));
        return;
    }
    uint32_t number = files_begin(&world->files, &op, world_now_ns(world));
    report(world, number, perform(client, number));
    uint32_t after = world_below(world, 12);
    if (after == 0) {
        struct client_file *file = client->files[op.file];
        client->files[op.file] = NULL;
        (void)client_release(file); /* lazy; nothing depends on it */
    } else if (after == 1) {
        op.verb = FILES_FSYNC;
        number = files_begin(&world->files, &op, world_now_ns(world));
        result = perform(client, number);
        world->syncs += result == 0;
        report(world, number, result);
    }
}

static void setup(struct world *world)
{
    struct wire_attr attr;
    char name[16];
    for (uint32_t i = 0; i < FILES; i++) {
        (void)snprintf(name, sizeof name, "file%u", i);
        const struct client_place place = {CFS_ROOT_INO, slice_of(name, strlen(name))};
        int result = client_mknod(world->client, &world_root, &place, S_IFREG | 0644, 0, &attr);
        world->file_inos[i] = attr.ino;
        if (result == 0)
            result = client_sync_inode(world->client, attr.ino);
        if (result < 0)
            world_fail(world, "making and syncing /%s: %s", name, error_name(result));
    }
    int result = client_sync_inode(world->client, CFS_ROOT_INO);
    if (result < 0)
        world_fail(world, "sync of /: %s", error_name(result));
}

/* A last look at every window. */
static void finish(struct world *world)
{
    struct world_client self = {.world = world, .client = world->client, .index = 99};
    for (uint8_t file = 0; file < FILES; file++) {
        int result = file_open(&self, file);
        if (result < 0) {
            world_fail(world, "open of file %u: %s", file, error_name(result));
            return;
        }
        struct files_op op = {.client = 99, .file = file, .verb = FILES_SIZE};
        uint32_t number = files_begin(&world->files, &op, world_now_ns(world));
        report(world, number, perform(&self, number));
        for (uint32_t i = 0; i < ARRAY_COUNT(windows) && !world->failed; i++) {
            for (uint32_t at = 0; at < windows[i].count; at += FILES_CELLS_MAX) {
                op.verb = FILES_READ;
                op.cell = windows[i].first + at;
                op.count = MIN(windows[i].count - at, (uint32_t)FILES_CELLS_MAX);
                number = files_begin(&world->files, &op, world_now_ns(world));
                report(world, number, perform(&self, number));
            }
        }
        (void)client_release(self.files[file]); /* the end */
    }
}

static uint32_t check(struct world *world)
{
    uint32_t undecided = 0;
    bool possible = world->scenario.blackouts ? files_check_lossy(&world->files)
                                              : files_check(&world->files, &undecided);
    if (!possible)
        world_fail(world, "the answers about files contradict each other");
    return undecided;
}

const struct load load_files = {"files", setup, step, finish, check};
