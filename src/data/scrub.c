/* SPDX-License-Identifier: MIT */
/* Damage that nobody reads is found here before the other copies are damaged too: every now and
 * then all extents are read, in physical order and slowly, and what fails goes to repair. */
#include "data/data_internal.h"

#include "base/log.h"

#define SCRUB_PAUSE_NS (24 * 3600 * NS_PER_S)
#define SCRUB_RATE     (32 * MIB) /* bytes per second, in the background */
#define QUEUE_PAUSE_NS (10 * NS_PER_MS)

static int scrub_extent(void *context, struct slice owner_key, struct store_extent extent,
                        const void *data)
{
    struct data_service *service = context;
    struct data_found found;
    if (!data_key_is(owner_key) || data_look_stable(service, owner_key, &found) != 1 ||
        found.row.extent.block != extent.block || found.row.extent.blocks != extent.blocks)
        return 0; /* not ours, or gone or moved since */
    service->counters.scrubbed_bytes += (uint64_t)extent.blocks * DATA_BLOCK_BYTES;
    if (data_row_is_intact(&found.row, data))
        return 0;
    while (service->queue_count == DATA_REPAIR_QUEUE_MAX)
        fiber_sleep(QUEUE_PAUSE_NS);
    data_repair_queue(service, owner_key);
    return 0;
}

int data_service_scrub(struct data_service *service, uint64_t rate_bytes_per_s)
{
    assert(service->store);
    if (service->scrubbing)
        return -ERR_BUSY;
    service->scrubbing = true;
    int result = store_scrub(service->store, rate_bytes_per_s, scrub_extent, service);
    service->scrubbing = false;
    if (result == 0)
        service->counters.scrubs++;
    return result;
}

void data_scrub_fiber(void *arg)
{
    struct data_service *service = arg;
    for (;;) {
        fiber_sleep(SCRUB_PAUSE_NS);
        int result = data_service_scrub(service, SCRUB_RATE);
        if (result < 0 && result != -ERR_BUSY)
            log_warn("data-scrub", "error=%s why=\"%s\" effect=\"starts over in a day\"",
                     error_name(result), error_text(result));
    }
}
