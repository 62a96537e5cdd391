/* SPDX-License-Identifier: MIT */
#include "cmd/mount_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/report.h"
#include "front/fuse/fuse.h"

enum { CHANNELS_MAX = 16 };

enum kind {
    IGNORED, /* said to mount(8) or systemd, not to us; or the kernel's default anyway */
    READ_ONLY,
    PRIVATE,
    PUBLIC,
    HARD,
    IO_TIMEOUT,
    ATTR_TIMEOUT,
    CHANNELS,
};

static const struct {
    const char *name;
    enum kind kind;
    bool has_value;
} rows[] = {
    {"ro", READ_ONLY, false},
    {"rw", IGNORED, false},
    {"private", PRIVATE, false},
    {"allow_other", PUBLIC, false},
    {"hard", HARD, false},
    {"io_timeout", IO_TIMEOUT, true},
    {"attr_timeout", ATTR_TIMEOUT, true},
    {"channels", CHANNELS, true},
    {"default_permissions", IGNORED, false},
    {"defaults", IGNORED, false},
    {"nofail", IGNORED, false},
    {"_netdev", IGNORED, false},
    {"auto", IGNORED, false},
    {"noauto", IGNORED, false},
    {"user", IGNORED, false},
    {"users", IGNORED, false},
    {"nouser", IGNORED, false},
    {"owner", IGNORED, false},
    {"comment", IGNORED, true},
    {"nodev", IGNORED, false},
    {"nosuid", IGNORED, false},
    {"relatime", IGNORED, false},
    {"noatime", IGNORED, false},
};

/* "500ms", "30s", "2m", "1h"; a bare number is seconds. */
static bool parse_time(const char *text, uint64_t *ret_ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"", NS_PER_S},
                 {"ms", NS_PER_MS},
                 {"s", NS_PER_S},
                 {"m", 60 * NS_PER_S},
                 {"h", 3600 * NS_PER_S}};
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || text[0] == '-' || value > 1000000)
        return false;
    for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
        if (strcmp(end, units[i].name) == 0) {
            *ret_ns = value * units[i].ns;
            return true;
        }
    }
    return false;
}

static bool take(struct mount_options *options, enum kind kind, const char *value)
{
    switch (kind) {
    case IGNORED:
        return true;
    case READ_ONLY:
        options->read_only = true;
        return true;
    case PRIVATE:
        options->private_mount = true;
        return true;
    case PUBLIC:
        options->private_mount = false;
        return true;
    case HARD:
        options->hard = true;
        return true;
    case IO_TIMEOUT:
        return parse_time(value, &options->io_timeout_ns) && options->io_timeout_ns > 0;
    case ATTR_TIMEOUT:
        return parse_time(value, &options->attr_timeout_ns);
    case CHANNELS:
        options->channels = (uint32_t)strtoul(value, NULL, 10);
        return options->channels >= 1 && options->channels <= CHANNELS_MAX;
    default:
        return false;
    }
}

/* One option out of the list; it may be changed. */
static const char *parse_one(struct mount_options *options, char *text)
{
    char *value = strchr(text, '=');
    if (value)
        *value++ = '\0';
    if (strncmp(text, "x-", 2) == 0 || text[0] == '\0')
        return NULL;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (strcmp(rows[i].name, text) != 0)
            continue;
        if (rows[i].has_value && !value)
            return report_text("option '%s' needs a value", text);
        if (!take(options, rows[i].kind, value))
            return report_text("option '%s' cannot be '%s'", text, value);
        return NULL;
    }
    return report_text("unknown option '%s'", text);
}

int mount_options_parse(const char *list, struct mount_options *ret_options, const char **ret_why)
{
    struct mount_options options = {.attr_timeout_ns = FUSE_TIMEOUT_DEFAULT_NS};
    for (const char *at = list; at && *at;) {
        size_t bytes = strcspn(at, ",");
        char text[256];
        if (bytes >= sizeof text) {
            *ret_why = "an option is too long";
            return -EINVAL;
        }
        memcpy(text, at, bytes);
        text[bytes] = '\0';
        const char *why = parse_one(&options, text);
        if (why) {
            *ret_why = why;
            return -EINVAL;
        }
        at += bytes + (at[bytes] == ',');
    }
    *ret_options = options;
    return 0;
}
