/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_FSCK_H
#define CFS_CMD_FSCK_H

#include "cmd/command.h"

/* fsck [DISK...] [--dir DIR] [--data] [--memory SIZE] [--json] */
int command_fsck(const struct command_line *line);

#endif
