/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_LOAD_APPEND_H
#define CFS_TEST_SIM_LOAD_APPEND_H

#include <stdbool.h>
#include <stdint.h>

enum { APPEND_FILES = 2 };

struct append {
    uint32_t file;
    uint32_t cells;
    uint64_t begin; /* moments */
    uint64_t end;   /* 0: no answer */
    bool found;     /* in the end */
};

/* All that was appended; the stamp of an append is its index + 1. */
struct appends {
    struct append *list;
    uint32_t count;
    uint32_t room;
    uint64_t clock;
    uint64_t inos[APPEND_FILES];
};

#endif
