/* SPDX-License-Identifier: MIT */
#include "cmd/program_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

static void log_line(void *context, enum log_level level, const char *line)
{
    struct timespec now;
    struct tm utc;
    char text[32];
    (void)context;
    (void)level;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    fprintf(stderr, "%s.%03ldZ %s\n", text, now.tv_nsec / 1000000, line);
}

void program_log_start(void)
{
    const char *level = getenv("CFS_LOG");
    log_set_sink(log_line, NULL);
    log_set_level(level && strcmp(level, "debug") == 0 ? LOG_DEBUG : LOG_INFO);
}
