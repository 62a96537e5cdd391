/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_CELL_H
#define CFS_TEST_SIM_CELL_H

/* File contents that tell who wrote them: files consist of *cells*, each filled with the number
 * (stamp) of the operation that wrote it, and with where it belongs. */

#include <stdint.h>

enum { CELL_BYTES = 128, CELL_ZERO = 0 };
#define CELL_TORN UINT32_MAX

/* place: any number; a cell read at another place is torn. */
void cell_fill(void *cell, uint32_t stamp, uint64_t place);
/* The stamp; CELL_ZERO for zeroes; CELL_TORN if it is not one whole cell of that place. */
uint32_t cell_stamp(const void *cell, uint64_t place);

#endif
