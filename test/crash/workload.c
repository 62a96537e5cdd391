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
    {.name = "small",
     .about = "small transactions",
     .segments = 16,
     .objects = 40,
     .pad_max = 200,
     .warm_ops = 20,
     .ops = 300,
     .lives = 1,
     .mix = {.commit = 20, .checkpoint = 1, .durable = 8, .sleep = 6}},
    {.name = "extent",
     .about = "extents written, replaced, cut, deleted",
     .segments = 24,
     .objects = 24,
     .pad_max = 100,
     .blocks_max = 12,
     .warm_ops = 20,
     .ops = 300,
     .lives = 1,
     .mix = {.commit = 16, .cut = 4, .delete = 3, .checkpoint = 1, .durable = 6, .sleep = 6}},
    {.name = "log",
     .about = "log records prepared, applied, truncated",
     .segments = 24,
     .objects = 24,
     .pad_max = 300,
     .blocks_max = 6,
     .warm_ops = 20,
     .ops = 300,
     .lives = 1,
     .mix = {.commit = 4,
             .append = 14,
             .apply = 10,
             .truncate = 4,
             .checkpoint = 2,
             .durable = 6,
             .sleep = 6}},
    {.name = "checkpoint",
     .about = "checkpoints one after the other beside traffic",
     .segments = 16,
     .objects = 48,
     .pad_max = PAD_MAX,
     .blocks_max = 4,
     .warm_ops = 120,
     .ops = 240,
     .lives = 1,
     .checkpoints = true,
     .mix = {.commit = 12, .append = 6, .apply = 5, .truncate = 1, .durable = 4, .sleep = 8}},
    {.name = "clean",
     .about = "a nearly full store: data and node cleaning, segments used again at once",
     .segments = 32,
     .objects = 48,
     .pad_max = 1500,
     .blocks_max = 48,
     .warm_ops = 80,
     .ops = 200,
     .lives = 1,
     .fill = true,
     .checkpoints = true,
     .mix = {.commit = 16, .cut = 3, .delete = 4, .durable = 4, .sleep = 10}},
    {.name = "reopen",
     .about = "orderly stops and starts",
     .segments = 16,
     .objects = 32,
     .pad_max = 600,
     .blocks_max = 6,
     .warm_ops = 30,
     .ops = 60,
     .lives = 4,
     .mix = {.commit = 12,
             .append = 6,
             .apply = 5,
             .cut = 2,
             .checkpoint = 1,
             .durable = 3,
             .sleep = 4}},
    {.name = "format",
     .about = "format of an empty device, and first use",
     .segments = 16,
     .objects = 16,
     .pad_max = 200,
     .blocks_max = 4,
     .ops = 40,
     .lives = 1,
     .format = FORMAT_RECORDED,
     .mix = {.commit = 12, .durable = 4, .sleep = 4}},
    {.name = "reformat",
     .about = "format over a store in use",
     .segments = 16,
     .objects = 16,
     .pad_max = 200,
     .blocks_max = 4,
     .warm_ops = 150,
     .checkpoints = true,
     .ops = 40,
     .lives = 1,
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
    owner->promised = -1;
    owner->trouble = NULL;
    random_init(&owner->random, seed);
}

/* ---- operations ---- */

/* Which of the mix? Its members are parts; the answer is an index. */
static uint32_t choose(struct random *random, const struct mix *mix)
{
    const uint8_t parts[] = {mix->commit, mix->append,  mix->apply,      mix->truncate, mix->cut,
                             mix->delete, mix->durable, mix->checkpoint, mix->sleep};
    uint32_t sum = 0, index = 0;
    for (uint32_t i = 0; i < ARRAY_COUNT(parts); i++)
        sum += parts[i];
    uint32_t at = (uint32_t)random_below(random, sum);
    while (at >= parts[index])
        at -= parts[index++];
    return index;
}

static void step(struct run *run)
{
    struct owner *owner = &run->owner;
    bool fits = true;
    switch (choose(&owner->random, &run->workload->mix)) {
    case 0:
        fits = owner_commit(owner, 1 + (uint32_t)random_below(&owner->random, 3));
        break;
    case 1:
        if (!owner_append(owner))
            owner_apply(owner);
        break;
    case 2:
        owner_apply(owner);
        break;
    case 3:
        owner_truncate(owner);
        break;
    case 4:
        (void)owner_cut(owner); /* there may be nothing to cut */
        break;
    case 5:
        owner_delete(owner);
        break;
    case 6:
        owner_wait_durable(owner);
        break;
    case 7:
        if (checkpoint_now(owner->store) < 0)
            owner_delete(owner);
        break;
    default:
        fiber_sleep(random_below(&owner->random, 4 * NS_PER_MS));
        break;
    }
    if (!fits)
        owner_delete(owner);
}

void workload_steps(struct run *run, uint32_t count)
{
    for (uint32_t i = 0; i < count && !run->owner.trouble; i++)
        step(run);
}

static void fill(struct run *run)
{
    uint32_t full = 0;
    for (uint32_t i = 0; i < 300 && full < 4; i++)
        full += !owner_commit(&run->owner, 1);
}

static void checkpoints(void *arg)
{
    struct run *run = arg;
    while (!run->stop) {
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
    if (run->workload->checkpoints) {
        run->fibers = 1;
        fiber_spawn("checkpoints", checkpoints, run);
    }
    workload_steps(run, ops);
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
    const struct workload *workload = run->workload;
    if (workload->format != FORMAT_BEFORE && !format_it(run, NODE_NEW))
        return;
    for (uint32_t life = 0; life < workload->lives && open_it(run); life++) {
        use(run, workload->ops);
        close_it(run);
    }
}

static void recover_and_live(void *arg)
{
    struct run *run = arg;
    if (!open_it(run))
        return;
    run->owner.promised = (int32_t)run->history->ops; /* R4 */
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

static void record(struct run *run, fiber_fn body)
{
    struct machine *machine = run->machine;
    machine_restart(machine, run->seed + 1);
    machine_settle(machine);
    run->base = mem_alloc(machine->pages * PAGE_BYTES);
    memcpy(run->base, machine->content, machine->pages * PAGE_BYTES);
    machine_record(machine, &run->trace, owner_mark, &run->owner);
    (void)run_body(run, body);
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
    record(run, live);
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
    record(run, recover_and_live);
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
