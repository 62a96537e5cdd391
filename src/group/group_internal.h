/* SPDX-License-Identifier: MIT */
#ifndef CFS_GROUP_GROUP_INTERNAL_H
#define CFS_GROUP_GROUP_INTERNAL_H

#include "base/htable.h"
#include "format/disk_group.h"
#include "format/wire_group.h"
#include "format/wire_map.h"
#include "group/group.h"

enum {
    GROUP_WINDOW_RECORDS_MAX = 1024,   /* prepared, not yet applied */
    GROUP_WINDOW_BYTES_MAX = 64 << 20, /* of their data */
    GROUP_PREPARES_IN_FLIGHT_MAX = 16, /* messages to one member of one group */
    GROUP_PREPARE_TAIL_MAX = 96 << 10,
    GROUP_LOG_BYTES_MIN = 64 << 10, /* kept for catch-up in any case */
    GROUP_INSTALL_TAIL_MAX = 64 << 10,
    GROUP_INSTALL_DATA_MAX = 1 << 20,
    GROUP_OVERLAY_LEVELS = 10,
    GROUP_HELD_MAX = 4096,                 /* rows of a RECONCILE reply */
    GROUP_JOIN_LAG_BYTES_MAX = 128 << 20,  /* log kept for a joining member; then it starts over */
    GROUP_MEMBER_RESERVE_BYTES = 32 << 20, /* a member with less room takes no new data */
};
#define GROUP_PREPARE_TIMEOUT_NS (2500 * NS_PER_MS)
#define GROUP_SILENCE_NS         (2 * NS_PER_S) /* a member this long without progress is dropped */
#define GROUP_RETRY_NS           (20 * NS_PER_MS)
#define GROUP_FULL_RETRY_NS      (200 * NS_PER_MS) /* of a member that had no place */
#define GROUP_COMMIT_PUSH_NS     (50 * NS_PER_MS)
#define GROUP_SPACE_NEWS_NS      (100 * NS_PER_MS) /* how long "full" is believed */
#define GROUP_SPACE_ASK_NS       (1 * NS_PER_S)

/* ---- records -------------------------------------------------------------------------------- */

/* One log record in memory: in the window while prepared, then in the cache for catch-up. */
struct group_record {
    uint64_t seq;
    uint32_t epoch;
    uint32_t kind;
    uint32_t refs;
    uint32_t payload_bytes;
    uint32_t extent_count;
    struct store_extent extents[GROUP_EXTENTS_MAX];
    struct buf_slice data; /* bytes of the extents; buf NULL after recovery */
    uint8_t disk[];        /* struct disk_group_record, then the payload */
};
static inline struct slice record_payload(const struct group_record *record)
{
    return slice_of(record->disk + sizeof(struct disk_group_record), record->payload_bytes);
}

/* Records [first, last] in memory, by seq. */
struct group_log {
    struct group_record **ring;
    uint64_t room; /* power of two */
    uint64_t first_seq;
    uint64_t last_seq; /* first_seq - 1 if empty */
    uint64_t bytes;
};
void log_init(struct group_log *log, uint64_t after_seq);
struct group_record *log_at(const struct group_log *log, uint64_t seq); /* NULL if not held */
void log_push(struct group_log *log, struct group_record *record);      /* takes it; seq = last+1 */
void log_truncate(struct group_log *log, uint64_t seq);                 /* drop those > seq */
/* Drop records < before_seq, oldest first, until bytes_max is kept. */
void log_trim(struct group_log *log, uint64_t before_seq, uint64_t bytes_max);
void log_reset(struct group_log *log, uint64_t after_seq);
struct group_record *record_new(enum map_group_kind group_kind, uint32_t kind,
                                struct slice payload);
void record_put(struct group_record *record);
uint64_t record_bytes(const struct group_record *record);

/* ---- overlay -------------------------------------------------------------------------------- */

/* Newest prepared value of each key: a skip list into the records' payloads. */
struct overlay_node {
    struct slice key;
    struct slice value; /* data NULL: deleted */
    uint64_t seq;
    struct group_record *record;
    uint32_t levels;
    struct overlay_node *next[GROUP_OVERLAY_LEVELS];
};
struct overlay {
    struct overlay_node head;
    uint64_t random;
    uint32_t count;
};
void overlay_init(struct overlay *overlay);
/* Mirror a BATCH record (checked before). */
void overlay_add(struct overlay *overlay, struct group_record *record);
/* The record has been applied: forget what it still is the newest of. */
void overlay_drop(struct overlay *overlay, const struct group_record *record);
void overlay_clear(struct overlay *overlay);
/* First node with key >= from, or NULL. */
struct overlay_node *overlay_seek(const struct overlay *overlay, struct slice from);
struct overlay_node *overlay_find(const struct overlay *overlay, struct slice key);

/* ---- replica -------------------------------------------------------------------------------- */

enum group_role {
    ROLE_NONE,       /* not a member (any more) */
    ROLE_MEMBER,     /* in sync, follows the primary */
    ROLE_JOINING,    /* catching up */
    ROLE_RECOVERING, /* primary of this epoch, makes members equal first */
    ROLE_PRIMARY,    /* serves */
};

/* What this node knows of another one, whichever group it heard it in: with many groups, what one
 * group's member last told is old when another node's device runs full. */
struct peer {
    struct htable_node node;
    uint32_t id;
    uint64_t incarnation;
    uint64_t free_bytes; /* on its device, as last told; UINT64_MAX: not yet */
    uint64_t told_ns;
    struct waitq news;
};

/* What the primary knows of another member. */
struct member {
    struct group *group;
    struct peer *peer;
    uint32_t node;
    uint32_t state; /* enum map_member_state */
    struct net_addr addr;
    uint64_t incarnation;
    uint64_t held_seq; /* acknowledged */
    uint64_t sent_seq;
    uint64_t asked_seq; /* the newest it was ever sent, in this epoch */
    uint64_t commit_sent_seq;
    uint64_t progress_ns; /* when it last acknowledged, or had nothing to */
    uint64_t retry_ns;    /* no sending before */
    uint32_t in_flight;
    bool reconciled; /* its log is a prefix of ours: may be sent to */
    bool counted;    /* commits wait for it */
    bool flushed;    /* so do fsyncs: in sync, or its disk has been seen to work */
    bool promoting;
    bool dropping;
    uint32_t scan; /* number of the scan under way, 0: none; another number ends its fiber */
};

struct group {
    struct htable_node node;
    struct group_host *host;
    uint32_t id;
    enum map_group_kind kind;
    uint32_t epoch;
    enum group_role role;
    bool valid;
    bool scanning;             /* receiving INSTALLs */
    bool applying;             /* the apply fiber runs */
    bool joining_runs;         /* the join fiber runs */
    bool failed;               /* apply failed: out until restart */
    bool in_serving;           /* the content's serving hook runs: it may append */
    uint32_t recover_epoch;    /* of the newest recover_fiber */
    uint32_t reconciled_epoch; /* member: in which a primary last told where the log ends */
    uint64_t install_ns;       /* scanning: when the last INSTALL came */
    uint32_t scan_number;
    uint32_t reign;      /* counts how often this replica ceased to be primary */
    uint32_t jump_count; /* scans begun here, ever: a chunk of an earlier one is void */
    uint64_t applied_seq;
    uint32_t applied_epoch;
    uint64_t commit_seq;
    uint64_t apply_limit; /* scanning: records above wait for their chunk */
    uint64_t written_seq; /* lone member: records handed to the device */
    uint64_t durable_seq; /* on all in-sync members' media, as far as known */
    uint64_t last_lsn;
    uint64_t window_bytes;
    struct group_log log;
    struct overlay overlay;
    struct disk_group_epoch history[DISK_GROUP_HISTORY_MAX];
    uint32_t history_count;
    struct member members[MAP_MEMBERS_MAX]; /* others than us */
    uint32_t member_count;
    uint32_t in_sync_count;     /* with us */
    struct waitq applied_waitq; /* group_wait */
    struct waitq room_waitq;
    struct waitq state_waitq; /* commit, role or epoch changed */
    struct fiber_mutex flush_mutex;
    struct fiber_mutex install_mutex; /* one chunk of a scan at a time */
    uint32_t install_next_bytes;      /* scanning: where the next chunk begins */
    uint8_t install_next[STORE_KEY_MAX + 1];
    struct turn_hook send_hook;
    struct timer send_timer;
    struct store_waiter written;
    bool written_armed;
    uint64_t written_target;
    struct store_batch batch; /* the apply fiber's */
    void *user;
    int64_t bytes; /* of data extents, as applied */
    uint64_t catch_up_done_bytes;
    uint64_t catch_up_total_bytes; /* as the primary said when the scan began */
    uint64_t catch_up_since_ns;
};

struct group_host {
    struct group_host_options options;
    struct rpc *rpc;
    struct map_client *map;
    struct map_lease *lease;
    struct htable groups;
    uint32_t group_count;
    struct htable peers; /* struct peer; never freed, as the groups */
    uint32_t min_in_sync;
    uint32_t scan_chunks_more;               /* scan.c */
    uint8_t scratch[GROUP_PREPARE_TAIL_MAX]; /* of a PREPARE that is made; not held over yields */
};

static inline struct store *host_store(const struct group_host *host)
{
    return *host->options.store;
}
static inline const struct group_content_ops *group_ops(const struct group *group)
{
    return group->host->options.content[group->kind];
}
static inline void *group_context(const struct group *group)
{
    return group->host->options.content_context[group->kind];
}
static inline uint64_t group_last(const struct group *group)
{
    return group->log.last_seq;
}

/* host.c */
struct group *group_new(struct group_host *host, uint32_t id);
bool group_is_primary(const struct group *group); /* recovering or serving */
/* The node as all groups here know it; of another process nothing is known yet. */
struct peer *peer_of(struct group_host *host, uint32_t node, uint64_t incarnation);
void group_check(const struct group *group); /* asserts the invariants */

/* state.c: rows of GROUP_TABLE_STATE */
int group_state_load(struct group *group);
void group_state_applied(struct group *group, struct store_batch *batch, uint64_t seq,
                         uint32_t epoch);
void group_state_set_valid(struct group *group, bool valid);
/* Start over after seq, as a scan does: everything held is void. */
void group_state_jump(struct group *group, uint64_t seq, uint32_t epoch);
/* A chunk of a scan changes what is stored, though not the position. */
void group_state_installed(struct group *group, struct store_batch *batch);
/* Whether our history says that record seq was made in epoch. */
bool group_history_has(const struct group *group, uint64_t seq, uint32_t epoch);

/* log.c and append.c */
void group_log_add(struct group *group, struct group_record *record); /* takes it */
/* Forget prepared records > seq, in the store too. */
void group_log_cut(struct group *group, uint64_t seq);

/* replicate.c: primary to members */
void group_send_soon(struct group *group);
/* Send a PREPARE without need, for its answer. */
void member_ask(struct member *member);
/* Ask the map to go on without it. */
void member_drop(struct member *member);
void group_commit_advance(struct group *group);
void group_send_init(struct group *group);
/* The oldest record that some member may still have to be sent. */
uint64_t group_needed_seq(struct group *group);

/* apply.c */
int group_replay_apply(void *context, uint32_t group, uint64_t seq);
/* Apply all records held, in memory: of a store opened to be read only. Errors of the content. */
may_yield must_check int group_apply_held(struct group *group);
void group_apply_kick(struct group *group);

/* configure.c */
void group_configure(struct group *group, const struct map_group *map_group, struct map_view *view);

/* recover.c, join.c, scan.c, flush.c, member.c */
void recover_fiber(void *arg);
void group_reconcile_strangers(struct group *group);
void join_fiber(void *arg);
void leave_fiber(void *arg); /* leave.c */
/* Delete some of the content's rows from key from on, and their extents; none, if the epoch changes
 * meanwhile. 1: there may be more; 0: none left; -ERR_FENCED or errors of store_get. */
may_yield must_check int group_wipe_some(struct group *group, struct slice from);
void member_promote(struct member *member);
void member_scan_start(struct member *member);
/* Tables of the content, [first, end): what a scan copies, and who leaves deletes. */
enum { SCAN_FIRST_TABLE = 0x10, SCAN_END_TABLE = 0xf0 };
/* Bounds of INSTALL's tail (scan.c writes, install.c reads). */
struct install_pair {
    uint16_t key_bytes;
    uint16_t value_bytes;
    uint32_t data_bytes;
};
void serve_prepare(void *service, struct rpc_request *request);
void serve_reconcile(void *service, struct rpc_request *request);
void serve_catch_up(void *service, struct rpc_request *request);
void serve_install(void *service, struct rpc_request *request);
void serve_group_flush(void *service, struct rpc_request *request);
/* The replica addressed by a request, if the epochs agree; else answers it and gives NULL. */
struct group *request_group(struct group_host *host, struct rpc_request *request);

#endif
