/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_STORE_H
#define CFS_STORE_STORE_H

/* The local store: one per device, owned by one reactor. Everything a node persists is in it.
 *
 * It holds one ordered table of (key, value), data extents that values refer to, and a journal
 * that makes changes of both atomic. Two kinds of change:
 *
 *   store_commit      a batch of puts, deletes and extent accounting: local changes (Raft log,
 *                     cleaner moves). Journaled as it is.
 *   store_log_append  a replicated record, kept prepared until its group has decided;
 *   store_apply       then applies it: the batch goes into the table, and the journal only gets a
 *                     mark "record seq of that group is applied", because recovery finds the
 *                     record in the journal and computes the same batch again (replay callbacks).
 *
 * Keys: at most STORE_KEY_MAX bytes, compared bytewise; the first 4 are the big-endian group id
 * (0: the node's own), the 5th the table. Values: at most STORE_VALUE_MAX bytes. */

#include "base/buf.h"
#include "base/bytes.h"
#include "env/env.h"
#include "format/format.h"

enum {
    STORE_KEY_MAX = 320,
    STORE_VALUE_MAX = 6 << 10,
    STORE_SEGMENT_BYTES = 64 << 20, /* less on small disks */
    STORE_BLOCK_BYTES = 4096,
    STORE_EXTENT_BLOCKS_MAX = 64, /* 256 KiB */
    STORE_GROUP_LOCAL = 0,        /* group id of node-local keys */
    STORE_TABLE_RESERVED = 0xf0,  /* local tables from here up belong to the store itself */
};

struct store;

/* A run of blocks on the device: block number (byte offset / 4096) and count. */
struct store_extent {
    uint64_t block;
    uint32_t blocks;
    uint32_t zero;
};

/* ---- format, open ------------------------------------------------------------------------ */

struct store_identity {
    struct format_uuid cluster;
    struct format_uuid store;
    uint32_t node;
    /* The part of its device that the store is in; slice_bytes 0: all of it. */
    uint32_t slice; /* from 0, at slice * slice_bytes */
    uint32_t slice_count;
    uint64_t slice_bytes;
};

/* Write an empty store. Refuses (-EEXIST) a device whose first blocks are not all zero unless
 * force; a crash meanwhile leaves what was there, or no store. -ENOSPC: smaller than 8 segments. */
may_yield must_check int store_format(struct disk *disk, const struct store_identity *identity,
                                      bool force);

/* A log record: found again at recovery, or handed to store_log_append. */
struct store_log_record {
    uint32_t group;
    uint32_t epoch;                     /* in which the record was made */
    uint64_t seq;                       /* within the group, dense from 1 */
    struct slice payload;               /* the group's business */
    const struct store_extent *extents; /* data it brought along, already written */
    uint32_t extent_count;
};

/* How the log's owner takes part in recovery and checkpoints. context is options.context. */
struct store_log_ops {
    /* Recovery: a record was prepared. A later record of the same (group, seq) replaces it. */
    void (*replay_record)(void *context, const struct store_log_record *record);
    /* Recovery: records of the group after seq were dropped (store_log_truncate). */
    void (*replay_truncate)(void *context, uint32_t group, uint64_t seq);
    /* Recovery: the record was applied at this point. Compute its batch as at run time and call
     * store_apply. May read the store, may yield. Errors stop recovery. */
    may_yield int (*replay_apply)(void *context, uint32_t group, uint64_t seq);
    /* Checkpoint: append every record that is prepared and not yet applied again with
     * store_log_append: what the journal held before this point is about to be forgotten.
     * Must not yield. */
    void (*relog)(void *context);
    /* An extent was found damaged, or a scrub asks: see store_scrub. May be NULL. */
    void (*damaged)(void *context, struct slice owner_key, struct store_extent extent);
};

struct store_options {
    uint64_t memory_bytes; /* budget: node cache + memtables + staging; at least 16 MiB */
    const struct store_log_ops *log_ops;
    void *context;
    uint64_t flush_interval_ns; /* background flush while dirty; 0: 100 ms */
    bool read_only;             /* the device is not written: see store_open */
};

/* Recover and open. ret_store is set before the replay callbacks run, so that they can use it.
 * -ERR_NOT_FORMATTED (all zero, or no superblock), -ERR_WRONG_VERSION, -ERR_CORRUPT_DISK (no valid
 * superblock slot, tree root unreadable: the text log says which), -EIO.
 * A damaged journal (bad entry before the last known flush) does not fail the open: everything
 * after the damage is ignored and store_health().journal_damaged is set; the node must then rejoin
 * its groups by a full scan.
 * read_only: nothing is ever written; what the journal holds is replayed into memory (as much as
 * lies between two checkpoints: at most 256 MiB). store_commit and store_apply then change memory
 * alone; log records, extents and waits for the device are not to be had (asserted). */
may_yield must_check int store_open(struct disk *disk, const struct store_options *options,
                                    struct store **ret_store);
/* Read the identity without opening. Errors as store_open. */
may_yield must_check int store_identify(struct disk *disk, struct store_identity *ret_identity);
const struct store_identity *store_identity(const struct store *store);
/* Flush, checkpoint, and free (orderly stop). read_only: just free. */
may_yield must_check int store_close(struct store *store);

/* ---- reading ----------------------------------------------------------------------------- */

/* The value of key into value (capacity bytes). Returns its length, -ENOENT, -ERANGE (capacity too
 * small), -ERR_CORRUPT_DISK (both copies of a tree node bad), -EIO. Yields only on a cache miss. */
may_yield int store_get(struct store *store, struct slice key, void *value, uint32_t capacity);

/* Walk keys in order. Changes made during the walk may or may not be seen, but every key that was
 * there throughout is seen exactly once. */
struct store_iter;
struct store_iter *store_iter_new(struct store *store);
void store_iter_free(struct store_iter *iter);
/* Position at the first key >= from. */
void store_iter_seek(struct store_iter *iter, struct slice from);
/* The next pair with key < end (end.bytes 0: no end). 1: there is one (slices valid until the next
 * call on iter), 0: none, or an error as store_get. */
may_yield int store_iter_next(struct store_iter *iter, struct slice end, struct slice *ret_key,
                              struct slice *ret_value);

/* ---- changing ---------------------------------------------------------------------------- */

/* A set of changes that happens as a whole. Grows in memory; reuse with store_batch_reset. */
struct store_batch {
    uint8_t *bytes; /* the journal's form of the changes */
    uint32_t used;
    uint32_t room;
    uint32_t count;
    int64_t extent_bytes; /* added less deleted: what the changes do to the space of data */
};
void store_batch_init(struct store_batch *batch);
void store_batch_fini(struct store_batch *batch);
void store_batch_reset(struct store_batch *batch);
void store_batch_put(struct store_batch *batch, struct slice key, struct slice value);
void store_batch_del(struct store_batch *batch, struct slice key); /* of no key: fine */
/* The value under owner_key now refers to the extent / no longer does. The extent came from
 * store_extent_write (or a log record). Live space is counted in blocks, add +, del -, in the
 * order given. To drop parts of an extent: del all of it (as it was added), then add each part
 * that stays, both in one batch. (A del names its backpointer by its first block.) */
void store_batch_extent_add(struct store_batch *batch, struct store_extent extent,
                            struct slice owner_key);
void store_batch_extent_del(struct store_batch *batch, struct store_extent extent);

/* Walk a batch's puts and dels in order, for those who mirror them (extent accounting is skipped).
 * bytes: as in store_batch.bytes/used, or a copy that travelled; *cursor starts at 0.
 * 1: a change (ret_value.data NULL: a delete), 0: end, -ERR_CORRUPT_WIRE: malformed. */
must_check int store_batch_next(struct slice bytes, uint32_t *cursor, struct slice *ret_key,
                                struct slice *ret_value);
/* Append the changes of bytes (the same form, from a peer) after checking all of it, key and value
 * limits included. -ERR_CORRUPT_WIRE: nothing was appended. Extent records are refused. */
must_check int store_batch_append_bytes(struct store_batch *batch, struct slice bytes);

/* Back-pressure, to be called before work that will write: waits while memtables or staging are
 * full. bytes: data about to be written with store_extent_write (0: metadata only).
 * -ERR_NO_SPACE: the store is full for new data; with freeing (a delete, a truncate) the reserve
 * may be used, so it succeeds on a full store. */
may_yield must_check int store_reserve(struct store *store, uint64_t bytes, bool freeing);

/* Apply a local batch now and journal it. Never fails, never yields. Returns the journal position
 * (LSN) for the store_wait_ functions. */
uint64_t store_commit(struct store *store, const struct store_batch *batch);

/* Journal a prepared record. Its extents stay pinned until the record is applied, truncated or
 * replaced. Never yields. Returns the LSN. */
uint64_t store_log_append(struct store *store, const struct store_log_record *record);
/* Forget prepared records of the group with seq' > seq. */
uint64_t store_log_truncate(struct store *store, uint32_t group, uint64_t seq);
/* Apply the batch that record seq of the group means, and journal just the mark. Used both at run
 * time and from replay_apply. Never yields. */
uint64_t store_apply(struct store *store, uint32_t group, uint64_t seq,
                     const struct store_batch *batch);

/* Suspend until everything up to lsn has been handed to the device (written: survives the death
 * of the process) or flushed (durable: survives power loss). 0, or -ERR_FENCED when the device
 * failed: the store is read-only from then on and the node must leave its groups. */
may_yield must_check int store_wait_written(struct store *store, uint64_t lsn);
may_yield must_check int store_wait_durable(struct store *store, uint64_t lsn);
/* Callback instead of a fiber: fn runs on the reactor, outside fibers, once lsn is written. */
struct store_waiter {
    struct list link;
    uint64_t lsn;
    void (*fn)(struct store_waiter *waiter, int result);
};
void store_notify_written(struct store *store, struct store_waiter *waiter, uint64_t lsn);

/* ---- data extents ------------------------------------------------------------------------ */

/* Place blocks of data on the device (append to an open data segment). data: blocks * 4 KiB; the
 * buffer is referenced until written, no copy is made if it is block-aligned. Readable at once.
 * Returns without waiting for the device: journal entries that refer to the extent are written
 * after it. At most STORE_EXTENT_BLOCKS_MAX blocks. 0, -ERR_NO_SPACE, -ERR_FENCED. */
must_check int store_extent_write(struct store *store, struct buf_slice data, uint32_t blocks,
                                  struct store_extent *ret_extent);
/* No record will name the extent: its blocks are dead at once. Any other extent: nothing. */
void store_extent_drop(struct store *store, struct store_extent extent);
/* All that the batch adds, because it will not be committed. */
void store_batch_drop_extents(struct store *store, const struct store_batch *batch);
/* Read blocks [first, first + count) of the extent. The caller checks its CRCs; if one is wrong,
 * the extent may have been moved or freed since its address was looked up: look it up again, and
 * only if it is still the same, it is damaged. 0, -EIO. data aligned to 4096 saves a copy. */
may_yield must_check int store_extent_read(struct store *store, struct store_extent extent,
                                           uint32_t first, uint32_t count, void *data);
/* The cleaner moves extents: it calls this to let the owner swap the address in its value. The
 * owner verifies the CRC of data (a mismatch: report damage, return -ERR_CORRUPT_DATA), checks that
 * the value under owner_key still refers to from, and if so adds put / extent_add(to) /
 * extent_del(from) to batch. -ENOENT: no longer referred to. Must not yield after it has read the
 * value. One owner for all groups; set before any extent exists. */
typedef may_yield int (*store_move_fn)(void *context, struct slice owner_key,
                                       struct store_extent from, struct store_extent to,
                                       const void *data, struct store_batch *batch);
void store_set_mover(struct store *store, store_move_fn move, void *context);

/* ---- space and health -------------------------------------------------------------------- */

struct store_space {
    uint64_t size_bytes;
    uint64_t used_bytes; /* live data + metadata + journal */
    uint64_t free_bytes; /* for new data, reserve excluded */
    uint64_t data_bytes; /* live data: blocks that extent_add has counted */
};
void store_space(const struct store *store, struct store_space *ret_space);

struct store_health {
    bool journal_damaged;
    bool fenced;
    uint64_t node_repairs;  /* tree nodes whose bad copy was rewritten from the good one */
    uint64_t node_losses;   /* tree nodes with no good copy */
    uint64_t super_repairs; /* times that a copy of the superblock was bad, and new ones written */
    uint64_t journal_repairs; /* times that the journal was bad, and a checkpoint made up for it */
    uint64_t journal_bytes;   /* written since open */
    uint64_t data_bytes;
    uint64_t node_bytes;
    uint64_t cleaned_bytes; /* moved by the cleaner */
    uint64_t flushes;       /* of the journal, those that came with a write included */
    uint64_t checkpoints;
    uint64_t memory_bytes; /* in use by cache, memtables, staging */
};
void store_health(const struct store *store, struct store_health *ret_health);

/* Read all that lives on the device, paced by rate_bytes_per_s (0: no limit). Superblocks, journal,
 * and tree nodes with a bad copy are repaired (store_health tells how often); extents go to fn in
 * physical order: owner key, extent, its bytes (zeroes if unreadable). fn compares them with its
 * checksums, having made sure that the owner still refers to the extent; it returns 0 to go on or
 * an error to stop. A scrub that was stopped by an error, store_close or a crash is gone on with by
 * the next one, some way before where it was; of a read-only store all is read.
 * 0, also if the store is being closed; -ERR_BUSY: one is running; errors of store_get and fn. */
typedef may_yield int (*store_scrub_fn)(void *context, struct slice owner_key,
                                        struct store_extent extent, const void *data);
may_yield must_check int store_scrub(struct store *store, uint64_t rate_bytes_per_s,
                                     store_scrub_fn fn, void *context);
/* Would the next scrub go on with one that was stopped? */
may_yield bool store_scrub_interrupted(struct store *store);
/* Bytes that the one that runs has read, of how many. Total 0: none runs. */
void store_scrub_progress(const struct store *store, uint64_t *ret_done, uint64_t *ret_total);
/* Verify structure: tree order, checksums of all nodes, live counts against backpointers,
 * backpointers inside segments. 0 or -ERR_CORRUPT_DISK, first findings in the log. */
may_yield must_check int store_check(struct store *store);
/* The same; each finding goes to fn: what is wrong, and where on the device. A store that changes
 * meanwhile is looked at again, so a finding may be told several times. */
typedef void (*store_finding_fn)(void *context, const char *what, const char *where);
may_yield must_check int store_check_report(struct store *store, store_finding_fn fn,
                                            void *context);

/* What is on the device as lines for people: the superblocks; then, of an open store, its journal
 * and segments, and with rows its whole table. Errors of reading. */
typedef void (*store_line_fn)(void *context, const char *text);
may_yield must_check int store_dump_super(struct disk *disk, store_line_fn fn, void *context);
may_yield must_check int store_dump(struct store *store, bool rows, store_line_fn fn,
                                    void *context);

#endif
