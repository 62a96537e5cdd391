/* SPDX-License-Identifier: MIT */
#include "scenario.h"

#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "base/defs.h"

static const char *const fault_names[] = {
#define X(name, chance, text) #name,
    FAULT_TABLE(X)
#undef X
};

static const uint32_t fault_chances[] = {
#define X(name, chance, text) chance,
    FAULT_TABLE(X)
#undef X
};

static const char *const load_names[] = {"names",   "files", "append", "scratch",
                                         "durable", "fill",  "entries"};

enum property {
    NODES,
    COPIES,
    CLIENTS,
    OPS,
    EPISODES,
    THINK,
    BLACKOUTS,
    FAULT_FIRST = 100,
    LOAD_FIRST = 200
};

const char *fault_name(enum fault_kind kind)
{
    return fault_names[kind];
}

/* Below bound. Each property has a sequence of its own: a new one changes none of the others. */
static uint32_t draw(uint64_t seed, enum property property, uint32_t bound)
{
    struct random random;
    random_init(&random, hash_u64(seed) + property);
    return (uint32_t)random_below(&random, bound);
}

void scenario_make(uint64_t seed, struct scenario *ret_scenario)
{
    struct scenario scenario = {.seed = seed};
    uint32_t size = draw(seed, NODES, 10);
    scenario.nodes = size < 7 ? 3 : size < 9 ? 4 : 5;
    scenario.copies = draw(seed, COPIES, 4) ? 2 : 3;
    scenario.clients = 2 + draw(seed, CLIENTS, SCENARIO_CLIENTS_MAX - 1);
    for (uint32_t i = 0; i < FAULT_KINDS; i++) {
        if (draw(seed, FAULT_FIRST + i, 16) < fault_chances[i])
            scenario.faults |= 1u << i;
    }
    for (uint32_t i = 0; i < LOAD_FILL; i++) {
        if (draw(seed, LOAD_FIRST + i, 2))
            scenario.loads |= 1u << i;
    }
    scenario.blackouts = draw(seed, BLACKOUTS, 6) == 0;
    if (scenario.blackouts) {
        scenario.faults |= 1u << FAULT_BLACKOUT;
        scenario.loads =
            1u << LOAD_DURABLE | (scenario.loads & (1u << LOAD_NAMES | 1u << LOAD_FILES));
        if (scenario.loads == 1u << LOAD_DURABLE)
            scenario.loads |= 1u << LOAD_ENTRIES;
    }
    if (scenario.loads == 0)
        scenario.loads = 1u << LOAD_NAMES;
    scenario.ops = 30 + draw(seed, OPS, 120);
    scenario.episodes = draw(seed, EPISODES, 6);
    if (scenario.blackouts)
        scenario.episodes = MAX(scenario.episodes, 2u);
    scenario.think_ns = NS_PER_MS << draw(seed, THINK, 7);
    *ret_scenario = scenario;
}

void scenario_make_small(struct scenario *scenario)
{
    scenario->small = true;
    scenario->blackouts = false;
    scenario->nodes = scenario->copies = 3; /* nobody has room to take over what another had */
    scenario->faults &= ~(1u << FAULT_LOST | 1u << FAULT_DRAIN | 1u << FAULT_DISK_LIES |
                          1u << FAULT_JOIN | 1u << FAULT_BLACKOUT);
    scenario->loads |= 1u << LOAD_FILL;
}

void scenario_print(const struct scenario *scenario)
{
    printf("seed %llu: %u nodes, %u copies, %u clients, %u operations each, think %.0f ms,",
           (unsigned long long)scenario->seed, scenario->nodes, scenario->copies, scenario->clients,
           scenario->ops, (double)scenario->think_ns / 1e6);
    for (uint32_t i = 0; i < LOAD_KINDS; i++) {
        if (scenario->loads & (1u << i))
            printf(" %s", load_names[i]);
    }
    printf("%s, %u episodes of", scenario->small ? ", small disks" : "", scenario->episodes);
    for (uint32_t i = 0; i < FAULT_KINDS; i++) {
        if (scenario->faults & (1u << i))
            printf(" %s", fault_names[i]);
    }
    printf("\n");
}

static void print_list(const char *option, const char *const *names, uint32_t count, uint32_t bits)
{
    const char *before = "";
    printf(" %s ", option);
    for (uint32_t i = 0; i < count; i++) {
        if (bits & (1u << i)) {
            printf("%s%s", before, names[i]);
            before = ",";
        }
    }
    if (!*before)
        printf("none");
}

void scenario_print_lists(const struct scenario *scenario)
{
    print_list("--faults", fault_names, FAULT_KINDS, scenario->faults);
    print_list("--loads", load_names, LOAD_KINDS, scenario->loads);
}

bool scenario_parse_list(const char *list, bool faults, uint32_t *ret_bits)
{
    const char *const *names = faults ? fault_names : load_names;
    uint32_t count = faults ? FAULT_KINDS : LOAD_KINDS;
    *ret_bits = 0;
    if (strcmp(list, "none") == 0)
        return true;
    while (*list) {
        size_t bytes = strcspn(list, ",");
        uint32_t found = 0;
        while (found < count &&
               (strlen(names[found]) != bytes || memcmp(list, names[found], bytes) != 0))
            found++;
        if (found == count)
            return false;
        *ret_bits |= 1u << found;
        list += bytes + (list[bytes] == ',');
    }
    return true;
}
