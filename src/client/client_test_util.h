/* SPDX-License-Identifier: MIT */
#ifndef CFS_CLIENT_CLIENT_TEST_UTIL_H
#define CFS_CLIENT_CLIENT_TEST_UTIL_H

/* Files in tests of the client: made in the root directory, written and compared. */

#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/random.h"
#include "client/fake_server_test.h"

#define RELEASED_NS (30 * NS_PER_MS) /* a close is known to the server by then */

static const struct client_options options = {.attr_ttl_ns = NS_PER_S};

static inline struct slice text(const char *string)
{
    return slice_of(string, strlen(string));
}

static inline struct client_file *create(struct client *client, const char *name)
{
    struct client_place place = {CFS_ROOT_INO, text(name)};
    struct client_file *file = NULL;
    CHECK(client_create(client, &fake_cred, &place, S_IFREG | 0644, false, &file) == 0);
    return file;
}

static inline int write_at(struct client_file *file, uint64_t offset, const void *bytes,
                           uint32_t count)
{
    struct buf *buf = buf_new(count + 80);
    memcpy(buf->data + 80, bytes, count); /* at an odd place, as from the kernel */
    int result = client_write(file, offset, (struct buf_slice){buf, 80, count});
    buf_put(buf);
    return result;
}

static inline bool read_is(struct client_file *file, uint64_t offset, uint32_t ask,
                           const void *bytes, uint32_t count)
{
    struct client_data data;
    if (client_read(file, offset, ask, &data) < 0)
        return false;
    bool same = data.bytes == count;
    if (same) {
        uint8_t *copy = mem_alloc(count + 1);
        client_data_copy(&data, copy);
        same = memcmp(copy, bytes, count) == 0;
        mem_free(copy);
    }
    client_data_fini(&data);
    return same;
}

#endif
