/* SPDX-License-Identifier: MIT */
/* Several clients append to the same files. In the end each acknowledged append is there once, in
 * one piece, and those that came one after the other stand so. One without an answer may be there,
 * or have left zeroes in its place. */
#include "load_append.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "world.h"

enum { CELLS_MAX = 40, READ_BYTES = 1 << 20 };

/* The cells of a chunk are filled as if each chunk began at this place. */
static uint64_t place_of(uint32_t stamp, uint32_t index)
{
    return (uint64_t)stamp << 16 | index;
}

static struct append *begin(struct world *world, uint32_t file, uint32_t cells)
{
    struct appends *appends = &world->appends;
    if (appends->count == appends->room) {
        appends->room = appends->room ? appends->room * 2 : 256;
        appends->list = realloc(appends->list, appends->room * sizeof *appends->list);
    }
    struct append *append = &appends->list[appends->count++];
    *append = (struct append){.file = file, .cells = cells, .begin = ++appends->clock};
    return append;
}

static void step(struct world_client *client)
{
    struct world *world = client->world;
    uint32_t file = world_below(world, APPEND_FILES);
    uint32_t cells =
        1 + (world_below(world, 4) ? world_below(world, 4) : world_below(world, CELLS_MAX));
    struct client_file *open;
    int result = client_open(client->client, &world_root, world->appends.inos[file], &open);
    if (result < 0) {
        world_fail(world, "open of /append%u: %s", file, error_name(result));
        return;
    }
    struct buf *buf = buf_new(cells * CELL_BYTES);
    (void)begin(world, file, cells);
    uint32_t stamp = world->appends.count;
    for (uint32_t i = 0; i < cells; i++)
        cell_fill(buf->data + i * CELL_BYTES, stamp, place_of(stamp, i));
    result = client_append(open, (struct buf_slice){buf, 0, cells * CELL_BYTES});
    buf_put(buf);
    if (result == 0)
        world->appends.list[stamp - 1].end = ++world->appends.clock;
    else if (result != -EIO && !world_is_full(world, result))
        world_fail(world, "append to /append%u: %s", file, error_name(result));
    world_tell(world, "client%u append %u (%u cells) to file %u: %d", client->index, stamp, cells,
               file, result);
    (void)client_release(open); /* lazy; nothing depends on it */
}

static void setup(struct world *world)
{
    struct wire_attr attr;
    char name[16];
    for (uint32_t i = 0; i < APPEND_FILES; i++) {
        (void)snprintf(name, sizeof name, "append%u", i);
        const struct client_place place = {CFS_ROOT_INO, slice_of(name, strlen(name))};
        int result = client_mknod(world->client, &world_root, &place, S_IFREG | 0644, 0, &attr);
        if (result < 0)
            world_fail(world, "mknod /%s: %s", name, error_name(result));
        world->appends.inos[i] = attr.ino;
    }
}

/* The whole file, on the process's heap. */
static uint8_t *read_all(struct world *world, uint32_t file, uint64_t *ret_bytes)
{
    struct client_file *open;
    struct client_data data;
    uint8_t *bytes = NULL;
    uint64_t count = 0;
    int result = client_open(world->client, &world_root, world->appends.inos[file], &open);
    while (result >= 0) {
        result = client_read(open, count, READ_BYTES, &data);
        if (result < 0 || data.bytes == 0)
            break;
        bytes = realloc(bytes, count + data.bytes);
        client_data_copy(&data, bytes + count);
        count += data.bytes;
        client_data_fini(&data);
    }
    if (result < 0)
        world_fail(world, "reading /append%u: %s", file, error_name(result));
    else
        (void)client_release(open); /* the end */
    *ret_bytes = count;
    return bytes;
}

/* A chunk begins at this cell: the cells it has, or 0 after a failure. */
static uint32_t take_chunk(struct world *world, uint32_t file, const uint8_t *bytes, uint64_t left)
{
    uint32_t stamp = (uint32_t)(bytes[4] | bytes[5] << 8 | bytes[6] << 16 | bytes[7] << 24);
    if (stamp == 0 || stamp > world->appends.count) {
        world_fail(world, "/append%u: bytes that nobody wrote", file);
        return 0;
    }
    struct append *append = &world->appends.list[stamp - 1];
    if (append->file != file || append->found) {
        world_fail(world, "/append%u: chunk %u is there twice, or is another file's", file, stamp);
        return 0;
    }
    for (uint32_t i = 0; i < append->cells; i++) {
        uint32_t seen =
            i < left ? cell_stamp(bytes + i * CELL_BYTES, place_of(stamp, i)) : CELL_TORN;
        if (seen != stamp) {
            world_fail(world, "/append%u: chunk %u of %u cells is broken at cell %u", file, stamp,
                       append->cells, i);
            return 0;
        }
    }
    append->found = true;
    return append->cells;
}

static void check_file(struct world *world, uint32_t file, const uint8_t *bytes, uint64_t count)
{
    uint64_t latest_begin = 0, zeroes = 0, lost = 0, cells = count / CELL_BYTES;
    for (uint64_t at = 0; at < cells && !world->failed;) {
        if (cell_stamp(bytes + at * CELL_BYTES, 0) == CELL_ZERO) {
            zeroes++;
            at++;
            continue;
        }
        uint32_t taken = take_chunk(world, file, bytes + at * CELL_BYTES, cells - at);
        const uint8_t *stamp = bytes + at * CELL_BYTES + 4;
        if (taken == 0)
            return;
        const struct append *append =
            &world->appends.list[(stamp[0] | stamp[1] << 8 | stamp[2] << 16) - 1];
        if (append->end && append->end < latest_begin)
            world_fail(world, "/append%u: a chunk stands behind one that began after its end",
                       file);
        latest_begin = MAX(latest_begin, append->begin);
        at += taken;
    }
    for (uint32_t i = 0; i < world->appends.count; i++) {
        const struct append *append = &world->appends.list[i];
        if (append->file != file || append->found)
            continue;
        lost += append->cells;
        if (append->end)
            world_fail(world, "/append%u: chunk %u was acknowledged and is not there", file, i + 1);
    }
    if (zeroes > lost || count % CELL_BYTES)
        world_fail(world, "/append%u: %llu cells of zeroes, but only %llu may be missing", file,
                   (unsigned long long)zeroes, (unsigned long long)lost);
}

static void finish(struct world *world)
{
    for (uint32_t file = 0; file < APPEND_FILES && !world->failed; file++) {
        uint64_t count;
        uint8_t *bytes = read_all(world, file, &count);
        if (!world->failed)
            check_file(world, file, bytes, count);
        free(bytes);
    }
}

const struct load load_append = {"append", setup, step, finish, NULL};
