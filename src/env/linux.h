/* SPDX-License-Identifier: MIT */
#ifndef CFS_ENV_LINUX_H
#define CFS_ENV_LINUX_H

/* The real outside: one io_uring per reactor, one reactor per thread. */

#include <sys/uio.h>

#include "env/env.h"

/* Make the reactor of the calling thread, which alone may run it (a fork does not inherit it). 0;
 * -ENOSYS, -EPERM: the kernel has no usable io_uring (6.0 or later is needed; sysctl
 * kernel.io_uring_disabled must be 0); -ENOMEM. */
must_check int linux_reactor_new(struct reactor **ret_reactor);
/* Run turns until linux_reactor_stop, sleeping in the kernel when there is nothing to do. 0, or
 * the error with which io_uring failed. */
must_check int linux_reactor_run(struct reactor *reactor);
/* Make linux_reactor_run return after the current turn. From the reactor's thread. */
void linux_reactor_stop(struct reactor *reactor);
/* Give the ring and the fibers' stacks back. Fibers that still live are dropped; connections,
 * listeners and disks should have been closed. */
void linux_reactor_free(struct reactor *reactor);

/* A further thread of the process, for a reactor of its own. Threads share no state: they talk
 * through descriptors (linux_fd_ below) or connections. */
struct linux_thread;
/* Start fn(arg) on it; name: up to 15 characters, for ps and top. 0 or -errno. Signals that the
 * caller has blocked (linux_reactor_on_signal) are blocked there too. */
must_check int linux_thread_start(const char *name, void (*fn)(void *arg), void *arg,
                                  struct linux_thread **ret_thread);
/* Wait for its end and free it. Blocks the calling thread. */
void linux_thread_join(struct linux_thread *thread);
/* How many threads this process may run at once. At least 1. */
uint32_t linux_core_count(void);

/* Call fn on the reactor, outside fibers, whenever the process gets signo (blocked otherwise).
 * Up to LINUX_SIGNALS_MAX. 0 or -errno. */
enum { LINUX_SIGNALS_MAX = 8 };
must_check int linux_reactor_on_signal(struct reactor *reactor, int signo,
                                       void (*fn)(void *context, int signo), void *context);

/* File descriptors that are neither disk nor connection (the FUSE device, terminals). fd must be
 * O_NONBLOCK: these try at once and wait for readiness only if they must. They return the count,
 * or -errno as read(2), writev(2); a signal does not end them. */
may_yield int64_t linux_fd_read(int fd, void *data, size_t bytes);
may_yield int64_t linux_fd_writev(int fd, const struct iovec *parts, int part_count);
/* Wait for events (POLLIN, ...). The events, or -errno; -ERR_TIMED_OUT. deadline_ns 0: never. */
may_yield int linux_fd_poll(int fd, uint32_t events, uint64_t deadline_ns);

#endif
