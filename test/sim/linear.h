/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_LINEAR_H
#define CFS_TEST_SIM_LINEAR_H

/* Is there an order of these operations, each at one moment between its beginning and its end, in
 * which a sequential model gives the recorded answers? */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINEAR_NEVER UINT64_MAX /* end of an operation whose answer nobody got */

struct linear_op {
    uint64_t begin; /* moments: any numbers that grow, no two equal */
    uint64_t end;   /* or LINEAR_NEVER: it may have happened at any time since, or never */
    const void *op; /* for the model */
};

struct linear_model {
    size_t state_bytes;
    /* Carry out op on state. False: the recorded answer does not fit (state is then not used). An
     * operation without an answer that would change nothing may say false, too. */
    bool (*step)(const void *context, void *state, const void *op);
    const void *context;
};

enum linear_result { LINEAR_YES, LINEAR_NO, LINEAR_UNDECIDED };

/* ops: in order of begin. state: at the start; left at the end of the longest order found.
 * steps_max: effort after which it is LINEAR_UNDECIDED. *ret_stuck: for LINEAR_NO, index of the
 * operation that cannot be placed after the longest order found. */
enum linear_result linear_check(const struct linear_model *model, const struct linear_op *ops,
                                uint32_t count, void *state, uint64_t steps_max,
                                uint32_t *ret_stuck);

#endif
