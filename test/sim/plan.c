/* SPDX-License-Identifier: MIT */
#include "plan.h"

#include <stdio.h>

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

static const char *const load_names[] = {"names"};

const char *fault_name(enum fault_kind kind)
{
    return fault_names[kind];
}

void plan_make(uint64_t seed, struct plan *ret_plan)
{
    struct random random;
    random_init(&random, hash_u64(seed ^ 0x9a17));
    struct plan plan = {.seed = seed};
    uint64_t size = random_below(&random, 10);
    plan.nodes = size < 7 ? 3 : size < 9 ? 4 : 5;
    plan.copies = random_chance(&random, 3, 4) ? 2 : 3;
    plan.clients = 2 + (uint32_t)random_below(&random, PLAN_CLIENTS_MAX - 1);
    for (uint32_t i = 0; i < FAULT_KINDS; i++) {
        if (random_chance(&random, fault_chances[i], 16))
            plan.faults |= 1u << i;
    }
    plan.loads = 1u << LOAD_NAMES;
    plan.ops = 60 + (uint32_t)random_below(&random, 140);
    plan.episodes = (uint32_t)random_below(&random, 6);
    plan.think_ns = NS_PER_MS << random_below(&random, 7);
    *ret_plan = plan;
}

void plan_print(const struct plan *plan)
{
    printf("seed %llu: %u nodes, %u copies, %u clients, %u operations each, think %.0f ms,",
           (unsigned long long)plan->seed, plan->nodes, plan->copies, plan->clients, plan->ops,
           (double)plan->think_ns / 1e6);
    for (uint32_t i = 0; i < LOAD_KINDS; i++) {
        if (plan->loads & (1u << i))
            printf(" %s", load_names[i]);
    }
    printf(", %u episodes of", plan->episodes);
    for (uint32_t i = 0; i < FAULT_KINDS; i++) {
        if (plan->faults & (1u << i))
            printf(" %s", fault_names[i]);
    }
    printf("\n");
}
