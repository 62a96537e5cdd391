/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_REAPER_H
#define CFS_META_REAPER_H

/* Deletion of inodes that have no name left and are not open. */

#include "meta/meta_internal.h"

/* ino has an ORPHAN row. */
void meta_reaper_add(struct meta_group *mg, uint64_t ino);
/* Look again: something was closed. */
void meta_reaper_kick(struct meta_group *mg);
/* Forget all of a group that has ceased. */
void meta_reaper_forget(struct meta_group *mg);

#endif
