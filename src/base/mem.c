/* SPDX-License-Identifier: MIT */
/* Heap with accounting.
 *
 * Each allocation has a 32-byte header in front: its size, the distance to the start of the
 * underlying block, and, in tracked heaps, list links.
 *
 * I1. header.heap is the heap that was current when the block was made, and the one it is
 *     returned to, whatever is current at mem_free.
 * I2. Only the thread that uses a heap changes it: heaps belong to one reactor (law 4). */
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/list.h"

struct mem_heap {
    struct list blocks; /* tracked heaps only */
    uint64_t bytes;
    uint64_t allocs;
    bool tracked;
};

struct header {
    struct list link;
    struct mem_heap *heap;
    uint64_t bytes;
    uint32_t offset; /* from the block's start to the user's bytes */
    uint32_t magic;
    uint64_t pad;
};

enum { HEADER_MAGIC = 0x6d656d31 };
_Static_assert(sizeof(struct header) % 16 == 0, "user bytes keep malloc's alignment");

static _Thread_local struct mem_heap default_heap;
static _Thread_local struct mem_heap *current;

static struct mem_heap *heap_now(void)
{
    return current ? current : &default_heap;
}

struct mem_heap *mem_heap_new(bool tracked)
{
    struct mem_heap *heap = calloc(1, sizeof *heap);
    assert(heap);
    list_init(&heap->blocks);
    heap->tracked = tracked;
    return heap;
}

void mem_heap_destroy(struct mem_heap *heap)
{
    assert(heap != current);
    struct list *link;
    while ((link = list_pop_front(&heap->blocks)) != NULL) {
        struct header *header = list_entry(link, struct header, link);
        header->magic = 0;
        free((char *)(header + 1) - header->offset);
    }
    free(heap);
}

struct mem_heap *mem_heap_set(struct mem_heap *heap)
{
    struct mem_heap *before = current;
    current = heap;
    return before;
}

uint64_t mem_heap_bytes(const struct mem_heap *heap)
{
    return heap ? heap->bytes : default_heap.bytes;
}

uint64_t mem_heap_allocs(const struct mem_heap *heap)
{
    return heap ? heap->allocs : default_heap.allocs;
}

static no_return void out_of_memory(size_t bytes)
{
    fprintf(stderr,
            "claudefs: cannot allocate %zu bytes: the machine is out of memory. The process stops; "
            "nothing acknowledged is lost. Lower the memory budget or add memory, then restart.\n",
            bytes);
    abort();
}

static void *block_adopt(void *block, size_t offset, size_t bytes)
{
    struct mem_heap *heap = heap_now();
    struct header *header = (struct header *)(void *)((char *)block + offset) - 1;
    header->heap = heap;
    header->bytes = bytes;
    header->offset = (uint32_t)offset;
    header->magic = HEADER_MAGIC;
    list_init(&header->link);
    if (heap->tracked)
        list_push_back(&heap->blocks, &header->link);
    heap->bytes += bytes;
    heap->allocs++;
    return header + 1;
}

static struct header *header_of(void *pointer)
{
    struct header *header = (struct header *)pointer - 1;
    assert(header->magic == HEADER_MAGIC);
    return header;
}

void *mem_alloc(size_t bytes)
{
    void *block = malloc(bytes + sizeof(struct header));
    if (!block)
        out_of_memory(bytes);
    return block_adopt(block, sizeof(struct header), bytes);
}

void *mem_zalloc(size_t bytes)
{
    void *block = calloc(1, bytes + sizeof(struct header));
    if (!block)
        out_of_memory(bytes);
    return block_adopt(block, sizeof(struct header), bytes);
}

void *mem_alloc_aligned(size_t bytes, size_t alignment)
{
    assert((alignment & (alignment - 1)) == 0 && alignment >= 16 && alignment <= 4096);
    size_t offset = alignment > sizeof(struct header) ? alignment : sizeof(struct header);
    void *block = aligned_alloc(alignment, round_up(bytes + offset, alignment));
    if (!block)
        out_of_memory(bytes);
    return block_adopt(block, offset, bytes);
}

void *mem_realloc(void *pointer, size_t bytes)
{
    if (!pointer)
        return mem_alloc(bytes);
    struct header *header = header_of(pointer);
    void *bigger = mem_alloc(bytes);
    memcpy(bigger, pointer, header->bytes < bytes ? header->bytes : bytes);
    mem_free(pointer);
    return bigger;
}

void mem_free(void *pointer)
{
    if (!pointer)
        return;
    struct header *header = header_of(pointer);
    header->magic = 0;
    header->heap->bytes -= header->bytes;
    if (header->heap->tracked)
        list_remove(&header->link);
    free((char *)pointer - header->offset);
}

char *mem_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    return memcpy(mem_alloc(bytes), text, bytes);
}
