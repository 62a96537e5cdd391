/* SPDX-License-Identifier: MIT */
#ifndef CFS_CRASH_IMAGE_H
#define CFS_CRASH_IMAGE_H

/* Crash images: what the medium may hold when the power goes. See image.c. */

#include <stdio.h>

#include "machine.h"

/* Sectors of one page of one write that reached the medium. */
struct piece {
    uint32_t write;
    uint32_t page; /* of the write */
    uint8_t mask;
};

/* A walk over the crash points of a trace. The machine's content is kept equal to base. */
struct images {
    const struct trace *trace;
    struct machine *machine;
    uint8_t *base;       /* all that is durable at the point */
    uint64_t *page_hash; /* of base */
    uint64_t base_hash;
    uint64_t seed;
    uint32_t point; /* the power goes before this event */
    struct mark mark;
    uint32_t *loose; /* writes that are not durable at the point, in order of effect */
    uint32_t loose_count;
    struct piece *pieces; /* of the image composed last, in order of effect */
    uint32_t piece_count;
    uint32_t piece_room;
    bool *zones_cut; /* while composing: nothing more survives in the zone */
};

/* machine: as it is after the recording; base: what it held before (owned by images now). */
void images_init(struct images *images, struct machine *machine, uint8_t *base,
                 const struct trace *trace, uint64_t seed);
void images_fini(struct images *images);
/* Go on to the next point at which other images are possible, or more is promised. The first is
 * before anything happened. False: the trace is over. */
bool images_next(struct images *images);
/* How many variants are worth trying here, at most. */
uint32_t images_variants(const struct images *images, uint32_t most);
/* Choose what of the loose writes survives. The same variant is always the same choice. */
void images_compose(struct images *images, uint32_t variant);
/* Put the composed image into the machine; its hash. */
uint64_t images_load(struct images *images);
/* What became of each loose write. */
void images_describe(const struct images *images, FILE *to);

#endif
