/* SPDX-License-Identifier: MIT */
#ifndef CFS_DATA_DATA_H
#define CFS_DATA_DATA_H

/* The object service: file data on data groups. Content of groups of kind MAP_GROUP_DATA; serves
 * the OBJ_ RPCs of format/wire_data.h. */

#include "group/group.h"
#include "net/rpc.h"

struct data_service;

struct data_counters {
    uint64_t checksum_errors; /* blocks that failed on read */
    uint64_t repairs;         /* of these, rewritten from another member */
    uint64_t losses;          /* no member had a good copy */
    uint64_t scrubbed_bytes;  /* read and verified by scrubs */
    uint64_t scrubs;          /* completed */
    uint64_t scrub_found;     /* extents that scrubs found damaged */
};

/* Created before the group host (which takes the ops), bound to it afterwards; registers RPCs. */
struct data_service *data_service_new(void);
extern const struct group_content_ops data_content_ops; /* context: the data_service */
void data_service_start(struct data_service *service, struct rpc *rpc, struct group_host *host);
void data_service_counters(const struct data_service *service, struct data_counters *ret_counters);
/* Name an inode in log lines ("path or ino"); set by node once meta can answer. May be NULL. */
typedef may_yield void (*data_name_fn)(void *context, uint64_t ino, char *text, uint32_t bytes);
void data_service_set_namer(struct data_service *service, data_name_fn fn, void *context);
/* How scrubs run by themselves: at most rate_bytes_per_s (0: never), every_ns after the end of the
 * one before. Before data_service_start. */
void data_service_set_scrub(struct data_service *service, uint64_t rate_bytes_per_s,
                            uint64_t every_ns);
/* Read and verify everything on this node's device, in physical order, at most rate_bytes_per_s
 * (0: no limit), and repair what is damaged. Runs by itself every now and then; this does it now.
 * 0, -ERR_BUSY (one is at work), or an error of the store. */
may_yield must_check int data_service_scrub(struct data_service *service,
                                            uint64_t rate_bytes_per_s);

/* ---- for callers on a node that is not a client (meta: truncate, spill, delete) ------------- */

struct data_request {
    enum rpc_type type; /* OBJ_WRITE, OBJ_PUNCH, OBJ_SYNC, OBJ_TRUNCATE */
    uint32_t index;
    uint64_t ino;
    uint32_t offset;
    uint32_t bytes;
    uint64_t order; /* OBJ_WRITE: of the inode's truncations, too; 0: none */
    bool durable;   /* when the call returns 0 */
};
/* One OBJ_ call to the group of the object, with routing by the map, retried until deadline_ns.
 * payload may be empty; for OBJ_WRITE it has request.bytes, and the CRCs are computed here.
 * 0, -ERR_TIMED_OUT, or the primary's final answer (-ERR_NO_SPACE, -ERR_CORRUPT_DATA, -EINVAL,
 * -ERR_CANCELED: a later order was here). */
may_yield must_check int data_call(struct rpc *rpc, struct map_client *map,
                                   const struct data_request *request, struct buf_slice payload,
                                   uint64_t deadline_ns);
/* Remove the data of ino from from_offset on, in all data groups concerned; size: the file's size
 * so far, which bounds the work: objects that begin at or behind it are not looked for. The block
 * that from_offset lies in is zeroed behind it. May be cut short by an error: call again. order
 * (wire_data.h) is greater than that of any earlier call for the inode, 0 if nothing will ever be
 * written there again. Errors as data_call. */
struct data_truncation {
    uint64_t ino;
    uint64_t from_offset;
    uint64_t size;
    uint64_t order;
    uint64_t change; /* of the inode, after it */
    bool durable;    /* when the call returns 0 */
};
may_yield must_check int data_truncate_file(struct rpc *rpc, struct map_client *map,
                                            const struct data_truncation *truncation,
                                            uint64_t deadline_ns);

#endif
