/* SPDX-License-Identifier: MIT */
#ifndef CFS_FORMAT_WIRE_HEADER_H
#define CFS_FORMAT_WIRE_HEADER_H

#include <stdbool.h>

#include "format/format.h"

/* Every message: this header, a packed body of body_bytes, a payload of payload_bytes.
 *
 * | offset | size | field | meaning |
 * |   0 | 4 | magic         | WIRE_MAGIC |
 * |   4 | 2 | version       | protocol level of the sender, WIRE_VERSION |
 * |   6 | 2 | type          | enum rpc_type (format/rpc_table.h) |
 * |   8 | 4 | flags         | WIRE_REPLY and friends |
 * |  12 | 4 | body_bytes    | <= WIRE_BODY_MAX |
 * |  16 | 4 | payload_bytes | <= WIRE_PAYLOAD_MAX |
 * |  20 | 4 | head_crc      | CRC-32C of header (this field as 0) and body |
 * |  24 | 8 | request_id    | chosen by the caller, repeated in the reply |
 * |  32 | 8 | map_version   | of the sender |
 * |  40 | 4 | group         | addressed group, 0 if none |
 * |  44 | 4 | epoch         | the sender's epoch of that group |
 * |  48 | 8 | hlc           | hybrid logical clock of the sender, 0 until sites exist |
 * |  56 | 4 | status        | reply: 0 or a negative error (base/errors_table.h) |
 * |  60 | 4 | reserved      | 0 |
 *
 * The payload carries its own checksums in the body, per 4 KiB block. */
struct wire_header {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t flags;
    uint32_t body_bytes;
    uint32_t payload_bytes;
    uint32_t head_crc;
    uint64_t request_id;
    uint64_t map_version;
    uint32_t group;
    uint32_t epoch;
    uint64_t hlc;
    int32_t status;
    uint32_t reserved;
};
FORMAT_SIZE(struct wire_header, 64);
FORMAT_OFFSET(struct wire_header, request_id, 24);

enum {
    WIRE_MAGIC = 0x31534643, /* "CFS1" */
    WIRE_VERSION = 1,
    WIRE_BODY_MAX = 128 << 10,
    WIRE_PAYLOAD_MAX = 4 << 20,
};

enum wire_flags {
    WIRE_REPLY = 1,
};

/* Set magic, version and head_crc; the other fields and the body must be final. */
void wire_header_seal(struct wire_header *header, const void *body);
/* Check the fixed part, before any length in it is believed.
 * 0, -ERR_CORRUPT_WIRE (magic, lengths, type), -ERR_WRONG_VERSION. */
int wire_header_check(const struct wire_header *header);
/* Check head_crc once the body has arrived. 0 or -ERR_CORRUPT_WIRE. */
int wire_header_check_crc(const struct wire_header *header, const void *body);

#endif
