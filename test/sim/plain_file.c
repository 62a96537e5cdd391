/* SPDX-License-Identifier: MIT */
#include "plain_file.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"

static const struct client_cred root = {.checked = true};

static struct client_place place_of(uint32_t file, char name[32])
{
    (void)snprintf(name, 32, "file%u", file);
    return (struct client_place){CFS_ROOT_INO, slice_of(name, strlen(name))};
}

static void fill(uint8_t *bytes, uint32_t count, uint32_t file)
{
    for (uint32_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(file * 37 + i * 11 + (i >> 8));
}

int plain_file_make(struct client *client, uint32_t file, uint32_t bytes)
{
    char name[32];
    struct client_file *open;
    const struct client_place place = place_of(file, name);
    int result = client_create(client, &root, &place, S_IFREG | 0644, true, &open);
    if (result < 0)
        return result;
    struct buf *buf = buf_new(bytes);
    fill(buf->data, bytes, file);
    result = client_write(open, 0, (struct buf_slice){buf, 0, bytes});
    buf_put(buf);
    int released = client_release(open);
    return result < 0 ? result : released;
}

/* Of ask bytes from the start, these are there, and no more; the file's own up to filled. */
static int check_content(struct client_file *open, uint32_t file, uint32_t filled, uint32_t bytes,
                         uint32_t ask)
{
    struct client_data data;
    int result = client_read(open, 0, ask, &data);
    if (result < 0)
        return result;
    uint8_t *got = mem_alloc(ask);
    uint8_t *want = mem_zalloc(bytes);
    fill(want, filled, file);
    client_data_copy(&data, got);
    if (data.bytes != bytes || memcmp(got, want, bytes) != 0)
        result = -EBADMSG;
    client_data_fini(&data);
    mem_free(got);
    mem_free(want);
    return result < 0 ? result : 0;
}

/* exact: there is nothing behind the bytes. */
static int check(struct client *client, uint32_t file, uint32_t bytes, bool exact)
{
    char name[32];
    struct wire_attr attr;
    struct client_file *open;
    const struct client_place place = place_of(file, name);
    int result = client_lookup(client, &root, place.dir, place.name, &attr);
    if (result == 0 && (attr.size < bytes || (exact && attr.size > bytes)))
        return -EBADMSG;
    if (result == 0)
        result = client_open(client, &root, attr.ino, &open);
    if (result < 0)
        return result;
    result = check_content(open, file, bytes, bytes, exact ? bytes + 1 : bytes);
    int released = client_release(open);
    return result < 0 ? result : released;
}

int plain_file_check(struct client *client, uint32_t file, uint32_t bytes)
{
    return check(client, file, bytes, true);
}

int plain_file_check_start(struct client *client, uint32_t file, uint32_t bytes)
{
    return check(client, file, bytes, false);
}

int plain_file_check_cut(struct client *client, uint32_t file, uint32_t left, uint32_t bytes)
{
    char name[32];
    struct wire_attr attr;
    struct client_file *open;
    const struct client_place place = place_of(file, name);
    int result = check(client, file, left, true);
    if (result == 0)
        result = client_lookup(client, &root, place.dir, place.name, &attr);
    if (result == 0)
        result = client_open(client, &root, attr.ino, &open);
    if (result < 0)
        return result;
    result = client_fallocate(open, 0, 0, bytes);
    if (result == 0)
        result = check_content(open, file, left, bytes, bytes);
    int released = client_release(open);
    return result < 0 ? result : released;
}
