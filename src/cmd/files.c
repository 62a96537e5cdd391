/* SPDX-License-Identifier: MIT */
/* What the file commands share: paths, the connected client, lists of names. */
#include "cmd/files_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/errors.h"
#include "base/mem.h"
#include "cmd/report.h"

#define CONNECT_TIMEOUT_NS (5 * NS_PER_S)

static int job_fiber(void *context)
{
    struct file_job *job = context;
    const struct client_options options = {.io_timeout_ns = 0};
    int result =
        session_client(&job->seeds, "claudefs", CONNECT_TIMEOUT_NS, &options, &job->client);
    if (result < 0)
        return result;
    job->exit_code = job->run(job);
    client_flush_all(job->client);
    return 0;
}

int file_job_run(const struct command_line *line, int (*run)(struct file_job *job))
{
    struct file_job job = {.line = line, .run = run};
    int exit_code = session_find_seeds(line, &job.seeds);
    if (exit_code != EX_OK)
        return exit_code;
    gid_t groups[META_GROUPS_MAX];
    int count = getgroups(META_GROUPS_MAX, groups);
    for (int i = 0; i < count; i++)
        job.groups[i] = groups[i];
    job.cred = (struct client_cred){.uid = geteuid(),
                                    .gid = getegid(),
                                    .groups = job.groups,
                                    .group_count = count > 0 ? (uint32_t)count : 0};
    int result = session_run("files", job_fiber, &job);
    if (result < 0)
        return report_error(
            EX_UNAVAILABLE,
            &(struct report){.what = "cannot reach the cluster",
                             .where = job.seeds.text,
                             .why = error_text(result),
                             .effect = "nothing was done",
                             .fix = "is it running? claudefs status, claudefs demo up"});
    return job.exit_code;
}

int file_job_each(struct file_job *job, int (*each)(struct file_job *job, const char *path))
{
    int exit_code = EX_OK;
    for (int i = 0; i < job->line->count; i++) {
        const char *path = file_require_remote(job->line->arguments[i]);
        int result = path ? each(job, path) : EX_USAGE;
        if (exit_code == EX_OK)
            exit_code = result;
    }
    return exit_code;
}

const char *file_remote(const char *argument)
{
    if (strncmp(argument, "cfs:", 4) != 0)
        return NULL;
    return argument[4] == '/' ? argument + 4 : report_text("/%s", argument + 4);
}

const char *file_require_remote(const char *argument)
{
    const char *path = file_remote(argument);
    if (!path)
        (void)report_error(EX_USAGE, /* the caller says so by NULL */
                           &(struct report){.what = report_text("not in the cluster: %s", argument),
                                            .fix = "write cfs:/path"});
    return path;
}

const char *file_join(const char *dir, const char *name)
{
    size_t bytes = strlen(dir);
    return report_text("%s%s%s", dir, bytes > 0 && dir[bytes - 1] == '/' ? "" : "/", name);
}

const char *file_base(const char *path)
{
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    return report_text("%.*s", (int)(end - begin), path + begin);
}

int file_failed(const char *verb, const char *path, int result)
{
    return report_error(report_exit_code(result),
                        &(struct report){.what = report_text("cannot %s %s", verb, path),
                                         .why = error_text(result)});
}

void file_names_add(struct file_names *list, const char *name, size_t bytes)
{
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 64;
        list->names = mem_realloc(list->names, list->room * sizeof list->names[0]);
    }
    char *copy = mem_alloc(bytes + 1);
    memcpy(copy, name, bytes);
    copy[bytes] = '\0';
    list->names[list->count++] = copy;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void file_names_sort(struct file_names *list)
{
    if (list->count > 1)
        qsort(list->names, list->count, sizeof list->names[0], compare_names);
}

void file_names_fini(struct file_names *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        mem_free(list->names[i]);
    mem_free(list->names);
}

int file_list(struct file_job *job, uint64_t dir, struct file_names *ret_list)
{
    struct file_names list = {0};
    uint64_t cookie = 0;
    bool eof = false;
    int result = 0;
    while (!eof && result >= 0) {
        struct client_dir_page page;
        struct client_dirent entry;
        const struct client_readdir what = {.dir = dir, .cookie = cookie, .bytes = 64 << 10};
        result = client_readdir(job->client, &job->cred, &what, &page);
        if (result < 0)
            break;
        while ((result = client_dir_next(&page, &entry)) == 1)
            file_names_add(&list, entry.name.data, entry.name.bytes);
        eof = page.eof || page.cookie == cookie;
        cookie = page.cookie;
        client_dir_page_fini(&page);
    }
    if (result < 0) {
        file_names_fini(&list);
        return result;
    }
    file_names_sort(&list);
    *ret_list = list;
    return 0;
}
