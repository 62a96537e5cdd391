/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_DEMO_DIR_H
#define CFS_CMD_DEMO_DIR_H

/* The directory of a demo cluster:
 *
 *     DIR/cluster.json      what was made: ids, addresses, sizes
 *     DIR/nodeN/disk        sparse file
 *     DIR/nodeN/log, pid
 *     DIR/mount.log, mount.pid, mnt/
 */

#include "base/defs.h"
#include "format/format.h"

enum { DEMO_NODES_MAX = 16, DEMO_PATH_MAX = 1024 };

struct demo_node {
    uint32_t id;
    char name[32];
    char addr[56];
};

struct demo {
    char dir[DEMO_PATH_MAX];
    struct format_uuid cluster;
    uint32_t copies;
    uint32_t reactors;   /* of each node: as many ports from its address on */
    uint64_t size_bytes; /* of each node's disk */
    uint32_t node_count;
    struct demo_node nodes[DEMO_NODES_MAX];
    char mount[DEMO_PATH_MAX]; /* "": not mounted by demo up */
};

/* dir: as given by the user, or NULL for $XDG_STATE_HOME/claudefs/demo or ~/.claudefs/demo.
 * Makes it absolute. 0 or -errno. */
must_check int demo_dir_resolve(const char *dir, char path[DEMO_PATH_MAX]);
/* Read DIR/cluster.json. -ENOENT: no demo here; -EINVAL: not readable as such; ret_why says. */
must_check int demo_dir_load(const char *path, struct demo *ret_demo, const char **ret_why);
must_check int demo_dir_save(const struct demo *demo);
/* The same with an error report; 0 or the exit code. dir as given by the user. */
must_check int demo_dir_require(const char *dir, struct demo *ret_demo);

/* DIR/nodeN/<name>; DIR/<name>. Texts that live as long as the program. */
const char *demo_node_path(const struct demo *demo, uint32_t node, const char *name);
const char *demo_path(const struct demo *demo, const char *name);
/* The addresses of all nodes, separated by commas. */
const char *demo_addresses(const struct demo *demo);
/* N or nodeN. NULL if there is no such node. */
const struct demo_node *demo_find_node(const struct demo *demo, const char *text);

void uuid_print(const struct format_uuid *uuid, char text[37]);
must_check int uuid_parse(const char *text, struct format_uuid *ret_uuid);

#endif
