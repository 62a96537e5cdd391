/* SPDX-License-Identifier: MIT */
/* A joining member catches up, from the log if that reaches back, else by a scan; and the primary
 * takes it in.
 *
 *     joining member                         primary
 *     CATCH_UP(applied, valid)  ---------->  log covers it: stream; else "by scan from seq S"
 *     forget all, go on from S  (durable)
 *     CATCH_UP(S, emptied)      ---------->  stream from S+1, and send INSTALLs (scan.c)
 *     PREPAREs, like the others <----------
 *                                            close behind: commits count it from now on (I2),
 *     flush                     <----------  GROUP_FLUSH, then ask the map for "in sync"
 *
 * Because commits wait for it from before the map is asked, it holds everything acknowledged when
 * the map says in sync. */
#include "base/assert.h"
#include "base/log.h"
#include "group/group_internal.h"

enum { PROMOTE_LAG_RECORDS_MAX = 64 };
#define JOIN_POLL_NS      (250 * NS_PER_MS)
#define PROMOTE_PAUSE_NS  (250 * NS_PER_MS)
#define JOIN_SCAN_IDLE_NS (10 * NS_PER_S)

/* ---- the joining member ---------------------------------------------------------------------- */

static bool still_joining(const struct group *group, uint32_t epoch)
{
    return group->epoch == epoch && group->role == ROLE_JOINING;
}

/* What is prepared and not applied may never have been committed. */
static void forget_prepared(struct group *group)
{
    while (group->applying)
        (void)waitq_wait(&group->state_waitq, env_now_ns() + JOIN_POLL_NS);
    if (group_last(group) > group->applied_seq)
        group_log_cut(group, group->applied_seq);
    group->commit_seq = group->applied_seq;
}

/* Forget everything, durably, and go on from seq. */
static int empty_out(struct group *group, uint64_t seq, uint32_t epoch)
{
    if (group->valid)
        group_state_set_valid(group, false); /* I7 */
    while (group->applying)
        (void)waitq_wait(&group->state_waitq, env_now_ns() + JOIN_POLL_NS);
    group->scanning = true;
    group->catch_up_done_bytes = 0;
    group_state_jump(group, seq, epoch);
    return store_wait_durable(host_store(group->host), group->last_lsn);
}

static int ask(struct group *group, const struct net_addr *primary,
               struct wire_catch_up_rep *ret_reply)
{
    const struct wire_catch_up_req body = {
        .applied_seq = group->applied_seq,
        .applied_epoch = group->applied_epoch,
        .state = group->scanning ? CATCH_UP_EMPTIED
                 : group->valid  ? CATCH_UP_VALID
                                 : CATCH_UP_INVALID,
    };
    struct rpc_call call = {
        .type = RPC_CATCH_UP,
        .group = group->id,
        .epoch = group->epoch,
        .body = &body,
        .deadline_ns = env_now_ns() + GROUP_SILENCE_NS,
    };
    int result = rpc_call(group->host->rpc, primary, &call);
    if (result == 0 && !rpc_reply_body(&call, ret_reply, sizeof *ret_reply, NULL))
        result = -ERR_CORRUPT_WIRE;
    rpc_call_fini(&call);
    return result;
}

static bool primary_addr(struct group *group, struct net_addr *ret_addr)
{
    struct map_view *view = map_client_view(group->host->map);
    const struct map_group *map_group = view ? map_view_group(view, group->id) : NULL;
    const struct map_node *node = map_group ? map_view_node(view, map_group->primary) : NULL;
    if (!node || node->id == group->host->options.node)
        return false;
    map_node_addr(node, ret_addr);
    return true;
}

/* Being streamed to: nothing to do until the epoch changes, or a scan falls silent. */
static void follow(struct group *group, uint32_t epoch)
{
    group->install_ns = env_now_ns();
    while (still_joining(group, epoch)) {
        (void)waitq_wait(&group->state_waitq, env_now_ns() + NS_PER_S);
        if (group->scanning && env_now_ns() - group->install_ns > JOIN_SCAN_IDLE_NS)
            return;
    }
}

static void join_once(struct group *group, uint32_t epoch)
{
    struct net_addr primary;
    struct wire_catch_up_rep reply;
    if (!primary_addr(group, &primary)) {
        (void)waitq_wait(&group->state_waitq, env_now_ns() + JOIN_POLL_NS);
        return;
    }
    forget_prepared(group);
    if (group->scanning) /* an earlier scan broke off: its part is worth nothing */
        group->scanning = false;
    int result = ask(group, &primary, &reply);
    if (result == 0 && reply.by_scan && still_joining(group, epoch)) {
        group->catch_up_total_bytes = reply.total_bytes;
        group->catch_up_since_ns = env_now_ns();
        result = empty_out(group, reply.start_seq, reply.start_epoch);
        if (result == 0 && still_joining(group, epoch))
            result = ask(group, &primary, &reply);
        if (result == 0 && reply.by_scan)
            result = -ERR_NEED_SCAN; /* the log moved on too fast: once more */
    }
    if (!still_joining(group, epoch))
        return;
    if (result < 0) {
        if (result == -ERR_WRONG_EPOCH)
            map_client_poke(group->host->map);
        (void)waitq_wait(&group->state_waitq, env_now_ns() + JOIN_POLL_NS);
        return;
    }
    follow(group, epoch);
}

void join_fiber(void *arg)
{
    struct group *group = arg;
    while (group->role == ROLE_JOINING)
        join_once(group, group->epoch);
    group->joining_runs = false;
}

/* ---- the primary ----------------------------------------------------------------------------- */

static struct member *member_of(struct group *group, uint32_t node)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].node == node)
            return &group->members[i];
    }
    return NULL;
}

/* Whether records after seq can be sent from memory. Those that recovery found in the journal came
 * without their data. */
static bool log_covers(const struct group *group, uint64_t seq)
{
    if (seq > group->applied_seq || seq + 1 < group->log.first_seq)
        return false;
    for (uint64_t i = seq + 1; i <= group_last(group); i++) {
        const struct group_record *record = log_at(&group->log, i);
        if (record->extent_count && !record->data.buf)
            return false;
    }
    return true;
}

void serve_catch_up(void *service, struct rpc_request *request)
{
    struct group_host *host = service;
    const struct wire_catch_up_req *ask = request->body;
    struct group *group = request_group(host, request);
    if (!group)
        return;
    struct member *member = member_of(group, request->peer_node);
    if (group->role != ROLE_PRIMARY || !member || member->state != MAP_MEMBER_JOINING) {
        rpc_reply_status(request,
                         group->role == ROLE_RECOVERING ? -ERR_RECOVERING : -ERR_NOT_PRIMARY);
        return;
    }
    bool covered = ask->state != CATCH_UP_INVALID && log_covers(group, ask->applied_seq) &&
                   group_history_has(group, ask->applied_seq, ask->applied_epoch);
    struct wire_catch_up_rep reply = {0};
    if (covered) {
        member->held_seq = member->sent_seq = ask->applied_seq;
        member->commit_sent_seq = 0;
        member->incarnation = request->peer_incarnation;
        member->reconciled = true;
        member->scan = 0;
        if (ask->state == CATCH_UP_EMPTIED)
            member_scan_start(member);
        group_send_soon(group);
        if (group_last(group) == member->held_seq)
            member_promote(member);
    } else {
        member->reconciled = false;
        member->scan = 0;
        reply.by_scan = 1;
        reply.start_seq = group->applied_seq;
        reply.start_epoch = group->applied_epoch;
        reply.total_bytes = group->bytes > 0 ? (uint64_t)group->bytes : 0;
    }
    log_info("group-catch-up", "group=%u node=%u from=%llu to=%llu by=%s", group->id, member->node,
             (unsigned long long)ask->applied_seq, (unsigned long long)group_last(group),
             covered && ask->state == CATCH_UP_VALID ? "log" : "scan");
    rpc_reply(request, 0, &reply, (struct slice){0}, (struct buf_slice){0});
}

static int flush_member(struct group *group, const struct member *member)
{
    const struct wire_group_flush_req body = {.seq = member->held_seq};
    struct rpc_call call = {
        .type = RPC_GROUP_FLUSH,
        .group = group->id,
        .epoch = group->epoch,
        .body = &body,
        .deadline_ns = env_now_ns() + 5 * NS_PER_S,
    };
    struct net_addr addr = member->addr;
    int result = rpc_call(group->host->rpc, &addr, &call);
    rpc_call_fini(&call);
    return result;
}

/* It holds everything up to target, on its media. 0 or why not. */
static int reach(struct group *group, struct member *member, uint32_t epoch, uint64_t target)
{
    uint64_t end_ns = env_now_ns() + GROUP_SILENCE_NS;
    while (group->epoch == epoch && group->role == ROLE_PRIMARY && member->reconciled &&
           member->held_seq < target && env_now_ns() < end_ns)
        (void)waitq_wait(&group->state_waitq, env_now_ns() + GROUP_RETRY_NS);
    if (group->epoch != epoch || !member->reconciled || member->held_seq < target)
        return -ERR_TIMED_OUT;
    return flush_member(group, member);
}

/* Whether the newest map here has another epoch than the one we act in. */
static bool epoch_is_over(struct group *group, uint32_t epoch)
{
    struct map_view *view = map_client_view(group->host->map);
    const struct map_group *map_group = view ? map_view_group(view, group->id) : NULL;
    return group->epoch != epoch || (map_group && map_group->epoch > epoch);
}

static void promote_fiber(void *arg)
{
    struct member *member = arg;
    struct group *group = member->group;
    uint32_t epoch = group->epoch;
    uint32_t node = member->node;
    int result = reach(group, member, epoch, group_last(group));
    if (result == 0) {
        /* As long as the map may have said "in sync", or may still, the member has to count: only a
         * definite answer ends the asking. */
        do {
            result =
                map_client_change_group(group->host->map, group->id, epoch, GROUP_CHANGE_IN_SYNC,
                                        node, env_now_ns() + 5 * NS_PER_S);
        } while (result != 0 && result != -ERR_CAS_FAILED && !epoch_is_over(group, epoch));
        while (group->epoch == epoch && (result == 0 || epoch_is_over(group, epoch)))
            (void)waitq_wait(&group->state_waitq, env_now_ns() + GROUP_RETRY_NS);
    }
    if (group->epoch != epoch)
        return;
    member->counted = false; /* it stays joining for now */
    group_commit_advance(group);
    fiber_sleep(PROMOTE_PAUSE_NS);
    if (group->epoch != epoch)
        return;
    member->promoting = false;
    member_promote(member); /* nothing else might ask for it in an idle group */
}

void member_promote(struct member *member)
{
    struct group *group = member->group;
    if (member->promoting || member->scan || !member->reconciled || group->role != ROLE_PRIMARY ||
        group_last(group) - member->held_seq > PROMOTE_LAG_RECORDS_MAX)
        return;
    member->promoting = true;
    member->counted = true; /* I2, from before the map is asked */
    fiber_spawn("group-promote", promote_fiber, member);
}
