/* SPDX-License-Identifier: MIT */
/* claudefs mv, rm, mkdir. */
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "base/mem.h"
#include "cmd/files_internal.h"
#include "cmd/report.h"

/* Depth of directories that rm -r and cp -r follow: paths are bounded by PATH_MAX anyway. */
enum { DEPTH_MAX = 2048 };

/* ---- mv ------------------------------------------------------------------------------------- */

static int move_one(struct file_job *job, const char *source, const char *target)
{
    struct client_place from;
    struct client_place to;
    int result = client_walk_parent(job->client, &job->cred, source, &from.dir, &from.name);
    if (result == 0)
        result = client_walk_parent(job->client, &job->cred, target, &to.dir, &to.name);
    if (result == 0)
        result = client_rename(job->client, &job->cred, &from, &to, 0);
    return result < 0 ? file_failed("rename", report_text("%s to %s", source, target), result)
                      : EX_OK;
}

static int run_mv(struct file_job *job)
{
    int last = job->line->count - 1;
    const char *target = file_require_remote(job->line->arguments[last]);
    struct wire_attr attr;
    if (!target)
        return EX_USAGE;
    bool into =
        client_walk(job->client, &job->cred, target, true, &attr) == 0 && S_ISDIR(attr.mode);
    if (last > 1 && !into)
        return file_failed("rename into", target, -ENOTDIR);
    int exit_code = EX_OK;
    for (int i = 0; i < last; i++) {
        const char *source = file_require_remote(job->line->arguments[i]);
        if (!source)
            return EX_USAGE;
        int moved = move_one(job, source, into ? file_join(target, file_base(source)) : target);
        exit_code = exit_code == EX_OK ? moved : exit_code;
    }
    return exit_code;
}

int command_mv(const struct command_line *line)
{
    return file_job_run(line, run_mv);
}

/* ---- rm ------------------------------------------------------------------------------------- */

/* One directory of the way down to what is being removed. */
struct rm_level {
    uint64_t parent;
    uint64_t ino;
    const char *path;
    const char *name;
    struct file_names list;
    uint32_t next;
};

static int rm_entry(struct file_job *job, uint64_t dir, const char *name, bool *ret_is_dir,
                    struct wire_attr *ret_attr)
{
    struct slice slice = slice_of(name, strlen(name));
    int result = client_lookup(job->client, &job->cred, dir, slice, ret_attr);
    if (result < 0)
        return result;
    *ret_is_dir = S_ISDIR(ret_attr->mode);
    return *ret_is_dir ? 0 : client_unlink(job->client, &job->cred, dir, slice);
}

/* Depth first with an own stack. The first failure is reported and ends it. */
static int rm_tree(struct file_job *job, uint64_t parent, const char *name, const char *path,
                   uint64_t ino)
{
    struct rm_level *levels = mem_zalloc(DEPTH_MAX * sizeof *levels);
    uint32_t depth = 1;
    levels[0] = (struct rm_level){.parent = parent, .ino = ino, .path = path, .name = name};
    int result = file_list(job, ino, &levels[0].list);
    while (result == 0 && depth > 0) {
        struct rm_level *level = &levels[depth - 1];
        struct wire_attr attr;
        bool is_dir = false;
        path = level->path;
        if (level->next == level->list.count) {
            result = client_rmdir(job->client, &job->cred, level->parent,
                                  slice_of(level->name, strlen(level->name)));
            file_names_fini(&level->list);
            depth--;
            continue;
        }
        const char *child = level->list.names[level->next++];
        result = rm_entry(job, level->ino, child, &is_dir, &attr);
        path = file_join(level->path, child);
        if (result == 0 && is_dir) {
            result = depth == DEPTH_MAX ? -ENAMETOOLONG : 0;
            if (result == 0) {
                levels[depth] = (struct rm_level){
                    .parent = level->ino, .ino = attr.ino, .path = path, .name = child};
                result = file_list(job, attr.ino, &levels[depth].list);
                depth += result == 0;
            }
        }
    }
    while (depth > 0)
        file_names_fini(&levels[--depth].list);
    mem_free(levels);
    return result < 0 ? file_failed("remove", path, result) : EX_OK;
}

static int rm_one(struct file_job *job, const char *path)
{
    uint64_t dir;
    struct slice slice;
    struct wire_attr attr;
    bool is_dir;
    int result = client_walk_parent(job->client, &job->cred, path, &dir, &slice);
    if (result < 0)
        return file_failed("remove", path, result);
    const char *name = report_text("%.*s", (int)slice.bytes, (const char *)slice.data);
    result = rm_entry(job, dir, name, &is_dir, &attr);
    if (result == 0 && is_dir && !command_flag(job->line, "recursive"))
        return report_error(
            EX_USAGE, &(struct report){.what = report_text("cannot remove %s", path),
                                       .why = "it is a directory",
                                       .fix = "rm -r removes directories with all they hold"});
    if (result < 0)
        return file_failed("remove", path, result);
    return is_dir ? rm_tree(job, dir, name, path, attr.ino) : EX_OK;
}

static int run_rm(struct file_job *job)
{
    return file_job_each(job, rm_one);
}

int command_rm(const struct command_line *line)
{
    return file_job_run(line, run_rm);
}

/* ---- mkdir ---------------------------------------------------------------------------------- */

static int make_dir(struct file_job *job, const char *path)
{
    struct client_place place;
    struct wire_attr attr;
    int result = client_walk_parent(job->client, &job->cred, path, &place.dir, &place.name);
    if (result < 0)
        return result;
    return client_mknod(job->client, &job->cred, &place, S_IFDIR | 0755, 0, &attr);
}

static int mkdir_one(struct file_job *job, const char *path)
{
    struct wire_attr attr;
    int result = 0;
    bool parents = command_flag(job->line, "parents");
    for (size_t end = 1; parents && path[end]; end++) {
        if (path[end] != '/' || path[end - 1] == '/')
            continue;
        result = make_dir(job, report_text("%.*s", (int)end, path));
        if (result < 0 && result != -EEXIST)
            return file_failed("make", report_text("%.*s", (int)end, path), result);
    }
    result = make_dir(job, path);
    if (result == -EEXIST && parents &&
        client_walk(job->client, &job->cred, path, true, &attr) == 0 && S_ISDIR(attr.mode))
        result = 0;
    return result < 0 ? file_failed("make", path, result) : EX_OK;
}

static int run_mkdir(struct file_job *job)
{
    return file_job_each(job, mkdir_one);
}

int command_mkdir(const struct command_line *line)
{
    return file_job_run(line, run_mkdir);
}
