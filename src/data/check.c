/* SPDX-License-Identifier: MIT */
/* The data of one store, checked by what the store itself knows: see fsck.c for what only the whole
 * cluster can tell. The walk is the scrub's, so memory is bounded by one extent. */
#include "data/check.h"

#include <stdio.h>

#include "data/extent.h"

struct check {
    struct store *store;
    store_finding_fn fn;
    void *context;
    struct data_check_counts counts;
    uint32_t findings;
};

static void tell(struct check *check, const char *what, struct store_extent extent,
                 const struct data_row *row)
{
    char where[160];
    int used = snprintf(where, sizeof where, "block %llu, %u blocks",
                        (unsigned long long)extent.block, extent.blocks);
    if (row)
        (void)snprintf(where + used, sizeof where - (size_t)used,
                       ", inode %llx, block %llu of the file", (unsigned long long)row->ino,
                       (unsigned long long)row->first);
    check->findings++;
    check->fn(check->context, what, where);
}

static int check_extent(void *context, struct slice owner_key, struct store_extent extent,
                        const void *data)
{
    struct check *check = context;
    uint8_t value[DATA_VALUE_BYTES_MAX];
    struct data_row row;
    if (!data_key_is(owner_key)) {
        tell(check, "extent of an unknown owner", extent, NULL);
        return 0;
    }
    int bytes = store_get(check->store, owner_key, value, sizeof value);
    if (bytes == -EIO)
        return bytes;
    if (bytes < 0 && bytes != -ENOENT) { /* the tree has been told of by the store's own check */
        tell(check, "the row of the extent's owner cannot be read", extent, NULL);
        return 0;
    }
    if (bytes < 0 || data_row_parse(owner_key, slice_of(value, (uint32_t)bytes), &row) < 0) {
        tell(check, "extent without a row of its owner", extent, NULL);
        return 0;
    }
    if (row.extent.block != extent.block || row.extent.blocks != extent.blocks)
        tell(check, "its owner's row names another extent", extent, &row);
    else if (data_row_bad_blocks(&row, data) > 0)
        tell(check, "data do not have their checksums", extent, &row);
    check->counts.extents++;
    check->counts.data_bytes += extent.blocks * (uint64_t)DATA_BLOCK_BYTES;
    return 0;
}

int data_check_store(struct store *store, store_finding_fn fn, void *context,
                     struct data_check_counts *ret_counts)
{
    struct check check = {.store = store, .fn = fn, .context = context};
    int result = store_scrub(store, 0, check_extent, &check);
    *ret_counts = check.counts;
    return result < 0 ? result : check.findings > 0 ? -ERR_CORRUPT_DISK : 0;
}
