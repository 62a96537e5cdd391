/* SPDX-License-Identifier: MIT */
#ifndef CFS_ENV_LINUX_DISK_H
#define CFS_ENV_LINUX_DISK_H

/* What the kinds of disks on Linux share: linux_disk.c opens them and moves bytes of files and
 * block devices, linux_nvme.c speaks to NVMe namespaces. */

#include "env/linux/linux_internal.h"

struct nvme;

struct linux_disk {
    struct disk base;
    int fd;
    bool in_memory; /* tmpfs */
    bool cannot_discard;
    bool discards;     /* the kernel takes BLOCK_URING_CMD_DISCARD for this block device */
    struct nvme *nvme; /* NULL: file or block device */
};

/* A range of DISK_DISCARD as NVMe takes it (Dataset Management). */
struct nvme_range {
    uint32_t attributes;
    uint32_t blocks;
    uint64_t block;
};

struct disk_request {
    struct uring_op op;
    struct list link; /* free_disk_ops */
    struct linux_disk *disk;
    struct disk_io *io;
    uint32_t done_bytes;
    uint32_t part_bytes; /* nvme: of the command in flight */
    int memory_result;   /* of an in_memory disk: what the completion says */
    struct nvme_range range;
};

/* The character device through which the kernel passes NVMe commands, for the path of one or of a
 * zoned block device of NVMe. 1: it is in name; 0: the path is something else. */
int nvme_name(const char *path, char *name, size_t size);
/* disk->fd is such a device: learn all about it and set disk->base.info, zones included.
 * -ENOTSUP: a layout we cannot use (why is in the log), or a kernel or ring without passthrough. */
must_check int nvme_open(struct linux_disk *disk, uint32_t flags);
void nvme_close(struct linux_disk *disk);
/* Fill sqe with the next command of the request. */
void nvme_prep(struct disk_request *request, struct io_uring_sqe *sqe);
/* The command has ended: how many bytes are done (0: all of them), or a negative error. */
int nvme_result(const struct disk_request *request, int result);

#endif
