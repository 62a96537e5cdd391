/* SPDX-License-Identifier: MIT */
/* Goal: the judges of the simulator accept what is possible and refuse what is not.
 * Method: small histories by hand; and random ones of a register, made by really carrying the
 * operations out, which must pass, and must fail once one answer is changed to one that nobody
 * wrote. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/defs.h"
#include "base/random.h"
#include "cell.h"
#include "files.h"
#include "linear.h"
#include "names.h"

struct reg_op {
    bool is_write;
    uint32_t value;
};

static bool step(const void *context, void *state, const void *op_)
{
    const struct reg_op *op = op_;
    uint32_t *value = state;
    if (!op->is_write)
        return *value == op->value;
    *value = op->value;
    return true;
}

static const struct linear_model reg = {sizeof(uint32_t), step, NULL};

static enum linear_result judge(const struct linear_op *ops, uint32_t count)
{
    uint32_t state = 0, stuck;
    return linear_check(&reg, ops, count, &state, 100000, &stuck);
}

static void test_by_hand(void **state)
{
    const struct reg_op write1 = {true, 1}, write2 = {true, 2}, read0 = {false, 0},
                        read1 = {false, 1}, read2 = {false, 2};
    const struct linear_op overlap[] = {{1, 4, &write1}, {2, 3, &read0}, {5, 6, &read1}};
    const struct linear_op stale[] = {{1, 2, &write1}, {3, 4, &read0}};
    const struct linear_op back[] = {
        {1, 8, &write1}, {2, 3, &write2}, {4, 5, &read1}, {6, 7, &read2}};
    const struct linear_op unknown[] = {{1, LINEAR_NEVER, &write1}, {2, 3, &read0}, {4, 5, &read1}};
    /* seen, overwritten, and carried out once more */
    const struct linear_op again[] = {
        {1, 8, &write1}, {2, 3, &read1}, {4, 5, &write2}, {6, 7, &read2}, {9, 10, &read1}};
    const struct linear_op undone[] = {{1, LINEAR_NEVER, &write1}, {2, 3, &read1}, {4, 5, &read0}};
    assert_int_equal(judge(again, ARRAY_COUNT(again)), LINEAR_NO);
    assert_int_equal(judge(overlap, ARRAY_COUNT(overlap)), LINEAR_YES);
    assert_int_equal(judge(stale, ARRAY_COUNT(stale)), LINEAR_NO);
    assert_int_equal(judge(back, ARRAY_COUNT(back)), LINEAR_NO);
    assert_int_equal(judge(unknown, ARRAY_COUNT(unknown)), LINEAR_YES);
    assert_int_equal(judge(undone, ARRAY_COUNT(undone)), LINEAR_NO);
}

enum { CLIENTS = 4, OPS = 60 };

/* Operations of several clients, each done at a moment inside its time. */
static void make_history(struct random *random, struct linear_op *ops, struct reg_op *rows)
{
    struct linear_op *open[CLIENTS] = {NULL};
    struct reg_op *row_of[CLIENTS];
    bool is_done[CLIENTS];
    uint32_t value = 0, made = 0, ended = 0;
    for (uint64_t now = 1; ended < OPS; now++) {
        uint64_t who = random_below(random, CLIENTS);
        if (!open[who] && made < OPS) {
            row_of[who] = &rows[made];
            rows[made] = (struct reg_op){random_below(random, 2), made + 1};
            ops[made] = (struct linear_op){now, LINEAR_NEVER, &rows[made]};
            open[who] = &ops[made++];
            is_done[who] = false;
        } else if (open[who] && !is_done[who]) {
            if (row_of[who]->is_write)
                value = row_of[who]->value;
            else
                row_of[who]->value = value;
            is_done[who] = true;
        } else if (open[who]) {
            open[who]->end = now;
            open[who] = NULL;
            ended++;
        }
    }
}

static void test_random(void **state)
{
    struct random random;
    random_init(&random, 1);
    for (uint32_t round = 0; round < 200; round++) {
        struct linear_op ops[OPS];
        struct reg_op rows[OPS];
        make_history(&random, ops, rows);
        assert_int_equal(judge(ops, OPS), LINEAR_YES);
        uint32_t victim = 0;
        while (rows[victim].is_write && victim < OPS - 1)
            victim++;
        rows[victim].value = OPS + 1;
        if (!rows[victim].is_write)
            assert_int_equal(judge(ops, OPS), LINEAR_NO);
    }
}

static uint32_t name_op(struct names_history *history, enum names_verb verb, int result)
{
    const struct names_op op = {.verb = (uint8_t)verb, .name = 1};
    uint32_t number = names_begin(history, &op, 0);
    if (verb == NAMES_CREATE && result == 0)
        names_made(history, number, 77 + number);
    if (verb == NAMES_LOOKUP && result == 0)
        names_saw(history, number, 77);
    names_end(history, number, result, 0);
    return number;
}

static void test_names(void **state)
{
    struct names_history history;
    names_init(&history, 1);
    (void)name_op(&history, NAMES_CREATE, 0);
    (void)name_op(&history, NAMES_CREATE, -EEXIST);
    (void)name_op(&history, NAMES_LOOKUP, 0);
    (void)name_op(&history, NAMES_UNLINK, 0);
    (void)name_op(&history, NAMES_LOOKUP, -ENOENT);
    assert_int_equal(names_check(&history), LINEAR_YES);
    (void)name_op(&history, NAMES_UNLINK, 0); /* a retry that ran twice */
    assert_int_equal(names_check(&history), LINEAR_NO);
    names_fini(&history);
}

static uint32_t file_op(struct files_history *history, enum files_verb verb, uint32_t cell,
                        uint32_t seen)
{
    const struct files_op op = {.verb = (uint8_t)verb, .cell = cell, .count = 1, .size = cell};
    uint32_t number = files_begin(history, &op, 0);
    if (verb == FILES_READ) {
        history->ops[number].got = 1;
        history->ops[number].seen = calloc(1, sizeof(uint32_t));
        history->ops[number].seen[0] = seen;
    }
    files_end(history, number, 0, 0);
    return history->ops[number].stamp;
}

static void test_files(void **state)
{
    struct files_history history = {0};
    uint32_t undecided;
    uint32_t first = file_op(&history, FILES_WRITE, 3, 0);
    (void)file_op(&history, FILES_READ, 3, first);
    uint32_t second = file_op(&history, FILES_WRITE, 3, 0);
    (void)file_op(&history, FILES_READ, 3, second);
    (void)file_op(&history, FILES_SIZE, 4, 0);
    assert_true(files_check(&history, &undecided));
    (void)file_op(&history, FILES_READ, 3, first); /* a lost write */
    assert_false(files_check(&history, &undecided));
    files_fini(&history);
    history = (struct files_history){0};
    (void)file_op(&history, FILES_WRITE, 3, 0);
    (void)file_op(&history, FILES_TRUNCATE, 0, 0);
    assert_true(files_check(&history, &undecided));
    (void)file_op(&history, FILES_SIZE, 4, 0); /* a truncation undone */
    assert_false(files_check(&history, &undecided));
    files_fini(&history);
}

static void test_cells(void **state)
{
    uint8_t cell[CELL_BYTES] = {0};
    assert_int_equal(cell_stamp(cell, 5), CELL_ZERO);
    cell_fill(cell, 12, 5);
    assert_int_equal(cell_stamp(cell, 5), 12);
    assert_int_equal(cell_stamp(cell, 6), CELL_TORN);
    cell_fill(cell, 13, 5);
    cell[CELL_BYTES - 1] ^= 1;
    assert_int_equal(cell_stamp(cell, 5), CELL_TORN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand), cmocka_unit_test(test_random), cmocka_unit_test(test_names),
        cmocka_unit_test(test_files),   cmocka_unit_test(test_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
