/* SPDX-License-Identifier: MIT */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

no_return void assert_fail(const char *expression, const char *file, int line, const char *function)
{
    fprintf(stderr,
            "claudefs: assertion failed: %s (%s:%d, %s). This is a bug in ClaudeFS; the process "
            "stops so that it cannot harm data. Please report this line.\n",
            expression, file, line, function);
    abort();
}
