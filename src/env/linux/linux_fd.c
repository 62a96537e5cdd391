/* SPDX-License-Identifier: MIT */
/* Other file descriptors (linux.h). They are non-blocking: the call is tried at once, on this
 * thread, and only if it would block does the fiber wait for readiness. So a request that is there
 * costs one system call and no hand-off to a kernel worker. */
#include "env/linux/linux_internal.h"

#include <poll.h>
#include <unistd.h>

struct poll_wait {
    struct uring_op op;
    struct fiber *fiber;
    int result;
    bool done;
};

static void poll_complete(struct uring_op *op, int result, uint32_t flags)
{
    struct poll_wait *wait = container_of(op, struct poll_wait, op);
    (void)flags;
    wait->result = result;
    wait->done = true;
    fiber_resume(wait->fiber);
}

int linux_fd_poll(int fd, uint32_t events, uint64_t deadline_ns)
{
    struct linux_reactor *linux_reactor = linux_of(reactor_self());
    struct poll_wait wait = {.op.complete = poll_complete, .fiber = fiber_running()};
    struct __kernel_timespec timeout;
    struct io_uring_sqe *sqe = linux_sqe(linux_reactor, &wait.op);
    io_uring_prep_poll_add(sqe, fd, events);
    if (deadline_ns) {
        uint64_t now_ns = env_now_ns();
        uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        timeout.tv_sec = (int64_t)(left_ns / NS_PER_S);
        timeout.tv_nsec = (long long)(left_ns % NS_PER_S);
        sqe->flags |= IOSQE_IO_LINK;
        sqe = linux_sqe(linux_reactor, NULL);
        io_uring_prep_link_timeout(sqe, &timeout, 0);
    }
    while (!wait.done)
        fiber_suspend();
    return wait.result == -ECANCELED ? -ERR_TIMED_OUT : wait.result;
}

int64_t linux_fd_read(int fd, void *data, size_t bytes)
{
    for (;;) {
        ssize_t got = read(fd, data, bytes);
        if (got >= 0)
            return got;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return -errno;
        int ready = linux_fd_poll(fd, POLLIN, 0);
        if (ready < 0)
            return ready;
    }
}

int64_t linux_fd_writev(int fd, const struct iovec *parts, int part_count)
{
    for (;;) {
        ssize_t put = writev(fd, parts, part_count);
        if (put >= 0)
            return put;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return -errno;
        int ready = linux_fd_poll(fd, POLLOUT, 0);
        if (ready < 0)
            return ready;
    }
}
