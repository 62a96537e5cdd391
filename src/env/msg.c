/* SPDX-License-Identifier: MIT */
/* Message framing: a byte stream in, messages out.
 *
 * I1. No length is believed before wire_header_check has accepted the header.
 * I2. Nothing is allocated for the payload before the CRC of header and body has been checked, so
 *     one connection holds at most WIRE_BODY_MAX + WIRE_PAYLOAD_MAX bytes of one unfinished
 *     message.
 * I3. parser->msg is NULL until the header is complete; the parser owns it until it is returned. */
#include <string.h>

#include "env/reactor_internal.h"

struct msg *msg_new(uint32_t body_bytes)
{
    struct msg *msg = mem_alloc(sizeof *msg + sizeof(struct wire_header) + body_bytes);
    _Static_assert(sizeof *msg % 8 == 0, "the header behind it is aligned");
    list_init(&msg->link);
    msg->header = (struct wire_header *)(void *)(msg + 1);
    msg->body = (uint8_t *)(msg->header + 1);
    msg->body_bytes = body_bytes;
    msg->payload = NULL;
    msg->payload_bytes = 0;
    return msg;
}

void msg_free(struct msg *msg)
{
    if (!msg)
        return;
    buf_put(msg->payload);
    mem_free(msg);
}

void msg_parser_init(struct msg_parser *parser)
{
    *parser = (struct msg_parser){0};
}

void msg_parser_fini(struct msg_parser *parser)
{
    msg_free(parser->msg);
    parser->msg = NULL;
}

/* Copy what is there, up to want; true when the part is complete. */
static bool take(const uint8_t **cursor, size_t *bytes, void *part, uint32_t *have, uint32_t want)
{
    size_t count = MIN(*bytes, (size_t)(want - *have));
    if (count) {
        memcpy((uint8_t *)part + *have, *cursor, count);
        *cursor += count;
        *bytes -= count;
        *have += (uint32_t)count;
    }
    return *have == want;
}

static struct msg *finish(struct msg_parser *parser)
{
    struct msg *msg = parser->msg;
    assert(parser->payload_have == msg->payload_bytes);
    msg_parser_init(parser);
    return msg;
}

static int header_done(struct msg_parser *parser)
{
    int error = wire_header_check(&parser->header);
    if (error)
        return error;
    parser->msg = msg_new(parser->header.body_bytes);
    *parser->msg->header = parser->header;
    parser->body_have = 0;
    parser->payload_have = 0;
    return 0;
}

static int body_done(struct msg_parser *parser)
{
    struct msg *msg = parser->msg;
    int error = wire_header_check_crc(msg->header, msg->body);
    if (error)
        return error;
    msg->payload_bytes = msg->header->payload_bytes;
    if (msg->payload_bytes)
        msg->payload = buf_new(msg->payload_bytes);
    return 0;
}

must_check int msg_parser_feed(struct msg_parser *parser, const uint8_t **cursor, size_t *bytes,
                               struct msg **ret_msg)
{
    int error;
    if (!parser->msg) {
        if (!take(cursor, bytes, &parser->header, &parser->header_have, sizeof parser->header))
            return 0;
        error = header_done(parser);
        if (error)
            return error;
    }
    struct msg *msg = parser->msg;
    if (!msg->payload) {
        if (!take(cursor, bytes, msg->body, &parser->body_have, msg->body_bytes))
            return 0;
        error = body_done(parser);
        if (error)
            return error;
    }
    if (msg->payload &&
        !take(cursor, bytes, msg->payload->data, &parser->payload_have, msg->payload_bytes))
        return 0;
    *ret_msg = finish(parser);
    return 1;
}

void *msg_parser_room(const struct msg_parser *parser, uint32_t *ret_bytes)
{
    const struct msg *msg = parser->msg;
    if (!msg || !msg->payload)
        return NULL;
    assert(parser->payload_have < msg->payload_bytes);
    *ret_bytes = msg->payload_bytes - parser->payload_have;
    return msg->payload->data + parser->payload_have;
}

struct msg *msg_parser_filled(struct msg_parser *parser, uint32_t bytes)
{
    struct msg *msg = parser->msg;
    assert(msg && msg->payload);
    assert(bytes <= msg->payload_bytes - parser->payload_have);
    parser->payload_have += bytes;
    return parser->payload_have == msg->payload_bytes ? finish(parser) : NULL;
}
