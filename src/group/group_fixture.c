/* SPDX-License-Identifier: MIT */
#include "group/group_fixture.h"

#include <stdio.h>

#include "base/assert.h"
#include "map/map.h"

#define DISK_BYTES (1 * GIB)

void group_fixture_node(struct map_node *ret_node, uint32_t id, enum map_node_state state,
                        uint64_t incarnation)
{
    char text[32];
    struct net_addr addr;
    (void)snprintf(text, sizeof text, "10.0.0.%u:7000", id);
    int result = net_addr_parse(text, &addr);
    assert(result == 0);
    *ret_node = (struct map_node){
        .id = id, .host = id, .state = state, .incarnation = incarnation, .port = addr.port};
    memcpy(ret_node->ip, addr.ip, sizeof addr.ip);
}

static struct disk *open_disk(const struct group_fixture *fixture)
{
    struct disk *disk;
    struct store_identity found;
    int result = disk_open(fixture->disk, DISK_BYTES, DISK_CREATE, &disk);
    assert(result == 0);
    if (store_identify(disk, &found) < 0) {
        const struct store_identity fresh = {.node = fixture->id};
        result = store_format(disk, &fresh, true);
        assert(result == 0);
    }
    return disk;
}

int group_fixture_start(const struct group_fixture *fixture, struct rpc **ret_rpc,
                        struct group_host **ret_groups)
{
    const struct rpc_identity identity = {.node = fixture->id, .incarnation = fixture->incarnation};
    struct disk *disk = open_disk(fixture);
    struct rpc *rpc = rpc_new(&identity);
    const struct group_host_options options = {
        .node = fixture->id,
        .store = fixture->store,
        .log_memory_bytes = fixture->log_memory_bytes,
        .content = {[MAP_GROUP_META] = fixture->content, [MAP_GROUP_DATA] = fixture->content},
        .content_context =
            {[MAP_GROUP_META] = fixture->context, [MAP_GROUP_DATA] = fixture->context},
    };
    struct group_host *groups = group_host_new(rpc, &options);
    const struct store_options store_options = {
        .memory_bytes = 32 * MIB, .log_ops = &group_host_log_ops, .context = groups};
    int result = store_open(disk, &store_options, fixture->store);
    if (result < 0)
        return result;
    result = group_host_load(groups);
    assert(result == 0);
    struct map_node self;
    struct net_addr addr;
    group_fixture_node(&self, fixture->id, MAP_NODE_UP, fixture->incarnation);
    map_node_addr(&self, &addr);
    result = rpc_listen(rpc, &addr);
    assert(result == 0);
    *ret_rpc = rpc;
    *ret_groups = groups;
    return 0;
}

/* The map of these tests knows by itself who is dead. */
void map_client_suspect(struct map_client *client, uint32_t node, uint64_t incarnation)
{
    (void)client;
    (void)node;
    (void)incarnation;
}
