/* SPDX-License-Identifier: MIT */
/* claudefs ls, stat, cat. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cmd/files_internal.h"
#include "cmd/report.h"

enum { CAT_BYTES = 1 << 20 };

static void mode_text(uint32_t mode, char text[11])
{
    static const char bits[] = "rwxrwxrwx";
    static const struct {
        uint32_t type;
        char letter;
    } types[] = {{S_IFDIR, 'd'},  {S_IFLNK, 'l'}, {S_IFIFO, 'p'},
                 {S_IFSOCK, 's'}, {S_IFCHR, 'c'}, {S_IFBLK, 'b'}};
    text[0] = '-';
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        if ((mode & S_IFMT) == types[i].type)
            text[0] = types[i].letter;
    }
    for (int i = 0; i < 9; i++)
        text[1 + i] = (mode & (0400u >> i)) != 0 ? bits[i] : '-';
    if (mode & S_ISUID)
        text[3] = mode & S_IXUSR ? 's' : 'S';
    if (mode & S_ISGID)
        text[6] = mode & S_IXGRP ? 's' : 'S';
    if (mode & S_ISVTX)
        text[9] = mode & S_IXOTH ? 't' : 'T';
    text[10] = '\0';
}

static const char *time_text(int64_t ns)
{
    time_t seconds = (time_t)(ns / (int64_t)NS_PER_S);
    struct tm utc;
    char text[32];
    gmtime_r(&seconds, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return report_text("%s", text);
}

static int print_entry(struct file_job *job, const char *path, const char *name,
                       const struct wire_attr *attr)
{
    char mode[11];
    char target[META_SYMLINK_MAX + 1] = "";
    uint32_t bytes;
    if (!command_flag(job->line, "long")) {
        printf("%s\n", name);
        return EX_OK;
    }
    if (S_ISLNK(attr->mode)) {
        int result = client_readlink(job->client, &job->cred, attr->ino, target, &bytes);
        if (result < 0)
            return file_failed("read link", path, result);
    }
    mode_text(attr->mode, mode);
    printf("%s %3u %5u %5u %12llu %s %s%s%s\n", mode, attr->nlink, attr->uid, attr->gid,
           (unsigned long long)attr->size, time_text(attr->mtime_ns), name, target[0] ? " -> " : "",
           target);
    return EX_OK;
}

static int list_dir(struct file_job *job, const char *path, uint64_t ino)
{
    struct file_names list;
    int exit_code = EX_OK;
    int result = file_list(job, ino, &list);
    if (result < 0)
        return file_failed("list", path, result);
    for (uint32_t i = 0; i < list.count; i++) {
        struct wire_attr attr = {0};
        const char *name = list.names[i];
        if (command_flag(job->line, "long")) {
            result =
                client_lookup(job->client, &job->cred, ino, slice_of(name, strlen(name)), &attr);
            if (result == -ENOENT)
                continue; /* removed since the listing */
            if (result < 0) {
                exit_code = file_failed("look at", file_join(path, name), result);
                continue;
            }
        }
        int shown = print_entry(job, file_join(path, name), name, &attr);
        exit_code = exit_code == EX_OK ? shown : exit_code;
    }
    file_names_fini(&list);
    return exit_code;
}

static int ls_one(struct file_job *job, const char *path)
{
    struct wire_attr attr;
    int result = client_walk(job->client, &job->cred, path, true, &attr);
    if (result < 0)
        return file_failed("list", path, result);
    if (!S_ISDIR(attr.mode))
        return print_entry(job, path, path, &attr);
    if (job->line->count > 1)
        printf("%s:\n", path);
    return list_dir(job, path, attr.ino);
}

static int run_ls(struct file_job *job)
{
    return file_job_each(job, ls_one);
}

int command_ls(const struct command_line *line)
{
    return file_job_run(line, run_ls);
}

static int stat_one(struct file_job *job, const char *path)
{
    struct wire_attr attr;
    char mode[11];
    int result = client_walk(job->client, &job->cred, path, false, &attr);
    if (result < 0)
        return file_failed("look at", path, result);
    mode_text(attr.mode, mode);
    printf("path    %s\nino     %#llx (slot %u)\nmode    %s (%04o)\nlinks   %u\nowner   %u:%u\n"
           "size    %llu%s\nrdev    %u:%u\nmodify  %s\nchange  %s\naccess  %s\nbirth   %s\n",
           path, (unsigned long long)attr.ino, ino_slot(attr.ino), mode, attr.mode & 07777,
           attr.nlink, attr.uid, attr.gid, (unsigned long long)attr.size,
           attr.flags & ATTR_INLINE ? " (inline)" : "", major(attr.rdev), minor(attr.rdev),
           time_text(attr.mtime_ns), time_text(attr.ctime_ns), time_text(attr.atime_ns),
           time_text(attr.btime_ns));
    return EX_OK;
}

static int run_stat(struct file_job *job)
{
    return file_job_each(job, stat_one);
}

int command_stat(const struct command_line *line)
{
    return file_job_run(line, run_stat);
}

static int cat_file(struct client_file *file)
{
    uint64_t offset = 0;
    for (;;) {
        struct client_data data;
        int result = client_read(file, offset, CAT_BYTES, &data);
        if (result < 0)
            return result;
        uint32_t bytes = data.bytes;
        for (uint32_t i = 0; i < data.part_count; i++) {
            const struct buf_slice *part = &data.parts[i];
            if (fwrite(buf_slice_data(part), 1, part->bytes, stdout) != part->bytes)
                result = -EIO;
        }
        client_data_fini(&data);
        if (result < 0 || bytes == 0)
            return result;
        offset += bytes;
    }
}

static int cat_one(struct file_job *job, const char *path)
{
    struct wire_attr attr;
    struct client_file *file;
    int result = client_walk(job->client, &job->cred, path, true, &attr);
    if (result == 0 && S_ISDIR(attr.mode))
        result = -EISDIR;
    if (result == 0)
        result = client_open(job->client, &job->cred, attr.ino, &file);
    if (result < 0)
        return file_failed("read", path, result);
    result = cat_file(file);
    (void)client_release(file); /* only read */
    return result < 0 ? file_failed("read", path, result) : EX_OK;
}

static int run_cat(struct file_job *job)
{
    return file_job_each(job, cat_one);
}

int command_cat(const struct command_line *line)
{
    return file_job_run(line, run_cat);
}
