/* SPDX-License-Identifier: MIT */
#ifndef CFS_CLIENT_DIRTY_H
#define CFS_CLIENT_DIRTY_H

/* What an fsync has to cover, also after the file was closed (theory in dirty.c). */

#include <stdbool.h>
#include <stdint.h>

#include "base/defs.h"

struct client;
struct client_call;
struct client_inode;

/* Changes of an inode in one group that may not be durable. */
struct client_dirty {
    uint64_t last; /* the newest one's number (client.changes) */
    uint32_t group;
    uint32_t life; /* the group's cold starts when it acknowledged the oldest */
};

/* What a group has told of its flushes. */
struct client_flushed {
    uint64_t covers;      /* acknowledged changes up to this number are durable, */
    uint32_t cold_starts; /* if they were made in this life of the group's memory */
    bool asking;
};

/* How often the group has lost its memory, as far as the map here tells (map_format.h). */
uint32_t client_cold_starts(struct client *client, uint32_t group);
/* The call was acknowledged; an fsync of the inode has to cover it. */
void client_dirty_note(struct client_inode *inode, const struct client_call *call);
/* The group flushed in the given life, asked when client->changes was covers. True: changes of the
 * inode may be lost, and this is told now. */
must_check bool client_dirty_flushed(struct client_inode *inode, uint32_t group, uint64_t covers,
                                     uint32_t cold_starts);
/* An fsync failed: whatever was lost of the changes up to covers has been told. */
void client_dirty_told(struct client_inode *inode, uint64_t covers);
/* The last reference to a dirty inode is gone; it may be freed from now on. */
void client_linger(struct client_inode *inode);
/* Somebody needs it again; harmless if it does not linger. */
void client_linger_end(struct client_inode *inode);
/* Wait until another inode may linger. */
may_yield void client_linger_room(struct client *client);
/* Fiber: has groups flush for closed inodes, and forgets those. */
void client_linger_fiber(void *arg);
/* All that a group has acknowledged is durable when it returns >= 0. Else as client_call.
 * ret_cold_starts: the group's, when it answered. */
may_yield must_check int client_sync_group(struct client *client, uint32_t group,
                                           uint32_t *ret_cold_starts);

#endif
