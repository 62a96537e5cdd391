/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_META_H
#define CFS_META_META_H

/* The namespace service. Content of groups of kind MAP_GROUP_META; serves the verbs of
 * format/wire_meta.h and the TXN_ RPCs. */

#include "group/group.h"
#include "net/rpc.h"

struct meta_service;

struct meta_service *meta_service_new(void);
extern const struct group_content_ops meta_content_ops; /* context: the meta_service */
void meta_service_start(struct meta_service *service, struct rpc *rpc, struct group_host *host,
                        struct map_client *map);
/* Feed each new map, after group_host_map_changed. */
void meta_map_changed(struct meta_service *service, const struct map_view *view);
/* A session's last connection has closed (rpc_on_session_closed). */
void meta_session_closed(struct meta_service *service, uint64_t session);
/* For data_service_set_namer. */
may_yield void meta_name_inode(void *service, uint64_t ino, char *text, uint32_t bytes);

#endif
