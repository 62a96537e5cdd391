/* SPDX-License-Identifier: MIT */
/* One piece of one object, and waiting for several. Checksums are made and checked here: beyond
 * this file bytes are either right or refused. */
#include "client/client_internal.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/log.h"

void gather_init(struct gather *gather)
{
    gather->pending = 0;
    gather->error = 0;
    waitq_init(&gather->wait);
}

void gather_done(struct gather *gather, int result)
{
    assert(gather->pending > 0);
    if (result < 0 && gather->error == 0)
        gather->error = result;
    if (--gather->pending == 0)
        waitq_wake_all(&gather->wait);
}

int gather_wait(struct gather *gather)
{
    while (gather->pending > 0)
        (void)waitq_wait(&gather->wait, 0); /* every piece ends by its own deadline */
    return gather->error;
}

static int read_verify(struct client_inode *inode, const struct split_piece *piece,
                       const struct rpc_call *rpc)
{
    struct wire_obj_rep rep;
    struct slice crcs;
    const struct msg *msg = rpc->reply;
    if (!rpc_reply_body(rpc, &rep, sizeof rep, &crcs))
        return -ERR_CORRUPT_WIRE;
    uint32_t bytes = msg->payload_bytes;
    uint32_t blocks = bytes / DATA_BLOCK_BYTES;
    if (bytes > piece->bytes || bytes % DATA_BLOCK_BYTES || crcs.bytes < blocks * sizeof(uint32_t))
        return -ERR_CORRUPT_WIRE;
    struct reader reader;
    reader_init(&reader, crcs.data, crcs.bytes);
    for (uint32_t i = 0; i < blocks; i++) {
        const uint8_t *block = msg->payload->data + i * DATA_BLOCK_BYTES;
        if (crc32c(0, block, DATA_BLOCK_BYTES) != reader_u32(&reader)) {
            inode->client->stats.checksum_errors++;
            log_warn("client-checksum", "ino=%llx object=%u offset=%u effect=\"read again\"",
                     (unsigned long long)inode->ino, piece->index,
                     piece->offset + i * DATA_BLOCK_BYTES);
            return -ERR_CORRUPT_DATA;
        }
    }
    return 0;
}

int client_read_piece(struct client_inode *inode, const struct split_piece *piece,
                      struct buf_slice *ret_payload)
{
    assert(piece->offset % DATA_BLOCK_BYTES == 0 && piece->bytes % DATA_BLOCK_BYTES == 0);
    struct client *client = inode->client;
    struct wire_obj_req req = {
        .session = client->session,
        .ino = inode->ino,
        .index = piece->index,
        .offset = piece->offset,
        .bytes = piece->bytes,
    };
    int result = -ERR_CORRUPT_DATA;
    for (uint32_t tries = 0; result == -ERR_CORRUPT_DATA && tries < CLIENT_CHECKSUM_TRIES;
         tries++) {
        struct client_call call = {
            .type = RPC_OBJ_READ,
            .route = CLIENT_ROUTE_OBJECT,
            .ino = inode->ino,
            .index = piece->index,
            .body = &req,
        };
        result = client_call(client, &call);
        if (result >= 0)
            result = read_verify(inode, piece, &call.rpc);
        if (result == 0) {
            struct msg *msg = call.rpc.reply;
            *ret_payload = (struct buf_slice){
                .buf = msg->payload_bytes ? buf_get(msg->payload) : NULL,
                .bytes = msg->payload_bytes,
            };
        }
        client_call_fini(&call);
    }
    return result;
}

/* A request that changes an object, once: session and slot are put in here. A payload that arrives
 * damaged is worth another try. *ret_epoch: of the group, when it answered; may be NULL. */
static int change_piece(struct client_inode *inode, enum rpc_type type, struct wire_obj_req *req,
                        struct slice tail, struct buf_slice payload, uint32_t *ret_epoch)
{
    struct client *client = inode->client;
    struct client_slot *slot = slot_take(&client->data_slots);
    bool answered = false;
    int result = -ERR_CORRUPT_DATA;
    req->session = client->session;
    req->slot = slot->index;
    req->slot_seq = slot->seq;
    for (uint32_t tries = 0; result == -ERR_CORRUPT_DATA && tries < CLIENT_CHECKSUM_TRIES;
         tries++) {
        struct client_call call = {
            .type = type,
            .route = CLIENT_ROUTE_OBJECT,
            .ino = inode->ino,
            .index = req->index,
            .body = req,
            .tail = tail,
            .payload = payload,
            .retry_flags = &req->flags,
            .retry_flag = OBJ_RETRY,
        };
        if (tries > 0)
            req->flags |= OBJ_RETRY;
        result = client_call(client, &call);
        answered = call.rpc.reply != NULL;
        if (ret_epoch)
            *ret_epoch = call.answered_by_epoch;
        if (result >= 0)
            client_dirty_note(inode, &call);
        client_call_fini(&call);
    }
    if (answered)
        slot_give(&client->data_slots, slot);
    else
        slot_retire(&client->data_slots, slot);
    return result < 0 ? result : 0;
}

int client_write_piece(struct client_inode *inode, const struct split_piece *piece,
                       struct buf_slice data, struct client_placed *placed)
{
    assert(data.bytes == piece->bytes && piece->offset + piece->bytes <= OBJECT_BYTES);
    uint32_t crcs[SPLIT_CRCS_MAX];
    uint32_t count = split_checksums(piece->offset, buf_slice_data(&data), data.bytes, crcs);
    struct wire_obj_req req = {
        .ino = inode->ino,
        .index = piece->index,
        .offset = piece->offset,
        .bytes = piece->bytes,
        .change = placed->change,
    };
    return change_piece(inode, RPC_OBJ_WRITE, &req, slice_of(crcs, count * sizeof crcs[0]), data,
                        &placed->epoch);
}

int client_piece_is_cut(struct client_inode *inode, const struct split_piece *piece,
                        const struct client_placed *placed)
{
    struct wire_obj_req req = {
        .ino = inode->ino,
        .index = piece->index,
        .offset = piece->offset,
        .bytes = piece->bytes,
        .flags = OBJ_ASK,
        .change = placed->change,
    };
    struct client_call call = {
        .type = RPC_OBJ_WRITE,
        .route = CLIENT_ROUTE_OBJECT,
        .ino = inode->ino,
        .index = piece->index,
        .body = &req,
    };
    int result = client_call(inode->client, &call);
    bool same_epoch = call.answered_by_epoch == placed->epoch;
    client_call_fini(&call);
    if (result == -ERR_TRUNCATED)
        return 1;
    if (result >= 0 && !same_epoch)
        return -ERR_WRONG_EPOCH;
    return MIN(result, 0);
}

int client_punch_piece(struct client_inode *inode, const struct split_piece *piece)
{
    assert(piece->offset + piece->bytes <= OBJECT_BYTES);
    struct wire_obj_req req = {
        .ino = inode->ino,
        .index = piece->index,
        .offset = piece->offset,
        .bytes = piece->bytes,
    };
    return change_piece(inode, RPC_OBJ_PUNCH, &req, (struct slice){0}, (struct buf_slice){0}, NULL);
}
