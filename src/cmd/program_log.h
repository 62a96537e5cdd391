/* SPDX-License-Identifier: MIT */
#ifndef CFS_CMD_PROGRAM_LOG_H
#define CFS_CMD_PROGRAM_LOG_H

/* Log lines of this thread go to standard error with a UTC time; CFS_LOG=debug shows all. */
void program_log_start(void);

#endif
