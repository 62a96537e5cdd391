/* SPDX-License-Identifier: MIT */
/* What must hold on every image:
 *
 * C1  The store opens, and reports no damage. (Before a first format has been acknowledged it may
 *     say that there is none; before a second one, the old store may be there, as it was.)
 * C2  The state is that after some operation n, promised <= n <= issued: nothing durable is lost,
 *     nothing is there without all before it. Rows, data, and prepared log records with theirs.
 * C3  The tree verifies, and the accounts are exact: live blocks per segment, pinned blocks,
 *     journal segments; nothing leaks.
 * C4  Opened to be read only, it shows the same and writes nothing.
 * C5  Used further and checkpointed, C2 and C3 hold again.
 */
#include "verify.h"

#include "base/assert.h"

enum { GO_ON_STEPS = 12 };

void verify_init(struct verify *verify)
{
    *verify = (struct verify){.scratch_history = history_new()};
}

void verify_fini(struct verify *verify)
{
    mem_free(verify->scratch_history);
    verify->scratch_history = NULL;
}

/* C2. Returns the operation, or -1 with trouble told. */
static int32_t place_in_history(struct verify *verify, const struct state *state)
{
    const struct history *history = verify->run->history;
    struct mark mark = verify->mark;
    int32_t found = history_find(history, state, (uint32_t)MAX(mark.promised, 0), mark.issued);
    if (found >= 0)
        return found;
    int32_t other = history_find(history, state, 0, mark.issued);
    if (other >= 0)
        owner_trouble(&verify->scratch.owner, "durable operations are lost",
                      "the state is that after %d, %d were promised", other, mark.promised);
    else
        owner_trouble(&verify->scratch.owner, "the state is that after no operation",
                      "%d promised, %u issued", mark.promised, mark.issued);
    return -1;
}

/* The store before FORMAT_OVER: it has to be whole. */
static void verify_old(struct verify *verify)
{
    struct state state;
    const struct history *history = verify->run->history_old;
    owner_read(&verify->scratch.owner, &state);
    if (history_find(history, &state, history->ops, history->ops) < 0)
        owner_trouble(&verify->scratch.owner, "a store half formatted over opens", "node %u",
                      store_identity(verify->scratch.owner.store)->node);
}

static void use_further(struct verify *verify)
{
    struct owner *owner = &verify->scratch.owner;
    struct state state;
    history_copy(verify->scratch_history, verify->run->history, (uint32_t)verify->found);
    owner->history = verify->scratch_history;
    owner->promised = verify->found;
    workload_steps(&verify->scratch, GO_ON_STEPS);
    owner_wait_durable(owner);
    int result = checkpoint_now(owner->store);
    if (result < 0 && result != -ERR_NO_SPACE)
        owner_trouble(owner, "checkpoint failed", "%s", error_name(result));
    owner_read(owner, &state);
    if (history_find(owner->history, &state, owner->history->ops, owner->history->ops) < 0)
        owner_trouble(owner, "used further, the state differs", "after operation %u",
                      owner->history->ops);
    owner_accounts(owner);
}

static void look(struct verify *verify, bool read_only)
{
    struct owner *owner = &verify->scratch.owner;
    const struct run *run = verify->run;
    struct state state;
    int result = owner_open(owner, machine_disk(verify->scratch.machine), read_only);
    if (result < 0) {
        if (verify->mark.promised >= 0)
            owner_trouble(owner, "open failed", "%s", error_name(result));
        return;
    }
    if (owner->store->health.journal_damaged)
        owner_trouble(owner, "damage reported", "the journal");
    if (run->history_old && store_identity(owner->store)->node == NODE_OLD) {
        if (verify->mark.promised >= 0)
            owner_trouble(owner, "the old store is back", "after a format");
        verify_old(verify);
    } else {
        owner_read(owner, &state);
        verify->found = place_in_history(verify, &state);
        if (!read_only && verify->mark.promised > 0 &&
            owner->store->journal.next_lsn <= run->history->lsn[verify->mark.promised])
            owner_trouble(owner, "durable records are lost", "the next lsn is %llu",
                          (unsigned long long)owner->store->journal.next_lsn);
    }
    if (!read_only && !owner->trouble)
        owner_accounts(owner);
}

static void body(void *arg)
{
    struct verify *verify = arg;
    look(verify, false);
    if (verify->go_on && verify->found >= 0 && !verify->scratch.owner.trouble)
        use_further(verify);
}

static void body_read_only(void *arg)
{
    look(arg, true);
}

static void start(struct verify *verify, struct machine *machine, uint64_t seed)
{
    struct run *scratch = &verify->scratch;
    scratch->workload = verify->run->workload;
    scratch->machine = machine;
    verify->found = -1;
    owner_init(&scratch->owner, scratch->workload, verify->run->history, seed);
    machine_restart(machine, seed);
}

bool verify_image(struct verify *verify, struct machine *machine, uint64_t seed)
{
    struct owner *owner = &verify->scratch.owner;
    int32_t found_reading = -1;
    if (verify->read_first) {
        uint32_t dirty = machine->dirty_count;
        start(verify, machine, seed);
        if (!machine_run(machine, body_read_only, verify))
            owner_trouble(owner, "hangs", "opened to be read only");
        if (machine->dirty_count != dirty)
            owner_trouble(owner, "wrote", "opened to be read only");
        found_reading = verify->found;
        if (owner->trouble)
            return false;
    }
    start(verify, machine, seed);
    if (!machine_run(machine, body, verify))
        owner_trouble(owner, "hangs", "opening or looking never ends");
    if (verify->read_first && verify->found != found_reading)
        owner_trouble(owner, "read only, it differs", "operation %d, then %d", found_reading,
                      verify->found);
    machine_restart(machine, seed);
    owner->store = NULL;
    return !owner->trouble;
}
