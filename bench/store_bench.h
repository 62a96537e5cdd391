/* SPDX-License-Identifier: MIT */
#ifndef CFS_BENCH_STORE_BENCH_H
#define CFS_BENCH_STORE_BENCH_H

/* The bench of one store alone: see store_bench.c. */

#include "base/buf.h"
#include "base/random.h"
#include "env/linux.h"
#include "store/store.h"

struct bench {
    struct reactor *reactor;
    const char *path;
    const char *only; /* part of the rows' names; NULL: all */
    uint64_t size_bytes;
    uint64_t memory_bytes;
    uint64_t row_ns;       /* how long a row may take */
    uint64_t growth_files; /* of the row "growth" */
    struct disk *disk;
    struct store *store;
    struct random random;
    struct waitq done;
    uint32_t running; /* fibers */
    /* The row that runs. */
    uint64_t next; /* operations begun */
    uint64_t limit;
    uint64_t deadline_ns;
    uint64_t stall_ns; /* the longest operation */
    uint64_t allocs;
    struct store_extent *extents; /* of the data rows */
    uint64_t extent_count;
    void *context; /* of the row */
    bool at_once;  /* rows begin while the store may still be busy with the one before */
};

/* A row: fibers call fn, which loops while bench_next. */
struct bench_row {
    const char *name;
    fiber_fn fn;
    uint32_t fibers;
    uint64_t limit;    /* operations at most; 0: as many as time allows */
    uint64_t op_bytes; /* of data; 0: none */
};

/* Print what is wrong and end, if result is an error. */
void bench_check(int result, const char *what);
/* Shall the calling fiber do another operation? Its number, from 0, in *ret_index. */
bool bench_next(struct bench *bench, uint64_t *ret_index);
/* An operation that began at start_ns has ended. */
void bench_op_done(struct bench *bench, uint64_t start_ns);
/* All of a fiber whose operations each fill and commit a batch. one must not keep the batch. */
typedef void (*bench_batch_fn)(struct bench *bench, uint64_t index, struct store_batch *batch);
void bench_batches(struct bench *bench, bench_batch_fn one);
/* A fiber of a row ends. */
void bench_fiber_done(struct bench *bench);
bool bench_wants(const struct bench *bench, const char *name);
/* Wait until the store does nothing in the background. */
void bench_settle(const struct bench *bench);
/* Run a row and print its line. */
void bench_run(struct bench *bench, const struct bench_row *row);
/* A new, empty store in bench->store, and its end. */
void bench_open(struct bench *bench);
void bench_close(struct bench *bench);

/* Rows' fibers that others use too: transactions of one small row each. */
void bench_commit_only(void *arg);
void bench_commit_durable(void *arg);

/* Groups of rows. */
void bench_transactions(struct bench *bench);
void bench_flush(struct bench *bench);
void bench_pause(struct bench *bench);
void bench_data(struct bench *bench);
void bench_full(struct bench *bench);
void bench_growth(struct bench *bench);

#endif
