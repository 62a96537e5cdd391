/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_SCRUB_H
#define CFS_STORE_SCRUB_H

#include "store/extent_walk.h"
#include "store/store_internal.h"

/* A scrub that runs: see scrub.c. */
struct scrub {
    struct store *store;
    uint64_t rate;    /* bytes per second; 0: no limit */
    uint64_t next_ns; /* not to read on before */
    store_scrub_fn fn;
    void *context;
    uint8_t *node;
    struct buf *buf;
    struct extent_window window;
    uint64_t kept_bytes;  /* what had been read when the place was kept last */
    uint64_t block;       /* data: from here on; 0: the tree is not done yet */
    uint32_t upper_bytes; /* of upper: where the next branch begins; 0: there is none */
    uint8_t upper[NODE_KEY_MAX];
};

/* Account for bytes read, and wait as long as they may take. */
may_yield void scrub_pace(struct scrub *scrub, uint64_t bytes);
/* Superblocks and journal. What is bad there is logged, counted, and made good by a checkpoint. */
may_yield void scrub_recovery(struct scrub *scrub);

#endif
