/* SPDX-License-Identifier: MIT */
#include "base/crc32c.h"
#include "base/errors.h"
#include "base/hash.h"
#include "base/mem.h"
#include "map/map_internal.h"

/* The map as one run of bytes behind its view; shared by reference, never changed once made. */

static uint32_t map_bytes(uint32_t node_count, uint32_t group_count)
{
    return (uint32_t)(sizeof(struct map_header) + node_count * sizeof(struct map_node) +
                      group_count * sizeof(struct map_group) + MAP_META_SLOTS * sizeof(uint32_t));
}

/* Point draft and view at the parts of the bytes behind the view. */
static void lay_out(struct map_draft *draft, struct map_view *view, uint32_t node_count,
                    uint32_t group_count)
{
    uint8_t *bytes = (uint8_t *)(view + 1);
    draft->view = view;
    draft->header = (struct map_header *)(void *)bytes;
    draft->nodes = (struct map_node *)(void *)(draft->header + 1);
    draft->groups = (struct map_group *)(void *)(draft->nodes + node_count);
    draft->meta_slots = (uint32_t *)(void *)(draft->groups + group_count);
    view->header = draft->header;
    view->nodes = draft->nodes;
    view->groups = draft->groups;
    view->meta_slots = draft->meta_slots;
    view->refs = 1;
    view->bytes = map_bytes(node_count, group_count);
}

void map_draft_new(struct map_draft *draft, uint32_t node_count, uint32_t group_count)
{
    assert(node_count <= MAP_NODES_MAX && group_count <= MAP_GROUPS_MAX);
    _Static_assert(sizeof(struct map_header) + MAP_NODES_MAX * sizeof(struct map_node) +
                           MAP_GROUPS_MAX * sizeof(struct map_group) +
                           MAP_META_SLOTS * sizeof(uint32_t) <=
                       WIRE_PAYLOAD_MAX,
                   "the largest map is one message");
    _Static_assert(sizeof(struct map_view) % 8 == 0, "the map behind the view is aligned");
    struct map_view *view = mem_zalloc(sizeof *view + map_bytes(node_count, group_count));
    lay_out(draft, view, node_count, group_count);
    draft->header->magic = MAP_MAGIC;
    draft->header->node_count = node_count;
    draft->header->group_count = group_count;
}

void map_draft_copy(struct map_draft *draft, const struct map_view *view)
{
    map_draft_new(draft, view->header->node_count, view->header->group_count);
    assert(draft->view->bytes == view->bytes);
    memcpy(draft->header, view->header, view->bytes);
}

static uint32_t map_crc(const struct map_header *header, uint32_t bytes)
{
    struct map_header zeroed = *header;
    zeroed.crc = 0;
    uint32_t crc = crc32c(0, &zeroed, sizeof zeroed);
    return crc32c(crc, header + 1, bytes - sizeof zeroed);
}

struct map_view *map_draft_finish(struct map_draft *draft, uint64_t version)
{
    struct map_view *view = draft->view;
    assert(view && view->refs == 1);
    draft->header->version = version;
    draft->header->crc = map_crc(draft->header, view->bytes);
    draft->view = NULL;
    return view;
}

void map_draft_drop(struct map_draft *draft)
{
    map_view_put(draft->view);
    draft->view = NULL;
}

struct map_node *map_draft_node(const struct map_draft *draft, uint32_t node)
{
    const struct map_node *found = map_view_node(draft->view, node);
    return found ? &draft->nodes[found - draft->view->nodes] : NULL;
}

struct map_group *map_draft_group(const struct map_draft *draft, uint32_t group)
{
    const struct map_group *found = map_view_group(draft->view, group);
    return found ? &draft->groups[found - draft->view->groups] : NULL;
}

/* ---- validation --------------------------------------------------------------------------- */

static bool text_ends(const char *text)
{
    return memchr(text, 0, MAP_NAME_BYTES) != NULL;
}

bool map_node_valid(const struct map_node *node)
{
    return node->id <= MAP_NODES_MAX && node->state <= MAP_NODE_DOWN &&
           node->voter <= MAP_VOTER_LEARNER && node->intent <= MAP_NODE_REMOVE && node->host != 0 &&
           node->host <= MAP_NODES_MAX && text_ends(node->name) && text_ends(node->rack);
}

static bool nodes_valid(const struct map_view *view)
{
    uint32_t before = 0;
    for (uint32_t i = 0; i < view->header->node_count; i++) {
        const struct map_node *node = &view->nodes[i];
        if (node->id <= before || !map_node_valid(node))
            return false;
        before = node->id;
    }
    return true;
}

static bool members_valid(const struct map_view *view, const struct map_group *group)
{
    bool primary_found = group->primary == 0;
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct map_member *member = &group->members[i];
        if (member->state < MAP_MEMBER_IN_SYNC || member->state > MAP_MEMBER_LOST ||
            !map_view_node(view, member->node))
            return false;
        for (uint32_t j = 0; j < i; j++) {
            if (group->members[j].node == member->node)
                return false;
        }
        if (member->node == group->primary && member->state == MAP_MEMBER_IN_SYNC)
            primary_found = true;
        if (member->state == MAP_MEMBER_LOST && group->primary != 0)
            return false;
    }
    return primary_found;
}

bool map_group_valid(const struct map_view *view, const struct map_group *group)
{
    return group->epoch != 0 && group->member_count != 0 &&
           group->member_count <= MAP_MEMBERS_MAX &&
           (group->kind == MAP_GROUP_META || group->kind == MAP_GROUP_DATA) &&
           members_valid(view, group);
}

static bool groups_valid(const struct map_view *view)
{
    uint32_t before = 0;
    uint32_t meta_groups = view->header->meta_groups;
    for (uint32_t i = 0; i < view->header->group_count; i++) {
        const struct map_group *group = &view->groups[i];
        enum map_group_kind kind = i < meta_groups ? MAP_GROUP_META : MAP_GROUP_DATA;
        if (group->id <= before || group->kind != (uint32_t)kind || !map_group_valid(view, group))
            return false;
        before = group->id;
    }
    return meta_groups > 0 && meta_groups < view->header->group_count;
}

static bool slots_valid(const struct map_view *view)
{
    for (uint32_t i = 0; i < MAP_META_SLOTS; i++) {
        const struct map_group *group = map_view_group(view, view->meta_slots[i]);
        if (!group || group->kind != MAP_GROUP_META)
            return false;
    }
    return true;
}

bool map_header_valid(const struct map_header *header)
{
    return header->version != 0 && header->copies != 0 && header->copies <= MAP_MEMBERS_MAX &&
           header->min_in_sync != 0 && header->min_in_sync <= header->copies;
}

static bool view_valid(const struct map_view *view)
{
    if (!map_header_valid(view->header))
        return false;
    return nodes_valid(view) && groups_valid(view) && slots_valid(view);
}

bool map_draft_sound(const struct map_draft *draft)
{
    return map_crc(draft->header, draft->view->bytes) == draft->header->crc;
}

int map_view_new(const void *bytes, uint32_t count, struct map_view **ret_view)
{
    struct map_header header;
    if (count < sizeof header)
        return -ERR_CORRUPT_WIRE;
    memcpy(&header, bytes, sizeof header);
    if (header.magic != MAP_MAGIC || header.node_count > MAP_NODES_MAX ||
        header.group_count > MAP_GROUPS_MAX ||
        count != map_bytes(header.node_count, header.group_count))
        return -ERR_CORRUPT_WIRE;
    struct map_draft draft;
    map_draft_new(&draft, header.node_count, header.group_count);
    memcpy(draft.header, bytes, count);
    if (!map_draft_sound(&draft) || !view_valid(draft.view)) {
        map_draft_drop(&draft);
        return -ERR_CORRUPT_WIRE;
    }
    *ret_view = draft.view;
    return 0;
}

/* ---- reading ------------------------------------------------------------------------------ */

struct map_view *map_view_get(struct map_view *view)
{
    assert(view->refs > 0);
    view->refs++;
    return view;
}

void map_view_put(struct map_view *view)
{
    if (!view)
        return;
    assert(view->refs > 0);
    if (--view->refs == 0)
        mem_free(view);
}

const void *map_view_bytes(const struct map_view *view)
{
    return view->header;
}

const struct map_node *map_view_node(const struct map_view *view, uint32_t node)
{
    uint32_t low = 0;
    uint32_t high = view->header->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (view->nodes[middle].id < node)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < view->header->node_count && view->nodes[low].id == node;
    return found ? &view->nodes[low] : NULL;
}

const struct map_group *map_view_group(const struct map_view *view, uint32_t group)
{
    /* Ids are dense from 1 in every map made so far; search only if not. */
    uint32_t count = view->header->group_count;
    if (group >= 1 && group <= count && view->groups[group - 1].id == group)
        return &view->groups[group - 1];
    uint32_t low = 0;
    uint32_t high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (view->groups[middle].id < group)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && view->groups[low].id == group ? &view->groups[low] : NULL;
}

void map_node_addr(const struct map_node *node, struct net_addr *ret_addr)
{
    *ret_addr = (struct net_addr){.port = node->port};
    memcpy(ret_addr->ip, node->ip, sizeof ret_addr->ip);
}

const struct map_group *map_view_of_ino(const struct map_view *view, uint64_t ino)
{
    const struct map_group *group = map_view_group(view, view->meta_slots[ino >> 52]);
    assert(group);
    return group;
}

const struct map_group *map_view_of_object(const struct map_view *view, uint64_t ino,
                                           uint32_t index)
{
    uint32_t first = view->header->meta_groups;
    uint32_t count = view->header->group_count - first;
    return &view->groups[first + hash_u64(hash_u64(ino) + index) % count];
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

struct map_member *map_group_member(struct map_group *group, uint32_t node)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].node == node)
            return &group->members[i];
    }
    return NULL;
}

bool map_group_never_active(const struct map_group *group)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].state != MAP_MEMBER_JOINING)
            return false;
    }
    return true;
}
