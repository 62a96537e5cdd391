/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static void sink_stderr(void *context, enum log_level level, const char *line)
{
    (void)context;
    (void)level;
    fprintf(stderr, "%s\n", line);
}

static _Thread_local log_sink_fn sink = sink_stderr;
static _Thread_local void *sink_context;
static _Thread_local enum log_level level_max = LOG_INFO;

void log_set_sink(log_sink_fn new_sink, void *context)
{
    sink = new_sink;
    sink_context = context;
}

void log_set_level(enum log_level level)
{
    level_max = level;
}

bool log_enabled(enum log_level level)
{
    return level <= level_max;
}

void log_write(enum log_level level, const char *event, const char *format, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if (!log_enabled(level))
        return;
    char line[1024];
    int used = snprintf(line, sizeof line, "%s %s ", names[level], event);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line + used, sizeof line - (size_t)used, format, args); /* cut if too long */
    va_end(args);
    sink(sink_context, level, line);
}
