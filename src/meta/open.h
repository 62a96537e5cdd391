/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_OPEN_H
#define CFS_META_OPEN_H

/* Open files, by session and inode, in the memory of the primary. An inode without names lives on
 * while it is open; clients tell a new primary again what they have open. */

#include "meta/meta_internal.h"

/* Register; returns the open's id, never 0. wanted: the id that the session has chosen, so that
 * registering again changes nothing; 0: choose one. */
uint64_t meta_open_add(struct meta_group *mg, uint64_t session, uint64_t ino, uint64_t wanted);
/* Unknown ids are fine. */
void meta_open_remove(struct meta_group *mg, uint64_t session, uint64_t ino, uint64_t open_id);
bool meta_open_any(const struct meta_group *mg, uint64_t ino);
/* Forget all of a group that has ceased. */
void meta_open_forget(struct meta_group *mg);

/* A request of the session came in: it is alive. */
void meta_session_touch(struct meta_service *service, uint64_t session);

#endif
