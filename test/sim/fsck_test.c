/* SPDX-License-Identifier: MIT */
/* Goal: the offline check finds, and calls by its name, every kind of damage to rows.
 * Method: one small cluster, clean to begin with. Each case changes rows behind the cluster's back,
 * in the stores of all members (or of one), looks, expects its finding, and puts the rows back. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/log.h"
#include "cluster_fsck.h"
#include "data/extent.h"
#include "meta/key.h"
#include "node/node_internal.h"

enum { EDITS_MAX = 4, BIG_BYTES = 5 << 20, XATTR_BYTES = 3 };

/* The files there are: where their rows lie. */
struct places {
    uint64_t dir, other, file, big, symlink;
};

struct edit {
    struct meta_key key;
    uint8_t value[STORE_VALUE_MAX];
    int bytes; /* -1: the row is deleted */
};

struct saved {
    int bytes; /* -1: there was none */
    uint8_t value[STORE_VALUE_MAX];
};

struct run {
    struct cluster cluster;
    struct sim_node *host;
    struct map_client *map;
    struct client *client;
    struct places places;
    bool done;
    int failed;

    struct edit edits[EDITS_MAX];
    uint32_t edit_count;
    struct saved saved[CLUSTER_NODES_MAX][EDITS_MAX];
    bool one_member; /* the first that has the row */
    bool restoring;
    uint32_t member; /* whose store is at hand */
    uint32_t changed;
};

static const struct client_cred root = {0};

static struct slice text(const char *string)
{
    return slice_of(string, strlen(string));
}

/* ---- the cluster ----------------------------------------------------------------------------- */

static uint64_t make(struct run *run, uint64_t dir, const char *name, uint32_t mode)
{
    const struct client_place place = {dir, text(name)};
    struct wire_attr attr = {0};
    run->failed |= client_mknod(run->client, &root, &place, mode, 0, &attr);
    return attr.ino;
}

static void write_file(struct run *run, uint64_t ino, uint32_t bytes)
{
    struct client_file *file;
    run->failed |= client_open(run->client, &root, ino, &file);
    for (uint32_t at = 0; at < bytes && run->failed == 0;) {
        uint32_t count = MIN(bytes - at, (uint32_t)MIB);
        struct buf *buf = buf_new(count);
        memset(buf->data, (int)(at / MIB) + 1, count);
        run->failed |= client_write(file, at, (struct buf_slice){buf, 0, count});
        buf_put(buf);
        at += count;
    }
    run->failed |= client_fsync(file);
    run->failed |= client_release(file);
}

static void fill_fiber(void *arg)
{
    struct run *run = arg;
    struct places *places = &run->places;
    struct wire_attr attr;
    run->client = cluster_client(&run->cluster, &run->map);
    places->dir = make(run, CFS_ROOT_INO, "dir", S_IFDIR | 0755);
    places->other = make(run, CFS_ROOT_INO, "other", S_IFDIR | 0755);
    places->file = make(run, places->dir, "file", S_IFREG | 0644);
    places->big = make(run, places->dir, "big", S_IFREG | 0644);
    const struct client_place link = {places->dir, text("symlink")};
    run->failed |= client_symlink(run->client, &root, &link, text("file"), &attr);
    places->symlink = attr.ino;
    write_file(run, places->file, 100);
    write_file(run, places->big, BIG_BYTES);
    run->done = true;
}

/* ---- changing rows --------------------------------------------------------------------------- */

static uint32_t group_of(const struct run *run, uint64_t ino)
{
    return map_view_of_ino(map_client_view(run->map), ino)->id;
}

static const struct map_group *map_group_of(const struct run *run, const struct edit *edit)
{
    return map_view_group(map_client_view(run->map), key_group(key_slice(&edit->key)));
}

/* The edits, or what was there before, in one member's store. */
static void edit_fiber(void *arg)
{
    struct run *run = arg;
    struct node *node = run->cluster.members[run->member].node;
    struct store_batch batch;
    store_batch_init(&batch);
    for (uint32_t i = 0; i < run->edit_count; i++) {
        const struct edit *edit = &run->edits[i];
        struct saved *saved = &run->saved[run->member][i];
        struct slice key = key_slice(&edit->key);
        if (map_group_member_state(map_group_of(run, edit), node_id(node)) == 0 ||
            (run->one_member && run->changed > 0 && !run->restoring))
            continue;
        run->changed++;
        if (!run->restoring)
            saved->bytes = MAX(store_get(node->store, key, saved->value, sizeof saved->value), -1);
        int bytes = run->restoring ? saved->bytes : edit->bytes;
        if (bytes >= 0)
            store_batch_put(&batch, key,
                            slice_of(run->restoring ? saved->value : edit->value, (size_t)bytes));
        else
            store_batch_del(&batch, key);
    }
    uint64_t lsn = store_commit(node->store, &batch);
    store_batch_fini(&batch);
    run->failed |= store_wait_durable(node->store, lsn);
    run->done = true;
}

static void edit_all(struct run *run, bool restoring)
{
    struct cluster *cluster = &run->cluster;
    run->restoring = restoring;
    run->changed = 0;
    for (run->member = 0; run->member < cluster->node_count; run->member++) {
        bool done = cluster_run_fiber(cluster, cluster->members[run->member].sim_node, edit_fiber,
                                      run, &run->done);
        assert(done && run->failed == 0);
        if (run->one_member && run->changed > 0)
            break;
    }
    assert(run->changed > 0);
}

static struct edit *add_edit(struct run *run)
{
    assert(run->edit_count < EDITS_MAX);
    struct edit *edit = &run->edits[run->edit_count++];
    edit->bytes = -1;
    return edit;
}

/* A row of the inode: delete it, or put bytes. */
static struct edit *edit_row(struct run *run, enum meta_table table, uint64_t ino)
{
    struct edit *edit = add_edit(run);
    key_of_ino(&edit->key, group_of(run, ino), table, ino);
    return edit;
}

static void set_value(struct edit *edit, const void *value, uint32_t bytes)
{
    memcpy(edit->value, value, bytes);
    edit->bytes = (int)bytes;
}

struct read {
    struct run *run;
    struct slice key;
    void *value;
    uint32_t bytes;
};

static void read_fiber(void *arg)
{
    struct read *read = arg;
    struct node *node = read->run->cluster.members[read->run->member].node;
    int bytes = store_get(node->store, read->key, read->value, read->bytes);
    assert(bytes == (int)read->bytes);
    read->run->done = true;
}

/* A row as it is, from a member of its group. */
static void read_row(struct run *run, const struct edit *edit, void *value, uint32_t bytes)
{
    struct read read = {run, key_slice(&edit->key), value, bytes};
    run->member = map_group_of(run, edit)->primary - 1;
    bool done = cluster_run_fiber(&run->cluster, run->cluster.members[run->member].sim_node,
                                  read_fiber, &read, &run->done);
    assert(done);
}

static struct edit *edit_name(struct run *run, uint64_t dir, const char *name)
{
    struct edit *edit = add_edit(run);
    key_dentry(&edit->key, group_of(run, dir), dir, text(name));
    return edit;
}

/* An inode's row with one change. */
enum field { NLINK, ENTRIES, PARENT, SIZE };
static void edit_inode(struct run *run, uint64_t ino, enum field field, uint64_t value)
{
    struct edit *edit = edit_row(run, META_TABLE_INODE, ino);
    struct disk_inode row;
    read_row(run, edit, &row, sizeof row);
    if (field == NLINK)
        row.nlink = (uint32_t)value;
    else if (field == ENTRIES)
        row.entries = value;
    else if (field == PARENT)
        row.parent = value;
    else
        row.size = value;
    set_value(edit, &row, sizeof row);
}

static void edit_dentry(struct run *run, uint64_t dir, const char *name, uint64_t ino,
                        uint32_t mode)
{
    const struct disk_dentry row = {.ino = ino, .mode = mode};
    set_value(edit_name(run, dir, name), &row, sizeof row);
}

/* ---- the cases ------------------------------------------------------------------------------- */

static void name_no_inode(struct run *run)
{
    edit_dentry(run, run->places.dir, "file", run->places.file + 1000, S_IFREG);
}
static void name_no_dir(struct run *run)
{
    edit_row(run, META_TABLE_INODE, run->places.dir);
}
static void name_type(struct run *run)
{
    edit_dentry(run, run->places.dir, "file", run->places.file, S_IFLNK);
}
static void dir_parent(struct run *run)
{
    edit_inode(run, run->places.dir, PARENT, run->places.other);
}
static void dir_names(struct run *run)
{
    edit_name(run, CFS_ROOT_INO, "dir");
}
static void dir_links(struct run *run)
{
    edit_inode(run, run->places.dir, NLINK, 3);
}
static void dir_entries(struct run *run)
{
    edit_inode(run, run->places.dir, ENTRIES, 2);
}
/* dir and other in each other, and out of the root. */
static void dir_loop(struct run *run)
{
    edit_inode(run, run->places.dir, PARENT, run->places.other);
    edit_inode(run, run->places.other, PARENT, run->places.dir);
}
static void file_links(struct run *run)
{
    edit_inode(run, run->places.file, NLINK, 2);
}
static void orphan_unknown(struct run *run)
{
    edit_name(run, run->places.dir, "file");
    edit_inode(run, run->places.file, NLINK, 0);
}
static void orphan_named(struct run *run)
{
    static const int64_t since = 1;
    set_value(edit_row(run, META_TABLE_ORPHAN, run->places.file), &since, sizeof since);
}
static void stray_row(struct run *run)
{
    set_value(edit_row(run, META_TABLE_INLINE, run->places.file + 1000), "abc", XATTR_BYTES);
}
static void xattrs(struct run *run)
{
    struct edit *edit = add_edit(run);
    uint64_t ino = run->places.file;
    key_xattr(&edit->key, group_of(run, ino), ino, text("user.x"));
    set_value(edit, "abc", XATTR_BYTES);
}
static void inline_lost(struct run *run)
{
    edit_row(run, META_TABLE_INLINE, run->places.file);
}
static void inline_symlink(struct run *run)
{
    set_value(edit_row(run, META_TABLE_INLINE, run->places.symlink), "abc", XATTR_BYTES);
}
static void row_short(struct run *run)
{
    set_value(edit_row(run, META_TABLE_ORPHAN, run->places.file), "", 0);
    run->edits[0].key.bytes--;
}
static void row_place(struct run *run)
{
    const struct map_view *view = map_client_view(run->map);
    struct edit *edit = edit_row(run, META_TABLE_INODE, run->places.file);
    struct disk_inode row;
    read_row(run, edit, &row, sizeof row);
    set_value(edit, &row, sizeof row);
    for (uint32_t i = 0; i < view->header->group_count; i++)
        if (view->groups[i].kind == MAP_GROUP_META &&
            view->groups[i].id != group_of(run, run->places.file))
            be32_store(edit->key.data, view->groups[i].id);
}
static void no_root(struct run *run)
{
    edit_row(run, META_TABLE_INODE, CFS_ROOT_INO);
}
static void doubt(struct run *run)
{
    const struct wire_txn_id txn = {.group = 1, .epoch = 1, .number = 99};
    struct edit *edit = add_edit(run);
    key_txn(&edit->key, group_of(run, run->places.dir), META_TABLE_PREPARED, &txn);
    edit->bytes = 0;
}
static void data_no_inode(struct run *run)
{
    edit_row(run, META_TABLE_INODE, run->places.big);
    edit_name(run, run->places.dir, "big");
}
static void data_behind(struct run *run)
{
    edit_inode(run, run->places.big, SIZE, MIB + 1);
}
/* The first data row of the big file: its key; the rows of a written MiB are full ones. */
static void data_row(struct run *run)
{
    struct edit *edit = add_edit(run);
    uint64_t ino = run->places.big;
    const struct map_group *group = map_view_of_object(map_client_view(run->map), ino, 0);
    struct data_key key = data_key_make(group->id, ino, DATA_EXTENT_BLOCKS_MAX - 1);
    edit->key.bytes = sizeof key.bytes;
    memcpy(edit->key.data, key.bytes, sizeof key.bytes);
}
static void request_row(struct run *run)
{
    struct edit *edit = add_edit(run);
    const struct map_group *group = map_view_of_object(map_client_view(run->map), 1, 0);
    struct data_key key = data_request_key(group->id, 7, 0);
    edit->key.bytes = sizeof key.bytes;
    memcpy(edit->key.data, key.bytes, sizeof key.bytes);
    set_value(edit, "abc", 3);
}
static void differs(struct run *run)
{
    run->one_member = true;
    edit_inode(run, run->places.file, SIZE, 99);
}

static const struct {
    void (*edit)(struct run *run);
    enum fsck_kind expected;
} cases[] = {
    {name_no_inode, FSCK_NAME_NO_INODE},
    {name_no_dir, FSCK_NAME_NO_DIR},
    {name_type, FSCK_NAME_TYPE},
    {dir_parent, FSCK_DIR_PARENT},
    {dir_names, FSCK_DIR_NAMES},
    {dir_links, FSCK_DIR_LINKS},
    {dir_entries, FSCK_DIR_ENTRIES},
    {dir_loop, FSCK_DIR_LOOP},
    {file_links, FSCK_FILE_LINKS},
    {orphan_unknown, FSCK_ORPHAN_UNKNOWN},
    {orphan_named, FSCK_ORPHAN_NAMED},
    {stray_row, FSCK_STRAY_ROW},
    {xattrs, FSCK_XATTRS},
    {inline_lost, FSCK_INLINE},
    {inline_symlink, FSCK_INLINE},
    {row_short, FSCK_ROW},
    {row_place, FSCK_ROW_PLACE},
    {no_root, FSCK_ROOT},
    {doubt, FSCK_DOUBT},
    {data_no_inode, FSCK_DATA_NO_INODE},
    {data_behind, FSCK_DATA_BEHIND},
    {data_row, FSCK_SPACE},
    {request_row, FSCK_ROW},
    {differs, FSCK_DIFFERS},
};

static uint32_t check_case(struct run *run, uint32_t index)
{
    struct fsck_counts counts;
    run->edit_count = 0;
    run->one_member = false;
    cases[index].edit(run);
    edit_all(run, false);
    printf("-- %s:\n", fsck_name(cases[index].expected));
    (void)cluster_fsck(&run->cluster, true, &counts);
    uint32_t wrong = counts.found[cases[index].expected] == 0;
    if (wrong)
        printf("FAILED: case %u, not found: %s\n", index, fsck_what(cases[index].expected));
    edit_all(run, true);
    if (cluster_fsck(&run->cluster, true, &counts) != 0) {
        printf("FAILED: case %u, not clean after it was put back\n", index);
        wrong++;
    }
    return wrong;
}

int main(void)
{
    struct run *run = calloc(1, sizeof *run);
    struct fsck_counts counts;
    log_set_level(LOG_ERROR);
    cluster_start(&run->cluster, 1, 3, 2);
    struct sim *sim = run->cluster.sim;
    run->host = sim_node_new(sim, "10.0.0.100");
    bool done = cluster_run_fiber(&run->cluster, run->host, fill_fiber, run, &run->done);
    assert(done && run->failed == 0);
    sim_run_for(sim, NS_PER_S);
    uint32_t wrong = cluster_fsck(&run->cluster, true, &counts);
    for (uint32_t i = 0; i < ARRAY_COUNT(cases); i++)
        wrong += check_case(run, i);
    printf("%s %zu cases\n", wrong ? "FAILED" : "ok", ARRAY_COUNT(cases));
    cluster_free(&run->cluster);
    free(run);
    return wrong ? 1 : 0;
}
