/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_LOCK_H
#define CFS_META_LOCK_H

/* Exclusive locks on keys, in the memory of the primary. */

#include "meta/meta_internal.h"

/* All locks of one owner: a transaction here, or the share in somebody else's. */
struct meta_locks {
    struct meta_group *mg;
    struct list held;
    bool prepared; /* readers wait for these */
};

void meta_locks_init(struct meta_locks *locks, struct meta_group *mg);
/* Lock key, unless the owner has it already. 0, -ERR_TXN_ABORTED: not to be had before the
 * deadline (a deadlock, perhaps), -ERR_NOT_PRIMARY: the group has ceased. */
may_yield must_check int meta_lock_take(struct meta_locks *locks, struct slice key,
                                        uint64_t deadline_ns);
bool meta_lock_held(const struct meta_locks *locks, struct slice key);
/* From now on readers wait, too. */
void meta_locks_prepared(struct meta_locks *locks);
void meta_locks_release(struct meta_locks *locks);
/* Wait until no prepared transaction holds key; with any: until nobody holds it.
 * 0, -ERR_BUSY, -ERR_NOT_PRIMARY. */
may_yield must_check int meta_lock_wait(struct meta_group *mg, struct slice key, bool any,
                                        uint64_t deadline_ns);
/* The group has ceased: let everybody see. */
void meta_lock_wake_all(struct meta_group *mg);

#endif
