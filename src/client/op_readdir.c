/* SPDX-License-Identifier: MIT */
#include "client/client_internal.h"

#include <string.h>

#include "base/assert.h"

int client_readdir(struct client *client, const struct client_cred *cred,
                   const struct client_readdir *what, struct client_dir_page *ret_page)
{
    uint32_t bytes = MIN(what->bytes, (uint32_t)WIRE_BODY_MAX / 2);
    struct meta_call meta = {
        .type = RPC_READDIR,
        .req = {.ino = what->dir, .offset = what->cookie, .size = bytes},
    };
    if (what->want_attr)
        meta.req.flags |= META_WANT_ATTR;
    int result = meta_call(client, cred, &meta);
    if (result < 0) {
        meta_call_fini(&meta);
        return result;
    }
    ret_page->reply = meta.call.rpc.reply;
    meta.call.rpc.reply = NULL;
    reader_init(&ret_page->reader, meta.tail.data, meta.tail.bytes);
    ret_page->cookie = meta.rep.cookie;
    ret_page->eof = meta.rep.eof != 0;
    return 0;
}

int client_dir_next(struct client_dir_page *page, struct client_dirent *ret_entry)
{
    if (reader_left(&page->reader) == 0)
        return 0;
    struct wire_dirent head;
    reader_copy(&page->reader, &head, sizeof head);
    const void *name = reader_take(&page->reader, round_up(head.name_bytes, 8));
    struct client_dirent entry = {
        .ino = head.ino,
        .cookie = head.cookie,
        .mode = head.mode,
        .name = slice_of(name, head.name_bytes),
        .attr_valid = head.attr_bytes != 0,
    };
    if (head.attr_bytes) {
        uint8_t const *attr = reader_take(&page->reader, head.attr_bytes);
        if (attr)
            memcpy(&entry.attr, attr, MIN(sizeof entry.attr, (size_t)head.attr_bytes));
    }
    if (!reader_ok(&page->reader) || name_check(entry.name) < 0 || entry.ino == 0)
        return -ERR_CORRUPT_WIRE;
    *ret_entry = entry;
    return 1;
}

void client_dir_page_fini(struct client_dir_page *page)
{
    if (page->reply)
        msg_free(page->reply);
    page->reply = NULL;
}
