/* SPDX-License-Identifier: MIT */
/* What fsync of a directory promises, through the death of all nodes at once (FAULT_BLACKOUT).
 *
 * Each client has two directories of its own with a few names each; it makes, removes and renames
 * them, within a directory and between the two, and syncs the directories. What a name may stand
 * for then:
 *
 *  E1. What it stood for when a sync of its directory succeeded, or later; unless a sync failed in
 *      between, or the client died, which leaves changes before that to nobody.
 *  E2. As long as nothing was lost (no blackout since), exactly what the last change made it.
 *  E3. sync says 0, or, once after a blackout, -EIO.
 *
 * So a name has a list of what it may stand for, which every change makes longer, before it is
 * asked for, and a sync that succeeds makes it one again. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "world.h"

#define SOME_FILE UINT64_MAX /* made by a request that was not answered */

struct entry_step {
    struct world *world;
    struct client *client;
    uint32_t owner;
};

static struct entry *entry_of(const struct entry_step *step, uint32_t number)
{
    return &step->world->entries[step->owner][number];
}

static struct client_place place_of(const struct entry_step *step, uint32_t number, char name[16])
{
    (void)snprintf(name, 16, "entry%u", number % ENTRY_NAMES);
    return (struct client_place){step->world->entry_dirs[step->owner][number / ENTRY_NAMES],
                                 slice_of(name, strlen(name))};
}

/* ---- what names may stand for --------------------------------------------------------------- */

/* The newest from now on. */
static void may_be(struct entry *entry, uint64_t value)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < entry->count; i++) {
        if (entry->values[i] != value)
            entry->values[kept++] = entry->values[i];
    }
    if (kept == ENTRY_VALUES_MAX) {
        entry->anything = true;
        kept--;
    }
    entry->values[kept++] = value;
    entry->count = kept;
    entry->sure = false;
    entry->changes++;
}

/* The newest is what it is, if nothing has been lost since blackouts were so many. */
static void is_newest(struct entry *entry, uint32_t blackouts)
{
    entry->sure = true;
    entry->blackouts = blackouts;
}

static uint64_t newest(const struct entry *entry)
{
    return entry->values[entry->count - 1];
}

static bool allows(const struct entry *entry, uint64_t value)
{
    bool allowed = entry->anything;
    for (uint32_t i = 0; i < entry->count; i++)
        allowed |= entry->values[i] == value || (value != 0 && entry->values[i] == SOME_FILE);
    return allowed;
}

static bool is_exact(const struct world *world, const struct entry *entry)
{
    return entry->sure && entry->blackouts == world->blackouts;
}

/* ---- changes -------------------------------------------------------------------------------- */

/* exact: it was known what the name stands for, all the time. Else it may be gone, or back. */
static void judge_failure(const struct entry_step *step, uint32_t number, const char *verb,
                          bool exact, int result)
{
    bool surprise = result == -ENOENT || result == -EEXIST;
    if (result != -EIO && !(surprise && !exact) && !world_is_full(step->world, result))
        world_fail(step->world, "client%u entry %u: %s: %s", step->owner, number, verb,
                   error_name(result));
}

static void make(struct entry_step *step, uint32_t number)
{
    char name[16];
    struct wire_attr attr;
    struct entry *entry = entry_of(step, number);
    const struct client_place place = place_of(step, number, name);
    bool exact = is_exact(step->world, entry);
    uint32_t blackouts = step->world->blackouts;
    if (exact && newest(entry) != 0)
        return;
    may_be(entry, SOME_FILE);
    int result = client_mknod(step->client, &world_root, &place, S_IFREG | 0644, 0, &attr);
    world_tell(step->world, "client%u entry %u: make: %d", step->owner, number, result);
    if (result < 0) {
        judge_failure(step, number, "make", exact && blackouts == step->world->blackouts, result);
        return;
    }
    may_be(entry, attr.ino);
    is_newest(entry, blackouts);
}

static void take(struct entry_step *step, uint32_t number)
{
    char name[16];
    struct entry *entry = entry_of(step, number);
    const struct client_place place = place_of(step, number, name);
    bool exact = is_exact(step->world, entry);
    uint32_t blackouts = step->world->blackouts;
    if (exact && newest(entry) == 0)
        return;
    may_be(entry, 0);
    int result = client_unlink(step->client, &world_root, place.dir, place.name);
    world_tell(step->world, "client%u entry %u: remove: %d", step->owner, number, result);
    if (result == 0)
        is_newest(entry, blackouts);
    else
        judge_failure(step, number, "remove", exact && blackouts == step->world->blackouts, result);
}

static void move(struct entry_step *step, uint32_t number, uint32_t to_number)
{
    char name[16], to_name[16];
    struct entry *from = entry_of(step, number), *to = entry_of(step, to_number);
    const struct entry before = *from;
    const struct client_place place = place_of(step, number, name);
    const struct client_place to_place = place_of(step, to_number, to_name);
    bool exact = is_exact(step->world, from);
    uint32_t blackouts = step->world->blackouts;
    if (number == to_number || (exact && newest(from) == 0))
        return;
    for (uint32_t i = 0; i < before.count; i++) {
        if (before.values[i] != 0)
            may_be(to, before.values[i]);
    }
    to->anything |= before.anything;
    may_be(from, 0);
    int result = client_rename(step->client, &world_root, &place, &to_place, 0);
    world_tell(step->world, "client%u entry %u: renamed to %u: %d", step->owner, number, to_number,
               result);
    if (result < 0) {
        judge_failure(step, number, "rename", exact && blackouts == step->world->blackouts, result);
        return;
    }
    is_newest(from, blackouts);
    if (exact && blackouts == step->world->blackouts)
        is_newest(to, blackouts);
}

static void sync_dir(struct entry_step *step, uint32_t dir)
{
    struct world *world = step->world;
    int result = client_sync_inode(step->client, world->entry_dirs[step->owner][dir]);
    world_tell(world, "client%u entries of directory %u: sync: %d", step->owner, dir, result);
    for (uint32_t i = dir * ENTRY_NAMES; i < (dir + 1) * ENTRY_NAMES; i++) {
        struct entry *entry = entry_of(step, i);
        if (result == 0 && entry->sure) { /* E1 */
            entry->values[0] = newest(entry);
            entry->count = 1;
            entry->anything = false;
        }
        entry->sure &= result == 0;
    }
    world->syncs += result == 0;
    if (result < 0 && !(result == -EIO && world->blackouts > 0))
        world_fail(world, "client%u: sync of a directory: %s", step->owner, error_name(result));
}

static void look(struct entry_step *step, uint32_t number)
{
    char name[16];
    struct wire_attr attr;
    const struct entry *entry = entry_of(step, number);
    const struct entry before = *entry;
    const struct client_place place = place_of(step, number, name);
    int result = client_lookup(step->client, &world_root, place.dir, place.name, &attr);
    uint64_t value = result == 0 ? attr.ino : 0;
    world_tell(step->world, "client%u entry %u: look: %d, inode %llx", step->owner, number, result,
               (unsigned long long)value);
    bool exact = is_exact(step->world, &before) && before.changes == entry->changes; /* E2 */
    if (result < 0 && result != -ENOENT)
        world_fail(step->world, "client%u entry %u: look: %s", step->owner, number,
                   error_name(result));
    else if (exact ? value != newest(&before) : !allows(&before, value) && !allows(entry, value))
        world_fail(step->world, "client%u entry %u: inode %llx, but %s %llx", step->owner, number,
                   (unsigned long long)value, exact ? "the last change made it" : "synced was",
                   (unsigned long long)(exact ? newest(&before) : before.values[0]));
}

/* ---- the load ------------------------------------------------------------------------------- */

static void step(struct world_client *client)
{
    struct world *world = client->world;
    struct entry_step step = {world, client->client, client->index};
    uint32_t number = world_below(world, ENTRIES);
    for (uint32_t i = 0; i < ENTRIES && world->entry_lives[client->index] != client->lives; i++)
        entry_of(&step, i)->sure = false; /* E1 */
    world->entry_lives[client->index] = client->lives;
    uint32_t what = world_below(world, 8);
    if (what < 2)
        make(&step, number);
    else if (what < 3)
        take(&step, number);
    else if (what < 5)
        move(&step, number, world_below(world, ENTRIES));
    else if (what < 7)
        sync_dir(&step, number / ENTRY_NAMES);
    else
        look(&step, number);
}

static void setup(struct world *world)
{
    uint32_t dirs = world->scenario.clients * ENTRY_DIRS;
    world_durable_dirs(world, "entries", dirs, &world->entry_dirs[0][0]);
    for (uint32_t i = 0; i < SCENARIO_CLIENTS_MAX * ENTRIES; i++)
        world->entries[i / ENTRIES][i % ENTRIES] = (struct entry){.count = 1, .sure = true};
}

static void finish(struct world *world)
{
    for (uint32_t owner = 0; owner < world->scenario.clients; owner++) {
        struct entry_step step = {world, world->client, owner};
        for (uint32_t i = 0; i < ENTRIES && !world->failed; i++)
            look(&step, i);
    }
}

const struct load load_entries = {"entries", setup, step, finish, NULL};
