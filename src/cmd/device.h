/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_DEVICE_H
#define CFS_CMD_DEVICE_H

/* claudefs device: what a machine has to keep stores on, and what is on it. */

#include "cmd/command.h"

int command_device_list(const struct command_line *line);
int command_device_info(const struct command_line *line);
int command_device_format(const struct command_line *line);
int command_device_check(const struct command_line *line);
int command_device_dump(const struct command_line *line);

#endif
