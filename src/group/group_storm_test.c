/* SPDX-License-Identifier: MIT */
/* Goal: whatever happens to nodes, connections and the map, what a group acknowledged stays, reads
 * are never older than what was acknowledged before them, and in the end all members are equal.
 *
 * Method: three nodes with real rpc and store on the simulator, two groups, and a stand-in for the
 * map (group_storm_map.c). Each node's writer puts rows and data under numbers that only grow, so
 * one number a key says what is due. Seeds as arguments, or a fixed set. */
#include "group/group_storm.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "group/group_fixture.h"

struct world world;

void storm_fail(const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    if (world.failed)
        return;
    world.failed = what;
    world.failed_detail[0] = a;
    world.failed_detail[1] = b;
    world.failed_detail[2] = c;
}

uint64_t storm_below(uint64_t bound)
{
    return random_below(&world.random, bound);
}

/* ---- content: rows as batches, data as records of its own ------------------------------------ */

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
    fiber_sleep(storm_below(2 * NS_PER_MS));
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

/* ---- writers --------------------------------------------------------------------------------- */

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
        storm_fail("a read is older than an acknowledgement", group_id(group), value.number, floor);
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
    uint32_t key = (uint32_t)storm_below(KEYS);
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
        uint32_t id = 1 + (uint32_t)storm_below(GROUPS);
        if (group_find_serving(host->groups, id, 0, true, &group) < 0) {
            fiber_sleep(3 * NS_PER_MS);
            continue;
        }
        uint64_t dice = storm_below(100);
        if (dice < 5)
            flush_group(group);
        else if (dice < 30)
            check_read(host, group, (uint32_t)storm_below(KEYS));
        else
            write_one(host, group);
        fiber_yield();
        if (storm_below(4) == 0)
            fiber_sleep(storm_below(2 * NS_PER_MS));
    }
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void start_fiber(void *arg)
{
    struct host *host = arg;
    const struct group_fixture fixture = {
        .id = host->id,
        .incarnation = host->incarnation,
        .disk = host->disk,
        .log_memory_bytes = 512 * KIB,
        .content = &content,
        .context = host,
        .store = &host->store,
    };
    struct rpc *rpc;
    struct group_host *groups;
    int result = group_fixture_start(&fixture, &rpc, &groups);
    if (result < 0) {
        storm_fail("a store does not open", host->id, (uint64_t)-result, 0);
        return;
    }
    storm_refresh_view(host);
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

void storm_host_stop(struct host *host, bool power)
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

void storm_host_restart(struct host *host)
{
    storm_set_write_errors(host, 0);
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

/* ---- the storm ------------------------------------------------------------------------------- */

static uint32_t down_count(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < NODES; i++)
        count += !world.hosts[i].alive || world.hosts[i].paused || world.hosts[i].deaf;
    return count;
}

static void move_primary(struct map_group *group)
{
    uint32_t heir = group->primary ? storm_heir_of(group, group->primary) : 0;
    if (!heir)
        return;
    group->primary = heir;
    group->epoch++;
    storm_map_changed();
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
        storm_map_changed();
        return;
    }
}

static void disturb(struct host *host)
{
    struct host *other = &world.hosts[(host->id + storm_below(NODES - 1)) % NODES];
    uint64_t dice = storm_below(100);
    if (storm_below(6) == 0)
        replace_member(&world.groups[storm_below(GROUPS)]);
    if (!host->alive) {
        if (dice < 40)
            storm_host_restart(host);
    } else if (host->paused) {
        if (dice < 40) {
            sim_pause(host->sim_node, false);
            host->paused = false;
        }
    } else if (host->deaf) {
        host->deaf = dice >= 30;
        storm_tell(host);
    } else if (host->fenced) {
        storm_host_stop(host, false);
        storm_host_restart(host);
    } else if (dice < 6) {
        if (down_count() == 0 || storm_below(6) == 0)
            storm_host_stop(host, world.power && storm_below(2) == 0);
    } else if (dice < 10) {
        storm_host_stop(host, false); /* back before anybody has noticed */
        storm_host_restart(host);
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
            storm_set_write_errors(host, 300000); /* until the process has noticed and ended */
    } else if (dice < 57) {
        move_primary(&world.groups[storm_below(GROUPS)]);
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
            storm_host_stop(struck, false);
        world.strike = 0;
        storm_authority_tick();
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
        storm_set_write_errors(host, 0);
        if (host->paused)
            sim_pause(host->sim_node, false);
        host->paused = false;
        host->deaf = false;
        storm_tell(host);
        if (host->fenced && host->alive)
            storm_host_stop(host, false);
        if (!host->alive)
            storm_host_restart(host);
    }
    uint64_t end_ns = sim_now_ns(world.sim) + 90 * NS_PER_S;
    while (!all_in_sync() && sim_now_ns(world.sim) < end_ns && !world.failed)
        run_for(50 * NS_PER_MS);
    if (!all_in_sync())
        storm_fail("the members do not come together again", world.groups[0].epoch,
                   world.groups[1].epoch, 0);
    run_for(2 * NS_PER_S);
}

/* ---- comparing ------------------------------------------------------------------------------- */

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
        storm_fail("a row cannot be read", host->id, group, key);
    final_numbers[host->id - 1][group - 1][key] = value.number;
    if (value.extent.blocks == 0)
        return;
    if (store_extent_read(host->store, value.extent, 0, value.extent.blocks, data) < 0) {
        storm_fail("data cannot be read", host->id, group, key);
        return;
    }
    fill(want, value.extent.blocks, value.number);
    if (memcmp(want, data, (size_t)value.extent.blocks * STORE_BLOCK_BYTES) != 0)
        storm_fail("data is not what was written", host->id, group, key);
}

/* A node that is no member keeps nothing. */
static void check_wiped(struct host *host, uint32_t group)
{
    uint8_t bytes[9];
    struct storm_value value;
    for (uint32_t k = 0; k < KEYS; k++) {
        if (store_get(host->store, key_of(bytes, group, k), &value, sizeof value) != -ENOENT)
            storm_fail("a row is left where the group is no more", host->id, group, k);
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
        storm_fail("a store is inconsistent", host->id, 0, 0);
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
        storm_fail("the final check does not end", 0, 0, 0);
    for (uint32_t i = 0; i < GROUPS && !world.failed; i++) {
        const struct map_group *group = &world.groups[i];
        for (uint32_t k = 0; k < KEYS; k++) {
            uint64_t number = final_numbers[group->primary - 1][i][k];
            if (number < world.due[i][k].acked)
                storm_fail("an acknowledged change is gone", i + 1, number, world.due[i][k].acked);
            for (uint32_t j = 0; j < group->member_count; j++) {
                if (final_numbers[group->members[j].node - 1][i][k] != number && getenv("CFS_LOG"))
                    printf("group %u key %u node %u: %llu, primary %u: %llu, acked %llu\n", i + 1,
                           k, group->members[j].node,
                           (unsigned long long)final_numbers[group->members[j].node - 1][i][k],
                           group->primary, (unsigned long long)number,
                           (unsigned long long)world.due[i][k].acked);
                if (final_numbers[group->members[j].node - 1][i][k] != number)
                    storm_fail("members differ", i + 1, k, group->members[j].node);
            }
        }
    }
}

/* Whatever calls for an operator here is a bug. */
static void sink(void *context, enum log_level level, const char *line)
{
    (void)context;
    if (level == LOG_ERROR && !strstr(line, "store-fenced"))
        storm_fail("an error was logged", 0, 0, 0);
    if (level == LOG_ERROR || getenv("CFS_LOG"))
        fprintf(stderr, "%.3f %s\n", (double)sim_now_ns(world.sim) / 1e9, line);
}

static bool run_seed(uint64_t seed)
{
    world_start(seed);
    for (uint32_t i = 0; i < STEPS && !world.failed; i++) {
        disturb(&world.hosts[storm_below(NODES)]);
        run_for((1 + storm_below(10)) * 20 * NS_PER_MS);
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
