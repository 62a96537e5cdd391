/* SPDX-License-Identifier: MIT */
#ifndef CFS_BASE_ERRORS_H
#define CFS_BASE_ERRORS_H

/* Results are int: 0 or positive for success, negative for failure. The magnitude is an errno
 * value or one of the ERR_* below. Only front/ turns them into errno, only env/ makes them from
 * errno; the wire carries our numbers. */

#include <errno.h>
#include "base/defs.h"

enum error_code {
#define X(name, number, posix, retry, text) name = number,
#include "base/errors_table.h"
#undef X
};

enum retry_class {
    RETRY_NEVER,
    RETRY_LATER,
    RETRY_REMAP,
};

/* The errno (positive) that a POSIX caller sees for a negative result. */
int error_to_errno(int error);
/* The symbolic name ("ENOENT", "ERR_NOT_PRIMARY") and a sentence part for people. Static. */
const char *error_name(int error);
const char *error_text(int error);
/* What to do after this failure. Plain errno values are RETRY_NEVER. */
enum retry_class error_retry_class(int error);

#endif
