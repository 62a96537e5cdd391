/* SPDX-License-Identifier: MIT */
#include "map/client_internal.h"

#include "base/crc32c.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"

/* A node's right to act.
 *
 * Problem. A node that is cut off must stop serving before somebody else starts in its place.
 *
 * The node sends a heartbeat and, once the leader has acknowledged it, may act until LEASE after
 * the moment it *sent* the beat, by its own monotonic clock. The leader declares it dead no earlier
 * than LEASE + MARGIN after the last beat *arrived*. What was sent came after it was sent, so the
 * node stops first, as long as both clocks run at the same rate within the margin (13 %).
 *
 *  L1 valid only until sent + LEASE of an acknowledged beat.
 *  L2 valid only while the map we act by names this very incarnation as up: before that, the map
 *     speaks of a process whose memory we do not have.
 *  L3 Once fenced, never valid again.
 *
 * The incarnation is the rpc identity's; it must be new with every process. */

#define RETRY_NS         (50 * NS_PER_MS)
#define SOON_NS          (20 * NS_PER_MS)
#define REFUSED_RETRY_NS (5 * NS_PER_S)

struct map_lease {
    struct rpc *rpc;
    struct map_client *client;
    uint32_t node;
    const struct map_lease_ops *ops;
    void *context;
    uint64_t valid_until_ns;
    uint64_t regained_ns; /* after it had run out; 0: it never has */
    bool held;            /* it has been valid before */
    bool fenced;
    bool removed;
    bool want_reports; /* the leader lacks ours */
};

bool map_lease_fenced(const struct map_lease *lease)
{
    return lease->fenced;
}

bool map_lease_removed(const struct map_lease *lease)
{
    return lease->removed;
}

uint64_t map_lease_until_ns(const struct map_lease *lease)
{
    return lease->valid_until_ns;
}

bool map_lease_valid_at(const struct map_lease *lease, uint64_t now_ns)
{
    bool over = now_ns >= lease->valid_until_ns && !PLANT(MAP_LEASE_FOREVER);
    if (lease->fenced || lease->removed || over) /* L1, L3 */
        return false;
    const struct map_view *view = map_client_view(lease->client);
    const struct map_node *node = view ? map_view_node(view, lease->node) : NULL;
    return node && node->state == MAP_NODE_UP &&
           node->incarnation == rpc_identity(lease->rpc)->incarnation; /* L2 */
}

bool map_lease_valid(const struct map_lease *lease)
{
    return map_lease_valid_at(lease, env_now_ns());
}

uint64_t map_lease_regained_ns(const struct map_lease *lease)
{
    return lease->regained_ns;
}

static void take_reply(struct map_lease *lease, uint64_t sent_ns,
                       const struct wire_node_beat_rep *reply)
{
    if (reply->fenced) {
        log_warn("lease-fenced", "node=%u", lease->node);
        lease->fenced = true;
        return;
    }
    uint64_t lease_ns = MIN(reply->lease_ms * NS_PER_MS, MAP_LEASE_NS);
    uint64_t until_ns = MAX(lease->valid_until_ns, sent_ns + lease_ns), now_ns = env_now_ns();
    if (until_ns > now_ns) {
        if (lease->held && lease->valid_until_ns <= now_ns)
            lease->regained_ns = now_ns;
        lease->held = true;
    }
    lease->valid_until_ns = until_ns;
    lease->want_reports = reply->want_reports;
    const struct map_view *view = map_client_view(lease->client);
    if (!view || view->header->version < reply->map_version)
        map_client_poke(lease->client);
}

/* What this node has of every group, as the payload of a heartbeat. */
static struct buf_slice reports_of(struct map_lease *lease, struct wire_node_beat_req *body)
{
    struct map_replica_report *reports;
    struct buf *buf = buf_new(MAP_GROUPS_MAX * sizeof *reports);
    reports = (struct map_replica_report *)(void *)buf->data;
    body->report_count = lease->ops->replicas(lease->context, reports, MAP_GROUPS_MAX);
    assert(body->report_count <= MAP_GROUPS_MAX);
    uint32_t bytes = body->report_count * (uint32_t)sizeof *reports;
    body->reports_crc = crc32c(0, reports, bytes);
    return (struct buf_slice){.buf = buf, .bytes = bytes};
}

/* One heartbeat. Returns when the next is due. */
static may_yield uint64_t beat(struct map_lease *lease, const struct net_addr *leader)
{
    const struct rpc_identity *identity = rpc_identity(lease->rpc);
    struct wire_node_beat_req body = {
        .node = lease->node,
        .with_reports = lease->want_reports,
        .incarnation = identity->incarnation,
        .map_version = map_client_acting_version(lease->client),
        .pid = env_pid(),
    };
    struct buf_slice reports = {0};
    lease->ops->usage(lease->context, &body.used_bytes, &body.size_bytes);
    if (lease->want_reports)
        reports = reports_of(lease, &body);
    uint64_t sent = env_now_ns();
    struct rpc_call call = {
        .type = RPC_NODE_BEAT,
        .body = &body,
        .payload = reports,
        .deadline_ns = sent + MAP_BEAT_TIMEOUT_NS,
    };
    int result = rpc_call(lease->rpc, leader, &call);
    struct wire_node_beat_rep reply;
    bool answered = rpc_reply_body(&call, &reply, sizeof reply, NULL);
    rpc_call_fini(&call);
    buf_put(reports.buf);
    if (result == -ENOENT) {
        log_warn("lease-removed", "node=%u why=\"the cluster has no such node any more\"",
                 lease->node);
        lease->removed = true;
        return env_now_ns();
    }
    if (result == -EINVAL) {
        log_error("lease-refused", "node=%u error=%s why=\"the map leader finds it malformed\"",
                  lease->node, error_name(result));
        return env_now_ns() + REFUSED_RETRY_NS;
    }
    if (result < 0 || !answered) {
        if (result != -ERR_BUSY)
            map_client_leader_failed(lease->client, leader);
        return env_now_ns() + RETRY_NS;
    }
    take_reply(lease, sent, &reply);
    bool settled = reply.lease_ms > 0 && !reply.want_reports;
    return settled ? sent + MAP_BEAT_INTERVAL_NS : env_now_ns() + SOON_NS;
}

static void lease_fiber(void *arg)
{
    struct map_lease *lease = arg;
    while (!lease->fenced && !lease->removed) {
        struct net_addr leader;
        uint64_t next = env_now_ns() + 2 * RETRY_NS;
        if (map_client_leader(lease->client, &leader))
            next = beat(lease, &leader);
        if (env_now_ns() < next)
            map_client_wait_leader(lease->client, next); /* a new leader hears of us at once */
    }
}

struct map_lease *map_lease_start(struct rpc *rpc, struct map_client *client, uint32_t node,
                                  const struct map_lease_ops *ops, void *context)
{
    assert(rpc_identity(rpc)->incarnation != 0 && node != 0);
    struct map_lease *lease = mem_zalloc(sizeof *lease);
    *lease = (struct map_lease){.rpc = rpc,
                                .client = client,
                                .node = node,
                                .ops = ops,
                                .context = context,
                                .want_reports = true};
    fiber_spawn("map-lease", lease_fiber, lease);
    return lease;
}
