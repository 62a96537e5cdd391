/* SPDX-License-Identifier: MIT */
#ifndef CFS_STORE_STORE_TEST_DEVICE_H
#define CFS_STORE_STORE_TEST_DEVICE_H

/* The store's simulated tests on a real device: time, crashes and faults are simulated, what is
 * read and written is on the device, whose rules hold. For test/lab. */

#include "env/sim.h"

struct test_device;

/* Make the disk "disk" of sim on the device at path; what is there is lost. Fails the test if it
 * cannot be had or has less than size_bytes. */
struct test_device *test_device_open(struct sim *sim, const char *path, uint64_t size_bytes);
void test_device_close(struct test_device *device);

#endif
