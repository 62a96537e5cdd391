/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_STORE_INTERNAL_H
#define CFS_STORE_STORE_INTERNAL_H

/* The store's own view of itself: one struct, its parts, and what the modules offer each other.
 * See store.c for the theory of the whole. */

#include "base/htable.h"
#include "base/mem.h"
#include "format/disk_store.h"
#include "store/cache.h"
#include "store/memtable.h"
#include "store/node.h"
#include "store/store.h"

enum {
    BACKPOINTER_TABLE = STORE_TABLE_RESERVED, /* key: u32 0, table, be64 block */
    BACKPOINTER_KEY_BYTES = 13,
    SCRUB_TABLE = STORE_TABLE_RESERVED + 1, /* key: u32 0, table; value: disk_scrub_place */
    NODE_BLOCKS = DISK_TREE_NODE_BYTES / STORE_BLOCK_BYTES,
    SEGMENT_NONE = 0, /* segment 0 is never allocated */
};

/* ---- segment.c: who owns which segment ------------------------------------------------------ */

enum segment_state {
    SEGMENT_FREE,
    SEGMENT_SUPER,
    SEGMENT_JOURNAL,
    SEGMENT_NODE,
    SEGMENT_DATA,
    SEGMENT_DISCARDING,
};

struct segment {
    uint8_t state;
    bool open;   /* being appended to */
    bool dirty;  /* has been written since it was last discarded */
    bool listed; /* in store.dying */
    bool stuck;  /* the cleaner could not empty it */
    uint8_t zero[3];
    uint32_t live;     /* blocks that rows or tree nodes refer to */
    uint32_t garbage;  /* NODE: part of live that the next tree version no longer needs */
    uint32_t pinned;   /* blocks of prepared log records */
    uint32_t fresh;    /* blocks written but in no record yet */
    uint32_t users;    /* reads and writes in flight */
    uint32_t frontier; /* DATA, NODE: first unused block (NODE: of each half) */
    uint64_t dead_lsn; /* last record that let go of blocks here */
    uint64_t sealed_ns;
};

enum segment_urgency { /* how many free segments must remain after taking one */
                       URGENCY_JOURNAL,
                       URGENCY_NODE,
                       URGENCY_CLEANER,
                       URGENCY_MEMBER,   /* store_extent_write */
                       URGENCY_USER,     /* store_reserve */
                       URGENCY_CLEANING, /* below this, the cleaner works */
};

void segment_init(struct store *store, uint32_t count, uint32_t blocks);
/* A free segment, now in state, or SEGMENT_NONE. */
/* Recovery: this segment turns out to be in use. */
void segment_claim(struct store *store, uint32_t index, enum segment_state state);
uint32_t segment_take(struct store *store, enum segment_state state, enum segment_urgency urgency);
/* Segments the journal may yet come to need between two checkpoints. */
uint32_t segment_journal_headroom(const struct store *store);
/* And tree nodes until the next two have ended. */
uint32_t segment_node_headroom(const struct store *store);
uint32_t segment_floor(const struct store *store, enum segment_urgency urgency);
/* Take a free segment out of circulation while it is discarded, and put it back. */
void segment_lend(struct store *store, uint32_t index, bool out);
void segment_free(struct store *store, uint32_t index);
/* Recovery: nodes are in the segment, so what records say of data in it is over (S5). */
bool segment_was_data(const struct store *store, uint32_t index);
/* Accounting of blocks that lie in one segment. */
void segment_live_add(struct store *store, uint64_t block, uint32_t blocks);
void segment_live_del(struct store *store, uint64_t block, uint32_t blocks, uint64_t lsn);
/* It may have become reusable: remember to look, and look. */
void segment_consider(struct store *store, uint32_t index);
/* Recovery: free data segments that were dead before proven_lsn. */
void segment_free_dead(struct store *store, uint64_t proven_lsn);
/* Free all dying segments whose last reference is provably gone (S3). */
void segment_reclaim(struct store *store);
/* lsn that the journal has to prove before some dying segment can be freed; 0: none waits. */
uint64_t segment_awaited_lsn(const struct store *store);

/* ---- tree.c: lookup ------------------------------------------------------------------------ */

/* A tree as of one superblock. Readers hold the newest; nodes that a newer one no longer needs are
 * let go when the last reader of this one and of all older ones has left. */
struct tree_garbage {
    uint64_t block;
    uint32_t blocks; /* of each copy */
    uint32_t zero;
};
struct tree {
    struct list link; /* store.trees, oldest first */
    struct disk_pointer root;
    uint32_t root_level;
    uint32_t readers;
    struct tree_garbage *garbage; /* what its successor dropped */
    uint32_t garbage_count;
    uint32_t garbage_room;
};
struct tree *tree_new(const struct disk_pointer *root, uint32_t root_level);
struct tree *tree_hold(struct store *store);
void tree_release(struct store *store, struct tree *tree);
void tree_garbage_add(struct store *store, struct tree *tree, uint64_t block, uint32_t blocks);
/* Let go of the garbage of trees that nobody reads. */
void tree_collect(struct store *store);
/* The leaf that covers key, pinned (NULL: empty tree), and its exclusive upper bound (length 0:
 * none) in upper (NODE_KEY_MAX bytes; NULL: not wanted). */
may_yield must_check int tree_leaf(struct store *store, const struct tree *tree, struct slice key,
                                   struct cache_node **ret_leaf, uint8_t *upper,
                                   uint32_t *ret_upper_bytes);
/* Is the node at pointer.block[0] == block part of the tree, on the path of key at level? */
may_yield must_check int tree_contains(struct store *store, const struct tree *tree,
                                       struct slice key, uint32_t level, uint64_t block);

/* ---- checkpoint.c, tree_merge.c ------------------------------------------------------------ */

/* Runs of blocks written for a tree that is not published yet (of each copy). */
struct node_log {
    struct tree_garbage *items;
    uint32_t count;
    uint32_t room;
};
/* Keys, sorted, whose paths are to be rewritten although nothing changed there (node_clean.c). */
struct forced_key {
    uint16_t count;
    uint8_t bytes[NODE_KEY_MAX];
};
struct forced {
    struct forced_key *keys;
    uint32_t count;
    uint32_t room;
};
struct checkpoint {
    bool wanted;
    bool running;
    bool failing;            /* the last one failed: said so once */
    uint64_t ended_ns;       /* the last one, well or not */
    uint64_t lsn;            /* records before it are in the tree being made */
    uint64_t must_flush_lsn; /* prepared records, logged again */
    struct node_log written;
    struct forced forced;
    uint64_t merged_rows; /* of the frozen memtable */
    bool sealing;         /* the merge is done: flushes and superblock remain */
    bool start_known;
    uint64_t start_sequence, start_block; /* of the entry that begins with lsn */
    uint32_t start_prev_crc;
    struct disk_segment_row *rows; /* data segments as of lsn */
    struct waitq wake;             /* the fiber waits here */
    struct waitq done;             /* those who wait for one to end */
    uint64_t sequence;             /* completed, ever */
    uint64_t memtable_bytes_max;
    uint64_t journal_bytes_max;
};
void checkpoint_init(struct store *store);
void checkpoint_fiber(void *arg);
void checkpoint_kick(struct store *store);
/* Run one now and wait for it. */
may_yield must_check int checkpoint_now(struct store *store);

/* Merge the frozen memtable into tree, writing new nodes; dropped ones become tree's garbage. */
may_yield must_check int tree_merge(struct store *store, struct tree *tree,
                                    struct disk_pointer *ret_root, uint32_t *ret_level);
/* Before a merge: choose node segments to be emptied by it, and force the keys of their nodes. */
may_yield void node_clean_prepare(struct store *store, const struct tree *tree);
/* Would a checkpoint gain space by emptying node segments? */
bool node_clean_wanted(const struct store *store);
/* Space for bytes in both halves of the open node segment. -ERR_NO_SPACE. */
must_check int node_space(struct store *store, uint32_t bytes, struct disk_pointer *ret_pointer);

/* ---- the store ----------------------------------------------------------------------------- */

#include "store/cleaner.h"
#include "store/extent.h"
#include "store/journal.h"

struct store {
    struct disk *disk;
    struct store_options options;
    struct store_identity identity;
    uint64_t store_id;            /* marks our blocks */
    struct disk_superblock super; /* newest durable */
    struct segment *segments;
    uint32_t segment_count;
    uint32_t segment_blocks;
    uint32_t segments_free;
    uint32_t segments_by_state[SEGMENT_DISCARDING + 1];
    uint32_t segment_cursor;
    uint32_t node_segment; /* open, or SEGMENT_NONE */
    uint64_t live_data;    /* blocks, over all data segments */
    uint64_t live_nodes;   /* blocks of both copies */
    uint64_t tree_blocks;  /* of them, what the newest tree needs */
    uint32_t *dying;       /* segments to look at when the journal has proven more */
    uint32_t dying_count;
    struct memtable_pool memtable_pool;
    struct memtable *active;
    struct memtable *frozen; /* NULL unless a checkpoint runs */
    uint64_t version;        /* changes whenever active, frozen or tree are exchanged */
    struct list trees;
    struct cache cache;
    struct journal journal;
    struct extents extents;
    struct checkpoint checkpoint;
    struct cleaner cleaner;
    struct scrubbing {
        bool running;
        uint64_t done_bytes;
        struct waitq wake; /* it pauses here */
    } scrubbing;
    struct waitq space; /* something was freed or drained: look again */
    struct waitq stopped;
    uint32_t fibers;
    uint32_t seals;          /* zone_seal: under way */
    bool recover_checkpoint; /* R5 */
    bool recovering;         /* changes are not journaled */
    bool stopping;
    bool fenced;
    struct store_health health;
};

static inline uint32_t segment_of(const struct store *store, uint64_t block)
{
    uint64_t index = block / store->segment_blocks;
    assert(index > 0 && index < store->segment_count);
    return (uint32_t)index;
}
static inline uint64_t segment_block(const struct store *store, uint32_t index)
{
    return (uint64_t)index * store->segment_blocks;
}
static inline struct tree *store_tree(const struct store *store)
{
    return list_last(&store->trees, struct tree, link);
}

/* ---- batch.c ------------------------------------------------------------------------------- */

struct change {
    enum disk_change_op op;
    struct slice key;
    struct slice value;         /* PUT */
    struct store_extent extent; /* EXTENT_* */
};
/* The next change. 1, 0 (end), -ERR_CORRUPT_WIRE. */
must_check int batch_next(struct slice bytes, uint32_t *cursor, struct change *ret_change);
/* Make a batch's changes visible: memtable, backpointers, accounting. Malformed bytes: asserts
 * (ours) or, while recovering, -ERR_CORRUPT_DISK with nothing done after the bad place. */
int batch_apply(struct store *store, struct slice bytes, uint64_t lsn);
void backpointer_key(uint8_t key[BACKPOINTER_KEY_BYTES], uint64_t block);
/* Extent and owner that a backpointer row names. False: it is malformed. */
bool backpointer_parse(struct slice key, struct slice value, struct store_extent *ret_extent,
                       struct slice *ret_owner);

/* ---- superblock.c, recover.c, store.c, cleaner ------------------------------------------- */

/* As store_format, with a segment size other than the usual (tests). */
may_yield must_check int superblock_format(struct disk *disk, const struct store_identity *identity,
                                           bool force, uint32_t segment_bytes);
/* All slots, or the last ones of both logs, into DISK_SUPER_SLOTS * DISK_SUPER_BYTES of memory. */
may_yield must_check int superblock_slots_read(struct disk *disk, uint8_t *slots);
may_yield must_check int superblock_read(struct disk *disk, struct disk_superblock *ret_super);
/* Write super (sequence set here) to two slots, flushed. */
may_yield must_check int superblock_write(struct store *store, struct disk_superblock *super);
/* Segment table, journal replay. */
may_yield must_check int recover(struct store *store);
/* The device failed: read-only from here on. */
void store_fence(struct store *store, const char *what, int error);
/* Blocks that new data may still take (may be negative). */
int64_t space_left(const struct store *store);
/* Must those who are about to write, or to take away, wait until merge and device have
 * caught up? */
bool space_memory_full(const struct store *store, bool freeing);
/* Rows that were taken away are space after the next checkpoint: have one, if the last is not quite
 * new. */
void space_shrink(struct store *store);

#endif
