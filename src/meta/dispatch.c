/* SPDX-License-Identifier: MIT */
/* The table of verbs. */
#include "meta/op.h"

static const struct meta_verb verbs[] = {
    {.type = RPC_LOOKUP, .flags = VERB_NAME, .read = op_lookup},
    {.type = RPC_GETATTR, .read = op_getattr},
    {.type = RPC_SETATTR, .flags = VERB_FREEING, .change = op_setattr},
    {.type = RPC_TRUNCATE, .flags = VERB_FREEING, .change = op_truncate},
    {.type = RPC_CREATE, .flags = VERB_NAME, .change = op_create},
    {.type = RPC_MKNOD, .flags = VERB_NAME, .change = op_mknod},
    {.type = RPC_MKDIR, .flags = VERB_NAME, .change = op_mkdir},
    {.type = RPC_SYMLINK, .flags = VERB_NAME, .change = op_symlink},
    {.type = RPC_READLINK, .read = op_readlink},
    {.type = RPC_LINK, .flags = VERB_NAME, .change = op_link},
    {.type = RPC_UNLINK, .flags = VERB_NAME | VERB_FREEING, .change = op_unlink},
    {.type = RPC_RMDIR, .flags = VERB_NAME | VERB_FREEING, .change = op_rmdir},
    {.type = RPC_RENAME, .flags = VERB_NAME | VERB_NAME2 | VERB_FREEING, .change = op_rename},
    {.type = RPC_OPEN, .read = op_open},
    {.type = RPC_RELEASE, .read = op_release},
    {.type = RPC_READDIR, .read = op_readdir},
    {.type = RPC_GETXATTR, .flags = VERB_XATTR, .read = op_getxattr},
    {.type = RPC_SETXATTR, .flags = VERB_XATTR, .change = op_setxattr},
    {.type = RPC_LISTXATTR, .read = op_listxattr},
    {.type = RPC_REMOVEXATTR, .flags = VERB_XATTR | VERB_FREEING, .change = op_removexattr},
    {.type = RPC_STATFS, .flags = VERB_ANY_INO, .read = op_statfs},
    {.type = RPC_INLINE_READ, .read = op_inline_read},
    {.type = RPC_INLINE_WRITE, .change = op_inline_write},
    {.type = RPC_GROW, .flags = VERB_FREEING, .change = op_grow},
    {.type = RPC_SYNC, .read = op_sync},
};

static void serve(void *context, struct rpc_request *request)
{
    struct meta_service *service = context;
    for (uint32_t i = 0; i < ARRAY_COUNT(verbs); i++) {
        if (verbs[i].type == (enum rpc_type)request->header->type) {
            meta_serve(service, &verbs[i], request);
            return;
        }
    }
    WRONG("registered for types of the table only");
}

void meta_register_verbs(struct meta_service *service)
{
    for (uint32_t i = 0; i < ARRAY_COUNT(verbs); i++)
        rpc_register(service->rpc, verbs[i].type, serve, service);
}
