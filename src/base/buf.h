/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_BUF_H
#define CFS_BASE_BUF_H

/* Reference-counted byte buffer, aligned to 4096 bytes so that a device may read or write it
 * directly: what arrives from the network is forwarded and written without a copy. Large buffers
 * are kept in a per-thread pool, because first touch of fresh pages costs 1.5 us each. */

#include "base/defs.h"

struct buf {
    uint8_t *data;
    uint32_t size;  /* bytes of room */
    uint32_t bytes; /* bytes in use */
    uint32_t refs;
    uint32_t pool_class;
    struct buf *pool_next;
};

enum { BUF_SIZE_MAX = 8 << 20, BUF_ALIGN = 4096 };

/* A buffer with one reference, bytes = size, contents undefined. size <= BUF_SIZE_MAX. */
struct buf *buf_new(uint32_t size);
struct buf *buf_get(struct buf *buf);
void buf_put(struct buf *buf); /* NULL is fine */

/* Let this thread's buffers come from memory (aligned to BUF_ALIGN, never freed) as long as it
 * lasts: env registers it with the kernel, so that the device reaches it without pinning pages for
 * each request. Once per thread. */
void buf_arena_set(uint8_t *memory, uint64_t bytes);
/* The arena's memory, NULL if there is none. */
uint8_t *buf_arena(void);
/* Whether the run lies in this thread's arena. */
bool buf_in_arena(const void *data, uint64_t bytes);

/* A run inside a buffer. buf may be NULL when bytes is 0. */
struct buf_slice {
    struct buf *buf;
    uint32_t offset;
    uint32_t bytes;
};
static inline uint8_t *buf_slice_data(const struct buf_slice *slice)
{
    return slice->buf->data + slice->offset;
}

#endif
