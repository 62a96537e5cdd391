/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_STALLS_H
#define CFS_TEST_SIM_STALLS_H

/* How long single operations are held up; see stalls.c. */

#include <stdbool.h>
#include <stdint.h>

#include "scenario.h"

struct world;

struct stalls {
    bool rough;          /* there is damage that may hold operations up for long */
    uint32_t roughs;     /* how often there was some */
    uint64_t longest_ns; /* of the operations judged */
};

struct stalls_op {
    uint64_t begin_ns;
    uint32_t roughs;
    bool rough;
};

/* Is such damage no more than the loss of a node? */
bool stalls_is_loss(enum fault_kind kind);
/* More than that begins; all is whole again. */
void stalls_rough(struct stalls *stalls, bool on);
/* An operation of a client. It fails the run if it took too long. */
struct stalls_op stalls_begin(const struct world *world);
void stalls_end(struct world *world, const struct stalls_op *op, uint32_t client, const char *what);

#endif
