/* SPDX-License-Identifier: MIT */
#ifndef CFS_MAP_SERVER_INTERNAL_H
#define CFS_MAP_SERVER_INTERNAL_H

#include "format/wire_map.h"
#include "map/map_delta.h"
#include "map/map_internal.h"
#include "raft/raft.h"
#include "store/store.h"

enum {
    SERVER_PAST_MAX = 4,       /* dead incarnations of a node that are remembered */
    SERVER_CLIENTS_MAX = 1024, /* that STATUS can list */
    SERVER_SNAPSHOT_EVERY = 100,
    SERVER_STORE_TABLE = 0x52, /* of group 0: term, log and snapshot of Raft */
};

/* What this process knows of a node, beyond the map. Kept by followers too. */
struct contact {
    uint32_t node;
    uint64_t incarnation;         /* last heard of */
    uint64_t first_heard_ns;      /* of this incarnation */
    uint64_t heard_term;          /* Raft term in which we, leading, last heard it: it is sure */
    uint64_t sure_since_ns;       /* in that term */
    uint64_t beat_ns;             /* its last beat that we may have answered with a lease */
    uint64_t beat_map_version;    /* of the map it acts by */
    uint64_t gone_incarnation;    /* proven dead */
    uint64_t condemned;           /* incarnation that is being declared dead: gets no lease */
    uint64_t pending_incarnation; /* wants to be up */
    uint64_t pending_size_bytes;
    uint64_t not_up_since_ns; /* seen so by us as leader; 0: up */
    bool verifying;
    bool verify_again;              /* a hint came while it was being verified */
    uint64_t past[SERVER_PAST_MAX]; /* older incarnations */
    /* replicas as reported by reports_incarnation */
    uint64_t reports_incarnation;
    uint64_t reports_ns;
    uint32_t report_count;
    struct map_replica_report *reports; /* ascending groups */
};

/* The last node, other than the present primary, that may believe to be primary of a group. */
struct former_primary {
    uint32_t node;
    uint64_t version; /* of the map that says otherwise */
};

struct seen_client {
    uint64_t session;
    uint64_t seen_ns;
    uint32_t polls; /* under way */
    char name[64];
};

struct map_server {
    struct rpc *rpc;
    struct store *store;
    struct map_client *client; /* follows the map too; NULL: none */
    bool member;               /* by the newest map: else time-outs mean nothing here */
    struct map_server_options options;
    struct map_node nodes[MAP_COMMAND_INIT_NODES_MAX]; /* options.nodes */
    struct map_header settings;                        /* options.header */

    /* Raft */
    struct raft *raft;
    struct raft_update *update;
    struct timer timer;
    bool stepping;
    bool failed; /* our store is fenced: we take no part any more */
    uint8_t *scratch;
    struct waitq persist_wake;
    uint64_t persist_lsn;
    uint64_t persist_seq;
    uint64_t stored_first; /* entries in the store */
    uint64_t stored_last;
    uint32_t snapshot_area; /* of the store: where the newest snapshot's bytes are */
    struct buf *snapshot;   /* NULL: of no map */
    uint32_t snapshot_bytes;
    struct map_view *incoming; /* of the snapshot message being stepped */

    /* state machine */
    struct map_view *view;
    struct map_view *outlook; /* with all of the log up to outlook_index; for addresses only */
    uint64_t outlook_index;
    uint64_t applied;
    uint64_t history_from_version;  /* formers is complete from here on */
    struct former_primary *formers; /* by group index */
    struct buf *view_buf;           /* bytes of view, made on demand */
    struct map_history history;     /* of view */
    struct waitq changed;           /* view, role */
    struct list proposals;
    struct list reads;
    uint64_t read_id;    /* of the newest confirmation asked for, */
    uint64_t read_round; /* the round of heartbeats before which it was, */
    bool read_open;      /* and whether more may share it */

    /* leadership */
    uint64_t leader_term; /* 0: not leading */
    uint64_t elected_ns;
    uint64_t doubted_ns; /* when we last gave the lead away because so few were heard; 0: never */
    struct waitq controller_wake;
    bool controller_news;
    uint64_t planned_version; /* of the map that the last plan was made for, */
    uint64_t planned_known;   /* what was known of the nodes then, */
    bool planned_balance;     /* and whether balance was looked at */
    uint64_t balance_ns;      /* no moves for balance before: nodes come and go just now */
    uint64_t lost_version;    /* of the map whose lost groups have been told of */
    struct contact *contacts[MAP_NODES_MAX + 1];

    uint32_t client_count;
    struct seen_client *clients;
};

/* server.c */
void server_step(struct map_server *server, struct raft_event *event);
/* Our store has failed: take no part any more. */
void server_fail(struct map_server *server);
bool server_leads(const struct map_server *server); /* and knows everything committed */
/* Agree on a command. 0, -ERR_CAS_FAILED, -EINVAL (as map_apply), -ERR_NOT_LEADER (or leadership
 * was lost meanwhile: it may or may not come to pass), -ERR_BUSY. */
may_yield must_check int server_propose(struct map_server *server, struct slice command);
/* Wait until a majority has confirmed, by messages sent after this call, that we lead. 0,
 * -ERR_NOT_LEADER, -ERR_BUSY. */
may_yield must_check int server_confirm(struct map_server *server, bool urgent);
/* Address by map, by the log, or by the initial nodes. False: unknown. */
bool server_addr(struct map_server *server, uint32_t node, struct net_addr *ret_addr);

/* stored.c: the map as it will be if all of the log comes to pass (NULL: none); a reference. */
struct map_view *server_outlook(const struct map_server *server);

/* server_store.c */
may_yield must_check int server_load(struct map_server *server);
void server_persist(struct map_server *server);
may_yield void server_persist_fiber(void *arg);
void server_snapshot_set(struct map_server *server, const void *bytes, uint32_t count);

/* server_raft.c: messages between members */
void server_send_messages(struct map_server *server);
void server_handle_raft(void *service, struct rpc_request *request);

/* server_rpc.c */
void server_register(struct map_server *server);

/* server_admin.c */
void server_admin_register(struct map_server *server);

/* contact.c: who is alive */
struct contact *contact_of(struct map_server *server, uint32_t node); /* id <= MAP_NODES_MAX */
/* A message of that process has arrived. */
void contact_heard(struct map_server *server, uint32_t node, uint64_t incarnation);
bool contact_is_sure(const struct map_server *server, const struct map_node *node);
/* Ids of all sure nodes into ids (MAP_NODES_MAX); returns the count. */
uint32_t contact_sure_ids(const struct map_server *server, uint32_t *ids);
bool contact_is_past(const struct contact *contact, uint64_t incarnation);
void contact_reset_all(struct map_server *server); /* a new leadership begins */
/* Find out whether the node's process is gone; if so, act. */
void contact_verify(struct map_server *server, uint32_t node);
void contact_peer_lost(void *context, const struct net_addr *addr, uint32_t node, int error);

/* controller.c */
may_yield void controller_fiber(void *arg);
void controller_poke(struct map_server *server);
void controller_map_changed(struct map_server *server, const struct map_view *before);
/* May the member be dropped now: can it no longer believe to be primary of the group? */
bool controller_drop_is_safe(const struct map_server *server, uint32_t group, uint32_t node);
/* When the leader may declare the node dead for its silence. */
uint64_t controller_expiry_ns(const struct map_server *server, const struct map_node *node);

/* controller_voters.c: the next step towards the wanted members of the map group. True: the map has
 * changed. */
may_yield bool controller_voters(struct map_server *server, uint64_t *ret_deadline_ns);

/* controller_elect.c: rows of groups that can have a primary now; *ret_deadline_ns is lowered to
 * when to look again. Returns the count (<= MAP_COMMAND_ELECTS_MAX). */
uint32_t controller_elections(struct map_server *server, struct map_command_elect *rows,
                              uint64_t *ret_deadline_ns);

#endif
