/* SPDX-License-Identifier: MIT */
#ifndef CFS_MAP_MAP_FIXTURE_H
#define CFS_MAP_MAP_FIXTURE_H

/* For tests: make commands and first maps. */

#include "base/mem.h"
#include "map/map_internal.h"

struct fixture_command {
    uint8_t bytes[MAP_COMMAND_BYTES_MAX];
    struct writer writer;
};

static inline struct slice fixture_command(struct fixture_command *out,
                                           const struct map_command *command, const void *tail,
                                           size_t tail_bytes)
{
    writer_init(&out->writer, out->bytes, sizeof out->bytes);
    writer_put(&out->writer, command, sizeof *command);
    writer_put(&out->writer, tail, tail_bytes);
    assert(writer_ok(&out->writer));
    return slice_of(out->bytes, writer_bytes(&out->writer));
}

/* Apply to *view, replacing it on success. */
static inline int fixture_apply(struct map_view **view, const struct map_command *command,
                                const void *tail, size_t tail_bytes)
{
    struct fixture_command buffer;
    struct map_view *next = NULL;
    int result = map_apply(*view, fixture_command(&buffer, command, tail, tail_bytes), &next);
    if (result == 0) {
        map_view_put(*view);
        *view = next;
    }
    return result;
}

/* targets: how many nodes of the map each host has. */
static inline struct map_view *fixture_host_map(uint32_t nodes, uint32_t targets, uint32_t copies,
                                                uint32_t meta_groups, uint32_t data_groups)
{
    struct {
        struct map_header header;
        struct map_node nodes[MAP_COMMAND_INIT_NODES_MAX];
    } tail = {.header = {.level = 1, .copies = copies, .min_in_sync = 1}};
    assert(nodes <= MAP_COMMAND_INIT_NODES_MAX);
    for (uint32_t i = 0; i < nodes; i++) {
        tail.nodes[i].id = i + 1;
        tail.nodes[i].host = 1 + i / targets;
        tail.nodes[i].voter = i < 3;
        tail.nodes[i].size_bytes = 100 * GIB;
    }
    struct map_command command = {.type = MAP_COMMAND_INIT,
                                  .count = nodes,
                                  .meta_groups = meta_groups,
                                  .data_groups = data_groups};
    struct map_view *view = NULL;
    int result =
        fixture_apply(&view, &command, &tail, sizeof tail.header + nodes * sizeof tail.nodes[0]);
    assert(result == 0 && view);
    return view;
}

static inline struct map_view *fixture_first_map(uint32_t nodes, uint32_t copies,
                                                 uint32_t meta_groups, uint32_t data_groups)
{
    return fixture_host_map(nodes, 1, copies, meta_groups, data_groups);
}

#endif
