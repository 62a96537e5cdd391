/* SPDX-License-Identifier: MIT */
/* The map as a stopped member of the map group has it in its store, for those who look offline.
 *
 * All entries of the log count, committed or not: if this member has the newest log of all, it
 * would be elected, and would commit them. */
#include "map/server_internal.h"

#include "base/assert.h"
#include "base/mem.h"

struct map_view *server_outlook(const struct map_server *server)
{
    struct map_view *view = server->view ? map_view_get(server->view) : NULL;
    for (uint64_t i = server->applied + 1; i <= raft_last_index(server->raft); i++) {
        struct raft_entry entry;
        struct map_view *next = NULL;
        raft_entry(server->raft, i, &entry);
        if (entry.type != RAFT_ENTRY_DATA || map_apply(view, entry.data, &next) != 0)
            continue; /* one that does not apply changes nothing on any member */
        map_view_put(view);
        view = next;
    }
    return view;
}

static uint64_t last_term(const struct raft *raft)
{
    struct raft_entry entry;
    if (raft_last_index(raft) == raft_snapshot_index(raft))
        return raft_snapshot_term(raft);
    raft_entry(raft, raft_last_index(raft), &entry);
    return entry.term;
}

int map_stored_load(struct store *store, uint32_t node, struct map_stored *ret_stored)
{
    struct raft_options options = {
        .node = node,
        .seed = 1,
        .election_min_ns = MAP_ELECTION_MIN_NS,
        .election_max_ns = MAP_ELECTION_MAX_NS,
        .heartbeat_ns = MAP_RAFT_BEAT_NS,
        .gone_stagger_ns = MAP_GONE_STAGGER_NS,
        .config = {.voter_count = 1, .voters = {node}},
    };
    assert(node > 0 && node <= MAP_NODES_MAX);
    struct map_server *server = mem_zalloc(sizeof *server);
    server->store = store;
    server->options.node = node;
    server->raft = raft_new(&options);
    int result = server_load(server);
    if (result == 0) {
        *ret_stored = (struct map_stored){
            .term = last_term(server->raft),
            .index = raft_last_index(server->raft),
            .view = server_outlook(server),
        };
        map_view_put(server->view);
    }
    raft_free(server->raft);
    buf_put(server->snapshot);
    mem_free(server);
    return result;
}
