/* SPDX-License-Identifier: MIT */
#ifndef CFS_GROUP_GROUP_H
#define CFS_GROUP_GROUP_H

/* Replicated groups: primary-backup (PacificA) between the members that the map names.
 *
 * group_host  all replicas on this node; created before the store is opened, because recovery
 *             hands the log back to it
 * group       one replica; the content (meta, data) works with it only while it is the serving
 *             primary
 *
 * A record is either a *batch* of puts and deletes (meta), mirrored in the overlay until applied,
 * so that the primary executes against applied + prepared state; or *content* (data), opaque here,
 * turned into a batch by the content's apply. */

#include "base/bytes.h"
#include "env/env.h"
#include "map/map.h"
#include "store/store.h"

struct group;
struct group_host;

enum group_record_kind {
    GROUP_RECORD_BATCH = 1,   /* payload: changes as in struct store_batch, keys of this group */
    GROUP_RECORD_CONTENT = 2, /* payload: the content's own, with data extents */
    GROUP_RECORD_NOOP = 3,    /* made by a new primary */
};

enum { GROUP_EXTENTS_MAX = 16, GROUP_PAYLOAD_MAX = 64 << 10 };

/* Local tables of every group's key space (5th key byte); meta and data use 0x10 to 0xef. */
enum {
    GROUP_TABLE_STATE = 0x01, /* applied seq, epoch history, validity: not part of scans */
};

/* What a kind of content (meta or data) provides. All run on the reactor. */
struct group_content_ops {
    /* A CONTENT record, to be turned into changes. Deterministic given the store. May read the
     * store and yield; records of one group come one at a time, in order. 0, or an error: the
     * replica is then invalid and leaves the group. */
    may_yield int (*apply)(void *context, struct group *group,
                           const struct store_log_record *record, struct store_batch *batch);
    /* This replica became the serving primary / ceased to be. serving runs in a fiber before the
     * first request is let in (in-memory state such as locks of prepared transactions is rebuilt
     * here); ceased must not yield. */
    may_yield int (*serving)(void *context, struct group *group);
    void (*ceased)(void *context, struct group *group);
    /* The data extent that a value refers to; false if it holds none. And the same value with the
     * data elsewhere. For scans between members. */
    bool (*extent_of)(void *context, struct slice key, struct slice value,
                      struct store_extent *ret_extent);
    void (*rebase)(void *context, struct slice key, void *value, uint32_t value_bytes,
                   struct store_extent extent);
    /* The data of a value that was just read (extent.blocks * 4 KiB into data), verified, and
     * repaired if need be; blocks that are lost stay wrong, so that readers notice. For scans; NULL
     * if the content has no data. 0 or an error of the store. */
    may_yield int (*read)(void *context, struct slice key, struct slice value, void *data);
    /* While on, the content must not move data of the group by local commits: the table is being
     * replaced from outside. Nests; NULL if the content never does. */
    void (*hold)(void *context, struct group *group, bool on);
};

struct group_host_options {
    uint32_t node;
    struct store **store;      /* where store_open will put the store */
    uint64_t log_memory_bytes; /* applied records kept for catch-up, all groups together */
    const struct group_content_ops *content[3]; /* by enum map_group_kind */
    void *content_context[3];
};

struct group_host *group_host_new(struct rpc *rpc, const struct group_host_options *options);
/* For struct store_options; context is the host. */
extern const struct store_log_ops group_host_log_ops;
/* After store_open: load replica states. Then, with map and lease at hand, start serving. */
may_yield must_check int group_host_load(struct group_host *host);
void group_host_start(struct group_host *host, struct map_client *map, struct map_lease *lease);
/* Feed each new map (struct map_client's changed callback). */
void group_host_map_changed(struct group_host *host, struct map_view *view);
/* For map_lease_ops. */
uint32_t group_host_reports(struct group_host *host, struct map_replica_report *reports,
                            uint32_t max);
/* For STATUS. */
struct wire_status_group;
uint32_t group_host_status(struct group_host *host, struct wire_status_group *rows, uint32_t max);
struct store *group_host_store(struct group_host *host);

/* ---- for content, on the primary ----------------------------------------------------------- */

/* The replica, if it is the serving primary in that epoch (0: any) with a valid lease.
 * -ERR_NOT_PRIMARY, -ERR_WRONG_EPOCH, -ERR_RECOVERING, -ERR_NO_LEASE, -ERR_NO_QUORUM (fewer in
 * sync than min_in_sync; writes only).
 * The pointer stays valid for ever (replicas are never freed); what may change at any yield is
 * whether it serves: appends and waits then fail. */
must_check int group_find_serving(struct group_host *host, uint32_t group, uint32_t epoch,
                                  bool for_write, struct group **ret_group);
/* When this node got its lease back after it had run out; 0: it never has; UINT64_MAX: it has none
 * now. */
uint64_t group_regained_ns(const struct group *group);
uint32_t group_id(const struct group *group);
uint32_t group_epoch(const struct group *group);
/* The store that holds the replica. Also valid inside apply while the store recovers. */
struct store *group_store(const struct group *group);
void *group_user(const struct group *group); /* the content's per-group state */
void group_set_user(struct group *group, void *user);

/* Read applied + prepared state. *seen_seq grows to the newest record that the answer depends on:
 * before replying, group_wait for it. Keys carry the group prefix. Returns and errors as
 * store_get. */
may_yield int group_get(struct group *group, struct slice key, void *value, uint32_t capacity,
                        uint64_t *seen_seq);
struct group_iter;
struct group_iter *group_iter_new(struct group *group);
void group_iter_free(struct group_iter *iter);
void group_iter_seek(struct group_iter *iter, struct slice from);
may_yield int group_iter_next(struct group_iter *iter, struct slice end, struct slice *ret_key,
                              struct slice *ret_value, uint64_t *seen_seq);

/* Append a record to the log and send it to the members (gathered per turn). Never yields.
 * payload and extents are copied; data: the bytes of the extents, in order, for the members
 * (referenced until sent).
 * 0 and the record's seq, or -ERR_NOT_PRIMARY / -ERR_NO_LEASE / -ERR_NO_QUORUM / -ERR_BUSY (the
 * window of prepared records is full: group_wait_room first) / -ERR_NO_SPACE (data, and a member
 * has no room: group_wait_space first). */
struct group_append {
    enum group_record_kind kind;
    struct slice payload;
    const struct store_extent *extents;
    uint32_t extent_count;
    struct buf_slice data;
};
must_check int group_append(struct group *group, const struct group_append *append,
                            uint64_t *ret_seq);
may_yield must_check int group_wait_room(struct group *group);
/* Before an append that does not free: whether all members' devices have room for new data, or at
 * least for rows. Those that had none when they last told are asked. 0, -ERR_NO_SPACE,
 * -ERR_NOT_PRIMARY. */
may_yield must_check int group_wait_space(struct group *group, bool data);
/* Wait until record seq has been committed and applied here. -ERR_NOT_PRIMARY: this replica was
 * deposed meanwhile; the record may or may not survive. */
may_yield must_check int group_wait(struct group *group, uint64_t seq);
/* Make everything appended so far durable on all in-sync members (fsync). */
may_yield must_check int group_flush(struct group *group);
uint64_t group_last_seq(const struct group *group);
/* Other in-sync members, to fetch good copies from. Returns the count. */
uint32_t group_peers(const struct group *group, struct net_addr *peers, uint32_t max);
/* Any replica on this node (serving or not), or NULL: member-to-member reads. */
struct group *group_find(struct group_host *host, uint32_t group);

#endif
