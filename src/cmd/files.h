/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_FILES_H
#define CFS_CMD_FILES_H

/* File commands on paths in the cluster ("cfs:/path"), without a mount. */

#include "cmd/command.h"

int command_ls(const struct command_line *line);
int command_stat(const struct command_line *line);
int command_cat(const struct command_line *line);
int command_cp(const struct command_line *line);
int command_mv(const struct command_line *line);
int command_rm(const struct command_line *line);
int command_mkdir(const struct command_line *line);

#endif
