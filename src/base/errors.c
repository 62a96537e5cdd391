/* SPDX-License-Identifier: MIT */
#include "base/errors.h"

#include <string.h>

struct error_row {
    int number;
    int posix;
    enum retry_class retry;
    const char *name;
    const char *text;
};

static const struct error_row rows[] = {
#define X(name, number, posix, retry, text) {number, posix, RETRY_##retry, #name, text},
#include "base/errors_table.h"
#undef X
};

static const struct error_row *row_find(int error)
{
    int number = error < 0 ? -error : error;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (rows[i].number == number)
            return &rows[i];
    }
    return NULL;
}

int error_to_errno(int error)
{
    const struct error_row *row = row_find(error);
    if (row)
        return row->posix;
    return error < 0 ? -error : error;
}

const char *error_name(int error)
{
    const struct error_row *row = row_find(error);
    if (row)
        return row->name;
    if (error >= 0)
        return "OK";
    const char *name = strerrorname_np(-error);
    return name ? name : "E?";
}

const char *error_text(int error)
{
    const struct error_row *row = row_find(error);
    if (row)
        return row->text;
    const char *text = strerrordesc_np(error < 0 ? -error : error);
    return text ? text : "unknown error";
}

enum retry_class error_retry_class(int error)
{
    const struct error_row *row = row_find(error);
    return row ? row->retry : RETRY_NEVER;
}
