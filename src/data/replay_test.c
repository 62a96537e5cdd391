/* SPDX-License-Identifier: MIT */
/* Goal: a request that is sent again takes effect once, whatever became of its first copy. Method:
 * a request, another one over it that must stay, the first again; on fakes of store and group. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "data/data_fake_store.h"
#include "data/data_model.h"

enum { BLOCK = DATA_BLOCK_BYTES, SESSION = 9, OTHER = 10 };

/* Of a session: at is the file offset. */
struct ask {
    uint64_t session;
    uint64_t seq;
    uint64_t at;
    uint32_t bytes;
    uint8_t fill; /* of a write */
    bool retry;
};

static void init(struct world *world)
{
    struct store *stores[2] = {fake_store_new(1), fake_store_new(2)};
    world_init(world, stores, 1);
}

static int send(struct world *world, uint32_t host, enum rpc_type type, const struct ask *ask)
{
    const struct wire_obj_req body = {.session = ask->session,
                                      .slot = 3,
                                      .slot_seq = ask->seq,
                                      .ino = INO,
                                      .offset = (uint32_t)ask->at,
                                      .bytes = ask->bytes,
                                      .flags = ask->retry ? OBJ_RETRY : 0};
    struct fake_reply *reply = mem_zalloc(sizeof *reply);
    uint8_t *bytes = mem_alloc(ask->bytes);
    memset(bytes, ask->fill, ask->bytes);
    int result = fake_serve(&world->hosts[host], type, &body,
                            slice_of(bytes, type == RPC_OBJ_WRITE ? ask->bytes : 0), reply);
    mem_free(bytes);
    mem_free(reply);
    return result;
}

static int write(struct world *world, uint32_t host, const struct ask *ask)
{
    return send(world, host, RPC_OBJ_WRITE, ask);
}

/* What the file is to be from at on. */
static void expect(struct world *world, uint64_t at, uint32_t count, uint8_t fill)
{
    memset(world->model + at, fill, count);
}

/* ---- sent again when it is done -------------------------------------------------------------- */

static void done_fiber(void *arg)
{
    struct world *world = arg;
    const struct ask first = {SESSION, 1, 100, 2 * BLOCK, 'a', false};
    const struct ask over = {OTHER, 1, BLOCK, BLOCK, 'b', false};
    struct ask again = first;
    again.retry = true;
    init(world);
    REQUIRE(world, write(world, 0, &again) == 0); /* its first copy was lost on the way */
    REQUIRE(world, write(world, 0, &over) == 0);
    REQUIRE(world, write(world, 0, &again) == 0);
    expect(world, 100, 2 * BLOCK, 'a');
    expect(world, BLOCK, BLOCK, 'b');
    model_quiesce(world);
    model_check(world);

    /* the member, once it is the primary, knows it, too */
    world->hosts[0].primary = false;
    world->hosts[1].primary = true;
    REQUIRE(world, write(world, 1, &again) == 0);
    while (world->hosts[0].group.applied_seq < world->hosts[1].group.applied_seq)
        fiber_yield();
    world->hosts[1].primary = false;
    world->hosts[0].primary = true;
    model_check(world);

    /* the next one in the slot is another; the one before it has no business here any more */
    const struct ask next = {SESSION, 2, 0, BLOCK, 'c', true};
    REQUIRE(world, write(world, 0, &next) == 0);
    REQUIRE(world, write(world, 0, &again) == -ERR_CANCELED);
    expect(world, 0, BLOCK, 'c');
    model_quiesce(world);
    model_check(world);
    world->done = true;
}

static void test_done(void **state)
{
    struct world world = {0};
    model_run(done_fiber, &world);
}

/* ---- sent again while the first copy is under way -------------------------------------------- */

struct copy {
    struct world *world;
    struct ask ask;
    int result;
    bool ended;
};

static void copy_fiber(void *arg)
{
    struct copy *copy = arg;
    copy->result = write(copy->world, 0, &copy->ask);
    copy->ended = true;
}

static void settle(void)
{
    for (uint32_t i = 0; i < 1000; i++)
        fiber_yield();
}

static void underway_fiber(void *arg)
{
    struct world *world = arg;
    init(world);
    struct data_group *dg = data_group_of(world->hosts[0].service, FAKE_GROUP);
    static struct copy copies[3];
    copies[0] = (struct copy){world, {SESSION, 1, 0, BLOCK, 'a', false}, 1, false};
    copies[1] = (struct copy){world, {OTHER, 1, 0, BLOCK, 'b', false}, 1, false};
    copies[2] = (struct copy){world, {SESSION, 1, 0, BLOCK, 'a', true}, 1, false};
    struct data_lock lock;
    data_lock_take(dg, &lock, INO, 0, 1);
    for (uint32_t i = 0; i < ARRAY_COUNT(copies); i++)
        fiber_spawn("copy", copy_fiber, &copies[i]);
    settle();
    REQUIRE(world, !copies[0].ended && !copies[2].ended);
    data_lock_give(dg, &lock);
    while (!copies[2].ended)
        fiber_yield();
    for (uint32_t i = 0; i < ARRAY_COUNT(copies); i++)
        REQUIRE(world, copies[i].ended && copies[i].result == 0);
    expect(world, 0, BLOCK, 'b');
    model_quiesce(world);
    model_check(world);
    world->done = true;
}

static void test_underway(void **state)
{
    struct world world = {0};
    model_run(underway_fiber, &world);
}

/* The first copy waits at a primary whose epoch ends, and comes to nothing (R3). */
static void stale_fiber(void *arg)
{
    struct world *world = arg;
    init(world);
    struct data_group *dg = data_group_of(world->hosts[0].service, FAKE_GROUP);
    static struct copy old;
    const struct ask again = {SESSION, 1, 0, BLOCK, 'a', true};
    const struct ask over = {OTHER, 1, 0, BLOCK, 'b', false};
    old = (struct copy){world, {SESSION, 1, 0, BLOCK, 'a', false}, 1, false};
    struct data_lock lock;
    data_lock_take(dg, &lock, INO, 0, 1);
    fiber_spawn("copy", copy_fiber, &old);
    settle();
    world->hosts[0].epoch++;
    data_lock_give(dg, &lock);
    REQUIRE(world, write(world, 0, &again) == 0);
    REQUIRE(world, write(world, 0, &over) == 0);
    while (!old.ended)
        fiber_yield();
    REQUIRE(world, old.result == -ERR_WRONG_EPOCH);
    expect(world, 0, BLOCK, 'b');
    model_quiesce(world);
    model_check(world);
    world->done = true;
}

static void test_stale(void **state)
{
    struct world world = {0};
    model_run(stale_fiber, &world);
}

/* ---- a punch that was cut short -------------------------------------------------------------- */

/* A punch of the end of a block, a block, and the begin of one; its records are made in the order
 * block, end, begin, and the one after done fails. What is done then is written again. */
static void punch_after(struct world *world, uint64_t seq, uint32_t done)
{
    const struct ask base = {OTHER, 2 * seq, 0, 3 * BLOCK, 'x', false};
    const struct ask over = {OTHER, 2 * seq + 1, done > 1 ? 0 : BLOCK, done > 1 ? 2 * BLOCK : BLOCK,
                             'b',   false};
    struct ask punch = {SESSION, seq, 100, 2 * BLOCK, 0, false};
    REQUIRE(world, write(world, 0, &base) == 0);
    world->hosts[0].fails_in = done + 1;
    int result = send(world, 0, RPC_OBJ_PUNCH, &punch);
    REQUIRE(world, result == (done < 3 ? -ERR_NOT_PRIMARY : 0));
    world->hosts[0].fails_in = 0;
    if (done > 0)
        REQUIRE(world, write(world, 0, &over) == 0);
    punch.retry = true;
    REQUIRE(world, send(world, 0, RPC_OBJ_PUNCH, &punch) == 0);
    expect(world, 0, 3 * BLOCK, 'x');
    expect(world, 100, 2 * BLOCK, 0);
    if (done > 0)
        expect(world, over.at, over.bytes, 'b');
    model_quiesce(world);
    model_check(world);
}

static void punch_fiber(void *arg)
{
    struct world *world = arg;
    const struct ask over = {OTHER, 100, 0, 3 * BLOCK, 'b', false};
    const struct ask hole = {OTHER, 50, 0, 3 * BLOCK, 0, false};
    struct ask punch = {SESSION, 100, 100, 2 * BLOCK, 0, false};
    init(world);
    for (uint32_t done = 0; done <= 3; done++)
        punch_after(world, done + 1, done);

    /* of a hole: there is nothing to do, but not again either */
    REQUIRE(world, send(world, 0, RPC_OBJ_PUNCH, &hole) == 0);
    REQUIRE(world, send(world, 0, RPC_OBJ_PUNCH, &punch) == 0);
    REQUIRE(world, write(world, 0, &over) == 0);
    punch.retry = true;
    REQUIRE(world, send(world, 0, RPC_OBJ_PUNCH, &punch) == 0);
    expect(world, 0, 3 * BLOCK, 'b');
    model_quiesce(world);
    model_check(world);
    world->done = true;
}

static void test_punch(void **state)
{
    struct world world = {0};
    model_run(punch_fiber, &world);
}

/* ---- rows of silent sessions ----------------------------------------------------------------- */

static uint32_t request_rows(struct world *world, uint32_t host, uint64_t session)
{
    const struct store *store = world->hosts[host].store;
    uint32_t count = 0;
    for (uint32_t i = 0; i < store->row_count; i++) {
        struct disk_data_request row;
        count += data_request_parse(slice_of(store->rows[i].key, DATA_KEY_BYTES),
                                    slice_of(store->rows[i].value, store->rows[i].value_bytes),
                                    &row) == 0 &&
                 row.session == session;
    }
    return count;
}

static void silent_fiber(void *arg)
{
    struct world *world = arg;
    const struct ask once = {SESSION, 1, 0, BLOCK, 'a', false};
    struct ask last = {OTHER, 0, BLOCK, BLOCK, 'b', false};
    const struct ask over = {SESSION, 2, BLOCK, BLOCK, 'c', false};
    init(world);
    REQUIRE(world, write(world, 0, &once) == 0);
    for (uint32_t i = 0; i < 8; i++) {
        REQUIRE(world, request_rows(world, 0, SESSION) == 1 || i > 2);
        last.seq++;
        REQUIRE(world, write(world, 0, &last) == 0);
        fiber_sleep(1800 * NS_PER_S);
    }
    model_quiesce(world);
    for (uint32_t host = 0; host < 2; host++) {
        REQUIRE(world, request_rows(world, host, SESSION) == 0);
        REQUIRE(world, request_rows(world, host, OTHER) == 1);
    }
    last.retry = true;
    REQUIRE(world, write(world, 0, &over) == 0);
    REQUIRE(world, write(world, 0, &last) == 0);
    expect(world, 0, BLOCK, 'a');
    expect(world, BLOCK, BLOCK, 'c');
    model_quiesce(world);
    model_check(world);

    /* a row that changes while the record that names it is on its way stays */
    const struct disk_data_request old = {OTHER, 3, last.seq, DATA_PROGRESS_DONE};
    const struct ask next = {OTHER, last.seq + 1, BLOCK, BLOCK, 'd', false};
    REQUIRE(world, write(world, 0, &next) == 0);
    REQUIRE(world, data_append_forget(world->hosts[0].service, FAKE_GROUP, &old, 1) == 0);
    model_quiesce(world);
    REQUIRE(world, request_rows(world, 0, OTHER) == 1 && request_rows(world, 1, OTHER) == 1);
    world->done = true;
}

static void test_silent(void **state)
{
    struct world world = {0};
    model_run(silent_fiber, &world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_done),  cmocka_unit_test(test_underway), cmocka_unit_test(test_stale),
        cmocka_unit_test(test_punch), cmocka_unit_test(test_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
