/* SPDX-License-Identifier: MIT */
/* The reactor over io_uring.
 *
 * Problem. One thread has to serve disk, network, timers and fibers with one wait, one system call
 * a turn, and no CPU time when there is nothing to do.
 *
 * Picture of a turn:
 *
 *     completions -> reactor_turn (timers, fibers, hooks) -> submit, and wait if nothing runs
 *
 * L1. The ring belongs to this thread alone (SINGLE_ISSUER); completions are made in our own
 *     io_uring_enter (DEFER_TASKRUN), so nothing interrupts a running fiber.
 * L2. Each submission has a uring_op that lives until its last completion (no IORING_CQE_F_MORE).
 * L3. Sleeping ends at the first completion or the first timer; without timers, only at a
 *     completion: an idle reactor costs nothing.
 *
 * Kernels without one of the flags get a ring without it; provided buffers fall back to a buffer a
 * connection. Detected once, here. */
#include "env/linux/linux_internal.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(struct reactor *reactor)
{
    (void)reactor;
    return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t wall_ns(struct reactor *reactor)
{
    (void)reactor;
    return clock_ns(CLOCK_REALTIME);
}

static uint64_t entropy(struct reactor *reactor)
{
    (void)reactor;
    uint64_t word;
    ssize_t got = getrandom(&word, sizeof word, 0);
    assert(got == sizeof word); /* man page: never short below 256 bytes */
    return word;
}

static uint32_t pid(struct reactor *reactor)
{
    (void)reactor;
    return (uint32_t)getpid();
}

static void kick(struct reactor *reactor)
{
    (void)reactor; /* only ever from the reactor's own thread: it looks before it sleeps */
}

static const struct env_backend linux_backend = {
    .now_ns = now_ns,
    .wall_ns = wall_ns,
    .entropy = entropy,
    .pid = pid,
    .kick = kick,
    .disk_open = linux_disk_open,
    .disk_close = linux_disk_close,
    .disk_submit = linux_disk_submit,
    .net_connect = linux_net_connect,
    .net_listen = linux_net_listen,
    .listener_close = linux_listener_close,
    .conn_send = linux_conn_send,
    .conn_close = linux_conn_close,
};

void linux_sqe_reserve(struct linux_reactor *linux_reactor, uint32_t count)
{
    struct io_uring *ring = &linux_reactor->ring;
    assert(count <= RING_ENTRIES);
    while (io_uring_sq_space_left(ring) < count) {
        int submitted = io_uring_submit(ring);
        assert(submitted >= 0 || submitted == -EINTR || submitted == -EBUSY ||
               submitted == -EAGAIN);
    }
}

struct io_uring_sqe *linux_sqe(struct linux_reactor *linux_reactor, struct uring_op *op)
{
    linux_sqe_reserve(linux_reactor, 1);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&linux_reactor->ring);
    assert(sqe);
    io_uring_sqe_set_data(sqe, op);
    return sqe;
}

void linux_sqe_deadline(struct linux_reactor *linux_reactor, struct io_uring_sqe *sqe,
                        uint64_t deadline_ns, struct __kernel_timespec *timeout)
{
    if (deadline_ns == 0)
        return;
    uint64_t time_ns = env_now_ns();
    uint64_t left_ns = deadline_ns > time_ns ? deadline_ns - time_ns : 1;
    timeout->tv_sec = (int64_t)(left_ns / NS_PER_S);
    timeout->tv_nsec = (long long)(left_ns % NS_PER_S);
    sqe->flags |= IOSQE_IO_LINK;
    io_uring_prep_link_timeout(linux_sqe(linux_reactor, NULL), timeout, 0);
}

static void uring_wait_complete(struct uring_op *op, int result, uint32_t flags)
{
    struct uring_wait *wait = container_of(op, struct uring_wait, op);
    assert(!(flags & IORING_CQE_F_MORE));
    wait->result = result;
    wait->done = true;
    fiber_resume(wait->fiber);
}

void uring_wait_init(struct uring_wait *wait)
{
    *wait = (struct uring_wait){.op.complete = uring_wait_complete, .fiber = fiber_running()};
}

may_yield int uring_wait(struct uring_wait *wait)
{
    while (!wait->done)
        fiber_suspend();
    return wait->result;
}

/* ---- start ---------------------------------------------------------------------------------- */

static int ring_init(struct linux_reactor *linux_reactor)
{
    /* Entries of double size are for passthrough (linux_nvme.c); others use half of each. */
    const unsigned big = IORING_SETUP_SQE128 | IORING_SETUP_CQE32;
    const unsigned flag_sets[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE | big,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE | big,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE,
        IORING_SETUP_CQSIZE,
    };
    int result = -ENOSYS;
    for (size_t i = 0; i < ARRAY_COUNT(flag_sets); i++) {
        struct io_uring_params params = {.flags = flag_sets[i], .cq_entries = 4 * RING_ENTRIES};
        result = io_uring_queue_init_params(RING_ENTRIES, &linux_reactor->ring, &params);
        linux_reactor->passthrough = result == 0 && (flag_sets[i] & big);
        if (result != -EINVAL)
            break;
    }
    return result;
}

void linux_recv_give(struct linux_reactor *linux_reactor, uint16_t index)
{
    io_uring_buf_ring_add(linux_reactor->recv_ring,
                          linux_reactor->recv_buffers + (size_t)index * RECV_BUFFER_BYTES,
                          RECV_BUFFER_BYTES, index, io_uring_buf_ring_mask(RECV_BUFFERS), 0);
    io_uring_buf_ring_advance(linux_reactor->recv_ring, 1);
}

enum {
    RECV_RING_BYTES = 4096,
    RECV_MEMORY_BYTES = RECV_RING_BYTES + RECV_BUFFERS * RECV_BUFFER_BYTES,
};
_Static_assert(RECV_BUFFERS * sizeof(struct io_uring_buf) <= RECV_RING_BYTES, "one page of ring");

static void recv_ring_init(struct linux_reactor *linux_reactor)
{
    uint8_t *memory =
        mmap(NULL, RECV_MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(memory != MAP_FAILED);
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)memory,
        .ring_entries = RECV_BUFFERS,
        .bgid = RECV_GROUP,
    };
    if (io_uring_register_buf_ring(&linux_reactor->ring, &reg, 0) < 0) {
        munmap(memory, RECV_MEMORY_BYTES);
        return; /* connections then receive into buffers of their own */
    }
    linux_reactor->recv_ring = (struct io_uring_buf_ring *)(void *)memory;
    linux_reactor->recv_buffers = memory + RECV_RING_BYTES;
    io_uring_buf_ring_init(linux_reactor->recv_ring);
    for (uint16_t i = 0; i < RECV_BUFFERS; i++)
        linux_recv_give(linux_reactor, i);
}

static void operations_detect(struct linux_reactor *linux_reactor)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(&linux_reactor->ring);
    if (!probe)
        return;
    linux_reactor->zerocopy = io_uring_opcode_supported(probe, IORING_OP_SENDMSG_ZC);
    if (!io_uring_opcode_supported(probe, IORING_OP_URING_CMD))
        linux_reactor->passthrough = false;
    io_uring_free_probe(probe);
}

int linux_reactor_new(struct reactor **ret_reactor)
{
    struct linux_reactor *linux_reactor = mem_zalloc(sizeof *linux_reactor);
    int result = ring_init(linux_reactor);
    if (result < 0) {
        mem_free(linux_reactor);
        return result;
    }
    reactor_init(&linux_reactor->base, &linux_backend, NULL);
    linux_reactor->signal_fd = -1;
    list_init(&linux_reactor->senders);
    list_init(&linux_reactor->quiet);
    list_init(&linux_reactor->free_disk_ops);
    list_init(&linux_reactor->free_parts);
    recv_ring_init(linux_reactor);
    operations_detect(linux_reactor);
    *ret_reactor = &linux_reactor->base;
    return 0;
}

/* ---- run ------------------------------------------------------------------------------------ */

static void completions(struct linux_reactor *linux_reactor)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&linux_reactor->ring, &cqe) == 0) {
        struct uring_op *op = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        uint32_t flags = cqe->flags;
        io_uring_cqe_seen(&linux_reactor->ring, cqe); /* before complete, which may submit */
        if (op)
            op->complete(op, result, flags);
    }
}

static int submit_and_wait(struct linux_reactor *linux_reactor)
{
    struct reactor *reactor = &linux_reactor->base;
    struct io_uring *ring = &linux_reactor->ring;
    if (reactor_runnable(reactor) || linux_reactor->stop)
        return io_uring_submit_and_get_events(ring);
    uint64_t deadline_ns = reactor_next_deadline(reactor);
    if (deadline_ns == 0)
        return io_uring_submit_and_wait(ring, 1);
    uint64_t now = now_ns(reactor);
    if (deadline_ns <= now)
        return io_uring_submit_and_get_events(ring);
    uint64_t wait_ns = deadline_ns - now;
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(wait_ns / NS_PER_S),
                                        .tv_nsec = (long long)(wait_ns % NS_PER_S)};
    struct io_uring_cqe *cqe;
    return io_uring_submit_and_wait_timeout(ring, &cqe, 1, &timeout, NULL);
}

int linux_reactor_run(struct reactor *reactor)
{
    struct linux_reactor *linux_reactor = linux_of(reactor);
    struct reactor_scope before = reactor_enter(reactor);
    int result = 0;
    linux_reactor->stop = false;
    while (!linux_reactor->stop) {
        reactor_turn(reactor);
        linux_conns_flush(linux_reactor);
        result = submit_and_wait(linux_reactor);
        /* Timeouts and signals end a wait; EBUSY and EAGAIN ask us to take completions first. */
        if (result < 0 && result != -ETIME && result != -EINTR && result != -EBUSY &&
            result != -EAGAIN)
            break;
        result = 0;
        bool submitted = io_uring_sq_ready(&linux_reactor->ring) == 0;
        completions(linux_reactor);
        if (submitted)
            linux_conns_settle(linux_reactor);
    }
    reactor_leave(before);
    return result;
}

void linux_reactor_stop(struct reactor *reactor)
{
    linux_of(reactor)->stop = true;
}

void linux_reactor_free(struct reactor *reactor)
{
    struct linux_reactor *linux_reactor = linux_of(reactor);
    io_uring_queue_exit(&linux_reactor->ring);
    if (linux_reactor->recv_ring)
        munmap(linux_reactor->recv_ring, RECV_MEMORY_BYTES);
    linux_disk_requests_free(linux_reactor);
    linux_parts_free(linux_reactor);
    mem_free(reactor->timers);
    if (linux_reactor->signal_fd >= 0)
        close(linux_reactor->signal_fd);
    reactor_drop(reactor);
    reactor_fini(reactor);
    mem_free(linux_reactor);
}

/* ---- signals -------------------------------------------------------------------------------- */

static void signal_arm(struct linux_reactor *linux_reactor)
{
    struct io_uring_sqe *sqe = linux_sqe(linux_reactor, &linux_reactor->signal_op);
    io_uring_prep_poll_multishot(sqe, linux_reactor->signal_fd, POLLIN);
}

static void signal_arrived(struct uring_op *op, int result, uint32_t flags)
{
    struct linux_reactor *linux_reactor = container_of(op, struct linux_reactor, signal_op);
    struct signalfd_siginfo info;
    while (result >= 0 && read(linux_reactor->signal_fd, &info, sizeof info) == sizeof info) {
        for (uint32_t i = 0; i < linux_reactor->signal_count; i++) {
            struct signal_row *row = &linux_reactor->signals[i];
            if (row->signo == (int)info.ssi_signo)
                row->fn(row->context, row->signo);
        }
    }
    if (!(flags & IORING_CQE_F_MORE))
        signal_arm(linux_reactor);
}

int linux_reactor_on_signal(struct reactor *reactor, int signo,
                            void (*fn)(void *context, int signo), void *context)
{
    struct linux_reactor *linux_reactor = linux_of(reactor);
    if (linux_reactor->signal_count == LINUX_SIGNALS_MAX)
        return -ENOSPC;
    struct signal_row *row = &linux_reactor->signals[linux_reactor->signal_count++];
    *row = (struct signal_row){signo, fn, context};
    sigset_t set;
    sigemptyset(&set);
    for (uint32_t i = 0; i < linux_reactor->signal_count; i++)
        sigaddset(&set, linux_reactor->signals[i].signo);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    bool first = linux_reactor->signal_fd < 0;
    int fd = signalfd(linux_reactor->signal_fd, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    linux_reactor->signal_fd = fd;
    if (first) {
        linux_reactor->signal_op.complete = signal_arrived;
        struct reactor_scope before = reactor_enter(reactor);
        signal_arm(linux_reactor);
        reactor_leave(before);
    }
    return 0;
}
