/* SPDX-License-Identifier: MIT */
/* Linearizability by search (Wing and Gong), with memory of what has been tried (Lowe).
 *
 * Picture. Begin and end of every operation are *marks* in one list, in order of time. From the
 * head we look for an operation that can be next: any whose begin stands before the first end. If
 * the model accepts it, its marks leave the list and we start again from the head; if we meet an
 * end first, the operations placed so far were a wrong choice, and the last one is taken back.
 *
 *  I1. An operation is placed only before every end that is still in the list: so the order found
 *      agrees with time.
 *  I2. (set of placed operations, state) is remembered; what led nowhere once is not tried again.
 *  I3. An operation without an end never holds up the others; the search is over when no end is
 *      left.
 *
 * Limits. The worst case is exponential in the number of operations at one time and of those
 * without an end; steps_max bounds it. States are compared by 64-bit hashes. */
#include "linear.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"

struct mark {
    struct mark *next;
    struct mark *before;
    struct mark *end; /* of a begin: its end, or NULL; of an end: NULL */
    uint64_t at;
    uint32_t op;
    bool is_end;
};

struct placed {
    struct mark *mark;
    uint8_t *state; /* before it */
};

struct memory {
    uint64_t *hashes; /* 0: free */
    uint64_t count;
    uint64_t room; /* a power of two */
};

struct search {
    const struct linear_model *model;
    const struct linear_op *ops;
    struct mark *marks;
    struct mark head;
    struct placed *stack;
    uint32_t depth;
    uint32_t ends;     /* in the list */
    uint64_t set_hash; /* of the placed operations */
    struct memory memory;
    uint8_t *state;
    uint8_t *try;
    uint8_t *best; /* state at the greatest depth */
    uint32_t best_depth;
    uint32_t stuck;
};

static bool memory_add(struct memory *memory, uint64_t hash);

static void memory_grow(struct memory *memory)
{
    struct memory bigger = {.room = memory->room ? memory->room * 2 : 4096};
    bigger.hashes = calloc(bigger.room, sizeof(uint64_t));
    for (uint64_t i = 0; i < memory->room; i++) {
        if (memory->hashes[i])
            (void)memory_add(&bigger, memory->hashes[i]);
    }
    free(memory->hashes);
    *memory = bigger;
}

/* True if it is new. */
static bool memory_add(struct memory *memory, uint64_t hash)
{
    if (memory->count * 2 >= memory->room)
        memory_grow(memory);
    hash |= 1;
    uint64_t place = hash_u64(hash) & (memory->room - 1);
    while (memory->hashes[place]) {
        if (memory->hashes[place] == hash)
            return false;
        place = (place + 1) & (memory->room - 1);
    }
    memory->hashes[place] = hash;
    memory->count++;
    return true;
}

static int mark_order(const void *a, const void *b)
{
    uint64_t x = ((const struct mark *)a)->at, y = ((const struct mark *)b)->at;
    return x < y ? -1 : x > y;
}

static void marks_make(struct search *search, uint32_t count)
{
    uint32_t marks = 0;
    struct mark **begins = calloc(count, sizeof *begins);
    for (uint32_t i = 0; i < count; i++) {
        const struct linear_op *op = &search->ops[i];
        assert(op->begin < op->end);
        search->marks[marks++] = (struct mark){.at = op->begin, .op = i};
        if (op->end != LINEAR_NEVER)
            search->marks[marks++] = (struct mark){.at = op->end, .op = i, .is_end = true};
    }
    qsort(search->marks, marks, sizeof *search->marks, mark_order);
    struct mark *last = &search->head;
    for (uint32_t i = 0; i < marks; i++) {
        struct mark *mark = &search->marks[i];
        if (mark->is_end) {
            begins[mark->op]->end = mark;
            search->ends++;
        } else {
            begins[mark->op] = mark;
        }
        last->next = mark;
        mark->before = last;
        last = mark;
    }
    free(begins);
}

static void unlink_mark(struct mark *mark)
{
    mark->before->next = mark->next;
    if (mark->next)
        mark->next->before = mark->before;
}

static void relink_mark(struct mark *mark)
{
    mark->before->next = mark;
    if (mark->next)
        mark->next->before = mark;
}

static bool place(struct search *search, struct mark *mark)
{
    size_t bytes = search->model->state_bytes;
    memcpy(search->try, search->state, bytes);
    if (!search->model->step(search->model->context, search->try, search->ops[mark->op].op))
        return false;
    uint64_t set_hash = search->set_hash ^ hash_u64(mark->op + 1);
    if (!memory_add(&search->memory, hash_bytes(search->try, bytes, set_hash))) /* I2 */
        return false;
    struct placed *placed = &search->stack[search->depth++];
    placed->mark = mark;
    uint8_t *before = placed->state;
    placed->state = search->state;
    search->state = search->try;
    search->try = before ? before : malloc(bytes);
    search->set_hash = set_hash;
    unlink_mark(mark);
    if (mark->end) {
        unlink_mark(mark->end);
        search->ends--;
    }
    return true;
}

static struct mark *take_back(struct search *search)
{
    struct placed *placed = &search->stack[--search->depth];
    struct mark *mark = placed->mark;
    uint8_t *spare = search->state;
    search->state = placed->state;
    placed->state = spare;
    search->set_hash ^= hash_u64(mark->op + 1);
    if (mark->end) {
        relink_mark(mark->end);
        search->ends++;
    }
    relink_mark(mark);
    return mark;
}

static enum linear_result run(struct search *search, uint64_t steps_max)
{
    struct mark *mark = search->head.next;
    for (uint64_t steps = 0; search->ends > 0; steps++) { /* I3 */
        assert(mark);
        if (steps >= steps_max)
            return LINEAR_UNDECIDED;
        if (!mark->is_end) {
            mark = place(search, mark) ? search->head.next : mark->next;
            continue;
        }
        if (search->depth >= search->best_depth) {
            search->best_depth = search->depth;
            search->stuck = mark->op;
            memcpy(search->best, search->state, search->model->state_bytes);
        }
        if (search->depth == 0)
            return LINEAR_NO;
        mark = take_back(search)->next;
    }
    return LINEAR_YES;
}

enum linear_result linear_check(const struct linear_model *model, const struct linear_op *ops,
                                uint32_t count, void *state, uint64_t steps_max,
                                uint32_t *ret_stuck)
{
    size_t bytes = model->state_bytes;
    struct search search = {.model = model, .ops = ops};
    search.marks = calloc(2 * (size_t)count + 1, sizeof *search.marks);
    search.stack = calloc((size_t)count + 1, sizeof *search.stack);
    search.state = malloc(bytes);
    search.try = malloc(bytes);
    search.best = malloc(bytes);
    memcpy(search.state, state, bytes);
    memcpy(search.best, state, bytes);
    marks_make(&search, count);
    enum linear_result result = run(&search, steps_max);
    memcpy(state, result == LINEAR_YES ? search.state : search.best, bytes);
    *ret_stuck = search.stuck;
    for (uint32_t i = 0; i <= count; i++)
        free(search.stack[i].state);
    free(search.state);
    free(search.try);
    free(search.best);
    free(search.marks);
    free(search.stack);
    free(search.memory.hashes);
    return result;
}
