/* SPDX-License-Identifier: MIT */
#ifndef CFS_DATA_CHECK_H
#define CFS_DATA_CHECK_H

/* Offline check of the data in one store, whatever groups it belongs to. */

#include "store/store.h"

struct data_check_counts {
    uint64_t extents;
    uint64_t data_bytes;
};

/* Read all extents in physical order: is the row that the backpointer names there, does it name the
 * extent, and do the checksums hold. 0, -ERR_CORRUPT_DISK (findings were told), -EIO. */
may_yield must_check int data_check_store(struct store *store, store_finding_fn fn, void *context,
                                          struct data_check_counts *ret_counts);

#endif
