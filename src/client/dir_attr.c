/* SPDX-License-Identifier: MIT */
/* Attributes of directories, as the answer to a change in them told.
 *
 * The kernel drops what it believes of a directory with every name that it makes or removes there,
 * and asks for the attributes again before the next (it needs the mode). The answer to the change
 * had them; a table of the last few directories makes a request out of that question.
 *
 * D1. A row is never older than the last change of the directory through this client: an answer
 *     without the attributes, or none, drops the row. Between answers the greater change counts.
 * D2. As with files, a row is believed for a tenth of attr_ttl (op_lookup.c). */
#include "client/client_internal.h"

#include <sys/stat.h>

#include "base/hash.h"

static struct client_dir_attr *row_of(struct client *client, uint64_t ino)
{
    return &client->dir_attrs[hash_u64(ino) % CLIENT_DIR_ATTRS];
}

void client_dir_learn(struct client *client, const struct wire_attr *attr, uint64_t asked_ns)
{
    struct client_dir_attr *row = row_of(client, attr->ino);
    if (row->attr.ino == attr->ino && row->attr.change > attr->change)
        return;
    *row = (struct client_dir_attr){.attr = *attr, .at_ns = asked_ns};
}

void client_dir_forget(struct client *client, uint64_t ino)
{
    struct client_dir_attr *row = row_of(client, ino);
    if (row->attr.ino == ino)
        row->at_ns = 0; /* its change number stays: an older answer may be on its way */
}

bool client_dir_attr(struct client *client, uint64_t ino, struct wire_attr *ret_attr)
{
    const struct client_dir_attr *row = row_of(client, ino);
    if (row->attr.ino != ino || row->at_ns == 0 ||
        env_now_ns() >= row->at_ns + client->options.attr_ttl_ns / 10)
        return false;
    *ret_attr = row->attr;
    return true;
}
