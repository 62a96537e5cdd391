/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_NODE_ADMIN_H
#define CFS_CMD_NODE_ADMIN_H

/* claudefs node: nodes that come and go; claudefs demo add. */

#include "cmd/command.h"

int command_node_list(const struct command_line *line);
int command_node_add(const struct command_line *line);
int command_node_drain(const struct command_line *line);
int command_node_remove(const struct command_line *line);
int command_demo_add(const struct command_line *line);

#endif
