/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_REPLAY_H
#define CFS_META_REPLAY_H

/* Exactly once: what each session's slots did last (theory in replay.c). */

#include "meta/meta_internal.h"

struct meta_replay;

/* A changing request begins. 0: it is new; *ret_replay has to be ended. 1: it has happened,
 * *ret_done says what came of it, and seen_seq covers that. -ERR_CANCELED: the slot has moved on;
 * -ERR_BUSY: the first try is still running at the deadline; -ERR_NOT_PRIMARY, -EIO. */
may_yield must_check int meta_replay_begin(struct meta_group *mg, const struct wire_meta_req *req,
                                           uint64_t deadline_ns, uint64_t *seen_seq,
                                           struct disk_request *ret_done,
                                           struct meta_replay **ret_replay);
void meta_replay_end(struct meta_replay *replay);
/* mg->purge_timer: remove what silent sessions have left. */
void meta_replay_purge(struct timer *timer);
/* The group has ceased. */
void meta_replay_wake_all(struct meta_group *mg);
void meta_replay_forget(struct meta_group *mg);

#endif
