/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_DEMO_H
#define CFS_CMD_DEMO_H

#include "cmd/command.h"

int command_demo_up(const struct command_line *line);
int command_demo_kill(const struct command_line *line);
int command_demo_start(const struct command_line *line);
int command_demo_down(const struct command_line *line);

#endif
