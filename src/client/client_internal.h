/* SPDX-License-Identifier: MIT */
#ifndef CFS_CLIENT_CLIENT_INTERNAL_H
#define CFS_CLIENT_CLIENT_INTERNAL_H

#include "base/list.h"
#include "client/client.h"
#include "client/dirty.h"
#include "client/split.h"

enum {
    CLIENT_FREE_FLIGHTS_MAX = 64,
    CLIENT_SLOTS = META_SLOTS_PER_SESSION, /* of a kind */
    CLIENT_CHECKSUM_TRIES = 2,             /* reads of a block that fails its checksum */
    CLIENT_SYMLINKS_MAX = 40,
    CLIENT_LOOKUP_TRIES = 4, /* of a name that is being replaced */
    CLIENT_CLOSED_MAX = 512,
    CLIENT_DIR_ATTRS = 256,
};
#define CLIENT_IO_TIMEOUT_NS     (60 * NS_PER_S)
#define CLIENT_TRY_TIMEOUT_NS    (10 * NS_PER_S) /* one attempt; a new map ends it sooner */
#define CLIENT_BACKOFF_MIN_NS    NS_PER_MS
#define CLIENT_BACKOFF_MAX_NS    (50 * NS_PER_MS)
#define CLIENT_LAZY_NS           NS_PER_S /* a modification time is sent this late at most */
#define CLIENT_STATFS_TIMEOUT_NS (2 * NS_PER_S)
#define CLIENT_CAREFUL_NS        (10 * NS_PER_S)
#define CLIENT_END_NS            (2 * NS_PER_S) /* client_flush_all */

/* Slots for requests that must not happen twice. */
struct client_slot {
    struct list link; /* in client_slots.free */
    uint64_t seq;     /* of the last request */
    uint64_t index;
};
struct client_slots {
    struct client_slot all[CLIENT_SLOTS];
    struct list free;
    struct waitq wait;
    uint64_t next_index; /* of those that take the place of retired ones */
};

/* Registrations of closed files that their primaries do not know of yet (release.c). */
struct client_closed {
    struct wire_release rows[CLIENT_CLOSED_MAX];
    uint32_t count;
    uint32_t flying; /* rows on their way, not in rows[] */
    struct timer timer;
    struct waitq room;
};

/* attr.ino 0: free; at_ns 0: out of date. */
struct client_dir_attr {
    struct wire_attr attr;
    uint64_t at_ns; /* when it was the truth */
};

struct client {
    struct rpc *rpc;
    struct map_client *map;
    struct client_options options;
    uint64_t session;
    struct client_slots meta_slots;
    struct client_slots data_slots;
    struct list flights;
    struct list free_flights;
    uint32_t free_flight_count;
    struct htable inodes; /* struct client_inode by inode number */
    struct list lazy;     /* inodes with a modification time to be sent */
    struct waitq lazy_wait;
    struct list lingering; /* closed inodes with changes that may not be durable */
    struct list lost;      /* closed inodes with changes that may have been lost */
    uint32_t lingering_count;
    uint32_t lost_count;
    struct waitq linger_wait; /* the fiber that asks for flushes */
    struct waitq linger_room;
    struct list files; /* all struct client_file */
    struct client_closed closed;
    uint64_t open_ids;      /* chosen for registrations: a repeated OPEN is the same one */
    struct waitq lost_wait; /* the reassert fiber */
    uint32_t teller_count;  /* fibers that register open files again */
    uint8_t group_tellers[MAP_GROUPS_MAX + 1]; /* of them, by group */
    struct buf *zeroes;                        /* DATA_IO_MAX of them */
    uint64_t careful_until_ns; /* a write has failed: sizes follow the data until then */
    uint64_t changes;          /* acknowledged, ever */
    struct client_flushed flushed[MAP_GROUPS_MAX + 1]; /* by group */
    struct client_dir_attr dir_attrs[CLIENT_DIR_ATTRS];
    uint64_t links_changed_ns; /* the last link, unlink or rename of ours ended */
    struct wire_statfs statfs;
    bool statfs_valid;
    struct client_stats stats;
};

/* ---- calls (call.c) ------------------------------------------------------------------------ */

enum client_route {
    CLIENT_ROUTE_INO,    /* primary of the inode's meta group */
    CLIENT_ROUTE_OBJECT, /* primary of the object's data group */
    CLIENT_ROUTE_GROUP,  /* primary of a group named by id */
};

/* One request, sent until there is an answer. */
struct client_call {
    enum rpc_type type;
    enum client_route route;
    uint64_t ino;
    uint32_t index;
    uint32_t group;
    const void *body;
    struct slice tail;
    struct buf_slice payload;
    uint32_t *retry_flags; /* retry_flag is set here before a repetition; may be NULL */
    uint32_t retry_flag;
    uint64_t deadline_ns; /* 0: by io_timeout */
    /* out */
    uint32_t answered_by_group;
    uint32_t answered_by_epoch; /* of the group */
    uint32_t answered_by_node;
    uint32_t cold_starts; /* of the group, when it answered */
    struct rpc_call rpc;  /* the answer, until client_call_fini */
};
/* >= 0 or the callee's final error; -EIO after the deadline. Whatever it returns, fini. */
may_yield must_check int client_call(struct client *client, struct client_call *call);
void client_call_fini(struct client_call *call);
/* A new map is here: attempts that wait for somebody who is no longer in charge are given up. */
void client_flights_wake(struct client *client);

/* ---- slots (slot.c) -------------------------------------------------------------------------- */

void slots_init(struct client_slots *slots);
/* A slot of one's own, with the number of the next request in it. */
may_yield struct client_slot *slot_take(struct client_slots *slots);
void slot_give(struct client_slots *slots, struct client_slot *slot);
/* Give it back as another: the last request in it got no answer, and may still happen. */
void slot_retire(struct client_slots *slots, struct client_slot *slot);

/* ---- metadata requests (meta_call.c) --------------------------------------------------------- */

struct meta_call {
    enum rpc_type type;
    struct wire_meta_req req;
    struct slice name;
    struct slice name2;
    struct slice value;
    uint64_t deadline_ns; /* 0: by io_timeout */
    /* out */
    struct wire_meta_rep rep;
    struct slice tail;
    struct client_call call;
};
/* cred NULL: the client itself. As client_call; the reply is validated. */
may_yield must_check int meta_call(struct client *client, const struct client_cred *cred,
                                   struct meta_call *meta);
void meta_call_fini(struct meta_call *meta);
/* meta_call for a verb that answers with attributes (validated) and nothing else. */
may_yield must_check int meta_call_attr(struct client *client, const struct client_cred *cred,
                                        struct meta_call *meta, struct wire_attr *ret_attr);
/* meta_call for a verb that answers with nothing. */
may_yield must_check int meta_call_plain(struct client *client, const struct client_cred *cred,
                                         struct meta_call *meta);
/* GETATTR, and nothing else (client_getattr sends a lazy modification time first). */
may_yield must_check int client_getattr_plain(struct client *client, const struct client_cred *cred,
                                              uint64_t ino, struct wire_attr *ret_attr);
/* 0, -ENAMETOOLONG, -EINVAL. */
must_check int name_check(struct slice name);

/* ---- directories that were changed lately (dir_attr.c) --------------------------------------- */

/* What an answer told of a directory. asked_ns: when the question was sent. */
void client_dir_learn(struct client *client, const struct wire_attr *attr, uint64_t asked_ns);
/* It has changed, or may have, in a way that is not known. */
void client_dir_forget(struct client *client, uint64_t ino);
/* False: not known, or not believed any more. */
bool client_dir_attr(struct client *client, uint64_t ino, struct wire_attr *ret_attr);

/* ---- inodes, open or changed (inode.c) ------------------------------------------------------- */

struct client_inode {
    struct htable_node node; /* in client->inodes */
    struct list lazy_link;   /* in client->lazy */
    struct list linger_link; /* in client->lingering, or, if it is lost, in client->lost */
    struct client *client;
    uint64_t ino;
    uint32_t refs; /* files, and fibers at work */
    uint32_t files;
    struct wire_attr attr;
    uint64_t attr_at_ns;          /* when attr was the truth, */
    uint32_t attr_life;           /* and in which life of its group's memory (dirty.c) */
    struct fiber_mutex meta_lock; /* one of: lazy update, truncate, setattr, spill */
    int64_t mtime_lazy_ns;        /* to be sent; 0: none */
    uint64_t lazy_due_ns;
    uint8_t *inline_data; /* META_INLINE_MAX bytes; NULL: not cached */
    uint64_t inline_at_ns;
    uint64_t inline_change; /* attr.change the bytes belong to */
    uint32_t inline_bytes;
    struct client_dirty *dirty;
    uint32_t dirty_count;
    uint32_t dirty_room;
    bool lost;
};

struct client_inode *client_inode_find(struct client *client, uint64_t ino);
/* A reference to the inode's entry; it is made if there is none, and has no attributes then. */
struct client_inode *client_inode_take(struct client *client, uint64_t ino);
struct client_inode *client_inode_get(struct client_inode *inode);
void client_inode_put(struct client_inode *inode);
/* Forget it: nobody has a reference. */
void client_inode_free(struct client_inode *inode);
/* The inode's group, as the newest map has it; NULL: no map has come yet. */
const struct map_group *client_inode_home(const struct client_inode *inode);
/* Attributes as just answered to meta: remembered unless older than what is known. asked_ns: when
 * the question was sent. */
void client_inode_learn(struct client_inode *inode, const struct meta_call *meta,
                        uint64_t asked_ns);
/* The same for whoever has an entry. */
void client_learn(struct client *client, const struct meta_call *meta, uint64_t asked_ns);
bool client_inode_fresh(const struct client_inode *inode);
/* Its group has lost its memory since attr was the truth: the file may even be inline again. */
bool client_inode_outlived(const struct client_inode *inode);
may_yield must_check int client_inode_refresh(struct client_inode *inode);
static inline bool client_inode_inline(const struct client_inode *inode)
{
    return inode->attr.flags & ATTR_INLINE;
}
void client_inode_lazy_mtime(struct client_inode *inode, int64_t mtime_ns);
/* Send the lazy modification time now, if there is one. */
may_yield must_check int client_inode_flush(struct client_inode *inode);
void client_inode_inline_put(struct client_inode *inode, struct slice data, uint64_t asked_ns);
void client_inode_inline_drop(struct client_inode *inode);
/* GROW: size is a new minimum; moves inline data out if it is beyond what fits. change: as in
 * wire_meta.h. */
may_yield must_check int client_inode_grow(struct client_inode *inode, uint64_t size,
                                           uint64_t change);
/* Fiber: sends lazy modification times. */
void client_lazy_fiber(void *arg);

/* ---- open files (op_open.c) ------------------------------------------------------------------ */

struct client_file {
    struct list link; /* in client->files */
    struct client *client;
    struct client_inode *inode;
    uint64_t open_id;
    uint32_t group;   /* where the open is registered, */
    uint32_t epoch;   /* when, */
    uint32_t primary; /* and with whom */
    bool reasserting;
    bool lost; /* the connection broke: register again */
};
/* answer: of the request that opened it. */
struct client_file *client_file_new(struct client_inode *inode, const struct meta_call *answer);
/* Have open files registered again where the group's epoch has changed or the connection broke;
 * what there are no fibers for now is for the next call, when lost_wait is woken. */
void client_reassert(struct client *client);

/* ---- closed files (release.c) ---------------------------------------------------------------- */

void client_closed_init(struct client *client);
/* The registration open_id of inode ino is no longer wanted; its primary is told soon. */
may_yield void client_closed_add(struct client *client, uint64_t ino, uint64_t open_id);
/* Tell the group of inode ino now, ahead of what is sent to it next. */
void client_closed_send(struct client *client, uint64_t ino);
/* Tell all, and wait until they know or until the deadline. */
may_yield void client_closed_drain(struct client *client, uint64_t deadline_ns);

/* ---- data (data_io.c) ------------------------------------------------------------------------ */

may_yield must_check int client_read_piece(struct client_inode *inode,
                                           const struct split_piece *piece,
                                           struct buf_slice *ret_payload);
/* As of when a piece was written. */
struct client_placed {
    uint64_t change; /* of the inode, as the writer knew it */
    uint32_t epoch;  /* of the object's group */
};
/* In: placed->change; out: placed->epoch. -ERR_TRUNCATED: the inode was truncated since. */
may_yield must_check int client_write_piece(struct client_inode *inode,
                                            const struct split_piece *piece, struct buf_slice data,
                                            struct client_placed *placed);
/* Has a truncation since cut what was written, or may it have? 1: yes; 0: no; -ERR_WRONG_EPOCH: the
 * group's primary may have forgotten. */
may_yield must_check int client_piece_is_cut(struct client_inode *inode,
                                             const struct split_piece *piece,
                                             const struct client_placed *placed);
/* OBJ_PUNCH of a range inside one object. */
may_yield must_check int client_punch_piece(struct client_inode *inode,
                                            const struct split_piece *piece);
/* Fibers that work for one: spawn with gather_add, end with gather_done, wait with gather_wait. */
struct gather {
    uint32_t pending;
    int error; /* the first */
    struct waitq wait;
};
void gather_init(struct gather *gather);
void gather_done(struct gather *gather, int result);
may_yield int gather_wait(struct gather *gather);

#endif
