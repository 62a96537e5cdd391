/* SPDX-License-Identifier: MIT */
/* Offline check of data groups: rows, and the blocks that they refer to.
 *
 * Whether a row's inode exists is for those who know inodes (meta/fsck.c); whether blocks and
 * backpointers agree has been checked by the store. Here: rows are well formed, in the group that
 * the map names for their object, and do not overlap; their blocks add up to what the store holds
 * as data (a row lost or kept too long shows as a difference); and, if asked, checksums. */
#include "data/fsck.h"

#include <stdio.h>

#include "data/extent.h"

struct walk {
    struct fsck *fsck;
    bool tell;
    uint32_t group;
    uint64_t ino; /* of the row before */
    uint64_t end;
    data_fsck_fn fn;
    void *context;
};

/* At the first row of a group's table; end: the key behind its last. */
static struct store_iter *table_iter(struct store *store, uint32_t group, uint8_t table,
                                     uint8_t end[5])
{
    uint8_t from[5];
    be32_store(from, group);
    be32_store(end, group);
    from[4] = table;
    end[4] = table + 1;
    struct store_iter *iter = store_iter_new(store);
    store_iter_seek(iter, slice_of(from, sizeof from));
    return iter;
}

static void check_run(struct walk *walk, const struct data_row *row)
{
    const struct map_view *view = walk->fsck->view;
    uint32_t index = (uint32_t)(row->first / DATA_OBJECT_BLOCKS);
    if (walk->tell && map_view_of_object(view, row->ino, index)->id != walk->group)
        fsck_tell(walk->fsck, FSCK_ROW_PLACE, "data of inode %llx, object %u, in group %u",
                  (unsigned long long)row->ino, index, walk->group);
    if (walk->tell && row->ino == walk->ino && row->first < walk->end)
        fsck_tell(walk->fsck, FSCK_DATA_OVERLAP, "inode %llx, block %llu, group %u",
                  (unsigned long long)row->ino, (unsigned long long)row->first, walk->group);
    walk->ino = row->ino;
    walk->end = row->end;
    if (walk->tell)
        walk->fsck->counts.data_bytes += row->extent.blocks * (uint64_t)DATA_BLOCK_BYTES;
    const struct data_fsck_run run = {row->ino, row->first, row->end};
    walk->fn(walk->context, &run);
}

static void check_requests(struct fsck *fsck, struct store *store, uint32_t group)
{
    uint8_t end[5];
    struct slice key, value;
    struct disk_data_request row;
    int result;
    struct store_iter *iter = table_iter(store, group, DATA_TABLE_REQUEST, end);
    while ((result = store_iter_next(iter, slice_of(end, sizeof end), &key, &value)) > 0) {
        if (data_request_parse(key, value, &row) < 0)
            fsck_tell(fsck, FSCK_ROW, "group %u, a request's row of %u + %u bytes", group,
                      key.bytes, value.bytes);
    }
    store_iter_free(iter);
    if (result < 0)
        fsck_tell(fsck, FSCK_READ, "requests of group %u: %s", group, error_text(result));
}

void data_fsck_runs(struct fsck *fsck, uint32_t group, bool tell, data_fsck_fn fn, void *context)
{
    struct walk walk = {.fsck = fsck, .tell = tell, .group = group, .fn = fn, .context = context};
    struct store *store = fsck_store(fsck, group);
    uint8_t end[5];
    struct slice key, value;
    int result;
    if (!store)
        return;
    struct store_iter *iter = table_iter(store, group, DATA_TABLE_EXTENT, end);
    while ((result = store_iter_next(iter, slice_of(end, sizeof end), &key, &value)) > 0) {
        struct data_row row;
        if (data_row_parse(key, value, &row) == 0)
            check_run(&walk, &row);
        else if (tell)
            fsck_tell(fsck, FSCK_ROW, "group %u, a data row of %u + %u bytes", group, key.bytes,
                      value.bytes);
    }
    store_iter_free(iter);
    if (result < 0 && tell)
        fsck_tell(fsck, FSCK_READ, "data rows of group %u: %s", group, error_text(result));
    if (tell)
        check_requests(fsck, store, group);
}

/* ---- one store ------------------------------------------------------------------------------- */

static void check_data(struct fsck *fsck, struct store *store, uint32_t node, struct slice key,
                       const struct data_row *row, uint8_t *data)
{
    int result = store_extent_read(store, row->extent, 0, row->extent.blocks, data);
    uint32_t bad = result < 0 ? row->extent.blocks : data_row_bad_blocks(row, data);
    if (bad > 0)
        fsck_tell(
            fsck, FSCK_DATA_DAMAGED,
            "node %u, group %u, inode %llx, blocks %llu to %llu of the file: %u bad, at block "
            "%llu of the disk",
            node, data_key_group(key), (unsigned long long)row->ino, (unsigned long long)row->first,
            (unsigned long long)row->end - 1, bad, (unsigned long long)row->extent.block);
}

/* Blocks of all data rows of a group in the store; those of other groups have other tables. */
static int add_group(struct fsck *fsck, struct store *store, uint32_t node, uint32_t group,
                     uint64_t *blocks)
{
    uint8_t end[5];
    struct slice key, value;
    int result;
    struct store_iter *iter = table_iter(store, group, DATA_TABLE_EXTENT, end);
    struct buf *buf = buf_new(DATA_EXTENT_BLOCKS_MAX * DATA_BLOCK_BYTES);
    while ((result = store_iter_next(iter, slice_of(end, sizeof end), &key, &value)) > 0) {
        struct data_row row;
        if (data_row_parse(key, value, &row) < 0)
            continue; /* told by data_fsck_runs if it matters */
        *blocks += row.extent.blocks;
        uint8_t copy[DATA_VALUE_BYTES_MAX];
        if (fsck->read_data) {
            memcpy(copy, row.crcs, row.extent.blocks * sizeof(uint32_t));
            row.crcs = copy;
            check_data(fsck, store, node, key, &row, buf->data);
        }
    }
    buf_put(buf);
    store_iter_free(iter);
    return result;
}

void data_fsck_store(struct fsck *fsck, struct store *store, uint32_t node)
{
    struct store_space space;
    uint64_t blocks = 0;
    int result = 0;
    for (uint32_t i = 0; i < fsck->view->header->group_count && result == 0; i++) {
        const struct map_group *group = &fsck->view->groups[i];
        if (group->kind == MAP_GROUP_DATA)
            result = add_group(fsck, store, node, group->id, &blocks);
    }
    store_space(store, &space);
    if (result < 0)
        fsck_tell(fsck, FSCK_READ, "data rows on node %u: %s", node, error_text(result));
    else if (blocks * DATA_BLOCK_BYTES != space.data_bytes)
        fsck_tell(fsck, FSCK_SPACE, "node %u: %llu blocks in use, %llu in rows", node,
                  (unsigned long long)(space.data_bytes / DATA_BLOCK_BYTES),
                  (unsigned long long)blocks);
}
