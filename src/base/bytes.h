/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_BYTES_H
#define CFS_BASE_BYTES_H

/* Byte runs, big-endian key parts, and the one bounded cursor for variable parts of messages. */

#include <string.h>

#include "base/assert.h"
#include "base/defs.h"

/* A borrowed run of bytes. */
struct slice {
    const void *data;
    uint32_t bytes;
};

static inline struct slice slice_of(const void *data, size_t bytes)
{
    return (struct slice){data, (uint32_t)bytes};
}
/* Order of keys: bytewise, a prefix before what it begins. */
static inline int slice_compare(struct slice a, struct slice b)
{
    uint32_t common = a.bytes < b.bytes ? a.bytes : b.bytes;
    int order = common ? memcmp(a.data, b.data, common) : 0;
    if (order != 0)
        return order;
    return a.bytes < b.bytes ? -1 : a.bytes > b.bytes;
}
static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

/* Keys are compared bytewise, so numbers in keys are big-endian. */
static inline void be64_store(void *place, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(place, &value, sizeof value);
}
static inline uint64_t be64_load(const void *place)
{
    uint64_t value;
    memcpy(&value, place, sizeof value);
    return __builtin_bswap64(value);
}
static inline void be32_store(void *place, uint32_t value)
{
    value = __builtin_bswap32(value);
    memcpy(place, &value, sizeof value);
}
static inline uint32_t be32_load(const void *place)
{
    uint32_t value;
    memcpy(&value, place, sizeof value);
    return __builtin_bswap32(value);
}

/* Read cursor with a sticky error: after the first overrun every take gives NULL or zero, and
 * reader_ok() is false. Check once, at the end. */
struct reader {
    const uint8_t *cursor;
    const uint8_t *end;
    bool failed;
};

static inline void reader_init(struct reader *reader, const void *data, size_t bytes)
{
    reader->cursor = data;
    reader->end = reader->cursor + bytes;
    reader->failed = false;
}
static inline size_t reader_left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->cursor);
}
static inline bool reader_ok(const struct reader *reader)
{
    return !reader->failed;
}
/* Borrow the next bytes in place; NULL if there are not that many. */
static inline const void *reader_take(struct reader *reader, size_t bytes)
{
    if (reader->failed || bytes > reader_left(reader)) {
        reader->failed = true;
        return NULL;
    }
    const void *taken = reader->cursor;
    reader->cursor += bytes;
    return taken;
}
/* Copy the next bytes out; zeroes them on overrun. */
static inline void reader_copy(struct reader *reader, void *out, size_t bytes)
{
    const void *taken = reader_take(reader, bytes);
    if (taken)
        memcpy(out, taken, bytes);
    else
        memset(out, 0, bytes);
}
static inline uint16_t reader_u16(struct reader *reader)
{
    uint16_t value;
    reader_copy(reader, &value, sizeof value);
    return value;
}
static inline uint32_t reader_u32(struct reader *reader)
{
    uint32_t value;
    reader_copy(reader, &value, sizeof value);
    return value;
}
static inline uint64_t reader_u64(struct reader *reader)
{
    uint64_t value;
    reader_copy(reader, &value, sizeof value);
    return value;
}

/* Write cursor into a fixed buffer, sticky like the reader. */
struct writer {
    uint8_t *start;
    uint8_t *cursor;
    uint8_t *end;
    bool failed;
};

static inline void writer_init(struct writer *writer, void *data, size_t bytes)
{
    writer->start = data;
    writer->cursor = data;
    writer->end = writer->cursor + bytes;
    writer->failed = false;
}
static inline size_t writer_bytes(const struct writer *writer)
{
    return (size_t)(writer->cursor - writer->start);
}
static inline size_t writer_left(const struct writer *writer)
{
    return (size_t)(writer->end - writer->cursor);
}
static inline bool writer_ok(const struct writer *writer)
{
    return !writer->failed;
}
/* Room for bytes, to be filled by the caller; NULL if there is none. */
static inline void *writer_reserve(struct writer *writer, size_t bytes)
{
    if (writer->failed || bytes > writer_left(writer)) {
        writer->failed = true;
        return NULL;
    }
    void *place = writer->cursor;
    writer->cursor += bytes;
    return place;
}
static inline void writer_put(struct writer *writer, const void *data, size_t bytes)
{
    void *place = writer_reserve(writer, bytes);
    if (place && bytes)
        memcpy(place, data, bytes);
}
static inline void writer_u16(struct writer *writer, uint16_t value)
{
    writer_put(writer, &value, sizeof value);
}
static inline void writer_u32(struct writer *writer, uint32_t value)
{
    writer_put(writer, &value, sizeof value);
}
static inline void writer_u64(struct writer *writer, uint64_t value)
{
    writer_put(writer, &value, sizeof value);
}

#endif
