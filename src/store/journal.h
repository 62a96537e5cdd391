/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_JOURNAL_H
#define CFS_STORE_JOURNAL_H

/* The journal: see journal.c. Included by store_internal.h. */

struct prepared_extent;

struct journal_buf {
    struct list link;
    uint8_t *bytes; /* one block of room for a segment header, then the entry */
    uint32_t used;  /* of the entry, its header included */
    uint32_t room;
    uint32_t count;
    uint64_t first_lsn;
    uint64_t data_seq; /* data writes up to this one must be complete first */
};

struct journal_segment {
    uint32_t segment;
    uint64_t sequence;
};

struct journal {
    uint64_t next_lsn;     /* of the next record */
    uint64_t written_lsn;  /* handed to the device */
    uint64_t flushed_lsn;  /* durable */
    uint64_t proven_lsn;   /* durable, and recovery will know that it was */
    uint64_t carried_lsn;  /* flushed_lsn in the newest entry written */
    uint64_t written_goal; /* write at least up to here, now */
    uint64_t flushed_goal;
    struct list pending; /* journal_buf, oldest first; the last one is being filled */
    struct list spare;
    uint64_t pending_bytes;
    uint32_t entry_bytes_max;
    struct journal_buf *writing;
    struct disk_io write_io;
    struct disk_io flush_io;
    bool flushing;
    uint64_t flush_lsn; /* what the flush in flight will make durable */
    uint64_t flush_proves;
    uint64_t flush_seq;
    uint64_t flushed_seq; /* data writes up to this one are durable */
    /* Tail: where the next entry goes. */
    uint32_t segment;
    uint32_t next_segment;
    uint64_t sequence; /* of segment */
    uint32_t block;    /* inside segment */
    uint32_t prev_crc;
    bool header_due;               /* segment's first block is not written yet */
    struct journal_segment *chain; /* oldest first, without next_segment */
    uint32_t chain_count;
    uint32_t chain_room;
    uint64_t bytes_since_checkpoint;
    struct list written_waiters; /* store_waiter by lsn */
    struct list durable_waiters;
    struct turn_hook hook;
    struct timer lazy_timer;         /* write what nobody waits for */
    struct timer flush_timer;        /* background flush */
    struct timer settle_timer;       /* the turn after a submission: memtable.c, M5 */
    struct htable prepared;          /* log records with extents, by (group, seq) */
    struct prepared *prepared_spare; /* for the next ones */
};

void journal_init(struct store *store);
void journal_fini(struct store *store);
/* Continue after recovery at a known tail. */
void journal_resume(struct store *store, uint64_t lsn);
/* Append a record; returns its LSN. extents: what it brings along, to be pinned (LOG) or claimed;
 * their checksums are found in the fresh table or in the record it replaces. */
uint64_t journal_append(struct store *store, const struct disk_record *record, struct slice payload,
                        const struct disk_record_extent *extents, uint64_t data_seq);
/* End the entry being filled, so that the next record begins a new one. */
void journal_cut(struct store *store);
/* Let the next entry begin the next segment. */
void journal_leave_segment(struct store *store);
/* Free chain segments before sequence. */
void journal_trim(struct store *store, uint64_t sequence);
/* All waiters get error. */
void journal_fail(struct store *store, int error);
void journal_kick(struct store *store);
/* For who is going to compute for a while: yield, also until what this turn gathered has been given
 * to the device, which would have to wait for it otherwise. */
may_yield void journal_first(struct store *store);
/* Tell the waiters that what they wait for has come. */
void journal_wake(struct store *store);
/* The tail is in this segment, at its start. */
void journal_enter(struct store *store, uint32_t segment, uint64_t sequence);
uint64_t journal_limit(const struct store *store);

/* prepared.c: log records whose extents must stay. */
struct prepared {
    struct htable_node hash;
    struct prepared *spare_next;
    uint32_t group;
    uint32_t extent_count;
    uint32_t extent_room;
    uint32_t zero;
    uint64_t seq;
    struct disk_record_extent extents[];
};
struct prepared *prepared_find(struct store *store, uint32_t group, uint64_t seq);
/* Pins the extents; replaces an older record of the same name. */
void prepared_add(struct store *store, uint32_t group, uint64_t seq,
                  const struct disk_record_extent *extents, uint32_t count, uint64_t lsn);
void prepared_drop(struct store *store, uint32_t group, uint64_t seq, uint64_t lsn);
void prepared_truncate(struct store *store, uint32_t group, uint64_t seq, uint64_t lsn);
void prepared_fini(struct store *store);

#endif
