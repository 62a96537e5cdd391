/* SPDX-License-Identifier: MIT */
/* claudefs device check, dump: one device, offline, read only. */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/errors.h"
#include "cmd/device.h"
#include "cmd/report.h"
#include "cmd/session.h"
#include "node/device.h"
#include "node/node.h"

enum { EXIT_CLEAN = 0, EXIT_PROBLEMS = 1, EXIT_CANNOT = 2, TOLD_MAX = 100 };

struct look {
    struct node_device_options options;
    struct node_device_counts counts;
    uint64_t findings;
    bool dump;
};

static void on_finding(void *context, const char *what, const char *where)
{
    struct look *look = context;
    if (look->findings++ < TOLD_MAX)
        printf("problem: %s\n  where   %s\n", what, where);
}

static void on_line(void *context, const char *text)
{
    (void)context;
    puts(text);
}

static int look_fiber(void *context)
{
    struct look *look = context;
    return look->dump ? node_device_dump(&look->options, on_line, look)
                      : node_device_check(&look->options, on_finding, look, &look->counts);
}

static int cannot(const char *path, int result)
{
    return report_error(
        EXIT_CANNOT,
        &(struct report){.what = "cannot look at it",
                         .where = path,
                         .why = result == -EBUSY ? "a node is running on it" : error_text(result),
                         .effect = "it was not changed",
                         .fix = result == -EBUSY ? "stop the node first" : NULL});
}

static bool begin(const struct command_line *line, const char *path, struct look *look)
{
    uint64_t memory_bytes = NODE_MEMORY_DEFAULT;
    *look = (struct look){.options.path = path};
    if (!command_size(line, "memory", NODE_MEMORY_MIN, UINT64_MAX >> 8, &memory_bytes))
        return false;
    look->options.memory_bytes = memory_bytes;
    return true;
}

int command_device_check(const struct command_line *line)
{
    int exit_code = EXIT_CLEAN;
    for (int i = 0; i < line->count; i++) {
        struct look look;
        const char *path = line->arguments[i];
        if (!begin(line, path, &look))
            return EX_USAGE;
        look.options.no_data = command_flag(line, "no-data");
        int result = session_run("device-check", look_fiber, &look);
        if (result < 0 && (result != -ERR_CORRUPT_DISK || look.findings == 0)) {
            exit_code = cannot(path, result);
            continue;
        }
        printf("%s: %llu problems; %llu extents, %s of data compared\n", path,
               (unsigned long long)look.findings, (unsigned long long)look.counts.extents,
               report_bytes(look.counts.data_bytes));
        if (look.findings > 0 && exit_code == EXIT_CLEAN)
            exit_code = EXIT_PROBLEMS;
    }
    return exit_code;
}

int command_device_dump(const struct command_line *line)
{
    struct look look;
    const char *path = line->arguments[0];
    if (!begin(line, path, &look))
        return EX_USAGE;
    look.dump = true;
    look.options.rows = command_flag(line, "rows");
    int result = session_run("device-dump", look_fiber, &look);
    return result < 0 ? cannot(path, result) : EXIT_CLEAN;
}
