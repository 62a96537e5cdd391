/* SPDX-License-Identifier: MIT */
#include "meta_fsck.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "format/disk_meta.h"
#include "node/node_internal.h"

enum { KEY_AT = 5, COMPLAINTS_MAX = 20 };

struct row_inode {
    uint64_t ino;
    struct disk_inode row;
    uint64_t names;   /* found in directories */
    uint64_t entries; /* found below it */
    uint64_t subdirs;
    uint64_t xattrs;
    uint64_t inline_bytes;
    bool has_inline;
    bool orphan;
};
struct row_name {
    uint64_t dir;
    struct disk_dentry row;
};

struct fsck {
    struct cluster *cluster;
    struct meta_fsck *found;
    struct row_inode *inodes;
    struct row_name *names;
    uint64_t inode_count;
    uint64_t name_count;
    uint64_t room;
    uint32_t complaints;
    uint32_t member; /* being read */
    bool done;
    int result;
    int pass;
};

static struct row_inode *inode_of(struct fsck *fsck, uint64_t ino)
{
    for (uint64_t i = 0; i < fsck->inode_count; i++) {
        if (fsck->inodes[i].ino == ino)
            return &fsck->inodes[i];
    }
    return NULL;
}

static void complain(struct fsck *fsck, const char *what, uint64_t a, uint64_t b)
{
    if (fsck->complaints++ < COMPLAINTS_MAX)
        printf("fsck: %s: %llx %llx\n", what, (unsigned long long)a, (unsigned long long)b);
}

static void add_row(struct fsck *fsck, uint8_t table, const uint8_t *key, struct slice value)
{
    uint64_t ino = be64_load(key + KEY_AT);
    struct row_inode *inode;
    if (fsck->inode_count == fsck->room || fsck->name_count == fsck->room) {
        fsck->room *= 2;
        fsck->inodes = realloc(fsck->inodes, fsck->room * sizeof *fsck->inodes);
        fsck->names = realloc(fsck->names, fsck->room * sizeof *fsck->names);
    }
    if (fsck->pass == 0) {
        if (table == META_TABLE_INODE) {
            inode = &fsck->inodes[fsck->inode_count++];
            *inode = (struct row_inode){.ino = ino};
            assert(value.bytes == sizeof inode->row);
            memcpy(&inode->row, value.data, sizeof inode->row);
        } else if (table == META_TABLE_DENTRY) {
            struct row_name *name = &fsck->names[fsck->name_count++];
            name->dir = ino;
            assert(value.bytes == sizeof name->row);
            memcpy(&name->row, value.data, sizeof name->row);
        } else if (table == META_TABLE_PREPARED || table == META_TABLE_DECIDED) {
            fsck->found->open_txns++;
            fsck->found->prepared += table == META_TABLE_PREPARED;
        } else if (table == META_TABLE_REQUEST) {
            fsck->found->requests++;
        }
        return;
    }
    if (table != META_TABLE_XATTR && table != META_TABLE_INLINE && table != META_TABLE_ORPHAN)
        return;
    inode = inode_of(fsck, ino);
    if (!inode) {
        complain(fsck, "row of an inode that is not there (table, ino)", table, ino);
        return;
    }
    if (table == META_TABLE_XATTR)
        inode->xattrs++;
    if (table == META_TABLE_ORPHAN)
        inode->orphan = true;
    if (table == META_TABLE_INLINE) {
        inode->has_inline = true;
        inode->inline_bytes = value.bytes;
    }
}

/* Read the groups that the member leads. */
static void read_fiber(void *arg)
{
    struct fsck *fsck = arg;
    struct node *node = fsck->cluster->members[fsck->member].node;
    struct map_view *view = map_view_get(map_client_view(node->map));
    struct store_iter *iter = store_iter_new(node->store);
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        const struct map_group *group = &view->groups[i];
        if (group->kind != MAP_GROUP_META || group->primary != node->config.node)
            continue;
        uint8_t from[KEY_AT], end[KEY_AT];
        struct slice key, value;
        int result;
        be32_store(from, group->id);
        be32_store(end, group->id);
        from[4] = META_TABLE_INODE;
        end[4] = META_TABLE_RENAME + 1;
        store_iter_seek(iter, slice_of(from, sizeof from));
        while ((result = store_iter_next(iter, slice_of(end, sizeof end), &key, &value)) > 0)
            add_row(fsck, ((const uint8_t *)key.data)[4], key.data, value);
        if (result < 0)
            fsck->result = result;
    }
    store_iter_free(iter);
    map_view_put(view);
    fsck->done = true;
}

static bool is_done(void *context)
{
    return ((struct fsck *)context)->done;
}

static void read_all(struct fsck *fsck)
{
    struct cluster *cluster = fsck->cluster;
    for (fsck->member = 0; fsck->member < cluster->node_count; fsck->member++) {
        fsck->done = false;
        reactor_spawn(sim_node_reactor(cluster->members[fsck->member].sim_node), "fsck", read_fiber,
                      fsck);
        bool read =
            sim_run_until(cluster->sim, is_done, fsck, sim_now_ns(cluster->sim) + 10 * NS_PER_S);
        assert(read && fsck->result == 0);
    }
}

static void check_names(struct fsck *fsck)
{
    for (uint64_t i = 0; i < fsck->name_count; i++) {
        const struct row_name *name = &fsck->names[i];
        struct row_inode *dir = inode_of(fsck, name->dir);
        struct row_inode *inode = inode_of(fsck, name->row.ino);
        if (!dir)
            complain(fsck, "name in a directory that is not there", name->dir, name->row.ino);
        if (!inode)
            complain(fsck, "name of an inode that is not there", name->dir, name->row.ino);
        if (!dir || !inode)
            continue;
        dir->entries++;
        inode->names++;
        if ((inode->row.mode & S_IFMT) != name->row.mode)
            complain(fsck, "type in the name differs", name->dir, name->row.ino);
        if (!S_ISDIR(inode->row.mode))
            continue;
        dir->subdirs++;
        if (inode->row.parent != name->dir)
            complain(fsck, "directory's parent differs", name->dir, inode->ino);
    }
}

/* The root is above every directory that has a name. */
static void check_tree(struct fsck *fsck, const struct row_inode *inode)
{
    uint64_t steps = 0;
    while (inode && inode->ino != CFS_ROOT_INO && steps++ < fsck->inode_count)
        inode = inode_of(fsck, inode->row.parent);
    if (!inode || inode->ino != CFS_ROOT_INO)
        complain(fsck, "the root is not above a directory", inode ? inode->ino : 0, steps);
}

static void check_inode(struct fsck *fsck, const struct row_inode *inode)
{
    const struct disk_inode *row = &inode->row;
    bool is_root = inode->ino == CFS_ROOT_INO;
    if (S_ISDIR(row->mode)) {
        if (row->nlink != (row->nlink || inode->names ? 2 + inode->subdirs : 0))
            complain(fsck, "directory's nlink", inode->ino, row->nlink);
        if (row->nlink > 0)
            check_tree(fsck, inode);
        if (row->entries != inode->entries)
            complain(fsck, "directory's entries", inode->ino, row->entries);
        if (inode->names != !is_root && !inode->orphan)
            complain(fsck, "directory's names", inode->ino, inode->names);
    } else if (row->nlink != inode->names) {
        complain(fsck, "file's nlink, names", row->nlink, inode->names);
    }
    if (row->nlink == 0 && !inode->orphan)
        complain(fsck, "inode without names is no orphan", inode->ino, 0);
    if (row->nlink > 0 && inode->orphan)
        complain(fsck, "orphan with names", inode->ino, row->nlink);
    if (row->xattr_count < inode->xattrs)
        complain(fsck, "more attributes than counted", inode->ino, inode->xattrs);
    bool is_inline = S_ISLNK(row->mode) || (row->flags & ATTR_INLINE);
    if (is_inline && inode->inline_bytes != row->size)
        complain(fsck, "inline bytes differ from size", inode->ino, row->size);
    if (!is_inline && inode->has_inline)
        complain(fsck, "inline row of a file in objects", inode->ino, 0);
}

uint32_t meta_fsck(struct cluster *cluster, struct meta_fsck *ret_found)
{
    struct fsck fsck = {.cluster = cluster, .found = ret_found, .room = 1024};
    *ret_found = (struct meta_fsck){0};
    fsck.inodes = malloc(fsck.room * sizeof *fsck.inodes);
    fsck.names = malloc(fsck.room * sizeof *fsck.names);
    for (fsck.pass = 0; fsck.pass < 2; fsck.pass++)
        read_all(&fsck);
    check_names(&fsck);
    for (uint64_t i = 0; i < fsck.inode_count; i++) {
        check_inode(&fsck, &fsck.inodes[i]);
        ret_found->orphans += fsck.inodes[i].orphan;
    }
    ret_found->inodes = fsck.inode_count;
    ret_found->names = fsck.name_count;
    if (ret_found->prepared > 0)
        complain(&fsck, "transactions left prepared", ret_found->prepared, 0);
    free(fsck.inodes);
    free(fsck.names);
    return fsck.complaints;
}
