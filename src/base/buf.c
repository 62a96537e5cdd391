/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include "base/assert.h"
#include "base/mem.h"

enum { CLASS_FIRST_SHIFT = 12, CLASS_COUNT = 12, POOL_BYTES_MAX = 32 << 20, CLASS_NONE = 255 };

/* Free buffers by size class (4 KiB << class). Thread-local: a buffer stays with its reactor. */
static _Thread_local struct buf *pool[CLASS_COUNT];
static _Thread_local uint64_t pool_bytes;

/* Carved from the front; what was carved for a class stays in that class's pool. */
static _Thread_local struct {
    uint8_t *memory;
    uint64_t bytes;
    uint64_t carved;
} arena;

void buf_arena_set(uint8_t *memory, uint64_t bytes)
{
    assert(!arena.memory && (uintptr_t)memory % BUF_ALIGN == 0);
    arena.memory = memory;
    arena.bytes = bytes;
}

uint8_t *buf_arena(void)
{
    return arena.memory;
}

bool buf_in_arena(const void *data, uint64_t bytes)
{
    uint64_t offset = (uint64_t)((const uint8_t *)data - arena.memory);
    return arena.memory && (const uint8_t *)data >= arena.memory && offset <= arena.bytes &&
           bytes <= arena.bytes - offset;
}

/* Room for a buffer, of the arena or of the heap. */
static uint8_t *room_new(uint32_t bytes)
{
    if (bytes <= arena.bytes - arena.carved) {
        uint8_t *room = arena.memory + arena.carved;
        arena.carved += bytes;
        return room;
    }
    struct mem_heap *heap = mem_heap_set(NULL); /* pooled: outlives the heap of its user */
    uint8_t *room = mem_alloc_aligned(bytes, BUF_ALIGN);
    mem_heap_set(heap);
    return room;
}

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
        mem_heap_set(heap);
        buf->data = room_new(room);
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
    bool keep = buf_in_arena(buf->data, buf->size); /* it has nowhere else to go */
    if (!keep && pool_bytes + buf->size > POOL_BYTES_MAX) {
        mem_free(buf->data);
        mem_free(buf);
        return;
    }
    buf->pool_next = pool[buf->pool_class];
    pool[buf->pool_class] = buf;
    pool_bytes += buf->size;
}
