/* SPDX-License-Identifier: MIT */
/* NVMe namespaces through their character device: our commands go to the device as they are.
 *
 * Problem. A block device hides what an NVMe drive can say and do: how much it writes atomically
 * even when the power fails, which placement handles it has, where the write pointers of its zones
 * are. Passthrough (IORING_OP_URING_CMD on /dev/ngXnY) shows all of it and skips the block layer.
 *
 * The same code serves conventional and zoned namespaces. Addresses: info counts only what can be
 * written, so zone n of ours begins at n * capacity, of the device at n * (size of a zone).
 *
 * NV1  A command moves at most part_bytes_max; longer requests go on when it has ended.
 * NV2  A positive result is a status of the device. Nothing is retried here: the kernel has.
 * NV3  The block device of the namespace is held open exclusively as long as we write, so that it
 *      can neither be mounted nor be written by a second process that came the other way.
 * NV4  Streams (enum disk_stream) are spread over the first placement handles: with four or more
 *      each has its own, with fewer the last ones share.
 *
 * Limits: no formats with metadata; zones of one capacity, a multiple of 4 KiB, below 2 GiB; a
 * zone that has gone read-only or offline counts as full, and fails when it is emptied. Polled
 * completions would need a second ring that cannot serve the network, and are left out. */
#include "env/linux/linux_disk.h"

#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "env/linux/nvme_abi.h"

enum { PART_BYTES_MAX = 256 << 10 }; /* 64 pages: within every driver's limit of segments */

struct nvme {
    uint32_t namespace;
    uint32_t block_shift;
    uint32_t part_bytes_max;
    uint64_t zone_blocks; /* 0: not zoned */
    uint32_t zone_bytes;  /* of it can be written */
    bool can_discard;
    int block_fd; /* NV3; -1: none */
    uint16_t placement[DISK_STREAMS];
    uint32_t placements;
};

int nvme_name(const char *path, char *name, size_t size)
{
    char zoned[320], model[16] = "";
    struct stat stat_now;
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    if (stat(path, &stat_now) < 0)
        return 0;
    if (S_ISCHR(stat_now.st_mode) && strncmp(base, "ng", 2) == 0)
        return snprintf(name, size, "%s", path) < (int)size;
    if (!S_ISBLK(stat_now.st_mode) || strncmp(base, "nvme", 4) != 0)
        return 0;
    (void)snprintf(zoned, sizeof zoned, "/sys/block/%s/queue/zoned", base);
    FILE *file = fopen(zoned, "re");
    if (!file)
        return 0;
    bool is_zoned = fgets(model, sizeof model, file) && strncmp(model, "none", 4) != 0;
    (void)fclose(file);
    int used = snprintf(name, size, "%.*sng%s", (int)(base - path), path, base + 4);
    return is_zoned && used < (int)size;
}

/* A command that is waited for: only while the disk is opened. */
static int command(const struct linux_disk *disk, unsigned long kind,
                   struct nvme_passthru_cmd *command, void *page)
{
    command->nsid = disk->nvme->namespace;
    command->addr = (uintptr_t)page;
    command->data_len = page ? NVME_PAGE : 0;
    int result = ioctl(disk->fd, kind, command);
    return result > 0 ? -EIO : result < 0 ? -errno : 0;
}

static int identify(const struct linux_disk *disk, uint32_t what, uint32_t set, void *page)
{
    struct nvme_passthru_cmd identify = {
        .opcode = NVME_ADMIN_IDENTIFY, .cdw10 = what, .cdw11 = set << 24};
    return command(disk, NVME_IOCTL_ADMIN_CMD, &identify, page);
}

static int refuse(const struct linux_disk *disk, const char *why)
{
    log_error("disk-unusable", "path=%s reason=\"%s\"", disk->base.info.path, why);
    return -ENOTSUP;
}

static int learn_controller(struct linux_disk *disk, void *page)
{
    struct nvme *nvme = disk->nvme;
    const struct nvme_controller_data *controller = page;
    int result = identify(disk, NVME_IDENTIFY_CONTROLLER, 0, page);
    if (result < 0)
        return result;
    nvme->part_bytes_max = PART_BYTES_MAX;
    if (controller->transfer_max > 0 && controller->transfer_max < 16)
        nvme->part_bytes_max =
            MIN(nvme->part_bytes_max, (uint32_t)NVME_PAGE << controller->transfer_max);
    nvme->can_discard = controller->optional_commands & NVME_COMMAND_DEALLOCATE;
    disk->base.info.atomic_bytes = controller->atomic_power_fail + 1u; /* blocks, as yet */
    return 0;
}

static int learn_namespace(struct linux_disk *disk, void *page, uint32_t *ret_format)
{
    struct nvme *nvme = disk->nvme;
    struct disk_info *info = &disk->base.info;
    const struct nvme_namespace_data *data = page;
    int result = identify(disk, NVME_IDENTIFY_NAMESPACE, 0, page);
    if (result < 0)
        return result;
    uint32_t index = (data->format & 15u) | (data->format >> 1 & 48u);
    struct nvme_format format = data->formats[index];
    if (format.block_shift < 9 || format.block_shift > 12)
        return refuse(disk, "its blocks are neither 512 bytes nor up to 4096");
    if (format.metadata_bytes > 0)
        return refuse(disk, "it is formatted with metadata; format it without (nvme format)");
    nvme->block_shift = format.block_shift;
    info->block_bytes = 1u << format.block_shift;
    info->size_bytes = data->size << format.block_shift;
    if (data->features & NVME_FEATURE_ATOMICS)
        info->atomic_bytes = data->atomic_power_fail + 1u;
    info->atomic_bytes <<= format.block_shift;
    *ret_format = index;
    return 0;
}

/* ---- zones ---------------------------------------------------------------------------------- */

static int zone_action(const struct linux_disk *disk, uint64_t start, uint32_t action)
{
    struct nvme_passthru_cmd send = {.opcode = NVME_ZONE_SEND,
                                     .cdw10 = (uint32_t)start,
                                     .cdw11 = (uint32_t)(start >> 32),
                                     .cdw13 = action};
    return command(disk, NVME_IOCTL_IO_CMD, &send, NULL);
}

/* Bytes written of a zone. One whose pointer is inside a block of ours takes nothing more. */
static int zone_written(struct linux_disk *disk, const struct nvme_zone *zone, uint64_t *ret_bytes)
{
    const struct nvme *nvme = disk->nvme;
    uint32_t state = zone->state >> 4;
    if (state == NVME_ZONE_EMPTY) {
        *ret_bytes = 0;
        return 0;
    }
    if (state == NVME_ZONE_FULL || state == NVME_ZONE_READ_ONLY || state == NVME_ZONE_OFFLINE) {
        *ret_bytes = nvme->zone_bytes;
        return 0;
    }
    uint64_t written = (zone->pointer - zone->start) << nvme->block_shift;
    if (zone->pointer < zone->start || written > nvme->zone_bytes)
        return -EIO;
    *ret_bytes = written;
    if (written % DISK_BLOCK_BYTES == 0)
        return 0;
    *ret_bytes = nvme->zone_bytes;
    return disk->base.info.read_only ? 0 : zone_action(disk, zone->start, NVME_ZONE_FINISH);
}

static int report(const struct linux_disk *disk, uint64_t start, void *page)
{
    struct nvme_passthru_cmd receive = {.opcode = NVME_ZONE_RECEIVE,
                                        .cdw10 = (uint32_t)start,
                                        .cdw11 = (uint32_t)(start >> 32),
                                        .cdw12 = NVME_PAGE / 4 - 1,
                                        .cdw13 = 1 << 16}; /* count only those in the page */
    return command(disk, NVME_IOCTL_IO_CMD, &receive, page);
}

static int learn_zones(struct linux_disk *disk, void *page)
{
    struct nvme *nvme = disk->nvme;
    struct disk_info *info = &disk->base.info;
    const struct nvme_zone_report *zones = page;
    uint64_t count = (info->size_bytes >> nvme->block_shift) / nvme->zone_blocks;
    int result = 0;
    for (uint64_t at = 0; at < count && result == 0;) {
        result = report(disk, at * nvme->zone_blocks, page);
        uint64_t got = MIN(zones->count, (uint64_t)NVME_ZONES_PER_REPORT);
        if (result == 0 && got == 0)
            result = -EIO;
        for (uint64_t i = 0; i < got && at < count && result == 0; i++, at++) {
            uint64_t capacity = zones->zones[i].capacity << nvme->block_shift, written = 0;
            if (at == 0) {
                if (capacity == 0 || capacity % DISK_BLOCK_BYTES || capacity >= 2 * GIB)
                    return refuse(disk, "its zones are not a multiple of 4 KiB below 2 GiB");
                nvme->zone_bytes = (uint32_t)capacity;
                info->zone_bytes = nvme->zone_bytes;
                info->size_bytes = count * capacity;
                disk->base.zones = disk_zones_new(&disk->base);
            }
            if (capacity != nvme->zone_bytes)
                return refuse(disk, "its zones differ in capacity");
            result = zone_written(disk, &zones->zones[i], &written);
            if (result == 0)
                disk_zone_found(&disk->base, at, written);
        }
    }
    return result;
}

static int learn_zoned(struct linux_disk *disk, void *page, uint32_t format)
{
    struct nvme *nvme = disk->nvme;
    const struct nvme_zoned_data *data = page;
    if (identify(disk, NVME_IDENTIFY_NAMESPACE_OF_SET, NVME_SET_ZONED, page) < 0)
        return 0; /* not of that command set */
    if (data->formats[format].zone_blocks == 0)
        return 0;
    nvme->zone_blocks = data->formats[format].zone_blocks;
    disk->base.info.zones_active_max = data->active_max == UINT32_MAX ? 0 : data->active_max + 1;
    return learn_zones(disk, page);
}

/* ---- placement ------------------------------------------------------------------------------ */

static void learn_placement(struct linux_disk *disk, void *page)
{
    struct nvme *nvme = disk->nvme;
    const struct nvme_placement_report *placement = page;
    struct nvme_passthru_cmd receive = {
        .opcode = NVME_IO_MANAGEMENT_RECEIVE, .cdw10 = NVME_RUH_STATUS, .cdw11 = NVME_PAGE / 4 - 1};
    if (command(disk, NVME_IOCTL_IO_CMD, &receive, page) < 0)
        return; /* most drives have none */
    nvme->placements = MIN((uint32_t)placement->count, (uint32_t)NVME_PLACEMENTS_PER_REPORT);
    disk->base.info.streams = nvme->placements;
    for (uint32_t i = 0; i < DISK_STREAMS && nvme->placements > 0; i++)
        nvme->placement[i] = placement->placements[MIN(i, nvme->placements - 1)].identifier;
}

/* ---- open ----------------------------------------------------------------------------------- */

static int hold_block_device(struct linux_disk *disk, uint32_t flags)
{
    char path[sizeof disk->base.info.path + 8];
    const char *full = disk->base.info.path;
    const char *base = strrchr(full, '/');
    base = base ? base + 1 : full;
    disk->nvme->block_fd = -1;
    if (flags & (DISK_READ_ONLY | DISK_UNLOCKED))
        return 0;
    (void)snprintf(path, sizeof path, "%.*snvme%s", (int)(base - full), full, base + 2);
    int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (fd < 0)
        return errno == EBUSY ? -EBUSY : 0; /* a kernel without zones shows no block device */
    disk->nvme->block_fd = fd;
    return 0;
}

int nvme_open(struct linux_disk *disk, uint32_t flags)
{
    uint32_t format = 0;
    int namespace = ioctl(disk->fd, NVME_IOCTL_ID);
    if (namespace <= 0)
        return -EINVAL;
    if (!linux_of(disk->base.reactor)->passthrough)
        return refuse(disk, "this kernel has no NVMe passthrough by io_uring (5.19 has)");
    disk->nvme = mem_zalloc(sizeof *disk->nvme);
    disk->nvme->namespace = (uint32_t) namespace;
    int result = hold_block_device(disk, flags);
    void *page = mem_alloc_aligned(NVME_PAGE, NVME_PAGE);
    if (result == 0)
        result = learn_controller(disk, page);
    if (result == 0)
        result = learn_namespace(disk, page, &format);
    if (result == 0)
        result = learn_zoned(disk, page, format);
    if (result == 0)
        learn_placement(disk, page);
    mem_free(page);
    (void)snprintf(disk->base.info.kind, sizeof disk->base.info.kind, "%s",
                   disk->base.zones ? "zns" : "nvme");
    return result;
}

void nvme_close(struct linux_disk *disk)
{
    if (disk->base.zones)
        disk_zones_free(&disk->base);
    if (disk->nvme->block_fd >= 0)
        close(disk->nvme->block_fd);
    mem_free(disk->nvme);
}

/* ---- commands ------------------------------------------------------------------------------- */

static uint64_t device_block(const struct nvme *nvme, uint64_t offset)
{
    if (nvme->zone_blocks == 0)
        return offset >> nvme->block_shift;
    return offset / nvme->zone_bytes * nvme->zone_blocks +
           (offset % nvme->zone_bytes >> nvme->block_shift);
}

static void prep_transfer(struct disk_request *request, struct io_uring_sqe *sqe,
                          struct nvme_uring_cmd *command)
{
    const struct disk_io *io = request->io;
    const struct nvme *nvme = request->disk->nvme;
    uint32_t bytes = MIN(io->bytes - request->done_bytes, nvme->part_bytes_max);
    uint8_t *data = (uint8_t *)io->data + request->done_bytes;
    request->part_bytes = bytes;
    command->opcode = io->op == DISK_READ ? NVME_READ : NVME_WRITE;
    command->addr = (uintptr_t)data;
    command->data_len = bytes;
    command->cdw12 = (bytes >> nvme->block_shift) - 1;
    if (io->durable)
        command->cdw12 |= NVME_FORCE_UNIT_ACCESS;
    if (io->op == DISK_WRITE && nvme->placements > 0) {
        command->cdw12 |= NVME_DIRECTIVE_PLACEMENT << 20;
        command->cdw13 = (uint32_t)nvme->placement[io->stream] << 16;
    }
    if (linux_of(request->disk->base.reactor)->arena_registered && buf_in_arena(data, bytes))
        sqe->rw_flags = IORING_URING_CMD_FIXED; /* sqe->buf_index is 0 */
}

void nvme_prep(struct disk_request *request, struct io_uring_sqe *sqe)
{
    const struct disk_io *io = request->io;
    const struct nvme *nvme = request->disk->nvme;
    uint64_t user_data = sqe->user_data;
    memset(sqe, 0, 2 * sizeof *sqe); /* IORING_SETUP_SQE128 */
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = request->disk->fd;
    sqe->cmd_op = NVME_URING_CMD_IO;
    sqe->user_data = user_data;
    struct nvme_uring_cmd *command = (void *)sqe->cmd;
    uint64_t block = device_block(nvme, io->offset + request->done_bytes);
    command->nsid = nvme->namespace;
    command->cdw10 = (uint32_t)block;
    command->cdw11 = (uint32_t)(block >> 32);
    if (io->op == DISK_READ || io->op == DISK_WRITE) {
        prep_transfer(request, sqe, command);
        return;
    }
    request->part_bytes = 0;
    if (io->op == DISK_FLUSH || (!nvme->zone_blocks && !nvme->can_discard)) {
        command->opcode = NVME_FLUSH;
        command->cdw10 = 0;
        command->cdw11 = 0;
    } else if (nvme->zone_blocks) {
        command->opcode = NVME_ZONE_SEND;
        command->cdw13 = io->op == DISK_SEAL ? NVME_ZONE_FINISH : NVME_ZONE_RESET;
    } else {
        request->range =
            (struct nvme_range){.blocks = io->bytes >> nvme->block_shift, .block = block};
        command->opcode = NVME_DATASET_MANAGEMENT;
        command->addr = (uintptr_t)&request->range;
        command->data_len = sizeof request->range;
        command->cdw10 = 0; /* one range */
        command->cdw11 = NVME_DEALLOCATE;
    }
}

int nvme_result(const struct disk_request *request, int result)
{
    if (result == 0)
        return (int)request->part_bytes;
    if (result < 0)
        return result;
    log_error("nvme-command-failed", "path=%s status=0x%x op=%d offset=%llu bytes=%u",
              request->disk->base.info.path, (unsigned)result, (int)request->io->op,
              (unsigned long long)request->io->offset, request->io->bytes);
    return -EIO; /* NV2 */
}
