/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_META_MODEL_H
#define CFS_TEST_SIM_META_MODEL_H

/* A small POSIX namespace in memory: what the cluster has to answer. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { MODEL_NODES = 512, MODEL_NAMES = 6, MODEL_DATA = 9000, MODEL_ROOT = 0 };

struct model_node {
    bool used;
    uint32_t mode; /* type bits */
    uint32_t nlink;
    int parent; /* of a directory */
    uint64_t ino;
    uint32_t size;
    bool xattr;
    uint8_t data[MODEL_DATA];
    int entries[MODEL_NAMES]; /* node number, or -1 */
};

struct model {
    struct model_node nodes[MODEL_NODES];
};

void model_init(struct model *model, uint64_t root_ino);
/* A node of the type under (dir, name); its number in *ret_node. 0 or a negative errno. */
int model_make(struct model *model, int dir, int name, uint32_t type, int *ret_node);
int model_link(struct model *model, int node, int dir, int name);
int model_unlink(struct model *model, int dir, int name);
int model_rmdir(struct model *model, int dir, int name);
int model_rename(struct model *model, int dir, int name, int dir2, int name2, uint32_t flags);
/* Some directory that is in use, by a random number; and some other node, or -1. */
int model_dir(const struct model *model, uint64_t random);
int model_file(const struct model *model, uint64_t random, uint32_t type);

#endif
