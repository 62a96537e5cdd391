/* SPDX-License-Identifier: MIT */
#include "cmd/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "cmd/report.h"

enum { POLL_INTERVAL_MS = 5 };

/* State letter and start time of a pid from /proc/PID/stat. False: no such process. */
static bool read_stat(int pid, char *ret_state, uint64_t *ret_start_ticks)
{
    char path[64];
    char text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[bytes] = '\0';
    const char *rest = strrchr(text, ')'); /* the command's name may hold anything */
    if (!rest || rest[1] == '\0' || rest[2] == '\0')
        return false;
    *ret_state = rest[2];
    rest += 2;
    for (int field = 3; field < 22; field++) { /* starttime is field 22 */
        rest = strchr(rest, ' ');
        if (!rest)
            return false;
        rest++;
    }
    *ret_start_ticks = strtoull(rest, NULL, 10);
    return true;
}

static void look(struct process *process)
{
    char letter;
    uint64_t start_ticks;
    process->state = PROCESS_GONE;
    if (process->pid <= 0 || !read_stat(process->pid, &letter, &start_ticks))
        return;
    if (start_ticks != process->start_ticks || letter == 'Z' || letter == 'X')
        return;
    process->state = letter == 'T' || letter == 't' ? PROCESS_STOPPED : PROCESS_RUNNING;
}

void process_read(const char *pid_path, struct process *ret_process)
{
    *ret_process = (struct process){0};
    FILE *file = fopen(pid_path, "re");
    if (!file)
        return;
    char text[64] = "";
    if (fgets(text, sizeof text, file)) {
        char *end;
        ret_process->pid = (int)strtol(text, &end, 10);
        ret_process->start_ticks = strtoull(end, NULL, 10);
    }
    fclose(file);
    look(ret_process);
}

int process_write(const char *pid_path, int pid)
{
    char letter;
    uint64_t start_ticks;
    if (!read_stat(pid, &letter, &start_ticks))
        return -ESRCH;
    FILE *file = fopen(pid_path, "we");
    if (!file)
        return -errno;
    fprintf(file, "%d %llu\n", pid, (unsigned long long)start_ticks);
    return fclose(file) == 0 ? 0 : -errno;
}

int process_signal(const struct process *process, int signal_number)
{
    struct process now = *process;
    look(&now);
    if (now.state == PROCESS_GONE)
        return -ESRCH;
    return kill(now.pid, signal_number) == 0 ? 0 : -errno;
}

bool process_wait_gone(const struct process *process, uint64_t timeout_ms)
{
    struct process now = *process;
    uint64_t deadline_ms = process_now_ms() + timeout_ms;
    for (;;) {
        look(&now);
        if (now.state == PROCESS_GONE)
            return true;
        if (process_now_ms() >= deadline_ms)
            return false;
        process_sleep_ms(POLL_INTERVAL_MS);
    }
}

int process_exec(const char *path, const char *const *argv)
{
    const union {
        const char *const *ours;
        char *const *theirs; /* execv changes nothing, its type is older than const */
    } words = {.ours = argv};
    execv(path, words.theirs);
    return -errno;
}

static no_return void become(const struct process_spawn *spawn)
{
    setsid();
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int log_fd = open(spawn->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (null_fd < 0 || log_fd < 0)
        _exit(126);
    dup2(null_fd, STDIN_FILENO);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    if (spawn->ready_write_fd >= 0)
        fcntl(spawn->ready_write_fd, F_SETFD, 0);
    int result = process_exec(spawn->argv[0], spawn->argv);
    fprintf(stderr, "claudefs: cannot run %s: %s\n", spawn->argv[0], strerror(-result));
    _exit(127);
}

int process_spawn(const struct process_spawn *spawn)
{
    fflush(NULL);
    int pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        become(spawn);
    return pid;
}

int process_ready_open(struct process_ready *ret_ready)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    *ret_ready = (struct process_ready){fds[0], fds[1]};
    return 0;
}

bool process_ready_wait(struct process_ready *ready, uint64_t timeout_ms, char *text,
                        size_t text_bytes)
{
    assert(text_bytes > 1);
    size_t used = 0;
    uint64_t deadline_ms = process_now_ms() + timeout_ms;
    close(ready->write_fd);
    while (used < text_bytes - 1) {
        uint64_t now_ms = process_now_ms();
        struct pollfd poll_fd = {.fd = ready->read_fd, .events = POLLIN};
        if (now_ms >= deadline_ms || poll(&poll_fd, 1, (int)(deadline_ms - now_ms)) <= 0)
            break;
        ssize_t got = read(ready->read_fd, text + used, text_bytes - 1 - used);
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    close(ready->read_fd);
    text[used] = '\0';
    return used > 0;
}

/* Anything but a pipe under that number is not ours to write to: a server that starts anew in the
 * same process has lost the pipe, and may have its disk there. */
int process_ready_fd(const char *text)
{
    struct stat status;
    int fd = text ? (int)strtol(text, NULL, 10) : -1;
    if (fd <= STDERR_FILENO || fstat(fd, &status) < 0 || !S_ISFIFO(status.st_mode))
        return -1;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

void process_ready_say(int fd, const char *text)
{
    if (fd < 0)
        return;
    (void)!write(fd, text, strlen(text)); /* a parent that has gone does not mind */
    close(fd);
}

int process_program_dir(char *path, size_t bytes)
{
    ssize_t length = readlink("/proc/self/exe", path, bytes - 1);
    if (length < 0)
        return -errno;
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    assert(slash);
    *slash = '\0';
    return 0;
}

const char *process_program_name(void)
{
    char dir[PATH_MAX];
    char here[PATH_MAX];
    if (process_program_dir(dir, sizeof dir) < 0)
        return "claudefs";
    size_t bytes = strlen(dir);
    for (const char *path = getenv("PATH"); path && *path;) {
        size_t part = strcspn(path, ":");
        if (part == bytes && strncmp(path, dir, part) == 0)
            return "claudefs";
        path += part + (path[part] == ':');
    }
    bytes = getcwd(here, sizeof here) ? strlen(here) : 0;
    if (bytes > 1 && strncmp(dir, here, bytes) == 0 && dir[bytes] == '/')
        return report_text("%s/claudefs", dir + bytes + 1);
    return report_text("%s/claudefs", dir);
}

uint64_t process_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void process_sleep_ms(uint64_t ms)
{
    struct timespec duration = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    nanosleep(&duration, NULL);
}
