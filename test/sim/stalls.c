/* SPDX-License-Identifier: MIT */
/* No client waits long for anything while all that happens is the loss of one node after another.
 *
 * That everything is well in the end does not show how long a single operation was held up. As long
 * as one node at a time dies, falls silent, comes, goes or loses its connections, an operation may
 * wait for the detection (1.5 s of lease, and an election if the node led the map), the takeover
 * and the repetition, and for nothing else, however long the node stays away: 3 s have been seen,
 * and one may meet two losses in a row. Damage that slows
 * things down, several victims at once and blackouts are *rough*: what overlaps them, or the time
 * until all is whole again, is not judged. On full disks writers also wait for the cleaner: 3 s for
 * each request of an operation, and then they are told that there is no room. */
#include "stalls.h"

#include "base/assert.h"
#include "world.h"

#define STALL_MAX_NS      (6 * NS_PER_S)
#define STALL_FULL_MAX_NS (12 * NS_PER_S)

static const uint32_t losses = 1u << FAULT_CRASH | 1u << FAULT_POWER | 1u << FAULT_PAUSE |
                               1u << FAULT_CUT | 1u << FAULT_RESET | 1u << FAULT_CLIENT |
                               1u << FAULT_JOIN | 1u << FAULT_DRAIN | 1u << FAULT_LOST;

bool stalls_is_loss(enum fault_kind kind)
{
    assert(kind < FAULT_KINDS);
    return losses & (1u << kind);
}

void stalls_rough(struct stalls *stalls, bool on)
{
    assert(!on || !stalls->rough);
    stalls->rough = on;
    stalls->roughs += on;
}

struct stalls_op stalls_begin(const struct world *world)
{
    return (struct stalls_op){world_now_ns(world), world->stalls.roughs, world->stalls.rough};
}

void stalls_end(struct world *world, const struct stalls_op *op, uint32_t client, const char *what)
{
    struct stalls *stalls = &world->stalls;
    uint64_t took_ns = world_now_ns(world) - op->begin_ns;
    if (op->rough || stalls->roughs != op->roughs)
        return;
    uint64_t most_ns = world->scenario.small ? STALL_FULL_MAX_NS : STALL_MAX_NS;
    stalls->longest_ns = MAX(stalls->longest_ns, took_ns);
    if (took_ns > most_ns)
        world_fail(world,
                   "client%u %s: an operation of %.2f s, in which no more than single nodes "
                   "were lost",
                   client, what, (double)took_ns / 1e9);
}
