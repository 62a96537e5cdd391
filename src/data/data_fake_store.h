/* SPDX-License-Identifier: MIT */
#ifndef CFS_DATA_DATA_FAKE_STORE_H
#define CFS_DATA_DATA_FAKE_STORE_H

/* A store in memory for the tests of data: rows in an array, and a count, block by block, of what
 * rows refer to, so that every extent_add and extent_del has to be right. Freed blocks are
 * overwritten at once, and reads yield at random, so that every assumption about who waits for whom
 * is put to the test. */

#include "data/data_fake.h"

enum { FAKE_BLOCKS = 16384, FAKE_ROWS_MAX = 16384 };

struct fake_row {
    uint8_t key[DATA_KEY_BYTES];
    uint32_t value_bytes;
    uint8_t value[DATA_VALUE_BYTES_MAX];
};

enum fake_owner { FAKE_FREE, FAKE_FRESH, FAKE_LIVE };

struct store {
    struct fake_row *rows; /* ascending keys */
    uint32_t row_count;
    uint8_t *device;
    uint8_t owner[FAKE_BLOCKS]; /* enum fake_owner */
    uint32_t cursor;
    struct random random;
    store_move_fn move;
    void *move_context;
};

struct store *fake_store_new(uint64_t seed);
void fake_store_forget(struct store *store, const struct store_extent *extents, uint32_t count);
/* Check rows against blocks of the device: D1, and every block of a row is live. Returns the number
 * of live blocks. */
uint32_t fake_store_check(const struct store *store);
/* Move one random live row as the cleaner would. */
may_yield void fake_clean_one(struct store *store);

#endif
