/* SPDX-License-Identifier: MIT */
#include "cmd/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <sysexits.h>

#include "base/errors.h"
#include "base/mem.h"

int report_error(int exit_code, const struct report *report)
{
    const struct {
        const char *name;
        const char *text;
    } rows[] = {
        {"where", report->where},
        {"why", report->why},
        {"effect", report->effect},
        {"fix", report->fix},
    };
    fflush(stdout);
    fprintf(stderr, "claudefs: %s\n", report->what);
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (rows[i].text)
            fprintf(stderr, "  %-7s %s\n", rows[i].name, rows[i].text);
    }
    return exit_code;
}

int report_exit_code(int result)
{
    switch (error_to_errno(result)) {
    case 0:
        return EX_OK;
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
        return EX_NOINPUT;
    case EACCES:
    case EPERM:
        return EX_NOPERM;
    case EEXIST:
    case ENOSPC:
    case ENOTEMPTY:
        return EX_CANTCREAT;
    case EAGAIN:
        return EX_TEMPFAIL;
    case EINVAL:
        return EX_USAGE;
    default:
        return EX_IOERR;
    }
}

const char *report_text(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    char probe[1];
    int bytes = vsnprintf(probe, sizeof probe, format, args); /* only measures */
    va_end(args);
    char *text = mem_alloc((size_t)bytes + 1);
    (void)vsnprintf(text, (size_t)bytes + 1, format, again); /* measured above */
    va_end(again);
    return text;
}

const char *report_bytes(uint64_t bytes)
{
    static const char units[][4] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < ARRAY_COUNT(units)) {
        value /= 1024;
        unit++;
    }
    return report_text(unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

const char *report_duration(uint64_t ms)
{
    uint64_t seconds = ms / 1000;
    if (seconds >= 86400)
        return report_text("%llud %lluh", (unsigned long long)(seconds / 86400),
                           (unsigned long long)(seconds % 86400 / 3600));
    if (seconds >= 3600)
        return report_text("%lluh %llum", (unsigned long long)(seconds / 3600),
                           (unsigned long long)(seconds % 3600 / 60));
    if (seconds >= 60)
        return report_text("%llum%llus", (unsigned long long)(seconds / 60),
                           (unsigned long long)(seconds % 60));
    return report_text("%.1f s", (double)ms / 1000);
}
