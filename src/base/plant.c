/* SPDX-License-Identifier: MIT */
/* Part of builds with -Dplants=true only. */
#include "base/plant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static const char *const names[] = {
#define X(name, detectors, seeds, what) #name,
#include "base/plant_table.h"
#undef X
};

bool plant_is(enum plant plant)
{
    static enum plant chosen = PLANTS + 1; /* not looked yet: one process, one thread, one plant */
    if (chosen == PLANTS + 1) {
        const char *text = getenv("CFS_PLANT");
        chosen = PLANTS;
        for (int i = 0; text && text[0] && i < PLANTS; i++)
            if (strcmp(text, names[i]) == 0)
                chosen = (enum plant)i;
        if (text && text[0] && chosen == PLANTS) {
            fprintf(stderr, "CFS_PLANT=%s: there is no such plant\n", text);
            abort();
        }
    }
    assert(plant < PLANTS);
    return plant == chosen;
}
