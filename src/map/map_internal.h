/* SPDX-License-Identifier: MIT */
#ifndef CFS_MAP_MAP_INTERNAL_H
#define CFS_MAP_MAP_INTERNAL_H

#include "base/assert.h"
#include "format/map_command.h"
#include "map/map.h"

/* As map_lease_valid, asked from outside at a time of the node's clock (tests). */
bool map_lease_valid_at(const struct map_lease *lease, uint64_t now_ns);

/* The one table of time-outs of membership. */
#define MAP_BEAT_INTERVAL_NS (300 * NS_PER_MS)
#define MAP_BEAT_TIMEOUT_NS  (500 * NS_PER_MS) /* of one heartbeat RPC */
#define MAP_LEASE_NS         (1500 * NS_PER_MS)
#define MAP_LEASE_MARGIN_NS  (200 * NS_PER_MS)
#define MAP_HEARD_NS         (900 * NS_PER_MS) /* three beats without one: not heard */
#define MAP_DOUBT_PAUSE_NS   (10 * NS_PER_S)   /* between two doubts of a leader in itself */
#define MAP_ELECTION_MIN_NS  (600 * NS_PER_MS)
#define MAP_ELECTION_MAX_NS  (1200 * NS_PER_MS)
#define MAP_RAFT_BEAT_NS     (150 * NS_PER_MS)
#define MAP_GONE_STAGGER_NS  (50 * NS_PER_MS)
#define MAP_COLD_WAIT_NS     (5 * NS_PER_S) /* for further reports of a group's last members */
#define MAP_REPLACE_GRACE_NS (30 * NS_PER_S)
#define MAP_BALANCE_WAIT_NS  (5 * NS_PER_S)     /* after a node came or went */
#define MAP_POLL_WAIT_NS     (1000 * NS_PER_MS) /* long poll */
#define MAP_POLL_SLACK_NS    (500 * NS_PER_MS)

/* ---- a map being made --------------------------------------------------------------------- */

/* A map that nobody else sees yet. */
struct map_draft {
    struct map_view *view;
    struct map_header *header;
    struct map_node *nodes;
    struct map_group *groups;
    uint32_t *meta_slots;
};

/* An empty map of that size: zeroed, counts set. */
void map_draft_new(struct map_draft *draft, uint32_t node_count, uint32_t group_count);
void map_draft_copy(struct map_draft *draft, const struct map_view *view);
/* Set version and crc; the view has one reference and is the caller's. */
struct map_view *map_draft_finish(struct map_draft *draft, uint64_t version);
/* Has it the checksum that its header says? */
bool map_draft_sound(const struct map_draft *draft);
/* Parts of a map from outside, by themselves; the group's members have to be in the view. */
bool map_header_valid(const struct map_header *header);
bool map_node_valid(const struct map_node *node);
bool map_group_valid(const struct map_view *view, const struct map_group *group);
void map_draft_drop(struct map_draft *draft);
struct map_node *map_draft_node(const struct map_draft *draft, uint32_t node);    /* or NULL */
struct map_group *map_draft_group(const struct map_draft *draft, uint32_t group); /* or NULL */

const void *map_view_bytes(const struct map_view *view);
struct map_member *map_group_member(struct map_group *group, uint32_t node); /* or NULL */
/* Has no member ever been in sync? */
bool map_group_never_active(const struct map_group *group);

/* ---- the map machine ----------------------------------------------------------------------- */

/* Apply one committed command (bytes from the Raft log: checked). view: NULL before the first map.
 * 0: *ret_view is the next map. -ERR_CAS_FAILED: it does not apply (any more), nothing changes.
 * -EINVAL: malformed. */
must_check int map_apply(const struct map_view *view, struct slice bytes,
                         struct map_view **ret_view);

/* Node ids as a command's tail. */
struct map_ids {
    const uint32_t *ids;
    uint32_t count;
};
bool map_ids_has(const struct map_ids *ids, uint32_t node);

/* The commands, one by one (machine_*.c). All: 0 changed, -ERR_CAS_FAILED, -EINVAL. */
must_check int machine_node_up(struct map_draft *draft, const struct map_command *command,
                               const struct map_ids *confirmed);
must_check int machine_node_down(struct map_draft *draft, const struct map_command *command,
                                 const struct map_ids *confirmed);
/* Is other up in the same process as node? True of node itself, if it is up. */
bool machine_dies_with(const struct map_node *node, const struct map_node *other);
must_check int machine_resolve(struct map_draft *draft, const struct map_ids *confirmed);
must_check int machine_elect(struct map_draft *draft, const struct map_command_elect *rows,
                             uint32_t count);
must_check int machine_group_change(struct map_draft *draft, const struct map_command *command);
must_check int machine_move(struct map_draft *draft, const struct map_command_move *rows,
                            uint32_t count);
must_check int machine_lead(struct map_draft *draft, const struct map_command_elect *rows,
                            uint32_t count);
must_check int machine_node_intent(struct map_draft *draft, const struct map_command *command);
must_check int machine_voters(struct map_draft *draft, const struct map_ids *ids,
                              uint32_t full_count);
/* These two make a map of another size, and so a draft of their own. */
must_check int machine_node_add(const struct map_view *view, const struct map_node *wanted,
                                struct map_draft *ret_draft);
must_check int machine_node_forget(const struct map_view *view, uint32_t node,
                                   struct map_draft *ret_draft);
/* May the host of the node be taken out for good? 0, -ENOENT, -EBUSY (it is up and holds replicas:
 * drain it first), -ERR_NO_QUORUM (a group's only copy may be there). */
must_check int machine_may_remove(const struct map_view *view, uint32_t node);
/* Does any group name the node? */
bool machine_is_named(const struct map_view *view, uint32_t node);
/* Fill groups and slots of a first map whose header and nodes are set. */
void machine_place_all(struct map_draft *draft, uint32_t meta_groups, uint32_t data_groups);
/* Who can become primary: counted once for a command, as it may be about thousands of groups. */
struct machine_heirs {
    bool sure[MAP_NODES_MAX + 1]; /* by node: up and known to be alive with its memory */
    uint32_t leads[MAP_GROUP_DATA + 1][MAP_NODES_MAX + 1]; /* groups of each kind, by node */
};
/* As of the draft. Freed by the caller (mem_free). */
struct machine_heirs *machine_heirs_new(const struct map_draft *draft,
                                        const struct map_ids *confirmed);
/* Of the sure in-sync members, the one that is primary of the fewest groups of this kind; 0: none.
 * but: a node not to choose. */
uint32_t machine_choose_primary(const struct machine_heirs *heirs, const struct map_group *group,
                                uint32_t but);
/* primary: 0 for none. */
void machine_set_primary(struct machine_heirs *heirs, struct map_group *group, uint32_t primary);

#endif
