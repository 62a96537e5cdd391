/* SPDX-License-Identifier: MIT */
/* Plain files and block devices over io_uring, O_DIRECT where the file system has it.
 *
 * A durable write has O_DSYNC's meaning. On a block device the block layer sees to it (FUA, or a
 * flush behind the write), for a file a kernel thread does. A flush is one more trip through the
 * ring, and a worker thread of the ring waits for it: twice the processor time, 15 to 50 us more.
 *
 * Short transfers are continued here, so that the owner sees all or an error. Discard is advice:
 * a device that cannot do it says so and that is fine. The lock (flock, and O_EXCL on block
 * devices) keeps a second process from opening the same device.
 *
 * The files are not registered with the ring: that saves a few nanoseconds a request, but a killed
 * process would hold the lock some 40 ms longer, until the kernel has taken its ring apart.
 *
 * A file in memory (tmpfs) is read and written by plain system calls in disk_submit: io_uring would
 * hand each request to a worker thread, which takes a hundred times as long as the copy. Only the
 * completion goes through the ring, so done is called outside the caller all the same.
 *
 * NVMe character devices, and zoned NVMe block devices by way of them, are opened here and spoken
 * to in linux_nvme.c. */
#include "env/linux/linux_disk.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/log.h"

enum {
    ARENA_BYTES = 24 << 20,
    SUBMIT_EAGERLY = 4, /* requests; the rest goes at the end of the turn */
};

static int open_plain(const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    return fd < 0 ? -errno : fd;
}

static int open_direct(const char *path, int flags)
{
    int fd = open_plain(path, flags | O_DIRECT);
    return fd == -EINVAL ? open_plain(path, flags) : fd; /* the file system has no direct I/O */
}

static int parent_sync(const char *path)
{
    char parent[sizeof((struct disk_info *)0)->path];
    (void)snprintf(parent, sizeof parent, "%s", path); /* the same size */
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = 0;
    int fd = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int result = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return result;
}

/* A number the kernel shows of a block device, or 0. */
static uint64_t queue_limit(dev_t device, const char *name)
{
    char path[128];
    unsigned long long value = 0;
    /* Of a partition: the whole device is the folder above. */
    static const char *const folders[] = {"queue", "../queue"};
    for (size_t i = 0; i < ARRAY_COUNT(folders); i++) {
        (void)snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%s/%s", major(device),
                       minor(device), folders[i], name);
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        if (fscanf(file, "%llu", &value) != 1)
            value = 0;
        (void)fclose(file);
        break;
    }
    return value;
}

static int size_up_block(struct linux_disk *disk, dev_t device)
{
    struct disk_info *info = &disk->base.info;
    int block_bytes = 0;
    if (ioctl(disk->fd, BLKGETSIZE64, &info->size_bytes) < 0 ||
        ioctl(disk->fd, BLKSSZGET, &block_bytes) < 0)
        return -errno;
    (void)snprintf(info->kind, sizeof info->kind, "block");
    info->block_bytes = (uint32_t)block_bytes;
    info->atomic_bytes = (uint32_t)queue_limit(device, "atomic_write_unit_max_bytes");
    disk->discards = linux_of(disk->base.reactor)->passthrough;
    disk->cannot_discard = queue_limit(device, "discard_max_bytes") == 0;
    const char *why = NULL;
    if (info->block_bytes > DISK_BLOCK_BYTES)
        why = "its blocks are larger than 4 KiB";
    if (queue_limit(device, "nr_zones") > 0)
        why = "of zoned devices only NVMe namespaces are supported";
    if (why)
        log_error("disk-unusable", "path=%s reason=\"%s\"", info->path, why);
    return why ? -ENOTSUP : 0;
}

/* Learn kind and size; give a new file its size. */
static int size_up(struct linux_disk *disk, uint64_t size_bytes, uint32_t flags)
{
    struct stat stat;
    struct disk_info *info = &disk->base.info;
    if (fstat(disk->fd, &stat) < 0)
        return -errno;
    if (S_ISBLK(stat.st_mode))
        return size_up_block(disk, stat.st_rdev);
    if (S_ISCHR(stat.st_mode))
        return nvme_open(disk, flags);
    if (!S_ISREG(stat.st_mode))
        return -EINVAL;
    (void)snprintf(info->kind, sizeof info->kind, "file");
    info->block_bytes = 512;
    /* Only files: the node of a device lies in memory too, what is written through it does not. */
    struct statfs where;
    disk->in_memory = fstatfs(disk->fd, &where) == 0 && where.f_type == TMPFS_MAGIC;
    info->size_bytes = (uint64_t)stat.st_size;
    if (info->size_bytes == 0 && (flags & DISK_CREATE)) {
        /* Its name and size must be there after a power loss, as the data will. */
        if (ftruncate(disk->fd, (off_t)size_bytes) < 0 || fsync(disk->fd) < 0)
            return -errno;
        info->size_bytes = size_bytes;
        return parent_sync(info->path);
    }
    return 0;
}

/* Registered memory for buffers: the kernel pins its pages once and not for each direct request.
 * What is beyond the locked-memory limit, or beyond the arena, goes the ordinary way. */
static void arena_init(struct linux_reactor *linux_reactor)
{
    if (linux_reactor->arena_tried)
        return;
    linux_reactor->arena_tried = true;
    uint8_t *memory = buf_arena(); /* of an earlier reactor of this thread */
    bool fresh = !memory;
    if (fresh)
        memory = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED)
        return;
    const struct iovec whole = {.iov_base = memory, .iov_len = ARENA_BYTES};
    if (io_uring_register_buffers(&linux_reactor->ring, &whole, 1) < 0) {
        if (fresh)
            munmap(memory, ARENA_BYTES);
        return;
    }
    if (fresh)
        buf_arena_set(memory, ARENA_BYTES);
    linux_reactor->arena_registered = true;
}

static void disk_free(struct linux_disk *disk)
{
    if (disk->nvme)
        nvme_close(disk);
    close(disk->fd);
    mem_free(disk);
}

static int open_path(const char *path, uint32_t flags)
{
    struct stat stat_before;
    bool read_only = flags & DISK_READ_ONLY;
    int open_flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    if (flags & DISK_CREATE)
        open_flags |= O_CREAT;
    if (stat(path, &stat_before) == 0 && !S_ISREG(stat_before.st_mode)) {
        open_flags &= ~O_CREAT;
        if (S_ISBLK(stat_before.st_mode) && !read_only && !(flags & DISK_UNLOCKED))
            open_flags |= O_EXCL;
        if (S_ISCHR(stat_before.st_mode))
            return open_plain(path, open_flags);
    }
    return open_direct(path, open_flags);
}

int linux_disk_open(struct reactor *reactor, const char *given, uint64_t size_bytes, uint32_t flags,
                    struct disk **ret_disk)
{
    char nvme[sizeof((struct disk_info *)0)->path];
    const char *path = nvme_name(given, nvme, sizeof nvme) ? nvme : given;
    arena_init(linux_of(reactor));
    if (strlen(path) >= sizeof nvme)
        return -ENAMETOOLONG;
    bool read_only = flags & DISK_READ_ONLY;
    int fd = open_path(path, flags);
    if (fd < 0)
        return fd == -EISDIR ? -EINVAL : fd;
    struct linux_disk *disk = mem_zalloc(sizeof *disk);
    disk->base.reactor = reactor;
    disk->fd = fd;
    (void)snprintf(disk->base.info.path, sizeof disk->base.info.path, "%s", path);
    disk->base.info.read_only = read_only;
    int lock = (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB;
    int result = !(flags & DISK_UNLOCKED) && flock(fd, lock) < 0 ? -errno : 0;
    if (result == -EWOULDBLOCK)
        result = -EBUSY;
    if (result == 0)
        result = size_up(disk, size_bytes, flags);
    if (result < 0) {
        disk_free(disk);
        return result;
    }
    disk->base.info.size_bytes = round_down(disk->base.info.size_bytes, DISK_BLOCK_BYTES);
    *ret_disk = &disk->base;
    return 0;
}

void linux_disk_close(struct disk *base)
{
    disk_free(container_of(base, struct linux_disk, base));
}

static int memory_perform(const struct linux_disk *disk, const struct disk_io *io)
{
    const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    ssize_t result = 0;
    switch (io->op) {
    case DISK_READ:
        result = pread(disk->fd, io->data, io->bytes, (off_t)io->offset);
        break;
    case DISK_WRITE:
        result = pwrite(disk->fd, io->data, io->bytes, (off_t)io->offset);
        break;
    case DISK_DISCARD:
        result = fallocate(disk->fd, punch, (off_t)io->offset, io->bytes);
        break;
    case DISK_FLUSH:
        break; /* memory is all there is */
    case DISK_SEAL:
        WRONG("not zoned");
    }
    return result < 0 ? -errno : (int)result;
}

static void prep_transfer(struct linux_disk *disk, struct io_uring_sqe *sqe,
                          const struct disk_io *io, uint32_t done_bytes)
{
    uint64_t offset = io->offset + done_bytes;
    uint32_t bytes = io->bytes - done_bytes;
    uint8_t *data = (uint8_t *)io->data + done_bytes;
    bool read = io->op == DISK_READ;
    if (linux_of(disk->base.reactor)->arena_registered && buf_in_arena(data, bytes)) {
        if (read)
            io_uring_prep_read_fixed(sqe, disk->fd, data, bytes, offset, 0);
        else
            io_uring_prep_write_fixed(sqe, disk->fd, data, bytes, offset, 0);
    } else if (read) {
        io_uring_prep_read(sqe, disk->fd, data, bytes, offset);
    } else {
        io_uring_prep_write(sqe, disk->fd, data, bytes, offset);
    }
    if (io->durable)
        sqe->rw_flags = RWF_DSYNC;
}

#ifndef BLOCK_URING_CMD_DISCARD /* Linux 6.12 */
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
#endif

/* To punch a hole into a block device writes zeroes where the device cannot unmap to zeroes; a
 * discard never writes. */
static void prep_discard(const struct linux_disk *disk, struct io_uring_sqe *sqe,
                         const struct disk_io *io)
{
    if (disk->cannot_discard) {
        io_uring_prep_nop(sqe);
        return;
    }
    if (!disk->discards) {
        io_uring_prep_fallocate(sqe, disk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)io->offset, io->bytes);
        return;
    }
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, disk->fd, NULL, 0, 0);
    sqe->cmd_op = BLOCK_URING_CMD_DISCARD;
    sqe->addr = io->offset;
    sqe->addr3 = io->bytes;
}

static void op_submit(struct disk_request *op)
{
    struct linux_disk *disk = op->disk;
    struct disk_io *io = op->io;
    struct io_uring_sqe *sqe = linux_sqe(linux_of(disk->base.reactor), &op->op);
    if (disk->in_memory && op->done_bytes == 0) {
        op->memory_result = memory_perform(disk, io);
        io_uring_prep_nop(sqe);
        return;
    }
    if (disk->nvme) {
        nvme_prep(op, sqe);
        return;
    }
    int fd = disk->fd;
    switch (io->op) {
    case DISK_READ:
    case DISK_WRITE:
        prep_transfer(disk, sqe, io, op->done_bytes);
        break;
    case DISK_FLUSH:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    case DISK_DISCARD:
        prep_discard(disk, sqe, io);
        break;
    case DISK_SEAL:
        WRONG("not zoned");
    }
}

static void op_complete(struct uring_op *uring_op, int result, uint32_t flags)
{
    struct disk_request *op = container_of(uring_op, struct disk_request, op);
    struct disk_io *io = op->io;
    (void)flags;
    bool transfer = io->op == DISK_READ || io->op == DISK_WRITE;
    if (op->disk->in_memory && op->done_bytes == 0 && result >= 0)
        result = op->memory_result;
    if (op->disk->nvme)
        result = nvme_result(op, result);
    if (result == -EINTR || result == -EAGAIN) {
        op_submit(op);
        return;
    }
    if (transfer && result > 0) {
        op->done_bytes += (uint32_t)result;
        if (op->done_bytes < io->bytes) {
            op_submit(op);
            return;
        }
    }
    if (transfer && result == 0)
        result = -EIO; /* beyond the end: the device has shrunk */
    bool unknown = result == -EINVAL || result == -EOPNOTSUPP;
    if (io->op == DISK_DISCARD && op->disk->discards && unknown) {
        op->disk->discards = false; /* an older kernel */
        op_submit(op);
        return;
    }
    if (io->op == DISK_DISCARD && (result == -EOPNOTSUPP || result == -ENOSYS))
        result = 0;
    io->result = MIN(result, 0);
    list_push_front(&linux_of(op->disk->base.reactor)->free_disk_ops, &op->link);
    io->done(io);
}

void linux_disk_submit(struct disk *base, struct disk_io *io)
{
    struct linux_disk *disk = container_of(base, struct linux_disk, base);
    struct linux_reactor *linux_reactor = linux_of(base->reactor);
    struct list *link = list_pop_front(&linux_reactor->free_disk_ops);
    struct disk_request *op =
        link ? list_entry(link, struct disk_request, link) : mem_alloc(sizeof *op);
    *op = (struct disk_request){.op.complete = op_complete, .disk = disk, .io = io};
    list_init(&op->link);
    op_submit(op);
    /* Many that complete at once wake many fibers, each of which asks for more: the device should
     * not wait until the last of them has had its turn. What is refused goes later. */
    if (!disk->in_memory && io_uring_sq_ready(&linux_reactor->ring) >= SUBMIT_EAGERLY)
        (void)!io_uring_submit(&linux_reactor->ring);
}

void linux_disk_requests_free(struct linux_reactor *linux_reactor)
{
    struct list *link;
    while ((link = list_pop_front(&linux_reactor->free_disk_ops)) != NULL)
        mem_free(list_entry(link, struct disk_request, link));
}
