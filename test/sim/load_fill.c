/* SPDX-License-Identifier: MIT */
/* Each client fills the disks with files of its own, and takes some away again, so that all loads
 * meet full disks now and then. What was written must be there, what takes away must work, and in
 * the end, when all of it is gone, its space must be free again. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/mem.h"
#include "world.h"

enum { PIECE_BYTES = 1 << 20, CELLS_OF_PIECE = PIECE_BYTES / CELL_BYTES };
#define FREE_MAX_NS (60 * NS_PER_S)

struct fill_step {
    struct world *world;
    struct client *client;
    struct fill *fill;
    uint32_t owner;
    uint32_t file;
};

static struct client_place place_of(const struct fill_step *step, char name[32])
{
    (void)snprintf(name, 32, "fill%u_%u", step->owner, step->file);
    return (struct client_place){CFS_ROOT_INO, slice_of(name, strlen(name))};
}

/* No answer is none; a full disk's is one. */
static void expect(const struct fill_step *step, const char *verb, bool writes, int result)
{
    if (result < 0 && result != -EIO && !(writes && world_is_full(step->world, result)))
        world_fail(step->world, "client%u fill%u: %s: %s", step->owner, step->file, verb,
                   error_name(result));
    world_tell(step->world, "client%u fill%u: %s: %s", step->owner, step->file, verb,
               result < 0 ? error_name(result) : "ok");
}

static int write_piece(const struct fill_step *step, struct client_file *file, uint32_t piece)
{
    struct buf *buf = buf_new(PIECE_BYTES);
    for (uint32_t i = 0; i < CELLS_OF_PIECE; i++)
        cell_fill(buf->data + i * CELL_BYTES, step->fill->stamp, piece * CELLS_OF_PIECE + i);
    int result =
        client_write(file, (uint64_t)piece * PIECE_BYTES, (struct buf_slice){buf, 0, PIECE_BYTES});
    buf_put(buf);
    return result;
}

static void make(struct fill_step *step)
{
    char name[32];
    struct client_file *file;
    struct fill *fill = step->fill;
    const struct client_place place = place_of(step, name);
    uint32_t pieces = 1 + world_below(step->world, FILL_PIECES_MAX);
    *fill = (struct fill){.stamp = ++step->world->fill_stamp};
    int result = client_create(step->client, &world_root, &place, S_IFREG | 0600, true, &file);
    if (result < 0) {
        expect(step, "create", true, result);
        if (result != -EIO)
            fill->stamp = 0;
        return;
    }
    while (result == 0 && fill->tried < pieces) {
        result = write_piece(step, file, fill->tried++);
        fill->written += result == 0;
    }
    expect(step, "write", true, result);
    (void)client_release(file); /* lazy; nothing depends on it */
}

static void drop(struct fill_step *step)
{
    char name[32];
    struct fill *fill = step->fill;
    const struct client_place place = place_of(step, name);
    bool may_be_gone = fill->leaves || fill->tried == 0; /* or was never made */
    fill->leaves = true;
    int result = client_unlink(step->client, &world_root, place.dir, place.name);
    bool gone = result == 0 || (result == -ENOENT && may_be_gone);
    expect(step, "unlink", false, gone ? 0 : result);
    if (gone)
        fill->stamp = 0;
}

static void check_piece(const struct fill_step *step, uint32_t piece,
                        const struct client_data *data)
{
    uint8_t *bytes = mem_alloc(data->bytes + 1);
    client_data_copy(data, bytes);
    uint32_t cells = data->bytes / CELL_BYTES;
    bool right = cells == CELLS_OF_PIECE;
    for (uint32_t i = 0; i < cells && right; i++)
        right = cell_stamp(bytes + i * CELL_BYTES, piece * CELLS_OF_PIECE + i) == step->fill->stamp;
    mem_free(bytes);
    if (!right)
        world_fail(step->world, "client%u fill%u: piece %u of %u is not what was written",
                   step->owner, step->file, piece, step->fill->written);
}

static void look(const struct fill_step *step)
{
    char name[32];
    struct wire_attr attr;
    struct client_file *file;
    struct client_data data;
    const struct client_place place = place_of(step, name);
    if (step->fill->leaves || step->fill->written == 0)
        return;
    int result = client_lookup(step->client, &world_root, place.dir, place.name, &attr);
    if (result == 0)
        result = client_open(step->client, &world_root, attr.ino, &file);
    if (result < 0) {
        expect(step, "open", false, result);
        return;
    }
    for (uint32_t i = 0; i < step->fill->written && result >= 0; i++) {
        result = client_read(file, (uint64_t)i * PIECE_BYTES, PIECE_BYTES, &data);
        if (result < 0)
            break;
        check_piece(step, i, &data);
        client_data_fini(&data);
    }
    expect(step, "read", false, result);
    (void)client_release(file); /* lazy; nothing depends on it */
}

static void step(struct world_client *client)
{
    struct world *world = client->world;
    uint32_t file = world_below(world, FILL_FILES);
    struct fill_step step = {.world = world,
                             .client = client->client,
                             .fill = &world->fills[client->index][file],
                             .owner = client->index,
                             .file = file};
    assert(client->index < SCENARIO_CLIENTS_MAX);
    if (step.fill->stamp == 0)
        make(&step);
    else if (world_below(world, 3) == 0)
        drop(&step);
    else if (world_below(world, 4) == 0)
        look(&step);
}

static void setup(struct world *world)
{
    struct wire_statfs statfs;
    int result = client_statfs(world->client, &statfs);
    if (result < 0)
        world_fail(world, "statfs: %s", error_name(result));
    else
        world->fill_free_bytes = statfs.free_bytes;
}

/* Nine tenths of what was free must be free again; other loads have left a little. */
static void wait_free(struct world *world)
{
    struct wire_statfs statfs = {0};
    uint64_t end_ns = env_now_ns() + FREE_MAX_NS;
    while (!world->failed && statfs.free_bytes < world->fill_free_bytes / 10 * 9) {
        int result = client_statfs(world->client, &statfs);
        if (result < 0 || env_now_ns() > end_ns)
            world_fail(world,
                       "of %llu bytes free at first, %llu are, %.0f s after the last file "
                       "went (%s)",
                       (unsigned long long)world->fill_free_bytes,
                       (unsigned long long)statfs.free_bytes, (double)FREE_MAX_NS / 1e9,
                       error_name(result));
        world_hold(world, NS_PER_S);
    }
}

/* Free is what can be written to, if not at once. */
static void write_again(struct world *world)
{
    struct fill last = {0};
    struct fill_step step = {.world = world, .client = world->client, .fill = &last, .owner = 99};
    uint64_t end_ns = env_now_ns() + FREE_MAX_NS;
    uint32_t refusals;
    do {
        refusals = world->refusals;
        make(&step);
        look(&step);
        drop(&step);
        world_hold(world, NS_PER_S);
    } while (refusals != world->refusals && env_now_ns() < end_ns && !world->failed);
    if (refusals != world->refusals)
        world_fail(world, "a file is refused %.0f s after all was taken away",
                   (double)FREE_MAX_NS / 1e9);
}

static void finish(struct world *world)
{
    for (uint32_t owner = 0; owner < world->scenario.clients; owner++) {
        for (uint32_t file = 0; file < FILL_FILES && !world->failed; file++) {
            struct fill_step step = {.world = world,
                                     .client = world->client,
                                     .fill = &world->fills[owner][file],
                                     .owner = owner,
                                     .file = file};
            if (step.fill->stamp == 0)
                continue;
            look(&step);
            drop(&step);
        }
    }
    world_tell(world, "%u requests were refused for want of space", world->refusals);
    wait_free(world);
    write_again(world);
}

const struct load load_fill = {"fill", setup, step, finish, NULL};
