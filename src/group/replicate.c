/* SPDX-License-Identifier: MIT */
/* The primary sends its log to the members: everything that a turn appended leaves in one message
 * a member (one a record if it brings data, because a message carries one payload). Up to
 * GROUP_PREPARES_IN_FLIGHT_MAX messages are on the way; they arrive in order or their connection
 * breaks, and then sending starts again behind what was acknowledged. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plant.h"
#include "group/group_internal.h"

struct prepare {
    struct rpc_async async;
    struct member *member;
    uint32_t epoch;
};

/* ---- committing ------------------------------------------------------------------------------ */

static void written_done(struct store_waiter *waiter, int result)
{
    struct group *group = container_of(waiter, struct group, written);
    if (result < 0)
        return; /* the device failed: alone, nothing will be committed any more (stays armed) */
    group->written_armed = false;
    group->written_seq = MAX(group->written_seq, group->written_target);
    group_commit_advance(group);
}

/* I8: alone, a record counts once the device has it. */
static uint64_t own_held(struct group *group, bool alone)
{
    if (!alone || PLANT(GROUP_LONE_UNWRITTEN))
        return group_last(group);
    if (group->written_seq < group_last(group) && !group->written_armed) {
        group->written_armed = true;
        group->written_target = group_last(group);
        group->written.fn = written_done;
        store_notify_written(host_store(group->host), &group->written, group->last_lsn);
    }
    return MIN(group->written_seq, group_last(group));
}

void group_commit_advance(struct group *group)
{
    if (!group_is_primary(group))
        return;
    /* By the map: a member that is being taken in may hold everything, but would not be asked. */
    bool alone = group->in_sync_count <= 1;
    uint64_t commit = UINT64_MAX;
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct member *member = &group->members[i];
        if (!member->counted)
            continue;
        if (!PLANT(GROUP_COMMITS_EARLY))
            commit = MIN(commit, member->reconciled ? member->held_seq : 0);
    }
    commit = MIN(commit, own_held(group, alone));
    if (commit <= group->commit_seq)
        return;
    assert(commit <= group_last(group)); /* I2, I6 */
    group->commit_seq = commit;
    group_apply_kick(group);
    waitq_wake_all(&group->state_waitq);
    group_send_soon(group); /* the members learn the commit point with the next records, or late */
}

uint64_t group_needed_seq(struct group *group)
{
    uint64_t needed = group->applied_seq + 1;
    for (uint32_t i = 0; i < group->member_count && group_is_primary(group); i++) {
        struct member *member = &group->members[i];
        if (!member->reconciled)
            continue;
        if (member->state == MAP_MEMBER_JOINING && !member->counted &&
            group->log.bytes > GROUP_JOIN_LAG_BYTES_MAX) {
            member->reconciled = false; /* too slow for the log: it will ask again */
            member->scan = 0;
            continue;
        }
        needed = MIN(needed, member->held_seq + 1);
    }
    return needed;
}

/* ---- sending --------------------------------------------------------------------------------- */

static bool behind(const struct group *group, const struct member *member)
{
    return member->reconciled && member->sent_seq < group_last(group);
}

static void drop_fiber(void *arg)
{
    struct member *member = arg;
    struct group *group = member->group;
    uint32_t epoch = group->epoch;
    log_info("group-drop", "group=%u epoch=%u node=%u why=\"does not acknowledge\"", group->id,
             epoch, member->node);
    int result = map_client_change_group(group->host->map, group->id, epoch, GROUP_CHANGE_DROP,
                                         member->node, env_now_ns() + GROUP_SILENCE_NS);
    (void)result; /* a new epoch tells; else the next silence asks again */
    if (group->epoch == epoch)
        member->dropping = false;
}

void member_drop(struct member *member)
{
    if (member->dropping || member->state != MAP_MEMBER_IN_SYNC)
        return;
    member->dropping = true;
    fiber_spawn("group-drop", drop_fiber, member);
}

static void check_silence(struct group *group, struct member *member)
{
    if (!member->counted || member->state != MAP_MEMBER_IN_SYNC || member->dropping)
        return;
    if (member->held_seq >= group_last(group)) {
        member->progress_ns = env_now_ns();
        return;
    }
    if (env_now_ns() - member->progress_ns >= GROUP_SILENCE_NS)
        member_drop(member);
}

static void retry_at(struct group *group, uint64_t deadline_ns)
{
    if (!group->send_timer.heap_index || group->send_timer.deadline_ns > deadline_ns)
        timer_arm(&group->send_timer, deadline_ns);
}

static void heard(struct peer *peer, uint64_t free_bytes)
{
    peer->free_bytes = free_bytes;
    peer->told_ns = env_now_ns();
    waitq_wake_all(&peer->news);
}

static void prepare_done(struct rpc_async *async)
{
    struct prepare *prepare = container_of(async, struct prepare, async);
    struct member *member = prepare->member;
    struct group *group = member->group;
    int status = async->call.status;
    struct wire_prepare_rep reply;
    bool answered = rpc_reply_body(&async->call, &reply, sizeof reply, NULL);
    rpc_call_fini(&async->call);
    bool current = prepare->epoch == group->epoch && group_is_primary(group);
    mem_free(prepare);
    if (!current)
        return; /* of an earlier configuration: members[] means something else now */
    assert(member->in_flight > 0);
    member->in_flight--;
    if (answered && (status == 0 || status == -ERR_GAP) && reply.held_seq <= group_last(group)) {
        if (reply.held_seq > member->held_seq) {
            member->held_seq = reply.held_seq;
            member->progress_ns = env_now_ns();
        }
    }
    if (answered)
        heard(member->peer, reply.free_bytes);
    if (status == 0) {
        group_commit_advance(group);
        if (member->state == MAP_MEMBER_JOINING)
            member_promote(member);
        if (behind(group, member) || member->commit_sent_seq < group->commit_seq)
            group_send_soon(group);
        return;
    }
    if (status == -ERR_FENCED)
        member_drop(member); /* its device has failed: it holds nothing any more */
    if (status == -ERR_CONN_REFUSED)
        map_client_suspect(group->host->map, member->node, member->incarnation);
    if (status == -ERR_WRONG_EPOCH)
        map_client_poke(group->host->map);
    member->sent_seq = member->held_seq; /* from there again */
    member->commit_sent_seq = 0;
    bool full = status == -ERR_NO_SPACE; /* I10 */
    member->retry_ns = env_now_ns() + (full ? GROUP_FULL_RETRY_NS : GROUP_RETRY_NS);
    check_silence(group, member);
    retry_at(group, member->retry_ns);
}

/* Put one record into the message. False if it does not fit behind what is there. */
static bool pack(struct writer *tail, const struct group_record *record, struct buf_slice *payload,
                 uint32_t count)
{
    size_t payload_room = round_up(record->payload_bytes, 8);
    size_t blocks_room = round_up(record->extent_count * sizeof(uint32_t), 8);
    size_t need = sizeof(struct wire_group_record) + payload_room + blocks_room;
    bool has_data = record->extent_count > 0;
    assert(!has_data || record->data.buf); /* join.c sends no others */
    if (count > 0 && (need > writer_left(tail) || has_data || payload->bytes))
        return false;
    const struct wire_group_record row = {
        .seq = record->seq,
        .epoch = record->epoch,
        .kind = record->kind,
        .payload_bytes = record->payload_bytes,
        .data_bytes = has_data ? record->data.bytes : 0,
        .extent_count = record->extent_count,
    };
    static const uint8_t zero[8];
    writer_put(tail, &row, sizeof row);
    writer_put(tail, record_payload(record).data, record->payload_bytes);
    writer_put(tail, zero, payload_room - record->payload_bytes);
    for (uint32_t i = 0; i < record->extent_count; i++)
        writer_u32(tail, record->extents[i].blocks);
    writer_put(tail, zero, blocks_room - record->extent_count * sizeof(uint32_t));
    assert(writer_ok(tail)); /* GROUP_PAYLOAD_MAX fits into GROUP_PREPARE_TAIL_MAX */
    if (has_data)
        *payload = record->data;
    return true;
}

static void send_prepare(struct group *group, struct member *member)
{
    uint8_t *tail_bytes = group->host->scratch;
    struct writer tail;
    struct buf_slice payload = {0};
    uint32_t count = 0;
    writer_init(&tail, tail_bytes, GROUP_PREPARE_TAIL_MAX);
    uint64_t seq = member->sent_seq + 1;
    for (; seq <= group_last(group); seq++) {
        const struct group_record *record = log_at(&group->log, seq);
        assert(record); /* the log is trimmed below what members need (join.c) */
        if (!pack(&tail, record, &payload, count))
            break;
        count++;
    }
    const struct wire_prepare_req body = {.commit_seq = group->commit_seq, .record_count = count};
    struct prepare *prepare = mem_alloc(sizeof *prepare);
    *prepare = (struct prepare){
        .async.call = {.type = RPC_PREPARE,
                       .group = group->id,
                       .epoch = group->epoch,
                       .body = &body,
                       .tail = {slice_of(tail_bytes, writer_bytes(&tail))},
                       .payload = payload,
                       .deadline_ns = env_now_ns() + GROUP_PREPARE_TIMEOUT_NS},
        .async.done = prepare_done,
        .member = member,
        .epoch = group->epoch,
    };
    if (member->held_seq >= member->asked_seq)
        member->progress_ns = env_now_ns(); /* it owed nothing until now */
    member->sent_seq = seq - 1;
    member->asked_seq = MAX(member->asked_seq, member->sent_seq);
    member->commit_sent_seq = group->commit_seq;
    member->in_flight++;
    rpc_send(group->host->rpc, &member->addr, &prepare->async);
}

void member_ask(struct member *member)
{
    if (member->reconciled && member->in_flight == 0)
        send_prepare(member->group, member);
}

static void send_to(struct group *group, struct member *member, bool push_commit)
{
    if (!member->reconciled)
        return;
    uint64_t now_ns = env_now_ns();
    if (member->retry_ns > now_ns) {
        retry_at(group, member->retry_ns);
        return;
    }
    while (behind(group, member) && member->in_flight < GROUP_PREPARES_IN_FLIGHT_MAX)
        send_prepare(group, member);
    if (member->commit_sent_seq >= group->commit_seq || member->in_flight > 0)
        return;
    if (push_commit)
        send_prepare(group, member);
    else
        retry_at(group, now_ns + GROUP_COMMIT_PUSH_NS);
}

static void send_all(struct group *group, bool push_commit)
{
    if (!group_is_primary(group))
        return;
    group_check(group);
    for (uint32_t i = 0; i < group->member_count; i++)
        send_to(group, &group->members[i], push_commit);
    group_commit_advance(group); /* a lone primary has nobody to wait for */
}

static void send_turn(struct turn_hook *hook)
{
    send_all(container_of(hook, struct group, send_hook), false);
}

static void send_timer(struct timer *timer)
{
    struct group *group = container_of(timer, struct group, send_timer);
    if (!group_is_primary(group))
        return;
    for (uint32_t i = 0; i < group->member_count; i++)
        check_silence(group, &group->members[i]);
    send_all(group, true);
}

void group_send_soon(struct group *group)
{
    turn_hook_schedule(&group->send_hook);
}

void group_send_init(struct group *group)
{
    turn_hook_init(&group->send_hook, send_turn);
    timer_init(&group->send_timer, send_timer);
}
