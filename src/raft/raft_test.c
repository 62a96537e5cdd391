/* SPDX-License-Identifier: MIT */
/* Goal: Raft's safety properties under crashes (with loss of what was not yet durable), loss,
 * doubling, reordering, partitions, membership changes and wrong proofs of death; and its liveness
 * once the faults end. Method: many seeds of a random schedule, and scripted schedules of the
 * paper's figures. The checks themselves are in raft_cluster.c. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#undef assert
#include "base/assert.h"
#include "base/errors.h"
#include "base/mem.h"
#include "raft/raft_cluster.h"

static void random_config(struct cluster *cluster, uint32_t leader)
{
    struct wire_raft_config config = {0};
    uint32_t learners = 0;
    for (uint32_t i = 1; i <= cluster->node_count; i++) {
        uint64_t pick = random_below(&cluster->random, 10);
        if (pick < 6)
            config.voters[config.voter_count++] = i;
        else if (pick < 8)
            config.learners[learners++] = i;
    }
    config.learner_count = learners;
    if (config.voter_count == 0)
        return;
    struct raft_event event = {.type = RAFT_EVENT_CONFIG, .config = &config};
    (void)cluster_step(cluster, leader, &event); /* busy is fine */
}

static void random_fault(struct cluster *cluster, bool configs)
{
    struct random *random = &cluster->random;
    uint32_t id = 1 + (uint32_t)random_below(random, cluster->node_count);
    uint32_t leader = cluster_leader(cluster);
    switch (random_below(random, 9)) {
    case 0:
    case 1:
        if (cluster->nodes[id].up)
            cluster_crash(cluster, id, random_chance(random, 2, 3));
        break;
    case 2:
    case 3:
        if (!cluster->nodes[id].up)
            cluster_restart(cluster, id);
        break;
    case 4:
        cluster_partition(cluster);
        break;
    case 5:
        cluster_heal(cluster);
        break;
    case 6: /* a wrong proof */
        if (cluster->nodes[id].up) {
            uint32_t gone = 1 + (uint32_t)random_below(random, cluster->node_count);
            if (gone != id)
                cluster->nodes[id].gone_ns[gone] = cluster->now_ns + 1;
        }
        break;
    case 7:
        if (leader != 0 && configs)
            random_config(cluster, leader);
        break;
    default:
        if (leader != 0) {
            struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .node = id};
            (void)cluster_step(cluster, leader, &event); /* refusals are fine */
        }
    }
}

static void random_load(struct cluster *cluster)
{
    struct random *random = &cluster->random;
    for (uint32_t i = 1; i <= cluster->node_count; i++) {
        if (!cluster->nodes[i].up || raft_role(cluster->nodes[i].raft) != RAFT_LEADER)
            continue;
        uint64_t burst = random_below(random, 8);
        while (burst-- > 0)
            (void)cluster_propose(cluster, i, random_u64(random)); /* refusals are fine */
        (void)cluster_read(cluster, i, random_chance(random, 1, 2));
    }
}

/* All faults end: a leader is found and everybody in the configuration gets everything. */
static void expect_live(struct cluster *cluster)
{
    cluster->drop_percent = cluster->double_percent = cluster->slow_percent = 0;
    cluster_heal(cluster);
    for (uint32_t i = 1; i <= cluster->node_count; i++) {
        if (!cluster->nodes[i].up)
            cluster_restart(cluster, i);
    }
    cluster_run(cluster, 6 * NS_PER_S);
    uint32_t leader = cluster_leader(cluster);
    assert_int_not_equal(leader, 0);
    uint64_t before = cluster->committed;
    assert_int_equal(cluster_propose(cluster, leader, 1), 0);
    cluster_run(cluster, 2 * NS_PER_S);
    assert_true(cluster->committed > before);
    const struct wire_raft_config *config = raft_config(cluster->nodes[leader].raft);
    assert_int_equal(config->old_count, 0);
    for (uint32_t i = 0; i < config->voter_count; i++)
        assert_int_equal(cluster->nodes[config->voters[i]].applied, cluster->committed);
    for (uint32_t i = 0; i < config->learner_count; i++)
        assert_int_equal(cluster->nodes[config->learners[i]].applied, cluster->committed);
}

enum { SEEDS = 300 };

static uint64_t installs;
static uint64_t elections;
static uint64_t commits;
static uint64_t reads;

static void run_seed(uint64_t seed)
{
    bool configs = seed % 3 == 0;
    uint32_t voters = seed % 2 ? 3 : 5;
    struct cluster *cluster = cluster_new(seed, voters, configs ? 6 : voters);
    cluster->drop_percent = (uint32_t)random_below(&cluster->random, 15);
    cluster->double_percent = (uint32_t)random_below(&cluster->random, 10);
    cluster->slow_percent = (uint32_t)random_below(&cluster->random, 10);
    for (uint32_t i = 0; i < 300; i++) {
        cluster_run(cluster, random_below(&cluster->random, 250 * NS_PER_MS));
        random_load(cluster);
        if (random_chance(&cluster->random, 1, 3))
            random_fault(cluster, configs);
    }
    expect_live(cluster);
    installs += cluster->installs;
    elections += cluster->elections;
    commits += cluster->committed;
    reads += cluster->reads_confirmed;
    cluster_free(cluster);
}

static void test_random(void **state)
{
    (void)state;
    installs = elections = commits = reads = 0;
    const char *one = getenv("CFS_SEED");
    if (one) {
        run_seed(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_seed(seed);
    print_message("elections %lu, commits %lu, reads %lu, snapshots installed %lu\n", elections,
                  commits, reads, installs);
    assert_true(installs > 10); /* the schedule does reach snapshots */
    assert_true(elections > 1000 && commits > 10000 && reads > 1000);
}

/* kill -9 of the leader: refused connections elect a new one in a fraction of a time-out. */
static void test_leader_killed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct cluster *cluster = cluster_new(seed, 3, 3);
        cluster_run(cluster, 3 * NS_PER_S);
        uint32_t old = cluster_leader(cluster);
        assert_int_not_equal(old, 0);
        cluster_crash(cluster, old, true);
        cluster_run(cluster, 200 * NS_PER_MS);
        uint32_t leader = cluster_leader(cluster);
        assert_int_not_equal(leader, 0);
        assert_true(raft_leader_ready(cluster->nodes[leader].raft));
        cluster_free(cluster);
    }
}

/* Disks that take seconds do not cost the leader its majority. */
static void test_slow_disks(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new(12, 3, 3);
    cluster_run(cluster, 3 * NS_PER_S);
    uint32_t leader = cluster_leader(cluster);
    uint64_t term = raft_term(cluster->nodes[leader].raft);
    cluster->stall_ns = 4 * NS_PER_S;
    assert_int_equal(cluster_propose(cluster, leader, 1), 0);
    cluster_run(cluster, 3 * NS_PER_S);
    assert_int_equal(cluster_leader(cluster), leader);
    uint64_t confirmed = cluster->reads_confirmed;
    assert_int_equal(cluster_read(cluster, leader, true), 0);
    cluster_run(cluster, 100 * NS_PER_MS);
    assert_int_equal(cluster->reads_confirmed, confirmed + 1);
    uint64_t committed = cluster->committed;
    cluster_run(cluster, 2 * NS_PER_S);
    assert_int_equal(cluster->committed, committed + 1);
    assert_int_equal(raft_term(cluster->nodes[leader].raft), term);
    cluster_free(cluster);
}

/* A leader that hears no majority steps down; a follower cut off alone does not raise its term. */
static void test_cut_off(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new(7, 3, 3);
    cluster_run(cluster, 3 * NS_PER_S);
    uint32_t leader = cluster_leader(cluster);
    uint32_t other = leader % 3 + 1;
    uint64_t term = raft_term(cluster->nodes[leader].raft);
    cluster->nodes[other].side = 1;
    cluster_run(cluster, 5 * NS_PER_S);
    assert_int_equal(cluster_leader(cluster), leader);
    assert_int_equal(raft_term(cluster->nodes[other].raft), term);
    cluster_heal(cluster);
    cluster->nodes[leader].side = 1;
    cluster_run(cluster, 5 * NS_PER_S);
    assert_int_not_equal(raft_role(cluster->nodes[leader].raft), RAFT_LEADER);
    assert_int_not_equal(cluster_leader(cluster), leader);
    cluster_heal(cluster);
    cluster_run(cluster, 2 * NS_PER_S);
    cluster_free(cluster);
}

/* ---- figure 8 ------------------------------------------------------------------------------ */

struct script {
    struct raft *raft;
    struct raft_update update;
    uint64_t now_ns;
};

static void script_event(struct script *script, struct raft_event event)
{
    event.now_ns = script->now_ns;
    raft_step(script->raft, &event, &script->update);
    if (script->update.persist == 0)
        return;
    struct raft_event persisted = {.type = RAFT_EVENT_PERSISTED,
                                   .now_ns = script->now_ns,
                                   .persist_seq = script->update.persist_seq};
    raft_step(script->raft, &persisted, &script->update);
}

static void script_reply(struct script *script, enum raft_message_type type, uint32_t from,
                         uint64_t term, uint64_t index)
{
    struct raft_message message = {
        .type = type, .from = from, .to = 1, .term = term, .index = index};
    script_event(script, (struct raft_event){.type = RAFT_EVENT_MESSAGE, .message = &message});
}

/* Node 1 of that configuration; started by the test. */
static struct script script_new(struct wire_raft_config config)
{
    const struct raft_options options = {
        .node = 1,
        .seed = 1,
        .election_min_ns = 600 * NS_PER_MS,
        .election_max_ns = 1200 * NS_PER_MS,
        .heartbeat_ns = 150 * NS_PER_MS,
        .gone_stagger_ns = 50 * NS_PER_MS,
        .config = config,
    };
    return (struct script){.raft = raft_new(&options), .now_ns = NS_PER_S};
}

static void script_time_out(struct script *script)
{
    script->now_ns = raft_deadline_ns(script->raft);
    script_event(script, (struct raft_event){.type = RAFT_EVENT_TICK});
}

/* Paper, figure 8 (c): S1, leader of term 4, has brought its entry of term 2 to a majority. It must
 * not commit it, because S5 with its entry of term 3 could still win and overwrite it; (e): once an
 * entry of term 4 is on a majority, both are committed. */
static void test_figure_8(void **state)
{
    (void)state;
    struct script script =
        script_new((struct wire_raft_config){.voter_count = 5, .voters = {1, 2, 3, 4, 5}});
    struct slice data = slice_of("entry", 5);
    raft_restore_state(script.raft, 3, 0);
    assert_int_equal(raft_restore_entry(script.raft, 1, 1, RAFT_ENTRY_DATA, data), 0);
    assert_int_equal(raft_restore_entry(script.raft, 2, 2, RAFT_ENTRY_DATA, data), 0);
    raft_start(script.raft, script.now_ns);

    script_time_out(&script);
    assert_int_equal(raft_role(script.raft), RAFT_PRE_CANDIDATE);
    script_reply(&script, RAFT_PRE_VOTE_REPLY, 2, 4, 0);
    script_reply(&script, RAFT_PRE_VOTE_REPLY, 3, 4, 0);
    assert_int_equal(raft_role(script.raft), RAFT_CANDIDATE);
    script_reply(&script, RAFT_VOTE_REPLY, 2, 4, 0);
    script_reply(&script, RAFT_VOTE_REPLY, 3, 4, 0);
    assert_int_equal(raft_role(script.raft), RAFT_LEADER);
    assert_int_equal(raft_term(script.raft), 4);
    assert_int_equal(raft_last_index(script.raft), 3);

    script_reply(&script, RAFT_APPEND_REPLY, 2, 4, 2);
    script_reply(&script, RAFT_APPEND_REPLY, 3, 4, 2);
    script_reply(&script, RAFT_APPEND_REPLY, 4, 4, 2);
    assert_int_equal(raft_commit_index(script.raft), 0);
    script_reply(&script, RAFT_APPEND_REPLY, 2, 4, 3);
    assert_int_equal(raft_commit_index(script.raft), 0);
    script_reply(&script, RAFT_APPEND_REPLY, 3, 4, 3);
    assert_int_equal(raft_commit_index(script.raft), 3);
    raft_free(script.raft);
}

/* The leader that committed the joint configuration {2} / {1, 2} died before it could append the
 * final one, and all that is left of it is a snapshot. The next leader goes on with it. */
static void test_joint_left_behind(void **state)
{
    (void)state;
    struct wire_raft_config joint = {
        .voter_count = 2, .voters = {1, 2}, .old_count = 1, .voters_old = {2}};
    struct script script =
        script_new((struct wire_raft_config){.voter_count = 2, .voters = {1, 2}});
    raft_restore_state(script.raft, 1, 0);
    raft_restore_snapshot(script.raft, 7, 1, &joint);
    raft_start(script.raft, script.now_ns);
    script_time_out(&script);
    script_reply(&script, RAFT_PRE_VOTE_REPLY, 2, 2, 0);
    script_reply(&script, RAFT_VOTE_REPLY, 2, 2, 0);
    assert_int_equal(raft_role(script.raft), RAFT_LEADER);
    script_reply(&script, RAFT_APPEND_REPLY, 2, 2, 8);
    assert_int_equal(raft_commit_index(script.raft), 8);
    assert_int_equal(raft_config(script.raft)->old_count, 0);
    assert_int_equal(raft_last_index(script.raft), 9);
    raft_free(script.raft);
}

/* Thesis 4.2.2: S1 holds the only surviving copy of an uncommitted configuration {2}. It is no
 * voter by it, but must still lead until that is committed, without a vote of its own. */
static void test_removed_still_needed(void **state)
{
    (void)state;
    struct script script =
        script_new((struct wire_raft_config){.voter_count = 3, .voters = {1, 2, 3}});
    struct wire_raft_config next = {.voter_count = 1, .voters = {2}};
    raft_restore_state(script.raft, 1, 0);
    assert_int_equal(
        raft_restore_entry(script.raft, 1, 1, RAFT_ENTRY_CONFIG, slice_of(&next, sizeof next)), 0);
    raft_start(script.raft, script.now_ns);
    script_time_out(&script);
    assert_int_equal(raft_role(script.raft), RAFT_PRE_CANDIDATE);
    script_reply(&script, RAFT_PRE_VOTE_REPLY, 2, 2, 0);
    assert_int_equal(raft_role(script.raft), RAFT_CANDIDATE);
    script_reply(&script, RAFT_VOTE_REPLY, 2, 2, 0);
    assert_int_equal(raft_role(script.raft), RAFT_LEADER);
    assert_int_equal(raft_commit_index(script.raft), 0);
    script_reply(&script, RAFT_APPEND_REPLY, 2, 2, 2);
    assert_int_equal(raft_commit_index(script.raft), 2);
    assert_int_equal(raft_role(script.raft), RAFT_FOLLOWER);
    script_time_out(&script);
    assert_int_equal(raft_role(script.raft), RAFT_FOLLOWER);
    raft_free(script.raft);
}

/* ---- parts --------------------------------------------------------------------------------- */

static void test_single(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new(1, 1, 1);
    cluster_run(cluster, 100 * NS_PER_MS);
    assert_int_equal(cluster_leader(cluster), 1);
    assert_int_equal(cluster_propose(cluster, 1, 5), 0);
    cluster_run(cluster, 100 * NS_PER_MS);
    assert_int_equal(cluster->committed, 2);
    assert_int_equal(cluster_read(cluster, 1, false), 0);
    assert_int_equal(cluster->reads_confirmed, 1);
    cluster_free(cluster);
}

static void test_transfer(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new(3, 3, 3);
    cluster_run(cluster, 3 * NS_PER_S);
    uint32_t target = cluster_leader(cluster) % 3 + 1;
    struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .node = target};
    assert_int_equal(cluster_step(cluster, cluster_leader(cluster), &event), 0);
    cluster_run(cluster, 100 * NS_PER_MS);
    assert_int_equal(cluster_leader(cluster), target);
    cluster_free(cluster);
}

/* Joint consensus from {1,2,3} to {4,5,6} with 1 as learner: the old leader steps down. */
static void test_joint(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new(4, 3, 6);
    cluster_run(cluster, 3 * NS_PER_S);
    struct wire_raft_config config = {
        .voter_count = 3, .learner_count = 1, .voters = {4, 5, 6}, .learners = {1}};
    struct raft_event event = {.type = RAFT_EVENT_CONFIG, .config = &config};
    assert_int_equal(cluster_step(cluster, cluster_leader(cluster), &event), 0);
    cluster_run(cluster, 4 * NS_PER_S);
    uint32_t leader = cluster_leader(cluster);
    assert_true(leader >= 4);
    cluster_crash(cluster, 2, false);
    cluster_crash(cluster, 3, false);
    assert_int_equal(cluster_propose(cluster, leader, 9), 0);
    cluster_run(cluster, NS_PER_S);
    assert_int_equal(cluster->nodes[1].applied, cluster->committed);
    cluster_free(cluster);
}

/* Bytes from outside never trip an assertion. */
static void test_hostile(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new(11, 3, 3);
    cluster_run(cluster, 3 * NS_PER_S);
    uint32_t leader = cluster_leader(cluster);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(cluster_propose(cluster, leader, i), 0);
    uint32_t accepted = 0;
    for (uint32_t i = 0; i < 20000 && cluster->mail_count > 0; i++) {
        const struct cluster_mail *mail =
            &cluster->mail[random_below(&cluster->random, cluster->mail_count)];
        uint8_t *bytes = mem_alloc(mail->bytes + 8);
        memcpy(bytes, mail->data, mail->bytes);
        uint32_t count = mail->bytes;
        for (uint32_t flips = 0; flips < 3; flips++)
            bytes[random_below(&cluster->random, count)] = (uint8_t)random_u64(&cluster->random);
        if (random_chance(&cluster->random, 1, 4))
            count = (uint32_t)random_below(&cluster->random, count);
        struct raft_message message;
        uint8_t *exact = mem_alloc(count + 1);
        memcpy(exact, bytes, count);
        if (raft_decode(exact, count, &message) == 0)
            accepted++;
        mem_free(exact);
        mem_free(bytes);
    }
    assert_true(accepted > 0);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_leader_killed),
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_figure_8),
        cmocka_unit_test(test_joint_left_behind),
        cmocka_unit_test(test_removed_still_needed),
        cmocka_unit_test(test_transfer),
        cmocka_unit_test(test_slow_disks),
        cmocka_unit_test(test_joint),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
