/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_EXTENT_H
#define CFS_STORE_EXTENT_H

/* Data on its way to the device: see extent.c. Included by store_internal.h. */

enum extent_stream { STREAM_USER, STREAM_CLEANER, STREAM_COUNT };

/* One device write of data: staged (being gathered), or in flight. */
struct extent_write {
    struct list link; /* extents.writes, in order of seq */
    struct disk_io io;
    struct store *store;
    struct buf *buf;
    enum extent_stream stream;
    uint64_t seq;
    uint64_t block;
    uint32_t blocks;
    bool submitted;
    bool done;
};

/* An extent that no record refers to yet. */
struct extent_fresh {
    struct htable_node hash; /* by block */
    struct list link;        /* by age */
    uint64_t block;
    uint32_t blocks;
    uint32_t crc;
    uint64_t data_seq;
    uint64_t born_ns;
};

struct extents {
    struct list writes;
    uint64_t next_seq;  /* of the next write */
    uint64_t done_seq;  /* all writes up to it are complete */
    uint64_t in_flight; /* bytes staged or in flight */
    struct extent_write *staged[STREAM_COUNT];
    uint32_t segment[STREAM_COUNT]; /* open data segments */
    struct htable fresh;
    struct list fresh_by_age;
    struct list spare_writes; /* for the next ones: no malloc while data flow */
    struct list spare_fresh;
};

void extents_init(struct store *store);
void extents_fini(struct store *store);
/* Submit what is staged. */
void extents_push(struct store *store);
must_check int extents_write(struct store *store, enum extent_stream stream, struct buf_slice data,
                             uint32_t blocks, struct store_extent *ret_extent);
struct extent_fresh *fresh_find(struct store *store, struct store_extent extent);
void fresh_drop(struct store *store, struct extent_fresh *fresh);
/* Forget extents that nobody claimed in time. */
void fresh_expire(struct store *store);

/* Close the users' open segment if blocks more are not sure of a place in it: what is dead there
 * can be gained then. */
void extents_make_way(struct store *store, uint64_t blocks);

#endif
