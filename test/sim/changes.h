/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_CHANGES_H
#define CFS_TEST_SIM_CHANGES_H

/* Nodes that come and go for good. In the director's fiber. */

#include "base/defs.h"

struct world;

enum { CHANGES_NODES_MIN = 3 };

uint32_t changes_live(const struct world *world);
/* Are there more nodes than the copies (and the map group) need? */
bool changes_can_lose(const struct world *world);
/* A further node starts and registers itself. False: there are too many. */
may_yield bool changes_join(struct world *world);
/* Everything is to leave a node. False: the run has failed. */
may_yield bool changes_drain(struct world *world, uint32_t node);
/* Take a node out of the map: a dead one, or one that is being drained, when it is empty. */
may_yield void changes_remove(struct world *world, uint32_t node);

#endif
