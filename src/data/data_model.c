/* SPDX-License-Identifier: MIT */
#include "data/data_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "env/sim.h"

void world_init(struct world *world, struct store *stores[2], uint64_t seed)
{
    world->hosts = mem_alloc(2 * sizeof *world->hosts);
    world->rpcs = mem_alloc(2 * sizeof *world->rpcs);
    world->model = mem_zalloc(MODEL_BYTES);
    world->bytes = mem_alloc(MODEL_BYTES);
    random_init(&world->random, seed);
    for (uint32_t i = 0; i < MODEL_BYTES; i++)
        world->bytes[i] = (uint8_t)random_u64(&world->random);
    fake_pair_init(world->hosts, world->rpcs, stores, seed);
}

int model_call(struct world *world, enum rpc_type type, uint64_t at, uint32_t count,
               const uint8_t *bytes)
{
    struct fake_reply *reply = mem_zalloc(sizeof *reply);
    const struct wire_obj_req body = {.ino = INO,
                                      .index = (uint32_t)(at / OBJECT_BYTES),
                                      .offset = (uint32_t)(at % OBJECT_BYTES),
                                      .bytes = count};
    int result =
        fake_serve(&world->hosts[0], type, &body, slice_of(bytes, bytes ? count : 0), reply);
    mem_free(reply);
    return result;
}

/* Read the blocks around the range from a member and compare the range with the model. */
int model_check_range(struct world *world, uint32_t member, uint64_t at, uint32_t count)
{
    uint64_t first = round_down(at, DATA_BLOCK_BYTES);
    uint64_t end = round_up(at + count, DATA_BLOCK_BYTES);
    const struct wire_obj_req body = {.ino = INO,
                                      .index = (uint32_t)(first / OBJECT_BYTES),
                                      .offset = (uint32_t)(first % OBJECT_BYTES),
                                      .bytes = (uint32_t)(end - first)};
    struct fake_reply *reply = mem_zalloc(sizeof *reply);
    reply->data = mem_zalloc(end - first);
    int result = fake_serve(&world->hosts[member], member == 0 ? RPC_OBJ_READ : RPC_OBJ_FETCH,
                            &body, (struct slice){0}, reply);
    if (result == 0) {
        REQUIRE(world, reply->crc_count * DATA_BLOCK_BYTES == reply->bytes);
        for (uint32_t i = 0; i < reply->crc_count; i++)
            REQUIRE(world, reply->crcs[i] ==
                               crc32c(0, reply->data + i * DATA_BLOCK_BYTES, DATA_BLOCK_BYTES));
        REQUIRE(world, memcmp(reply->data + (at - first), world->model + at, count) == 0);
    }
    mem_free(reply->data);
    mem_free(reply);
    return result;
}

void model_check(struct world *world)
{
    for (uint32_t member = 0; member < 2; member++) {
        for (uint64_t at = 0; at < MODEL_BYTES; at += DATA_IO_MAX)
            REQUIRE(world, model_check_range(world, member, at, DATA_IO_MAX) == 0);
    }
}

void model_quiesce(struct world *world)
{
    const struct group_host *hosts = world->hosts;
    while (!list_empty(&hosts[1].records) ||
           hosts[1].group.applied_seq < hosts[0].group.applied_seq)
        fiber_yield();
}

/* A range within [from, to), of any alignment, mostly small, within one object. */
static void pick(struct world *world, uint64_t from, uint64_t to, uint64_t *ret_at,
                 uint32_t *ret_count)
{
    uint64_t at = from + random_below(&world->random, to - from);
    uint64_t max = random_chance(&world->random, 1, 8) ? DATA_IO_MAX : 9000;
    uint64_t count = 1 + random_below(&world->random, max);
    if (random_chance(&world->random, 1, 3)) {
        at = MAX(from, round_down(at, DATA_BLOCK_BYTES));
        count = round_up(count, DATA_BLOCK_BYTES);
    }
    count = MIN(count, to - at);
    count = MIN(count, OBJECT_BYTES - at % OBJECT_BYTES);
    *ret_at = at;
    *ret_count = (uint32_t)count;
}

void model_step(struct world *world, uint64_t from, uint64_t to)
{
    uint64_t at;
    uint32_t count;
    pick(world, from, to, &at, &count);
    switch (random_below(&world->random, 8)) {
    case 0:
    case 1:
    case 2:
    case 3: {
        const uint8_t *bytes = world->bytes + random_below(&world->random, DATA_IO_MAX);
        memcpy(world->model + at, bytes, count);
        REQUIRE(world, model_call(world, RPC_OBJ_WRITE, at, count, bytes) == 0);
        break;
    }
    case 4:
        memset(world->model + at, 0, count);
        REQUIRE(world, model_call(world, RPC_OBJ_PUNCH, at, count, NULL) == 0);
        break;
    default:
        REQUIRE(world, model_check_range(world, 0, at, count) == 0);
    }
}

void model_truncate(struct world *world, uint64_t at)
{
    memset(world->model + at, 0, MODEL_BYTES - at);
    REQUIRE(world, model_call(world, RPC_OBJ_TRUNCATE, at, 0, NULL) == 0);
}

static bool is_done(void *context)
{
    return ((struct world *)context)->done;
}

void model_run(fiber_fn fn, struct world *world)
{
    struct sim *sim = sim_new(1);
    struct sim_node *node = sim_node_new(sim, "10.0.0.1");
    world->sim = sim;
    reactor_spawn(sim_node_reactor(node), "test", fn, world);
    bool finished = sim_run_until(sim, is_done, world, 24 * 3600 * NS_PER_S);
    sim_free(sim);
    if (world->wrong)
        print_error("%s\n", world->wrong);
    assert_null(world->wrong);
    assert_true(finished);
}
