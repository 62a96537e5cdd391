/* SPDX-License-Identifier: MIT */
/* The only list of RPCs. No include guard: X-macro.
 *
 * X(NAME, name, number, mode)
 * The request body is struct wire_<name>_req and the reply body struct wire_<name>_rep, each
 * followed by a variable tail. mode: FIBER   the handler runs in a fiber of its own and may yield
 *                                    INLINE  the handler runs in arrival order, must not yield
 * Numbers are on the wire: append only, never reuse. */

/* net: first message of every connection */
X(HELLO, hello, 1, INLINE)
X(PING, ping, 2, INLINE)

/* raft and map group */
X(RAFT, raft, 10, INLINE)
X(MAP_GET, map_get, 11, FIBER)
X(NODE_BEAT, node_beat, 12, FIBER)
X(NODE_SUSPECT, node_suspect, 13, FIBER)
X(GROUP_CHANGE, group_change, 14, FIBER)
X(STATUS, status, 15, FIBER)
X(NODE_ADD, node_add, 16, FIBER)
X(NODE_CHANGE, node_change, 17, FIBER)

/* group replication: member to member */
X(PREPARE, prepare, 20, INLINE)
X(RECONCILE, reconcile, 21, FIBER)
X(CATCH_UP, catch_up, 22, FIBER)
X(INSTALL, install, 23, FIBER)
X(GROUP_FLUSH, group_flush, 24, FIBER)
X(OBJ_FETCH, obj_fetch, 25, FIBER)

/* metadata: client to primary; all share one body layout, see wire_meta.h */
X(LOOKUP, lookup, 40, FIBER)
X(GETATTR, getattr, 41, FIBER)
X(SETATTR, setattr, 42, FIBER)
X(CREATE, create, 43, FIBER)
X(MKNOD, mknod, 44, FIBER)
X(MKDIR, mkdir, 45, FIBER)
X(SYMLINK, symlink, 46, FIBER)
X(READLINK, readlink, 47, FIBER)
X(LINK, link, 48, FIBER)
X(UNLINK, unlink, 49, FIBER)
X(RMDIR, rmdir, 50, FIBER)
X(RENAME, rename, 51, FIBER)
X(OPEN, open, 52, FIBER)
X(RELEASE, release, 53, FIBER)
X(READDIR, readdir, 54, FIBER)
X(GETXATTR, getxattr, 55, FIBER)
X(SETXATTR, setxattr, 56, FIBER)
X(LISTXATTR, listxattr, 57, FIBER)
X(REMOVEXATTR, removexattr, 58, FIBER)
X(STATFS, statfs, 59, FIBER)
X(INLINE_READ, inline_read, 60, FIBER)
X(INLINE_WRITE, inline_write, 61, FIBER)
X(GROW, grow, 62, FIBER)
X(SYNC, sync, 63, FIBER)
X(TRUNCATE, truncate, 64, FIBER)

/* transactions across groups: coordinator primary to participant primary */
X(TXN_LOCK, txn_lock, 80, FIBER)
X(TXN_PREPARE, txn_prepare, 81, FIBER)
X(TXN_FINISH, txn_finish, 82, FIBER)
X(TXN_STATUS, txn_status, 83, FIBER)

/* data: client (or meta primary) to data primary */
X(OBJ_READ, obj_read, 100, FIBER)
X(OBJ_WRITE, obj_write, 101, FIBER)
X(OBJ_TRUNCATE, obj_truncate, 102, FIBER)
X(OBJ_PUNCH, obj_punch, 103, FIBER)
X(OBJ_SYNC, obj_sync, 104, FIBER)
