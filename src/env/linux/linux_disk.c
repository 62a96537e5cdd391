/* SPDX-License-Identifier: MIT */
/* Plain files and block devices over io_uring, O_DIRECT where the file system has it.
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
 * completion goes through the ring, so done is called outside the caller all the same. */
#include "env/linux/linux_internal.h"

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
#include <unistd.h>

enum { ARENA_BYTES = 24 << 20 };

struct linux_disk {
    struct disk base;
    int fd;
    bool in_memory; /* tmpfs */
};

struct disk_request {
    struct uring_op op;
    struct list link; /* free_disk_ops */
    struct linux_disk *disk;
    struct disk_io *io;
    uint32_t done_bytes;
    int memory_result; /* of an in_memory disk: what the completion says */
};

static int open_direct(const char *path, int flags)
{
    int fd = open(path, flags | O_DIRECT, 0600);
    if (fd < 0 && errno == EINVAL) /* the file system has no direct I/O */
        fd = open(path, flags, 0600);
    return fd < 0 ? -errno : fd;
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

/* Learn kind and size; give a new file its size. */
static int size_up(struct linux_disk *disk, uint64_t size_bytes, uint32_t flags)
{
    struct stat stat;
    struct disk_info *info = &disk->base.info;
    if (fstat(disk->fd, &stat) < 0)
        return -errno;
    if (S_ISBLK(stat.st_mode)) {
        (void)snprintf(info->kind, sizeof info->kind, "block");
        return ioctl(disk->fd, BLKGETSIZE64, &info->size_bytes) < 0 ? -errno : 0;
    }
    if (!S_ISREG(stat.st_mode))
        return -EINVAL;
    (void)snprintf(info->kind, sizeof info->kind, "file");
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

int linux_disk_open(struct reactor *reactor, const char *path, uint64_t size_bytes, uint32_t flags,
                    struct disk **ret_disk)
{
    struct stat stat_before;
    arena_init(linux_of(reactor));
    if (strlen(path) >= sizeof((struct disk_info *)0)->path)
        return -ENAMETOOLONG;
    bool read_only = flags & DISK_READ_ONLY;
    int open_flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    if (flags & DISK_CREATE)
        open_flags |= O_CREAT;
    if (stat(path, &stat_before) == 0 && S_ISBLK(stat_before.st_mode) && !read_only)
        open_flags = O_RDWR | O_CLOEXEC | O_EXCL;
    int fd = open_direct(path, open_flags);
    if (fd < 0)
        return fd == -EISDIR ? -EINVAL : fd;
    struct linux_disk *disk = mem_zalloc(sizeof *disk);
    disk->base.reactor = reactor;
    disk->fd = fd;
    (void)snprintf(disk->base.info.path, sizeof disk->base.info.path, "%s", path);
    disk->base.info.read_only = read_only;
    int result = flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0 ? -errno : 0;
    if (result == -EWOULDBLOCK)
        result = -EBUSY;
    if (result == 0)
        result = size_up(disk, size_bytes, flags);
    if (result < 0) {
        close(fd);
        mem_free(disk);
        return result;
    }
    struct statfs where;
    disk->in_memory = fstatfs(fd, &where) == 0 && where.f_type == TMPFS_MAGIC;
    disk->base.info.size_bytes = round_down(disk->base.info.size_bytes, DISK_BLOCK_BYTES);
    *ret_disk = &disk->base;
    return 0;
}

void linux_disk_close(struct disk *base)
{
    struct linux_disk *disk = container_of(base, struct linux_disk, base);
    close(disk->fd);
    mem_free(disk);
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
        io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)io->offset, io->bytes);
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
}

void linux_disk_requests_free(struct linux_reactor *linux_reactor)
{
    struct list *link;
    while ((link = list_pop_front(&linux_reactor->free_disk_ops)) != NULL)
        mem_free(list_entry(link, struct disk_request, link));
}
