/* SPDX-License-Identifier: MIT */
#ifndef CFS_DATA_DATA_MODEL_H
#define CFS_DATA_DATA_MODEL_H

/* Two members and a flat array of bytes that one file must equal. */

#include "data/data_fake.h"

enum { INO = 0x123456, MODEL_BYTES = 2 * OBJECT_BYTES };

struct sim;

struct world {
    struct sim *sim;
    struct group_host *hosts;
    struct rpc *rpcs;
    struct random random;
    uint8_t *model;
    uint8_t *bytes; /* scratch */
    const char *wrong;
    uint32_t running;
    bool done;
    uint32_t live;
};

#define REQUIRE(world, condition)                                                                  \
    do {                                                                                           \
        if (!(condition) && !(world)->wrong)                                                       \
            (world)->wrong = #condition;                                                           \
    } while (0)

/* Both members up, on the given stores. Called on a fiber. */
void world_init(struct world *world, struct store *stores[2], uint64_t seed);
/* One request to the primary at file offset at; its status. */
may_yield int model_call(struct world *world, enum rpc_type type, uint64_t at, uint32_t count,
                         const uint8_t *bytes);
/* Read the blocks around the range from a member and compare the range with the model. */
may_yield int model_check_range(struct world *world, uint32_t member, uint64_t at, uint32_t count);
may_yield void model_check(struct world *world);   /* all of both members */
may_yield void model_quiesce(struct world *world); /* wait until both have applied all */
/* A random request within [from, to), here and in the model. */
may_yield void model_step(struct world *world, uint64_t from, uint64_t to);
may_yield void model_truncate(struct world *world, uint64_t at);
/* Run fn(world) as a fiber in a simulated world until world.done; fails if world.wrong is set. */
void model_run(fiber_fn fn, struct world *world);

#endif
