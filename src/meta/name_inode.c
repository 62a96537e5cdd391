/* SPDX-License-Identifier: MIT */
/* The path of an inode, for people: up the chain of parents, in each looking for the name. */
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "meta/peer.h"

enum { PATH_DEPTH_MAX = 64, PATH_PAGES_MAX = 64, PATH_PAGE_BYTES = 64 << 10 };

/* One page of names: the one of ino into name (1), or where to go on (0). */
static int scan_page(struct meta_service *service, struct rpc_call *call,
                     const struct net_addr *addr, uint64_t ino, char name[META_NAME_MAX + 1],
                     struct wire_meta_rep *ret_page)
{
    struct slice tail;
    int result = rpc_call(service->rpc, addr, call);
    if (result == 0 && !rpc_reply_body(call, ret_page, sizeof *ret_page, &tail))
        result = -ERR_CORRUPT_WIRE;
    if (result < 0)
        return result;
    struct reader reader;
    reader_init(&reader, tail.data, tail.bytes);
    while (reader_left(&reader) > 0) {
        struct wire_dirent head;
        reader_copy(&reader, &head, sizeof head);
        const char *text = reader_take(&reader, round_up(head.name_bytes, 8));
        (void)reader_take(&reader, head.attr_bytes);
        if (!reader_ok(&reader) || head.name_bytes > META_NAME_MAX)
            return -ERR_CORRUPT_WIRE;
        if (head.ino == ino) {
            memcpy(name, text, head.name_bytes);
            name[head.name_bytes] = 0;
            return 1;
        }
    }
    return 0;
}

/* The name of ino in dir, asked of the primary of dir's group, be it this node or another. */
static bool find_name(struct meta_service *service, uint64_t dir, uint64_t ino,
                      char name[META_NAME_MAX + 1])
{
    const struct map_view *view = map_client_view(service->map);
    const struct map_group *group = view ? map_view_of_ino(view, dir) : NULL;
    const struct map_node *node = group ? map_view_node(view, group->primary) : NULL;
    struct net_addr addr;
    struct wire_meta_rep page = {0};
    struct wire_meta_req req = {.flags = META_CRED_CHECKED, .ino = dir, .size = PATH_PAGE_BYTES};
    int result = 0;
    if (!node)
        return false;
    map_node_addr(node, &addr);
    struct rpc_call call = {
        .type = RPC_READDIR,
        .group = group->id,
        .body = &req,
        .deadline_ns = env_now_ns() + META_PEER_PATIENCE_NS,
    };
    for (uint32_t i = 0; result == 0 && !page.eof && i < PATH_PAGES_MAX; i++) {
        req.offset = page.cookie;
        result = scan_page(service, &call, &addr, ino, name, &page);
        rpc_call_fini(&call);
    }
    return result == 1;
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
