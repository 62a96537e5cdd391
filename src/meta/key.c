/* SPDX-License-Identifier: MIT */
#include "meta/key.h"

#include "base/hash.h"

enum { NAME_HASH_SEED = 0x636673, DENTRY_NAME_AT = META_KEY_PREFIX + 16 };

static uint8_t *begin(struct meta_key *key, uint32_t group, enum meta_table table, uint32_t bytes)
{
    assert(META_KEY_PREFIX + bytes <= sizeof key->data);
    be32_store(key->data, group);
    key->data[4] = (uint8_t)table;
    key->bytes = META_KEY_PREFIX + bytes;
    return key->data + META_KEY_PREFIX;
}

void key_table_only(struct meta_key *key, uint32_t group, enum meta_table table)
{
    begin(key, group, table, 0);
}

void key_of_ino(struct meta_key *key, uint32_t group, enum meta_table table, uint64_t ino)
{
    be64_store(begin(key, group, table, 8), ino);
}

uint64_t name_hash(struct slice name)
{
    uint64_t hash = hash_bytes(name.data, name.bytes, NAME_HASH_SEED) >> 1;
    return MIN(MAX(hash, 1ull), (uint64_t)INT64_MAX - 1);
}

void key_dentry(struct meta_key *key, uint32_t group, uint64_t dir, struct slice name)
{
    assert(name.bytes > 0 && name.bytes <= META_NAME_MAX);
    uint8_t *place = begin(key, group, META_TABLE_DENTRY, 16 + name.bytes);
    be64_store(place, dir);
    be64_store(place + 8, name_hash(name));
    memcpy(place + 16, name.data, name.bytes);
}

void key_dentry_from(struct meta_key *key, uint32_t group, uint64_t dir, uint64_t from)
{
    uint8_t *place = begin(key, group, META_TABLE_DENTRY, 16);
    be64_store(place, dir);
    be64_store(place + 8, from);
}

void key_xattr(struct meta_key *key, uint32_t group, uint64_t ino, struct slice name)
{
    assert(name.bytes > 0 && name.bytes <= META_XATTR_NAME_MAX);
    uint8_t *place = begin(key, group, META_TABLE_XATTR, 8 + name.bytes);
    be64_store(place, ino);
    memcpy(place + 8, name.data, name.bytes);
}

void key_request(struct meta_key *key, uint32_t group, uint64_t session, uint32_t slot)
{
    uint8_t *place = begin(key, group, META_TABLE_REQUEST, 12);
    be64_store(place, session);
    be32_store(place + 8, slot);
}

void key_txn(struct meta_key *key, uint32_t group, enum meta_table table,
             const struct wire_txn_id *txn)
{
    assert(table == META_TABLE_PREPARED || table == META_TABLE_DECIDED);
    uint8_t *place = begin(key, group, table, 16);
    be32_store(place, txn->group);
    be32_store(place + 4, txn->epoch);
    be64_store(place + 8, txn->number);
}

void key_txn_id(struct slice key, struct wire_txn_id *ret_txn)
{
    assert(key.bytes == META_KEY_PREFIX + 16);
    const uint8_t *place = (const uint8_t *)key.data + META_KEY_PREFIX;
    ret_txn->group = be32_load(place);
    ret_txn->epoch = be32_load(place + 4);
    ret_txn->number = be64_load(place + 8);
}

bool key_dentry_parts(struct slice key, uint64_t *ret_hash, struct slice *ret_name)
{
    if (key.bytes <= DENTRY_NAME_AT || key.bytes > META_KEY_MAX)
        return false;
    *ret_hash = be64_load((const uint8_t *)key.data + META_KEY_PREFIX + 8);
    *ret_name = slice_of((const uint8_t *)key.data + DENTRY_NAME_AT, key.bytes - DENTRY_NAME_AT);
    return true;
}
