/* SPDX-License-Identifier: MIT */
#ifndef CFS_GROUP_FSCK_H
#define CFS_GROUP_FSCK_H

/* The offline check: what the layers that know rows (group, data, meta) share. node/fsck.h is the
 * way in. Replicas are those of stores opened to be read only, after recovery: changes made here
 * (records applied, transactions settled) are in memory alone. */

#include "group/fsck_table.h"
#include "group/group.h"

enum fsck_level { FSCK_NOTE, FSCK_PROBLEM, FSCK_CANNOT };

/* where: text that names the place; valid during the call. */
typedef void (*fsck_found_fn)(void *context, enum fsck_kind kind, const char *where);

struct fsck_counts {
    uint64_t inodes;
    uint64_t names;
    uint64_t orphans;
    uint64_t prepared;   /* shares of transactions not yet told how they ended */
    uint64_t decided;    /* transactions that ended and are not yet forgotten */
    uint64_t requests;   /* results kept for repetitions */
    uint64_t data_bytes; /* of one copy */
    uint32_t passes;     /* over all rows */
    uint32_t found[FSCK_KINDS];
};

struct fsck {
    const struct map_view *view;
    struct store **stores; /* of the newest member, by the group's index in the map; NULL: none */
    uint64_t memory_bytes; /* for the table of inodes */
    bool read_data;        /* verify the checksums of all data, of all members */
    fsck_found_fn fn;
    void *context;
    struct fsck_counts counts;
};

enum fsck_level fsck_level(enum fsck_kind kind);
const char *fsck_name(enum fsck_kind kind);
const char *fsck_what(enum fsck_kind kind);
const char *fsck_effect(enum fsck_kind kind);
const char *fsck_fix(enum fsck_kind kind);
void fsck_tell(struct fsck *fsck, enum fsck_kind kind, const char *format, ...) printf_like(3, 4);

/* The store to look at for a group, or NULL. */
struct store *fsck_store(const struct fsck *fsck, uint32_t group);

/* Choose the newest complete member of the group among hosts (of different nodes), apply to all
 * members equally new what their logs hold, and compare them. Sets fsck->stores[index]. */
may_yield void fsck_group(struct fsck *fsck, uint32_t index, struct group_host *const *hosts,
                          uint32_t host_count);

#endif
