/* SPDX-License-Identifier: MIT */
/* A joining member catches up, from the log if that reaches back, else by a scan; and the primary
 * takes it in.
 *
 *     joining member                         primary
 *     CATCH_UP(valid, applied, held) ----->  our log has the record at held: stream from there
 *                                            else: "go back to applied", or "by scan from seq S"
 *     forget the suffix, ask again; or
 *     forget all, go on from S  (durable)
 *     CATCH_UP(emptied, S)      ---------->  stream from S+1, and send INSTALLs (scan.c)
 *     PREPAREs, like the others <----------
 *                                            close behind: commits count it from now on (I2),
 *     flush                     <----------  GROUP_FLUSH; from now on fsyncs wait for it, too
 *     flush                     <----------  GROUP_FLUSH, then ask the map for "in sync"
 *
 * Two logs that agree on the epoch of one record agree on all before it, because whoever took that
 * record had first been made equal to the primary that made it. So the prepared suffix of a member
 * that restarted is kept if its last record is the primary's: nothing of it has to be sent again.
 * While it is streamed to, the member asks again now and then; so no lost message or forgotten
 * state leaves it waiting for ever.
 *
 * Because commits wait for it from before the map is asked, it holds everything acknowledged when
 * the map says in sync. */
#include "base/assert.h"
#include "base/log.h"
#include "base/plant.h"
#include "group/group_internal.h"

enum { PROMOTE_LAG_RECORDS_MAX = 64 };
#define JOIN_POLL_NS      (250 * NS_PER_MS)
#define JOIN_ASK_NS       (5 * NS_PER_S)
#define PROMOTE_PAUSE_NS  (250 * NS_PER_MS)
#define JOIN_SCAN_IDLE_NS (10 * NS_PER_S)

/* ---- the joining member ---------------------------------------------------------------------- */

static bool still_joining(const struct group *group, uint32_t epoch)
{
    return group->epoch == epoch && group->role == ROLE_JOINING;
}

/* From here on nothing is applied until a primary has said what is committed. */
static void settle(struct group *group)
{
    while (group->applying)
        (void)waitq_wait(&group->state_waitq, env_now_ns() + JOIN_POLL_NS);
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
    const struct group_record *last = log_at(&group->log, group_last(group));
    const struct wire_catch_up_req body = {
        .applied_seq = group->applied_seq,
        .applied_epoch = group->applied_epoch,
        .state = group->scanning ? CATCH_UP_EMPTIED
                 : group->valid  ? CATCH_UP_VALID
                                 : CATCH_UP_INVALID,
        .held_seq = group_last(group),
        .held_epoch = last ? last->epoch : group->applied_epoch,
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

/* Being streamed to: until the epoch changes, it is time to ask again, or a scan falls silent. */
static void follow(struct group *group, uint32_t epoch)
{
    uint64_t end_ns = env_now_ns() + JOIN_ASK_NS;
    group->install_ns = env_now_ns();
    while (still_joining(group, epoch) && (group->scanning || env_now_ns() < end_ns)) {
        (void)waitq_wait(&group->state_waitq, env_now_ns() + NS_PER_S);
        if (group->scanning && env_now_ns() - group->install_ns > JOIN_SCAN_IDLE_NS) {
            settle(group);
            group->scanning = false; /* its part is worth nothing */
        }
    }
}

/* Ask after having gone back as told. 0: records follow. -ERR_NEED_SCAN: the log has moved on
 * meanwhile, ask anew. */
static int join_ask_again(struct group *group, const struct net_addr *primary)
{
    struct wire_catch_up_rep reply;
    uint64_t held_seq = group_last(group);
    int result = ask(group, primary, &reply);
    if (result < 0)
        return result;
    return !reply.by_scan && reply.start_seq == held_seq ? 0 : -ERR_NEED_SCAN;
}

/* 0: records follow; else to be asked again. */
static int join_ask(struct group *group, uint32_t epoch, const struct net_addr *primary)
{
    struct wire_catch_up_rep reply;
    uint64_t held_seq = group_last(group);
    int result = ask(group, primary, &reply);
    if (result < 0 || !still_joining(group, epoch))
        return result;
    if (!reply.by_scan && reply.start_seq == held_seq)
        return 0;
    settle(group); /* the primary sends nothing until we ask again */
    if (!still_joining(group, epoch))
        return -ERR_WRONG_EPOCH;
    group->scanning = false;
    if (!reply.by_scan) {
        if (reply.start_seq != group->applied_seq)
            return -ERR_NEED_SCAN;
        if (group_last(group) > group->applied_seq)
            group_log_cut(group, group->applied_seq);
        return join_ask_again(group, primary);
    }
    group->catch_up_total_bytes = reply.total_bytes;
    group->catch_up_since_ns = env_now_ns();
    result = empty_out(group, reply.start_seq, reply.start_epoch);
    return result == 0 && still_joining(group, epoch) ? join_ask_again(group, primary) : result;
}

/* One epoch of joining. */
static void join_epoch(struct group *group, uint32_t epoch)
{
    struct net_addr primary;
    settle(group);
    group->scanning = false; /* of an earlier epoch: its part is worth nothing */
    while (still_joining(group, epoch)) {
        int result =
            primary_addr(group, &primary) ? join_ask(group, epoch, &primary) : -ERR_NOT_PRIMARY;
        if (result == 0) {
            follow(group, epoch);
            continue;
        }
        if (result == -ERR_WRONG_EPOCH)
            map_client_poke(group->host->map);
        if (still_joining(group, epoch))
            (void)waitq_wait(&group->state_waitq, env_now_ns() + JOIN_POLL_NS);
    }
}

void join_fiber(void *arg)
{
    struct group *group = arg;
    while (group->role == ROLE_JOINING)
        join_epoch(group, group->epoch);
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

/* Whether seq is a record of our log, and those after it can be sent from memory. Those that
 * recovery found in the journal came without their data. */
static bool log_covers(const struct group *group, uint64_t seq, uint32_t epoch)
{
    const struct group_record *ours = log_at(&group->log, seq);
    bool same = ours ? ours->epoch == epoch : group_history_has(group, seq, epoch);
    if (!same || seq + 1 < group->log.first_seq)
        return false;
    for (uint64_t i = seq + 1; i <= group_last(group); i++) {
        const struct group_record *record = log_at(&group->log, i);
        if (record->extent_count && !record->data.buf)
            return false;
    }
    return true;
}

static void stream_to(struct member *member, const struct wire_catch_up_req *ask,
                      uint64_t incarnation)
{
    struct group *group = member->group;
    member->held_seq = member->sent_seq = member->asked_seq = ask->held_seq;
    member->commit_sent_seq = 0;
    member->incarnation = incarnation;
    member->reconciled = true;
    member->scan = 0;
    if (ask->state == CATCH_UP_EMPTIED)
        member_scan_start(member);
    group_send_soon(group);
    if (group_last(group) == member->held_seq)
        member_promote(member);
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
    struct wire_catch_up_rep reply = {.start_seq = ask->held_seq};
    bool valid = ask->state != CATCH_UP_INVALID;
    const char *how = "stream";
    if (member->promoting && member->reconciled && valid) {
        /* It may be in sync by the next map: it is to keep what it has. */
    } else if (valid && log_covers(group, ask->held_seq, ask->held_epoch)) {
        how = ask->state == CATCH_UP_VALID ? "log" : "scan";
        stream_to(member, ask, request->peer_incarnation);
    } else {
        member->reconciled = false;
        member->scan = 0;
        reply.by_scan = !valid || ask->held_seq == ask->applied_seq ||
                        !log_covers(group, ask->applied_seq, ask->applied_epoch);
        reply.start_seq = reply.by_scan ? group->applied_seq : ask->applied_seq;
        reply.start_epoch = group->applied_epoch;
        reply.total_bytes = group->bytes > 0 ? (uint64_t)group->bytes : 0;
        how = reply.by_scan ? "scan" : "log, without its suffix";
    }
    log_info("group-catch-up", "group=%u node=%u from=%llu to=%llu by=\"%s\"", group->id,
             member->node, (unsigned long long)reply.start_seq,
             (unsigned long long)group_last(group), how);
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
    /* Twice: nobody's fsync shall wait for a disk that hangs. From the second time on all do, and
     * what they have promised by then is part of it, because commits count the member. */
    int result = flush_member(group, member);
    if (result < 0 || group->epoch != epoch)
        return result < 0 ? result : -ERR_WRONG_EPOCH;
    member->flushed = true;
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
    member->counted = member->flushed = false; /* it stays joining for now */
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
    member->counted = !PLANT(GROUP_JOIN_UNCOUNTED); /* I2, from before the map is asked */
    fiber_spawn("group-promote", promote_fiber, member);
}
