/* SPDX-License-Identifier: MIT */
#ifndef CFS_DATA_DATA_INTERNAL_H
#define CFS_DATA_DATA_INTERNAL_H

/* What the modules of the object service share. Theory in service.c. */

#include "base/htable.h"
#include "data/data.h"
#include "data/extent.h"

/* A replica of a data group, as far as this layer keeps state for it. Never freed. */
struct data_group {
    struct htable_node node; /* in data_service.groups, by id */
    uint32_t id;
    uint32_t holds;        /* apply or a scan is between its look at rows and its batch (D3) */
    uint64_t changes;      /* batches that changed rows, ever (D4) */
    struct waitq idle;     /* holds went to 0 */
    struct htable locks;   /* struct data_lock_queue by inode */
    struct htable callers; /* while primary: sessions that have rows (replay.c) */
};

enum { DATA_REPAIR_QUEUE_MAX = 256, DATA_LOST_MEMORY = 64, DATA_CUTS_MAX = 16384 };

/* The last truncation of an inode in a group that is done (cut.c). */
struct data_cut {
    struct htable_node node; /* in data_service.cuts, by inode */
    struct list link;        /* in data_service.cuts_by_age */
    uint64_t ino;
    uint64_t order;
    uint64_t change; /* the greatest of the inode at which one was done */
    uint32_t group;
};

struct data_service {
    struct rpc *rpc;
    struct group_host *host;
    struct store *store;
    struct data_counters counters;
    data_name_fn name_fn;
    void *name_context;
    struct htable groups;
    struct data_io *spare_io; /* one kept for the next request */
    struct store_iter *spare_iter;
    uint32_t zero_crc; /* of a block of zeroes */
    struct htable cuts;
    struct list cuts_by_age; /* the oldest first */
    uint32_t cut_count;

    struct fiber_mutex repair_mutex;
    struct data_key queue[DATA_REPAIR_QUEUE_MAX]; /* rows that somebody found damaged */
    uint32_t queue_count;
    struct waitq queue_filled;
    uint64_t lost[DATA_LOST_MEMORY]; /* hashes of rows whose loss has been reported */
    uint32_t lost_next;
    uint64_t scrub_rate; /* bytes per second; 0: never by itself */
    uint64_t scrub_every_ns;
};

/* Made on first use. */
struct data_group *data_group_of(struct data_service *service, uint32_t id);
void data_group_hold(struct data_group *dg);
void data_group_release(struct data_group *dg);

/* ---- lock.c: exclusive ranges of a file's blocks, first come first served -------------------- */

struct data_lock_queue;
struct data_lock {
    struct list link; /* in the queue, in order of arrival */
    struct data_lock_queue *queue;
    uint64_t first; /* positions [first, end) */
    uint64_t end;
    bool granted;
    struct waitq wait;
};
/* lock: the caller's memory until given back. */
may_yield void data_lock_take(struct data_group *dg, struct data_lock *lock, uint64_t ino,
                              uint64_t first, uint64_t end);
void data_lock_give(struct data_group *dg, struct data_lock *lock);

/* ---- look.c: rows of positions -----------------------------------------------------------------

 * All of these see applied state, as it was at one moment of the call (D4). Errors:
 * -ERR_CORRUPT_DISK (a row or tree node is malformed), -EIO. */

/* A run of a look-up's blocks that lies in one piece on the device. */
struct data_run {
    uint32_t first; /* index within the look-up */
    int result;     /* of reading it */
    struct store_extent extent;
};

/* One range of blocks of an object: where they are, what they should contain, and the bytes. */
struct data_io {
    uint32_t group;
    uint32_t blocks; /* <= DATA_WRITE_BLOCKS_MAX */
    uint64_t ino;
    uint64_t first; /* position */
    uint8_t *data;  /* blocks * 4 KiB, block-aligned; the caller's */
    uint32_t run_count;
    uint32_t bad_count;
    struct data_run runs[DATA_WRITE_BLOCKS_MAX]; /* ascending; between them are holes */
    uint32_t crcs[DATA_WRITE_BLOCKS_MAX];
    bool bad[DATA_WRITE_BLOCKS_MAX];
};
struct data_io *data_io_take(struct data_service *service);
void data_io_give(struct data_service *service, struct data_io *io);
/* Blocks up to the end of the last run: what is behind them was never written. */
uint32_t data_io_used(const struct data_io *io);

/* An iterator of store (the service's own, which while the store recovers is not known yet). */
struct store_iter *data_iter_take(struct data_service *service, struct store *store);
void data_iter_give(struct data_service *service, struct store_iter *iter);

/* Fill runs and crcs for the range that io names. */
may_yield must_check int data_look_range(struct data_service *service, struct data_io *io);

/* One row, copied. */
struct data_found {
    struct data_key key;
    struct data_row row; /* its crcs lie in value */
    uint32_t value_bytes;
    uint8_t value[DATA_VALUE_BYTES_MAX];
};
/* The row that covers a position. 1, or 0: a hole. */
may_yield must_check int data_look_row(struct data_service *service, uint32_t group, uint64_t ino,
                                       uint64_t position, struct data_found *found);
/* The row under key, guaranteed not to change before the caller yields: no apply is at work on the
 * group. 1, or 0: there is none. */
may_yield must_check int data_look_stable(struct data_service *service, struct slice key,
                                          struct data_found *found);
/* Where to end a cut that begins at first, so that it meets at most rows_max rows: *ret_end, at
 * most end. Returns how many rows it meets. */
may_yield must_check int data_look_cut(struct data_service *service, const struct data_io *io,
                                       uint64_t end, uint32_t rows_max, uint64_t *ret_end);

/* ---- read.c: bytes of positions ------------------------------------------------------------- */

/* Look up and read io's range; holes become zeroes; every block is verified. Blocks that could not
 * be had are marked in bad and counted. 0, or an error of the look-up. */
may_yield must_check int data_read_applied(struct data_service *service, struct data_io *io);
/* The same, with damage repaired from other members. -ERR_CORRUPT_DATA: some block is lost. */
may_yield must_check int data_read(struct data_service *service, struct data_io *io);

/* ---- repair.c -------------------------------------------------------------------------------- */

/* Get what is damaged in the row that covers io's block index from other members, put the row
 * right, and take its part of io's range from it. 0; -ERR_CORRUPT_DATA: that block is lost; errors
 * of a look-up. */
may_yield must_check int data_repair_block(struct data_service *service, struct data_io *io,
                                           uint32_t index);
/* Have the row looked at soon. Never yields; a full queue drops it (it will be found again). */
void data_repair_queue(struct data_service *service, struct slice key);
void data_repair_fiber(void *arg);

/* ---- scrub.c --------------------------------------------------------------------------------- */

void data_scrub_fiber(void *arg);

/* ---- apply.c, move.c: members of data_content_ops, and the mover ----------------------------- */

may_yield int data_apply(void *context, struct group *group, const struct store_log_record *record,
                         struct store_batch *batch);
bool data_extent_of(void *context, struct slice key, struct slice value,
                    struct store_extent *ret_extent);
void data_rebase(void *context, struct slice key, void *value, uint32_t value_bytes,
                 struct store_extent extent);
may_yield int data_read_row(void *context, struct slice key, struct slice value, void *data);
void data_hold(void *context, struct group *group, bool on);
may_yield int data_move(void *context, struct slice owner_key, struct store_extent from,
                        struct store_extent to, const void *data, struct store_batch *batch);

/* ---- append.c, write.c, cut.c: changes by the primary ---------------------------------------- */

/* A request that changes an object, on its way. */
struct data_change {
    struct data_service *service;
    struct group *group;
    struct data_group *dg;
    uint32_t epoch; /* when the rows were read: what was read holds only in it (D2) */
    uint64_t ino;
    struct disk_data_request request; /* progress: what was done of it before */
    struct data_lock lock;
};
/* Find the serving group, lock the positions, see what earlier copies of the request have done,
 * reserve space. 0: data_change_end is due; 1: it has been done; -ERR_CANCELED: a later one has;
 * errors of the group and the store. */
may_yield must_check int data_change_begin(struct data_service *service,
                                           const struct rpc_request *request, uint64_t first,
                                           uint64_t end, struct data_change *change);
void data_change_end(struct data_change *change);
/* Log the blocks as the content from first on, and wait until that has been applied. data: whole
 * blocks. progress: how much of the request is done with that (R1). */
may_yield must_check int data_append_write(struct data_change *change, uint64_t first,
                                           struct buf_slice data, const uint32_t *crcs,
                                           uint64_t progress);
may_yield must_check int data_append_cut(struct data_change *change, uint64_t first, uint64_t end,
                                         uint64_t progress);
/* Log that the rows are to go, if they are still so. */
may_yield must_check int data_append_forget(struct data_service *service, uint32_t group,
                                            const struct disk_data_request *rows, uint32_t count);
/* Has the inode been truncated here since its change was as in body? */
bool data_is_cut(const struct data_service *service, uint32_t group,
                 const struct wire_obj_req *body);

/* ---- replay.c: at most once ------------------------------------------------------------------ */

/* What earlier copies of change->request, which holds its lock, have done: into its progress. 1:
 * all of it; 0: not all; -ERR_CANCELED: the slot has moved on; errors of store_get. */
may_yield must_check int data_replay_look(struct data_change *change, bool retry);
/* Apply: the row of a record's request. */
void data_replay_put(struct data_service *service, uint32_t group,
                     const struct disk_data_request *request, struct store_batch *batch);
/* Apply: a FORGET record. -ERR_CORRUPT_WIRE or errors of store_get. */
may_yield must_check int data_replay_forget(struct store *store, uint32_t group,
                                            const struct data_record *data,
                                            struct store_batch *batch);
/* The replica is primary no more. */
void data_replay_ceased(struct data_group *dg);
/* Forgets requests of sessions that are silent. */
void data_replay_fiber(void *arg);

may_yield void data_serve_write(struct data_service *service, struct rpc_request *request);
may_yield void data_serve_truncate(struct data_service *service, struct rpc_request *request);
may_yield void data_serve_punch(struct data_service *service, struct rpc_request *request);

#endif
