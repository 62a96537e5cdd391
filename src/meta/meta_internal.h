/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_META_INTERNAL_H
#define CFS_META_META_INTERNAL_H

/* State of the service and of a group that it serves. */

#include "base/htable.h"
#include "base/list.h"
#include "base/random.h"
#include "meta/key.h"
#include "meta/meta.h"

enum {
    META_LOCK_QUEUES = 64,
    META_INO_RESERVE = 1 << 24, /* file inode numbers reserved by one row */
    META_INO_FIRST = 16,
};
#define META_OP_PATIENCE_NS    (9 * NS_PER_S) /* then -ERR_BUSY: the client asks again */
#define META_LOCK_PATIENCE_NS  (200 * NS_PER_MS)
#define META_PEER_LOCK_WAIT_MS 150
#define META_PEER_PATIENCE_NS  (3 * NS_PER_S)
#define META_PART_LOCK_TTL_NS  (6 * NS_PER_S)  /* locks of a silent coordinator */
#define META_PART_DOUBT_NS     (1 * NS_PER_S)  /* prepared and not told: ask */
#define META_REOPEN_GRACE_NS   (10 * NS_PER_S) /* as for a session without connections */
#define META_SESSION_GRACE_NS  (10 * NS_PER_S)
#define META_DATA_PATIENCE_NS  (8 * NS_PER_S)
#define META_REPLAY_TTL_NS     (3600 * NS_PER_S) /* a session silent for so long repeats nothing */

struct meta_service {
    struct rpc *rpc;
    struct group_host *host;
    struct map_client *map;
    struct htable sessions; /* struct meta_session */
};

/* A group while it is served here: from the serving hook to ceased. Those who hold a reference may
 * outlive that; dead says so. */
struct meta_group {
    struct meta_service *service;
    struct group *group;
    uint32_t id;
    uint32_t refs;
    bool dead;
    bool root_missing;

    struct htable locks; /* struct meta_lock */
    uint32_t prepared_count;
    struct waitq lock_queues[META_LOCK_QUEUES];

    uint64_t txn_number;
    uint32_t truncations; /* begun here: the low half of their order */
    struct list running;  /* struct meta_txn that have participants and are not decided */
    struct htable parts;  /* struct meta_part: our share in others' transactions */
    struct list settled;  /* struct meta_decided whose row is to be removed */
    uint32_t settled_count;

    struct random random;
    uint64_t ino_next;
    uint64_t ino_limit;
    struct fiber_mutex ino_mutex;

    struct htable opens;   /* struct meta_open */
    struct htable replays; /* struct meta_replay */
    struct htable callers; /* struct meta_caller */
    struct timer purge_timer;
    bool purging;
    struct list orphans; /* struct meta_orphan */
    uint64_t orphans_noted;
    uint64_t orphans_durable; /* of them, the first so many */
    uint32_t reapers;         /* fibers at work */
    uint64_t grace_until_ns;  /* see meta_grace_end_ns */
};

struct meta_group *meta_group_get(struct meta_group *mg);
void meta_group_put(struct meta_group *mg);

/* The group that serves an inode. -ERR_STALE_MAP: no map yet. */
must_check int meta_group_of_ino(const struct meta_service *service, uint64_t ino,
                                 uint32_t *ret_group);

/* The state of a group that is served here. Errors as group_find_serving. */
must_check int meta_find_serving(struct meta_service *service, uint32_t group, uint32_t epoch,
                                 bool for_write, struct meta_group **ret_mg);

/* Append changes to the group's log, waiting for room if need be. Fails with -ERR_NOT_PRIMARY if
 * the group has ceased since mg was made, so that nothing is built on what was read before. Does
 * not yield between its last check and the append. 0 or as group_append. */
may_yield must_check int meta_append(struct meta_group *mg, const struct store_batch *batch,
                                     uint64_t *ret_seq);

/* Wait until record seq has committed. -ERR_NOT_PRIMARY: the group has ceased since mg was made,
 * and whatever it was may not have happened. Or as group_wait. */
may_yield must_check int meta_wait(struct meta_group *mg, uint64_t seq);

/* serving.c: hooks of struct group_content_ops. */
/* Until then clients may have open what they could not tell: the group is served here since a
 * moment ago, or this node was cut off, perhaps from them, too. */
uint64_t meta_grace_end_ns(const struct meta_group *mg);
may_yield int meta_serving(void *context, struct group *group);
void meta_ceased(void *context, struct group *group);
/* Make the root directory if it is missing and this group owns it. */
may_yield must_check int meta_root_make(struct meta_group *mg);
/* A number for a new file in slot, or a guess for a new directory (to be checked). */
may_yield must_check int meta_ino_new(struct meta_group *mg, uint32_t slot, uint64_t *ret_ino);
uint64_t meta_ino_guess_dir(struct meta_group *mg);

/* dispatch.c */
void meta_register_verbs(struct meta_service *service);
/* participant.c */
void meta_register_participant(struct meta_service *service);

#endif
