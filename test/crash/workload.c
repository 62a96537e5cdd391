/* SPDX-License-Identifier: MIT */
/* Workloads: small devices, few objects, much movement.
 *
 * Each makes one part of the store busy: journal, extents, log records, checkpoints, node and data
 * cleaning, opening, formatting. Segments have 256 KiB, so a few dozen operations fill and free
 * them; the store does not know that it is being tested.
 */
#include "workload.h"

#include <string.h>

#include "base/assert.h"

const struct workload workloads[] = {
    {.name = "empty",
     .about = "data segments emptied at one go while checkpoints write nodes in several",
     .segments = 56,
     .objects = 20,
     .pad_max = PAD_MAX,
     .blocks_max = 48,
     .changes_max = 4,
     .warm_ops = 60,
     .ops = 350,
     .points_max = 120,
     .lives = 1,
     .mix = {.commit = 14, .delete = 3, .durable = 10, .bulk = 5}},
    {.name = "small",
     .about = "small transactions",
     .segments = 16,
     .objects = 40,
     .pad_max = 200,
     .changes_max = 3,
     .sleep_max_us = 3000,
     .warm_ops = 20,
     .ops = 150,
     .lives = 2,
     .mix = {.commit = 20, .checkpoint = 1, .durable = 6, .written = 8, .sleep = 6}},
    {.name = "extent",
     .about = "extents written, replaced, cut, deleted",
     .segments = 24,
     .objects = 24,
     .pad_max = 100,
     .blocks_max = 12,
     .changes_max = 3,
     .sleep_max_us = 3000,
     .warm_ops = 20,
     .ops = 120,
     .lives = 2,
     .mix = {.commit = 16,
             .cut = 4,
             .delete = 3,
             .checkpoint = 1,
             .durable = 5,
             .written = 4,
             .sleep = 6}},
    {.name = "log",
     .about = "log records prepared, applied, truncated",
     .segments = 24,
     .objects = 24,
     .pad_max = 300,
     .blocks_max = 6,
     .changes_max = 2,
     .sleep_max_us = 3000,
     .warm_ops = 20,
     .ops = 120,
     .lives = 2,
     .mix = {.commit = 4,
             .append = 14,
             .apply = 10,
             .truncate = 4,
             .checkpoint = 2,
             .durable = 5,
             .written = 6,
             .sleep = 6}},
    {.name = "checkpoint",
     .about = "checkpoints one after the other beside traffic, a tree of some segments",
     .segments = 20,
     .objects = 48,
     .pad_max = PAD_MAX,
     .blocks_max = 4,
     .changes_max = 3,
     .sleep_max_us = 1000,
     .warm_ops = 120,
     .ops = 120,
     .lives = 2,
     .checkpoints = true,
     .mix = {.commit = 12,
             .append = 6,
             .apply = 5,
             .truncate = 1,
             .durable = 3,
             .written = 4,
             .sleep = 8}},
    {.name = "journal",
     .about = "journal segments written, let go and used again at once",
     .segments = 14,
     .objects = 32,
     .pad_max = PAD_MAX,
     .changes_max = 12,
     .sleep_max_us = 200,
     .warm_ops = 60,
     .ops = 150,
     .lives = 2,
     .checkpoints = true,
     .mix = {.commit = 20, .durable = 1, .written = 12, .sleep = 4}},
    {.name = "clean",
     .about = "a nearly full store: data and node cleaning, segments used again at once",
     .segments = 32,
     .objects = 48,
     .pad_max = 1500,
     .blocks_max = 48,
     .changes_max = 3,
     .sleep_max_us = 4000,
     .warm_ops = 80,
     .ops = 100,
     .lives = 2,
     .fill = true,
     .checkpoints = true,
     .mix = {.commit = 16, .cut = 3, .delete = 4, .durable = 3, .written = 3, .sleep = 10}},
    {.name = "reopen",
     .about = "starts after orderly stops and after the process's death",
     .segments = 16,
     .objects = 32,
     .pad_max = 600,
     .blocks_max = 6,
     .changes_max = 3,
     .sleep_max_us = 3000,
     .warm_ops = 30,
     .ops = 25,
     .lives = 8,
     .mix = {.commit = 12,
             .append = 6,
             .apply = 5,
             .cut = 2,
             .checkpoint = 1,
             .durable = 2,
             .written = 5,
             .sleep = 4}},
    {.name = "format",
     .about = "format of an empty device, and first use",
     .segments = 16,
     .objects = 16,
     .pad_max = 200,
     .blocks_max = 4,
     .changes_max = 3,
     .sleep_max_us = 3000,
     .ops = 20,
     .lives = 2,
     .format = FORMAT_RECORDED,
     .mix = {.commit = 12, .durable = 4, .written = 2, .sleep = 4}},
    {.name = "reformat",
     .about = "format over a store in use",
     .segments = 14,
     .objects = 16,
     .pad_max = 3000,
     .blocks_max = 16,
     .changes_max = 4,
     .sleep_max_us = 2000,
     .warm_ops = 150,
     .ops = 10,
     .lives = 1,
     .checkpoints = true,
     .format = FORMAT_OVER,
     .mix = {.commit = 12, .checkpoint = 1, .durable = 4, .sleep = 4}},
};
const uint32_t workload_count = ARRAY_COUNT(workloads);

void owner_init(struct owner *owner, const struct workload *workload, struct history *history,
                uint64_t seed)
{
    owner->store = NULL;
    owner->history = history;
    owner->objects = workload->objects;
    owner->pad_max = workload->pad_max;
    owner->blocks_max = workload->blocks_max;
    owner->changes_max = workload->changes_max;
    owner->promised = -1;
    owner->trouble = NULL;
    random_init(&owner->random, seed);
}

/* ---- operations ---- */

enum step {
    COMMIT,
    APPEND,
    APPLY,
    TRUNCATE,
    CUT,
    DELETE,
    CHECKPOINT,
    DURABLE,
    WRITTEN,
    SLEEP,
    BULK
};

static enum step choose(struct random *random, const struct mix *mix)
{
    const uint8_t parts[] = {
        [COMMIT] = mix->commit,         [APPEND] = mix->append,   [APPLY] = mix->apply,
        [TRUNCATE] = mix->truncate,     [CUT] = mix->cut,         [DELETE] = mix->delete,
        [CHECKPOINT] = mix->checkpoint, [DURABLE] = mix->durable, [WRITTEN] = mix->written,
        [SLEEP] = mix->sleep,           [BULK] = mix->bulk};
    uint32_t sum = 0, step = 0;
    for (uint32_t i = 0; i < ARRAY_COUNT(parts); i++)
        sum += parts[i];
    uint32_t at = (uint32_t)random_below(random, sum);
    while (at >= parts[step])
        at -= parts[step++];
    return (enum step)step;
}

static void do_step(struct run *run)
{
    struct owner *owner = &run->owner;
    switch (choose(&owner->random, &run->workload->mix)) {
    case COMMIT:
        if (!owner_commit(owner))
            owner_delete(owner);
        break;
    case APPEND:
        if (!owner_append(owner))
            owner_apply(owner);
        break;
    case APPLY:
        owner_apply(owner);
        break;
    case TRUNCATE:
        owner_truncate(owner);
        break;
    case CUT:
        (void)owner_cut(owner); /* there may be nothing to cut */
        break;
    case DELETE:
        owner_delete(owner);
        break;
    case CHECKPOINT:
        if (checkpoint_now(owner->store) < 0)
            owner_delete(owner);
        break;
    case DURABLE:
        owner_wait_durable(owner);
        break;
    case WRITTEN:
        owner_wait_written(owner);
        break;
    case SLEEP:
        fiber_sleep(random_below(&owner->random, run->workload->sleep_max_us * NS_PER_US));
        break;
    case BULK:
        owner_bulk(owner);
        break;
    }
}

void workload_steps(struct run *run, uint32_t count)
{
    for (uint32_t i = 0; i < count && !run->owner.trouble; i++)
        do_step(run);
}

static void fill(struct run *run)
{
    uint32_t full = 0;
    for (uint32_t i = 0; i < 300 && full < 4; i++)
        full += !owner_commit(&run->owner);
}

static void checkpoints(void *arg)
{
    struct run *run = arg;
    /* Bounded: a writer that waits for space would see thousands. */
    for (uint32_t i = 0; i < run->checkpoints_max && !run->stop; i++) {
        if (checkpoint_now(run->owner.store) < 0)
            fiber_sleep(NS_PER_MS);
        fiber_sleep(random_below(&run->owner.random, NS_PER_MS));
    }
    run->fibers--;
    waitq_wake_all(&run->stopped);
}

/* Operations, with checkpoints beside them if the workload wants that. */
static void use(struct run *run, uint32_t ops)
{
    waitq_init(&run->stopped);
    run->stop = false;
    run->checkpoints_max = 2 * ops;
    if (run->workload->checkpoints) {
        run->fibers = 1;
        fiber_spawn("checkpoints", checkpoints, run);
    }
    workload_steps(run, ops);
    if (run->kill)
        return; /* with everything under way */
    run->stop = true;
    while (run->fibers > 0)
        (void)!waitq_wait(&run->stopped, 0);
}

static bool open_it(struct run *run)
{
    int result = owner_open(&run->owner, machine_disk(run->machine), false);
    if (result < 0)
        owner_trouble(&run->owner, "open failed", "%s", error_name(result));
    return result == 0 && !run->owner.trouble;
}

/* After the process's death: what had not been written is lost, what had is promised now. */
static void find_back(struct run *run)
{
    struct owner *owner = &run->owner;
    struct state state;
    owner_read(owner, &state);
    int32_t found =
        history_find(owner->history, &state, (uint32_t)owner->promised, owner->history->ops);
    if (found < 0) {
        owner_trouble(owner, "after the process died, the state is that after no operation",
                      "%d promised, %u issued", owner->promised, owner->history->ops);
        return;
    }
    history_roll_back(owner->history, (uint32_t)found, owner->store->journal.next_lsn - 1);
    owner->promised = (int32_t)owner->history->ops;
}

static void close_it(struct run *run)
{
    struct owner *owner = &run->owner;
    uint32_t ops = owner->history->ops;
    int result = store_close(owner->store);
    owner->store = NULL;
    if (result < 0)
        owner_trouble(owner, "close failed", "%s", error_name(result));
    else
        owner->promised = (int32_t)ops;
}

static bool format_it(struct run *run, uint32_t node)
{
    struct store_identity identity = {.node = node};
    int result =
        superblock_format(machine_disk(run->machine), &identity, true, CRASH_SEGMENT_BYTES);
    if (result < 0)
        owner_trouble(&run->owner, "format failed", "%s", error_name(result));
    else
        run->owner.promised = 0;
    return result == 0;
}

static void prepare(void *arg)
{
    struct run *run = arg;
    if (!format_it(run, NODE_OLD) || !open_it(run))
        return;
    if (run->workload->fill)
        fill(run);
    use(run, run->workload->warm_ops);
    close_it(run);
}

static void live(void *arg)
{
    struct run *run = arg;
    if (run->first && run->workload->format != FORMAT_BEFORE && !format_it(run, NODE_NEW))
        return;
    if (!open_it(run))
        return;
    if (!run->first)
        find_back(run);
    run->owner.in_step = true;
    use(run, run->workload->ops);
    if (!run->kill)
        close_it(run);
}

static void recover_and_live(void *arg)
{
    struct run *run = arg;
    if (!open_it(run))
        return;
    run->owner.promised = (int32_t)run->history->ops; /* R4 */
    run->owner.in_step = true;
    use(run, MIN(run->workload->ops, 12u));
    close_it(run);
}

/* ---- recordings ---- */

static bool run_body(struct run *run, fiber_fn body)
{
    if (!machine_run(run->machine, body, run))
        owner_trouble(&run->owner, "nothing happens any more", "the workload hangs");
    return !run->owner.trouble;
}

static void record(struct run *run, fiber_fn body, uint32_t lives)
{
    struct machine *machine = run->machine;
    struct random random;
    random_init(&random, run->seed + 2);
    machine_restart(machine, run->seed + 1);
    machine_settle(machine);
    run->base = mem_alloc(machine->pages * PAGE_BYTES);
    memcpy(run->base, machine->content, machine->pages * PAGE_BYTES);
    machine_record(machine, &run->trace, owner_mark, &run->owner);
    for (uint32_t life = 0; life < lives; life++) {
        run->first = life == 0;
        run->owner.in_step = false;
        run->fibers = 0;
        run->kill = life + 1 < lives && random_chance(&random, 2, 3);
        if (!run_body(run, body))
            break;
        run->owner.store = NULL;
        machine_restart(machine, random_u64(&random));
    }
    run->owner.store = NULL;
    machine_record_end(machine);
    machine_restart(machine, 0);
}

bool run_record(struct run *run, const struct workload *workload, uint64_t seed,
                struct machine *machine)
{
    memset(run, 0, sizeof *run);
    run->workload = workload;
    run->seed = seed;
    run->machine = machine;
    run->history = history_new();
    owner_init(&run->owner, workload, run->history, seed);
    machine_restart(machine, seed);
    if (workload->format != FORMAT_RECORDED && !run_body(run, prepare))
        return false;
    if (workload->format != FORMAT_BEFORE) {
        run->history_old = run->history;
        run->history = history_new();
        owner_init(&run->owner, workload, run->history, seed + 1);
    }
    record(run, live, workload->lives);
    return !run->owner.trouble;
}

bool run_record_recovery(struct run *run, const struct run *parent, struct machine *machine,
                         uint32_t ops)
{
    memset(run, 0, sizeof *run);
    run->workload = parent->workload;
    run->seed = parent->seed * 31 + ops;
    run->machine = machine;
    run->history = history_new();
    history_copy(run->history, parent->history, ops);
    owner_init(&run->owner, run->workload, run->history, run->seed);
    run->owner.promised = (int32_t)ops;
    record(run, recover_and_live, 1);
    return !run->owner.trouble;
}

void run_fini(struct run *run)
{
    mem_free(run->history);
    mem_free(run->history_old);
    mem_free(run->base);
    trace_fini(&run->trace);
    memset(run, 0, sizeof *run);
}
