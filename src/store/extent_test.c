/* SPDX-License-Identifier: MIT */
/* Goal: data extents live and die with the rows that refer to them: through log records and local
 * batches, under the cleaner, on a full store, across crashes; and their space comes back.
 * Method: a small owner of extents (objects of 1 to 40 blocks, contents computed from a stamp)
 * that logs, applies, replays and moves as a group would. */
#include "base/crc32c.h"
#include "base/hash.h"
#include "store/store_test_util.h"

enum { OBJECTS = 400, BLOCKS_MAX = 40, GROUP = 9, WINDOW = 8 };

struct object_row {
    uint64_t block;
    uint32_t blocks;
    uint32_t object;
    uint64_t stamp;
    uint32_t crc;
    uint32_t zero;
};
struct payload {
    struct object_row row; /* blocks 0: delete */
};
struct prepared_record {
    bool used;
    uint64_t seq;
    struct payload payload;
};
struct owner {
    struct world world;
    struct prepared_record window[WINDOW]; /* by seq % WINDOW */
    uint64_t next_seq;
    uint64_t applied; /* records applied in memory */
    uint64_t stamp;
    uint64_t durable_seq;     /* appended and flushed */
    uint64_t durable_applied; /* applied and flushed */
    uint64_t stamps[OBJECTS];
    uint32_t rounds;
    uint32_t moves;
    uint32_t bad;
    bool slow_apply;
};

static struct slice object_key(uint32_t object, uint8_t key[9])
{
    be32_store(key, GROUP);
    key[4] = 0x20;
    be32_store(key + 5, object);
    return slice_of(key, 9);
}

static struct slice applied_key(void)
{
    return slice_of("\0\0\0\11\1", 5);
}

static void fill(uint8_t *data, uint32_t blocks, uint64_t stamp)
{
    for (uint32_t at = 0; at < blocks * STORE_BLOCK_BYTES; at += 8) {
        uint64_t word = hash_u64(stamp * 1000003 + at);
        memcpy(data + at, &word, 8);
    }
}

/* ---- the owner's part in the log ---- */

static int row_get(struct owner *owner, uint32_t object, struct object_row *row)
{
    uint8_t key[9];
    int bytes = store_get(owner->world.store, object_key(object, key), row, sizeof *row);
    return bytes == sizeof *row ? 1 : bytes == -ENOENT ? 0 : -1;
}

static int apply_payload(struct owner *owner, uint64_t seq, const struct payload *payload)
{
    struct store_batch batch;
    struct object_row old;
    uint8_t key[9];
    struct slice name = object_key(payload->row.object, key);
    int found = row_get(owner, payload->row.object, &old);
    if (found < 0)
        return -EIO;
    store_batch_init(&batch);
    if (found)
        store_batch_extent_del(&batch, (struct store_extent){old.block, old.blocks, 0});
    if (payload->row.blocks) {
        store_batch_put(&batch, name, slice_of(&payload->row, sizeof payload->row));
        store_batch_extent_add(
            &batch, (struct store_extent){payload->row.block, payload->row.blocks, 0}, name);
    } else {
        store_batch_del(&batch, name);
    }
    store_batch_put(&batch, applied_key(), slice_of(&seq, sizeof seq));
    store_apply(owner->world.store, GROUP, seq, &batch);
    store_batch_fini(&batch);
    owner->window[seq % WINDOW].used = false;
    owner->applied = seq;
    return 0;
}

static void replay_record(void *context, const struct store_log_record *record)
{
    struct owner *owner = context;
    struct prepared_record *slot = &owner->window[record->seq % WINDOW];
    CHECK(&owner->world, record->group == GROUP && record->payload.bytes == sizeof(struct payload));
    slot->used = true;
    slot->seq = record->seq;
    memcpy(&slot->payload, record->payload.data, sizeof slot->payload);
    owner->next_seq = MAX(owner->next_seq, record->seq + 1);
}

static void replay_truncate(void *context, uint32_t group, uint64_t seq)
{
    struct owner *owner = context;
    for (uint32_t i = 0; i < WINDOW; i++)
        if (owner->window[i].used && owner->window[i].seq > seq)
            owner->window[i].used = false;
    owner->next_seq = seq + 1;
}

static int replay_apply(void *context, uint32_t group, uint64_t seq)
{
    struct owner *owner = context;
    struct prepared_record *slot = &owner->window[seq % WINDOW];
    CHECK(&owner->world, slot->used && slot->seq == seq);
    return apply_payload(owner, seq, &slot->payload);
}

static void append(struct owner *owner, const struct prepared_record *slot)
{
    struct store_extent extent = {slot->payload.row.block, slot->payload.row.blocks, 0};
    const struct store_log_record record = {.group = GROUP,
                                            .epoch = 1,
                                            .seq = slot->seq,
                                            .payload =
                                                slice_of(&slot->payload, sizeof slot->payload),
                                            .extents = &extent,
                                            .extent_count = extent.blocks ? 1 : 0};
    store_log_append(owner->world.store, &record);
}

static void relog(void *context)
{
    struct owner *owner = context;
    for (uint32_t i = 0; i < WINDOW; i++)
        if (owner->window[i].used)
            append(owner, &owner->window[i]);
}

static const struct store_log_ops owner_ops = {.replay_record = replay_record,
                                               .replay_truncate = replay_truncate,
                                               .replay_apply = replay_apply,
                                               .relog = relog};

static int mover(void *context, struct slice key, struct store_extent from, struct store_extent to,
                 const void *data, struct store_batch *batch)
{
    struct owner *owner = context;
    struct object_row row;
    uint32_t object = be32_load((const uint8_t *)key.data + 5);
    if (row_get(owner, object, &row) != 1 || row.block != from.block || row.blocks != from.blocks)
        return -ENOENT;
    if (crc32c(0, data, row.blocks * STORE_BLOCK_BYTES) != row.crc) {
        owner->bad++;
        return -ERR_CORRUPT_DATA;
    }
    row.block = to.block;
    store_batch_put(batch, key, slice_of(&row, sizeof row));
    store_batch_extent_del(batch, from);
    store_batch_extent_add(batch, to, key);
    owner->moves++;
    return 0;
}

/* ---- what it does ---- */

static int write_object(struct owner *owner, uint32_t object, uint32_t blocks, bool wait_room)
{
    struct store *store = owner->world.store;
    struct prepared_record *slot = &owner->window[owner->next_seq % WINDOW];
    assert(!slot->used);
    int result = store_reserve(store, (uint64_t)blocks * STORE_BLOCK_BYTES, blocks == 0);
    if (result < 0)
        return result;
    struct payload payload = {.row = {.object = object, .blocks = blocks}};
    payload.row.stamp = ++owner->stamp;
    if (blocks > 0) {
        struct buf *buf = buf_new(blocks * STORE_BLOCK_BYTES);
        struct store_extent extent;
        fill(buf->data, blocks, payload.row.stamp);
        payload.row.crc = crc32c(0, buf->data, blocks * STORE_BLOCK_BYTES);
        result = store_extent_write(store, (struct buf_slice){buf, 0, buf->size}, blocks, &extent);
        buf_put(buf);
        if (result < 0)
            return result;
        payload.row.block = extent.block;
    }
    *slot = (struct prepared_record){true, owner->next_seq++, payload};
    append(owner, slot);
    owner->stamps[object] = blocks ? payload.row.stamp : 0;
    return 0;
}

static void apply_all(struct owner *owner)
{
    for (uint64_t seq = owner->next_seq > WINDOW ? owner->next_seq - WINDOW : 1;
         seq < owner->next_seq; seq++) {
        struct prepared_record *slot = &owner->window[seq % WINDOW];
        if (slot->used && slot->seq == seq)
            CHECK(&owner->world, apply_payload(owner, seq, &slot->payload) == 0);
    }
}

static void verify(struct owner *owner, bool exact)
{
    struct world *world = &owner->world;
    uint8_t *data = mem_alloc_aligned(BLOCKS_MAX * STORE_BLOCK_BYTES, 4096);
    uint8_t *expected = mem_alloc(BLOCKS_MAX * STORE_BLOCK_BYTES);
    for (uint32_t object = 0; object < OBJECTS; object++) {
        struct object_row row;
        int found = row_get(owner, object, &row);
        CHECK(world, found >= 0);
        if (exact)
            CHECK(world, found == (owner->stamps[object] != 0) &&
                             (!found || row.stamp == owner->stamps[object]));
        if (found != 1)
            continue;
        int result = -1;
        for (int tries = 0; tries < 3 && found == 1; tries++) { /* E4 */
            result = store_extent_read(
                world->store, (struct store_extent){row.block, row.blocks, 0}, 0, row.blocks, data);
            if (result == 0 && crc32c(0, data, row.blocks * STORE_BLOCK_BYTES) == row.crc)
                break;
            found = row_get(owner, object, &row);
        }
        fill(expected, row.blocks, row.stamp);
        CHECK(world, result == 0 && memcmp(data, expected, row.blocks * STORE_BLOCK_BYTES) == 0);
        owner->stamps[object] = row.stamp;
    }
    mem_free(data);
    mem_free(expected);
}

static void open_owner(struct owner *owner)
{
    struct world *world = &owner->world;
    memset(owner->window, 0, sizeof owner->window);
    owner->next_seq = 1;
    owner->applied = 0;
    world->log_ops = &owner_ops;
    world->context = owner;
    world_open(world);
    CHECK(world, world->open_result == 0);
    if (!world->store)
        return;
    int bytes = store_get(world->store, applied_key(), &owner->applied, sizeof owner->applied);
    CHECK(world, bytes == sizeof owner->applied || bytes == -ENOENT);
    owner->next_seq = MAX(owner->next_seq, owner->applied + 1);
    /* What was durable is there: applied, or prepared. */
    CHECK(world, owner->applied >= owner->durable_applied);
    for (uint64_t seq = owner->applied + 1; seq <= owner->durable_seq; seq++)
        CHECK(world, owner->window[seq % WINDOW].used && owner->window[seq % WINDOW].seq == seq);
    owner->durable_applied = owner->applied;
    owner->durable_seq = owner->applied;
    store_set_mover(world->store, mover, owner);
    world->store->checkpoint.journal_bytes_max =
        owner->rounds < 1000 ? 8 << 10 : 64 << 10; /* many checkpoints */
}

static void make_durable(struct owner *owner)
{
    struct store *store = owner->world.store;
    uint64_t seq = owner->next_seq - 1, applied = owner->applied;
    CHECK(&owner->world, store_wait_durable(store, store->journal.next_lsn - 1) == 0);
    owner->durable_seq = seq;
    owner->durable_applied = applied;
}

static void churn(struct owner *owner)
{
    struct world *world = &owner->world;
    for (uint32_t i = 0; i < owner->rounds && !world->failed; i++) {
        uint32_t object = (uint32_t)random_below(&world->random, OBJECTS);
        uint32_t blocks = random_chance(&world->random, 1, 8)
                              ? 0
                              : 1 + (uint32_t)random_below(&world->random, BLOCKS_MAX);
        if (owner->window[owner->next_seq % WINDOW].used)
            apply_all(owner);
        int result = write_object(owner, object, blocks, true);
        CHECK(world, result == 0 || result == -ERR_NO_SPACE);
        if (result < 0)
            CHECK(world, write_object(owner, object, 0, true) == 0);
        uint64_t choice = random_below(&world->random, 30);
        if (choice < 6)
            apply_all(owner);
        if (choice == 0)
            make_durable(owner);
        else if (choice < 10)
            fiber_sleep(random_below(&world->random, NS_PER_MS));
        else if (choice == 11) /* of nothing: harmless */
            store_log_truncate(world->store, GROUP, owner->next_seq);
    }
    apply_all(owner);
}

static void churn_first(void *arg)
{
    struct owner *owner = arg;
    world_format(&owner->world);
    open_owner(owner);
    churn(owner);
    verify(owner, true);
    CHECK(&owner->world, store_check(owner->world.store) == 0);
    CHECK(&owner->world, owner->rounds < 1000 || owner->world.store->health.checkpoints > 0);
    world_close(&owner->world);
    open_owner(owner);
    verify(owner, true);
    CHECK(&owner->world, store_check(owner->world.store) == 0);
}

static void test_churn(void **state)
{
    struct owner *owner = calloc(1, sizeof *owner);
    world_init(&owner->world, 11, 64); /* 400 objects of 20 blocks are half of that */
    owner->rounds = 6000;
    world_run(&owner->world, churn_first, owner);
    assert_true(owner->moves > 0);
    assert_int_equal(owner->bad, 0);
    world_fini(&owner->world);
    free(owner);
}

/* ---- crashes ---- */

static void churn_crashed(void *arg)
{
    struct owner *owner = arg;
    open_owner(owner);
    if (!owner->world.store)
        return;
    CHECK(&owner->world, !owner->world.store->health.journal_damaged);
    verify(owner, false);
    CHECK(&owner->world, store_check(owner->world.store) == 0);
    /* What is prepared is decided by the owner: here, all of it is applied or all dropped. */
    if (random_chance(&owner->world.random, 1, 2)) {
        apply_all(owner);
    } else {
        store_log_truncate(owner->world.store, GROUP, owner->applied);
        memset(owner->window, 0, sizeof owner->window);
        owner->next_seq = owner->applied + 1;
    }
    verify(owner, false);
    churn(owner);
}

static void test_crashes(void **state)
{
    uint64_t first_seed = test_first_seed(21);
    for (uint64_t seed = first_seed; seed < first_seed + test_seeds(6); seed++) {
        struct owner *owner = calloc(1, sizeof *owner);
        struct world *world = &owner->world;
        world_init(world, seed, seed % 2 ? 64 : 44);
        const struct sim_disk_config config = {.read_min_ns = 20000,
                                               .read_max_ns = 50000,
                                               .write_min_ns = 20000,
                                               .write_max_ns = 400000,
                                               .flush_min_ns = 100000,
                                               .flush_max_ns = seed % 2 ? 2000000 : 30000000,
                                               .torn_writes = true};
        sim_disk_configure(world->sim, "disk", &config);
        owner->rounds = 500;
        world->flush_interval_ns = seed % 3 ? NS_PER_S : 0;
        world_run(world, churn_first, owner);
        for (uint32_t i = 0; i < 10; i++) {
            world_crash(world, random_chance(&world->random, 2, 3));
            world_run_for(world, churn_crashed, owner,
                          random_below(&world->random, 400 * NS_PER_MS));
        }
        world_crash(world, true);
        world_run(world, churn_crashed, owner);
        assert_int_equal(owner->bad, 0);
        world_fini(world);
        free(owner);
    }
}

/* ---- full ---- */

static void fill_and_empty(void *arg)
{
    struct owner *owner = arg;
    struct world *world = &owner->world;
    world_format(world);
    open_owner(owner);
    uint64_t first_fill = 0;
    for (uint32_t round = 0; round < 8 && !world->failed; round++) {
        int result = 0;
        for (uint32_t object = 0; object < OBJECTS && result == 0; object++) {
            if (owner->stamps[object])
                continue;
            if (owner->window[owner->next_seq % WINDOW].used)
                apply_all(owner);
            result = write_object(owner, object, BLOCKS_MAX, true);
        }
        apply_all(owner);
        CHECK(world, result == -ERR_NO_SPACE);
        struct store_space space;
        store_space(world->store, &space);
        uint64_t live = world->store->live_data;
        if (round == 0)
            first_fill = live;
        else
            CHECK(world, live + 3 * 256 > first_fill); /* but for a node or journal segment */
        verify(owner, true);
        /* Delete: everything, or every other one, so that the cleaner has to work. */
        for (uint32_t object = 0; object < OBJECTS; object++) {
            if (!owner->stamps[object] || (round % 3 != 2 && (object + round) % 2 == 0))
                continue;
            if (owner->window[owner->next_seq % WINDOW].used)
                apply_all(owner);
            CHECK(world, write_object(owner, object, 0, true) == 0);
        }
        apply_all(owner);
        CHECK(world, store_check(world->store) == 0);
    }
    world_close(world);
    open_owner(owner);
    verify(owner, true);
    CHECK(world, store_check(world->store) == 0);
}

static void test_full(void **state)
{
    struct owner *owner = calloc(1, sizeof *owner);
    world_init(&owner->world, 31, 48);
    world_run(&owner->world, fill_and_empty, owner);
    assert_true(owner->moves > 0);
    assert_int_equal(owner->bad, 0);
    world_fini(&owner->world);
    free(owner);
}

/* ---- nearly full ---- */

/* Write or delete (blocks 0); how long that took is remembered. */
static int timed_write(struct owner *owner, uint32_t object, uint32_t blocks, uint64_t *longest_ns)
{
    uint64_t start = env_now_ns();
    if (owner->window[owner->next_seq % WINDOW].used)
        apply_all(owner);
    int result = write_object(owner, object, blocks, true);
    apply_all(owner);
    *longest_ns = MAX(*longest_ns, env_now_ns() - start);
    return result;
}

/* At 90 % of what the store offers, every overwrite succeeds, and none waits long; at 100 %, every
 * delete does. */
static void overwrite_full(void *arg)
{
    struct owner *owner = arg;
    struct world *world = &owner->world;
    struct store_space space;
    uint32_t objects = 0;
    uint64_t longest_write = 0, longest_delete = 0;
    world_format(world);
    open_owner(owner);
    store_space(world->store, &space);
    uint64_t target = space.free_bytes / STORE_BLOCK_BYTES * 9 / 10;
    for (; (objects + 1) * BLOCKS_MAX <= target; objects++)
        CHECK(world, timed_write(owner, objects, BLOCKS_MAX, &longest_write) == 0);
    CHECK(world, objects < OBJECTS);
    for (uint32_t i = 0; i < 4000 && !world->failed; i++) {
        uint32_t object = (uint32_t)random_below(&world->random, objects);
        if (i % 16 == 0)
            CHECK(world, timed_write(owner, object, 0, &longest_delete) == 0);
        CHECK(world, timed_write(owner, object, BLOCKS_MAX, &longest_write) == 0);
    }
    CHECK(world, owner->moves > 0 && longest_write < 200 * NS_PER_MS);
    uint32_t all = objects;
    while (all < OBJECTS && timed_write(owner, all, BLOCKS_MAX, &longest_write) == 0)
        all++;
    CHECK(world, all < OBJECTS);
    CHECK(world, store_check(world->store) == 0);
    for (uint32_t object = 0; object < all; object++)
        CHECK(world, timed_write(owner, object, 0, &longest_delete) == 0);
    CHECK(world, longest_delete < 200 * NS_PER_MS);
    verify(owner, true);
    CHECK(world, store_check(world->store) == 0);
    world_close(world);
}

static void test_overwrite_full(void **state)
{
    struct owner *owner = calloc(1, sizeof *owner);
    world_init(&owner->world, 61, 72);
    owner->rounds = 1000; /* checkpoints not too often */
    world_run(&owner->world, overwrite_full, owner);
    assert_int_equal(owner->bad, 0);
    world_fini(&owner->world);
    free(owner);
}

/* ---- parts ---- */

/* A run that spans a staged write, a direct one and what is on the device already. */
static void span(void *arg)
{
    struct owner *owner = arg;
    struct world *world = &owner->world;
    static const uint32_t sizes[6] = {3, 40, 9, 9, 2, 1};
    world_format(world);
    open_owner(owner);
    uint8_t *data = mem_alloc_aligned(64 * STORE_BLOCK_BYTES, 4096);
    uint8_t *expected = mem_alloc(64 * STORE_BLOCK_BYTES);
    for (uint32_t wait = 0; wait < 200; wait++) {
        uint64_t first = 0, total = 0;
        for (uint32_t i = 0; i < ARRAY_COUNT(sizes); i++) {
            struct buf *buf = buf_new(sizes[i] * STORE_BLOCK_BYTES);
            struct store_extent extent;
            fill(buf->data, sizes[i], wait * 10 + i + 1);
            memcpy(expected + total * STORE_BLOCK_BYTES, buf->data, sizes[i] * STORE_BLOCK_BYTES);
            CHECK(world, store_extent_write(world->store, (struct buf_slice){buf, 0, buf->size},
                                            sizes[i], &extent) == 0);
            buf_put(buf);
            first = i == 0 ? extent.block : first;
            total += sizes[i];
            if (extent.block + sizes[i] != first + total)
                break; /* a new segment */
            fiber_sleep(random_below(&world->random, 200 * NS_PER_US));
            CHECK(world,
                  store_extent_read(world->store, (struct store_extent){first, (uint32_t)total, 0},
                                    0, (uint32_t)total, data) == 0);
            CHECK(world, memcmp(data, expected, total * STORE_BLOCK_BYTES) == 0);
        }
    }
    mem_free(data);
    mem_free(expected);
}

static void test_span(void **state)
{
    struct owner *owner = calloc(1, sizeof *owner);
    world_init(&owner->world, 51, 96);
    world_run(&owner->world, span, owner);
    world_fini(&owner->world);
    free(owner);
}

static void trim(void *arg)
{
    struct owner *owner = arg;
    struct world *world = &owner->world;
    world_format(world);
    open_owner(owner);
    struct buf *buf = buf_new(8 * STORE_BLOCK_BYTES);
    struct store_extent extent;
    uint8_t key[9];
    struct slice name = object_key(1, key);
    struct store_batch batch;
    store_batch_init(&batch);
    CHECK(world,
          store_extent_write(world->store, (struct buf_slice){buf, 0, buf->size}, 8, &extent) == 0);
    store_batch_extent_add(&batch, extent, name);
    store_commit(world->store, &batch);
    CHECK(world, world->store->live_data == 8);
    /* Keep blocks 0-1 and 5-7: drop all, add what stays. */
    store_batch_reset(&batch);
    store_batch_extent_del(&batch, extent);
    store_batch_extent_add(&batch, (struct store_extent){extent.block, 2, 0}, name);
    store_batch_extent_add(&batch, (struct store_extent){extent.block + 5, 3, 0}, name);
    store_commit(world->store, &batch);
    CHECK(world, world->store->live_data == 5);
    CHECK(world, store_check(world->store) == 0);
    world_close(world);
    open_owner(owner);
    CHECK(world, world->store->live_data == 5);
    CHECK(world, store_check(world->store) == 0);
    store_batch_fini(&batch);
    buf_put(buf);
}

static void test_trim(void **state)
{
    struct owner *owner = calloc(1, sizeof *owner);
    world_init(&owner->world, 41, 48);
    world_run(&owner->world, trim, owner);
    world_fini(&owner->world);
    free(owner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_span),  cmocka_unit_test(test_trim),
        cmocka_unit_test(test_churn), cmocka_unit_test(test_crashes),
        cmocka_unit_test(test_full),  cmocka_unit_test(test_overwrite_full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
