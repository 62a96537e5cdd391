/* SPDX-License-Identifier: MIT */
/* FUSE front.
 *
 * Problem. The kernel hands over one request per read of the device and wants one reply per write,
 * in any order. A request may take a minute (a server is away) while others must go on; and when
 * the mount is gone, nothing may keep the process.
 *
 * Picture.
 *   mount.c -> device -> reader fiber -> fiber per request -> request.c -> op_*.c -> client
 *               (per channel)                                     `-> reply -> device
 *
 * Invariants.
 * I1. Each request is answered once, except those that FUSE answers never; the dispatcher answers
 *     what a handler refused.
 * I2. Bytes of the kernel are not trusted: lengths, strings, handles are checked in request.c and
 *     op_file.c before use.
 * I3. A node id is an inode number: lookups keep nothing, so FORGET means nothing. Inode numbers
 *     are never used again, so the generation is 0.
 * I4. The device's end (ENODEV) ends the reader; fuse_front_run does not wait for requests that
 *     servers keep.
 * I5. A signal does not disturb a request that is answered soon, as on a local file system; one
 *     that only asks and waits for servers longer than INTERRUPT_WAIT_NS is answered with EINTR,
 *     so that a stuck program can be stopped. One that changes something is waited for.
 * I6. An open tells the kernel to ask for the attributes again if it was told others before, and an
 *     open of a file that has lost its last name meanwhile is refused with ESTALE: the kernel then
 *     looks the name up again. So an open sees what was closed before, whatever is still believed.
 * I7. Pages are kept over an open only if the file has not changed since the last one here
 *     (close-to-open); names and attributes are believed for the timeouts.
 *
 * Limits. FUSE_REQUESTS_MAX requests at once; then reading pauses, and the kernel's own limits
 * hold programs back. Locks (flock, fcntl) are the kernel's: they hold within one mount.
 *
 * Not here. Writeback cache, passthrough, FUSE over io_uring, notifications: they need leases. */
#include "front/fuse/fuse_internal.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "env/linux.h"

#define END_WAIT_NS       (2 * NS_PER_S)
#define FULL_POLL_NS      (250 * NS_PER_MS)
#define INTERRUPT_WAIT_NS (5 * NS_PER_S)

int fuse_op_init(struct fuse_request *request)
{
    struct fuse_front *front = request->front;
    struct fuse_init_in in;
    int result = fuse_take(request, &in, sizeof in);
    if (result < 0)
        return result;
    if (in.major < FUSE_MAJOR || (in.major == FUSE_MAJOR && in.minor < FUSE_MINOR_MIN)) {
        log_error("fuse-init", "kernel=%u.%u needed=%u.%u effect=\"not mounted\"", in.major,
                  in.minor, FUSE_MAJOR, FUSE_MINOR_MIN);
        front->result = -EPROTO;
        return -EPROTO;
    }
    const uint32_t wanted = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_EXPORT_SUPPORT |
                            FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS |
                            FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |
                            FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_HANDLE_KILLPRIV_V2;
    struct fuse_init_out out = {
        .major = FUSE_MAJOR,
        .minor = FUSE_MINOR,
        .max_readahead = in.max_readahead,
        .flags = in.major == FUSE_MAJOR ? in.flags & wanted : 0, /* a newer major asks again */
        .max_background = FUSE_BACKGROUND_MAX,
        .congestion_threshold = FUSE_BACKGROUND_MAX / 4 * 3,
        .max_write = FUSE_IO_MAX,
        .time_gran = 1,
        .max_pages = FUSE_PAGES_MAX,
    };
    result = fuse_reply(request, &out, sizeof out);
    if (result < 0 || in.major != FUSE_MAJOR)
        return result;
    front->started = true;
    waitq_wake_all(&front->idle);
    log_info("fuse-init", "mountpoint=%s kernel=%u.%u flags=%x refused=%x",
             front->options.mountpoint, in.major, in.minor, out.flags, wanted & ~in.flags);
    return 0;
}

/* ---- interrupts -------------------------------------------------------------------------- */

static struct fuse_request *request_find(struct fuse_front *front, uint64_t unique)
{
    struct fuse_request *request;
    list_for_each (request, &front->serving, link) {
        if (request->head.unique == unique)
            return request;
    }
    return NULL;
}

int fuse_op_interrupt(struct fuse_request *request)
{
    struct fuse_interrupt_in in;
    if (fuse_take(request, &in, sizeof in) < 0)
        return FUSE_NO_REPLY;
    struct fuse_request *target = request_find(request->front, in.unique);
    const struct fuse_row *row = target ? fuse_row(target->head.opcode) : NULL;
    if (!row || !row->interruptible)
        return FUSE_NO_REPLY;
    fiber_sleep_until(target->begun_ns + INTERRUPT_WAIT_NS);
    target = request_find(request->front, in.unique);
    if (target && !target->replied) {
        int result = fuse_reply_error(target, -EINTR); /* its own answer will go nowhere */
        log_debug("fuse-interrupt", "opcode=%u reply=%d", target->head.opcode, result);
    }
    return FUSE_NO_REPLY;
}

/* ---- reading ----------------------------------------------------------------------------- */

static void request_fiber(void *arg)
{
    struct fuse_request *request = arg;
    struct fuse_front *front = request->front;
    fuse_request_serve(request);
    list_remove(&request->link);
    buf_put(request->buf);
    mem_free(request);
    front->requests--;
    waitq_wake_all(&front->idle);
}

/* A request of count bytes is in *buf. The buffer is handed on if the request is large (*buf is
 * then NULL), else copied. */
static void request_start(struct fuse_channel *channel, struct buf **buf, uint32_t count)
{
    struct fuse_front *front = channel->front;
    struct buf *own = *buf;
    if (count <= FUSE_SMALL_REQUEST) {
        own = buf_new(count);
        memcpy(own->data, (*buf)->data, count);
    } else {
        *buf = NULL;
    }
    struct fuse_request *request = mem_zalloc(sizeof *request);
    request->front = front;
    request->device = channel->device;
    request->begun_ns = env_now_ns();
    if (fuse_request_begin(request, own, count) < 0) {
        log_error("fuse-request", "bytes=%u effect=\"ignored\"", count);
        mem_free(request);
        buf_put(own);
        return;
    }
    front->requests++;
    list_push_back(&front->serving, &request->link);
    fiber_spawn("fuse-request", request_fiber, request);
}

static bool read_may_go_on(int64_t count)
{
    /* ENOENT: the request was taken back while we read it. */
    return count == -ENOENT || count == -EINTR || count == -EAGAIN;
}

/* False: the mount is over. That is looked for now and then, because requests may take as long as
 * servers are away (I4). */
static bool wait_for_room(struct fuse_channel *channel)
{
    struct fuse_front *front = channel->front;
    while (front->requests >= FUSE_REQUESTS_MAX) {
        (void)waitq_wait(&front->idle, env_now_ns() + FULL_POLL_NS);
        if (channel->device->gone(channel->device))
            return false;
    }
    return true;
}

static void reader_fiber(void *arg)
{
    struct fuse_channel *channel = arg;
    struct fuse_front *front = channel->front;
    struct buf *buf = NULL;
    for (;;) {
        if (!wait_for_room(channel))
            break;
        if (!buf)
            buf = buf_new(FUSE_READ_BUFFER);
        int64_t count = channel->device->read(channel->device, buf->data, FUSE_READ_BUFFER);
        if (count > 0) {
            request_start(channel, &buf, (uint32_t)count);
            continue;
        }
        if (read_may_go_on(count))
            continue;
        if (count != -ENODEV && count != -ECONNABORTED)
            log_error("fuse-read", "error=%s effect=\"mount ends\"", error_name((int)count));
        break;
    }
    buf_put(buf);
    front->readers--;
    front->ended = true;
    waitq_wake_all(&front->idle);
}

/* ---- the device -------------------------------------------------------------------------- */

static int64_t device_read(struct fuse_device *device, void *data, size_t bytes)
{
    return linux_fd_read(device->fd, data, bytes);
}

static int64_t device_writev(struct fuse_device *device, const struct iovec *parts, int count)
{
    return linux_fd_writev(device->fd, parts, count);
}

static bool device_gone(struct fuse_device *device)
{
    return linux_fd_poll(device->fd, POLLERR, env_now_ns() + NS_PER_MS) > 0;
}

static void channel_start(struct fuse_front *front, int fd)
{
    struct fuse_channel *channel = mem_zalloc(sizeof *channel);
    channel->front = front;
    channel->device = mem_zalloc(sizeof *channel->device);
    *channel->device = (struct fuse_device){device_read, device_writev, device_gone, fd};
    front->readers++;
    fiber_spawn("fuse-reader", reader_fiber, channel);
}

static void channels_start(struct fuse_front *front, int fd)
{
    uint32_t wanted = MIN(MAX(front->options.channels, 1u), (uint32_t)FUSE_CHANNELS_MAX);
    for (uint32_t i = 1; i < wanted; i++) {
        int clone = fuse_device_clone(fd);
        if (clone < 0) {
            log_warn("fuse-clone", "error=%s effect=\"%u channels\"", error_name(clone), i);
            return;
        }
        channel_start(front, clone);
    }
}

/* The mount is over: give requests under way a moment, then leave them to their fate (I4). */
static void front_drain(struct fuse_front *front)
{
    uint64_t deadline_ns = env_now_ns() + END_WAIT_NS;
    client_flush_all(front->client);
    while (front->requests > 0 && env_now_ns() < deadline_ns)
        (void)waitq_wait(&front->idle, deadline_ns);
    if (front->requests > 0)
        log_warn("fuse-end", "requests=%u effect=\"abandoned\"", front->requests);
}

int fuse_front_run(struct client *client, const struct fuse_options *options)
{
    int fd;
    int result = fuse_mount(options, &fd);
    if (result < 0)
        return result;
    /* Never freed: fibers that wait for servers may outlive the mount, the process does not. */
    struct fuse_front *front = mem_zalloc(sizeof *front);
    front->client = client;
    front->options = *options;
    waitq_init(&front->idle);
    list_init(&front->serving);
    channel_start(front, fd);
    while (!front->started && !front->ended && front->result == 0)
        (void)waitq_wait(&front->idle, 0); /* the kernel asks at once */
    if (front->started) {
        channels_start(front, fd);
        result = fuse_readahead_set(options->mountpoint);
        if (result < 0)
            log_debug("fuse-readahead", "error=%s effect=\"the kernel's default\"",
                      error_name(result));
        if (options->ready)
            options->ready(options->context);
    }
    while (!front->ended && front->result == 0)
        (void)waitq_wait(&front->idle, 0); /* until the unmount */
    if (front->result < 0)
        (void)!fuse_front_unmount(options->mountpoint);
    front_drain(front);
    log_info("fuse-end", "mountpoint=%s", options->mountpoint);
    return front->result;
}
