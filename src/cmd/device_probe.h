/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_DEVICE_PROBE_H
#define CFS_CMD_DEVICE_PROBE_H

/* What is on a device, and who uses it: looked at without writing. */

#include "base/defs.h"
#include "env/env.h"
#include "store/store.h"

enum { PROBE_TEXT_MAX = 160 };

struct device_probe {
    int result; /* of opening it; the rest is known only if 0 */
    struct disk_info info;
    bool ours; /* a ClaudeFS store, as identity says */
    struct store_identity identity;
    char signature[PROBE_TEXT_MAX]; /* "ext4 file system", "partition table (gpt)"; "": unknown */
    char user[PROBE_TEXT_MAX];      /* "mounted at /", "in use by ..."; "": nobody */
    bool empty;                     /* its first MiB is zeroes */
};

/* Look at a device or file. path exists or not: see result. */
may_yield void device_probe(const char *path, struct device_probe *ret_probe);
/* The same from outside any fiber. */
void device_probe_now(const char *path, struct device_probe *ret_probe);
/* Is it a device of zones? They are not shared out among reactors. */
bool device_is_zoned(const char *path);
/* Would a format destroy something? EX_OK, or an exit code after a report that says what is there
 * and how to force. force: only a device in use is refused. A path that does not exist is fine. */
must_check int device_refuse(const char *path, bool force);

#endif
