/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_DISK_GROUP_H
#define CFS_FORMAT_DISK_GROUP_H

#include "format/format.h"

/* What a group keeps in its store besides its content. */

/* In front of every log record's payload in the journal. */
struct disk_group_record {
    uint32_t kind;       /* enum group_record_kind */
    uint32_t group_kind; /* enum map_group_kind: recovery comes before the map */
};
FORMAT_SIZE(struct disk_group_record, 8);

enum { DISK_GROUP_HISTORY_MAX = 64 };

/* Row of GROUP_TABLE_STATE, key suffix 0: changes with every applied record. */
struct disk_group_applied {
    uint64_t seq;
    uint32_t epoch; /* of record seq */
    uint32_t zero;
    int64_t bytes; /* of data extents */
};
FORMAT_SIZE(struct disk_group_applied, 24);

/* Row of GROUP_TABLE_STATE, key suffix 1: in which epoch which records were made; ascending.
 * Records of before the first entry have left the history. */
struct disk_group_epoch {
    uint64_t first_seq;
    uint32_t epoch;
    uint32_t zero;
};
FORMAT_SIZE(struct disk_group_epoch, 16);

/* Row of GROUP_TABLE_STATE, key suffix 2: 1 while the replica is a complete copy. */
struct disk_group_valid {
    uint32_t valid;
    uint32_t zero;
};
FORMAT_SIZE(struct disk_group_valid, 8);

#endif
