/* SPDX-License-Identifier: MIT */
/* What readers of a file may see.
 *
 * A write of many blocks is not one moment: its parts go to several objects and groups. What is
 * promised is that each block, and the size, changes at one moment between request and answer. So
 * the history is cut into one register per cell and one per size, and each is judged alone. Cells
 * behind a truncation are zero from then on. */
#include "files.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/errors.h"

enum { STEPS_MAX = 200000 };

static const char *const verbs[] = {"write", "read", "truncate", "size", "punch", "fsync"};

void files_fini(struct files_history *history)
{
    for (uint32_t i = 0; i < history->count; i++)
        free(history->ops[i].seen);
    free(history->ops);
}

uint32_t files_begin(struct files_history *history, const struct files_op *op, uint64_t now_ns)
{
    if (history->count == history->room) {
        history->room = history->room ? history->room * 2 : 256;
        history->ops = realloc(history->ops, history->room * sizeof *history->ops);
    }
    struct files_op *mine = &history->ops[history->count];
    *mine = *op;
    mine->begin = ++history->clock;
    mine->end = LINEAR_NEVER;
    mine->begin_ns = now_ns;
    mine->stamp = history->count + 1;
    assert(op->count <= FILES_CELLS_MAX);
    return history->count++;
}

void files_end(struct files_history *history, uint32_t op, int result, uint64_t now_ns)
{
    struct files_op *mine = &history->ops[op];
    assert(!mine->answered);
    if (result < 0)
        return; /* a write may have happened in part */
    mine->answered = true;
    mine->end = ++history->clock;
    mine->end_ns = now_ns;
}

/* ---- registers ------------------------------------------------------------------------------ */

/* Does the operation say anything about the cell? */
static bool touches(const struct files_op *op, uint32_t cell)
{
    switch ((enum files_verb)op->verb) {
    case FILES_WRITE:
    case FILES_PUNCH:
        return cell >= op->cell && cell < op->cell + op->count;
    case FILES_READ:
        return op->answered && cell >= op->cell && cell < op->cell + op->got;
    case FILES_TRUNCATE:
        return cell >= op->size;
    case FILES_SIZE:
    case FILES_FSYNC:
        return false;
    }
    WRONG("verb");
}

static bool step_cell(const void *context, void *state, const void *op_)
{
    const struct files_op *op = op_;
    const uint32_t *cell = context;
    uint32_t *stamp = state;
    if (op->verb == FILES_READ)
        return *stamp == op->seen[*cell - op->cell];
    *stamp = op->verb == FILES_WRITE ? op->stamp : CELL_ZERO;
    return true;
}

static bool step_size(const void *context, void *state, const void *op_)
{
    const struct files_op *op = op_;
    uint32_t *size = state;
    (void)context;
    switch ((enum files_verb)op->verb) {
    case FILES_WRITE:
        if (*size < op->cell + op->count)
            *size = op->cell + op->count;
        return true;
    case FILES_READ:
        if (op->got == op->count)
            return *size >= op->cell + op->count;
        return op->got ? *size == op->cell + op->got : *size <= op->cell;
    case FILES_TRUNCATE:
        *size = op->size;
        return true;
    case FILES_SIZE:
        return *size == op->size;
    case FILES_PUNCH:
    case FILES_FSYNC:
        return true; /* keeps it */
    }
    WRONG("verb");
}

void files_print(const struct files_op *op)
{
    printf("  %10.6f-", (double)op->begin_ns / 1e9);
    if (op->answered)
        printf("%-10.6f", (double)op->end_ns / 1e9);
    else
        printf("%-10s", "never");
    printf(" client%u %-8s file %u", op->client, verbs[op->verb], op->file);
    if (op->verb == FILES_WRITE || op->verb == FILES_READ || op->verb == FILES_PUNCH)
        printf(" cells %u to %u", op->cell, op->cell + op->count - 1);
    if (op->verb == FILES_WRITE)
        printf(" stamp %u", op->stamp);
    if (op->verb == FILES_READ && op->answered)
        printf(", got %u", op->got);
    if (op->verb == FILES_TRUNCATE || (op->verb == FILES_SIZE && op->answered))
        printf(" %u cells", op->size);
    printf("\n");
}

static void print_stuck(const struct linear_op *ops, uint32_t count, uint32_t stuck, uint32_t state)
{
    printf("files: no order of the operations explains this answer; the model has %u:\n", state);
    files_print(ops[stuck].op);
    printf("files: all that concerned it before that was answered:\n");
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].begin < ops[stuck].end)
            files_print(ops[i].op);
    }
}

static bool judge(const struct linear_model *model, const struct linear_op *ops, uint32_t count,
                  uint32_t *undecided)
{
    uint32_t state = 0, stuck = 0;
    enum linear_result result = linear_check(model, ops, count, &state, STEPS_MAX, &stuck);
    *undecided += result == LINEAR_UNDECIDED;
    if (result != LINEAR_NO)
        return true;
    print_stuck(ops, count, stuck, state);
    const struct files_op *op = ops[stuck].op;
    if (model->context) {
        uint32_t cell = *(const uint32_t *)model->context;
        printf("  cell %u (offset %llu)", cell, (unsigned long long)cell * CELL_BYTES);
        if (op->verb == FILES_READ)
            printf(" was seen with stamp %u", op->seen[cell - op->cell]);
        printf("\n");
    }
    return false;
}

static bool check_cell(const struct files_history *history, uint32_t file, uint32_t cell,
                       struct linear_op *ops, uint32_t *undecided)
{
    const struct linear_model model = {sizeof(uint32_t), step_cell, &cell};
    uint32_t count = 0;
    bool is_read = false;
    for (uint32_t i = 0; i < history->count; i++) {
        const struct files_op *op = &history->ops[i];
        if (op->file != file || !touches(op, cell))
            continue;
        is_read |= op->verb == FILES_READ;
        ops[count++] = (struct linear_op){op->begin, op->end, op};
    }
    return !is_read || judge(&model, ops, count, undecided);
}

static bool check_size(const struct files_history *history, uint32_t file, struct linear_op *ops,
                       uint32_t *undecided)
{
    const struct linear_model model = {sizeof(uint32_t), step_size, NULL};
    uint32_t count = 0;
    for (uint32_t i = 0; i < history->count; i++) {
        const struct files_op *op = &history->ops[i];
        bool says_nothing = op->verb == FILES_FSYNC ||
                            (!op->answered && (op->verb == FILES_READ || op->verb == FILES_SIZE));
        if (op->file == file && !says_nothing)
            ops[count++] = (struct linear_op){op->begin, op->end, op};
    }
    return judge(&model, ops, count, undecided);
}

static int number_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The cells of a file that have been read, each once. */
static uint32_t cells_read(const struct files_history *history, uint32_t file, uint32_t **ret_cells)
{
    uint32_t count = 0, room = 0, distinct = 0;
    uint32_t *cells = NULL;
    for (uint32_t i = 0; i < history->count; i++) {
        const struct files_op *op = &history->ops[i];
        for (uint32_t j = 0; op->verb == FILES_READ && op->file == file && j < op->got; j++) {
            if (count == room) {
                room = room ? room * 2 : 1024;
                cells = realloc(cells, room * sizeof *cells);
            }
            cells[count++] = op->cell + j;
        }
    }
    if (count)
        qsort(cells, count, sizeof *cells, number_order);
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || cells[i] != cells[i - 1])
            cells[distinct++] = cells[i];
    }
    *ret_cells = cells;
    return distinct;
}

bool files_check(const struct files_history *history, uint32_t *ret_undecided)
{
    struct linear_op *ops = calloc(history->count + 1, sizeof *ops);
    bool possible = true;
    *ret_undecided = 0;
    for (uint32_t file = 0; file < FILES && possible; file++) {
        uint32_t *cells;
        uint32_t count = cells_read(history, file, &cells);
        possible = check_size(history, file, ops, ret_undecided);
        for (uint32_t i = 0; i < count && possible; i++)
            possible = check_cell(history, file, cells[i], ops, ret_undecided);
        free(cells);
    }
    free(ops);
    return possible;
}
