/* SPDX-License-Identifier: MIT */
/* Everything that an offline check can find: name, level, what it is, what follows from it, what to
 * do. NOTE: no error, worth knowing. PROBLEM: damage, or a bug of ours. CANNOT: not looked at. */
#define FSCK_RESTART "start the cluster: what can be repaired from other copies is"
#define FSCK_COPY    "copy what you can read of it elsewhere, then remove it"
#define FSCK_REPORT  "keep the disks as they are and report a bug with this output"
#define FSCK_TABLE(X)                                                                              \
    X(DISK, CANNOT, "a disk cannot be opened", "what only it holds is not checked",                \
      "name the disks of all nodes, with no node running")                                         \
    X(NO_MAP, CANNOT, "no disk holds a usable cluster map", "the namespace is not checked",        \
      "name the disks of all nodes")                                                               \
    X(NO_COPY, CANNOT, "no complete copy of a group on these disks", "the group is not checked",   \
      "name the disks of all nodes")                                                               \
    X(READ, CANNOT, "rows cannot be read", "the check of this part ended there", FSCK_RESTART)     \
    X(DISK_LOST, PROBLEM, "a disk is so damaged that no node starts on it",                        \
      "its groups have a copy less; the rest of it is not checked",                                \
      "format it anew and start its node, which then copies its groups from other members")        \
    X(STORE, PROBLEM, "the store's own structure is damaged",                                      \
      "what lies there is lost on this disk; other members may have it", FSCK_RESTART)             \
    X(JOURNAL, PROBLEM, "the journal is damaged before its known end",                             \
      "the node copies its groups from other members", FSCK_RESTART)                               \
    X(SPACE, PROBLEM, "blocks in use and rows that refer to them differ in number",                \
      "space is lost, or data may be overwritten", FSCK_REPORT)                                    \
    X(LAGS, NOTE, "a member lacks the newest records", "it catches up when the cluster runs",      \
      "nothing to do")                                                                             \
    X(INCOMPLETE, NOTE, "a member is not a complete copy", "it catches up when the cluster runs",  \
      "nothing to do")                                                                             \
    X(DIFFERS, PROBLEM, "members that hold the same records differ",                               \
      "what is read depends on which one leads", FSCK_REPORT)                                      \
    X(DOUBT, NOTE, "a transaction over several groups was under way",                              \
      "it is completed, or undone, when the cluster runs", "nothing to do")                        \
    X(ROW, PROBLEM, "a row is malformed", "requests that need it fail", FSCK_REPORT)               \
    X(ROW_PLACE, PROBLEM, "a row is in a group that is not in charge of it", "it is not found",    \
      FSCK_REPORT)                                                                                 \
    X(ROOT, PROBLEM, "there is no root directory", "nothing can be reached", FSCK_REPORT)          \
    X(NAME_NO_INODE, PROBLEM, "a name of an inode that is not there", "using it fails",            \
      "remove the name")                                                                           \
    X(NAME_NO_DIR, PROBLEM, "a name in a directory that is not there", "it cannot be reached",     \
      FSCK_REPORT)                                                                                 \
    X(NAME_TYPE, PROBLEM, "a name and its inode say different types", "listings are wrong",        \
      FSCK_COPY)                                                                                   \
    X(DIR_PARENT, PROBLEM, "a directory's parent is not where its name is", "\"..\" is wrong",     \
      "rename it")                                                                                 \
    X(DIR_NAMES, PROBLEM, "a directory has not exactly one name", "it is lost, or seen twice",     \
      FSCK_REPORT)                                                                                 \
    X(DIR_LINKS, PROBLEM, "a directory's link count is wrong", "tools that trust it are misled",   \
      FSCK_REPORT)                                                                                 \
    X(DIR_ENTRIES, PROBLEM, "a directory's count of names is wrong",                               \
      "it cannot be removed, or is removed with names in it", FSCK_REPORT)                         \
    X(DIR_LOOP, PROBLEM, "a directory is below itself", "it cannot be reached", FSCK_REPORT)       \
    X(FILE_LINKS, PROBLEM, "a file's link count is wrong", "it is deleted too early, or never",    \
      FSCK_COPY)                                                                                   \
    X(ORPHAN_UNKNOWN, PROBLEM, "an inode without names is not on the list of those to delete",     \
      "its space is never given back", FSCK_REPORT)                                                \
    X(ORPHAN_NAMED, PROBLEM, "an inode with names is on the list of those to delete",              \
      "none: the list is checked again before anything is deleted", FSCK_RESTART)                  \
    X(STRAY_ROW, PROBLEM, "a row belongs to an inode that is not there",                           \
      "its space is never given back", FSCK_REPORT)                                                \
    X(XATTRS, PROBLEM, "an inode has more extended attributes than it counts",                     \
      "some stay when it is deleted", FSCK_REPORT)                                                 \
    X(INLINE, PROBLEM, "data kept in the inode differs in length from the file's size",            \
      "reads of the file are wrong", FSCK_COPY)                                                    \
    X(DATA_NO_INODE, PROBLEM, "data of a file that is not there", "its space is never given back", \
      FSCK_REPORT)                                                                                 \
    X(DATA_NO_FILE, NOTE, "data in objects of what keeps none there",                              \
      "a write was interrupted; it takes space until the file is written again", "nothing to do")  \
    X(DATA_BEHIND, NOTE, "data behind the end of a file",                                          \
      "a write or truncate was interrupted; it takes space until the file is truncated",           \
      "nothing to do")                                                                             \
    X(DATA_OVERLAP, PROBLEM, "two rows describe the same blocks of a file",                        \
      "what is read there is undefined", FSCK_REPORT)                                              \
    X(DATA_DAMAGED, PROBLEM, "data does not match its checksum",                                   \
      "it is read from another copy; without one, reads fail", FSCK_RESTART)

enum fsck_kind {
#define X(name, level, what, effect, fix) FSCK_##name,
    FSCK_TABLE(X)
#undef X
        FSCK_KINDS
};
