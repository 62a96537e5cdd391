/* SPDX-License-Identifier: MIT */
/* Goal: what users type is understood or refused as documented. Method: command lines through
 * command_run, option lists through mount_options_parse, and files through demo_dir and process. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/defs.h"
#include "cmd/command.h"
#include "cmd/demo_dir.h"
#include "cmd/mount_options.h"
#include "cmd/process.h"
#include "cmd/report.h"
#include "cmd/session.h"

/* ---- command lines -------------------------------------------------------------------------- */

static struct command_line seen;
static uint64_t seen_size;

static int remember(const struct command_line *line)
{
    seen = *line;
    seen_size = 7;
    return command_size(line, "size", 1, 8 * TIB, &seen_size) ? EX_OK : EX_USAGE;
}

static const struct command_option test_options[] = {
    {"size", 's', "SIZE", "a size"}, {"flag", 'f', NULL, "a flag"}, {NULL, 0, NULL, NULL}};
static const struct command test_command = {.name = "test",
                                            .arguments = "A [B]",
                                            .summary = "Test",
                                            .options = test_options,
                                            .min_arguments = 1,
                                            .max_arguments = 2,
                                            .run = remember};

static int run_words(const char *words)
{
    static char text[256];
    static char *argv[16];
    int argc = 0;
    snprintf(text, sizeof text, "%s", words);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    return command_run("claudefs", &test_command, argc, argv);
}

static void test_command_lines(void **state)
{
    (void)state;
    assert_int_equal(run_words("test a"), EX_OK);
    assert_int_equal(seen.count, 1);
    assert_false(command_flag(&seen, "flag"));
    assert_int_equal(seen_size, 7);
    assert_int_equal(run_words("test a --size 8G -f b"), EX_OK);
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.arguments[1], "b");
    assert_true(command_flag(&seen, "flag"));
    assert_int_equal(seen_size, 8 * GIB);
    assert_int_equal(run_words("test -s 512M a"), EX_OK);
    assert_int_equal(seen_size, 512 * MIB);
    assert_int_equal(run_words("test -s 4KiB a"), EX_OK);
    assert_int_equal(seen_size, 4096);
    static const char *const wrong[] = {"test",
                                        "test a b c",
                                        "test a --none",
                                        "test a --size",
                                        "test a --size x",
                                        "test a --size -1",
                                        "test a --size 9T",
                                        "test a --size 8Gx",
                                        "test a --size 99999999999999T"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
        assert_int_equal(run_words(wrong[i]), EX_USAGE);
}

/* ---- mount options -------------------------------------------------------------------------- */

static void test_mount_options(void **state)
{
    struct mount_options options;
    const char *why = NULL;
    (void)state;
    assert_int_equal(mount_options_parse(NULL, &options, &why), 0);
    assert_false(options.read_only || options.hard);
    assert_int_equal(mount_options_parse("ro,hard,io_timeout=500ms,nofail,x-systemd.automount,"
                                         "comment=hello,attr_timeout=0",
                                         &options, &why),
                     0);
    assert_true(options.read_only && options.hard);
    assert_int_equal(options.io_timeout_ns, 500 * NS_PER_MS);
    assert_int_equal(options.attr_timeout_ns, 0);
    static const char *const wrong[] = {
        "rox",           "io_timeout", "io_timeout=", "io_timeout=0",
        "io_timeout=5x", "ro,,bad",    "channels=0",  "channels=99"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        why = NULL;
        assert_int_equal(mount_options_parse(wrong[i], &options, &why), -EINVAL);
        assert_non_null(why);
    }
}

/* ---- demo directory ------------------------------------------------------------------------- */

static void test_demo_dir(void **state)
{
    char dir[] = "/tmp/claudefs-cmd-test-XXXXXX";
    const char *why = NULL;
    struct demo back;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(demo_dir_load(dir, &back, &why), -ENOENT);
    struct demo demo = {.copies = 2, .size_bytes = 8 * GIB, .node_count = 2};
    snprintf(demo.dir, sizeof demo.dir, "%s", dir);
    snprintf(demo.mount, sizeof demo.mount, "/some where/mnt");
    for (uint32_t i = 0; i < 2; i++) {
        demo.nodes[i].id = i + 1;
        snprintf(demo.nodes[i].name, sizeof demo.nodes[i].name, "node%u", i + 1);
        snprintf(demo.nodes[i].addr, sizeof demo.nodes[i].addr, "127.0.0.1:2000%u", i);
    }
    assert_int_equal(uuid_parse("00112233-4455-6677-8899-aabbccddeeff", &demo.cluster), 0);
    assert_int_equal(demo_dir_save(&demo), 0);
    assert_int_equal(demo_dir_load(dir, &back, &why), 0);
    assert_memory_equal(&back, &demo, sizeof demo);
    assert_string_equal(demo_addresses(&back), "127.0.0.1:20000,127.0.0.1:20001");
    assert_ptr_equal(demo_find_node(&back, "node2"), &back.nodes[1]);
    assert_ptr_equal(demo_find_node(&back, "1"), &back.nodes[0]);
    assert_null(demo_find_node(&back, "3"));
    assert_null(demo_find_node(&back, "2x"));

    const char *file = demo_path(&demo, "cluster.json");
    FILE *out = fopen(file, "w");
    fprintf(out, "{\"schema\": 1}");
    fclose(out);
    assert_int_equal(demo_dir_load(dir, &back, &why), -EINVAL);
    assert_non_null(why);
    unlink(file);
    rmdir(dir);
}

static void test_uuid(void **state)
{
    struct format_uuid uuid;
    char text[37];
    (void)state;
    assert_int_equal(uuid_parse("01234567-89ab-cdef-0123-456789abcdef", &uuid), 0);
    uuid_print(&uuid, text);
    assert_string_equal(text, "01234567-89ab-cdef-0123-456789abcdef");
    assert_int_equal(uuid_parse("01234567", &uuid), -EINVAL);
    assert_int_equal(uuid_parse("01234567-89ab-cdef-0123-456789abcdefff", &uuid), -EINVAL);
    assert_int_equal(uuid_parse("zz234567-89ab-cdef-0123-456789abcdef", &uuid), -EINVAL);
}

/* ---- processes ------------------------------------------------------------------------------ */

static void test_process(void **state)
{
    char path[] = "/tmp/claudefs-cmd-test-pid-XXXXXX";
    struct process process;
    (void)state;
    close(mkstemp(path));
    int pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_int_equal(process_write(path, pid), 0);
    process_read(path, &process);
    assert_int_equal(process.pid, pid);
    assert_int_equal(process.state, PROCESS_RUNNING);
    assert_int_equal(process_signal(&process, SIGSTOP), 0);
    for (int i = 0; i < 1000 && process.state != PROCESS_STOPPED; i++) {
        process_sleep_ms(1);
        process_read(path, &process);
    }
    assert_int_equal(process.state, PROCESS_STOPPED);
    assert_int_equal(process_signal(&process, SIGKILL), 0);
    assert_true(process_wait_gone(&process, 5000)); /* a zombie counts as gone */
    assert_int_equal(process_signal(&process, SIGKILL), -ESRCH);
    waitpid(pid, NULL, 0);

    assert_int_equal(process_write(path, getpid()), 0);
    process_read(path, &process);
    assert_int_equal(process_signal(&process, 0), 0);
    struct process other = process; /* the same number, another process: never signalled */
    other.pid = getpid();
    other.start_ticks--;
    assert_int_equal(process_signal(&other, 0), -ESRCH);
    unlink(path);
    process_read(path, &process);
    assert_int_equal(process.state, PROCESS_GONE);
}

static void test_texts(void **state)
{
    (void)state;
    assert_string_equal(report_bytes(0), "0 B");
    assert_string_equal(report_bytes(1536), "1.5 KiB");
    assert_string_equal(report_bytes(8 * GIB), "8.0 GiB");
    assert_string_equal(report_duration(300), "0.3 s");
    assert_string_equal(report_duration(252000), "4m12s");
    struct session_seeds seeds;
    assert_int_equal(session_parse_seeds("127.0.0.1:1,[::1]:2", &seeds), 0);
    assert_int_equal(seeds.count, 2);
    assert_int_equal(session_parse_seeds("", &seeds), -EINVAL);
    assert_int_equal(session_parse_seeds("127.0.0.1:1,", &seeds), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_lines), cmocka_unit_test(test_mount_options),
        cmocka_unit_test(test_demo_dir),      cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_process),       cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
