/* SPDX-License-Identifier: MIT */
#ifndef CFS_CLIENT_SPLIT_H
#define CFS_CLIENT_SPLIT_H

/* How a range of a file falls into requests on objects. Pure. */

#include "base/defs.h"
#include "format/wire_data.h"

struct split_piece {
    uint64_t file_offset;
    uint32_t index;  /* of the object */
    uint32_t offset; /* in the object */
    uint32_t bytes;  /* <= DATA_IO_MAX */
};

enum { SPLIT_PIECES_MAX = 8 };

/* Cut [offset, offset + bytes) at object borders and into pieces of at most DATA_IO_MAX that begin
 * at its multiples. Returns the count, at most SPLIT_PIECES_MAX for bytes <= 4 MiB. */
uint32_t split_range(uint64_t offset, uint32_t bytes, struct split_piece pieces[SPLIT_PIECES_MAX]);
/* Grow a piece to whole blocks. */
struct split_piece split_align(const struct split_piece *piece);
/* CRC-32C of each block fragment of data, which lies at offset of an object. Returns the count:
 * at most DATA_IO_MAX / DATA_BLOCK_BYTES + 1. */
enum { SPLIT_CRCS_MAX = DATA_IO_MAX / DATA_BLOCK_BYTES + 1 };
uint32_t split_checksums(uint32_t offset, const uint8_t *data, uint32_t bytes,
                         uint32_t crcs[SPLIT_CRCS_MAX]);

#endif
