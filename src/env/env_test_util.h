/* SPDX-License-Identifier: MIT */
#ifndef CFS_ENV_ENV_TEST_UTIL_H
#define CFS_ENV_ENV_TEST_UTIL_H

/* Messages for the tests of connections: a body that is a pattern of the request id. */

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "env/env.h"
#include "format/wire_header.h"

enum { TEST_RPC_TYPE = 1 };

static inline void test_pattern(uint8_t *bytes, uint32_t count, uint64_t seed)
{
    for (uint32_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(seed * 7 + i * 31 + (i >> 8));
}

static inline bool test_pattern_is(const uint8_t *bytes, uint32_t count, uint64_t seed)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bytes[i] != (uint8_t)(seed * 7 + i * 31 + (i >> 8)))
            return false;
    }
    return true;
}

static inline void test_send(struct conn *conn, uint64_t id, uint32_t body_bytes,
                             uint32_t payload_bytes)
{
    static uint8_t head[sizeof(struct wire_header) + WIRE_BODY_MAX] __attribute__((aligned(8)));
    struct wire_header *header = (struct wire_header *)(void *)head;
    *header = (struct wire_header){.type = TEST_RPC_TYPE,
                                   .body_bytes = body_bytes,
                                   .payload_bytes = payload_bytes,
                                   .request_id = id};
    test_pattern(head + sizeof *header, body_bytes, id);
    wire_header_seal(header, head + sizeof *header);
    struct buf_slice payload = {0};
    if (payload_bytes) {
        /* At an odd place in its buffer, as a slice may be. */
        payload = (struct buf_slice){buf_new(payload_bytes + 13), 13, payload_bytes};
        test_pattern(payload.buf->data + 13, payload_bytes, id + 1);
    }
    conn_send(conn, head, (uint32_t)sizeof *header + body_bytes, payload);
    buf_put(payload.buf);
}

static inline bool test_msg_ok(const struct msg *msg)
{
    const struct wire_header *header = msg->header;
    return msg->body_bytes == header->body_bytes && msg->payload_bytes == header->payload_bytes &&
           test_pattern_is(msg->body, msg->body_bytes, header->request_id) &&
           (msg->payload_bytes == 0 ||
            ((uintptr_t)msg->payload->data % 4096 == 0 &&
             test_pattern_is(msg->payload->data, msg->payload_bytes, header->request_id + 1)));
}

#endif
