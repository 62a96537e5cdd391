/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_REPORT_H
#define CFS_CMD_REPORT_H

/* Texts for people: errors in one shape, sizes, durations. */

#include "base/defs.h"

/* What went wrong, where, why, what follows from it, what to do. Fields may be NULL. */
struct report {
    const char *what;
    const char *where;
    const char *why;
    const char *effect;
    const char *fix;
};

/* Print to standard error and return exit_code (sysexits.h), so that it can end a function. */
int report_error(int exit_code, const struct report *report);
/* The exit code of sysexits.h that fits a result (negative errno or -ERR_*). */
int report_exit_code(int result);

/* A formatted text that lives as long as the program. */
const char *report_text(const char *format, ...) printf_like(1, 2);
/* "1.5 GiB", "312 B", in a text that lives as long as the program. */
const char *report_bytes(uint64_t bytes);
/* "12d 3h", "4m12s", "0.3 s". */
const char *report_duration(uint64_t ms);

#endif
