/* SPDX-License-Identifier: MIT */
#ifndef CFS_META_CRED_H
#define CFS_META_CRED_H

/* Who asks, and what POSIX lets them do. With META_CRED_CHECKED the kernel has looked already and
 * everything passes; what creation makes of ids and modes holds in any case. */

#include "base/defs.h"
#include "format/disk_meta.h"

enum cred_want {
    CRED_EXEC = 1, /* for a directory: look up names */
    CRED_WRITE = 2,
    CRED_READ = 4,
};

struct meta_cred {
    uint32_t uid;
    uint32_t gid;
    uint32_t groups[META_GROUPS_MAX];
    uint32_t group_count;
    bool checked;
};

/* 0 or -EACCES. */
int cred_access(const struct meta_cred *cred, const struct disk_inode *inode, uint32_t want);
/* May a name of victim be taken out of dir? Write and sticky bit. 0, -EACCES, -EPERM. */
int cred_delete(const struct meta_cred *cred, const struct disk_inode *dir,
                const struct disk_inode *victim);
/* Owner or root. */
bool cred_owns(const struct meta_cred *cred, const struct disk_inode *inode);
bool cred_in_group(const struct meta_cred *cred, uint32_t gid);
/* Owner, group and permissions of something new in dir. */
void cred_inherit(const struct meta_cred *cred, const struct disk_inode *dir, uint32_t mode,
                  struct disk_inode *inode);

#endif
