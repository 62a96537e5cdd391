/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_PROCESS_H
#define CFS_CMD_PROCESS_H

/* Background processes that belong to a demo directory. A pid file holds "PID START_TICKS": the
 * start time tells our process from a later one that got the same number, so nothing foreign is
 * ever signalled. */

#include "base/defs.h"

enum process_state {
    PROCESS_GONE,
    PROCESS_RUNNING,
    PROCESS_STOPPED, /* by SIGSTOP */
};

struct process {
    int pid; /* 0: none */
    uint64_t start_ticks;
    enum process_state state;
};

/* What the pid file says and whether it is still true. No file: PROCESS_GONE, pid 0. */
void process_read(const char *pid_path, struct process *ret_process);
/* Write the pid file of a living process. 0 or -errno. */
must_check int process_write(const char *pid_path, int pid);
/* 0, -ESRCH (gone), -EPERM. */
int process_signal(const struct process *process, int signal_number);
/* Wait until it is gone. False: still there after timeout_ms. */
bool process_wait_gone(const struct process *process, uint64_t timeout_ms);

struct process_spawn {
    const char *const *argv; /* argv[0] is the file to run */
    const char *log_path;    /* standard output and error are appended here */
    int ready_write_fd;      /* kept open in the child under this number, or -1 */
};
/* Start a process in a session of its own. Returns its pid or -errno. */
must_check int process_spawn(const struct process_spawn *spawn);

/* execv(3). Returns -errno if the program cannot be run. */
int process_exec(const char *path, const char *const *argv);

/* A pipe by which a starting process says "ready" or how it failed. */
struct process_ready {
    int read_fd;
    int write_fd;
};
must_check int process_ready_open(struct process_ready *ret_ready);
/* For the parent, after spawning: drops the write end and waits. text: what the process said;
 * "ok": it is ready. False: it ended, or timeout_ms passed, without a word. Closes the pipe. */
bool process_ready_wait(struct process_ready *ready, uint64_t timeout_ms, char *text,
                        size_t text_bytes);
/* For the child: the pipe that option --ready-fd names, or -1 if there is no pipe of that number
 * (any more). */
int process_ready_fd(const char *text);
/* For the child: say it and close. fd -1 is fine. */
void process_ready_say(int fd, const char *text);

/* The directory of the running program, where its sister programs are. 0 or -errno. */
must_check int process_program_dir(char *path, size_t bytes);
/* How the user calls the running program: "claudefs" if that is found in PATH, else its path. Lives
 * as long as the program. */
const char *process_program_name(void);
uint64_t process_now_ms(void);
void process_sleep_ms(uint64_t ms);

#endif
