/* SPDX-License-Identifier: MIT */
/* What fsync promises, through the death of all nodes at once (FAULT_BLACKOUT).
 *
 * Each client has files of its own, writes a whole file at a time, and fsyncs some of the writes,
 * or replaces a file the careful way: write another one, fsync, rename it over, fsync the
 * directory. What a file may hold then:
 *
 *  D1. No cell is older than the newest write whose fsync succeeded.
 *  D2. As long as nothing was lost (no blackout since), it is exactly the last write.
 *  D3. fsync says 0, or, once after a blackout, -EIO.
 *
 * The director looks, too: at the end, and after a blackout while nodes are away, beside clients
 * that go on writing. So what must be there is what was promised when the look began. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "world.h"

enum { OTHER_NAME = DURABLE_FILES };

static const uint32_t cells_of[DURABLE_FILES] = {3, 31, 40, 200, 2100};

struct durable_step {
    struct world *world;
    struct client *client;
    struct durable *durable;
    struct durable before; /* a look: when it began */
    uint32_t owner;
    uint32_t file;
};

static struct client_place place_of(const struct durable_step *step, uint32_t file, char name[16])
{
    (void)snprintf(name, 16, file == OTHER_NAME ? "other%u" : "file%u", step->file);
    return (struct client_place){step->world->durable_dirs[step->owner],
                                 slice_of(name, strlen(name))};
}

static void unexpected(const struct durable_step *step, const char *verb, int result)
{
    world_fail(step->world, "client%u file%u: %s: %s", step->owner, step->file, verb,
               error_name(result));
}

static int write_all(const struct durable_step *step, struct client_file *file, uint32_t stamp)
{
    uint32_t bytes = cells_of[step->file] * CELL_BYTES;
    struct buf *buf = buf_new(bytes);
    for (uint32_t i = 0; i < cells_of[step->file]; i++)
        cell_fill(buf->data + i * CELL_BYTES, stamp, i);
    int result = client_write(file, 0, (struct buf_slice){buf, 0, bytes});
    buf_put(buf);
    return result;
}

/* Make or open the file under a name and write all of it. */
static int write_name(const struct durable_step *step, uint32_t name_of, uint32_t stamp, bool sync)
{
    char name[16];
    struct client_file *file;
    const struct client_place place = place_of(step, name_of, name);
    int result = client_create(step->client, &world_root, &place, S_IFREG | 0644, false, &file);
    if (result < 0)
        return result;
    result = write_all(step, file, stamp);
    if (result == 0 && sync)
        result = client_fsync(file);
    (void)client_release(file); /* lazy; nothing depends on it */
    return result;
}

/* A write, perhaps with fsync. */
static void rewrite(struct durable_step *step)
{
    struct durable *durable = step->durable;
    uint32_t blackouts = step->world->blackouts;
    bool sync = world_below(step->world, 2);
    uint32_t stamp = ++durable->last;
    durable->exact = false;
    int result = write_name(step, step->file, stamp, sync);
    world_tell(step->world, "client%u file%u: write %u%s: %d", step->owner, step->file, stamp,
               sync ? " and fsync" : "", result);
    bool lost = blackouts != step->world->blackouts;
    if (result == 0) {
        durable->exact = !lost || sync;
        durable->blackouts = step->world->blackouts;
        if (sync) {
            durable->synced = stamp; /* D1 */
            step->world->syncs++;
        }
    } else if (world_is_full(step->world, result)) {
        return; /* in part, perhaps */
    } else if (result != -EIO && !(lost && (result == -ENOENT || result == -ESTALE))) {
        unexpected(step, "write", result); /* D3 */
    } else if (result == -EIO && sync && step->world->blackouts == 0) {
        unexpected(step, "write and fsync without a blackout", result);
    }
}

static void replace(struct durable_step *step)
{
    char name[16], other[16];
    struct durable *durable = step->durable;
    const struct client_place to = place_of(step, step->file, name);
    const struct client_place from = place_of(step, OTHER_NAME, other);
    uint32_t blackouts = step->world->blackouts;
    uint32_t stamp = ++durable->last;
    durable->exact = false;
    int result = write_name(step, OTHER_NAME, stamp, true);
    if (result == 0)
        result = client_rename(step->client, &world_root, &from, &to, 0);
    if (result == 0)
        result = client_sync_inode(step->client, from.dir);
    world_tell(step->world, "client%u file%u: replaced by %u: %d", step->owner, step->file, stamp,
               result);
    if (result == 0) {
        durable->exact = true;
        durable->blackouts = step->world->blackouts;
        durable->synced = stamp;
        step->world->syncs++;
    } else if (blackouts == step->world->blackouts && step->world->blackouts == 0 &&
               !world_is_full(step->world, result)) {
        unexpected(step, "replace", result);
    }
}

static void check_cells(const struct durable_step *step, const uint8_t *bytes, uint32_t count)
{
    const struct durable *before = &step->before;
    bool exact = before->exact && before->blackouts == step->world->blackouts; /* D2 */
    uint32_t oldest = exact ? before->last : before->synced;
    uint32_t last = step->durable->last;
    if (count != cells_of[step->file] && (oldest > 0 || count > cells_of[step->file])) {
        world_fail(step->world, "client%u file%u has %u cells, written were %u", step->owner,
                   step->file, count, cells_of[step->file]);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t stamp = cell_stamp(bytes + i * CELL_BYTES, i);
        if (stamp < oldest || stamp > last) { /* D1; torn is above all */
            world_fail(
                step->world, "client%u file%u cell %u: stamp %u, but %u was %s and %u is the last",
                step->owner, step->file, i, stamp, oldest, exact ? "written" : "synced", last);
            return;
        }
    }
}

static int read_all(const struct durable_step *step, struct client_file *file)
{
    struct client_data data;
    int result = client_read(file, 0, (cells_of[step->file] + 1) * CELL_BYTES, &data);
    if (result < 0)
        return result;
    uint8_t *bytes = mem_alloc(data.bytes + 1);
    client_data_copy(&data, bytes);
    check_cells(step, bytes, data.bytes / CELL_BYTES);
    mem_free(bytes);
    client_data_fini(&data);
    return 0;
}

static void look(struct durable_step *step)
{
    char name[16];
    struct wire_attr attr;
    struct client_file *file;
    const struct client_place place = place_of(step, step->file, name);
    uint32_t blackouts = step->world->blackouts;
    step->before = *step->durable;
    int result = client_lookup(step->client, &world_root, place.dir, place.name, &attr);
    if (result == 0)
        result = client_open(step->client, &world_root, attr.ino, &file);
    if (result == 0) {
        result = read_all(step, file);
        (void)client_release(file); /* lazy; nothing depends on it */
    }
    world_tell(step->world, "client%u file%u: look: %d", step->owner, step->file, result);
    bool gone = result == -ENOENT || result == -ESTALE;
    bool may_be_lost = step->before.synced == 0;
    bool replaced = step->before.last != step->durable->last || blackouts != step->world->blackouts;
    if (result < 0 && !(gone && (may_be_lost || replaced)))
        unexpected(step, "look", result);
}

static void step(struct world_client *client)
{
    struct world *world = client->world;
    uint32_t file = world_below(world, DURABLE_FILES);
    struct durable_step step = {.world = world,
                                .client = client->client,
                                .durable = &world->durable[client->index][file],
                                .owner = client->index,
                                .file = file};
    uint32_t what = world_below(world, 8);
    if (what < 4)
        rewrite(&step);
    else if (what < 5)
        replace(&step);
    else
        look(&step);
}

static void setup(struct world *world)
{
    world_durable_dirs(world, "durable", world->scenario.clients, world->durable_dirs);
}

static void finish(struct world *world)
{
    for (uint32_t owner = 0; owner < world->scenario.clients; owner++) {
        for (uint32_t file = 0; file < DURABLE_FILES && !world->failed; file++) {
            struct durable_step step = {.world = world,
                                        .client = world->client,
                                        .durable = &world->durable[owner][file],
                                        .owner = owner,
                                        .file = file};
            look(&step);
        }
    }
}

const struct load load_durable = {"durable", setup, step, finish, NULL};
