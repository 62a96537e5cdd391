/* SPDX-License-Identifier: MIT */
/* Mounting: mount(2) for root, fusermount3 for others; and the way back. */
#include "front/fuse/fuse_internal.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"

#define FUSE_DEVICE "/dev/fuse"
#define HELPER      "fusermount3"

enum { OPTIONS_BYTES = 512 };

static const char *source_of(const struct fuse_options *options)
{
    return options->source ? options->source : "claudefs";
}

static int device_open(void)
{
    int fd = open(FUSE_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        return fd;
    int error = -errno;
    log_error("fuse-device",
              "path=%s error=%s hint=\"modprobe fuse; in a container, pass the device in\"",
              FUSE_DEVICE, error_name(error));
    return error == -ENOENT ? -ENODEV : error;
}

static int mount_directly(const struct fuse_options *options, int *ret_fd)
{
    char text[OPTIONS_BYTES];
    int fd = device_open();
    if (fd < 0)
        return fd;
    int bytes =
        snprintf(text, sizeof text,
                 "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s,"
                 "max_read=%d",
                 fd, getuid(), getgid(), options->private ? "" : ",allow_other", FUSE_IO_MAX);
    assert(bytes > 0 && (size_t)bytes < sizeof text);
    unsigned long flags = MS_NODEV | MS_NOSUID | (options->read_only ? MS_RDONLY : 0);
    if (mount(source_of(options), options->mountpoint, "fuse.claudefs", flags, text) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

/* The descriptor that the helper sends over its socket. */
static int receive_fd(int socket)
{
    char byte;
    struct iovec part = {&byte, 1};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    ssize_t count;
    do {
        count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (count < 0 && errno == EINTR);
    if (count <= 0)
        return -EIO;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (!head || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof(int)))
        return -EIO;
    int fd;
    memcpy(&fd, CMSG_DATA(head), sizeof fd);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

static int run_helper(char *const arguments[], char *const environment[], pid_t *ret_pid)
{
    int error = posix_spawnp(ret_pid, HELPER, NULL, NULL, arguments, environment);
    if (error)
        log_error("fuse-mount",
                  "helper=" HELPER " error=%s hint=\"install fuse3, or mount as root\"",
                  error_name(-error));
    return -error;
}

static int mount_by_helper(const struct fuse_options *options, bool private, int *ret_fd)
{
    int sockets[2];
    char text[OPTIONS_BYTES], channel[32];
    pid_t pid;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) < 0)
        return -errno;
    if (fcntl(sockets[0], F_SETFD, FD_CLOEXEC) < 0) {
        int error = -errno;
        close(sockets[0]);
        close(sockets[1]);
        return error;
    }
    int bytes =
        snprintf(text, sizeof text,
                 "fsname=%s,subtype=claudefs,default_permissions,max_read=%d,nodev,nosuid%s%s",
                 source_of(options), FUSE_IO_MAX, private ? "" : ",allow_other",
                 options->read_only ? ",ro" : "");
    assert(bytes > 0);
    if ((size_t)bytes >= sizeof text)
        text[sizeof text - 1] = 0; /* the source was too long; the helper tells */
    snprintf(channel, sizeof channel, "_FUSE_COMMFD=%d", sockets[1]);
    char *path = getenv("PATH");
    char path_text[1024];
    snprintf(path_text, sizeof path_text, "PATH=%s", path ? path : "/usr/bin:/bin");
    char helper[] = HELPER, option[] = "-o", separator[] = "--";
    char mountpoint[4096];
    snprintf(mountpoint, sizeof mountpoint, "%s", options->mountpoint);
    char *arguments[] = {helper, option, text, separator, mountpoint, NULL};
    char *environment[] = {channel, path_text, NULL};
    int result = run_helper(arguments, environment, &pid);
    close(sockets[1]);
    if (result == 0) {
        result = receive_fd(sockets[0]);
        int status;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    close(sockets[0]);
    if (result < 0)
        return result;
    *ret_fd = result;
    return 0;
}

int fuse_mount(const struct fuse_options *options, int *ret_fd)
{
    bool direct = geteuid() == 0;
    int result = direct ? mount_directly(options, ret_fd)
                        : mount_by_helper(options, options->private, ret_fd);
    if (result < 0 && !direct && !options->private) {
        result = mount_by_helper(options, true, ret_fd);
        if (result == 0)
            log_warn("fuse-mount",
                     "mountpoint=%s effect=\"only this user may look into it\" "
                     "hint=\"user_allow_other in /etc/fuse.conf\"",
                     options->mountpoint);
    }
    if (result < 0)
        log_error("fuse-mount", "mountpoint=%s by=%s error=%s effect=\"not mounted\"",
                  options->mountpoint, direct ? "mount" : HELPER, error_name(result));
    return result;
}

/* The mount's device number as text. By the mount table: a stat would ask ourselves. */
static int device_number(const char *mountpoint, char text[32])
{
    char line[8192], number[32], place[4096];
    int result = -ENOENT;
    FILE *table = fopen("/proc/self/mountinfo", "re");
    if (!table)
        return -errno;
    while (fgets(line, sizeof line, table)) { /* the last one lies on top */
        if (sscanf(line, "%*u %*u %31s %*s %4095s", number, place) == 2 &&
            strcmp(place, mountpoint) == 0) {
            memcpy(text, number, sizeof number);
            result = 0;
        }
    }
    fclose(table);
    return result;
}

int fuse_readahead_set(const char *mountpoint)
{
    char number[32], path[96], value[16];
    int result = device_number(mountpoint, number);
    if (result < 0)
        return result;
    snprintf(path, sizeof path, "/sys/class/bdi/%s/read_ahead_kb", number);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int bytes = snprintf(value, sizeof value, "%d", FUSE_IO_MAX / 1024);
    ssize_t count = write(fd, value, (size_t)bytes);
    result = count < 0 ? -errno : 0;
    close(fd);
    return result;
}

int fuse_device_clone(int fd)
{
    int clone = open(FUSE_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (clone < 0)
        return -errno;
    uint32_t source = (uint32_t)fd;
    if (ioctl(clone, FUSE_DEV_IOC_CLONE, &source) < 0) {
        int error = -errno;
        close(clone);
        return error;
    }
    return clone;
}

int fuse_front_unmount(const char *mountpoint)
{
    if (geteuid() == 0) /* detaching looks at nothing that we would have to serve meanwhile */
        return umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
    char path_text[] = "PATH=/usr/local/bin:/usr/bin:/bin";
    char helper[] = HELPER, options[] = "-uz", separator[] = "--";
    char place[4096];
    snprintf(place, sizeof place, "%s", mountpoint);
    char *arguments[] = {helper, options, separator, place, NULL};
    char *environment[] = {path_text, NULL};
    pid_t pid;
    return run_helper(arguments, environment, &pid); /* reaped with the process */
}
