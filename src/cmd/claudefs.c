/* SPDX-License-Identifier: MIT */
/* The tool: finds the subcommand in one table and hands over to it. */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/log.h"
#include "cmd/command.h"
#include "cmd/demo.h"
#include "cmd/device.h"
#include "cmd/files.h"
#include "cmd/fsck.h"
#include "cmd/mount.h"
#include "cmd/node_admin.h"
#include "cmd/report.h"
#include "cmd/session.h"
#include "cmd/status.h"

#define OPTIONS_END                                                                                \
    {                                                                                              \
        NULL, 0, NULL, NULL                                                                        \
    }
#define DEMO_DIR                                                                                   \
    {                                                                                              \
        "dir", 0, "DIR",                                                                           \
            "where it lives (default $XDG_STATE_HOME/claudefs/demo or ~/.claudefs/demo)"           \
    }

static const struct command_option demo_up_options[] = {
    {"nodes", 0, "N", "how many servers, 1 to 16 (default 3)"},
    {"copies", 0, "N", "copies of everything, 1 to 3 (default 2)"},
    {"reactors", 0, "N",
     "threads of each server, each with its part of the disk, at least 1G (default: this machine's "
     "cores shared by the servers)"},
    {"size", 0, "SIZE", "size of each server's disk, a sparse file (default 8G, at least 1G)"},
    DEMO_DIR,
    {"mount", 0, "PATH", "where to mount (default DIR/mnt)"},
    {"no-mount", 0, NULL, "do not mount: for machines without FUSE"},
    OPTIONS_END,
};
static const struct command_option demo_kill_options[] = {
    {"signal", 0, "NAME", "KILL (default), STOP, CONT or TERM"}, DEMO_DIR, OPTIONS_END};
static const struct command_option demo_start_options[] = {DEMO_DIR, OPTIONS_END};
static const struct command_option demo_down_options[] = {
    {"wipe", 0, NULL, "also remove the cluster's files"}, DEMO_DIR, OPTIONS_END};
static const struct command_option status_options[] = {
    {"json", 0, NULL, "for programs"}, SESSION_OPTIONS, OPTIONS_END};
static const struct command_option fsck_options[] = {
    {"data", 0, NULL, "read all data and verify its checksums: takes as long as that takes"},
    {"memory", 0, "SIZE", "how much to use (default 512M or more); less means more passes"},
    {"json", 0, NULL, "for programs"},
    DEMO_DIR,
    OPTIONS_END,
};
static const struct command_option device_format_options[] = {
    {"cluster", 0, "UUID", "the new cluster's id, the same on every node (uuidgen makes one)"},
    {"node", 0, "N", "which node this device is for, from 1"},
    {"nodes", 0, "ADDR,...", "HOST:PORT of all nodes, in the same order everywhere"},
    {"copies", 0, "N", "copies of everything, 1 to 3 (default 2)"},
    {"grow-to", 0, "N",
     "how many nodes the cluster is to have one day, if more than sixteen times as many as it "
     "starts with; at most 64 times"},
    {"reactors", 0, "N",
     "how many share the device, each with a part (default: by cores and size)"},
    {"size", 0, "SIZE", "make a file of this size where there is none"},
    {"force", 0, NULL, "overwrite what is on it"},
    OPTIONS_END,
};
static const struct command_option device_check_options[] = {
    {"no-data", 0, NULL, "leave out the checksums of data"},
    {"memory", 0, "SIZE", "memory to use (default 256M); the journal's replay comes on top"},
    OPTIONS_END,
};
static const struct command_option device_dump_options[] = {
    {"rows", 0, NULL, "every row of the table too"},
    {"memory", 0, "SIZE", "memory to use (default 256M); the journal's replay comes on top"},
    OPTIONS_END,
};
static const struct command_option mount_options[] = {
    {"options", 'o', "LIST", "mount options, separated by commas"},
    {"foreground", 'f', NULL, "do not go to the background"},
    {"log", 0, "PATH", "write the log there"},
    {"pid-file", 0, "PATH", "write the background process's number and start time there"},
    {"ready-fd", 0, "FD", "with --foreground: write \"ok\" to this pipe once it is usable"},
    OPTIONS_END,
};
static const struct command_option umount_options[] = {
    {"force", 0, NULL, "also while files are open; what is under way there fails"}, OPTIONS_END};
static const struct command_option ls_options[] = {
    {"long", 'l', NULL, "mode, links, owner, size and time too"}, SESSION_OPTIONS, OPTIONS_END};
static const struct command_option recursive_options[] = {
    {"recursive", 'r', NULL, "directories with all they hold"}, SESSION_OPTIONS, OPTIONS_END};
static const struct command_option mkdir_options[] = {
    {"parents", 'p', NULL, "make missing parents too; no error if it exists"},
    SESSION_OPTIONS,
    OPTIONS_END,
};
static const struct command_option session_options[] = {SESSION_OPTIONS, OPTIONS_END};

static const struct command_option node_drain_options[] = {
    {"wait", 0, NULL, "return when nothing depends on it any more"},
    {"undo", 0, NULL, "use it again"},
    SESSION_OPTIONS,
    OPTIONS_END,
};

static const struct command commands[] = {
    {"demo up", "", "Start a cluster on this machine, mount it, say what to try",
     "Servers are processes on loopback ports, their disks sparse files under DIR. A cluster that\n"
     "was put down is started again as it was.",
     "claudefs demo up --nodes 3 --copies 2", demo_up_options, 0, 0, command_demo_up},
    {"demo kill", "N", "Send a signal to one of the servers", NULL,
     "claudefs demo kill 2 --signal STOP", demo_kill_options, 1, 1, command_demo_kill},
    {"demo start", "N", "Start a server that was killed", NULL, "claudefs demo start 2",
     demo_start_options, 1, 1, command_demo_start},
    {"demo add", "", "Start a further server; its share of the data moves there", NULL,
     "claudefs demo add", demo_start_options, 0, 0, command_demo_add},
    {"demo down", "", "Unmount and stop all servers", NULL, "claudefs demo down --wipe",
     demo_down_options, 0, 0, command_demo_down},
    {"status", "", "Show the health of a cluster",
     "The exit code is 0 (ok), 1 (warn: works, but something is to be looked at) or 2 (error).",
     "claudefs status --json", status_options, 0, 0, command_status},
    {"node list", "", "List the nodes with what they hold", NULL, "claudefs node list",
     session_options, 0, 0, command_node_list},
    {"node add", "", "Say how a further node joins: makes its token", NULL, "claudefs node add",
     session_options, 0, 0, command_node_add},
    {"node drain", "N", "Move everything off a node, under load",
     "N is an id or a name of claudefs node list. Each copy is dropped only when its successor is\n"
     "complete. A drained node can be stopped, and removed.",
     "claudefs node drain 2 --wait", node_drain_options, 1, 1, command_node_drain},
    {"node remove", "N", "Take a node out of the cluster for good",
     "One that is drained, or dead: its copies are then made elsewhere at once. It cannot come\n"
     "back; its disk can join again as a new node.",
     "claudefs node remove 2", session_options, 1, 1, command_node_remove},
    {"device list", "", "Show the disks of this machine, what they can and what is on them", NULL,
     "claudefs device list", NULL, 0, 0, command_device_list},
    {"device info", "DEVICE...", "Show what a device can and what is on it",
     "A device is a block device, an NVMe character device (/dev/ng0n1: atomic writes, placement\n"
     "handles and zones are seen only there), or a file.",
     "claudefs device info /dev/ng0n1", NULL, 1, -1, command_device_info},
    {"device format", "DEVICE", "Prepare a device as a node's disk of a new cluster",
     "Refuses a device that is in use, and without --force one on which there is anything.",
     "claudefs device format /dev/ng0n1 --cluster UUID --node 1 --nodes "
     "10.0.0.1:7000,10.0.0.2:7000",
     device_format_options, 1, 1, command_device_format},
    {"device check", "DEVICE...", "Verify the store on a device on which no node runs",
     "Tree, accounts, and the checksums of all data, in bounded memory. Nothing is written. What\n"
     "only all disks of a cluster can show is the business of claudefs fsck. The exit code is 0\n"
     "(clean), 1 (problems) or 2 (could not be checked).",
     "claudefs device check /dev/nvme0n1", device_check_options, 1, -1, command_device_check},
    {"device dump", "DEVICE", "Print what the store on a device consists of",
     "Superblocks, journal, segments, with --rows also the table: one line for each. Nothing is\n"
     "written.",
     "claudefs device dump --rows /dev/nvme0n1", device_dump_options, 1, 1, command_device_dump},
    {"fsck", "[DISK...]", "Check the disks of a stopped cluster",
     "Name the disks of all nodes (default: those of the demo). Nothing is written to them; a "
     "disk\n"
     "on which a node runs is refused. Checks each store, compares the members of each group, and\n"
     "checks the namespace: names, inodes, link counts, data. Members that lag are no error.\n"
     "The exit code is 0 (clean), 1 (problems) or 2 (something could not be checked).",
     "claudefs fsck /dev/nvme0n1 /dev/nvme1n1", fsck_options, 0, -1, command_fsck},
    {"mount", "ADDR[,ADDR...] PATH", "Mount a cluster",
     "Any of its nodes will do as ADDR. Returns when the mount is usable. Mount options: ro,\n"
     "noatime, nodev, nosuid, noexec, relatime, allow_other, io_timeout=TIME, hard,\n"
     "attr_timeout=TIME; nofail, _netdev, auto, noauto, user, x-* are accepted for fstab.",
     "claudefs mount 127.0.0.1:20001 /mnt/cfs -o io_timeout=30s", mount_options, 2, 2,
     command_mount},
    {"umount", "PATH", "Unmount", NULL, "claudefs umount /mnt/cfs", umount_options, 1, 1,
     command_umount},
    {"ls", "cfs:/PATH...", "List directories", NULL, "claudefs ls -l cfs:/", ls_options, 1, -1,
     command_ls},
    {"stat", "cfs:/PATH...", "Show attributes", NULL, "claudefs stat cfs:/file", session_options, 1,
     -1, command_stat},
    {"cat", "cfs:/PATH...", "Write files to standard output", NULL, "claudefs cat cfs:/file",
     session_options, 1, -1, command_cat},
    {"cp", "SOURCE... TARGET", "Copy into, out of or within the cluster",
     "Paths in the cluster are written cfs:/path, others are local. Modes and times are kept.\n"
     "Shows progress on a terminal.",
     "claudefs cp -r /usr/include cfs:/", recursive_options, 2, -1, command_cp},
    {"mv", "cfs:/SOURCE... cfs:/TARGET", "Rename", NULL, "claudefs mv cfs:/a cfs:/b",
     session_options, 2, -1, command_mv},
    {"rm", "cfs:/PATH...", "Remove files, with -r directories", NULL, "claudefs rm -r cfs:/include",
     recursive_options, 1, -1, command_rm},
    {"mkdir", "cfs:/PATH...", "Make directories", NULL, "claudefs mkdir -p cfs:/a/b/c",
     mkdir_options, 1, -1, command_mkdir},
};

static void print_overview(FILE *out)
{
    fprintf(out, "usage: claudefs COMMAND [OPTIONS] [ARGUMENTS]\n\n");
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n\"claudefs COMMAND --help\" says more. First time here: claudefs demo up\n");
}

/* The command that argv begins with; *ret_words: how many words name it. */
static const struct command *find(int argc, char **argv, int *ret_words)
{
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        const char *name = commands[i].name;
        const char *space = strchr(name, ' ');
        size_t first = space ? (size_t)(space - name) : strlen(name);
        if (strlen(argv[1]) != first || strncmp(name, argv[1], first) != 0)
            continue;
        if (!space || (argc > 2 && strcmp(space + 1, argv[2]) == 0)) {
            *ret_words = space ? 2 : 1;
            return &commands[i];
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int words = 1;
    log_set_level(LOG_WARN); /* what the layers below note is for logs; mount sets its own */
    if (argc < 2) {
        print_overview(stderr);
        return EX_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_overview(stdout);
        return EX_OK;
    }
    const struct command *command = find(argc, argv, &words);
    if (!command) {
        bool is_demo = strcmp(argv[1], "demo") == 0;
        bool is_node = strcmp(argv[1], "node") == 0;
        bool is_device = strcmp(argv[1], "device") == 0;
        return report_error(
            EX_USAGE,
            &(struct report){.what = is_demo   ? "demo: what with it? up, add, kill, start or down"
                                     : is_node ? "node: what with it? list, add, drain or remove"
                                     : is_device
                                         ? "device: what with it? list, info, format, check or dump"
                                         : report_text("there is no command '%s'", argv[1]),
                             .fix = is_demo     ? "claudefs demo up --help"
                                    : is_node   ? "claudefs node list --help"
                                    : is_device ? "claudefs device info --help"
                                                : "claudefs --help lists all"});
    }
    return command_run("claudefs", command, argc - words, argv + words);
}
