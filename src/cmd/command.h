/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_COMMAND_H
#define CFS_CMD_COMMAND_H

/* A program's subcommands as tables: parsing, --help and the check of the man pages derive from
 * the same rows. */

#include "base/defs.h"

struct command_option {
    const char *name;  /* "size" for --size; NULL ends the table */
    char letter;       /* 's' for -s, or 0 */
    const char *value; /* "BYTES"; NULL: a flag */
    const char *help;
};

struct command_line;

struct command {
    const char *name;      /* "demo up" */
    const char *arguments; /* "[DIR]", "" */
    const char *summary;   /* one line */
    const char *detail;    /* paragraphs for --help; may be NULL */
    const char *example;
    const struct command_option *options;
    int min_arguments;
    int max_arguments; /* -1: any number */
    int (*run)(const struct command_line *line);
};

enum { COMMAND_OPTIONS_MAX = 24 };

struct command_line {
    const struct command *command;
    const char *values[COMMAND_OPTIONS_MAX]; /* per row; a flag that is set is "" */
    int count;                               /* of arguments that are not options */
    char **arguments;
};

/* Parse argv (argv[0] is skipped) by the command's table and run it. Returns the exit code.
 * program: "claudefs", for texts. */
int command_run(const char *program, const struct command *command, int argc, char **argv);
void command_help(const char *program, const struct command *command);

/* The value of an option: NULL if it was not given, "" for a flag. */
const char *command_value(const struct command_line *line, const char *name);
bool command_flag(const struct command_line *line, const char *name);
/* A number between min and max, or a size ("8G", "512M", binary units). False after having told
 * the user what is wrong with it. Untouched if the option was not given. */
must_check bool command_number(const struct command_line *line, const char *name, uint64_t min,
                               uint64_t max, uint64_t *ret_value);
must_check bool command_size(const struct command_line *line, const char *name, uint64_t min,
                             uint64_t max, uint64_t *ret_bytes);

#endif
