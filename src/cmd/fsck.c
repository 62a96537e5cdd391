/* SPDX-License-Identifier: MIT */
/* claudefs fsck: the offline check, for people and for programs. */
#include "cmd/fsck.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <sysexits.h>

#include "base/mem.h"
#include "cmd/demo_dir.h"
#include "cmd/report.h"
#include "cmd/session.h"
#include "node/fsck.h"

enum { PLACES_MAX = 20, EXIT_CLEAN = 0, EXIT_PROBLEMS = 1, EXIT_CANNOT = 2 };
#define MEMORY_MAX (UINT64_MAX >> 8)

/* Places of one kind of finding; the first ones in full. */
struct kind_list {
    uint64_t count;
    const char *places[PLACES_MAX];
};

struct fsck_run {
    struct node_fsck_options options;
    struct fsck_counts counts;
    struct kind_list kinds[FSCK_KINDS];
};

static void on_found(void *context, enum fsck_kind kind, const char *where)
{
    struct fsck_run *run = context;
    struct kind_list *list = &run->kinds[kind];
    if (list->count < PLACES_MAX)
        list->places[list->count] = report_text("%s", where);
    list->count++;
}

static int run_fiber(void *context)
{
    struct fsck_run *run = context;
    node_fsck(&run->options, &run->counts);
    return 0;
}

static uint64_t count_level(const struct fsck_run *run, enum fsck_level level)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < FSCK_KINDS; i++)
        count += fsck_level(i) == level ? run->kinds[i].count : 0;
    return count;
}

static const char *level_text(enum fsck_level level)
{
    static const char *const texts[] = {"note", "problem", "cannot check"};
    return texts[level];
}

static void print_kind(enum fsck_kind kind, const struct kind_list *list)
{
    printf("%s: %s (%" PRIu64 ")\n", level_text(fsck_level(kind)), fsck_what(kind), list->count);
    for (uint32_t i = 0; i < MIN(list->count, (uint64_t)PLACES_MAX); i++)
        printf("  where   %s\n", list->places[i]);
    if (list->count > PLACES_MAX)
        printf("          and %" PRIu64 " more\n", list->count - PLACES_MAX);
    printf("  effect  %s\n  fix     %s\n", fsck_effect(kind), fsck_fix(kind));
}

static void print_text(const struct fsck_run *run)
{
    const struct fsck_counts *counts = &run->counts;
    for (uint32_t i = 0; i < FSCK_KINDS; i++)
        if (run->kinds[i].count > 0)
            print_kind(i, &run->kinds[i]);
    printf("%u disks, %" PRIu64 " inodes, %" PRIu64 " names, %" PRIu64 " orphans, %s of data\n",
           run->options.disk_count, counts->inodes, counts->names, counts->orphans,
           report_bytes(counts->data_bytes));
    printf("%" PRIu64 " problems, %" PRIu64 " notes, %" PRIu64 " parts not checked\n",
           count_level(run, FSCK_PROBLEM), count_level(run, FSCK_NOTE),
           count_level(run, FSCK_CANNOT));
}

static void print_json(const struct fsck_run *run)
{
    const struct fsck_counts *counts = &run->counts;
    json_t *findings = json_array();
    for (uint32_t i = 0; i < FSCK_KINDS; i++) {
        const struct kind_list *list = &run->kinds[i];
        json_t *places = json_array();
        for (uint32_t j = 0; j < MIN(list->count, (uint64_t)PLACES_MAX); j++)
            json_array_append_new(places, json_string(list->places[j]));
        if (list->count == 0) {
            json_decref(places);
            continue;
        }
        json_array_append_new(findings,
                              json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:o}", "name", fsck_name(i),
                                        "level", level_text(fsck_level(i)), "what", fsck_what(i),
                                        "effect", fsck_effect(i), "fix", fsck_fix(i), "count",
                                        (json_int_t)list->count, "where", places));
    }
    json_t *root = json_pack(
        "{s:I, s:I, s:I, s:i, s:I, s:I, s:I, s:I, s:I, s:o}", "problems",
        (json_int_t)count_level(run, FSCK_PROBLEM), "notes",
        (json_int_t)count_level(run, FSCK_NOTE), "unchecked",
        (json_int_t)count_level(run, FSCK_CANNOT), "disks", (int)run->options.disk_count, "inodes",
        (json_int_t)counts->inodes, "names", (json_int_t)counts->names, "orphans",
        (json_int_t)counts->orphans, "data_bytes", (json_int_t)counts->data_bytes, "passes",
        (json_int_t)counts->passes, "findings", findings);
    json_dumpf(root, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(root);
}

/* The disks named, or those of the demo. 0 or an exit code after a report. */
static int find_disks(const struct command_line *line, struct fsck_run *run)
{
    run->options.disk_count = (uint32_t)line->count;
    run->options.disks = (const char *const *)line->arguments;
    if (line->count > 0)
        return EX_OK;
    struct demo demo;
    int exit_code = demo_dir_require(command_value(line, "dir"), &demo);
    if (exit_code != EX_OK)
        return exit_code;
    const char **disks = mem_zalloc(demo.node_count * sizeof(const char *));
    for (uint32_t i = 0; i < demo.node_count; i++)
        disks[i] = demo_node_path(&demo, demo.nodes[i].id, "disk");
    run->options.disk_count = demo.node_count;
    run->options.disks = disks;
    return EX_OK;
}

int command_fsck(const struct command_line *line)
{
    struct fsck_run *run = mem_zalloc(sizeof *run);
    run->options.fn = on_found;
    run->options.context = run;
    run->options.read_data = command_flag(line, "data");
    int exit_code = find_disks(line, run);
    if (exit_code != EX_OK)
        return exit_code;
    uint64_t least = node_fsck_memory_min(run->options.disk_count);
    run->options.memory_bytes = MAX(512 * MIB, 2 * least);
    if (run->options.disk_count > NODE_FSCK_DISKS_MAX ||
        !command_size(line, "memory", least, MEMORY_MAX, &run->options.memory_bytes))
        return EX_USAGE;
    int result = session_run("fsck", run_fiber, run);
    if (result < 0)
        return report_error(EXIT_CANNOT, &(struct report){.what = "the check did not run",
                                                          .why = error_text(result)});
    if (command_flag(line, "json"))
        print_json(run);
    else
        print_text(run);
    if (count_level(run, FSCK_CANNOT) > 0)
        return EXIT_CANNOT;
    return count_level(run, FSCK_PROBLEM) > 0 ? EXIT_PROBLEMS : EXIT_CLEAN;
}
