/* SPDX-License-Identifier: MIT */
/* Making the disks of a new cluster: every node is told all nodes, so the first start needs no
 * further word from anyone. */
#include "cmd/format.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "cmd/session.h"
#include "format/wire_meta.h"
#include "map/map.h"
#include "node/node.h"
#include "store/store.h"

#define SLICE_MIN_BYTES     (1 * GIB) /* of less, the store's reserves are too large a part */
#define SLICE_DEFAULT_BYTES (4 * GIB)

enum {
    VOTERS_MAX = 3,
    PROTOCOL_LEVEL = 1,
};

void cluster_new_id(struct format_uuid *ret_uuid)
{
    while (getrandom(ret_uuid->bytes, sizeof ret_uuid->bytes, 0) != sizeof ret_uuid->bytes)
        assert(errno == EINTR);
}

int cluster_plan_add(struct cluster_plan *plan, const char *addr, uint64_t size_bytes)
{
    struct net_addr net_addr;
    assert(plan->reactors > 0);
    if (plan->node_count + plan->reactors > ARRAY_COUNT(plan->nodes))
        return -E2BIG;
    int result = net_addr_parse(addr, &net_addr);
    if (result < 0)
        return result;
    if (net_addr.port > UINT16_MAX - (plan->reactors - 1))
        return -EINVAL;
    plan->host_count++;
    for (uint32_t i = 0; i < plan->reactors; i++) {
        struct map_node *node = &plan->nodes[plan->node_count++];
        *node = (struct map_node){
            .id = plan->node_count,
            .host = plan->host_count,
            .target = i,
            .state = MAP_NODE_NEW,
            .port = (uint16_t)(net_addr.port + i),
            .size_bytes = size_bytes / plan->reactors,
        };
        memcpy(node->ip, net_addr.ip, sizeof node->ip);
        snprintf(node->name, sizeof node->name, "node%u", plan->host_count);
    }
    return 0;
}

uint32_t cluster_default_reactors(uint32_t cores, uint32_t host_count, uint64_t disk_bytes)
{
    uint64_t most = DISK_NODE_CONFIG_NODES_MAX / MAX(host_count, 1u);
    if (disk_bytes > 0)
        most = MIN(most, disk_bytes / SLICE_DEFAULT_BYTES);
    return (uint32_t)MAX(MIN((uint64_t)cores, most), 1ull);
}

void cluster_plan_finish(struct cluster_plan *plan)
{
    assert(plan->host_count > 0);
    uint32_t voters = plan->host_count >= VOTERS_MAX ? VOTERS_MAX : 1;
    for (uint32_t i = 0; i < plan->node_count; i++) {
        struct map_node *node = &plan->nodes[i];
        node->voter = node->target == 0 && node->host <= voters; /* a process has one vote */
    }
    plan->copies = MIN(plan->copies, plan->host_count);
}

/* The first map takes that of whoever makes it. */
static uint64_t new_secret(void)
{
    struct format_uuid random;
    uint64_t secret;
    cluster_new_id(&random);
    memcpy(&secret, random.bytes, sizeof secret);
    return secret | 1;
}

uint64_t cluster_disk_bytes(const struct cluster_disk *disk)
{
    struct stat stat_now;
    uint64_t bytes = disk->size_bytes;
    if (stat(disk->path, &stat_now) < 0)
        return bytes;
    if (S_ISREG(stat_now.st_mode) && stat_now.st_size > 0)
        return (uint64_t)stat_now.st_size;
    if (S_ISBLK(stat_now.st_mode)) {
        int fd = open(disk->path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes) < 0)
            bytes = 0;
        if (fd >= 0)
            close(fd);
    }
    return bytes;
}

/* ---- formatting ------------------------------------------------------------------------------ */

/* One slice after the other. The first one decides whether the device may be overwritten; a device
 * whose formatting was cut short lacks slices, and says so when it is started. */
static int format_slices(struct node_format_options *options, uint32_t reactors)
{
    struct disk *device;
    int result =
        disk_open(options->disk_path, options->size_bytes, DISK_CREATE, &device); /* and lock */
    if (result < 0)
        return result;
    uint64_t bytes = round_down(disk_info(device)->size_bytes / reactors, STORE_SEGMENT_BYTES);
    if (bytes < SLICE_MIN_BYTES)
        result = -ENOSPC;
    for (uint32_t i = 0; i < reactors && result == 0; i++) {
        options->slice = (struct node_slice){i, reactors, bytes};
        result = node_format(options);
        options->node++;
        options->force = true;
    }
    disk_close(device);
    return result;
}

struct format_job {
    struct node_format_options options;
    uint32_t reactors;
};

static int format_fiber(void *context)
{
    struct format_job *job = context;
    return job->reactors == 1 ? node_format(&job->options)
                              : format_slices(&job->options, job->reactors);
}

int cluster_format_disk(const struct cluster_plan *plan, uint32_t host,
                        const struct cluster_disk *disk)
{
    struct format_job job = {
        .reactors = plan->reactors,
        .options =
            {
                .disk_path = disk->path,
                .size_bytes = disk->size_bytes,
                .force = disk->force,
                .node = (host - 1) * plan->reactors + 1,
                .header =
                    {
                        .level = PROTOCOL_LEVEL,
                        .join_secret = new_secret(),
                        .cluster = plan->cluster,
                        .copies = plan->copies,
                        .min_in_sync = 1,
                        .inline_bytes_max = META_INLINE_MAX,
                    },
                .nodes = plan->nodes,
                .node_count = plan->node_count,
            },
    };
    assert(host >= 1 && host <= plan->host_count);
    map_group_counts(plan->node_count, plan->grow_to * plan->reactors, &job.options.meta_groups,
                     &job.options.data_groups);
    return session_run("format", format_fiber, &job);
}
