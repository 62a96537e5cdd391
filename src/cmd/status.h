/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_STATUS_H
#define CFS_CMD_STATUS_H

/* claudefs status: asks every node and puts the answers together. */

#include "cmd/command.h"
#include "cmd/demo_dir.h"

enum status_health { STATUS_OK = 0, STATUS_WARN = 1, STATUS_ERROR = 2 }; /* also exit codes */

int command_status(const struct command_line *line);
/* Print the status. demo, which may be NULL, adds what its directory knows. */
int status_show(const char *addresses, const struct demo *demo);
/* Wait until every group has a primary and all copies. 0, or an exit code after a report. */
must_check int status_wait_usable(const char *addresses, uint64_t timeout_ms);

#endif
