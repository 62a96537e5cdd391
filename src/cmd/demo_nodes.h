/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_DEMO_NODES_H
#define CFS_CMD_DEMO_NODES_H

/* The processes of a demo cluster: its servers and its mount. All return 0 or an exit code after
 * having reported what is wrong. */

#include "cmd/demo_dir.h"
#include "cmd/process.h"

void demo_node_process(const struct demo *demo, uint32_t node, struct process *ret_process);

/* Start node (NULL: all) where it is not running and wait until each listens. ret_started, which
 * may be NULL, is the number of processes started; they are not stopped again on failure. */
must_check int demo_nodes_start(const struct demo *demo, const struct demo_node *only,
                                uint32_t *ret_started);
/* Stop all nodes, orderly where they react, and remove their pid files. */
must_check int demo_nodes_stop(const struct demo *demo);

/* The first of as many free ports as a node has reactors, behind that one (0: the first to try). */
uint32_t demo_port_choose(const struct demo *demo, uint32_t after);
/* mkdir -p. 0 or -errno. */
must_check int demo_make_dirs(const char *path);
/* Choose name and address of a further node and make its directory. */
must_check int demo_node_plan(const struct demo *demo, uint32_t id, struct demo_node *ret_node);
/* A node that the cluster has removed: see its process end, and remove its files. */
must_check int demo_node_forget(struct demo *demo, uint32_t id);

/* Mount the cluster at path in a background process. */
must_check int demo_mount(const struct demo *demo, const char *path);
/* Unmount, by force if need be, and see the mount's process end. */
must_check int demo_unmount(const struct demo *demo);

#endif
