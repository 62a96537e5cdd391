/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_MEM_H
#define CFS_BASE_MEM_H

/* The only way to the C heap. A request that cannot be met ends the process with a message:
 * every consumer has a budget, so running out is a bug or a machine without memory, and carrying
 * on half-served is worse than a restart.
 *
 * Allocations are charged to the current mem_heap (thread-local; the reactor sets it), which the
 * simulator uses to free all that a crashed node held, and status uses to show memory. */

#include "base/defs.h"

struct mem_heap;

/* A heap that counts, and, if tracked, can free all at once. NULL heap = process default. */
struct mem_heap *mem_heap_new(bool tracked);
void mem_heap_destroy(struct mem_heap *heap);          /* frees all its allocations if tracked */
struct mem_heap *mem_heap_set(struct mem_heap *heap);  /* returns the previous one */
uint64_t mem_heap_bytes(const struct mem_heap *heap);  /* bytes now allocated (NULL: default) */
uint64_t mem_heap_allocs(const struct mem_heap *heap); /* allocations made, ever */

void *mem_alloc(size_t bytes) __attribute__((malloc));
void *mem_zalloc(size_t bytes) __attribute__((malloc));
void *mem_realloc(void *pointer, size_t bytes);
void mem_free(void *pointer); /* NULL is fine */
char *mem_strdup(const char *text);
/* alignment: a power of two from 16 to 4096. Freed with mem_free. */
void *mem_alloc_aligned(size_t bytes, size_t alignment) __attribute__((malloc));

#endif
