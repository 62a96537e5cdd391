/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include "base/assert.h"
#include "base/mem.h"

enum { CLASS_FIRST_SHIFT = 12, CLASS_COUNT = 12, POOL_BYTES_MAX = 32 << 20, CLASS_NONE = 255 };

/* Free buffers by size class (4 KiB << class). Thread-local: a buffer stays with its reactor. */
static _Thread_local struct buf *pool[CLASS_COUNT];
static _Thread_local uint64_t pool_bytes;

static uint32_t class_of(uint32_t size)
{
    uint32_t class = 0;
    while (((uint32_t)1 << (CLASS_FIRST_SHIFT + class)) < size)
        class ++;
    return class;
}

struct buf *buf_new(uint32_t size)
{
    assert(size <= BUF_SIZE_MAX);
    uint32_t class = class_of(size);
    struct buf *buf = pool[class];
    uint32_t room = (uint32_t)1 << (CLASS_FIRST_SHIFT + class);
    if (buf) {
        pool[class] = buf->pool_next;
        pool_bytes -= room;
    } else {
        struct mem_heap *heap = mem_heap_set(NULL); /* pooled: outlives the heap of its user */
        buf = mem_alloc(sizeof *buf);
        buf->data = mem_alloc_aligned(room, BUF_ALIGN);
        mem_heap_set(heap);
        buf->pool_class = class;
        buf->size = room;
    }
    buf->bytes = size;
    buf->refs = 1;
    buf->pool_next = NULL;
    return buf;
}

struct buf *buf_get(struct buf *buf)
{
    assert(buf->refs > 0);
    buf->refs++;
    return buf;
}

void buf_put(struct buf *buf)
{
    if (!buf)
        return;
    assert(buf->refs > 0);
    if (--buf->refs > 0)
        return;
    if (pool_bytes + buf->size > POOL_BYTES_MAX) {
        mem_free(buf->data);
        mem_free(buf);
        return;
    }
    buf->pool_next = pool[buf->pool_class];
    pool[buf->pool_class] = buf;
    pool_bytes += buf->size;
}
