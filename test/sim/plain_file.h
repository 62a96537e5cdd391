/* SPDX-License-Identifier: MIT */
#ifndef CFS_TEST_SIM_PLAIN_FILE_H
#define CFS_TEST_SIM_PLAIN_FILE_H

/* Files in the root directory whose content follows from their number: made once,
 * read ever after. */

#include "client/client.h"

/* Make file number `file`, so many bytes long. 0 or the error of the step that failed. */
may_yield must_check int plain_file_make(struct client *client, uint32_t file, uint32_t bytes);
/* Is it there, of that size, with that content? The same; -EBADMSG: it is not what was written. */
may_yield must_check int plain_file_check(struct client *client, uint32_t file, uint32_t bytes);
/* The same, but the file may be longer. */
may_yield must_check int plain_file_check_start(struct client *client, uint32_t file,
                                                uint32_t bytes);
/* Has it `left` bytes? Then make it longer: are there zeroes behind them? */
may_yield must_check int plain_file_check_cut(struct client *client, uint32_t file, uint32_t left,
                                              uint32_t bytes);

#endif
