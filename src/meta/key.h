/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_KEY_H
#define CFS_META_KEY_H

/* Keys of the tables in format/disk_meta.h. */

#include "base/bytes.h"
#include "format/disk_meta.h"

struct meta_key {
    uint32_t bytes;
    uint8_t data[META_KEY_MAX];
};

static inline struct slice key_slice(const struct meta_key *key)
{
    return slice_of(key->data, key->bytes);
}
/* Group and table of any key of ours; key.bytes >= META_KEY_PREFIX. */
static inline uint32_t key_group(struct slice key)
{
    return be32_load(key.data);
}
static inline uint8_t key_table(struct slice key)
{
    return ((const uint8_t *)key.data)[4];
}
/* The inode number in a key of INODE, XATTR, INLINE, ORPHAN (and the directory's of DENTRY). */
static inline uint64_t key_ino(struct slice key)
{
    return be64_load((const uint8_t *)key.data + META_KEY_PREFIX);
}

void key_table_only(struct meta_key *key, uint32_t group, enum meta_table table);
/* INODE, INLINE, ORPHAN; and the first key of an inode's XATTR rows. */
void key_of_ino(struct meta_key *key, uint32_t group, enum meta_table table, uint64_t ino);
void key_dentry(struct meta_key *key, uint32_t group, uint64_t dir, struct slice name);
/* The first key of dir with a name hash >= from. */
void key_dentry_from(struct meta_key *key, uint32_t group, uint64_t dir, uint64_t from);
void key_xattr(struct meta_key *key, uint32_t group, uint64_t ino, struct slice name);
void key_request(struct meta_key *key, uint32_t group, uint64_t session, uint32_t slot);
void key_txn(struct meta_key *key, uint32_t group, enum meta_table table,
             const struct wire_txn_id *txn);
void key_txn_id(struct slice key, struct wire_txn_id *ret_txn);

/* Directory order: 63 bits, never 0 and never the highest, so that hash + 1 is a cookie. */
uint64_t name_hash(struct slice name);

/* Put a dentry's key apart. False if it is malformed. */
bool key_dentry_parts(struct slice key, uint64_t *ret_hash, struct slice *ret_name);

#endif
