/* SPDX-License-Identifier: MIT */
/* Finding out what is on a device before it is overwritten.
 *
 * Three questions, asked of whoever knows: is it in use (the mount table; the kernel, which refuses
 * an exclusive open of what is mounted, swapped on, or part of a RAID or LVM set; our own lock),
 * what is on it (libblkid knows the signatures of file systems, partition tables, RAID and LVM; our
 * own superblock), and is it empty. An NVMe character device has a block device beside it, which is
 * asked in its place. */
#include "cmd/device_probe.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/demo_dir.h"
#include "cmd/report.h"
#include "cmd/session.h"

enum { LOOK_BYTES = 1 << 20 };

/* The block device that stands for path: itself, or that of an NVMe character device. */
static void block_path(const char *path, char text[PROBE_TEXT_MAX])
{
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    struct stat info;
    bool nvme = stat(path, &info) == 0 && S_ISCHR(info.st_mode) && strncmp(base, "ng", 2) == 0;
    if (nvme)
        snprintf(text, PROBE_TEXT_MAX, "%.*snvme%s", (int)(base - path), path, base + 2);
    else
        snprintf(text, PROBE_TEXT_MAX, "%s", path);
}

static void find_mount(const char *path, char text[PROBE_TEXT_MAX])
{
    struct stat device, other;
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    if (!mounts || stat(path, &device) < 0 || !S_ISBLK(device.st_mode)) {
        if (mounts)
            endmntent(mounts);
        return;
    }
    const struct mntent *entry;
    while (!text[0] && (entry = getmntent(mounts)) != NULL) {
        bool same = entry->mnt_fsname[0] == '/' && stat(entry->mnt_fsname, &other) == 0 &&
                    S_ISBLK(other.st_mode) && other.st_rdev == device.st_rdev;
        bool there = stat(entry->mnt_dir, &other) == 0 && other.st_dev == device.st_rdev;
        if (same || there)
            snprintf(text, PROBE_TEXT_MAX, "mounted at %.100s", entry->mnt_dir);
    }
    endmntent(mounts);
}

static void find_user(const char *path, char text[PROBE_TEXT_MAX])
{
    char block[PROBE_TEXT_MAX];
    struct stat info;
    block_path(path, block);
    find_mount(block, text);
    if (text[0] || stat(block, &info) < 0 || !S_ISBLK(info.st_mode))
        return;
    int fd = open(block, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    else if (errno == EBUSY)
        snprintf(
            text, PROBE_TEXT_MAX,
            "in use (a partition of it is mounted, or it is swap, or part of RAID or LVM, or a "
            "node runs on it)");
}

static void find_signature(const char *path, char text[PROBE_TEXT_MAX])
{
    char block[PROBE_TEXT_MAX];
    const char *name = NULL, *usage = NULL;
    block_path(path, block);
    blkid_probe probe = blkid_new_probe_from_filename(block);
    if (!probe)
        return;
    blkid_probe_enable_superblocks(probe, 1);
    blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
    blkid_probe_enable_partitions(probe, 1);
    if (blkid_do_safeprobe(probe) == -2)
        snprintf(text, PROBE_TEXT_MAX, "several signatures at once");
    else if (blkid_probe_lookup_value(probe, "TYPE", &name, NULL) == 0)
        snprintf(text, PROBE_TEXT_MAX, "%.40s%s", name,
                 blkid_probe_lookup_value(probe, "USAGE", &usage, NULL) == 0 &&
                         strcmp(usage, "filesystem") == 0
                     ? " file system"
                     : "");
    else if (blkid_probe_lookup_value(probe, "PTTYPE", &name, NULL) == 0)
        snprintf(text, PROBE_TEXT_MAX, "partition table (%.40s)", name);
    blkid_free_probe(probe);
}

static bool all_zero(const uint8_t *bytes, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

void device_probe(const char *path, struct device_probe *ret_probe)
{
    struct disk *disk;
    *ret_probe = (struct device_probe){0};
    find_user(path, ret_probe->user);
    ret_probe->result = disk_open(path, 0, DISK_READ_ONLY, &disk);
    if (ret_probe->result < 0) {
        if (ret_probe->result == -EBUSY && !ret_probe->user[0])
            snprintf(ret_probe->user, PROBE_TEXT_MAX, "in use: a node runs on it");
        return;
    }
    ret_probe->info = *disk_info(disk);
    find_signature(path, ret_probe->signature);
    ret_probe->ours = store_identify(disk, &ret_probe->identity) == 0;
    uint64_t bytes = MIN(ret_probe->info.size_bytes, (uint64_t)LOOK_BYTES);
    uint8_t *look = mem_alloc_aligned(LOOK_BYTES, DISK_BLOCK_BYTES);
    if (bytes > 0)
        ret_probe->result = disk_read(disk, 0, look, bytes);
    ret_probe->empty = ret_probe->result == 0 && all_zero(look, bytes);
    mem_free(look);
    disk_close(disk);
}

struct probing {
    const char *path;
    struct device_probe *probe;
};

static int probe_fiber(void *context)
{
    const struct probing *probing = context;
    device_probe(probing->path, probing->probe);
    return 0;
}

void device_probe_now(const char *path, struct device_probe *ret_probe)
{
    struct probing probing = {path, ret_probe};
    log_set_level(LOG_ERROR); /* that there is no store is no news here */
    int result = session_run("device-probe", probe_fiber, &probing);
    if (result < 0)
        *ret_probe = (struct device_probe){.result = result};
}

bool device_is_zoned(const char *path)
{
    struct device_probe probe;
    device_probe_now(path, &probe);
    return probe.result == 0 && probe.info.zone_bytes > 0;
}

/* ---- refuse --------------------------------------------------------------------------------- */

static int refuse(const char *path, const char *why, const char *fix)
{
    return report_error(EX_DATAERR, &(struct report){.what = "will not format",
                                                     .where = path,
                                                     .why = why,
                                                     .effect = "nothing was written",
                                                     .fix = fix});
}

int device_refuse(const char *path, bool force)
{
    struct stat info;
    struct device_probe probe;
    if (stat(path, &info) < 0)
        return EX_OK; /* to be made, or for whoever opens it to complain */
    if (S_ISREG(info.st_mode) && info.st_size == 0)
        return EX_OK;
    device_probe_now(path, &probe);
    if (probe.user[0])
        return refuse(path, report_text("it is %s", probe.user),
                      "choose another device, or stop its use; --force does not help here");
    if (force || probe.result < 0)
        return EX_OK;
    if (probe.ours) {
        char cluster[37];
        uuid_print(&probe.identity.cluster, cluster);
        return refuse(path,
                      report_text("it holds the store of node %u of cluster %s",
                                  probe.identity.node, cluster),
                      "if it is really to be overwritten, add --force");
    }
    if (probe.signature[0])
        return refuse(path, report_text("it holds something: %s", probe.signature),
                      "if it is really to be overwritten, add --force");
    if (!probe.empty)
        return refuse(path, "its first MiB is not zeroes: there may be something on it",
                      "look at it; if it is to be overwritten, add --force");
    return EX_OK;
}
