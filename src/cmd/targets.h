/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_TARGETS_H
#define CFS_CMD_TARGETS_H

/* The further targets of a server: one thread with a reactor each (the first is the caller's). */

#include "node/node.h"

enum { TARGETS_MAX = 256 };

struct targets;

/* Start targets 1 to first->slice.count - 1, each on a thread of its own. first: how target 0 is
 * started; the others differ in slice.index alone. Its fenced callback is called on their threads.
 * Until they have stopped, what first points to must not change. -errno: a thread cannot be had;
 * the process has to end. */
must_check int targets_start(const struct node_options *first, struct targets **ret_targets);
/* Wait until all listen. 0, or the first error (which has been logged). */
may_yield must_check int targets_wait_started(struct targets *targets);
/* End all in order: flush and close their stores. 0, or the first error. */
may_yield must_check int targets_stop(struct targets *targets);

#endif
