/* SPDX-License-Identifier: MIT */
/* What readers of a file may see when all nodes died at times.
 *
 * What a group had not flushed may be lost then, from its end: a state of before comes back, and no
 * order of the operations explains the answers any more. What is left to judge:
 *
 *  L1. Each cell holds what somebody wrote there, or zeroes.
 *  L2. After a client's write was answered and then fsynced by it, with no fsync of it that failed
 *      in between, no read that begins later finds
 *      what was written, all of it, before that write; and zeroes only if somebody may have cut or
 *      punched them since.
 *  L3. Nor is the file shorter than that write made it, unless somebody may have cut it since.
 *  L4. After a client's truncation was answered and then fsynced, as in L2, nothing is found behind
 *      its size that was written, all of it, before it; though the file may have grown since. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "files.h"

struct lossy {
    const struct files_history *history;
    uint64_t *synced; /* of each op: from when on it must be there */
};

static bool is_before(const struct files_op *a, const struct files_op *b)
{
    return a->answered && a->end < b->begin;
}

static bool covers(const struct files_op *op, uint32_t cell)
{
    return cell >= op->cell && cell < op->cell + op->count;
}

/* A failed fsync has told that what was written before it may be lost; the next says nothing
 * of it. */
static void find_synced(struct lossy *lossy)
{
    const struct files_history *history = lossy->history;
    for (uint32_t i = 0; i < history->count; i++) {
        const struct files_op *op = &history->ops[i];
        bool changes = op->verb == FILES_WRITE || op->verb == FILES_TRUNCATE;
        lossy->synced[i] = LINEAR_NEVER;
        for (uint32_t j = i + 1; changes && j < history->count; j++) {
            const struct files_op *sync = &history->ops[j];
            if (sync->verb != FILES_FSYNC || sync->file != op->file || sync->client != op->client)
                continue;
            if (sync->answered && is_before(op, sync))
                lossy->synced[i] = sync->end;
            if (!sync->answered || is_before(op, sync))
                break;
        }
    }
}

/* May the cell have become zero after the write, as a reader sees it? */
static bool may_be_zero(const struct lossy *lossy, const struct files_op *write,
                        const struct files_op *reader, uint32_t cell)
{
    for (uint32_t i = 0; i < lossy->history->count; i++) {
        const struct files_op *op = &lossy->history->ops[i];
        bool cuts = (op->verb == FILES_TRUNCATE && op->size <= cell) ||
                    (op->verb == FILES_PUNCH && covers(op, cell));
        if (cuts && op->file == write->file && !is_before(op, write) && !is_before(reader, op))
            return true;
    }
    return false;
}

static bool complain(const struct files_op *read, uint32_t cell, const char *what,
                     const struct files_op *write)
{
    printf("files: cell %u %s:\n", cell, what);
    files_print(read);
    if (write)
        files_print(write);
    return false;
}

static bool check_cell(const struct lossy *lossy, const struct files_op *read, uint32_t cell)
{
    const struct files_history *history = lossy->history;
    uint32_t stamp = read->seen[cell - read->cell];
    const struct files_op *seen = NULL;
    if (stamp != CELL_ZERO) {
        seen = stamp <= history->count ? &history->ops[stamp - 1] : NULL;
        if (!seen || seen->verb != FILES_WRITE || seen->file != read->file || !covers(seen, cell) ||
            is_before(read, seen))
            return complain(read, cell, "is not what anybody wrote there", seen); /* L1 */
    }
    for (uint32_t i = 0; i < history->count; i++) {
        const struct files_op *op = &history->ops[i];
        if (lossy->synced[i] >= read->begin || op->file != read->file)
            continue;
        if (op->verb == FILES_TRUNCATE && op->size <= cell && seen && is_before(seen, op))
            return complain(read, cell, "had been cut, and that was fsynced", op); /* L4 */
        if (op->verb != FILES_WRITE || !covers(op, cell))
            continue;
        if (seen ? is_before(seen, op) : !may_be_zero(lossy, op, read, cell))
            return complain(read, cell, "is older than what was fsynced", op); /* L2 */
    }
    return true;
}

/* L3. */
static bool check_size(const struct lossy *lossy, const struct files_op *reader, uint32_t size)
{
    for (uint32_t i = 0; i < lossy->history->count; i++) {
        const struct files_op *write = &lossy->history->ops[i];
        uint32_t last = write->cell + write->count - 1;
        if (write->verb == FILES_WRITE && lossy->synced[i] < reader->begin &&
            write->file == reader->file && last >= size && !may_be_zero(lossy, write, reader, last))
            return complain(reader, last, "is behind the end, but was fsynced", write);
    }
    return true;
}

static bool check_op(const struct lossy *lossy, const struct files_op *op)
{
    bool possible = true;
    if (!op->answered)
        return true;
    if (op->verb == FILES_SIZE)
        return check_size(lossy, op, op->size);
    if (op->verb != FILES_READ)
        return true;
    assert(op->got <= op->count);
    for (uint32_t i = 0; i < op->got && possible; i++)
        possible = check_cell(lossy, op, op->cell + i);
    return possible && (op->got == op->count || check_size(lossy, op, op->cell + op->got));
}

bool files_check_lossy(const struct files_history *history)
{
    struct lossy lossy = {history, calloc((size_t)history->count + 1, sizeof(uint64_t))};
    bool possible = true;
    find_synced(&lossy);
    for (uint32_t i = 0; i < history->count && possible; i++)
        possible = check_op(&lossy, &history->ops[i]);
    free(lossy.synced);
    return possible;
}
