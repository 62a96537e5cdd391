/* SPDX-License-Identifier: MIT */
#include "meta_model.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "format/wire_meta.h"

static bool is_dir(const struct model *model, int node)
{
    return node >= 0 && S_ISDIR(model->nodes[node].mode);
}

static void node_init(struct model_node *node, uint32_t type, int parent)
{
    *node = (struct model_node){.used = true, .mode = type, .parent = parent};
    node->nlink = S_ISDIR(type) ? 2 : 1;
    for (int i = 0; i < MODEL_NAMES; i++)
        node->entries[i] = -1;
}

void model_init(struct model *model, uint64_t root_ino)
{
    memset(model, 0, sizeof *model);
    node_init(&model->nodes[MODEL_ROOT], S_IFDIR, MODEL_ROOT);
    model->nodes[MODEL_ROOT].ino = root_ino;
}

int model_make(struct model *model, int dir, int name, uint32_t type, int *ret_node)
{
    if (model->nodes[dir].entries[name] >= 0)
        return -EEXIST;
    int node = 0;
    while (node < MODEL_NODES && model->nodes[node].used)
        node++;
    assert(node < MODEL_NODES);
    node_init(&model->nodes[node], type, dir);
    model->nodes[dir].entries[name] = node;
    if (S_ISDIR(type))
        model->nodes[dir].nlink++;
    *ret_node = node;
    return 0;
}

int model_link(struct model *model, int node, int dir, int name)
{
    if (model->nodes[dir].entries[name] >= 0)
        return -EEXIST;
    if (is_dir(model, node))
        return -EPERM;
    model->nodes[dir].entries[name] = node;
    model->nodes[node].nlink++;
    return 0;
}

static void drop(struct model *model, int node)
{
    struct model_node *gone = &model->nodes[node];
    if (S_ISDIR(gone->mode) || --gone->nlink == 0)
        gone->used = false;
}

int model_unlink(struct model *model, int dir, int name)
{
    int node = model->nodes[dir].entries[name];
    if (node < 0)
        return -ENOENT;
    if (is_dir(model, node))
        return -EISDIR;
    model->nodes[dir].entries[name] = -1;
    drop(model, node);
    return 0;
}

static bool is_empty(const struct model *model, int dir)
{
    for (int i = 0; i < MODEL_NAMES; i++) {
        if (model->nodes[dir].entries[i] >= 0)
            return false;
    }
    return true;
}

int model_rmdir(struct model *model, int dir, int name)
{
    int node = model->nodes[dir].entries[name];
    if (node < 0)
        return -ENOENT;
    if (!is_dir(model, node))
        return -ENOTDIR;
    if (!is_empty(model, node))
        return -ENOTEMPTY;
    model->nodes[dir].entries[name] = -1;
    model->nodes[dir].nlink--;
    drop(model, node);
    return 0;
}

static bool is_above(const struct model *model, int node, int dir)
{
    while (dir != node && dir != MODEL_ROOT)
        dir = model->nodes[dir].parent;
    return dir == node;
}

static void place(struct model *model, int node, int dir, int name)
{
    model->nodes[dir].entries[name] = node;
    if (!is_dir(model, node))
        return;
    model->nodes[model->nodes[node].parent].nlink--;
    model->nodes[dir].nlink++;
    model->nodes[node].parent = dir;
}

int model_rename(struct model *model, int dir, int name, int dir2, int name2, uint32_t flags)
{
    int from = model->nodes[dir].entries[name], to = model->nodes[dir2].entries[name2];
    bool exchange = flags & META_RENAME_EXCHANGE;
    if (from < 0 || (exchange && to < 0))
        return -ENOENT;
    if ((flags & META_RENAME_NOREPLACE) && to >= 0)
        return -EEXIST;
    if (is_dir(model, from) && dir != dir2 && is_above(model, from, dir2))
        return -EINVAL;
    if (exchange && is_dir(model, to) && dir != dir2 && is_above(model, to, dir))
        return -EINVAL;
    if (from == to)
        return 0;
    if (exchange) {
        place(model, from, dir2, name2);
        place(model, to, dir, name);
        return 0;
    }
    if (to >= 0 && is_dir(model, to)) {
        if (!is_dir(model, from))
            return -EISDIR;
        if (!is_empty(model, to))
            return -ENOTEMPTY;
        model->nodes[dir2].nlink--;
        drop(model, to);
    } else if (to >= 0) {
        if (is_dir(model, from))
            return -ENOTDIR;
        drop(model, to);
    }
    model->nodes[dir].entries[name] = -1;
    place(model, from, dir2, name2);
    return 0;
}

/* The (random mod count)-th node for which the type fits. */
static int pick(const struct model *model, uint64_t random, uint32_t type)
{
    uint32_t count = 0;
    for (int i = 0; i < MODEL_NODES; i++)
        count += model->nodes[i].used && model->nodes[i].mode == type;
    if (count == 0)
        return -1;
    uint64_t nth = random % count;
    for (int i = 0; i < MODEL_NODES; i++) {
        if (model->nodes[i].used && model->nodes[i].mode == type && nth-- == 0)
            return i;
    }
    WRONG("counted");
}

int model_dir(const struct model *model, uint64_t random)
{
    return pick(model, random, S_IFDIR);
}

int model_file(const struct model *model, uint64_t random, uint32_t type)
{
    return pick(model, random, type);
}
