/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_LOG_H
#define CFS_BASE_LOG_H

/* Log lines: level, event id, key=value text. error: an operator must act. warn: something was
 * wrong and has been handled. info: a state changed. debug: only with CFS_LOG=debug.
 * Machines do not log. */

#include "base/defs.h"

enum log_level {
    LOG_ERROR,
    LOG_WARN,
    LOG_INFO,
    LOG_DEBUG,
};

typedef void (*log_sink_fn)(void *context, enum log_level level, const char *line);

/* Where lines go (default: standard error) and which pass. Thread-local, so that each reactor, or
 * the simulator with its virtual time, has its own. */
void log_set_sink(log_sink_fn sink, void *context);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
/* event: lower case, dashes ("group-primary"). The text names objects as key=value. */
void log_write(enum log_level level, const char *event, const char *format, ...) printf_like(3, 4);

#define log_error(event, ...) log_write(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...)  log_write(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...)  log_write(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...)                                                                      \
    do {                                                                                           \
        if (log_enabled(LOG_DEBUG))                                                                \
            log_write(LOG_DEBUG, event, __VA_ARGS__);                                              \
    } while (0)

#endif
