/* SPDX-License-Identifier: MIT */
#include "raft/raft_cluster.h"

#include "base/assert.h"
#include "base/errors.h"
#include "base/mem.h"

static const uint64_t NEVER_NS = UINT64_MAX;

static uint64_t mix(uint64_t digest, const struct raft_entry *entry)
{
    uint64_t h = hash_u64(digest ^ entry->index * 0x9e3779b97f4a7c15ull ^ entry->type);
    const uint8_t *bytes = entry->data.data;
    for (uint32_t i = 0; i < entry->data.bytes; i++)
        h = hash_u64(h ^ bytes[i]);
    return h;
}

/* ---- disk --------------------------------------------------------------------------------- */

static void copy_entry(struct cluster_entry *out, const struct raft_entry *entry)
{
    assert(entry->data.bytes <= CLUSTER_DATA_MAX);
    out->term = entry->term;
    out->type = entry->type;
    out->bytes = entry->data.bytes;
    if (entry->data.bytes > 0)
        memcpy(out->data, entry->data.data, entry->data.bytes);
}

static void write_apply(struct cluster_disk *disk, struct cluster_write *write)
{
    if (write->flags & RAFT_PERSIST_STATE) {
        disk->term = write->head.term;
        disk->vote = write->head.vote;
    }
    if (write->flags & RAFT_PERSIST_SNAPSHOT) {
        disk->snapshot_index = write->head.snapshot_index;
        disk->snapshot_term = write->head.snapshot_term;
        disk->snapshot_digest = write->head.snapshot_digest;
        disk->snapshot_config = write->head.snapshot_config;
        disk->last_index = MAX(disk->last_index, disk->snapshot_index);
    }
    if (write->flags & RAFT_PERSIST_LOG) {
        for (uint64_t i = write->log_first; i <= write->log_last; i++)
            disk->entries[i % RAFT_LOG_ENTRIES_MAX] = write->entries[i - write->log_first];
        disk->last_index = write->log_last;
    }
    mem_free(write->entries);
    write->entries = NULL;
}

static void write_add(struct cluster *cluster, struct cluster_node *node)
{
    const struct raft_update *update = &cluster->update;
    assert(node->write_count < CLUSTER_WRITES_MAX);
    struct cluster_write *write = &node->writes[node->write_count++];
    *write = (struct cluster_write){
        .seq = update->persist_seq,
        .flags = update->persist,
        .log_first = update->log_first,
        .log_last = update->log_last,
    };
    write->due_ns = cluster->now_ns + 50 * NS_PER_US + cluster->stall_ns;
    if (!cluster->hold)
        write->due_ns += random_below(&cluster->random, 15 * NS_PER_MS);
    if (node->write_count > 1)
        write->due_ns = MAX(write->due_ns, node->writes[node->write_count - 2].due_ns);
    write->head.term = raft_term(node->raft);
    write->head.vote = raft_vote(node->raft);
    write->head.snapshot_index = raft_snapshot_index(node->raft);
    write->head.snapshot_term = raft_snapshot_term(node->raft);
    write->head.snapshot_config = *raft_snapshot_config(node->raft);
    write->head.snapshot_digest = node->snapshot_digest;
    if ((update->persist & RAFT_PERSIST_LOG) && update->log_last >= update->log_first) {
        uint64_t count = update->log_last - update->log_first + 1;
        write->entries = mem_alloc(count * sizeof *write->entries);
        for (uint64_t i = 0; i < count; i++) {
            struct raft_entry entry;
            raft_entry(node->raft, update->log_first + i, &entry);
            copy_entry(&write->entries[i], &entry);
        }
    }
}

/* ---- checks ------------------------------------------------------------------------------- */

/* State machine agreement: everybody applies the same entry at an index. */
static void apply_one(struct cluster *cluster, struct cluster_node *node, uint64_t index)
{
    struct raft_entry entry;
    raft_entry(node->raft, index, &entry);
    node->digest = mix(node->digest, &entry);
    node->applied = index;
    assert(index < CLUSTER_LOG_MAX);
    if (index > cluster->committed) {
        assert(index == cluster->committed + 1);
        cluster->committed = index;
        cluster->committed_terms[index] = entry.term;
        cluster->committed_digests[index] = node->digest;
    }
    assert(cluster->committed_terms[index] == entry.term);
    assert(cluster->committed_digests[index] == node->digest);
}

/* Leader completeness: a new leader holds everything that was ever committed. */
static void check_leader(struct cluster *cluster, struct cluster_node *node)
{
    uint64_t term = raft_term(node->raft);
    assert(term < CLUSTER_TERMS_MAX);
    if (cluster->term_leaders[term] == node->id)
        return;
    assert(cluster->term_leaders[term] == 0); /* election safety */
    cluster->term_leaders[term] = node->id;
    cluster->elections++;
    assert(raft_last_index(node->raft) > cluster->committed);
    for (uint64_t i = raft_snapshot_index(node->raft) + 1; i <= cluster->committed; i++) {
        struct raft_entry entry;
        raft_entry(node->raft, i, &entry);
        assert(entry.term == cluster->committed_terms[i]);
    }
}

/* Log matching: equal terms at an index mean equal logs up to it. */
static void check_pair(const struct raft *a, const struct raft *b)
{
    uint64_t first = MAX(raft_snapshot_index(a), raft_snapshot_index(b)) + 1;
    uint64_t last = MIN(raft_last_index(a), raft_last_index(b));
    bool matched = false;
    for (uint64_t i = last; i >= first && i > 0; i--) {
        struct raft_entry x;
        struct raft_entry y;
        raft_entry(a, i, &x);
        raft_entry(b, i, &y);
        if (x.term == y.term)
            matched = true;
        if (matched)
            assert(x.term == y.term && x.type == y.type && slice_equal(x.data, y.data));
    }
}

void cluster_check_logs(const struct cluster *cluster)
{
    for (uint32_t i = 1; i <= cluster->node_count; i++) {
        for (uint32_t j = i + 1; j <= cluster->node_count; j++) {
            if (cluster->nodes[i].up && cluster->nodes[j].up)
                check_pair(cluster->nodes[i].raft, cluster->nodes[j].raft);
        }
    }
}

/* ---- network ------------------------------------------------------------------------------ */

static void mail_put(struct cluster *cluster, const struct cluster_mail *mail)
{
    if (cluster->mail_count < CLUSTER_MAIL_MAX)
        cluster->mail[cluster->mail_count++] = *mail;
    else
        mem_free(mail->data);
}

static void mail_send(struct cluster *cluster, struct cluster_node *node,
                      const struct raft_message *message)
{
    static uint8_t bytes[RAFT_MESSAGE_BYTES_MAX];
    uint32_t count = raft_encode(node->raft, message, bytes, sizeof bytes);
    uint32_t copies = 1;
    if (random_chance(&cluster->random, cluster->drop_percent, 100))
        copies = 0;
    else if (random_chance(&cluster->random, cluster->double_percent, 100))
        copies = 2;
    for (uint32_t i = 0; i < copies; i++) {
        struct cluster_mail mail = {.to = message->to, .bytes = count};
        mail.digest = node->snapshot_digest;
        mail.due_ns =
            cluster->now_ns + 100 * NS_PER_US + random_below(&cluster->random, 2 * NS_PER_MS);
        if (random_chance(&cluster->random, cluster->slow_percent, 100))
            mail.due_ns += random_below(&cluster->random, 900 * NS_PER_MS);
        mail.data = mem_alloc(count);
        memcpy(mail.data, bytes, count);
        mail_put(cluster, &mail);
    }
}

static void mail_take(struct cluster *cluster, uint32_t at)
{
    struct cluster_mail mail = cluster->mail[at];
    memmove(&cluster->mail[at], &cluster->mail[at + 1],
            (cluster->mail_count - at - 1) * sizeof mail);
    cluster->mail_count--;
    struct raft_message message;
    int result = raft_decode(mail.data, mail.bytes, &message);
    assert(result == 0);
    struct cluster_node *to = &cluster->nodes[mail.to];
    bool reachable = to->side == cluster->nodes[message.from].side;
    if (to->up && reachable) {
        struct raft_event event = {.type = RAFT_EVENT_MESSAGE, .message = &message};
        uint64_t digest = to->snapshot_digest;
        if (message.type == RAFT_SNAPSHOT)
            to->snapshot_digest = mail.digest;
        uint64_t before = raft_snapshot_index(to->raft);
        cluster_step(cluster, to->id, &event);
        if (raft_snapshot_index(to->raft) == before)
            to->snapshot_digest = digest;
    }
    mem_free(mail.data);
}

uint32_t cluster_deliver(struct cluster *cluster, uint32_t from, uint32_t to)
{
    uint32_t delivered = 0;
    for (uint32_t i = 0; i < cluster->mail_count;) {
        struct raft_message message;
        int result = raft_decode(cluster->mail[i].data, cluster->mail[i].bytes, &message);
        assert(result == 0);
        if (message.from == from && message.to == to) {
            mail_take(cluster, i);
            delivered++;
        } else {
            i++;
        }
    }
    return delivered;
}

void cluster_drop_all(struct cluster *cluster)
{
    while (cluster->mail_count > 0)
        mem_free(cluster->mail[--cluster->mail_count].data);
}

/* ---- stepping ----------------------------------------------------------------------------- */

static void take_reads(struct cluster *cluster)
{
    const struct raft_update *update = &cluster->update;
    for (uint32_t i = 0; i < update->read_count; i++) {
        if (update->reads[i].index == 0)
            continue;
        cluster->reads_confirmed++;
        /* R7: the answer contains all that was committed when the read began. */
        assert(update->reads[i].index >= cluster->read_floor[update->reads[i].id % 256]);
    }
}

int cluster_step(struct cluster *cluster, uint32_t id, struct raft_event *event)
{
    struct cluster_node *node = &cluster->nodes[id];
    struct raft_update *update = &cluster->update;
    assert(node->up);
    event->now_ns = cluster->now_ns;
    raft_step(node->raft, event, update);
    if (update->install) {
        node->applied = raft_snapshot_index(node->raft);
        node->digest = node->snapshot_digest;
        assert(node->digest == cluster->committed_digests[node->applied]);
        cluster->installs++;
    }
    if (update->persist)
        write_add(cluster, node);
    for (uint32_t i = 0; i < update->message_count; i++)
        mail_send(cluster, node, &update->messages[i]);
    if (raft_role(node->raft) == RAFT_LEADER)
        check_leader(cluster, node);
    for (uint64_t i = node->applied + 1; i <= update->commit_index; i++)
        apply_one(cluster, node, i);
    take_reads(cluster);
    int result = update->result;
    if (node->applied - raft_snapshot_index(node->raft) > 100) {
        node->snapshot_digest = node->digest;
        struct raft_event snapshot = {.type = RAFT_EVENT_SNAPSHOT, .index = node->applied};
        cluster_step(cluster, id, &snapshot);
    }
    return result;
}

int cluster_propose(struct cluster *cluster, uint32_t id, uint64_t value)
{
    uint8_t data[CLUSTER_DATA_MAX] = {0};
    memcpy(data, &value, sizeof value);
    uint32_t bytes = 8 + (uint32_t)random_below(&cluster->random, CLUSTER_DATA_MAX - 8);
    struct raft_event event = {.type = RAFT_EVENT_PROPOSE, .data = slice_of(data, bytes)};
    return cluster_step(cluster, id, &event);
}

int cluster_read(struct cluster *cluster, uint32_t id, bool urgent)
{
    static uint64_t next_id;
    uint64_t read_id = ++next_id;
    cluster->read_floor[read_id % 256] = cluster->committed;
    struct raft_event event = {.type = RAFT_EVENT_READ, .read_id = read_id, .urgent = urgent};
    return cluster_step(cluster, id, &event);
}

static void persist_first(struct cluster *cluster, struct cluster_node *node)
{
    struct cluster_write write = node->writes[0];
    node->write_count--;
    memmove(&node->writes[0], &node->writes[1], node->write_count * sizeof write);
    write_apply(&node->disk, &write);
    struct raft_event event = {.type = RAFT_EVENT_PERSISTED, .persist_seq = write.seq};
    cluster_step(cluster, node->id, &event);
}

void cluster_persist_all(struct cluster *cluster, uint32_t id)
{
    while (cluster->nodes[id].write_count > 0)
        persist_first(cluster, &cluster->nodes[id]);
}

static uint64_t gone_due(const struct cluster_node *node, uint32_t *ret_gone)
{
    uint64_t due = NEVER_NS;
    for (uint32_t i = 1; i <= CLUSTER_NODES_MAX; i++) {
        if (node->gone_ns[i] != 0 && node->gone_ns[i] < due) {
            due = node->gone_ns[i];
            *ret_gone = i;
        }
    }
    return due;
}

/* Fire the node's earliest event if it is due by limit. */
static bool node_event(struct cluster *cluster, struct cluster_node *node, uint64_t due)
{
    uint32_t gone = 0;
    if (node->write_count > 0 && node->writes[0].due_ns <= due) {
        persist_first(cluster, node);
        return true;
    }
    if (gone_due(node, &gone) <= due) {
        node->gone_ns[gone] = 0;
        struct raft_event event = {.type = RAFT_EVENT_PEER_GONE, .node = gone};
        cluster_step(cluster, node->id, &event);
        return true;
    }
    if (raft_deadline_ns(node->raft) <= due) {
        struct raft_event event = {.type = RAFT_EVENT_TICK};
        cluster_step(cluster, node->id, &event);
        return true;
    }
    return false;
}

static uint64_t next_due(const struct cluster *cluster)
{
    uint64_t due = NEVER_NS;
    for (uint32_t i = 1; i <= cluster->node_count; i++) {
        const struct cluster_node *node = &cluster->nodes[i];
        uint32_t gone = 0;
        if (!node->up)
            continue;
        due = MIN(due, raft_deadline_ns(node->raft));
        due = MIN(due, gone_due(node, &gone));
        if (node->write_count > 0)
            due = MIN(due, node->writes[0].due_ns);
    }
    for (uint32_t i = 0; i < cluster->mail_count; i++)
        due = MIN(due, cluster->mail[i].due_ns);
    return due;
}

static void run_due(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->mail_count; i++) {
        if (cluster->mail[i].due_ns <= cluster->now_ns) {
            mail_take(cluster, i);
            return;
        }
    }
    for (uint32_t i = 1; i <= cluster->node_count; i++) {
        if (cluster->nodes[i].up && node_event(cluster, &cluster->nodes[i], cluster->now_ns))
            return;
    }
}

void cluster_run(struct cluster *cluster, uint64_t duration_ns)
{
    uint64_t end = cluster->now_ns + duration_ns;
    for (;;) {
        uint64_t due = next_due(cluster);
        if (due > end)
            break;
        cluster->now_ns = MAX(cluster->now_ns, due);
        run_due(cluster);
    }
    cluster->now_ns = end;
    cluster_check_logs(cluster);
}

/* ---- life --------------------------------------------------------------------------------- */

void cluster_restart(struct cluster *cluster, uint32_t id)
{
    struct cluster_node *node = &cluster->nodes[id];
    assert(!node->up);
    struct raft_options options = {
        .node = id,
        .seed = random_u64(&cluster->random),
        .election_min_ns = 600 * NS_PER_MS,
        .election_max_ns = 1200 * NS_PER_MS,
        .heartbeat_ns = 150 * NS_PER_MS,
        .gone_stagger_ns = 50 * NS_PER_MS,
        .config = cluster->config,
    };
    const struct cluster_disk *disk = &node->disk;
    node->raft = raft_new(&options);
    node->up = true;
    node->applied = disk->snapshot_index;
    node->digest = disk->snapshot_digest;
    node->snapshot_digest = disk->snapshot_digest;
    raft_restore_state(node->raft, disk->term, disk->vote);
    if (disk->snapshot_index > 0)
        raft_restore_snapshot(node->raft, disk->snapshot_index, disk->snapshot_term,
                              &disk->snapshot_config);
    for (uint64_t i = disk->snapshot_index + 1; i <= disk->last_index; i++) {
        const struct cluster_entry *entry = &disk->entries[i % RAFT_LOG_ENTRIES_MAX];
        int result = raft_restore_entry(node->raft, i, entry->term, entry->type,
                                        slice_of(entry->data, entry->bytes));
        assert(result == 0);
    }
    raft_start(node->raft, cluster->now_ns);
}

void cluster_crash(struct cluster *cluster, uint32_t id, bool proven)
{
    struct cluster_node *node = &cluster->nodes[id];
    assert(node->up);
    raft_free(node->raft);
    node->raft = NULL;
    node->up = false;
    for (uint32_t i = 0; i < node->write_count; i++)
        mem_free(node->writes[i].entries);
    node->write_count = 0;
    memset(node->gone_ns, 0, sizeof node->gone_ns);
    for (uint32_t i = 1; proven && i <= cluster->node_count; i++) {
        if (i != id && cluster->nodes[i].up)
            cluster->nodes[i].gone_ns[id] =
                cluster->now_ns + 1 + random_below(&cluster->random, 5 * NS_PER_MS);
    }
}

void cluster_partition(struct cluster *cluster)
{
    for (uint32_t i = 1; i <= cluster->node_count; i++)
        cluster->nodes[i].side = (uint32_t)random_below(&cluster->random, 2);
}

void cluster_heal(struct cluster *cluster)
{
    for (uint32_t i = 1; i <= cluster->node_count; i++)
        cluster->nodes[i].side = 0;
}

uint32_t cluster_leader(const struct cluster *cluster)
{
    uint32_t leader = 0;
    uint64_t term = 0;
    for (uint32_t i = 1; i <= cluster->node_count; i++) {
        const struct cluster_node *node = &cluster->nodes[i];
        if (node->up && raft_role(node->raft) == RAFT_LEADER && raft_term(node->raft) > term) {
            leader = i;
            term = raft_term(node->raft);
        }
    }
    return leader;
}

struct cluster *cluster_new(uint64_t seed, uint32_t voters, uint32_t nodes)
{
    struct cluster *cluster = mem_zalloc(sizeof *cluster);
    random_init(&cluster->random, seed);
    cluster->now_ns = NS_PER_S;
    cluster->node_count = nodes;
    cluster->config.voter_count = voters;
    for (uint32_t i = 0; i < voters; i++)
        cluster->config.voters[i] = i + 1;
    for (uint32_t i = 1; i <= nodes; i++) {
        struct cluster_node *node = &cluster->nodes[i];
        node->id = i;
        node->disk.entries = mem_zalloc(RAFT_LOG_ENTRIES_MAX * sizeof *node->disk.entries);
        cluster_restart(cluster, i);
    }
    return cluster;
}

void cluster_free(struct cluster *cluster)
{
    for (uint32_t i = 1; i <= cluster->node_count; i++) {
        if (cluster->nodes[i].up)
            cluster_crash(cluster, i, false);
        mem_free(cluster->nodes[i].disk.entries);
    }
    cluster_drop_all(cluster);
    mem_free(cluster);
}
