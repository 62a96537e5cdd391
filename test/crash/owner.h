/* SPDX-License-Identifier: MIT */
#ifndef CFS_CRASH_OWNER_H
#define CFS_CRASH_OWNER_H

/* The store's user in the crash test: a few objects, kept in rows and extents, changed by local
 * commits and by log records; and the oracle, which knows the state after every operation. */

#include "base/random.h"
#include "store/store_internal.h"

#undef assert
#define assert(expression)                                                                         \
    (__builtin_expect(!!(expression), 1) ? (void)0                                                 \
                                         : assert_fail(#expression, __FILE__, __LINE__, __func__))

struct mark;

enum {
    OBJECTS_MAX = 48,
    WINDOW = 4, /* log records prepared at a time */
    HISTORY_MAX = 1500,
    PAD_MAX = 5900, /* inline bytes of a row */
    GROUP = 9,
    OBJECT_TABLE = 0x20,
    BULK_TABLE = 0x21,
    BULK_ROWS = 20, /* written together: a run */
    BULK_RUNS = 5,
    BULK_BYTES = 4500,
};

/* ---- the oracle ---------------------------------------------------------------------------- */

struct object_state {
    uint32_t stamp;           /* of the write that made it; 0: there is none */
    uint8_t blocks;           /* as written; 0: inline */
    uint8_t cut_from, cut_to; /* blocks cut out since */
    uint8_t zero;
};
struct pending_state { /* a log record not yet applied */
    uint32_t seq;
    uint32_t stamp;
    uint32_t object;
    uint32_t blocks;
};
struct state {
    struct object_state objects[OBJECTS_MAX];
    struct pending_state pending[WINDOW]; /* by seq % WINDOW */
};
/* states[n]: after operation n. Operations are what appends one record to the journal. */
struct history {
    uint32_t ops;
    uint32_t stamp_last;
    uint64_t lsn[HISTORY_MAX + 1];
    uint32_t seq[HISTORY_MAX + 1]; /* of the newest log record */
    struct state states[HISTORY_MAX + 1];
};

struct history *history_new(void);
/* to := from, cut off behind operation ops. */
void history_copy(struct history *to, const struct history *from, uint32_t ops);
/* The process died, and operations behind ops are lost: a step of its own, back to that state. lsn:
 * the store's newest (of ops it would not do: others may have left the same state). */
void history_roll_back(struct history *history, uint32_t ops, uint64_t lsn);
/* The newest operation in [from, to] after which the state was this one; -1: none. */
int32_t history_find(const struct history *history, const struct state *state, uint32_t from,
                     uint32_t to);

/* ---- the owner ----------------------------------------------------------------------------- */

struct part {
    uint64_t block;
    uint32_t blocks;
    uint32_t first; /* of the object's blocks */
};
struct row {
    uint32_t object;
    uint32_t stamp;
    uint8_t blocks, cut_from, cut_to, parts;
    uint32_t pad_bytes;
    struct part part[2];
    uint8_t pad[PAD_MAX];
};
enum { ROW_BYTES_MIN = offsetof(struct row, pad) };

struct pending {
    uint32_t seq; /* 0: none */
    struct row row;
};

struct owner {
    struct store *store; /* NULL: not open */
    struct history *history;
    struct random random;
    uint32_t objects;
    uint32_t pad_max;
    uint32_t blocks_max;
    uint32_t changes_max; /* of a commit */
    int32_t promised;
    bool in_step; /* the store's LSNs are the history's: not while it is opened after a death */
    struct row rows[OBJECTS_MAX]; /* stamp 0: none; what the store has applied */
    struct pending window[WINDOW];
    const char *trouble; /* first thing found wrong; NULL: none */
    char detail[160];
};

/* Say what is wrong (the first time). */
void owner_trouble(struct owner *owner, const char *what, const char *format, ...)
    printf_like(3, 4);

/* Open the store on disk and learn its state. The result of store_open. */
may_yield must_check int owner_open(struct owner *owner, struct disk *disk, bool read_only);
/* Read everything: rows, contents, log records. Finds trouble in what contradicts itself. */
may_yield void owner_read(struct owner *owner, struct state *ret_state);
/* Compare the store's accounts with what the rows say. */
may_yield void owner_accounts(struct owner *owner);
/* What must survive a crash now: what was acknowledged, or what the store itself counts durable. */
struct mark owner_mark(void *owner);

/* Operations. Those that need space do nothing when there is none, and say so (false). */
may_yield bool owner_commit(struct owner *owner);
may_yield bool owner_append(struct owner *owner);
void owner_apply(struct owner *owner);
void owner_truncate(struct owner *owner);
may_yield bool owner_cut(struct owner *owner);
may_yield void owner_delete(struct owner *owner);
/* Rows of no meaning, for a tree of several segments: they are checked by store_check alone. */
may_yield void owner_bulk(struct owner *owner);
/* Wait until all operations so far are durable: they are promised then. */
may_yield void owner_wait_durable(struct owner *owner);
/* Wait until they are written: nothing is promised. */
may_yield void owner_wait_written(struct owner *owner);

#endif
