/* SPDX-License-Identifier: MIT */
#include "format/wire_header.h"

#include "base/crc32c.h"
#include "base/errors.h"
#include "format/rpc.h"

static uint32_t head_crc(const struct wire_header *header, const void *body)
{
    struct wire_header copy = *header;
    copy.head_crc = 0;
    uint32_t crc = crc32c(0, &copy, sizeof copy);
    return crc32c(crc, body, header->body_bytes);
}

void wire_header_seal(struct wire_header *header, const void *body)
{
    header->magic = WIRE_MAGIC;
    header->version = WIRE_VERSION;
    header->head_crc = head_crc(header, body);
}

int wire_header_check(const struct wire_header *header)
{
    if (header->magic != WIRE_MAGIC)
        return -ERR_CORRUPT_WIRE;
    if (header->version != WIRE_VERSION)
        return -ERR_WRONG_VERSION;
    if (header->body_bytes > WIRE_BODY_MAX || header->payload_bytes > WIRE_PAYLOAD_MAX)
        return -ERR_CORRUPT_WIRE;
    return 0;
}

int wire_header_check_crc(const struct wire_header *header, const void *body)
{
    return header->head_crc == head_crc(header, body) ? 0 : -ERR_CORRUPT_WIRE;
}
