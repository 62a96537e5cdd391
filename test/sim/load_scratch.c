/* SPDX-License-Identifier: MIT */
/* Each client makes files of its own, of many sizes, writes, takes their name away and reads them
 * on: what is open must stay until it is closed, and must be gone, with its space, afterwards. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "world.h"

static const uint32_t sizes[] = {0, 1, 200, 4096, 4097, 20000, 20000, 262145, 700000};

struct scratch {
    struct world *world;
    struct client *client;
    struct client_place place;
    struct client_file *file;
    uint32_t stamp;
    uint32_t bytes;
};

static void fill(const struct scratch *scratch, uint8_t *bytes)
{
    uint8_t cell[CELL_BYTES];
    for (uint32_t at = 0; at < scratch->bytes; at += CELL_BYTES) {
        cell_fill(cell, scratch->stamp, at);
        memcpy(bytes + at, cell, MIN(scratch->bytes - at, (uint32_t)CELL_BYTES));
    }
}

static int write_all(struct scratch *scratch)
{
    if (scratch->bytes == 0)
        return 0;
    struct buf *buf = buf_new(scratch->bytes);
    fill(scratch, buf->data);
    int result = client_write(scratch->file, 0, (struct buf_slice){buf, 0, scratch->bytes});
    buf_put(buf);
    return result;
}

static int read_all(struct scratch *scratch)
{
    struct client_data data;
    int result = client_read(scratch->file, 0, scratch->bytes + 1, &data);
    if (result < 0)
        return result;
    uint8_t *want = mem_alloc(scratch->bytes + 1);
    uint8_t *got = mem_alloc(data.bytes + 1);
    fill(scratch, want);
    client_data_copy(&data, got);
    if (data.bytes != scratch->bytes || memcmp(got, want, data.bytes) != 0)
        result = -EBADMSG;
    client_data_fini(&data);
    mem_free(want);
    mem_free(got);
    return result;
}

/* The name is gone: nobody finds it. */
static int look(struct scratch *scratch)
{
    struct wire_attr attr;
    int result =
        client_lookup(scratch->client, &world_root, scratch->place.dir, scratch->place.name, &attr);
    return result == -ENOENT ? 0 : result < 0 ? result : -EEXIST;
}

static void end(struct scratch *scratch, const char **ret_verb, int *ret_result)
{
    *ret_verb = "unlink when full";
    *ret_result =
        client_unlink(scratch->client, &world_root, scratch->place.dir, scratch->place.name);
    (void)client_release(scratch->file); /* lazy; nothing depends on it */
}

static void live(struct scratch *scratch, const char **ret_verb, int *ret_result)
{
    bool syncs = world_below(scratch->world, 3) == 0;
    *ret_verb = "create";
    *ret_result = client_create(scratch->client, &world_root, &scratch->place, S_IFREG | 0600, true,
                                &scratch->file);
    if (world_is_full(scratch->world, *ret_result))
        *ret_result = 0;
    if (!scratch->file)
        return;
    *ret_verb = "write";
    *ret_result = write_all(scratch);
    if (world_is_full(scratch->world, *ret_result)) {
        end(scratch, ret_verb, ret_result);
        return;
    }
    if (*ret_result == 0 && syncs) {
        *ret_verb = "fsync";
        *ret_result = client_fsync(scratch->file);
    }
    if (*ret_result == 0) {
        *ret_verb = "unlink";
        *ret_result =
            client_unlink(scratch->client, &world_root, scratch->place.dir, scratch->place.name);
    }
    if (*ret_result == 0)
        fiber_sleep(world_between(scratch->world, 0, scratch->world->scenario.think_ns * 8));
    if (*ret_result == 0) {
        *ret_verb = "read without a name";
        *ret_result = read_all(scratch);
    }
    (void)client_release(scratch->file); /* lazy; nothing depends on it */
    if (*ret_result == 0) {
        *ret_verb = "lookup after unlink";
        *ret_result = look(scratch);
    }
}

static void step(struct world_client *client)
{
    struct world *world = client->world;
    const char *verb;
    char name[32];
    int result;
    struct scratch scratch = {.world = world, .client = client->client};
    scratch.stamp = ++world->scratches;
    scratch.bytes = sizes[world_below(world, ARRAY_COUNT(sizes))];
    (void)snprintf(name, sizeof name, "scratch%u", scratch.stamp);
    scratch.place = (struct client_place){CFS_ROOT_INO, slice_of(name, strlen(name))};
    live(&scratch, &verb, &result);
    world_tell(world, "client%u %s, %u bytes: %s %s", client->index, name, scratch.bytes, verb,
               result < 0 ? error_name(result) : "ok");
    if (result < 0)
        world_fail(world, "client%u %s, %u bytes: %s: %s", client->index, name, scratch.bytes, verb,
                   error_name(result));
}

const struct load load_scratch = {"scratch", NULL, step, NULL, NULL};
