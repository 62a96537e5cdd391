/* SPDX-License-Identifier: MIT */
#include "meta/cred.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/assert.h"

bool cred_in_group(const struct meta_cred *cred, uint32_t gid)
{
    if (cred->gid == gid)
        return true;
    for (uint32_t i = 0; i < cred->group_count; i++) {
        if (cred->groups[i] == gid)
            return true;
    }
    return false;
}

bool cred_owns(const struct meta_cred *cred, const struct disk_inode *inode)
{
    return cred->checked || cred->uid == 0 || cred->uid == inode->uid;
}

int cred_access(const struct meta_cred *cred, const struct disk_inode *inode, uint32_t want)
{
    assert((want & ~7u) == 0);
    if (cred->checked)
        return 0;
    if (cred->uid == 0) /* may all, but execute only what somebody may execute */
        return S_ISDIR(inode->mode) || !(want & CRED_EXEC) || (inode->mode & 0111) ? 0 : -EACCES;
    uint32_t bits = inode->mode;
    if (cred->uid == inode->uid)
        bits >>= 6;
    else if (cred_in_group(cred, inode->gid))
        bits >>= 3;
    return (bits & want) == want ? 0 : -EACCES;
}

int cred_delete(const struct meta_cred *cred, const struct disk_inode *dir,
                const struct disk_inode *victim)
{
    int result = cred_access(cred, dir, CRED_WRITE | CRED_EXEC);
    if (result < 0)
        return result;
    if ((dir->mode & S_ISVTX) && !cred_owns(cred, dir) && !cred_owns(cred, victim))
        return -EPERM;
    return 0;
}

void cred_inherit(const struct meta_cred *cred, const struct disk_inode *dir, uint32_t mode,
                  struct disk_inode *inode)
{
    assert((mode & S_IFMT) != 0);
    inode->uid = cred->uid;
    inode->gid = cred->gid;
    inode->mode = mode & (S_IFMT | 07777);
    if (dir->mode & S_ISGID) { /* the group is the directory's, and so on below it */
        inode->gid = dir->gid;
        if (S_ISDIR(mode))
            inode->mode |= S_ISGID;
        else if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && cred->uid != 0 &&
                 !cred_in_group(cred, dir->gid))
            inode->mode &= ~(uint32_t)S_ISGID;
    }
}
