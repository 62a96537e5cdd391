/* SPDX-License-Identifier: MIT */
/* The path of an inode, for people: up the chain of parents, in each looking for the name. */
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "meta/peer.h"

enum { PATH_DEPTH_MAX = 64, PATH_SCAN_MAX = 20000 };

/* The name of ino in dir, which must be served here. */
static bool find_name(struct meta_service *service, uint64_t dir, uint64_t ino,
                      char name[META_NAME_MAX + 1])
{
    uint32_t group, scanned = 0;
    struct meta_group *mg;
    bool found = false;
    if (meta_group_of_ino(service, dir, &group) < 0 ||
        meta_find_serving(service, group, 0, false, &mg) < 0)
        return false;
    struct meta_key from, end;
    struct slice key, value, part;
    uint64_t hash, seen_seq = 0;
    struct group_iter *iter = group_iter_new(mg->group);
    key_dentry_from(&from, group, dir, 0);
    key_dentry_from(&end, group, dir, UINT64_MAX);
    group_iter_seek(iter, key_slice(&from));
    while (!found && scanned++ < PATH_SCAN_MAX &&
           group_iter_next(iter, key_slice(&end), &key, &value, &seen_seq) > 0) {
        struct disk_dentry row;
        if (value.bytes != sizeof row || !key_dentry_parts(key, &hash, &part))
            break;
        memcpy(&row, value.data, sizeof row);
        if (row.ino != ino)
            continue;
        memcpy(name, part.data, part.bytes);
        name[part.bytes] = 0;
        found = true;
    }
    group_iter_free(iter);
    meta_group_put(mg);
    return found;
}

static bool read_inode(struct meta_service *service, uint64_t ino, struct disk_inode *ret_row)
{
    const struct wire_txn_id nobody = {0};
    struct meta_key key;
    uint32_t group;
    if (meta_group_of_ino(service, ino, &group) < 0)
        return false;
    key_of_ino(&key, group, META_TABLE_INODE, ino);
    return peer_lock_get(service, &nobody, key_slice(&key), ret_row, sizeof *ret_row) ==
           sizeof *ret_row;
}

/* As much of the path as can be told from here; "..." stands for the rest. */
void meta_name_inode(void *context, uint64_t ino, char *text, uint32_t bytes)
{
    struct meta_service *service = context;
    char name[META_NAME_MAX + 1];
    uint32_t at = bytes;
    uint64_t number = ino;
    assert(bytes > 0);
    if (bytes < 64) {
        snprintf(text, bytes, "ino=%llx", (unsigned long long)ino);
        return;
    }
    text[--at] = 0;
    for (uint32_t depth = 0; ino != CFS_ROOT_INO && depth < PATH_DEPTH_MAX; depth++) {
        struct disk_inode row;
        if (!read_inode(service, ino, &row) || !find_name(service, row.parent, ino, name))
            break;
        uint32_t length = (uint32_t)strlen(name);
        if (at < length + 32)
            break;
        at -= length;
        memcpy(text + at, name, length);
        text[--at] = '/';
        ino = row.parent;
    }
    if (ino == CFS_ROOT_INO && at < bytes - 1) {
        memmove(text, text + at, bytes - at);
        return;
    }
    char head[40];
    int length = at < bytes - 1
                     ? snprintf(head, sizeof head, "...")
                     : snprintf(head, sizeof head, "ino=%llx", (unsigned long long)number);
    memmove(text + length, text + at, bytes - at);
    memcpy(text, head, (size_t)length);
}
