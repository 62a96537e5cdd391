/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_PLANT_H
#define CFS_BASE_PLANT_H

/* Planted bugs: faults in real code, to see whether the tests would notice (./dev plants).
 *
 *     if (result == 0 && !PLANT(STORE_SUPER_UNFLUSHED))
 *         result = disk_flush(store->disk);
 *
 * Only a build with -Dplants=true has any: there, PLANT(X) is true in a process whose environment
 * says CFS_PLANT=X. Everywhere else it is constant false and leaves nothing behind, which
 * tools/check-symbols looks at. */

#include <stdbool.h>

enum plant {
#define X(name, detectors, seeds, what) PLANT_##name,
#include "base/plant_table.h"
#undef X
    PLANTS
};

#ifdef CFS_PLANTS
/* Is this the plant of the process? */
bool plant_is(enum plant plant);
#define PLANT(name) plant_is(PLANT_##name)
#else
#define PLANT(name) ((void)PLANT_##name, false)
#endif

#endif
