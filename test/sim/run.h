/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_RUN_H
#define CFS_TEST_SIM_RUN_H

/* A scenario in a process of its own: an assertion that fails, or a loop that never ends, is a
 * failed run, not the end of the search. */

#include "world.h"

enum run_flags {
    RUN_TRACE = 1,   /* print what happens */
    RUN_SILENT = 2,  /* print nothing at all */
    RUN_SHIFTED = 4, /* with a heap that lies elsewhere */
};

/* Returns the CPU seconds it took. */
double run_scenario(const struct scenario *scenario, uint32_t flags,
                    struct world_result *ret_result);

/* Make a failing scenario smaller, as long as it fails: fewer kinds of damage, loads, clients,
 * operations. Takes up to a few dozen runs. */
void run_shrink(struct scenario *scenario);

#endif
