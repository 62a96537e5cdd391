/* SPDX-License-Identifier: MIT */
/* claudefs device list, info, format: see device_probe.c for how things are found out. */
#include "cmd/device.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/errors.h"
#include "cmd/demo_dir.h"
#include "cmd/device_probe.h"
#include "cmd/format.h"
#include "cmd/report.h"

static const char *what_is_on(const struct device_probe *probe)
{
    if (probe->user[0])
        return probe->user;
    if (probe->result < 0)
        return error_text(probe->result);
    if (probe->ours)
        return report_text("store of node %u", probe->identity.node);
    if (probe->signature[0])
        return probe->signature;
    return probe->empty ? "empty" : "no known signature, but not zeroes";
}

/* ---- list ----------------------------------------------------------------------------------- */

enum { NAMES_MAX = 1024 };

struct names {
    char *names[NAMES_MAX];
    uint32_t count;
};

static int by_name(const void *a, const void *b)
{
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

/* Disks and NVMe character devices; not what is only memory, optical, or made of other devices. */
static bool interesting(const char *name)
{
    static const char *const not [] = {".", "ram", "sr", "fd", "zram", "loop"};
    for (size_t i = 0; i < ARRAY_COUNT(not ); i++)
        if (strncmp(name, not [i], strlen(not [i])) == 0)
            return false;
    return true;
}

static void gather(const char *folder, const char *prefix, struct names *names)
{
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    while (entries && names->count < NAMES_MAX && (entry = readdir(entries)) != NULL)
        if (interesting(entry->d_name) && strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
            names->names[names->count++] = strdup(entry->d_name);
    if (entries)
        closedir(entries);
}

static void print_row(const char *path)
{
    struct device_probe probe;
    device_probe_now(path, &probe);
    const struct disk_info *info = &probe.info;
    if (probe.result == -ENOMEDIUM || (probe.result == 0 && info->size_bytes == 0))
        return;
    const char *zones = info->zone_bytes ? report_bytes(info->zone_bytes) : "-";
    printf("%-16s %-6s %10s %6s %8s %9s %7s  %s\n", path, info->kind[0] ? info->kind : "-",
           info->size_bytes ? report_bytes(info->size_bytes) : "-",
           info->block_bytes ? report_bytes(info->block_bytes) : "-",
           info->atomic_bytes ? report_bytes(info->atomic_bytes) : "-", zones,
           info->streams ? report_text("%u", info->streams) : "-", what_is_on(&probe));
}

int command_device_list(const struct command_line *line)
{
    (void)line;
    struct names names = {.count = 0};
    gather("/sys/block", "", &names);
    gather("/dev", "ng", &names);
    qsort(names.names, names.count, sizeof names.names[0], by_name);
    printf("%-16s %-6s %10s %6s %8s %9s %7s  %s\n", "DEVICE", "KIND", "SIZE", "BLOCK", "ATOMIC",
           "ZONES", "STREAMS", "HOLDS");
    for (uint32_t i = 0; i < names.count; i++) {
        print_row(report_text("/dev/%s", names.names[i]));
        free(names.names[i]);
    }
    return EX_OK;
}

/* ---- info ----------------------------------------------------------------------------------- */

static const char *kind_text(const char *kind)
{
    static const char *const texts[][2] = {
        {"file", "a file of a file system"},
        {"block", "block device"},
        {"nvme", "NVMe namespace, by passthrough"},
        {"zns", "NVMe zoned namespace, by passthrough"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
        if (strcmp(kind, texts[i][0]) == 0)
            return texts[i][1];
    return kind;
}

static void print_info(const char *path, const struct device_probe *probe)
{
    const struct disk_info *info = &probe->info;
    printf("%s\n", path);
    printf("  kind      %s\n", kind_text(info->kind));
    printf("  size      %s (%llu bytes)\n", report_bytes(info->size_bytes),
           (unsigned long long)info->size_bytes);
    printf("  blocks    of %u bytes\n", info->block_bytes);
    if (info->atomic_bytes)
        printf("  atomic    %s, also when the power fails\n", report_bytes(info->atomic_bytes));
    else
        printf("  atomic    not known\n");
    if (info->zone_bytes)
        printf("  zones     %llu of %s, %s partly written at a time\n",
               (unsigned long long)(info->size_bytes / info->zone_bytes),
               report_bytes(info->zone_bytes),
               info->zones_active_max ? report_text("at most %u", info->zones_active_max)
                                      : "any number");
    if (info->streams)
        printf("  streams   %u placement handles: what dies at different times is kept apart\n",
               info->streams);
    printf("  holds     %s\n", what_is_on(probe));
    if (probe->ours) {
        char cluster[37], store[37];
        uuid_print(&probe->identity.cluster, cluster);
        uuid_print(&probe->identity.store, store);
        printf("  cluster   %s\n  store     %s\n", cluster, store);
    }
}

int command_device_info(const struct command_line *line)
{
    int exit_code = EX_OK;
    for (int i = 0; i < line->count; i++) {
        struct device_probe probe;
        const char *path = line->arguments[i];
        device_probe_now(path, &probe);
        if (probe.result == 0)
            print_info(path, &probe);
        else
            exit_code = report_error(
                report_exit_code(probe.result),
                &(struct report){.what = "cannot look at it",
                                 .where = path,
                                 .why = probe.user[0] ? probe.user : error_text(probe.result)});
    }
    return exit_code;
}

/* ---- format --------------------------------------------------------------------------------- */

int command_device_format(const struct command_line *line)
{
    return cluster_format_command(line, line->arguments[0]);
}
