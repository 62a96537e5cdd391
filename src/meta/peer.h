/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_PEER_H
#define CFS_META_PEER_H

/* What a coordinator says to the primaries of other groups, and a participant to the
 * coordinator's: by RPC, or by a plain call if the primary is this node. Routed by the map and
 * tried again until the deadline. */

#include "meta/meta_internal.h"

/* Bytes that a call brought home. */
struct peer_bytes {
    uint8_t *data;
    uint32_t bytes;
    uint32_t room;
};
void peer_bytes_fini(struct peer_bytes *bytes);
void *peer_bytes_add(struct peer_bytes *bytes, uint32_t count);

/* Lock one key and read it; txn->number 0: only read. Length or -ENOENT. -ERR_TXN_ABORTED. */
may_yield must_check int peer_lock_get(struct meta_service *service, const struct wire_txn_id *txn,
                                       struct slice key, void *value, uint32_t capacity);
may_yield must_check int peer_prepare(struct meta_service *service, uint32_t group,
                                      const struct wire_txn_id *txn, struct slice changes);
may_yield must_check int peer_finish(struct meta_service *service, uint32_t group,
                                     const struct wire_txn_id *txn, bool commit);
may_yield must_check int peer_status(struct meta_service *service, const struct wire_txn_id *txn,
                                     uint32_t *ret_outcome);

#endif
