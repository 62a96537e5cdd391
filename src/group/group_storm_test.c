/* SPDX-License-Identifier: MIT */
/* Goal: whatever happens to nodes, connections and the map, what a group acknowledged stays, reads
 * are never older than what was acknowledged before them, and in the end all members are equal.
 *
 * Method: three nodes with real rpc and store on the simulator, two groups, and a stand-in for the
 * map that follows the map machine's rules (sure heirs, lost members, elections, leases) but learns
 * late, tells late, and sometimes answers "timed out" to a change that it made. Each node's writer
 * puts rows and data under numbers that only grow, so one number a key says what is due. Seeds as
 * arguments, or a fixed set. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "env/sim.h"
#include "group/group.h"

enum {
    NODES = 3,
    GROUPS = 2,
    KEYS = 120, /* half of them rows, half data */
    TABLE = 0x10,
    BLOCKS_MAX = 12,
    STEPS = 250,
};
#define DISK_BYTES (1 * GIB)
#define LEASE_NS   (1500 * NS_PER_MS)

struct host {
    uint32_t id;
    struct sim_node *sim_node;
    char disk[16];
    bool alive;
    bool paused;
    bool deaf; /* hears nothing of the map, nor does the map hear it; all else works */
    bool fenced;
    uint64_t lease_until_ns;
    uint64_t incarnation; /* of the process */
    /* what the map's client here has */
    struct map_header header;
    struct map_node nodes[NODES];
    struct map_group groups_seen[GROUPS];
    struct map_view view;
    /* in the node's heap */
    struct rpc *rpc;
    struct store *store;
    struct group_host *groups;
};

struct due {
    uint64_t acked;   /* the newest number acknowledged */
    uint64_t flushed; /* the newest one that must survive everything */
    uint64_t tried;
};

static struct world {
    struct sim *sim;
    struct random random;
    struct host hosts[NODES];
    uint64_t version;
    struct map_group groups[GROUPS];
    bool up[NODES];        /* as the map believes */
    uint64_t known[NODES]; /* incarnations */
    struct due due[GROUPS][KEYS];
    uint64_t next_number;
    uint64_t acks;
    bool power; /* nodes lose power, too: then a lone primary's word is not enough */
    bool calm;
    bool deafness;   /* nodes may be deaf */
    bool strikes;    /* primaries die as they take members in */
    uint32_t strike; /* one that is to die in a moment; 0: none */
    const char *failed;
    uint64_t failed_detail[3];
} world;

static void fail(const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    if (world.failed)
        return;
    world.failed = what;
    world.failed_detail[0] = a;
    world.failed_detail[1] = b;
    world.failed_detail[2] = c;
}

static uint64_t below(uint64_t bound)
{
    return random_below(&world.random, bound);
}

/* ---- the stand-in: views, and what group asks of map ------------------------------------------
 */

static void refresh_view(struct host *host)
{
    host->header = (struct map_header){.version = world.version,
                                       .node_count = NODES,
                                       .group_count = GROUPS,
                                       .copies = 2,
                                       .min_in_sync = 1};
    for (uint32_t i = 0; i < NODES; i++) {
        char text[32];
        struct net_addr addr;
        (void)snprintf(text, sizeof text, "10.0.0.%u:7000", i + 1);
        int result = net_addr_parse(text, &addr);
        assert(result == 0);
        host->nodes[i] = (struct map_node){.id = i + 1,
                                           .state = world.up[i] ? MAP_NODE_UP : MAP_NODE_DOWN,
                                           .incarnation = world.known[i],
                                           .port = addr.port};
        memcpy(host->nodes[i].ip, addr.ip, sizeof addr.ip);
    }
    memcpy(host->groups_seen, world.groups, sizeof world.groups);
    host->view = (struct map_view){
        .header = &host->header, .nodes = host->nodes, .groups = host->groups_seen, .refs = 1};
}

static struct host *host_of(const void *handle)
{
    for (uint32_t i = 0; i < NODES; i++) {
        if (handle == &world.hosts[i])
            return &world.hosts[i];
    }
    WRONG("not a handle of ours");
}

struct map_view *map_client_view(struct map_client *client)
{
    return &host_of(client)->view;
}
const struct map_node *map_view_node(const struct map_view *view, uint32_t node)
{
    return node >= 1 && node <= NODES ? &view->nodes[node - 1] : NULL;
}
const struct map_group *map_view_group(const struct map_view *view, uint32_t group)
{
    return group >= 1 && group <= GROUPS ? &view->groups[group - 1] : NULL;
}
void map_node_addr(const struct map_node *node, struct net_addr *ret_addr)
{
    *ret_addr = (struct net_addr){.port = node->port};
    memcpy(ret_addr->ip, node->ip, sizeof node->ip);
}
uint32_t map_group_in_sync_count(const struct map_group *group)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < group->member_count; i++)
        count += group->members[i].state == MAP_MEMBER_IN_SYNC;
    return count;
}
uint32_t map_group_member_state(const struct map_group *group, uint32_t node)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].node == node)
            return group->members[i].state;
    }
    return 0;
}
bool map_lease_valid(const struct map_lease *lease)
{
    return env_now_ns() < host_of(lease)->lease_until_ns;
}
void map_client_suspect(struct map_client *client, uint32_t node, uint64_t incarnation)
{
    (void)client;
    (void)node;
    (void)incarnation;
}

static void tell_fiber(void *arg)
{
    struct host *host = arg;
    fiber_sleep(below(30 * NS_PER_MS));
    if (host->deaf)
        return;
    refresh_view(host);
    if (host->groups)
        group_host_map_changed(host->groups, &host->view);
}

static void tell(struct host *host)
{
    if (host->alive && !host->deaf)
        reactor_spawn(sim_node_reactor(host->sim_node), "tell", tell_fiber, host);
}

void map_client_poke(struct map_client *client)
{
    tell(host_of(client));
}

static void map_changed(void)
{
    world.version++;
    for (uint32_t i = 0; i < NODES; i++)
        tell(&world.hosts[i]);
}

static struct map_member *member_of(struct map_group *group, uint32_t node)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].node == node)
            return &group->members[i];
    }
    return NULL;
}

int map_client_change_group(struct map_client *client, uint32_t id, uint32_t epoch,
                            enum group_change_op op, uint32_t node, uint64_t deadline_ns)
{
    fiber_sleep(below(20 * NS_PER_MS));
    bool mute = !world.calm && below(10) == 0;
    if (host_of(client)->deaf)
        fiber_sleep_until(deadline_ns);
    if (host_of(client)->deaf || (mute && below(2) == 0))
        return -ERR_TIMED_OUT; /* it never arrived */
    struct map_group *group = &world.groups[id - 1];
    struct map_member *member = member_of(group, node);
    enum map_member_state from =
        op == GROUP_CHANGE_IN_SYNC ? MAP_MEMBER_JOINING : MAP_MEMBER_IN_SYNC;
    int result = -ERR_CAS_FAILED;
    if (member && group->epoch == epoch && group->primary != 0 && node != group->primary &&
        member->state == (uint32_t)from && (op == GROUP_CHANGE_DROP || world.up[node - 1])) {
        member->state = op == GROUP_CHANGE_IN_SYNC ? MAP_MEMBER_IN_SYNC : MAP_MEMBER_JOINING;
        group->epoch++;
        map_changed();
        result = 0;
        if (world.strikes && op == GROUP_CHANGE_IN_SYNC && below(4) == 0)
            world.strike = group->primary; /* before or after it learns that it was heard */
    }
    if (mute)
        return -ERR_TIMED_OUT; /* it was done, but the answer is lost */
    refresh_view(host_of(client));
    return result;
}

/* ---- the stand-in: the map machine's rules -----------------------------------------------------
 */

/* The leader has heard from this very process. */
static bool sure(uint32_t node)
{
    const struct host *host = &world.hosts[node - 1];
    return world.up[node - 1] && host->alive && host->incarnation == world.known[node - 1] &&
           !host->fenced;
}

static void lost_to_joining(struct map_group *group)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].state == MAP_MEMBER_LOST)
            group->members[i].state = MAP_MEMBER_JOINING;
    }
}

static uint32_t heir_of(const struct map_group *group, uint32_t except)
{
    uint32_t start = (uint32_t)below(group->member_count);
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct map_member *member = &group->members[(start + i) % group->member_count];
        if (member->state == MAP_MEMBER_IN_SYNC && member->node != except && sure(member->node))
            return member->node;
    }
    return 0;
}

static void forget_memory(uint32_t node, bool restarted)
{
    for (uint32_t i = 0; i < GROUPS; i++) {
        struct map_group *group = &world.groups[i];
        struct map_member *member = member_of(group, node);
        if (!member)
            continue;
        if (member->state == MAP_MEMBER_JOINING && restarted)
            group->epoch++;
        if (member->state != MAP_MEMBER_IN_SYNC)
            continue;
        uint32_t heir = heir_of(group, node);
        member->state = heir ? MAP_MEMBER_JOINING : MAP_MEMBER_LOST;
        if (!heir)
            group->primary = 0;
        else
            lost_to_joining(group);
        if (heir && (group->primary == node || group->primary == 0))
            group->primary = heir;
        group->epoch++;
    }
    map_changed();
}

static void elect(struct map_group *group)
{
    struct map_replica_report best = {0};
    uint32_t best_node = 0;
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct map_member *member = &group->members[i];
        if (member->state != MAP_MEMBER_LOST)
            continue;
        const struct host *host = &world.hosts[member->node - 1];
        if (!sure(member->node) || !host->groups)
            return;
        struct map_replica_report reports[GROUPS];
        uint32_t count = group_host_reports(host->groups, reports, GROUPS);
        for (uint32_t j = 0; j < count; j++) {
            const struct map_replica_report *report = &reports[j];
            if (report->group != group->id || !report->valid)
                continue;
            if (!best_node || report->last_epoch > best.last_epoch ||
                (report->last_epoch == best.last_epoch && report->last_seq > best.last_seq)) {
                best = *report;
                best_node = member->node;
            }
        }
    }
    if (!best_node) {
        fail("no lost member has a valid log", group->id, group->epoch, 0);
        return;
    }
    lost_to_joining(group);
    member_of(group, best_node)->state = MAP_MEMBER_IN_SYNC;
    group->primary = best_node;
    group->epoch++;
    /* Only what was flushed (or written by a lone primary) has to be there. */
    for (uint32_t k = 0; k < KEYS; k++) {
        struct due *due = &world.due[group->id - 1][k];
        due->acked = due->flushed;
    }
    map_changed();
}

static void resolve(struct map_group *group)
{
    if (group->primary != 0)
        return;
    uint32_t heir = heir_of(group, 0);
    if (heir) {
        lost_to_joining(group);
        group->primary = heir;
        group->epoch++;
        map_changed();
    } else if (map_group_in_sync_count(group) == 0) {
        elect(group);
    }
}

static void set_write_errors(struct host *host, uint32_t ppm)
{
    struct sim_disk_config config = *sim_disk_config(world.sim, host->disk);
    config.write_error_ppm = ppm;
    sim_disk_configure(world.sim, host->disk, &config);
}

static void host_stop(struct host *host, bool power);
static void host_restart(struct host *host);

static void authority_tick(void)
{
    uint64_t now_ns = sim_now_ns(world.sim);
    for (uint32_t i = 0; i < NODES; i++) {
        struct host *host = &world.hosts[i];
        bool notice = world.calm || below(4) == 0;
        struct store_health health = {0};
        if (host->groups)
            store_health(host->store, &health);
        if (health.fenced && below(8) == 0) {
            set_write_errors(host, 0);
            host_stop(host, false); /* as node does it */
            host_restart(host);
        }
        bool heard = !host->paused && !host->deaf;
        if (host->alive && heard && host->incarnation != world.known[i] && notice) {
            world.known[i] = host->incarnation;
            world.up[i] = true;
            forget_memory(i + 1, true);
        } else if (!host->alive && world.up[i] && notice) {
            world.up[i] = false;
            forget_memory(i + 1, false);
        } else if (!heard && world.up[i] && host->lease_until_ns + NS_PER_MS < now_ns &&
                   host->incarnation == world.known[i]) {
            world.up[i] = false; /* silent for longer than its lease */
            host->fenced = true;
            forget_memory(i + 1, false);
        }
        if (sure(i + 1) && heard)
            host->lease_until_ns = now_ns + LEASE_NS;
    }
    for (uint32_t i = 0; i < GROUPS; i++)
        resolve(&world.groups[i]);
}

/* ---- content: rows as batches, data as records of its own --------------------------------------
 */

struct storm_value {
    uint64_t number;
    struct store_extent extent; /* blocks 0: a row without data */
};
struct storm_record {
    uint64_t number;
    uint32_t key;
    uint32_t zero;
};

static struct slice key_of(uint8_t bytes[9], uint32_t group, uint32_t key)
{
    be32_store(bytes, group);
    bytes[4] = TABLE;
    be32_store(bytes + 5, key);
    return slice_of(bytes, 9);
}

static int content_apply(void *context, struct group *group, const struct store_log_record *record,
                         struct store_batch *batch)
{
    struct storm_record head;
    struct storm_value value;
    uint8_t bytes[9];
    (void)context;
    assert(record->payload.bytes == sizeof head && record->extent_count == 1);
    memcpy(&head, record->payload.data, sizeof head);
    const struct slice key = key_of(bytes, record->group, head.key);
    int result = store_get(group_store(group), key, &value, sizeof value);
    if (result < 0 && result != -ENOENT)
        return result;
    if (result > 0)
        store_batch_extent_del(batch, value.extent);
    value = (struct storm_value){.number = head.number, .extent = record->extents[0]};
    store_batch_put(batch, key, slice_of(&value, sizeof value));
    store_batch_extent_add(batch, value.extent, key);
    return 0;
}
static int content_serving(void *context, struct group *group)
{
    (void)context;
    (void)group;
    fiber_sleep(below(2 * NS_PER_MS));
    return 0;
}
static void content_ceased(void *context, struct group *group)
{
    (void)context;
    (void)group;
}
static bool content_extent_of(void *context, struct slice key, struct slice bytes,
                              struct store_extent *ret_extent)
{
    struct storm_value value;
    (void)context;
    (void)key;
    if (bytes.bytes != sizeof value)
        return false;
    memcpy(&value, bytes.data, sizeof value);
    *ret_extent = value.extent;
    return value.extent.blocks > 0;
}
static void content_rebase(void *context, struct slice key, void *bytes, uint32_t value_bytes,
                           struct store_extent extent)
{
    struct storm_value value;
    (void)context;
    (void)key;
    assert(value_bytes == sizeof value);
    memcpy(&value, bytes, sizeof value);
    value.extent = extent;
    memcpy(bytes, &value, sizeof value);
}
static int content_read(void *context, struct slice key, struct slice bytes, void *data)
{
    struct host *host = context;
    struct storm_value value;
    (void)key;
    memcpy(&value, bytes.data, sizeof value);
    return store_extent_read(host->store, value.extent, 0, value.extent.blocks, data);
}
static const struct group_content_ops content = {.apply = content_apply,
                                                 .serving = content_serving,
                                                 .ceased = content_ceased,
                                                 .extent_of = content_extent_of,
                                                 .rebase = content_rebase,
                                                 .read = content_read};

/* ---- writers -----------------------------------------------------------------------------------
 */

static void fill(uint8_t *data, uint32_t blocks, uint64_t number)
{
    for (uint32_t i = 0; i < blocks; i++)
        memset(data + (size_t)i * STORE_BLOCK_BYTES, (int)(number * 7 + i), STORE_BLOCK_BYTES);
}

static int append_row(struct group *group, uint32_t key, uint64_t number, uint64_t *ret_seq)
{
    uint8_t bytes[9];
    struct store_batch batch;
    const struct storm_value value = {.number = number};
    store_batch_init(&batch);
    store_batch_put(&batch, key_of(bytes, group_id(group), key), slice_of(&value, sizeof value));
    const struct group_append append = {.kind = GROUP_RECORD_BATCH,
                                        .payload = slice_of(batch.bytes, batch.used)};
    int result = group_append(group, &append, ret_seq);
    store_batch_fini(&batch);
    return result;
}

static int append_data(struct host *host, struct group *group, uint32_t key, uint64_t number,
                       uint64_t *ret_seq)
{
    uint32_t blocks = 1 + (uint32_t)(number % BLOCKS_MAX);
    struct buf *buf = buf_new(blocks * STORE_BLOCK_BYTES);
    struct store_extent extent;
    fill(buf->data, blocks, number);
    const struct buf_slice data = {buf, 0, blocks * STORE_BLOCK_BYTES};
    int result = store_extent_write(host->store, data, blocks, &extent);
    const struct storm_record head = {.number = number, .key = key};
    const struct group_append append = {.kind = GROUP_RECORD_CONTENT,
                                        .payload = slice_of(&head, sizeof head),
                                        .extents = &extent,
                                        .extent_count = 1,
                                        .data = data};
    if (result == 0)
        result = group_append(group, &append, ret_seq);
    buf_put(buf);
    return result;
}

/* What is read must not be older than what was acknowledged when the reading began. */
static void check_read(struct host *host, struct group *group, uint32_t key)
{
    uint8_t bytes[9];
    struct storm_value value = {0};
    uint64_t seen = 0, floor = world.due[group_id(group) - 1][key].acked;
    uint32_t epoch = group_epoch(group);
    struct group *again;
    int result = group_get(group, key_of(bytes, group_id(group), key), &value, sizeof value, &seen);
    if (result == -ENOENT)
        value.number = 0;
    else if (result < 0)
        return;
    if (group_wait(group, seen) < 0 ||
        group_find_serving(host->groups, group_id(group), epoch, false, &again) < 0)
        return;
    if (value.number < floor)
        fail("a read is older than an acknowledgement", group_id(group), value.number, floor);
}

static void flush_group(struct group *group)
{
    uint64_t acked[KEYS];
    struct due *due = world.due[group_id(group) - 1];
    for (uint32_t k = 0; k < KEYS; k++)
        acked[k] = due[k].acked;
    if (group_flush(group) < 0)
        return;
    for (uint32_t k = 0; k < KEYS; k++)
        due[k].flushed = MAX(due[k].flushed, acked[k]);
}

static void write_one(struct host *host, struct group *group)
{
    uint32_t key = (uint32_t)below(KEYS);
    struct due *due = &world.due[group_id(group) - 1][key];
    uint64_t number = ++world.next_number;
    uint64_t seq;
    uint32_t epoch = group_epoch(group);
    due->tried = number;
    int result = key % 2 ? append_data(host, group, key, number, &seq)
                         : append_row(group, key, number, &seq);
    if (result == 0)
        result = group_wait(group, seq);
    if (result < 0)
        return;
    world.acks++;
    due->acked = MAX(due->acked, number);
    if (world.power)
        return;
    /* Alone, its word outlives the process (I8). */
    const struct map_group *now = &world.groups[group_id(group) - 1];
    if (now->epoch == epoch && group_epoch(group) == epoch && map_group_in_sync_count(now) == 1)
        due->flushed = MAX(due->flushed, number);
}

static void write_fiber(void *arg)
{
    struct host *host = arg;
    while (!world.calm) {
        struct group *group;
        uint32_t id = 1 + (uint32_t)below(GROUPS);
        if (group_find_serving(host->groups, id, 0, true, &group) < 0) {
            fiber_sleep(3 * NS_PER_MS);
            continue;
        }
        uint64_t dice = below(100);
        if (dice < 5)
            flush_group(group);
        else if (dice < 30)
            check_read(host, group, (uint32_t)below(KEYS));
        else
            write_one(host, group);
        fiber_yield();
        if (below(4) == 0)
            fiber_sleep(below(2 * NS_PER_MS));
    }
}

/* ---- nodes -------------------------------------------------------------------------------------
 */

static void start_fiber(void *arg)
{
    struct host *host = arg;
    const struct rpc_identity identity = {.node = host->id, .incarnation = host->incarnation};
    struct disk *disk;
    int result = disk_open(host->disk, DISK_BYTES, DISK_CREATE, &disk);
    assert(result == 0);
    struct store_identity found;
    if (store_identify(disk, &found) < 0) {
        const struct store_identity fresh = {.node = host->id};
        result = store_format(disk, &fresh, true);
        assert(result == 0);
    }
    struct rpc *rpc = rpc_new(&identity);
    const struct group_host_options options = {
        .node = host->id,
        .store = &host->store,
        .log_memory_bytes = 512 * KIB,
        .content = {[MAP_GROUP_META] = &content, [MAP_GROUP_DATA] = &content},
        .content_context = {[MAP_GROUP_META] = host, [MAP_GROUP_DATA] = host},
    };
    struct group_host *groups = group_host_new(rpc, &options);
    const struct store_options store_options = {
        .memory_bytes = 32 * MIB, .log_ops = &group_host_log_ops, .context = groups};
    result = store_open(disk, &store_options, &host->store);
    if (result < 0) {
        fail("a store does not open", host->id, (uint64_t)-result, 0);
        return;
    }
    result = group_host_load(groups);
    assert(result == 0);
    struct net_addr addr;
    refresh_view(host);
    map_node_addr(&host->nodes[host->id - 1], &addr);
    result = rpc_listen(rpc, &addr);
    assert(result == 0);
    host->rpc = rpc;
    host->groups = groups;
    group_host_start(groups, (struct map_client *)(void *)host, (struct map_lease *)(void *)host);
    if (!world.calm) {
        for (uint32_t i = 0; i < 3; i++)
            fiber_spawn("write", write_fiber, host);
    }
}

static void host_start(struct host *host)
{
    host->alive = true;
    host->fenced = false;
    host->incarnation++;
    host->lease_until_ns = 0;
    reactor_spawn(sim_node_reactor(host->sim_node), "start", start_fiber, host);
}

static void host_stop(struct host *host, bool power)
{
    host->groups = NULL;
    host->alive = false;
    if (host->paused)
        sim_pause(host->sim_node, false);
    host->paused = false;
    host->deaf = false;
    if (power)
        sim_node_power_off(host->sim_node);
    else
        sim_node_crash(host->sim_node);
}

static void host_restart(struct host *host)
{
    set_write_errors(host, 0);
    sim_node_restart(host->sim_node);
    host_start(host);
}

static void world_start(uint64_t seed)
{
    world = (struct world){.sim = sim_new(seed)};
    random_init(&world.random, seed * 31 + 5);
    world.power = seed % 2 == 0;
    world.deafness = seed % 4 >= 2;
    world.strikes = seed % 3 == 0;
    for (uint32_t i = 0; i < GROUPS; i++) {
        struct map_group *group = &world.groups[i];
        *group = (struct map_group){.id = i + 1,
                                    .kind = MAP_GROUP_DATA,
                                    .epoch = 1,
                                    .primary = 1 + i,
                                    .member_count = 3 - i};
        for (uint32_t j = 0; j < group->member_count; j++)
            group->members[j] = (struct map_member){1 + j, MAP_MEMBER_IN_SYNC};
    }
    for (uint32_t i = 0; i < NODES; i++) {
        struct host *host = &world.hosts[i];
        char text[32];
        (void)snprintf(text, sizeof text, "10.0.0.%u", i + 1);
        (void)snprintf(host->disk, sizeof host->disk, "/d%u", i + 1);
        host->id = i + 1;
        host->sim_node = sim_node_new(world.sim, text);
        world.up[i] = true;
        world.known[i] = 1;
        host_start(host);
    }
    sim_run_for(world.sim, 100 * NS_PER_MS);
}

/* ---- the storm ---------------------------------------------------------------------------------
 */

static uint32_t down_count(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < NODES; i++)
        count += !world.hosts[i].alive || world.hosts[i].paused || world.hosts[i].deaf;
    return count;
}

static void move_primary(struct map_group *group)
{
    uint32_t heir = group->primary ? heir_of(group, group->primary) : 0;
    if (!heir)
        return;
    group->primary = heir;
    group->epoch++;
    map_changed();
}

/* The map gives a joining member's place to a node outside. */
static void replace_member(struct map_group *group)
{
    uint32_t outside = 0;
    for (uint32_t i = 1; i <= NODES; i++) {
        if (map_group_member_state(group, i) == 0)
            outside = i;
    }
    for (uint32_t i = 0; outside && i < group->member_count; i++) {
        if (group->members[i].state != MAP_MEMBER_JOINING || group->primary == 0)
            continue;
        group->members[i].node = outside;
        group->epoch++;
        map_changed();
        return;
    }
}

static void disturb(struct host *host)
{
    struct host *other = &world.hosts[(host->id + below(NODES - 1)) % NODES];
    uint64_t dice = below(100);
    if (below(6) == 0)
        replace_member(&world.groups[below(GROUPS)]);
    if (!host->alive) {
        if (dice < 40)
            host_restart(host);
    } else if (host->paused) {
        if (dice < 40) {
            sim_pause(host->sim_node, false);
            host->paused = false;
        }
    } else if (host->deaf) {
        host->deaf = dice >= 30;
        tell(host);
    } else if (host->fenced) {
        host_stop(host, false);
        host_restart(host);
    } else if (dice < 6) {
        if (down_count() == 0 || below(6) == 0)
            host_stop(host, world.power && below(2) == 0);
    } else if (dice < 10) {
        host_stop(host, false); /* back before anybody has noticed */
        host_restart(host);
    } else if (dice < 14) {
        if (down_count() == 0) {
            sim_pause(host->sim_node, true);
            host->paused = true;
        }
    } else if (dice < 24) {
        sim_partition(host->sim_node, other->sim_node, true);
    } else if (dice < 44) {
        sim_partition(host->sim_node, other->sim_node, false);
    } else if (dice < 50) {
        sim_reset_conns(host->sim_node, other->sim_node);
    } else if (dice < 52) {
        if (down_count() == 0)
            set_write_errors(host, 300000); /* until the process has noticed and ended */
    } else if (dice < 57) {
        move_primary(&world.groups[below(GROUPS)]);
    } else if (world.deafness && dice < 61) {
        host->deaf = down_count() == 0;
    }
}

static void run_for(uint64_t duration_ns)
{
    for (uint64_t end_ns = sim_now_ns(world.sim) + duration_ns;
         sim_now_ns(world.sim) < end_ns && !world.failed;) {
        sim_run_for(world.sim, MIN(duration_ns, 20 * NS_PER_MS));
        struct host *struck = world.strike ? &world.hosts[world.strike - 1] : NULL;
        if (struck && struck->alive && !world.calm && down_count() == 0)
            host_stop(struck, false);
        world.strike = 0;
        authority_tick();
    }
}

static bool all_in_sync(void)
{
    for (uint32_t i = 0; i < GROUPS; i++) {
        const struct map_group *group = &world.groups[i];
        if (group->primary == 0 || map_group_in_sync_count(group) < group->member_count)
            return false;
    }
    return true;
}

static void calm_down(void)
{
    world.calm = true;
    for (uint32_t i = 0; i < NODES; i++) {
        struct host *host = &world.hosts[i];
        sim_isolate(host->sim_node, false);
        for (uint32_t j = i + 1; j < NODES; j++)
            sim_partition(host->sim_node, world.hosts[j].sim_node, false);
        set_write_errors(host, 0);
        if (host->paused)
            sim_pause(host->sim_node, false);
        host->paused = false;
        host->deaf = false;
        tell(host);
        if (host->fenced && host->alive)
            host_stop(host, false);
        if (!host->alive)
            host_restart(host);
    }
    uint64_t end_ns = sim_now_ns(world.sim) + 90 * NS_PER_S;
    while (!all_in_sync() && sim_now_ns(world.sim) < end_ns && !world.failed)
        run_for(50 * NS_PER_MS);
    if (!all_in_sync())
        fail("the members do not come together again", world.groups[0].epoch, world.groups[1].epoch,
             0);
    run_for(2 * NS_PER_S);
}

/* ---- comparing ---------------------------------------------------------------------------------
 */

static uint64_t final_numbers[NODES][GROUPS][KEYS];
static uint32_t checkers;

static void check_key(struct host *host, uint32_t group, uint32_t key, uint8_t *data)
{
    uint8_t bytes[9];
    static uint8_t want[BLOCKS_MAX * STORE_BLOCK_BYTES];
    struct storm_value value = {0};
    int result = store_get(host->store, key_of(bytes, group, key), &value, sizeof value);
    if (result == -ENOENT)
        value.number = 0;
    else if (result < 0)
        fail("a row cannot be read", host->id, group, key);
    final_numbers[host->id - 1][group - 1][key] = value.number;
    if (value.extent.blocks == 0)
        return;
    if (store_extent_read(host->store, value.extent, 0, value.extent.blocks, data) < 0) {
        fail("data cannot be read", host->id, group, key);
        return;
    }
    fill(want, value.extent.blocks, value.number);
    if (memcmp(want, data, (size_t)value.extent.blocks * STORE_BLOCK_BYTES) != 0)
        fail("data is not what was written", host->id, group, key);
}

/* A node that is no member keeps nothing. */
static void check_wiped(struct host *host, uint32_t group)
{
    uint8_t bytes[9];
    struct storm_value value;
    for (uint32_t k = 0; k < KEYS; k++) {
        if (store_get(host->store, key_of(bytes, group, k), &value, sizeof value) != -ENOENT)
            fail("a row is left where the group is no more", host->id, group, k);
    }
}

static void check_fiber(void *arg)
{
    struct host *host = arg;
    uint8_t *data = mem_alloc_aligned((size_t)BLOCKS_MAX * STORE_BLOCK_BYTES, 4096);
    for (uint32_t i = 0; i < GROUPS; i++) {
        if (map_group_member_state(&world.groups[i], host->id) == 0) {
            check_wiped(host, i + 1);
            continue;
        }
        for (uint32_t k = 0; k < KEYS; k++)
            check_key(host, i + 1, k, data);
    }
    mem_free(data);
    if (store_check(host->store) < 0)
        fail("a store is inconsistent", host->id, 0, 0);
    checkers--;
}

static bool checked(void *context)
{
    (void)context;
    return checkers == 0;
}

static void compare(void)
{
    checkers = NODES;
    for (uint32_t i = 0; i < NODES; i++)
        reactor_spawn(sim_node_reactor(world.hosts[i].sim_node), "check", check_fiber,
                      &world.hosts[i]);
    if (!sim_run_until(world.sim, checked, NULL, sim_now_ns(world.sim) + 60 * NS_PER_S))
        fail("the final check does not end", 0, 0, 0);
    for (uint32_t i = 0; i < GROUPS && !world.failed; i++) {
        const struct map_group *group = &world.groups[i];
        for (uint32_t k = 0; k < KEYS; k++) {
            uint64_t number = final_numbers[group->primary - 1][i][k];
            if (number < world.due[i][k].acked)
                fail("an acknowledged change is gone", i + 1, number, world.due[i][k].acked);
            for (uint32_t j = 0; j < group->member_count; j++) {
                if (final_numbers[group->members[j].node - 1][i][k] != number && getenv("CFS_LOG"))
                    printf("group %u key %u node %u: %llu, primary %u: %llu, acked %llu\n", i + 1,
                           k, group->members[j].node,
                           (unsigned long long)final_numbers[group->members[j].node - 1][i][k],
                           group->primary, (unsigned long long)number,
                           (unsigned long long)world.due[i][k].acked);
                if (final_numbers[group->members[j].node - 1][i][k] != number)
                    fail("members differ", i + 1, k, group->members[j].node);
            }
        }
    }
}

/* Whatever calls for an operator here is a bug. */
static void sink(void *context, enum log_level level, const char *line)
{
    (void)context;
    if (level == LOG_ERROR && !strstr(line, "store-fenced"))
        fail("an error was logged", 0, 0, 0);
    if (level == LOG_ERROR || getenv("CFS_LOG"))
        fprintf(stderr, "%.3f %s\n", (double)sim_now_ns(world.sim) / 1e9, line);
}

static bool run_seed(uint64_t seed)
{
    world_start(seed);
    for (uint32_t i = 0; i < STEPS && !world.failed; i++) {
        disturb(&world.hosts[below(NODES)]);
        run_for((1 + below(10)) * 20 * NS_PER_MS);
    }
    if (!world.failed)
        calm_down();
    if (!world.failed)
        compare();
    printf("%s seed %llu: %llu acknowledged, epochs %u %u, virtual time %.1f s",
           world.failed ? "FAILED" : "ok", (unsigned long long)seed, (unsigned long long)world.acks,
           world.groups[0].epoch, world.groups[1].epoch, (double)sim_now_ns(world.sim) / 1e9);
    if (world.failed)
        printf(": %s (%llu %llu %llu)", world.failed, (unsigned long long)world.failed_detail[0],
               (unsigned long long)world.failed_detail[1],
               (unsigned long long)world.failed_detail[2]);
    printf("\n");
    (void)fflush(stdout);
    bool passed = !world.failed;
    sim_free(world.sim);
    return passed;
}

int main(int argc, char **argv)
{
    bool passed = true;
    log_set_sink(sink, NULL);
    log_set_level(getenv("CFS_LOG") ? LOG_DEBUG : LOG_ERROR);
    uint64_t from = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : argc > 1 ? 1 : 5;
    for (uint64_t seed = from; seed < from + count; seed++)
        passed &= run_seed(seed);
    return passed ? 0 : 1;
}
