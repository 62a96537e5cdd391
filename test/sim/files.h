/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_FILES_H
#define CFS_TEST_SIM_FILES_H

/* The history of files that several clients write, truncate and read, and what it may be. */

#include <stdbool.h>

#include "cell.h"
#include "linear.h"

enum { FILES = 5, FILES_CELLS_MAX = 96 /* of one read or write */ };

enum files_verb { FILES_WRITE, FILES_READ, FILES_TRUNCATE, FILES_SIZE, FILES_PUNCH, FILES_FSYNC };

struct files_op {
    uint64_t begin; /* linear_op */
    uint64_t end;
    uint64_t begin_ns;
    uint64_t end_ns;
    uint8_t verb;
    uint8_t client;
    uint8_t file;
    bool answered;
    int result;
    uint32_t stamp; /* WRITE */
    uint32_t cell;  /* WRITE, READ, PUNCH: the first */
    uint32_t count;
    uint32_t got;   /* READ: so many came before the end of the file */
    uint32_t size;  /* TRUNCATE, SIZE: in cells */
    uint32_t *seen; /* READ: stamps, got of them */
};

struct files_history {
    struct files_op *ops;
    uint32_t count;
    uint32_t room;
    uint64_t clock;
};

void files_fini(struct files_history *history);
/* As in names.h. WRITE gets its stamp. */
uint32_t files_begin(struct files_history *history, const struct files_op *op, uint64_t now_ns);
void files_end(struct files_history *history, uint32_t op, int result, uint64_t now_ns);

/* Each cell of each file, and each file's size, is a register: is its history possible? Prints what
 * is wrong. *ret_undecided: of how many this is not known. False if one is not possible. */
bool files_check(const struct files_history *history, uint32_t *ret_undecided);
/* The same where all nodes died at times (files_lossy.c): what was not fsynced may be lost. */
bool files_check_lossy(const struct files_history *history);
void files_print(const struct files_op *op);

#endif
