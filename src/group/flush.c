/* SPDX-License-Identifier: MIT */
/* fsync: everything acknowledged is on the media of every in-sync member (I9 of the design's
 * durability contract). Concurrent callers share a round: who waits for the mutex while a round
 * runs finds its records flushed by the next, which covers all that waited. */
#include "base/assert.h"
#include "base/plant.h"
#include "group/group_internal.h"

#define FLUSH_TIMEOUT_NS (10 * NS_PER_S)

struct flush_round {
    struct waitq waitq;
    uint32_t pending;
    int result;
};

struct member_flush {
    struct rpc_async async;
    struct flush_round *round;
    struct member *member;
    uint32_t epoch;
};

static void member_flushed(struct rpc_async *async)
{
    struct member_flush *flush = container_of(async, struct member_flush, async);
    struct flush_round *round = flush->round;
    int status = async->call.status;
    struct group *group = flush->member->group;
    /* Its device failed, or hangs: it takes records, but will never have them on its media. */
    if (status == -ERR_FENCED || status == -ERR_TIMED_OUT) {
        if (group->epoch == flush->epoch && group_is_primary(group))
            member_drop(flush->member);
        status = -ERR_GAP; /* not ours: try again without it */
    }
    if (status < 0)
        round->result = status;
    rpc_call_fini(&async->call);
    round->pending--;
    waitq_wake_all(&round->waitq);
}

/* One try, in the present epoch. */
static int flush_once(struct group *group, uint64_t seq)
{
    struct flush_round round = {0};
    struct member_flush flushes[MAP_MEMBERS_MAX];
    const struct wire_group_flush_req body = {.seq = seq};
    waitq_init(&round.waitq);
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct member *member = &group->members[i];
        /* A member on its way into the map's in-sync set belongs to them (join.c). */
        if (!member->flushed || PLANT(GROUP_FLUSH_ALONE))
            continue;
        flushes[i] = (struct member_flush){
            .async.call = {.type = RPC_GROUP_FLUSH,
                           .group = group->id,
                           .epoch = group->epoch,
                           .body = &body,
                           .deadline_ns = env_now_ns() + FLUSH_TIMEOUT_NS},
            .async.done = member_flushed,
            .round = &round,
            .member = &group->members[i],
            .epoch = group->epoch,
        };
        round.pending++;
        rpc_send(group->host->rpc, &member->addr, &flushes[i].async);
    }
    int result = store_wait_durable(host_store(group->host), group->last_lsn);
    while (round.pending > 0)
        (void)waitq_wait(&round.waitq, 0); /* each call has its deadline */
    return result < 0 ? result : round.result;
}

/* Of what we knew to be committed in a reign; in a later one, seq may name other records. */
static bool reigns(const struct group *group, uint32_t reign)
{
    return group_is_primary(group) && group->reign == reign;
}

int group_flush(struct group *group)
{
    uint64_t seq = group_last(group);
    uint32_t reign = group->reign;
    int result = group_wait(group, seq);
    if (result < 0)
        return result;
    fiber_mutex_lock(&group->flush_mutex);
    while (reigns(group, reign) && group->durable_seq < seq) {
        uint64_t covers = group->commit_seq;
        uint32_t epoch = group->epoch;
        assert(covers >= seq);
        result = flush_once(group, covers);
        if (result == 0 && group->epoch == epoch)
            group->durable_seq = MAX(group->durable_seq, covers);
        if (result == -ERR_FENCED)
            break;
        result = 0;
        if (group->durable_seq < seq)
            fiber_sleep(GROUP_RETRY_NS); /* a member was lost: its removal makes a new epoch */
    }
    fiber_mutex_unlock(&group->flush_mutex);
    if (!reigns(group, reign) || group->durable_seq < seq)
        return result < 0 ? result : -ERR_NOT_PRIMARY;
    return 0;
}

void serve_group_flush(void *service, struct rpc_request *request)
{
    struct group_host *host = service;
    const struct wire_group_flush_req *flush = request->body;
    struct group *group = request_group(host, request);
    if (!group)
        return;
    int result = -ERR_GAP;
    if (group_last(group) >= flush->seq && !group->failed)
        result = store_wait_durable(host_store(host), group->last_lsn);
    const struct wire_group_flush_rep reply = {.durable_seq = flush->seq};
    rpc_reply(request, result, &reply, (struct slice){0}, (struct buf_slice){0});
}
