/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_FILES_INTERNAL_H
#define CFS_CMD_FILES_INTERNAL_H

#include "client/client.h"
#include "cmd/files.h"
#include "cmd/session.h"

/* A file command under way, in a fiber, with a client. */
struct file_job {
    const struct command_line *line;
    struct session_seeds seeds;
    struct client *client;
    struct client_cred cred;
    uint32_t groups[META_GROUPS_MAX];
    int (*run)(struct file_job *job); /* returns an exit code */
    int exit_code;
};

/* Connect and run; returns the exit code. */
int file_job_run(const struct command_line *line, int (*run)(struct file_job *job));
/* The same for each argument by itself; the exit code is that of the first failure. */
int file_job_each(struct file_job *job, int (*each)(struct file_job *job, const char *path));

/* The path of "cfs:/path"; NULL for a local path. */
const char *file_remote(const char *argument);
/* The same where a local path is a mistake: NULL after a report. */
const char *file_require_remote(const char *argument);
/* "DIR/NAME" with one slash. */
const char *file_join(const char *dir, const char *name);
/* The last component; "" for the root. */
const char *file_base(const char *path);
/* Report a failed operation: "cannot VERB PATH", and return its exit code. */
int file_failed(const char *verb, const char *path, int result);

/* All entries of a directory: names are sorted, memory belongs to the list. */
struct file_names {
    char **names;
    uint32_t count;
    uint32_t room;
};
may_yield must_check int file_list(struct file_job *job, uint64_t dir, struct file_names *ret_list);
void file_names_add(struct file_names *list, const char *name, size_t bytes);
void file_names_sort(struct file_names *list);
void file_names_fini(struct file_names *list);

#endif
