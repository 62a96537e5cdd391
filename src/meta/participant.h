/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_PARTICIPANT_H
#define CFS_META_PARTICIPANT_H

/* A group's share in transactions that another group coordinates (theory in txn.c). */

#include "meta/peer.h"

/* The process that runs a transaction. */
struct part_coordinator {
    uint32_t node;
    uint64_t incarnation;
};

/* keys, values: as in TXN_LOCK. -ERR_TXN_ABORTED, -ERR_CORRUPT_WIRE. */
may_yield must_check int participant_lock(struct meta_group *mg, const struct wire_txn_id *txn,
                                          struct slice keys, const struct wire_txn_lock_req *req,
                                          struct part_coordinator from, struct peer_bytes *values);
may_yield must_check int participant_prepare(struct meta_group *mg, const struct wire_txn_id *txn,
                                             struct slice changes);
may_yield must_check int participant_finish(struct meta_group *mg, const struct wire_txn_id *txn,
                                            bool commit);
/* A prepared transaction found in the table by a new primary: lock its keys again. */
must_check int participant_resume(struct meta_group *mg, const struct wire_txn_id *txn,
                                  struct slice changes);
/* A new map: shares whose coordinator leads no more are not waited for. */
void participant_map_changed(struct meta_group *mg, const struct map_view *view);
/* The group has ceased: stop timers. And free all (no reference is left). */
void participant_stop(struct meta_group *mg);
void participant_free(struct meta_group *mg);

#endif
