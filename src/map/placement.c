/* SPDX-License-Identifier: MIT */
#include "map/placement.h"

#include <string.h>

#include "base/assert.h"
#include "base/hash.h"

/* -log2(u) for u = (h + 1) / 2^64, as a number with 40 fractional bits: count leading zeroes for
 * the whole part, then one bit per squaring of the mantissa. Exact integers, no libm: the same on
 * every machine. */
static uint64_t minus_log2(uint64_t h)
{
    enum { FRACTION_BITS = 40 };
    if (h == UINT64_MAX)
        return 0;
    uint64_t u = h + 1;
    uint32_t zeroes = (uint32_t)__builtin_clzll(u);
    uint64_t mantissa = u << zeroes; /* in [2^63, 2^64): 1.0 .. 2.0 */
    uint64_t fraction = 0;
    for (uint32_t i = 0; i < FRACTION_BITS; i++) {
        unsigned __int128 square = (unsigned __int128)mantissa * mantissa;
        bool carry = square >> 127;
        fraction = fraction << 1 | carry;
        mantissa = (uint64_t)(square >> (carry ? 64 : 63));
    }
    /* log2(u / 2^64) = (63 - zeroes) + fraction - 64 */
    return ((uint64_t)(zeroes + 1) << FRACTION_BITS) - fraction;
}

uint64_t placement_hash(uint64_t key, uint32_t node)
{
    return hash_u64(hash_u64(key * 0x9e3779b97f4a7c15ull + 1) ^
                    hash_u64(node * 0xd1342543de82ef95ull + 7));
}

uint64_t placement_score(uint64_t key, uint32_t node, uint64_t weight)
{
    assert(weight > 0 && node != 0);
    unsigned __int128 scaled = (unsigned __int128)minus_log2(placement_hash(key, node)) << 16;
    return (uint64_t)(scaled / weight);
}

static bool shares_host(const struct placement_node *nodes, uint32_t index, const uint32_t *taken,
                        uint32_t taken_count)
{
    assert(nodes[index].host != 0);
    for (uint32_t i = 0; i < taken_count; i++) {
        if (nodes[taken[i]].host == nodes[index].host)
            return true;
    }
    return false;
}

void placement_node_init(struct placement_node *ret_node, const struct map_node *node,
                         uint64_t weight)
{
    *ret_node = (struct placement_node){.node = node->id, .host = node->host, .weight = weight};
    if (node->rack[0] != 0)
        ret_node->rack = (uint32_t)hash_bytes(node->rack, strlen(node->rack), 0) | 1;
}

bool placement_same_domain(const struct placement_node *a, const struct placement_node *b)
{
    return a->host == b->host || (a->rack != 0 && a->rack == b->rack);
}

static bool shares_rack(const struct placement_node *nodes, uint32_t index, const uint32_t *taken,
                        uint32_t taken_count)
{
    for (uint32_t i = 0; i < taken_count; i++) {
        if (placement_same_domain(&nodes[taken[i]], &nodes[index]))
            return true;
    }
    return false;
}

/* Of equal weights the larger hash has the smaller score: no logarithm is needed. */
static bool is_better(const struct placement_node *a, const struct placement_node *b, uint64_t key)
{
    if (a->weight == b->weight)
        return placement_hash(key, a->node) > placement_hash(key, b->node);
    return placement_score(key, a->node, a->weight) < placement_score(key, b->node, b->weight);
}

int32_t placement_choose(const struct placement_node *nodes, uint32_t count, uint64_t key,
                         const uint32_t *taken, uint32_t taken_count)
{
    int32_t best = -1;
    uint32_t best_class = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i].weight == 0 || shares_host(nodes, i, taken, taken_count))
            continue;
        uint32_t class =
            2u * shares_rack(nodes, i, taken, taken_count) + (nodes[i].load >= nodes[i].load_max);
        if (best < 0 || class < best_class ||
            (class == best_class && is_better(&nodes[i], &nodes[best], key))) {
            best = (int32_t)i;
            best_class = class;
        }
    }
    assert(best < (int32_t)count);
    return best;
}
