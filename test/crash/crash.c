/* SPDX-License-Identifier: MIT */
/* Crash proof by enumeration; README.md has the theory.
 *
 *   for each seed, workload, device:       run_record       workload.c, machine.c
 *     for each crash point:                images_next      image.c
 *       for each variant:                  images_compose, images_load
 *         if new: open, compare, check     verify_image     verify.c, owner.c
 *         sometimes: record this recovery, and crash it too
 *
 * An image that was seen before is looked at again only if more is promised of it now. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/log.h"
#include "image.h"
#include "verify.h"

enum {
    VARIANTS = 16,
    VARIANTS_NESTED = 4,
    POINTS_MAX = 1500, /* of a recording: a writer that waits for space makes thousands */
    POINTS_ZONED_MAX = 400,
    POINTS_NESTED_MAX = 250,
    NEST_ONE_IN = 150,
    FAILURES_MAX = 20,
};

/* ---- sets of hashes ---- */

struct hash_set {
    uint64_t *slots; /* 0: empty */
    uint64_t room;
    uint64_t count;
};

/* False: it was there. */
static bool set_add(struct hash_set *set, uint64_t hash)
{
    hash += hash == 0;
    if (2 * set->count >= set->room) {
        struct hash_set bigger = {.room = MAX(2 * set->room, 1024u)};
        bigger.slots = mem_zalloc(bigger.room * sizeof *bigger.slots);
        for (uint64_t i = 0; i < set->room; i++)
            if (set->slots[i])
                (void)set_add(&bigger, set->slots[i]);
        mem_free(set->slots);
        *set = bigger;
    }
    uint64_t at = hash & (set->room - 1);
    for (; set->slots[at]; at = (at + 1) & (set->room - 1))
        if (set->slots[at] == hash)
            return false;
    set->slots[at] = hash;
    set->count++;
    return true;
}

/* ---- the driver ---- */

struct tally {
    uint64_t recordings, points, images, nested_recordings, nested_images;
};

struct place {
    uint32_t point, variant;
};

enum device { DEVICE_PLAIN, DEVICE_ZONED, DEVICES };
static const char *const device_names[DEVICES] = {"plain", "zoned"};

struct driver {
    uint64_t wanted; /* distinct images */
    uint64_t failed;
    uint64_t seed_first;
    const char *only;        /* workload, or NULL */
    enum device only_device; /* DEVICES: all */
    const char *replay;
    struct place replay_at[2];
    uint32_t replay_depth;
    struct hash_set images;   /* contents */
    struct hash_set judged;   /* contents and what was promised of them */
    struct tally *tally;      /* of the workload at hand */
    const struct run *run[2]; /* by depth */
    struct place at[2];
    uint32_t depth;
    struct verify verify[2];
};

static struct driver *dying; /* for the signal handler alone */

static const char *device_name(const struct run *run)
{
    return device_names[run->machine->zone_pages ? DEVICE_ZONED : DEVICE_PLAIN];
}

static void print_place(const struct driver *driver)
{
    const struct run *run = driver->run[0];
    printf("workload=%s device=%s seed=%llu image=%u.%u", run->workload->name, device_name(run),
           (unsigned long long)run->seed, driver->at[0].point, driver->at[0].variant);
    if (driver->depth == 1)
        printf("/%u.%u", driver->at[1].point, driver->at[1].variant);
}

static void print_replay(const struct driver *driver)
{
    const struct run *run = driver->run[0];
    printf("  replay: ./dev crash --workload %s --device %s --seed %llu --image %u.%u",
           run->workload->name, device_name(run), (unsigned long long)run->seed,
           driver->at[0].point, driver->at[0].variant);
    if (driver->depth == 1)
        printf("/%u.%u", driver->at[1].point, driver->at[1].variant);
    printf("\n");
}

static void fail(struct driver *driver, const struct images *images, const struct owner *owner)
{
    driver->failed++;
    printf("FAIL ");
    print_place(driver);
    printf(": %s: %s\n", owner->trouble, owner->detail);
    if (images)
        images_describe(images, stdout);
    print_replay(driver);
    printf("  found after %llu images\n", (unsigned long long)driver->images.count);
    fflush(stdout);
}

/* An assertion in the store: say where we are; the process is lost. */
static void died(int number)
{
    signal(number, SIG_DFL);
    printf("FAIL ");
    print_place(dying);
    printf(": the process died (signal %d)\n", number);
    print_replay(dying);
    printf("%llu images, %llu failed\n", (unsigned long long)dying->images.count,
           (unsigned long long)dying->failed + 1);
    fflush(stdout);
    raise(number);
}

static void explore(struct driver *driver, struct run *run);

/* Record how the image (composed, in images) is recovered, and crash that. */
static void nest(struct driver *driver, struct images *images, const struct run *parent,
                 uint32_t ops)
{
    const struct disk_info *info = &images->machine->disk.info;
    struct machine *machine = machine_new(info->size_bytes, info->zone_bytes);
    struct run *run = mem_zalloc(sizeof *run);
    (void)images_load(images);
    memcpy(machine->content, images->machine->content, machine->pages * PAGE_BYTES);
    driver->depth = 1;
    driver->at[1] = (struct place){0, 0};
    driver->run[1] = run;
    driver->tally->nested_recordings++;
    if (run_record_recovery(run, parent, machine, ops))
        explore(driver, run);
    else
        fail(driver, images, &run->owner);
    driver->depth = 0;
    run_fini(run);
    mem_free(run);
    machine_free(machine);
}

static bool replaying_here(const struct driver *driver)
{
    return driver->replay && driver->depth + 1 == driver->replay_depth;
}

static void judge(struct driver *driver, struct images *images, struct run *run)
{
    struct verify *verify = &driver->verify[driver->depth];
    uint64_t hash = images_load(images);
    bool fresh = set_add(&driver->images, hash);
    driver->tally->images += fresh;
    driver->tally->nested_images += fresh && driver->depth > 0;
    uint64_t promise =
        hash_u64((uint64_t)(uint32_t)images->mark.promised << 32 | images->mark.issued);
    if (!set_add(&driver->judged, hash ^ promise))
        return;
    if (replaying_here(driver))
        images_describe(images, stdout);
    verify->run = run;
    verify->mark = images->mark;
    uint64_t draw = hash_u64(hash);
    verify->read_first = draw % 16 == 0;
    verify->go_on = draw / 16 % 16 == 0;
    if (!verify_image(verify, images->machine, draw)) {
        fail(driver, images, &verify->scratch.owner);
        return;
    }
    bool chosen = driver->replay ? driver->replay_depth == 2 : draw / 256 % NEST_ONE_IN == 0;
    if (driver->depth == 0 && verify->found >= 0 && chosen)
        nest(driver, images, run, (uint32_t)verify->found);
}

static bool enough(const struct driver *driver)
{
    return driver->failed >= FAILURES_MAX ||
           (!driver->replay && driver->images.count >= driver->wanted);
}

/* All images of a recording; the run's machine is where they are tried. */
static void explore(struct driver *driver, struct run *run)
{
    struct images images;
    uint32_t depth = driver->depth;
    images_init(&images, run->machine, run->base, &run->trace, run->seed);
    run->base = NULL;
    uint32_t points_max = run->machine->zone_pages ? POINTS_ZONED_MAX : POINTS_MAX;
    points_max = run->workload->points_max ? run->workload->points_max : points_max;
    points_max = depth ? MIN(points_max, (uint32_t)POINTS_NESTED_MAX) : points_max;
    for (uint32_t i = 0; i < points_max && !enough(driver) && images_next(&images); i++) {
        uint32_t count = images_variants(&images, depth ? VARIANTS_NESTED : VARIANTS);
        driver->tally->points += depth == 0;
        for (uint32_t variant = 0; variant < count && !enough(driver); variant++) {
            driver->at[depth] = (struct place){images.point, variant};
            if (driver->replay && memcmp(&driver->at[depth], &driver->replay_at[depth],
                                         sizeof driver->at[depth]) != 0)
                continue;
            images_compose(&images, variant);
            judge(driver, &images, run);
        }
    }
    images_fini(&images);
}

static void run_workload(struct driver *driver, const struct workload *workload, uint64_t seed,
                         enum device device)
{
    struct machine *machine = machine_new((uint64_t)workload->segments * CRASH_SEGMENT_BYTES,
                                          device == DEVICE_ZONED ? CRASH_ZONE_BYTES : 0);
    struct run *run = mem_zalloc(sizeof *run);
    driver->depth = 0;
    driver->at[0] = (struct place){0, 0};
    driver->run[0] = run;
    driver->tally->recordings++;
    run->workload = workload;
    run->seed = seed;
    if (run_record(run, workload, seed, machine))
        explore(driver, run);
    else
        fail(driver, NULL, &run->owner);
    run_fini(run);
    mem_free(run);
    machine_free(machine);
}

static void run_all(struct driver *driver)
{
    uint32_t rows = workload_count * DEVICES;
    struct tally *tallies = mem_zalloc(rows * sizeof *tallies);
    time_t begin = time(NULL);
    for (uint64_t seed = driver->seed_first; !enough(driver); seed++) {
        for (uint32_t i = 0; i < rows && !enough(driver); i++) {
            const struct workload *workload = &workloads[i / DEVICES];
            enum device device = (enum device)(i % DEVICES);
            bool wanted = (!driver->only || strcmp(driver->only, workload->name) == 0) &&
                          (driver->only_device == DEVICES || driver->only_device == device);
            driver->tally = &tallies[i];
            if (wanted)
                run_workload(driver, workload, seed, device);
        }
        if (!driver->replay)
            printf("seed %llu: %llu images, %llu failed, %lld s\n", (unsigned long long)seed,
                   (unsigned long long)driver->images.count, (unsigned long long)driver->failed,
                   (long long)(time(NULL) - begin));
        fflush(stdout);
        if (driver->replay)
            break;
    }
    printf("%-10s %-6s %10s %8s %10s %20s\n", "workload", "device", "recordings", "points",
           "images", "of recoveries");
    for (uint32_t i = 0; i < rows; i++)
        printf("%-10s %-6s %10llu %8llu %10llu %9llu of %7llu\n", workloads[i / DEVICES].name,
               device_names[i % DEVICES], (unsigned long long)tallies[i].recordings,
               (unsigned long long)tallies[i].points, (unsigned long long)tallies[i].images,
               (unsigned long long)tallies[i].nested_images,
               (unsigned long long)tallies[i].nested_recordings);
    printf("%lld s\n", (long long)(time(NULL) - begin));
    mem_free(tallies);
}

/* ---- the command ---- */

static void explain(void)
{
    printf(
        "usage: ./dev crash [--images N] [--workload NAME] [--device plain|zoned] [--seed N]\n"
        "                   [--image POINT.VARIANT]\n"
        "\n"
        "Record workloads of the store on a small disk, build what the disk may hold after a\n"
        "power loss at any moment, open each image and compare. Ends with \"N images, N failed\".\n"
        "\n"
        "  --images N     distinct images to try (100000)\n"
        "  --workload W   only this one\n"
        "  --device D     only this kind: written in any order (plain), or zone by zone (zoned)\n"
        "  --seed N       the first seed (1)\n"
        "  --image P.V    replay one image, as a failure names it (P.V/P.V: crash in recovery)\n"
        "\n"
        "workloads:\n");
    for (uint32_t i = 0; i < workload_count; i++)
        printf("  %-12s %s\n", workloads[i].name, workloads[i].about);
}

static bool known(const char *name)
{
    for (uint32_t i = 0; i < workload_count; i++)
        if (strcmp(name, workloads[i].name) == 0)
            return true;
    return false;
}

static enum device device_of(const char *name)
{
    enum device device = 0;
    while (device < DEVICES && strcmp(device_names[device], name) != 0)
        device++;
    return device;
}

static bool parse(struct driver *driver, int count, char **words)
{
    for (int i = 1; i + 1 < count; i += 2) {
        const char *value = words[i + 1];
        char *end = NULL;
        if (strcmp(words[i], "--images") == 0) {
            driver->wanted = strtoull(value, &end, 10);
        } else if (strcmp(words[i], "--seed") == 0) {
            driver->seed_first = strtoull(value, &end, 10);
        } else if (strcmp(words[i], "--workload") == 0 && known(value)) {
            driver->only = value;
        } else if (strcmp(words[i], "--device") == 0 && device_of(value) < DEVICES) {
            driver->only_device = device_of(value);
        } else if (strcmp(words[i], "--image") == 0) {
            int fields = sscanf(value, "%u.%u/%u.%u", &driver->replay_at[0].point,
                                &driver->replay_at[0].variant, &driver->replay_at[1].point,
                                &driver->replay_at[1].variant);
            driver->replay = value;
            driver->replay_depth = (uint32_t)fields / 2;
            if (fields != 2 && fields != 4)
                return false;
        } else {
            return false;
        }
        if (end && (*end || end == value))
            return false;
    }
    if (driver->replay && driver->only_device == DEVICES)
        driver->only_device = DEVICE_PLAIN;
    return count % 2 == 1 && (!driver->replay || driver->only);
}

static void discard_line(void *context, enum log_level level, const char *line)
{
    (void)context; /* a million recoveries have nothing to say */
}

int main(int count, char **words)
{
    struct driver driver = {.wanted = 100000, .seed_first = 1, .only_device = DEVICES};
    if (!parse(&driver, count, words)) {
        explain();
        return count == 2 && strcmp(words[1], "--help") == 0 ? 0 : 64;
    }
    if (!driver.replay)
        log_set_sink(discard_line, NULL);
    dying = &driver;
    signal(SIGABRT, died);
    signal(SIGSEGV, died);
    for (uint32_t i = 0; i < 2; i++)
        verify_init(&driver.verify[i]);
    run_all(&driver);
    for (uint32_t i = 0; i < 2; i++)
        verify_fini(&driver.verify[i]);
    mem_free(driver.images.slots);
    mem_free(driver.judged.slots);
    printf("%llu images, %llu failed\n", (unsigned long long)driver.images.count,
           (unsigned long long)driver.failed);
    return driver.failed ? 1 : 0;
}
