/* SPDX-License-Identifier: MIT */
/* Directories. The servers' cookies are the kernel's offsets, moved up to make room for "." and
 * "..", which exist only here. */
#include "front/fuse/fuse_internal.h"

#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/mem.h"

enum { INO_UNKNOWN = -1 };

/* A reply being filled. */
struct listing {
    struct fuse_front *front;
    struct writer writer;
    bool plus;
    bool full;
};

/* Room for one entry: its fixed parts and name. False: the reply is full. */
static bool listing_add(struct listing *listing, const struct client_dirent *entry, uint64_t next)
{
    struct fuse_entry_out out = {0}; /* node id 0: the kernel looks the name up by itself */
    struct fuse_dirent dirent = {
        .ino = entry->ino,
        .off = next,
        .namelen = entry->name.bytes,
        .type = (entry->mode & S_IFMT) >> 12,
    };
    static const uint8_t padding[8];
    size_t name_room = round_up(entry->name.bytes, 8);
    size_t bytes = (listing->plus ? sizeof out : 0) + sizeof dirent + name_room;
    if (bytes > writer_left(&listing->writer)) {
        listing->full = true;
        return false;
    }
    if (entry->attr_valid)
        fuse_entry_encode(listing->front, &entry->attr, &out);
    if (listing->plus)
        writer_put(&listing->writer, &out, sizeof out);
    writer_put(&listing->writer, &dirent, sizeof dirent);
    writer_put(&listing->writer, entry->name.data, entry->name.bytes);
    writer_put(&listing->writer, padding, name_room - entry->name.bytes);
    assert(writer_ok(&listing->writer));
    return true;
}

static void listing_add_dots(struct listing *listing, uint64_t dir, uint64_t *offset)
{
    struct client_dirent self = {.ino = dir, .mode = S_IFDIR, .name = slice_of(".", 1)};
    struct client_dirent parent = {
        .ino = (uint64_t)INO_UNKNOWN, .mode = S_IFDIR, .name = slice_of("..", 2)};
    if (dir == CFS_ROOT_INO)
        parent.ino = dir;
    if (*offset < FUSE_DIR_SELF && listing_add(listing, &self, FUSE_DIR_SELF))
        *offset = FUSE_DIR_SELF;
    if (*offset == FUSE_DIR_SELF && listing_add(listing, &parent, FUSE_DIR_PARENT))
        *offset = FUSE_DIR_PARENT;
}

/* Entries of one page, while there is room. 0 or an error. */
static int listing_add_page(struct listing *listing, struct client_dir_page *page)
{
    struct client_dirent entry;
    int more;
    while ((more = client_dir_next(page, &entry)) > 0) {
        if (!listing_add(listing, &entry, entry.cookie + FUSE_DIR_FIRST))
            break;
    }
    return more < 0 ? more : 0;
}

static int listing_fill(struct listing *listing, struct fuse_request *request, uint64_t offset)
{
    struct client *client = request->front->client;
    uint64_t dir = request->head.nodeid;
    listing_add_dots(listing, dir, &offset);
    struct client_readdir what = {
        .dir = dir,
        .cookie = offset - MIN(offset, (uint64_t)FUSE_DIR_FIRST),
        .want_attr = listing->plus,
    };
    bool eof = false;
    int result = 0;
    while (result == 0 && !eof && !listing->full) {
        struct client_dir_page page;
        size_t before = writer_bytes(&listing->writer);
        /* With attributes an entry here is about 4/3 of one on the wire. */
        size_t left = writer_left(&listing->writer);
        what.bytes = (uint32_t)(listing->plus ? left - left / 4 : left);
        result = client_readdir(client, &request->cred, &what, &page);
        if (result < 0)
            break;
        result = listing_add_page(listing, &page);
        eof = page.eof || page.cookie == what.cookie;
        what.cookie = page.cookie;
        client_dir_page_fini(&page);
        if (writer_bytes(&listing->writer) > before)
            break; /* some is enough: the kernel asks again for more */
    }
    return result;
}

static int list(struct fuse_request *request, bool plus)
{
    struct fuse_read_in in;
    int result = fuse_take(request, &in, sizeof in);
    if (result < 0)
        return result;
    uint32_t room = MIN(in.size, (uint32_t)WIRE_BODY_MAX);
    struct buf *buf = buf_new(room);
    struct listing listing = {.front = request->front, .plus = plus};
    writer_init(&listing.writer, buf->data, room);
    result = listing_fill(&listing, request, in.offset);
    uint32_t bytes = (uint32_t)writer_bytes(&listing.writer);
    if (result == 0 && bytes == 0 && listing.full)
        result = -EINVAL; /* not even one entry fits */
    if (result == 0 || bytes > 0)
        result = fuse_reply(request, buf->data, bytes);
    buf_put(buf);
    return result;
}

int fuse_op_readdir(struct fuse_request *request)
{
    return list(request, false);
}

int fuse_op_readdirplus(struct fuse_request *request)
{
    return list(request, true);
}

int fuse_op_opendir(struct fuse_request *request)
{
    struct fuse_open_out out = {0}; /* nothing is kept: offsets say where to go on */
    return fuse_reply(request, &out, sizeof out);
}

int fuse_op_fsyncdir(struct fuse_request *request)
{
    int result = client_sync_inode(request->front->client, request->head.nodeid);
    return result < 0 ? result : fuse_reply(request, NULL, 0);
}
