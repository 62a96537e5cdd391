/* SPDX-License-Identifier: MIT */
/* Other file descriptors (linux.h). They are non-blocking: the call is tried at once, on this
 * thread, and only if it would block does the fiber wait for readiness. So a request that is there
 * costs one system call and no hand-off to a kernel worker. */
#include "env/linux/linux_internal.h"

#include <poll.h>
#include <unistd.h>

may_yield int linux_fd_poll(int fd, uint32_t events, uint64_t deadline_ns)
{
    struct linux_reactor *linux_reactor = linux_of(reactor_self());
    struct __kernel_timespec timeout;
    struct uring_wait wait;
    uring_wait_init(&wait);
    linux_sqe_reserve(linux_reactor, 2);
    struct io_uring_sqe *sqe = linux_sqe(linux_reactor, &wait.op);
    io_uring_prep_poll_add(sqe, fd, events);
    linux_sqe_deadline(linux_reactor, sqe, deadline_ns, &timeout);
    int result = uring_wait(&wait);
    return result == -ECANCELED ? -ERR_TIMED_OUT : result;
}

may_yield int64_t linux_fd_read(int fd, void *data, size_t bytes)
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

may_yield int64_t linux_fd_writev(int fd, const struct iovec *parts, int part_count)
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
