/* SPDX-License-Identifier: MIT */
#include "cmd/command.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/assert.h"
#include "cmd/report.h"

static const struct command_option no_options[] = {{NULL, 0, NULL, NULL}};

static const struct command_option *rows_of(const struct command *command)
{
    return command->options ? command->options : no_options;
}

static int row_count(const struct command *command)
{
    int count = 0;
    while (rows_of(command)[count].name)
        count++;
    assert(count < COMMAND_OPTIONS_MAX);
    return count;
}

void command_help(const char *program, const struct command *command)
{
    const char *space = command->name[0] ? " " : "";
    printf("usage: %s%s%s %s%s%s\n\n%s.\n", program, space, command->name,
           row_count(command) ? "[OPTIONS]" : "", command->arguments[0] ? " " : "",
           command->arguments, command->summary);
    if (command->detail)
        printf("\n%s\n", command->detail);
    if (row_count(command) > 0)
        printf("\n");
    for (const struct command_option *row = rows_of(command); row->name; row++) {
        char text[64];
        char letter[8] = "    ";
        if (row->letter)
            snprintf(letter, sizeof letter, "-%c, ", row->letter);
        snprintf(text, sizeof text, "%s--%s%s%s", letter, row->name, row->value ? " " : "",
                 row->value ? row->value : "");
        printf("  %-26s %s\n", text, row->help);
    }
    if (command->example)
        printf("\nexample: %s\n", command->example);
}

static int usage_error(const char *program, const struct command *command, const char *what)
{
    const char *space = command->name[0] ? " " : "";
    fprintf(stderr, "%s%s%s: %s\n  fix     see: %s%s%s --help\n", program, space, command->name,
            what, program, space, command->name);
    return EX_USAGE;
}

/* Tables for getopt_long made from our rows: row i answers with 256 + i; --help with 255. */
enum { ANSWER_HELP = 255, ANSWER_FIRST = 256 };

static void make_tables(const struct command *command, struct option *longs, char *shorts)
{
    const struct command_option *rows = rows_of(command);
    int count = row_count(command);
    *shorts++ = ':';
    for (int i = 0; i < count; i++) {
        longs[i] = (struct option){rows[i].name, rows[i].value ? required_argument : no_argument,
                                   NULL, ANSWER_FIRST + i};
        if (rows[i].letter) {
            *shorts++ = rows[i].letter;
            if (rows[i].value)
                *shorts++ = ':';
        }
    }
    longs[count] = (struct option){"help", no_argument, NULL, ANSWER_HELP};
    longs[count + 1] = (struct option){NULL, 0, NULL, 0};
    *shorts = '\0';
}

static int row_of_answer(const struct command *command, int answer)
{
    if (answer >= ANSWER_FIRST)
        return answer - ANSWER_FIRST;
    for (int i = 0; i < row_count(command); i++) {
        if (rows_of(command)[i].letter == answer)
            return i;
    }
    return -1;
}

int command_run(const char *program, const struct command *command, int argc, char **argv)
{
    struct command_line line = {.command = command};
    struct option longs[COMMAND_OPTIONS_MAX + 2];
    char shorts[2 * COMMAND_OPTIONS_MAX + 2];
    make_tables(command, longs, shorts);
    optind = 0;
    opterr = 0;
    int answer;
    while ((answer = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (answer == ANSWER_HELP) {
            command_help(program, command);
            return EX_OK;
        }
        const char *given = argv[optind - 1];
        if (answer == '?')
            return usage_error(program, command, report_text("unknown option '%s'", given));
        if (answer == ':')
            return usage_error(program, command, report_text("option '%s' needs a value", given));
        int row = row_of_answer(command, answer);
        assert(row >= 0);
        line.values[row] = rows_of(command)[row].value ? optarg : "";
    }
    line.count = argc - optind;
    line.arguments = argv + optind;
    if (line.count < command->min_arguments)
        return usage_error(program, command, "an argument is missing");
    if (command->max_arguments >= 0 && line.count > command->max_arguments)
        return usage_error(
            program, command,
            report_text("too many arguments: '%s'", line.arguments[command->max_arguments]));
    return command->run(&line);
}

const char *command_value(const struct command_line *line, const char *name)
{
    const struct command_option *rows = rows_of(line->command);
    for (int i = 0; rows[i].name; i++) {
        if (strcmp(rows[i].name, name) == 0)
            return line->values[i];
    }
    WRONG("option not in the command's table");
}

bool command_flag(const struct command_line *line, const char *name)
{
    return command_value(line, name) != NULL;
}

static bool in_range(const char *name, const char *text, bool valid, uint64_t value, uint64_t min,
                     uint64_t max)
{
    if (valid && value >= min && value <= max)
        return true;
    fprintf(stderr, "claudefs: --%s %s: not a number between %llu and %llu\n", name, text,
            (unsigned long long)min, (unsigned long long)max);
    return false;
}

bool command_number(const struct command_line *line, const char *name, uint64_t min, uint64_t max,
                    uint64_t *ret_value)
{
    const char *text = command_value(line, name);
    if (!text)
        return true;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    bool valid = errno == 0 && end != text && *end == '\0' && text[0] != '-';
    if (!in_range(name, text, valid, value, min, max))
        return false;
    *ret_value = value;
    return true;
}

bool command_size(const struct command_line *line, const char *name, uint64_t min, uint64_t max,
                  uint64_t *ret_bytes)
{
    const char *text = command_value(line, name);
    if (!text)
        return true;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    bool valid = errno == 0 && end != text && text[0] != '-';
    static const char units[] = "KMGT";
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (unit) {
        unsigned shift = 10 * (unsigned)(unit - units + 1);
        valid = valid && value <= UINT64_MAX >> shift;
        value <<= shift;
        end++;
        if (strcmp(end, "iB") == 0)
            end += 2;
    }
    if (!in_range(name, text, valid && *end == '\0', value, min, max))
        return false;
    *ret_bytes = value;
    return true;
}
