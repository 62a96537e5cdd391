/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_NAMES_H
#define CFS_TEST_SIM_NAMES_H

/* The history of a namespace shared by several clients, and what POSIX says it may be. */

#include <stdbool.h>
#include <stdint.h>

#include "linear.h"

enum {
    NAMES = 6,
    NAMES_NODES_MAX = 1000,
    NAMES_NONE = 0xffff,
    NAMES_BASE = 0,
    NAMES_XATTRS = 2, /* of each node: one that only files and directories may have, and another */
    NAMES_XATTR_ANY = 0xffff,
};

enum names_verb {
    NAMES_CREATE,
    NAMES_MKDIR,
    NAMES_LINK,
    NAMES_UNLINK,
    NAMES_RMDIR,
    NAMES_RENAME,
    NAMES_LOOKUP,
    NAMES_GETATTR,
    NAMES_SYMLINK, /* its target names its node */
    NAMES_MKNOD,   /* a device; its number is its node */
    NAMES_READLINK,
    NAMES_GETXATTR,
    NAMES_SETXATTR,
    NAMES_REMOVEXATTR,
};

enum names_kind {
    NAMES_NO_NODE,
    NAMES_FILE,
    NAMES_A_SYMLINK,
    NAMES_DEVICE,
    NAMES_DIR,
    NAMES_REMOVED_DIR
};

/* Objects are called by *node* numbers: each verb that makes one (names_makes) has a number of its
 * own from its beginning, whether it succeeds or not; 0 is the directory under which all happens.
 */
struct names_op {
    uint64_t begin; /* linear_op */
    uint64_t end;
    uint64_t begin_ns; /* for people */
    uint64_t end_ns;
    uint8_t verb;
    uint8_t client;
    uint8_t name; /* index */
    uint8_t name2;
    uint16_t dir;
    uint16_t dir2;
    uint16_t node;  /* made, linked, or asked about */
    uint16_t seen;  /* LOOKUP: node found; NAMES_NONE: see alien */
    uint16_t alien; /* LOOKUP: number of an inode whose making got no answer, from 1 */
    uint16_t value; /* SETXATTR: not 0; GETXATTR: got, or ANY; READLINK: the node that was read */
    uint8_t xattr;  /* index */
    uint8_t kind;   /* GETATTR: enum names_kind */
    bool answered;
    uint32_t flags; /* of RENAME, SETXATTR */
    uint32_t nlink; /* GETATTR */
    int result;
};

struct names_history {
    struct names_op *ops;
    uint32_t count;
    uint32_t room;
    uint64_t clock;
    bool may_be_full;               /* the disks: what needs space may be refused */
    uint64_t inos[NAMES_NODES_MAX]; /* 0: not known */
    uint32_t nodes;
    uint64_t aliens[NAMES_NODES_MAX];
    uint32_t alien_count;
};

extern const char *const names_text[NAMES];
extern const char *const names_xattr_text[NAMES_XATTRS];

bool names_makes(enum names_verb verb);

void names_init(struct names_history *history, uint64_t base_ino);
void names_fini(struct names_history *history);
/* Can another object be made? */
bool names_room(const struct names_history *history);
/* Record the beginning, then the answer. The op's number. What makes a node gets its number. */
uint32_t names_begin(struct names_history *history, const struct names_op *op, uint64_t now_ns);
void names_end(struct names_history *history, uint32_t op, int result, uint64_t now_ns);
/* The inode that was made, or that a LOOKUP saw (before names_end). */
void names_made(struct names_history *history, uint32_t op, uint64_t ino);
void names_saw(struct names_history *history, uint32_t op, uint64_t ino);

/* Is it a possible history? If not, what is wrong is printed. */
enum linear_result names_check(struct names_history *history);
void names_print(const struct names_history *history, const struct names_op *op);

#endif
