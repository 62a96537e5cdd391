/* SPDX-License-Identifier: MIT */
/* All planted bugs: name, which tests are to find it (tools/plants; the first that does is enough),
 * within how many seeds of each, and what is wrong then. No guard: included with X defined. */
/* clang-format off */
/* store */
X(STORE_SUPER_UNFLUSHED, "crash", 1, "no flush before the superblock")
X(STORE_REUSE_UNPROVEN, "crash-clean", 12, "a segment is reused when flushed, not proven")
X(STORE_FLUSH_SKIPPED, "store-model", 2, "waiting for durable waits for written only")
X(STORE_ENTRY_UNCHECKED, "store-model", 2, "a journal entry's checksum is not looked at")
X(STORE_NODE_UNCHECKED, "store-damage", 1, "a tree node's checksum is not looked at")
X(STORE_TAIL_TRUSTED, "crash", 1, "data of unflushed records is trusted after a crash")
X(STORE_JOURNAL_FIRST, "store-extent", 2, "records are written before the data they refer to")
X(STORE_RELOG_SKIPPED, "store-extent", 1, "a checkpoint forgets prepared records")
X(STORE_SUPER_ONE_SLOT, "store-damage", 1, "all superblocks go to the same slot")
X(STORE_LIVE_UNCOUNTED, "store-extent", 2, "blocks that are let go stay counted as in use")
X(STORE_NODE_MISTAKEN, "store-checkpoint", 1, "recovery counts data in segments of nodes")
/* raft */
X(RAFT_VOTES_TWICE, "raft", 1, "a vote is given to several candidates of a term")
X(RAFT_OLD_LOG_ELECTED, "raft", 1, "a candidate with an old log gets votes")
X(RAFT_COMMITS_OLD_TERM, "raft", 1, "entries of older terms are committed by counting (figure 8)")
X(RAFT_PREFIX_UNCHECKED, "raft", 1, "entries are taken without their predecessor matching")
X(RAFT_ANSWERS_EARLY, "raft", 1, "entries are acknowledged before they are durable")
/* map */
X(MAP_LEASE_FOREVER, "map", 2, "a lease never runs out")
X(MAP_EXPIRY_EARLY, "map", 2, "a silent node is declared dead while its lease may be valid")
X(MAP_EPOCH_IGNORED, "map-machine", 1, "a group is changed although its epoch is another")
X(MAP_RESTART_IN_SYNC, "map", 2, "a restarted process stays in sync by memory")
X(MAP_SHORTEST_LOG, "map", 2, "after all memory is lost, the shortest log wins")
/* group */
X(GROUP_COMMITS_EARLY, "group-storm", 2, "commits do not wait for the members")
X(GROUP_EPOCH_IGNORED, "group", 1, "messages of another epoch are taken")
X(GROUP_REPLIES_EARLY, "group-storm", 2, "replies do not wait for the commit")
X(GROUP_SUFFIX_KEPT, "group-storm", 80, "a member keeps records that the new primary lacks")
X(GROUP_FLUSH_ALONE, "sim", 60, "fsync flushes the primary only")
X(GROUP_LONE_UNWRITTEN, "group-storm", 8, "a lone primary acknowledges from memory")
X(GROUP_SCAN_KEEPS_ROWS, "group-storm", 12, "a scan leaves old rows in place")
X(GROUP_JOIN_UNCOUNTED, "group-storm", 48, "commits do not wait for a member being taken in")
X(GROUP_LEASE_IGNORED, "group-storm", 8, "a primary serves without a lease")
/* meta */
X(META_RENAME_UNCHECKED, "meta-posix", 1, "a directory can be moved below itself")
X(META_REMOVED_BELOW, "meta-posix", 1, "a removed directory still counts as below its parent")
X(META_RETRY_TWICE, "meta-model", 2, "a repeated request is executed again")
X(META_LOCK_IGNORED, "meta-stress", 4, "locks are given to all who ask")
X(META_UNLINK_UNCOUNTED, "meta-posix", 1, "unlink does not touch the directory's count")
X(META_DECIDES_UNPREPARED, "meta-txn", 2, "a transaction is decided though a part refused")
X(META_OPEN_DELETED, "meta-stress", 2, "files that are open are deleted with their last name")
X(META_RMDIR_FULL, "meta-model", 2, "a directory with names in it can be removed")
X(META_PRESUMES_COMMIT, "meta-txn", 2, "a transaction that nobody knows counts as committed")
X(META_INO_UNFLUSHED, "numbers", 1, "inode numbers are given that are not reserved durably")
X(META_DECISION_UNFLUSHED, "meta-stress", 60, "a decision is acted on before it is durable")
/* data */
X(DATA_READ_UNCHECKED, "data-cluster", 2, "checksums are not looked at on reads")
X(DATA_LOCK_IGNORED, "data-fake", 1, "overlapping writes do not exclude each other")
X(DATA_OVERWRITE_KEEPS, "data-fake", 1, "what is overwritten keeps its space")
X(DATA_EDGE_KEPT, "data-cluster", 2, "truncate leaves the rest of the last block")
X(DATA_MOVE_BLIND, "data-fake", 1, "the cleaner moves what has been overwritten meanwhile")
X(DATA_REPEATS, "data-replay", 1, "a repeated write is executed again")
X(DATA_REQUEST_UNSHARED, "data-replay", 1, "members do not learn whose request a record was")
/* client */
X(CLIENT_RETRY_UNMARKED, "meta-txn", 2, "a repeated request does not say that it is one")
X(CLIENT_FSYNC_PARTIAL, "client", 1, "fsync does not ask the data groups")
X(CLIENT_INLINE_STALE, "meta-stress", 24, "cached bytes of a small file survive its change")
X(CLIENT_TRUNCATED_ANEW, "client", 1, "what a truncation took of a write is written again")
X(CLIENT_SIZE_UNSENT, "client", 1, "the new size of a file is not sent")
/* net */
X(NET_CALL_DROPPED, "group", 1, "calls that waited for a connection are not sent")
X(NET_DEADLINE_IGNORED, "map", 1, "a call without an answer never ends")
X(NET_REPLY_UNMATCHED, "meta-model", 2, "an answer is taken for the next call's")
/* clang-format on */
