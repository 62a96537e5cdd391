/* SPDX-License-Identifier: MIT */
/* Damage that nobody reads is found here before the other copies are damaged too: every now and
 * then all extents are read, in physical order and slowly, and what fails goes to repair. */
#include "data/data_internal.h"

#include "base/log.h"

#define FIRST_PAUSE_NS  (3600 * NS_PER_S)
#define RESUME_PAUSE_NS (60 * NS_PER_S) /* to go on with one that a restart has stopped */
#define QUEUE_PAUSE_NS  (10 * NS_PER_MS)

static int scrub_extent(void *context, struct slice owner_key, struct store_extent extent,
                        const void *data)
{
    struct data_service *service = context;
    struct data_found found;
    if (!data_key_is(owner_key) || data_look_stable(service, owner_key, &found) != 1 ||
        found.row.extent.block != extent.block || found.row.extent.blocks != extent.blocks)
        return 0; /* not ours, or gone or moved since */
    service->counters.scrubbed_bytes += (uint64_t)extent.blocks * DATA_BLOCK_BYTES;
    if (data_row_bad_blocks(&found.row, data) == 0)
        return 0;
    service->counters.scrub_found++;
    while (service->queue_count == DATA_REPAIR_QUEUE_MAX)
        fiber_sleep(QUEUE_PAUSE_NS);
    data_repair_queue(service, owner_key);
    return 0;
}

int data_service_scrub(struct data_service *service, uint64_t rate_bytes_per_s)
{
    assert(service->store);
    int result = store_scrub(service->store, rate_bytes_per_s, scrub_extent, service);
    if (result == 0)
        service->counters.scrubs++;
    return result;
}

void data_service_set_scrub(struct data_service *service, uint64_t rate_bytes_per_s,
                            uint64_t every_ns)
{
    assert(!service->store);
    service->scrub_rate = rate_bytes_per_s;
    service->scrub_every_ns = every_ns;
}

void data_scrub_fiber(void *arg)
{
    struct data_service *service = arg;
    uint64_t first_ns = store_scrub_interrupted(service->store) ? RESUME_PAUSE_NS : FIRST_PAUSE_NS;
    uint64_t pause_ns = MIN(service->scrub_every_ns, first_ns);
    while (service->scrub_rate > 0) {
        fiber_sleep(pause_ns);
        pause_ns = service->scrub_every_ns;
        int result = data_service_scrub(service, service->scrub_rate);
        if (result < 0 && result != -ERR_BUSY)
            log_warn("data-scrub", "error=%s why=\"%s\" effect=\"goes on in %llu s\"",
                     error_name(result), error_text(result),
                     (unsigned long long)(pause_ns / NS_PER_S));
    }
}
