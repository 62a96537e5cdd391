/* SPDX-License-Identifier: MIT */
#ifndef CFS_CRASH_VERIFY_H
#define CFS_CRASH_VERIFY_H

/* The judge: open the store on the image in the machine, and compare. */

#include "workload.h"

struct verify {
    const struct run *run; /* that the image is of */
    struct mark mark;      /* at the crash point */
    bool read_first;       /* open it to be read only before */
    bool go_on;            /* use it afterwards, and look again */
    /* Results. */
    int32_t found; /* operations in the image; -1: no store, or the one before a format */
    struct run scratch;
    struct history *scratch_history;
};

void verify_init(struct verify *verify);
void verify_fini(struct verify *verify);
/* False: verify->scratch.owner.trouble and detail say what is wrong. The machine holds what the
 * recovery made of the image. */
bool verify_image(struct verify *verify, struct machine *machine, uint64_t seed);

#endif
