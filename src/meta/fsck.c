/* SPDX-License-Identifier: MIT */
/* Offline check of the namespace: rows of all groups against each other.
 *
 * Problem. Names, inodes, link counts, attributes, inline data and objects lie in different groups
 * and must fit together; there may be more inodes than memory holds.
 *
 * Method. A pass takes the inodes whose hash falls into its part into a table, then reads all other
 * rows once and counts what belongs to them: names, entries, subdirectories, attributes, inline
 * bytes, data. Then each inode of the table is judged. As many passes as parts: memory is bounded
 * by the table, time is passes times rows.
 *
 *     INODE rows (this part) -> table
 *     DENTRY: both ends, each if in this part       XATTR, INLINE, ORPHAN, data runs: their inode
 *     table -> judge_dir, judge_file, judge_common
 *
 * What is wrong with a row by itself is told in the first pass only.
 *
 * Limits. Paths are looked for in the first PATHS_MAX findings: each costs a scan of a directory.
 *
 * Not here. Transactions under way (fsck_txn.c): they have been settled before. */
#include "meta/fsck_internal.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "data/fsck.h"
#include "format/disk_data.h"

enum { PATHS_MAX = 200, SLOTS_MIN = 64, GOOD_DIRS = 4096 };

/* What was found for an inode. ino 0: a free slot. */
struct found_inode {
    uint64_t ino;
    uint64_t parent;
    uint64_t size;
    uint64_t row_entries;
    uint64_t entries;
    uint64_t behind;  /* data blocks behind the end */
    uint64_t foreign; /* data blocks of what has none */
    uint32_t nlink;
    uint32_t names;
    uint32_t subdirs;
    uint32_t row_xattrs;
    uint32_t xattrs;
    uint32_t inline_bytes;
    uint32_t mode;
    bool is_inline;
    bool has_inline;
    bool orphan;
};

struct pass {
    struct fsck *fsck;
    uint32_t part;
    uint32_t part_count;
    struct found_inode *slots;
    uint64_t slot_count; /* power of two */
    uint64_t used;
    uint64_t good[GOOD_DIRS]; /* directories known to be below the root, by hash */
    uint64_t stray_ino;       /* last inode without row whose data was told of */
};

/* ---- the table ------------------------------------------------------------------------------- */

static bool in_part(const struct pass *pass, uint64_t ino)
{
    return (hash_u64(ino) >> 32) % pass->part_count == pass->part;
}

static struct found_inode *slot_of(const struct pass *pass, uint64_t ino)
{
    assert(ino != 0 && in_part(pass, ino));
    uint64_t at = hash_u64(ino) & (pass->slot_count - 1);
    while (pass->slots[at].ino != 0 && pass->slots[at].ino != ino)
        at = (at + 1) & (pass->slot_count - 1);
    return &pass->slots[at];
}

/* The inode, or NULL: not there. Of this part only. */
static struct found_inode *find(const struct pass *pass, uint64_t ino)
{
    if (ino == 0)
        return NULL;
    struct found_inode *found = slot_of(pass, ino);
    return found->ino ? found : NULL;
}

/* ---- telling --------------------------------------------------------------------------------- */

static void tell_inode(struct pass *pass, enum fsck_kind kind, uint64_t ino, const char *detail)
{
    char path[256] = "";
    struct fsck *fsck = pass->fsck;
    uint32_t told = 0;
    for (uint32_t i = 0; i < FSCK_KINDS; i++)
        told += fsck->counts.found[i];
    if (told < PATHS_MAX)
        meta_fsck_path(fsck, ino, path, sizeof path);
    fsck_tell(fsck, kind, "inode %llx%s%s%s%s", (unsigned long long)ino, path[0] ? ", " : "", path,
              detail[0] ? ": " : "", detail);
}

static void tell_counts(struct pass *pass, enum fsck_kind kind, uint64_t ino, uint64_t says,
                        uint64_t has)
{
    char detail[80];
    (void)snprintf(detail, sizeof detail, "says %llu, has %llu", (unsigned long long)says,
                   (unsigned long long)has);
    tell_inode(pass, kind, ino, detail);
}

static void tell_row(struct pass *pass, enum fsck_kind kind, struct slice key)
{
    if (pass->part == 0)
        fsck_tell(pass->fsck, kind, "group %u, table %02x, a key of %u bytes", key_group(key),
                  key_table(key), key.bytes);
}

static bool in_place(struct pass *pass, struct slice key)
{
    if (map_view_of_ino(pass->fsck->view, key_ino(key))->id == key_group(key))
        return true;
    tell_row(pass, FSCK_ROW_PLACE, key);
    return false;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void add_inode(struct pass *pass, struct slice key, struct slice value)
{
    struct disk_inode row;
    if (key.bytes != META_KEY_PREFIX + 8 || value.bytes != sizeof row || key_ino(key) == 0) {
        tell_row(pass, FSCK_ROW, key);
        return;
    }
    uint64_t ino = key_ino(key);
    if (!in_place(pass, key) || !in_part(pass, ino))
        return;
    memcpy(&row, value.data, sizeof row);
    if (row.mode == 0)
        tell_inode(pass, FSCK_ROW, ino, "no type");
    struct found_inode *found = slot_of(pass, ino);
    assert(found->ino == 0); /* keys of a group are distinct */
    if (++pass->used == pass->slot_count) {
        tell_inode(pass, FSCK_READ, ino, "the numbers are too uneven for the memory given");
        pass->used--;
        return;
    }
    *found = (struct found_inode){
        .ino = ino,
        .parent = row.parent,
        .size = row.size,
        .row_entries = row.entries,
        .nlink = row.nlink,
        .row_xattrs = row.xattr_count,
        .mode = row.mode,
        .is_inline = S_ISLNK(row.mode) || (S_ISREG(row.mode) && (row.flags & ATTR_INLINE)),
    };
}

static void name_in_dir(struct pass *pass, uint64_t dir, const struct disk_dentry *row,
                        struct slice name)
{
    struct found_inode *found = find(pass, dir);
    if (!found) {
        fsck_tell(pass->fsck, FSCK_NAME_NO_DIR, "directory %llx, name \"%.*s\"",
                  (unsigned long long)dir, (int)name.bytes, (const char *)name.data);
        return;
    }
    found->entries++;
    found->subdirs += S_ISDIR(row->mode);
}

static void name_of_inode(struct pass *pass, uint64_t dir, const struct disk_dentry *row,
                          struct slice name)
{
    struct found_inode *found = find(pass, row->ino);
    char path[256] = "";
    bool wrong_type = found && (found->mode & S_IFMT) != row->mode;
    if (!found || wrong_type)
        meta_fsck_path(pass->fsck, dir, path, sizeof path);
    if (!found)
        fsck_tell(pass->fsck, FSCK_NAME_NO_INODE, "%s/%.*s (directory %llx), inode %llx",
                  path[1] ? path : "", (int)name.bytes, (const char *)name.data,
                  (unsigned long long)dir, (unsigned long long)row->ino);
    if (wrong_type)
        fsck_tell(pass->fsck, FSCK_NAME_TYPE, "%s/%.*s (directory %llx), inode %llx",
                  path[1] ? path : "", (int)name.bytes, (const char *)name.data,
                  (unsigned long long)dir, (unsigned long long)row->ino);
    if (!found)
        return;
    found->names++;
    if (S_ISDIR(found->mode) && found->parent != dir)
        tell_inode(pass, FSCK_DIR_PARENT, found->ino, "");
}

static void add_name(struct pass *pass, struct slice key, struct slice value)
{
    struct disk_dentry row;
    struct slice name;
    uint64_t hash;
    if (!key_dentry_parts(key, &hash, &name) || value.bytes != sizeof row ||
        name_hash(name) != hash) {
        tell_row(pass, FSCK_ROW, key);
        return;
    }
    memcpy(&row, value.data, sizeof row);
    if (pass->part == 0)
        pass->fsck->counts.names++;
    if (!in_place(pass, key))
        return;
    uint8_t copy[META_NAME_MAX]; /* telling reads other rows: the iterator stays, its slices too */
    memcpy(copy, name.data, name.bytes);
    name.data = copy;
    if (in_part(pass, key_ino(key)))
        name_in_dir(pass, key_ino(key), &row, name);
    if (in_part(pass, row.ino))
        name_of_inode(pass, key_ino(key), &row, name);
}

/* XATTR, INLINE, ORPHAN. */
static void add_belonging(struct pass *pass, struct slice key, struct slice value)
{
    enum meta_table table = key_table(key);
    bool named = table == META_TABLE_XATTR;
    if (named ? key.bytes <= META_KEY_PREFIX + 8 : key.bytes != META_KEY_PREFIX + 8) {
        tell_row(pass, FSCK_ROW, key);
        return;
    }
    if (!in_place(pass, key) || !in_part(pass, key_ino(key)))
        return;
    struct found_inode *found = find(pass, key_ino(key));
    if (!found) {
        fsck_tell(pass->fsck, FSCK_STRAY_ROW, "inode %llx, group %u, table %02x",
                  (unsigned long long)key_ino(key), key_group(key), table);
        return;
    }
    if (named)
        found->xattrs++;
    if (table == META_TABLE_ORPHAN) {
        found->orphan = true;
        pass->fsck->counts.orphans++;
    }
    if (table == META_TABLE_INLINE) {
        found->has_inline = true;
        found->inline_bytes = value.bytes;
    }
}

static void add_row(struct pass *pass, struct slice key, struct slice value)
{
    struct fsck_counts *counts = &pass->fsck->counts;
    if (key.bytes < META_KEY_PREFIX) {
        tell_row(pass, FSCK_ROW, key);
        return;
    }
    switch (key_table(key)) {
    case META_TABLE_DENTRY:
        add_name(pass, key, value);
        break;
    case META_TABLE_XATTR:
    case META_TABLE_INLINE:
    case META_TABLE_ORPHAN:
        add_belonging(pass, key, value);
        break;
    case META_TABLE_REQUEST:
        counts->requests += pass->part == 0;
        break;
    case META_TABLE_DECIDED:
        counts->decided += pass->part == 0;
        break;
    case META_TABLE_PREPARED: /* counted, and removed, when settled */
    case META_TABLE_ALLOC:
        break;
    default:
        tell_row(pass, FSCK_ROW, key);
    }
}

static void add_run(void *context, const struct data_fsck_run *run)
{
    struct pass *pass = context;
    if (run->ino == 0 || !in_part(pass, run->ino))
        return;
    struct found_inode *found = find(pass, run->ino);
    if (!found) {
        if (run->ino != pass->stray_ino)
            fsck_tell(pass->fsck, FSCK_DATA_NO_INODE, "inode %llx, from block %llu on",
                      (unsigned long long)run->ino, (unsigned long long)run->first);
        pass->stray_ino = run->ino;
        return;
    }
    uint64_t end = div_up(found->size, (uint64_t)DATA_BLOCK_BYTES);
    if (!S_ISREG(found->mode) || found->is_inline)
        found->foreign += run->end - run->first;
    else if (run->end > end)
        found->behind += run->end - MAX(run->first, end);
}

/* ---- reading --------------------------------------------------------------------------------- */

void meta_fsck_rows(struct fsck *fsck, uint32_t group, enum meta_table first, enum meta_table last,
                    const struct meta_fsck_rows *rows)
{
    struct store *store = fsck_store(fsck, group);
    uint8_t from[META_KEY_PREFIX], end[META_KEY_PREFIX];
    struct slice key, value;
    int result;
    if (!store)
        return;
    be32_store(from, group);
    be32_store(end, group);
    from[4] = (uint8_t)first;
    end[4] = (uint8_t)last + 1;
    struct store_iter *iter = store_iter_new(store);
    store_iter_seek(iter, slice_of(from, sizeof from));
    while ((result = store_iter_next(iter, slice_of(end, sizeof end), &key, &value)) > 0)
        rows->fn(rows->context, key, value);
    store_iter_free(iter);
    if (result < 0)
        fsck_tell(fsck, FSCK_READ, "rows of group %u: %s", group, error_text(result));
}

static void on_inode(void *context, struct slice key, struct slice value)
{
    add_inode(context, key, value);
}

static void on_row(void *context, struct slice key, struct slice value)
{
    add_row(context, key, value);
}

static void count_inode(void *context, struct slice key, struct slice value)
{
    struct fsck *fsck = context;
    (void)key;
    (void)value;
    fsck->counts.inodes++;
}

static void each_group(struct fsck *fsck, enum meta_table first, enum meta_table last,
                       const struct meta_fsck_rows *rows)
{
    for (uint32_t i = 0; i < fsck->view->header->group_count; i++)
        if (fsck->view->groups[i].kind == MAP_GROUP_META)
            meta_fsck_rows(fsck, fsck->view->groups[i].id, first, last, rows);
}

/* ---- judging --------------------------------------------------------------------------------- */

/* Up from a directory until one that is known to be below the root. A chain that ends elsewhere has
 * been told of with its names; here only loops are left to find: meeting a mark again, which moves
 * on at every power of two (Brent). */
static void check_above(struct pass *pass, const struct found_inode *dir)
{
    uint64_t ino = dir->ino, mark = 0;
    struct disk_inode row;
    for (uint64_t steps = 1; ino != CFS_ROOT_INO && pass->good[hash_u64(ino) % GOOD_DIRS] != ino;
         steps++) {
        if (ino == mark) {
            tell_inode(pass, FSCK_DIR_LOOP, dir->ino, "");
            return;
        }
        if ((steps & (steps - 1)) == 0)
            mark = ino;
        if (meta_fsck_inode(pass->fsck, ino, &row) < 0)
            return;
        ino = row.parent;
    }
    pass->good[hash_u64(dir->ino) % GOOD_DIRS] = dir->ino;
}

static void judge_dir(struct pass *pass, const struct found_inode *found)
{
    bool alive = found->nlink > 0 || found->names > 0;
    uint32_t wanted = found->ino == CFS_ROOT_INO || found->orphan ? 0 : 1;
    if (found->nlink != (alive ? 2 + found->subdirs : 0))
        tell_counts(pass, FSCK_DIR_LINKS, found->ino, found->nlink, 2 + found->subdirs);
    if (found->row_entries != found->entries)
        tell_counts(pass, FSCK_DIR_ENTRIES, found->ino, found->row_entries, found->entries);
    if (found->names != wanted)
        tell_counts(pass, FSCK_DIR_NAMES, found->ino, wanted, found->names);
    if (found->nlink > 0)
        check_above(pass, found);
}

static void judge(struct pass *pass, const struct found_inode *found)
{
    if (S_ISDIR(found->mode))
        judge_dir(pass, found);
    else if (found->nlink != found->names)
        tell_counts(pass, FSCK_FILE_LINKS, found->ino, found->nlink, found->names);
    if (found->nlink == 0 && !found->orphan)
        tell_inode(pass, FSCK_ORPHAN_UNKNOWN, found->ino, "");
    if (found->nlink > 0 && found->orphan)
        tell_inode(pass, FSCK_ORPHAN_NAMED, found->ino, "");
    if (found->row_xattrs < found->xattrs)
        tell_counts(pass, FSCK_XATTRS, found->ino, found->row_xattrs, found->xattrs);
    if (found->is_inline ? found->inline_bytes != found->size : found->has_inline)
        tell_counts(pass, FSCK_INLINE, found->ino, found->is_inline ? found->size : 0,
                    found->inline_bytes);
    if (found->foreign > 0)
        tell_counts(pass, FSCK_DATA_NO_FILE, found->ino, 0, found->foreign);
    if (found->behind > 0)
        tell_counts(pass, FSCK_DATA_BEHIND, found->ino, 0, found->behind);
}

/* ---- passes ---------------------------------------------------------------------------------- */

static void run_pass(struct pass *pass)
{
    struct fsck *fsck = pass->fsck;
    const struct meta_fsck_rows inodes = {on_inode, pass}, rows = {on_row, pass};
    memset(pass->slots, 0, pass->slot_count * sizeof *pass->slots);
    memset(pass->good, 0, sizeof pass->good);
    pass->used = 0;
    pass->stray_ino = 0;
    each_group(fsck, META_TABLE_INODE, META_TABLE_INODE, &inodes);
    each_group(fsck, META_TABLE_DENTRY, META_TABLE_RENAME, &rows);
    for (uint32_t i = 0; i < fsck->view->header->group_count; i++)
        if (fsck->view->groups[i].kind == MAP_GROUP_DATA)
            data_fsck_runs(fsck, fsck->view->groups[i].id, pass->part == 0, add_run, pass);
    if (in_part(pass, CFS_ROOT_INO) && !find(pass, CFS_ROOT_INO))
        fsck_tell(fsck, FSCK_ROOT, "inode %llx", (unsigned long long)CFS_ROOT_INO);
    for (uint64_t i = 0; i < pass->slot_count; i++)
        if (pass->slots[i].ino != 0)
            judge(pass, &pass->slots[i]);
    fsck->counts.passes++;
}

/* With a group missing, everything that refers to it would look lost. */
static bool complete(const struct fsck *fsck)
{
    for (uint32_t i = 0; i < fsck->view->header->group_count; i++)
        if (!fsck->stores[i] && fsck->view->groups[i].kind == MAP_GROUP_META)
            return false;
    return true;
}

void meta_fsck(struct fsck *fsck)
{
    const struct meta_fsck_rows count = {count_inode, fsck};
    if (!complete(fsck))
        return;
    meta_fsck_settle(fsck);
    each_group(fsck, META_TABLE_INODE, META_TABLE_INODE, &count);
    uint64_t slots = SLOTS_MIN;
    while (slots < 2 * fsck->counts.inodes &&
           2 * slots * sizeof(struct found_inode) <= fsck->memory_bytes)
        slots *= 2;
    /* Parts of a hash are not equal: half full on average leaves room for the largest. */
    struct pass *pass = mem_zalloc(sizeof *pass);
    pass->fsck = fsck;
    pass->slot_count = slots;
    pass->part_count = (uint32_t)div_up(fsck->counts.inodes + 1, slots / 2);
    pass->slots = mem_alloc(slots * sizeof *pass->slots);
    for (pass->part = 0; pass->part < pass->part_count; pass->part++)
        run_pass(pass);
    mem_free(pass->slots);
    mem_free(pass);
}
