/* SPDX-License-Identifier: MIT */
#include "client/split.h"

#include "base/assert.h"
#include "base/crc32c.h"

uint32_t split_range(uint64_t offset, uint32_t bytes, struct split_piece pieces[SPLIT_PIECES_MAX])
{
    _Static_assert(OBJECT_BYTES % DATA_IO_MAX == 0, "a piece never crosses an object");
    uint64_t end = offset + bytes;
    uint32_t count = 0;
    while (offset < end) {
        assert(count < SPLIT_PIECES_MAX);
        uint64_t stop = MIN(round_down(offset, DATA_IO_MAX) + DATA_IO_MAX, end);
        pieces[count++] = (struct split_piece){
            .file_offset = offset,
            .index = (uint32_t)(offset / OBJECT_BYTES),
            .offset = (uint32_t)(offset % OBJECT_BYTES),
            .bytes = (uint32_t)(stop - offset),
        };
        offset = stop;
    }
    return count;
}

struct split_piece split_align(const struct split_piece *piece)
{
    uint64_t offset = round_down(piece->offset, DATA_BLOCK_BYTES);
    uint64_t end = round_up((uint64_t)piece->offset + piece->bytes, DATA_BLOCK_BYTES);
    assert(end - offset <= DATA_IO_MAX && end <= OBJECT_BYTES);
    return (struct split_piece){
        .file_offset = piece->file_offset - (piece->offset - offset),
        .index = piece->index,
        .offset = (uint32_t)offset,
        .bytes = (uint32_t)(end - offset),
    };
}

uint32_t split_checksums(uint32_t offset, const uint8_t *data, uint32_t bytes,
                         uint32_t crcs[SPLIT_CRCS_MAX])
{
    uint32_t count = 0;
    for (uint32_t done = 0; done < bytes;) {
        assert(count < SPLIT_CRCS_MAX);
        uint32_t room = DATA_BLOCK_BYTES - (offset + done) % DATA_BLOCK_BYTES;
        uint32_t run = MIN(room, bytes - done);
        crcs[count++] = crc32c(0, data + done, run);
        done += run;
    }
    return count;
}
