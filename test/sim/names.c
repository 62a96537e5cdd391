/* SPDX-License-Identifier: MIT */
#include "names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/errors.h"
#include "format/wire_meta.h"

const char *const names_text[NAMES] = {"a", "bb", "ccc", "a name of some length", "e", "f"};

const char *const names_xattr_text[NAMES_XATTRS] = {"user.one", "trusted.two"};

static const char *const verbs[] = {"create",   "mkdir",    "link",     "unlink",     "rmdir",
                                    "rename",   "lookup",   "getattr",  "symlink",    "mknod",
                                    "readlink", "getxattr", "setxattr", "removexattr"};

bool names_makes(enum names_verb verb)
{
    return verb == NAMES_CREATE || verb == NAMES_MKDIR || verb == NAMES_SYMLINK ||
           verb == NAMES_MKNOD;
}

void names_init(struct names_history *history, uint64_t base_ino)
{
    *history = (struct names_history){.nodes = 1};
    history->inos[NAMES_BASE] = base_ino;
}

void names_fini(struct names_history *history)
{
    free(history->ops);
}

bool names_room(const struct names_history *history)
{
    return history->nodes < NAMES_NODES_MAX;
}

uint32_t names_begin(struct names_history *history, const struct names_op *op, uint64_t now_ns)
{
    if (history->count == history->room) {
        history->room = history->room ? history->room * 2 : 256;
        history->ops = realloc(history->ops, history->room * sizeof *history->ops);
    }
    struct names_op *mine = &history->ops[history->count];
    *mine = *op;
    mine->begin = ++history->clock;
    mine->end = LINEAR_NEVER;
    mine->begin_ns = now_ns;
    mine->seen = NAMES_NONE;
    if (names_makes(op->verb)) {
        assert(names_room(history));
        mine->node = (uint16_t)history->nodes++;
    }
    return history->count++;
}

void names_end(struct names_history *history, uint32_t op, int result, uint64_t now_ns)
{
    struct names_op *mine = &history->ops[op];
    assert(!mine->answered);
    if (result == -EIO || result == -ERR_TIMED_OUT)
        return; /* nobody knows */
    mine->answered = true;
    mine->result = result == -ESTALE ? -ENOENT : result;
    mine->end = ++history->clock;
    mine->end_ns = now_ns;
}

void names_made(struct names_history *history, uint32_t op, uint64_t ino)
{
    history->inos[history->ops[op].node] = ino;
}

static uint16_t find(const uint64_t *inos, uint32_t count, uint64_t ino)
{
    for (uint32_t i = 0; i < count; i++) {
        if (inos[i] == ino)
            return (uint16_t)i;
    }
    return NAMES_NONE;
}

void names_saw(struct names_history *history, uint32_t op, uint64_t ino)
{
    struct names_op *mine = &history->ops[op];
    uint16_t alien = find(history->aliens, history->alien_count, ino);
    if (alien == NAMES_NONE) {
        assert(history->alien_count < NAMES_NODES_MAX);
        alien = (uint16_t)history->alien_count;
        history->aliens[history->alien_count++] = ino;
    }
    mine->alien = (uint16_t)(alien + 1);
}

/* What a LOOKUP saw may have been made by a request that was answered later. */
static void settle_seen(struct names_history *history)
{
    for (uint32_t i = 0; i < history->count; i++) {
        struct names_op *op = &history->ops[i];
        if (op->verb != NAMES_LOOKUP || !op->answered || op->result < 0 || !op->alien)
            continue;
        op->seen = find(history->inos, history->nodes, history->aliens[op->alien - 1]);
        if (op->seen != NAMES_NONE)
            op->alien = 0;
    }
}

/* ---- the model ----------------------------------------------------------------------------- */

struct names_node {
    uint8_t kind;
    uint8_t zero;
    uint16_t nlink;
    uint16_t parent;
    uint16_t alien; /* its inode, known only by having been seen */
    uint16_t entries[NAMES];
    uint16_t xattrs[NAMES_XATTRS]; /* 0: not there */
};

struct names_state {
    struct names_node nodes[NAMES_NODES_MAX];
};

static bool is_dir(const struct names_state *state, uint16_t node)
{
    return state->nodes[node].kind == NAMES_DIR;
}

static bool is_empty(const struct names_state *state, uint16_t dir)
{
    for (int i = 0; i < NAMES; i++) {
        if (state->nodes[dir].entries[i] != NAMES_NONE)
            return false;
    }
    return true;
}

/* The last name is gone. A file may be open somewhere, so it stays, with no link. */
static void drop(struct names_state *state, uint16_t node)
{
    struct names_node *gone = &state->nodes[node];
    if (gone->kind == NAMES_DIR)
        *gone = (struct names_node){.kind = NAMES_REMOVED_DIR};
    else
        gone->nlink--;
}

static uint8_t kind_made(enum names_verb verb)
{
    return verb == NAMES_MKDIR     ? NAMES_DIR
           : verb == NAMES_SYMLINK ? NAMES_A_SYMLINK
           : verb == NAMES_MKNOD   ? NAMES_DEVICE
                                   : NAMES_FILE;
}

static int do_make(struct names_state *state, const struct names_op *op)
{
    struct names_node *dir = &state->nodes[op->dir];
    struct names_node *node = &state->nodes[op->node];
    if (dir->kind != NAMES_DIR)
        return -ENOENT;
    if (dir->entries[op->name] != NAMES_NONE)
        return -EEXIST;
    bool is_mkdir = op->verb == NAMES_MKDIR;
    *node = (struct names_node){
        .kind = kind_made(op->verb), .nlink = is_mkdir ? 2 : 1, .parent = is_mkdir ? op->dir : 0};
    for (int i = 0; i < NAMES; i++)
        node->entries[i] = NAMES_NONE;
    dir->entries[op->name] = op->node;
    dir->nlink = (uint16_t)(dir->nlink + is_mkdir);
    return 0;
}

static int do_link(struct names_state *state, const struct names_op *op)
{
    struct names_node *dir = &state->nodes[op->dir];
    struct names_node *node = &state->nodes[op->node];
    if (dir->kind != NAMES_DIR)
        return -ENOENT;
    if (dir->entries[op->name] != NAMES_NONE)
        return -EEXIST;
    if (node->kind == NAMES_DIR || (node->kind == NAMES_REMOVED_DIR && op->result == -EPERM))
        return -EPERM; /* a removed directory's inode stays for a moment */
    if (node->kind == NAMES_REMOVED_DIR || node->nlink == 0)
        return -ENOENT;
    dir->entries[op->name] = op->node;
    node->nlink++;
    return 0;
}

static int do_remove(struct names_state *state, const struct names_op *op)
{
    struct names_node *dir = &state->nodes[op->dir];
    bool is_rmdir = op->verb == NAMES_RMDIR;
    if (dir->kind != NAMES_DIR || dir->entries[op->name] == NAMES_NONE)
        return -ENOENT;
    uint16_t node = dir->entries[op->name];
    if (is_rmdir != is_dir(state, node))
        return is_rmdir ? -ENOTDIR : -EISDIR;
    if (is_rmdir && !is_empty(state, node))
        return -ENOTEMPTY;
    dir->entries[op->name] = NAMES_NONE;
    dir->nlink = (uint16_t)(dir->nlink - is_rmdir);
    drop(state, node);
    return 0;
}

static bool is_above(const struct names_state *state, uint16_t node, uint16_t dir)
{
    while (dir != node && dir != NAMES_BASE)
        dir = state->nodes[dir].parent;
    return dir == node;
}

static void put_name(struct names_state *state, uint16_t node, uint16_t dir, uint8_t name)
{
    state->nodes[dir].entries[name] = node;
    if (!is_dir(state, node))
        return;
    state->nodes[state->nodes[node].parent].nlink--;
    state->nodes[dir].nlink++;
    state->nodes[node].parent = dir;
}

/* Where several errors hold at once, the first of these is told. */
static int rename_refused(const struct names_state *state, const struct names_op *op)
{
    const struct names_node *dir = &state->nodes[op->dir], *dir2 = &state->nodes[op->dir2];
    bool exchange = op->flags & META_RENAME_EXCHANGE;
    uint16_t from = dir->entries[op->name], to = dir2->entries[op->name2];
    if (dir->kind != NAMES_DIR || from == NAMES_NONE || (exchange && to == NAMES_NONE))
        return -ENOENT;
    if (dir2->kind != NAMES_DIR)
        return -ENOENT;
    if ((op->flags & META_RENAME_NOREPLACE) && to != NAMES_NONE)
        return -EEXIST;
    bool moves = op->dir != op->dir2;
    if (moves && is_dir(state, from) && is_above(state, from, op->dir2))
        return -EINVAL;
    if (moves && exchange && is_dir(state, to) && is_above(state, to, op->dir))
        return -EINVAL;
    if (exchange || to == NAMES_NONE || from == to)
        return 0;
    if (is_dir(state, to)) {
        if (!is_dir(state, from))
            return -EISDIR;
        return is_empty(state, to) ? 0 : -ENOTEMPTY;
    }
    return is_dir(state, from) ? -ENOTDIR : 0;
}

static int do_rename(struct names_state *state, const struct names_op *op)
{
    int refused = rename_refused(state, op);
    if (refused < 0)
        return refused;
    uint16_t from = state->nodes[op->dir].entries[op->name];
    uint16_t to = state->nodes[op->dir2].entries[op->name2];
    if (from == to)
        return 0;
    if (op->flags & META_RENAME_EXCHANGE) {
        put_name(state, from, op->dir2, op->name2);
        put_name(state, to, op->dir, op->name);
        return 0;
    }
    if (to != NAMES_NONE) {
        state->nodes[op->dir2].nlink = (uint16_t)(state->nodes[op->dir2].nlink - is_dir(state, to));
        drop(state, to);
    }
    state->nodes[op->dir].entries[op->name] = NAMES_NONE;
    put_name(state, from, op->dir2, op->name2);
    return 0;
}

/* Is the node the one that was seen? An unknown inode may be any made without an answer. */
static bool is_seen(struct names_state *state, const struct names_history *history, uint16_t node,
                    const struct names_op *op)
{
    struct names_node *found = &state->nodes[node];
    if (!op->alien)
        return node == op->seen;
    if (found->alien || history->inos[node])
        return found->alien == op->alien;
    for (uint32_t i = 0; i < history->nodes; i++) {
        if (state->nodes[i].alien == op->alien)
            return false;
    }
    found->alien = op->alien;
    return true;
}

static bool do_lookup(struct names_state *state, const struct names_history *history,
                      const struct names_op *op)
{
    const struct names_node *dir = &state->nodes[op->dir];
    bool there = dir->kind == NAMES_DIR && dir->entries[op->name] != NAMES_NONE;
    if (op->result < 0)
        return op->result == -ENOENT && !there;
    return there && is_seen(state, history, dir->entries[op->name], op);
}

static bool do_getattr(const struct names_state *state, const struct names_op *op)
{
    const struct names_node *node = &state->nodes[op->node];
    if (node->nlink == 0) /* until nobody has it open and it is deleted */
        return op->result == -ENOENT || (op->result == 0 && op->nlink == 0);
    return op->result == 0 && node->nlink == op->nlink && node->kind == op->kind;
}

static bool do_readlink(const struct names_state *state, const struct names_op *op)
{
    const struct names_node *node = &state->nodes[op->node];
    if (node->nlink == 0 && op->result == -ENOENT)
        return true;
    if (node->kind != NAMES_A_SYMLINK)
        return op->result == -EINVAL;
    return op->result == 0 && op->value == op->node;
}

/* What a node without a name says, if anything, is not judged. */
static bool do_xattr(struct names_state *state, const struct names_op *op)
{
    struct names_node *node = &state->nodes[op->node];
    uint16_t *value = &node->xattrs[op->xattr];
    bool reads = op->verb == NAMES_GETXATTR;
    int result = 0;
    if (node->nlink == 0)
        return op->answered;
    if (op->xattr == 0 && node->kind != NAMES_FILE && node->kind != NAMES_DIR)
        result = reads ? -ENODATA : -EPERM;
    else if (op->verb == NAMES_SETXATTR && *value && (op->flags & META_XATTR_CREATE))
        result = -EEXIST;
    else if (!*value && (op->verb != NAMES_SETXATTR || (op->flags & META_XATTR_REPLACE)))
        result = -ENODATA;
    if (reads)
        return op->result == result &&
               (result < 0 || op->value == *value || op->value == NAMES_XATTR_ANY);
    if (result == 0)
        *value = op->verb == NAMES_SETXATTR ? op->value : 0;
    return op->answered ? op->result == result : result == 0;
}

static bool is_of_xattr(enum names_verb verb)
{
    return verb == NAMES_GETXATTR || verb == NAMES_SETXATTR || verb == NAMES_REMOVEXATTR;
}

/* Asks about a node, or changes it, by its number. */
static bool is_of_node(enum names_verb verb)
{
    return verb == NAMES_GETATTR || verb == NAMES_READLINK || is_of_xattr(verb);
}

static int do_change(struct names_state *state, const struct names_op *op)
{
    switch ((enum names_verb)op->verb) {
    case NAMES_CREATE:
    case NAMES_MKDIR:
    case NAMES_SYMLINK:
    case NAMES_MKNOD:
        return do_make(state, op);
    case NAMES_LINK:
        return do_link(state, op);
    case NAMES_UNLINK:
    case NAMES_RMDIR:
        return do_remove(state, op);
    case NAMES_RENAME:
        return do_rename(state, op);
    case NAMES_LOOKUP:
    case NAMES_GETATTR:
    case NAMES_READLINK:
    case NAMES_GETXATTR:
    case NAMES_SETXATTR:
    case NAMES_REMOVEXATTR:
        break;
    }
    WRONG("verb");
}

static bool is_full(int result)
{
    return result < 0 && error_to_errno(result) == ENOSPC;
}

/* What takes something away never does. */
static bool needs_space(enum names_verb verb)
{
    return names_makes(verb) || verb == NAMES_LINK || verb == NAMES_RENAME ||
           verb == NAMES_SETXATTR;
}

static bool step(const void *context, void *state_, const void *op_)
{
    const struct names_history *history = context;
    struct names_state *state = state_;
    const struct names_op *op = op_;
    if (op->answered && is_full(op->result))
        return history->may_be_full && needs_space(op->verb);
    if (op->verb == NAMES_LOOKUP)
        return op->answered && do_lookup(state, history, op);
    if (op->verb == NAMES_GETATTR)
        return op->answered && do_getattr(state, op);
    if (op->verb == NAMES_READLINK)
        return op->answered && do_readlink(state, op);
    if (is_of_xattr(op->verb))
        return (op->answered || op->verb != NAMES_GETXATTR) && do_xattr(state, op);
    int result = do_change(state, op);
    return op->answered ? result == op->result : result == 0;
}

/* ---- check and print ------------------------------------------------------------------------ */

void names_print(const struct names_history *history, const struct names_op *op)
{
    printf("  %10.6f-", (double)op->begin_ns / 1e9);
    if (op->answered)
        printf("%-10.6f", (double)op->end_ns / 1e9);
    else
        printf("%-10s", "never");
    printf(" client%u %-7s", op->client, verbs[op->verb]);
    if (!is_of_node(op->verb))
        printf(" %u/%s", op->dir, names_text[op->name]);
    if (op->verb == NAMES_RENAME)
        printf(" -> %u/%s flags %u", op->dir2, names_text[op->name2], op->flags);
    if (names_makes(op->verb) || op->verb == NAMES_LINK || is_of_node(op->verb))
        printf(" node %u (ino %llx)", op->node, (unsigned long long)history->inos[op->node]);
    if (op->answered)
        printf(": %s", op->result < 0 ? error_name(op->result) : "ok");
    if (op->answered && op->result == 0 && op->verb == NAMES_GETATTR)
        printf(", kind %u, nlink %u", op->kind, op->nlink);
    if (is_of_xattr(op->verb))
        printf(" (%s, value %u, flags %u)", names_xattr_text[op->xattr], op->value, op->flags);
    if (op->answered && op->result == 0 && op->verb == NAMES_READLINK)
        printf(", target %u", op->value);
    if (op->answered && op->result == 0 && op->verb == NAMES_LOOKUP && op->seen != NAMES_NONE)
        printf(", node %u", op->seen);
    if (op->alien)
        printf(", unknown ino %llx", (unsigned long long)history->aliens[op->alien - 1]);
    printf("\n");
}

static bool concerns(const struct names_op *op, uint16_t dir, uint8_t name)
{
    return (op->dir == dir && op->name == name) ||
           (op->verb == NAMES_RENAME && op->dir2 == dir && op->name2 == name);
}

static void print_stuck(const struct names_history *history, const struct names_state *state,
                        const struct names_op *stuck)
{
    printf("names: no order of the operations explains this answer:\n");
    names_print(history, stuck);
    const struct names_node *dir = &state->nodes[stuck->dir];
    const struct names_node *node = &state->nodes[stuck->node];
    if (is_of_node(stuck->verb))
        printf("  the model has kind %u, nlink %u, attributes %u and %u\n", node->kind, node->nlink,
               node->xattrs[0], node->xattrs[1]);
    else if (dir->kind != NAMES_DIR)
        printf("  the model has no directory %u\n", stuck->dir);
    else if (stuck->verb == NAMES_RENAME && state->nodes[stuck->dir2].kind != NAMES_DIR)
        printf("  the model has no directory %u\n", stuck->dir2);
    else
        printf("  the model has node %d there\n",
               dir->entries[stuck->name] == NAMES_NONE ? -1 : dir->entries[stuck->name]);
    printf("names: what else concerned it:\n");
    for (uint32_t i = 0; i < history->count; i++) {
        const struct names_op *op = &history->ops[i];
        bool mine = concerns(op, stuck->dir, stuck->name) || op->node == stuck->node ||
                    (stuck->verb == NAMES_RENAME && concerns(op, stuck->dir2, stuck->name2));
        if (mine && op->begin < stuck->end && op->result == 0)
            names_print(history, op);
    }
}

enum linear_result names_check(struct names_history *history)
{
    enum { STEPS_MAX = 2000000 };
    struct names_state *state = calloc(1, sizeof *state);
    const struct linear_model model = {
        .state_bytes = history->nodes * sizeof(struct names_node),
        .step = step,
        .context = history,
    };
    struct linear_op *ops = calloc((size_t)history->count + 1, sizeof *ops);
    settle_seen(history);
    state->nodes[NAMES_BASE] = (struct names_node){.kind = NAMES_DIR, .nlink = 2};
    for (int i = 0; i < NAMES; i++)
        state->nodes[NAMES_BASE].entries[i] = NAMES_NONE;
    for (uint32_t i = 0; i < history->count; i++)
        ops[i] = (struct linear_op){history->ops[i].begin, history->ops[i].end, &history->ops[i]};
    uint32_t stuck = 0;
    enum linear_result result = linear_check(&model, ops, history->count, state, STEPS_MAX, &stuck);
    if (result == LINEAR_NO)
        print_stuck(history, state, &history->ops[stuck]);
    free(ops);
    free(state);
    return result;
}
