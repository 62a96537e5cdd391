/* SPDX-License-Identifier: MIT */
/* claudefs cp: between local paths and the cluster, in any direction.
 *
 * A tree is copied breadth first from a list of directories; their modes and times are set at the
 * end, deepest first, because copying into them changes them. */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/mem.h"
#include "cmd/files_internal.h"
#include "cmd/process.h"
#include "cmd/report.h"

enum { COPY_BYTES = 1 << 20, PROGRESS_MS = 200 };

/* A place on either side. */
struct place {
    bool remote;
    const char *path;
};

struct copied_dir {
    struct place from;
    struct place to;
    struct wire_attr attr;
};

struct copy {
    struct file_job *job;
    struct buf *buf;
    struct copied_dir *dirs; /* found so far; those from next on are still to be copied */
    uint32_t dir_count;
    uint32_t dir_room;
    uint32_t next;
    uint64_t files;
    uint64_t bytes;
    uint64_t begin_ms;
    uint64_t shown_ms;
    bool show;
    int exit_code;
};

static void show_progress(struct copy *copy, bool last)
{
    uint64_t now_ms = process_now_ms();
    if (!copy->show || (!last && now_ms - copy->shown_ms < PROGRESS_MS))
        return;
    copy->shown_ms = now_ms;
    uint64_t spent_ms = MAX(now_ms - copy->begin_ms, (uint64_t)1);
    fprintf(stderr, "\r%llu files  %s  %s/s  %s   ", (unsigned long long)copy->files,
            report_bytes(copy->bytes), report_bytes(copy->bytes * 1000 / spent_ms),
            report_duration(spent_ms));
    if (last)
        fputc('\n', stderr);
}

static const char *place_text(const struct place *place)
{
    return report_text("%s%s", place->remote ? "cfs:" : "", place->path);
}

static void failed(struct copy *copy, const char *verb, const struct place *place, int result)
{
    int exit_code = file_failed(verb, place_text(place), result);
    if (copy->exit_code == EX_OK)
        copy->exit_code = exit_code;
}

static struct place inside(const struct place *dir, const char *name)
{
    return (struct place){dir->remote, file_join(dir->path, name)};
}

/* ---- one place ------------------------------------------------------------------------------ */

static int look(struct copy *copy, const struct place *place, bool follow, struct wire_attr *attr)
{
    struct file_job *job = copy->job;
    if (place->remote)
        return client_walk(job->client, &job->cred, place->path, follow, attr);
    struct stat status;
    if ((follow ? stat : lstat)(place->path, &status) < 0)
        return -errno;
    *attr = (struct wire_attr){
        .mode = status.st_mode,
        .size = (uint64_t)status.st_size,
        .rdev = (uint32_t)status.st_rdev,
        .atime_ns = status.st_atim.tv_sec * (int64_t)NS_PER_S + status.st_atim.tv_nsec,
        .mtime_ns = status.st_mtim.tv_sec * (int64_t)NS_PER_S + status.st_mtim.tv_nsec,
    };
    return 0;
}

static int names_of(struct copy *copy, const struct place *dir, struct file_names *ret_list)
{
    struct file_names list = {0};
    struct dirent *entry;
    if (dir->remote) {
        struct wire_attr attr;
        int result = look(copy, dir, true, &attr);
        return result < 0 ? result : file_list(copy->job, attr.ino, ret_list);
    }
    DIR *stream = opendir(dir->path);
    if (!stream)
        return -errno;
    while ((entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            file_names_add(&list, entry->d_name, strlen(entry->d_name));
    }
    closedir(stream);
    file_names_sort(&list);
    *ret_list = list;
    return 0;
}

static int make_remote(struct copy *copy, const char *path, uint32_t mode, const char *target)
{
    struct file_job *job = copy->job;
    struct client_place place;
    struct wire_attr attr;
    int result = client_walk_parent(job->client, &job->cred, path, &place.dir, &place.name);
    if (result < 0)
        return result;
    if (target)
        return client_symlink(job->client, &job->cred, &place, slice_of(target, strlen(target)),
                              &attr);
    return client_mknod(job->client, &job->cred, &place, mode, 0, &attr);
}

/* The directory may exist. */
static int make_dir(struct copy *copy, const struct place *dir)
{
    int result;
    if (dir->remote)
        result = make_remote(copy, dir->path, S_IFDIR | 0700, NULL);
    else
        result = mkdir(dir->path, 0700) < 0 ? -errno : 0;
    return result == -EEXIST ? 0 : result;
}

static int set_attr(struct copy *copy, const struct place *place, const struct wire_attr *attr)
{
    struct file_job *job = copy->job;
    if (place->remote) {
        struct wire_attr now;
        const struct client_setattr set = {
            .valid = META_SET_MODE | META_SET_ATIME | META_SET_MTIME,
            .mode = attr->mode & 07777,
            .atime_ns = attr->atime_ns,
            .mtime_ns = attr->mtime_ns,
        };
        int result = look(copy, place, false, &now);
        return result < 0 ? result : client_setattr(job->client, &job->cred, now.ino, &set, &now);
    }
    const int64_t second = (int64_t)NS_PER_S;
    struct timespec times[2] = {{attr->atime_ns / second, attr->atime_ns % second},
                                {attr->mtime_ns / second, attr->mtime_ns % second}};
    if (chmod(place->path, attr->mode & 07777) < 0 ||
        utimensat(AT_FDCWD, place->path, times, 0) < 0)
        return -errno;
    return 0;
}

/* ---- file content --------------------------------------------------------------------------- */

/* An open file on either side. */
struct stream {
    int fd; /* -1: remote */
    struct client_file *file;
    uint64_t offset;
};

static int open_source(struct copy *copy, const struct place *from, struct stream *ret_stream)
{
    struct stream stream = {.fd = -1};
    struct wire_attr attr;
    int result = 0;
    if (from->remote) {
        result = look(copy, from, true, &attr);
        if (result == 0)
            result = client_open(copy->job->client, &copy->job->cred, attr.ino, &stream.file);
    } else {
        stream.fd = open(from->path, O_RDONLY | O_CLOEXEC);
        result = stream.fd < 0 ? -errno : 0;
    }
    *ret_stream = stream;
    return result;
}

static int open_target(struct copy *copy, const struct place *to, struct stream *ret_stream)
{
    struct file_job *job = copy->job;
    struct stream stream = {.fd = -1};
    struct wire_attr attr;
    struct client_place place;
    int result;
    if (to->remote) {
        result = client_walk_parent(job->client, &job->cred, to->path, &place.dir, &place.name);
        if (result == 0)
            result =
                client_create(job->client, &job->cred, &place, S_IFREG | 0600, false, &stream.file);
        if (result == 0)
            client_file_attr(stream.file, &attr);
        if (result == 0 && attr.size > 0) {
            const struct client_setattr empty = {.valid = META_SET_SIZE};
            result = client_setattr(job->client, &job->cred, attr.ino, &empty, &attr);
            if (result < 0)
                (void)client_release(stream.file); /* the first error counts */
        }
    } else {
        stream.fd = open(to->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        result = stream.fd < 0 ? -errno : 0;
    }
    *ret_stream = stream;
    return result;
}

static int stream_close(struct stream *stream)
{
    if (stream->file)
        return client_release(stream->file);
    return close(stream->fd) < 0 ? -errno : 0;
}

/* Fill the buffer as far as the file goes; its use is 0 at the end. */
static int stream_read(struct stream *stream, struct buf *buf)
{
    if (stream->file) {
        struct client_data data;
        int result = client_read(stream->file, stream->offset, COPY_BYTES, &data);
        if (result < 0)
            return result;
        buf->bytes = data.bytes;
        client_data_copy(&data, buf->data);
        client_data_fini(&data);
    } else {
        ssize_t got = read(stream->fd, buf->data, COPY_BYTES);
        if (got < 0)
            return -errno;
        buf->bytes = (uint32_t)got;
    }
    stream->offset += buf->bytes;
    return 0;
}

static int stream_write(struct stream *stream, struct buf *buf)
{
    if (stream->file) {
        int result =
            client_write(stream->file, stream->offset, (struct buf_slice){buf, 0, buf->bytes});
        stream->offset += buf->bytes;
        return result;
    }
    for (uint32_t done = 0; done < buf->bytes;) {
        ssize_t put = write(stream->fd, buf->data + done, buf->bytes - done);
        if (put < 0)
            return -errno;
        done += (uint32_t)put;
    }
    return 0;
}

static int copy_bytes(struct copy *copy, struct stream *from, struct stream *to)
{
    for (;;) {
        int result = stream_read(from, copy->buf);
        if (result < 0 || copy->buf->bytes == 0)
            return result;
        result = stream_write(to, copy->buf);
        if (result < 0)
            return result;
        copy->bytes += copy->buf->bytes;
        show_progress(copy, false);
    }
}

static void copy_file(struct copy *copy, const struct place *from, const struct place *to,
                      const struct wire_attr *attr)
{
    struct stream source;
    struct stream target;
    int result = open_source(copy, from, &source);
    if (result < 0) {
        failed(copy, "read", from, result);
        return;
    }
    result = open_target(copy, to, &target);
    if (result == 0) {
        result = copy_bytes(copy, &source, &target);
        int closed = stream_close(&target);
        result = result < 0 ? result : closed;
    }
    (void)stream_close(&source); /* only read */
    if (result == 0)
        result = set_attr(copy, to, attr);
    if (result < 0)
        failed(copy, "copy to", to, result);
    else
        copy->files++;
}

/* ---- trees ---------------------------------------------------------------------------------- */

static void copy_link(struct copy *copy, const struct place *from, const struct place *to,
                      const struct wire_attr *attr)
{
    struct file_job *job = copy->job;
    char target[META_SYMLINK_MAX + 1];
    uint32_t bytes = 0;
    int result = 0;
    if (from->remote) {
        result = client_readlink(job->client, &job->cred, attr->ino, target, &bytes);
    } else {
        ssize_t got = readlink(from->path, target, sizeof target - 1);
        result = got < 0 ? -errno : 0;
        bytes = got < 0 ? 0 : (uint32_t)got;
    }
    target[bytes] = '\0';
    if (result == 0 && to->remote)
        result = make_remote(copy, to->path, S_IFLNK, target);
    else if (result == 0)
        result = symlink(target, to->path) < 0 ? -errno : 0;
    if (result < 0)
        failed(copy, "copy", from, result);
    else
        copy->files++;
}

static void copy_entry(struct copy *copy, const struct place *from, const struct place *to,
                       bool follow)
{
    struct wire_attr attr;
    int result = look(copy, from, follow, &attr);
    if (result < 0) {
        failed(copy, "read", from, result);
    } else if (S_ISREG(attr.mode)) {
        copy_file(copy, from, to, &attr);
    } else if (S_ISLNK(attr.mode)) {
        copy_link(copy, from, to, &attr);
    } else if (S_ISDIR(attr.mode) && command_flag(copy->job->line, "recursive")) {
        if (copy->dir_count == copy->dir_room) {
            copy->dir_room = copy->dir_room ? 2 * copy->dir_room : 64;
            copy->dirs = mem_realloc(copy->dirs, copy->dir_room * sizeof copy->dirs[0]);
        }
        copy->dirs[copy->dir_count++] = (struct copied_dir){*from, *to, attr};
    } else {
        failed(copy, S_ISDIR(attr.mode) ? "copy (without -r)" : "copy this kind of file:", from,
               S_ISDIR(attr.mode) ? -EISDIR : -EOPNOTSUPP);
    }
}

static void copy_dirs(struct copy *copy)
{
    for (; copy->next < copy->dir_count; copy->next++) {
        const struct copied_dir dir = copy->dirs[copy->next]; /* the array may move */
        struct file_names list;
        int result = make_dir(copy, &dir.to);
        if (result < 0) {
            failed(copy, "make", &dir.to, result);
            continue;
        }
        result = names_of(copy, &dir.from, &list);
        if (result < 0) {
            failed(copy, "list", &dir.from, result);
            continue;
        }
        for (uint32_t i = 0; i < list.count; i++) {
            const struct place from = inside(&dir.from, list.names[i]);
            const struct place to = inside(&dir.to, list.names[i]);
            copy_entry(copy, &from, &to, false);
            show_progress(copy, false);
        }
        file_names_fini(&list);
    }
    for (uint32_t i = copy->dir_count; i > 0; i--) {
        const struct copied_dir *dir = &copy->dirs[i - 1];
        int result = set_attr(copy, &dir->to, &dir->attr);
        if (result < 0)
            failed(copy, "set mode and times of", &dir->to, result);
    }
}

static struct place place_of(const char *argument)
{
    const char *remote = file_remote(argument);
    return remote ? (struct place){true, remote} : (struct place){false, argument};
}

static int run_cp(struct file_job *job)
{
    int last = job->line->count - 1;
    struct copy copy = {.job = job,
                        .buf = buf_new(COPY_BYTES),
                        .begin_ms = process_now_ms(),
                        .show = isatty(STDERR_FILENO) != 0};
    struct place target = place_of(job->line->arguments[last]);
    struct wire_attr attr;
    bool into = look(&copy, &target, true, &attr) == 0 && S_ISDIR(attr.mode);
    if (last > 1 && !into)
        failed(&copy, "copy into", &target, -ENOTDIR);
    for (int i = 0; i < last && copy.exit_code == EX_OK; i++) {
        struct place from = place_of(job->line->arguments[i]);
        struct place to = into ? inside(&target, file_base(from.path)) : target;
        copy_entry(&copy, &from, &to, true);
        copy_dirs(&copy);
        copy.dir_count = 0;
        copy.next = 0;
    }
    show_progress(&copy, true);
    buf_put(copy.buf);
    mem_free(copy.dirs);
    return copy.exit_code;
}

int command_cp(const struct command_line *line)
{
    return file_job_run(line, run_cp);
}
