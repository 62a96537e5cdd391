/* SPDX-License-Identifier: MIT */
#ifndef CFS_MAP_MAP_DELTA_H
#define CFS_MAP_MAP_DELTA_H

/* What has changed between two maps, instead of the whole newer one: a map has hundreds of KiB, a
 * change mostly one group. Theory: map_delta.c. */

#include "map/map_internal.h"

enum { MAP_HISTORY_MAX = 128 };

/* What one version changed. */
struct map_change {
    uint64_t version;
    uint32_t node_count;
    uint32_t group_count;
    uint32_t *indexes; /* of nodes, then of groups; ascending */
};

/* The last versions of one server's map, oldest first; without gaps. */
struct map_history {
    uint32_t count;
    uint32_t first;
    struct map_change changes[MAP_HISTORY_MAX];
    /* The delta that was asked for last: mostly everybody asks for the same one. */
    struct buf *delta; /* or NULL */
    uint32_t delta_bytes;
    uint64_t delta_from;
    uint64_t delta_to;
};

/* view follows before (NULL: nothing). Forgets all if the two differ in size or slots. */
void map_history_note(struct map_history *history, const struct map_view *before,
                      const struct map_view *view);
/* From version from to view (which was noted last), as bytes: a reference of the caller's, to read
 * only. NULL: the history does not reach back, or the whole map is no larger. */
struct buf *map_history_delta(struct map_history *history, const struct map_view *view,
                              uint64_t from, uint32_t *ret_bytes);
/* The newer map. 0, -ERR_CORRUPT_WIRE: malformed, or not made for this one. */
must_check int map_delta_apply(const struct map_view *view, const void *bytes, uint32_t count,
                               struct map_view **ret_view);

#endif
