/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_ZONE_H
#define CFS_STORE_ZONE_H

/* What a zoned device asks of the store: see zone.c. All of it does nothing on other devices. */

#include "env/env.h"
#include "store/store.h"

/* Bytes of a segment of a new store on this device, which has zones; 0: they are too large. */
uint32_t zone_segment_bytes(const struct disk *disk);
/* Do segments of so many blocks consist of whole zones, in each half? */
bool zone_geometry_fits(const struct disk *disk, uint32_t segment_blocks);
/* The segment takes no more writes. Does not wait; a failure fences the store. */
void zone_seal(struct store *store, uint32_t index);
/* After recovery: seal or empty what a crash left partly written and nobody will go on with.
 * A negative error of the device. */
may_yield must_check int zone_settle(struct store *store);
/* Recovery: can writing go on at this block of the segment? */
bool zone_resumable(const struct store *store, uint32_t index, uint32_t block);

#endif
