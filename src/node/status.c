/* SPDX-License-Identifier: MIT */
/* STATUS: what this node knows of itself; the asker puts the cluster's picture together. */
#include "base/crc32c.h"
#include "base/mem.h"
#include "format/wire_map.h"
#include "node/node_internal.h"

enum { STATUS_CLIENTS_MAX = 64 };

static void status_numbers(struct node *node, struct wire_status_rep *reply)
{
    struct store_space space;
    struct store_health health;
    struct data_counters data;
    struct rpc_stats rpc;
    store_space(node->store, &space);
    store_health(node->store, &health);
    data_service_counters(node->data, &data);
    rpc_stats(node->rpc, &rpc);
    uint64_t scrub_done, scrub_total;
    store_scrub_progress(node->store, &scrub_done, &scrub_total);
    struct map_view *view = map_client_view(node->map);
    uint64_t repairs = health.node_repairs + health.super_repairs + health.journal_repairs;
    *reply = (struct wire_status_rep){
        .map_version = view ? view->header->version : 0,
        .incarnation = node->identity.incarnation,
        .used_bytes = space.used_bytes,
        .size_bytes = space.size_bytes,
        .memory_bytes = mem_heap_bytes(NULL),
        .uptime_ms = (env_now_ns() - node->started_ns) / NS_PER_MS,
        .node = node->config.node,
        .pid = env_pid(),
        .lease_valid = map_lease_valid(node->lease),
        .is_leader = node->map_server && map_server_is_leader(node->map_server),
        .data_errors = data.checksum_errors,
        .data_repairs = data.repairs,
        .data_losses = data.losses,
        .node_errors = repairs + health.node_losses,
        .node_repairs = repairs,
        .wire_refused = rpc.refused,
        .scrub_done_bytes = scrub_done,
        .scrub_total_bytes = scrub_total,
        .scrub_rate = node->options.scrub_rate,
        .scrub_found = data.scrub_found,
        .scrubs = data.scrubs,
        .written_data = health.data_bytes - MIN(health.cleaned_bytes, health.data_bytes),
        .written_moved = health.cleaned_bytes,
        .written_meta = health.journal_bytes + health.node_bytes,
    };
}

static void serve_status(void *service, struct rpc_request *request)
{
    struct node *node = service;
    struct wire_status_rep reply;
    status_numbers(node, &reply);
    struct wire_status_group *groups;
    struct buf_slice payload = {.buf = buf_new(MAP_GROUPS_MAX * sizeof *groups)};
    groups = (struct wire_status_group *)(void *)payload.buf->data;
    reply.group_count = group_host_status(node->host, groups, MAP_GROUPS_MAX);
    payload.bytes = reply.group_count * (uint32_t)sizeof *groups;
    reply.groups_crc = crc32c(0, groups, payload.bytes);
    struct wire_status_client clients[STATUS_CLIENTS_MAX];
    if (node->map_server)
        reply.client_count = map_server_clients(node->map_server, clients, STATUS_CLIENTS_MAX);
    rpc_reply(request, 0, &reply, slice_of(clients, reply.client_count * sizeof clients[0]),
              payload);
    buf_put(payload.buf);
}

void node_status_start(struct node *node)
{
    rpc_register(node->rpc, RPC_STATUS, serve_status, node);
}
